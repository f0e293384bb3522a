"""03 U-Net noise prediction."""

from claims import Claim

CLAIMS = [
    Claim(
        name="03.nearly_all_of_the_noise",
        sentence="Nearly all of it.",
        cell="code-06",
        value="1 - F.mse_loss(guess, noise).item()",
        low=0.9,
    ),
    Claim(
        name="03.the_right_t_is_best",
        sentence="The right $t$ is the best one, each time",
        cell="code-24",
        value="all(given[int(np.argmin(loss))] == int(name.split()[-1]) "
        "for name, loss in curves_by_t.items())",
        low=1,
    ),
    Claim(
        name="03.top_skip_carries_the_noise",
        sentence="Most of it passes over the top, by skip 0, which was never shrunk",
        cell="code-14",
        value="(cut[0] / whole).min() / (cut[1:] / whole).max()",
        low=3,
    ),
    Claim(
        name="03.lowest_skip_hardly_matters",
        sentence="The lowest skip hardly matters",
        cell="code-14",
        value="(cut[-1] / whole).max()",
        high=1.25,
        any_weights="a random network does not use what it carries either",
    ),
    Claim(
        name="03.fewer_words_leave_a_guess",
        sentence="With fewer words the network must guess what the noise hides",
        cell="code-54",
        value="off[1] / off[0]",
        low=2,
    ),
    Claim(
        name="03.the_caption_removes_most_of_the_error",
        sentence="where it cannot, the caption removes most of the error",
        cell="loss-by-t",
        value="gain[-1]",
        low=0.5,
    ),
    Claim(
        name="03.clear_pictures_are_farther_off",
        sentence="The clear pictures are farther from the truth than the fog",
        cell="way-back",
        value="(back[25] - houses[:n]).square().mean() / (back[1] - houses[:n]).square().mean()",
        low=1.05,
    ),
    Claim(
        name="03.new_pictures_of_the_right_kind",
        sentence="No exact copies: new pictures of the right kind",
        cell="judge",
        # how far from the nearest drawing, against how far drawings are apart; 0 for wrong kinds
        value="float(near.mean() / others * ((kind_train[which] == asked).float().mean() >= 0.8))",
        low=1.1,
        long=True,
        any_weights="the chapter trains this network itself",
    ),
    Claim(
        name="03.a_narrow_network_learns_more_slowly",
        sentence="The narrow network learns more slowly",
        cell="short-runs",
        value="float(smooth[f'width 8, {SCHEDULE}'][-1] "
        "/ smooth[f'width {WIDTH}, {SCHEDULE}'][-1])",
        low=1.1,
        any_weights="the chapter trains these networks itself",
    ),
    Claim(
        name="03.one_jump_gives_fog",
        sentence="One jump gives fog where the words leave things open",
        cell="jumps",
        value="float(finals[0].std() / finals[-1].std())",
        high=0.8,
    ),
    Claim(
        name="03.velocity_changes_least",
        sentence="As noise, $t$ near 0 dominates; as picture, $t$ near $T$",
        cell="exams",
        value="min(float(measured[name].max() / measured[name].min()) "
        "for name in ('as noise', 'as picture')) "
        "/ float(measured['as velocity'].max() / measured['as velocity'].min())",
        low=2,
    ),
    Claim(
        name="03.seen_pairs_come_out_in_place",
        sentence="499 come out with everything in its place",
        measured="evaluation.json/fidelity/seen/in_place/value",
        low=99.75,
        high=99.85,
    ),
    Claim(
        name="03.held_out_pairs_come_out_in_place",
        sentence="Of 500 prompts with such pairs 93.6% come out in place",
        measured="evaluation.json/fidelity/held_out/in_place/value",
        low=93.55,
        high=93.65,
    ),
    Claim(
        name="03.like_drawings_blurred_to_a_quarter",
        sentence="after a third of the steps, to 4 × 4",
        cell="judge",
        value="float(distance(grown[STEPS // 3], x_train).min(1).values.mean() / distance("
        "blurred['new drawings, blurred to 4 x 4'], x_train).min(1).values.mean())",
        low=0.85,
        high=1.15,
        long=True,
        any_weights="the chapter trains this network itself",
    ),
    Claim(
        name="03.like_drawings_blurred_by_half",
        sentence="about as near to the drawings as new ones blurred to 8 × 8",
        cell="judge",
        value="float(near.mean() / distance("
        "blurred['new drawings, blurred to 8 x 8'], x_train).min(1).values.mean())",
        low=0.85,
        high=1.15,
        long=True,
        any_weights="the chapter trains this network itself",
    ),
]

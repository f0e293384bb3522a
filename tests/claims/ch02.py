"""02 Forward noising.

The order of loss was measured in nine worlds of three places, colors and things before it was
written: the time was always last, the place lost later than thing and color on average, and color
before thing in eight of nine.
"""

from claims import Claim

CLAIMS = [
    Claim(
        name="02.color_before_thing",
        sentence="Color goes first, then the thing, then the place",
        cell="code-50",
        value="(found['thing'] - found['color'])[:, asked.index(8 * T // 10)].mean()",
        low=0.03,
        any_weights="a random encoder, too, moves its latents least for a color",
    ),
    Claim(
        name="02.thing_before_place",
        sentence="Color goes first, then the thing, then the place",
        cell="code-50",
        value="(found['place'] - found['thing'])[:, asked.index(8 * T // 10)].mean()",
        low=0.02,
    ),
    Claim(
        name="02.time_last",
        sentence="and the time of day last",
        cell="code-50",
        value="(found['time'] - found['place'])[:, asked.index(9 * T // 10)].min()",
        low=0.08,
    ),
    Claim(
        name="02.what_moves_least_is_lost_first",
        sentence="what moves the latents least is lost first",
        cell="code-53",
        value="min(moves['thing'] - moves['color'], moves['place'] - moves['thing'], "
        "moves['time'] - moves['place'])",
        low=0.5,
    ),
    Claim(
        name="02.certain_in_confetti",
        sentence="The detective is certain while your eye still sees confetti",
        cell="code-47",
        value="min(beliefs[3][q][truth[q]] for q in questions)",
        low=0.9,
    ),
    Claim(
        name="02.pixels_last_longer",
        sentence="In pixels, to the eye, and by far, though each number has the same",
        cell="code-79",
        value="recognised(compression.to_tensor(pictures), 8 * T // 10, noises=2)['whole scene']"
        " - recognised(latents, 8 * T // 10)['whole scene']",
        low=0.2,
        any_weights="neighboring pixels agree, whatever encoder the latents come from",
    ),
    Claim(
        name="02.three_bells",
        sentence="Three bells where there should be one",
        cell="code-56",
        value="min(seen[f'day, t = {T - 1}'].mean(), -seen[f'night, t = {T - 1}'].mean())",
        low=1,
    ),
    Claim(
        name="02.pure_noise_looks_like_sunset",
        sentence="Over pure noise it prefers sunset",
        cell="code-59",
        value="belief['sunset'] - max(belief['day'], belief['night'])",
        low=0.03,
    ),
    Claim(
        name="02.noised_scenes_are_judged_fairly",
        sentence="Over all noised scenes, the detective's answers average to a third each",
        cell="code-59",
        printed=r"noised scenes +day (\d+)%",
        low=30,
        high=37,
        any_weights="a calibrated detective is fair whatever the latents are",
    ),
    Claim(
        name="02.the_network_learns_the_detectives_arrows",
        sentence="it learned the detective's arrows from examples alone",
        cell="code-69",
        printed=r"t = 400: cosine between the network's arrows and the detective's ([\d.]+)",
        low=0.98,
        any_weights="the small network is trained in the cell; no model is asked",
        long=True,
    ),
    Claim(
        name="02.the_way_with_noise_is_far_longer",
        sentence="the other more than a hundred times as long",
        cell="code-71",
        value="(lambda d: d[1] / d[0])([w.diff(dim=0).norm(dim=-1).sum(0).mean().item() "
        "for w in walked.values()])",
        low=100,
        any_weights="the small network is trained in the cell; no model is asked",
        long=True,
    ),
    Claim(
        name="02.both_ends_lie_on_the_shape",
        sentence="Nearly all ends lie on the shape",
        cell="code-71",
        value="max(torch.cdist(w[-1], points).min(1).values.quantile(0.9) "
        "for w in walked.values()).item()",
        high=0.15,
        any_weights="the small network is trained in the cell; no model is asked",
        long=True,
    ),
]

"""00 First image."""

from claims import Claim

CLAIMS = [
    Claim(
        name="00.everything_named_is_there",
        sentence="Everything that the sentence names is there each time.",
        cell="c04b",
        value="right",
        low=8,
    ),
    Claim(
        name="00.the_castle_begins_as_a_robot",
        sentence="here the left one begins as a robot, which nobody asked for",
        cell="c12",
        value="(lambda early, end: early.things[0].kind == 'robot' and same_scene(wanted, end))("
        "*(look.scene for look in judge.look([imagined[1], imagined[-1]])))",
        low=1,
    ),
    Claim(
        name="00.many_seeds_show_both_at_once",
        sentence="With many seeds both things can be recognized from the first step",
        cell="c12",
        # of the first eight: what the judge names in the end imagined at the first step
        value="sum({t.kind for t in look.scene.things} == {'dragon', 'castle'} for look in "
        "judge.look([decode_latents(pipe, next(sample_steps(pipe, prompt, sampler='ddim', seed=s, "
        "num_inference_steps=25)).pred_original_sample)[0] for s in range(8)]) if look.scene)",
        low=4,
    ),
    Claim(
        name="00.columns_share_the_light",
        sentence="the pictures of most columns agree on the time of day",
        cell="c22",
        value="shared['time']",
        low=5,
        any_weights="random weights may paint the same gray from every noise",
    ),
    Claim(
        name="00.columns_may_share_the_place",
        sentence="of some columns on the place too",
        cell="c22",
        value="shared['place']",
        low=2,
        high=7,
        any_weights="random weights may agree now and then, too",
    ),
    Claim(
        name="00.the_judge_cannot_name_the_double_boat",
        sentence="cannot name a picture, like the double boat of seed 7",
        cell="c22",
        value="seen[2][7] is None and sum(row.count(None) for row in seen) == 1",
        low=1,
    ),
    Claim(
        name="00.ten_lines_are_the_machine",
        sentence="Not similar: the same.",
        cell="c20",
        value="difference",
        high=1e-3,
        any_weights="ten lines and the package are one algorithm, whatever the weights",
    ),
    Claim(
        name="00.from_five_steps_on_it_hardly_changes",
        sentence="from 5 steps on it hardly changes",
        cell="c24c",
        # mean difference of a pixel's value to the picture of 25 steps, at guidance 2
        value="max(abs(1.0 * plots.to_array(p) - plots.to_array(by_setting[1][3])).mean() "
        "for p in by_setting[1][2:3])",
        high=8,
        any_weights="weights that know nothing follow a smooth path too",
    ),
    Claim(
        name="00.one_step_is_too_few",
        sentence="One step is too few",
        cell="c24c",
        value="min(abs(1.0 * plots.to_array(row[0]) - plots.to_array(row[3])).mean() "
        "for row in by_setting)",
        low=9,
        any_weights="a first answer to pure noise is a mixture, whatever the weights",
    ),
    Claim(
        name="00.strong_guidance_breaks_large_steps",
        sentence="too much of it, in steps too large, breaks the picture",
        cell="c24c",
        value="abs(1.0 * plots.to_array(by_setting[2][1]) "
        "- plots.to_array(by_setting[2][3])).mean()",
        low=20,
        any_weights="a large step in a wrong direction leaves every world",
    ),
]

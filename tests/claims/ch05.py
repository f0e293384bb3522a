"""05 Full sampling."""

from claims import Claim

CLAIMS = [
    Claim(
        name="05.the_two_pictures_are_equal",
        sentence="The two pictures are equal",
        cell="c015",
        value="apart",
        high=1,
        any_weights="the loop is the library's, whatever the network has learned",
    ),
    Claim(
        name="05.dpm_solver_is_nearest",
        sentence="DPM-Solver++ is nearest at 2, 4 and 8 steps",
        cell="c040",
        value="max(away['dpm++'][i] / min(away['ddim'][i], away['euler'][i]) for i in range(3))",
        high=0.95,
        any_weights="the order of the methods, which holds for smooth networks",
    ),
    Claim(
        name="05.how_exact_the_goal_is",
        sentence="a hundred steps of DDIM end up 2 to 3% away from it",
        cell="c040",
        value="far(list(walk('ddim', 100))[-1][1]).median().item()",
        low=2,
        high=3,
        long=True,
        any_weights="two methods for one curve, whatever the network has learned",
    ),
    Claim(
        name="05.one_start_stands_between_two_pictures",
        sentence="one start stands between two pictures",
        cell="c040",
        value="int((far(ends['dpm++'][-1]) > 50).sum())",
        low=1,
        high=1,
    ),
    Claim(
        name="05.ddpm_never_comes_near",
        sentence="DDPM never comes near",
        cell="c040",
        value="min(away['ddpm']) / away['dpm++'][-1]",
        low=4,
        any_weights="it draws fresh noise, whatever the network has learned",
    ),
    Claim(
        name="05.settled_within_the_first_half",
        sentence="By step 11 one of them has won",
        cell="c017",
        value="settled[0.95]",
        high=11,
        any_weights="a network that says little new late on settles early too",
    ),
    Claim(
        name="05.turned_early_the_sentence_decides",
        sentence="in all eight starts the house returns to the left",
        cell="c038",
        value="min(sum(left) for left in on_left[:4])",
        low=8,
    ),
    Claim(
        name="05.turned_late_the_sentence_is_not_heard",
        sentence="no house is on the left",
        cell="c038",
        value="sum(on_left[4]) if sum(on_left[0]) == 8 else 8",
        high=0,
    ),
    Claim(
        name="05.turned_late_it_stays_mirrored",
        sentence="After step 9 the picture stays mirrored",
        cell="c038",
        # in all eight starts
        value="min(np.corrcoef(np.asarray(late.convert('L'))[:, ::-1].ravel(), "
        "np.asarray(never.convert('L')).ravel())[0, 1] "
        "for late, never in zip(turned[4::5], turned[::5]))",
        low=0.8,
        any_weights="one step cannot draw a whole picture anew",
    ),
    Claim(
        name="05.at_guidance_1_the_prompt_is_obeyed",
        sentence="At 1 it is obeyed already",
        cell="c052",
        value="true[1]",
        low=7,
    ),
    Claim(
        name="05.at_guidance_0_it_is_ignored",
        sentence="At 0 the prompt is ignored",
        cell="c052",
        value="true[0]",
        high=1,
        any_weights="random weights draw no red house either",
    ),
    Claim(
        name="05.dpm_solver_overshoots",
        sentence="At five steps and scale 5 DPM-Solver++ suffers most",
        cell="c046",
        value="min(ch05.fidelity_of(table, 5, name, 5) for name in ('ddim', 'euler', 'ddpm')) "
        "- ch05.fidelity_of(table, 5, 'dpm++', 5)",
        low=20,
        any_weights="read from what was measured beside the weights",
    ),
    Claim(
        name="05.guidance_2_loses_nothing",
        sentence="2 loses nothing at 10 steps",
        cell="c046",
        value="min(ch05.fidelity_of(table, 2, name, 10) - ch05.fidelity_of(table, 1, name, 10) "
        "for name in ('ddim', 'ddpm', 'euler', 'dpm++'))",
        low=0,
        any_weights="read from what was measured beside the weights",
    ),
    Claim(
        name="05.few_steps_and_a_large_scale_fail",
        sentence="Few steps and a large scale fail together, with every sampler",
        cell="c046",
        # more than either does alone
        value="max(ch05.fidelity_of(table, 5, name, 2) - min("
        "ch05.fidelity_of(table, 1, name, 2), ch05.fidelity_of(table, 5, name, 10)) "
        "for name in ('ddim', 'ddpm', 'euler', 'dpm++'))",
        high=-30,
        any_weights="read from what was measured beside the weights",
    ),
    Claim(
        name="05.not_at_night_calls_up_the_night",
        sentence="Not at night calls up the night",
        cell="c058",
        printed=r"prompt: \.\.\. not at night +(\d+) of 8",
        low=6,
        any_weights="the judge may take the gray of random weights for night",
    ),
    Claim(
        name="05.the_negative_prompt_works",
        sentence="The negative prompt works",
        cell="c058",
        # fewer than without one, and far fewer than with "not"
        value="list(nights.values())[1] - list(nights.values())[2] "
        "if list(nights.values())[0] > list(nights.values())[2] else 0",
        low=4,
        any_weights="what the judge takes for night in the gray of random weights is chance",
    ),
    Claim(
        name="05.wide_canvas_gives_twins",
        sentence="it fills a wide canvas with one square scene beside another",
        cell="c064",
        value="twins",
        low=6,
    ),
]

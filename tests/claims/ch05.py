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
        sentence="DPM-Solver++ is nearest at every count",
        cell="c040",
        value="max(away['dpm++'][i] / min(away['ddim'][i], away['euler'][i]) for i in range(4))",
        high=1,
    ),
    Claim(
        name="05.ddpm_never_comes_near",
        sentence="DDPM never comes near",
        cell="c040",
        value="min(away['ddpm']) / away['dpm++'][-1]",
        low=4,
    ),
]

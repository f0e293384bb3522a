"""03 U-Net noise prediction."""

from claims import Claim

CLAIMS = [
    Claim(
        name="03.top_skip_carries_the_noise",
        sentence="it passes over the top, by the paths that were never shrunk",
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
]

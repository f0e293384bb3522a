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
]

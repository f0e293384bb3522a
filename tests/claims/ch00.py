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
        name="00.columns_share_the_light",
        sentence="nearly every column agrees on it",
        cell="c22",
        value="same_time",
        low=6,
    ),
    Claim(
        name="00.ten_lines_are_the_machine",
        sentence="Not similar: the same.",
        cell="c20",
        value="difference",
        high=1e-3,
    ),
]

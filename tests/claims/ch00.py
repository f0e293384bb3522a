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
    ),
    Claim(
        name="00.ten_lines_are_the_machine",
        sentence="Not similar: the same.",
        cell="c20",
        value="difference",
        high=1e-3,
        any_weights="ten lines and the package are one algorithm, whatever the weights",
    ),
]

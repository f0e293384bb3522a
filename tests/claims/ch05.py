"""05 Full sampling."""

from claims import Claim

CLAIMS = [
    Claim(
        name="05.not_at_night_calls_up_the_night",
        sentence="models hardly learn the word not, and not at night calls up the night",
        cell="c058",
        printed=r"prompt: \.\.\. not at night +mean brightness +(\d+)",
        high=100,
    ),
]

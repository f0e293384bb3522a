"""06 Editing."""

from claims import Claim

CLAIMS = [
    Claim(
        name="06.color_before_the_light",
        sentence="The color comes first, at small strengths",
        cell="5069d287",
        value="(lambda s: s.things[0].colour == 'red' and s.time == 'day')"
        "(judge.look(results)[2].scene)",
        low=1,
    ),
    Claim(
        name="06.night_needs_the_most",
        sentence="night needs the most",
        cell="5069d287",
        value="judge.look(results)[-1].scene.time == 'night'",
        low=1,
    ),
]

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
    Claim(
        name="06.naming_the_scene_empties_the_hole",
        sentence="What empties the hole is a prompt that names the scene as it should be",
        cell="6c2a3efe",
        value="sum(same_scene(scene, look.scene, positions=True) for look in judge.look(rows[0]))",
        low=6,
    ),
    Claim(
        name="06.without_a_prompt_it_is_filled",
        sentence="Without a prompt the model fills the hole",
        cell="6c2a3efe",
        value="sum(same_scene(scene, look.scene, positions=True) for look in judge.look(rows[1]))",
        high=2,
        any_weights="random weights never leave the house alone, with a prompt or without",
    ),
]

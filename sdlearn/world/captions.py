"""How a scene is said in words."""

from __future__ import annotations

import numpy as np

from sdlearn.world.scenes import Scene, Thing, check_scene

PLACE_WORDS = {
    "meadow": ("in a meadow", "in the meadow", "in a green meadow"),
    "desert": ("in the desert", "in a desert", "in the sandy desert"),
    "snow": ("in the snow", "in the snow", "in the white snow"),
    "sea": ("by the sea", "at the sea", "beside the sea"),
    "forest": ("in the forest", "in a forest", "in the dark forest"),
    "city": ("in the city", "in a city", "in the big city"),
}
TIME_WORDS = {
    "day": ("by day", "on a sunny day", "during the day"),
    "night": ("at night", "at night", "under the stars at night"),
    "sunset": ("at sunset", "at sunset", "in the sunset"),
}
POSITION_WORDS = {"left": "on the left", "middle": "in the middle", "right": "on the right"}


def article(noun: str) -> str:
    """ "an" before a vowel, else "a"."""
    return "an" if noun[0] in "aeiou" else "a"


def _noun(thing: Thing, colour: bool = True, with_article: bool = True) -> str:
    words = f"{thing.colour} {thing.kind}" if colour else thing.kind
    return f"{article(words)} {words}" if with_article else words


def caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """Say a scene in words, lower case.

    Without ``rng``: the plain full sentence, every fact named ("a red house on the left and a
    blue boat on the right by the sea at night"). With ``rng``: the wording varies (order,
    "beside", places and times said in several ways) and parts are left out, so that a model
    trained on it understands short prompts too; what is said is always true.
    """
    check_scene(scene)
    if rng is None:
        things = " and ".join(f"{_noun(t)} {POSITION_WORDS[t.position]}" for t in scene.things)
        return f"{things} {PLACE_WORDS[scene.place][0]} {TIME_WORDS[scene.time][0]}"
    subject = _subject(scene, rng)
    place = str(rng.choice(PLACE_WORDS[scene.place])) if rng.random() > 0.12 else ""
    time = str(rng.choice(TIME_WORDS[scene.time])) if rng.random() > 0.12 else ""
    order = rng.random()
    if order < 0.72:
        parts = [subject, place, time]
    elif order < 0.86:
        parts = [subject, time, place]
    else:
        parts = [time, subject, place]
    joiner = ", " if rng.random() < 0.1 else " "
    return joiner.join(p for p in parts if p)


def _subject(scene: Scene, rng: np.random.Generator) -> str:
    """The things of a scene in one of several wordings."""
    with_article = rng.random() > 0.08
    colour = rng.random() > 0.04
    nouns = [_noun(t, colour, with_article) for t in scene.things]
    where = [POSITION_WORDS[t.position] for t in scene.things]
    if len(scene.things) == 1:
        return f"{nouns[0]} {where[0]}" if rng.random() < 0.5 else nouns[0]
    form = rng.random()
    if form < 0.4:
        return f"{nouns[0]} {where[0]} and {nouns[1]} {where[1]}"
    if form < 0.7:
        return f"{nouns[0]} and {nouns[1]}"
    if form < 0.85:
        return f"{nouns[0]} {rng.choice(['beside', 'next to'])} {nouns[1]}"
    return f"{nouns[0]} to the {scene.things[0].position} of {nouns[1]}"

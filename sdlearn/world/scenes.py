"""What there can be in a picture: things, colours, places, times; and scenes made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sdlearn import inputs

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
PLACES = ("meadow", "desert", "snow", "sea", "forest", "city")
TIMES = ("day", "night", "sunset")
POSITIONS = ("left", "middle", "right")

HELD_OUT = frozenset(
    {
        ("house", "purple"),
        ("tree", "blue"),
        ("cat", "green"),
        ("rocket", "yellow"),
        ("balloon", "white"),
        ("mushroom", "orange"),
        ("flower", "red"),
        ("boat", "pink"),
        ("car", "purple"),
        ("tower", "green"),
        ("dog", "blue"),
        ("dragon", "pink"),
        ("robot", "orange"),
        ("castle", "yellow"),
        ("duck", "purple"),
        ("fish", "white"),
        ("umbrella", "green"),
        ("cake", "blue"),
        ("butterfly", "red"),
        ("ghost", "orange"),
    }
)
"""(kind, colour) pairs that are never drawn for training: prompts for them show whether a model
composes or remembers."""


@dataclass(frozen=True)
class Painter:
    """How a kind of thing is painted: ``paint(pen, colour)``, ``lift`` pixels off the ground."""

    paint: Callable
    lift: float = 0.0


PAINTERS: dict[str, Painter] = {}
"""One painter for each kind of thing, in the order of definition; :func:`thing` adds to it."""


class _Words(Sequence):
    """The keys of a dictionary as a row that is read when it is asked: it grows with them."""

    def __init__(self, table: dict):
        self._table = table

    def __getitem__(self, index):
        return tuple(self._table)[index]

    def __len__(self) -> int:
        return len(self._table)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._table))

    def __contains__(self, word: object) -> bool:
        return word in self._table

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, Sequence) else NotImplemented

    __hash__ = None

    def __repr__(self) -> str:
        return repr(tuple(self))


KINDS: Sequence[str] = _Words(PAINTERS)
"""The kinds of things: a view of :data:`PAINTERS`, so a thing added later is in it at once."""


def thing(kind: str, *, lift: float = 0.0) -> Callable[[Callable], Callable]:
    """Decorator: register a function ``(pen, colour)`` that draws a new kind of thing.

    ``lift`` is how many pixels above the ground it hangs. To register a kind again replaces it.
    """

    def register(paint: Callable) -> Callable:
        PAINTERS[kind] = Painter(paint, lift)
        return paint

    return register


@dataclass(frozen=True)
class Thing:
    """One object of a scene.

    A ``kind`` of :data:`KINDS`, a ``colour`` of :data:`COLOURS`, a ``position`` of
    :data:`POSITIONS`.

    Raises:
        ValueError: for an unknown word.
    """

    kind: str
    colour: str
    position: str

    def __post_init__(self):
        _one_of("kind", self.kind, KINDS)
        _one_of("colour", self.colour, COLOURS)
        _one_of("position", self.position, POSITIONS)

    @property
    def held_out(self) -> bool:
        """True if this kind never has this colour in the training data."""
        return (self.kind, self.colour) in HELD_OUT


@dataclass(frozen=True)
class Scene:
    """What a picture shows: one thing anywhere, or one left and one right; a place and a time.

    Raises:
        ValueError: for an unknown word, no thing, more than two things, or two things that are
            not left and right.
    """

    things: tuple[Thing, ...]
    place: str
    time: str

    def __post_init__(self):
        _one_of("place", self.place, PLACES)
        _one_of("time", self.time, TIMES)
        if not isinstance(self.things, (tuple, list)) or not all(
            isinstance(t, Thing) for t in self.things
        ):
            raise TypeError("The things of a scene are a tuple of Thing, such as (Thing(...),).")
        where = [t.position for t in self.things]
        if len(where) == 2 and sorted(where) != ["left", "right"]:
            raise ValueError(
                "Two things stand one left and one right, so that neither hides the other; "
                f"got {where}."
            )
        if len(where) not in (1, 2):
            raise ValueError(f"A scene has one or two things; got {len(where)}.")

    @property
    def held_out(self) -> bool:
        """True if any thing of the scene is a held-out pair."""
        return any(t.held_out for t in self.things)


def _one_of(name: str, value: str, allowed: Sequence[str]) -> None:
    if not isinstance(value, str) or value not in tuple(allowed):
        raise ValueError(
            f"Unknown {name} {inputs.shown(value)}: choose one of {', '.join(allowed)}."
        )


def check_scene(scene: object) -> None:
    """Stop at what is no scene.

    Raises:
        TypeError: if it is not.
    """
    if not isinstance(scene, Scene):
        raise TypeError(f"A Scene is needed; got {type(scene).__name__}: sample_scene makes one.")


def mirror(scene: Scene) -> Scene:
    """The same scene with left and right exchanged."""
    other = {"left": "right", "middle": "middle", "right": "left"}
    return replace(
        scene, things=tuple(replace(t, position=other[t.position]) for t in scene.things)
    )


def sample_scene(
    rng: np.random.Generator, *, held_out: bool = False, things: int | None = None
) -> Scene:
    """Draw a random scene.

    Args:
        rng: source of randomness, ``numpy.random.default_rng(seed)``.
        held_out: False (the training split) never gives a pair of :data:`HELD_OUT`; True gives
            at least one.
        things: 1 or 2; None picks either with equal chance.

    Raises:
        ValueError: if ``things`` is another number.
    """
    if things not in (None, 1, 2):
        raise ValueError(f"A scene has one or two things; got {things}.")
    count = things or int(rng.integers(1, 3))
    where = ["left", "right"] if count == 2 else [str(rng.choice(POSITIONS))]
    rng.shuffle(where)
    seen = [(k, c) for k in KINDS for c in COLOURS if (k, c) not in HELD_OUT]
    unseen = sorted(HELD_OUT)
    picked = []
    for i, position in enumerate(where):
        pairs = unseen if held_out and i == 0 else seen
        kind, colour = pairs[rng.integers(len(pairs))]
        picked.append(Thing(kind, colour, position))
    return Scene(tuple(picked), str(rng.choice(PLACES)), str(rng.choice(TIMES)))

"""The picture-book world: scenes, their captions, and the pictures of them.

Everything Tiny SD knows comes from here. A :class:`Scene` says what there is, :func:`caption` says it in words
and :func:`draw` paints it, so pictures and captions are known to agree and can be made without end.

Add a thing of your own in ten lines (then retrain with ``python -m sdlearn.training all``)::

    from sdlearn import world

    @world.thing("lollipop")                       # the word used in captions
    def _lollipop(pen, colour):                    # (0, 0) is the middle of its foot, y points up, 1 unit = 1 pixel
        pen.box(-2, 0, 2, 30, fill=world.CREAM)    # stay inside x -24..24 and y 0..64
        pen.oval(0, 42, 17, 17, fill=colour)
        pen.oval(0, 42, 8, 8, fill=world.light(colour))

    world.draw(world.Scene((world.Thing("lollipop", "pink", "middle"),), "meadow", "day"))
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
PLACES = ("meadow", "desert", "snow", "sea")
TIMES = ("day", "night", "sunset")
POSITIONS = ("left", "middle", "right")
KINDS: tuple[str, ...] = ()  # filled by @thing below, in the order of definition

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
    }
)
"""(kind, colour) pairs that are never drawn for training: prompts for them show whether a model composes or remembers."""

RGB = tuple[int, int, int]
PALETTE: dict[str, RGB] = {
    "red": (222, 52, 52),
    "orange": (246, 138, 36),
    "yellow": (252, 212, 54),
    "green": (52, 164, 84),
    "blue": (44, 112, 222),
    "purple": (142, 78, 204),
    "pink": (250, 138, 190),
    "white": (250, 249, 244),
}
INK: RGB = (44, 34, 62)
CREAM: RGB = (246, 232, 206)
WOOD: RGB = (126, 78, 48)
GLASS: RGB = (186, 226, 250)
GLOW: RGB = (255, 226, 130)
LEAF: RGB = (58, 140, 70)

_CENTRES = {"left": 30.0, "middle": 64.0, "right": 98.0}
_FOOT = 107.0  # y of the ground a thing stands on, in a frame of 128
_SUPERSAMPLE = (
    4  # drawn four times larger, then averaged down: soft edges that survive the autoencoder
)


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """Blend two colours; ``share`` 0 gives ``a``, 1 gives ``b``."""
    return tuple(round(x + (y - x) * share) for x, y in zip(a, b, strict=True))


def light(colour: RGB) -> RGB:
    """A lighter tint of a colour."""
    return mix(colour, (255, 255, 255), 0.45)


def dark(colour: RGB) -> RGB:
    """A darker shade of a colour."""
    return mix(colour, INK, 0.35)


@dataclass(frozen=True)
class Thing:
    """One object of a scene: a ``kind`` of :data:`KINDS`, a ``colour`` of :data:`COLOURS`, a ``position`` of :data:`POSITIONS`."""

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
    """What a picture shows: one thing anywhere, or two things (one left, one right), a ``place`` and a ``time``.

    Raises:
        ValueError: for an unknown word, no thing, more than two things, or two things that are not left and right.
    """

    things: tuple[Thing, ...]
    place: str
    time: str

    def __post_init__(self):
        _one_of("place", self.place, PLACES)
        _one_of("time", self.time, TIMES)
        where = [t.position for t in self.things]
        if len(where) == 2 and sorted(where) != ["left", "right"]:
            raise ValueError(
                f"Two things stand one left and one right, so that neither hides the other; got {where}."
            )
        if len(where) not in (1, 2):
            raise ValueError(f"A scene has one or two things; got {len(where)}.")

    @property
    def held_out(self) -> bool:
        """True if any thing of the scene is a held-out pair."""
        return any(t.held_out for t in self.things)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"Unknown {name} {value!r}: choose one of {', '.join(allowed)}.")


def sample_scene(
    rng: np.random.Generator, *, held_out: bool = False, things: int | None = None
) -> Scene:
    """Draw a random scene.

    Args:
        rng: source of randomness, ``numpy.random.default_rng(seed)``.
        held_out: False (the training split) never gives a pair of :data:`HELD_OUT`; True gives at least one.
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


# ---------------------------------------------------------------------------------------------------------- captions

_PLACE_WORDS = {
    "meadow": ("in a meadow", "in the meadow", "in a green meadow"),
    "desert": ("in the desert", "in a desert", "in the sandy desert"),
    "snow": ("in the snow", "in the snow", "in the white snow"),
    "sea": ("by the sea", "at the sea", "beside the sea"),
}
_TIME_WORDS = {
    "day": ("by day", "on a sunny day", "during the day"),
    "night": ("at night", "at night", "under the stars at night"),
    "sunset": ("at sunset", "at sunset", "in the sunset"),
}
_POSITION_WORDS = {"left": "on the left", "middle": "in the middle", "right": "on the right"}


def _noun(thing: Thing, colour: bool = True, article: bool = True) -> str:
    words = f"{thing.colour} {thing.kind}" if colour else thing.kind
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}" if article else words


def caption(scene: Scene, rng: np.random.Generator | None = None) -> str:
    """Say a scene in words, lower case.

    Without ``rng``: the plain full sentence, every fact named ("a red house on the left and a blue boat on the right by the
    sea at night"). With ``rng``: the wording varies (order, "beside", places and times said in several ways) and parts are
    left out, so that a model trained on it understands short prompts too; what is said is always true.
    """
    if rng is None:
        things = " and ".join(f"{_noun(t)} {_POSITION_WORDS[t.position]}" for t in scene.things)
        return f"{things} {_PLACE_WORDS[scene.place][0]} {_TIME_WORDS[scene.time][0]}"
    article = rng.random() > 0.08
    colour = rng.random() > 0.04
    nouns = [_noun(t, colour, article) for t in scene.things]
    where = [_POSITION_WORDS[t.position] for t in scene.things]
    if len(scene.things) == 1:
        subject = f"{nouns[0]} {where[0]}" if rng.random() < 0.5 else nouns[0]
    else:
        form = rng.random()
        if form < 0.4:
            subject = f"{nouns[0]} {where[0]} and {nouns[1]} {where[1]}"
        elif form < 0.7:
            subject = f"{nouns[0]} and {nouns[1]}"
        elif form < 0.85:
            subject = f"{nouns[0]} {rng.choice(['beside', 'next to'])} {nouns[1]}"
        else:
            side = scene.things[0].position
            subject = f"{nouns[0]} to the {side} of {nouns[1]}"
    place = str(rng.choice(_PLACE_WORDS[scene.place])) if rng.random() > 0.12 else ""
    time = str(rng.choice(_TIME_WORDS[scene.time])) if rng.random() > 0.12 else ""
    order = rng.random()
    if order < 0.72:
        parts = [subject, place, time]
    elif order < 0.86:
        parts = [subject, time, place]
    else:
        parts = [time, subject, place]
    joiner = ", " if rng.random() < 0.1 else " "
    return joiner.join(p for p in parts if p)


# ----------------------------------------------------------------------------------------------------------- drawing


class Pen:
    """Draws one thing: coordinates in pixels of a 128-pixel frame, (0, 0) at the middle of the foot, y up."""

    def __init__(self, canvas: Image.Image, x: float = 0.0, y: float = 128.0, scale: float = 1.0):
        self._draw, self._x, self._y, self._scale = ImageDraw.Draw(canvas), x, y, scale

    def _at(self, points):
        s = _SUPERSAMPLE
        return [
            ((self._x + px * self._scale) * s, (self._y - py * self._scale) * s)
            for px, py in points
        ]

    def _width(self, units: float) -> int:
        return max(1, round(units * self._scale * _SUPERSAMPLE))

    def shape(self, *points, fill: RGB, edge: float = 1.6) -> None:
        """A closed polygon, outlined in a dark shade of its own colour."""
        at = self._at(points)
        self._draw.polygon(at, fill=fill)
        if edge:
            self._draw.line(
                [*at, at[0], at[1]],
                fill=mix(fill, INK, 0.72),
                width=self._width(edge),
                joint="curve",
            )

    def oval(
        self, x: float, y: float, rx: float, ry: float, *, fill: RGB, edge: float = 1.6
    ) -> None:
        """An ellipse around (x, y)."""
        (x0, y0), (x1, y1) = self._at([(x - rx, y + ry), (x + rx, y - ry)])
        outline = mix(fill, INK, 0.72) if edge else None
        self._draw.ellipse(
            [x0, y0, x1, y1], fill=fill, outline=outline, width=self._width(edge) if edge else 0
        )

    def box(
        self, x0: float, y0: float, x1: float, y1: float, *, fill: RGB, edge: float = 1.6
    ) -> None:
        """An upright rectangle between two corners."""
        self.shape((x0, y0), (x1, y0), (x1, y1), (x0, y1), fill=fill, edge=edge)

    def line(self, *points, fill: RGB, width: float) -> None:
        """A line with round joints and ends."""
        at = self._at(points)
        w = self._width(width)
        self._draw.line(at, fill=fill, width=w, joint="curve")
        for x, y in (at[0], at[-1]):
            self._draw.ellipse([x - w / 2, y - w / 2, x + w / 2, y + w / 2], fill=fill)


_PAINTERS: dict[str, Callable[[Pen, RGB], None]] = {}


def thing(kind: str):
    """Decorator: register a function ``(pen, colour)`` that draws a new kind of thing."""

    def register(painter: Callable[[Pen, RGB], None]):
        global KINDS
        if kind not in _PAINTERS:
            KINDS = (*KINDS, kind)
        _PAINTERS[kind] = painter
        return painter

    return register


@thing("house")
def _house(pen: Pen, colour: RGB):
    pen.box(9, 30, 15, 50, fill=WOOD)
    pen.box(-19, 0, 19, 30, fill=colour)
    pen.shape((-24, 28), (0, 54), (24, 28), fill=dark(colour))
    pen.box(-5, 0, 5, 16, fill=WOOD)
    for x in (-12.5, 12.5):
        pen.box(x - 4, 13, x + 4, 22, fill=GLOW)


@thing("tree")
def _tree(pen: Pen, colour: RGB):
    pen.shape((-5, 0), (5, 0), (3.5, 26), (-3.5, 26), fill=WOOD)
    pen.oval(-11, 33, 12, 11, fill=colour)
    pen.oval(11, 33, 12, 11, fill=colour)
    pen.oval(0, 45, 15, 15, fill=colour)
    pen.oval(0, 36, 13, 10, fill=colour, edge=0)
    pen.oval(-5, 49, 5, 4.5, fill=light(colour), edge=0)


@thing("cat")
def _cat(pen: Pen, colour: RGB):
    tail = [(12, 4), (20, 6), (21.5, 15), (17, 22)]
    pen.line(*tail, fill=mix(colour, INK, 0.72), width=7)
    pen.line(*tail, fill=colour, width=4)
    pen.oval(0, 13, 15, 14, fill=colour)
    for side in (-1, 1):
        pen.shape((side * 14, 53), (side * 14, 38), (side * 3, 45), fill=colour)
    pen.oval(0, 35, 16, 13.5, fill=colour)
    for side in (-1, 1):
        pen.oval(side * 6.5, 37, 4.2, 4.8, fill=(255, 255, 255), edge=0)
        pen.oval(side * 6, 37, 2.6, 3.4, fill=INK, edge=0)
    pen.oval(0, 10, 8, 8, fill=light(colour), edge=0)
    pen.shape((-2.6, 31.5), (2.6, 31.5), (0, 28), fill=(236, 92, 120), edge=0)


@thing("rocket")
def _rocket(pen: Pen, colour: RGB):
    pen.shape((-6, 13), (6, 13), (0, 0), fill=(255, 150, 40), edge=0)
    pen.shape((-3, 13), (3, 13), (0, 5), fill=GLOW, edge=0)
    for side in (-1, 1):
        pen.shape((side * 9, 26), (side * 9, 12), (side * 18, 9), fill=dark(colour))
    pen.shape((-9, 12), (9, 12), (11, 28), (9, 42), (0, 62), (-9, 42), (-11, 28), fill=colour)
    pen.shape((-9, 42), (9, 42), (0, 62), fill=dark(colour))
    pen.oval(0, 32, 5.5, 5.5, fill=GLASS)


@thing("balloon")
def _balloon(pen: Pen, colour: RGB):
    for side in (-1, 1):
        pen.line((side * 4.5, 12), (side * 10, 30), fill=WOOD, width=1.8)
    pen.oval(0, 43, 20, 20, fill=colour)
    pen.shape((-12, 29), (12, 29), (5, 20), (-5, 20), fill=dark(colour))
    pen.oval(0, 43, 8.5, 19, fill=light(colour), edge=0)
    pen.box(-6, 2, 6, 13, fill=WOOD)


@thing("mushroom")
def _mushroom(pen: Pen, colour: RGB):
    pen.shape((-8, 0), (8, 0), (6, 24), (-6, 24), fill=CREAM)
    angles = np.linspace(0, np.pi, 25)
    pen.shape(*[(23 * np.cos(a), 20 + 26 * np.sin(a)) for a in angles], fill=colour)
    spot = CREAM if min(colour) < 230 else (240, 150, 150)
    for x, y, r in ((-12, 28, 4), (0, 37, 4.6), (12, 28, 4)):
        pen.oval(x, y, r, r, fill=spot, edge=0)


@thing("flower")
def _flower(pen: Pen, colour: RGB):
    pen.line((0, 2), (0, 32), fill=LEAF, width=4.5)
    pen.shape((0, 6), (9, 9), (16, 17), (6, 15), fill=LEAF, edge=0)
    pen.shape((0, 10), (-9, 13), (-16, 21), (-6, 19), fill=LEAF, edge=0)
    for a in np.arange(6) * np.pi / 3 + np.pi / 6:
        pen.oval(11.5 * np.cos(a), 42 + 11.5 * np.sin(a), 8, 8, fill=colour)
    pen.oval(0, 42, 8, 8, fill=(255, 206, 60) if colour != PALETTE["yellow"] else WOOD)


@thing("boat")
def _boat(pen: Pen, colour: RGB):
    pen.line((0, 12), (0, 58), fill=WOOD, width=3.4)
    pen.shape((3, 57), (3, 19), (23, 19), fill=colour)
    pen.shape((-3, 50), (-3, 19), (-20, 19), fill=light(colour))
    pen.shape((-24, 14), (24, 14), (16, 0), (-16, 0), fill=WOOD)
    pen.line((-21, 10), (21, 10), fill=CREAM, width=2.6)


@thing("car")
def _car(pen: Pen, colour: RGB):
    pen.shape((-16, 18), (-10, 33), (10, 33), (17, 18), fill=colour)
    pen.shape((-11.5, 19), (-7.5, 29.5), (-1.5, 29.5), (-1.5, 19), fill=GLASS, edge=0)
    pen.shape((1.5, 19), (1.5, 29.5), (7.5, 29.5), (12, 19), fill=GLASS, edge=0)
    pen.shape((-24, 6), (24, 6), (24, 15), (18, 19), (-22, 19), fill=colour)
    pen.oval(21, 14, 2.6, 2.6, fill=GLOW, edge=0)
    for x in (-13, 13):
        pen.oval(x, 7, 7.2, 7.2, fill=INK)
        pen.oval(x, 7, 3.2, 3.2, fill=(214, 214, 220), edge=0)


@thing("tower")
def _tower(pen: Pen, colour: RGB):
    ink = mix(colour, INK, 0.72)
    struts = [((-19, 2), (-9, 24)), ((19, 2), (9, 24)), ((-9, 24), (0, 60)), ((9, 24), (0, 60)),
              ((-9, 24), (9, 24)), ((-15, 11), (9, 24)), ((15, 11), (-9, 24)), ((-5, 40), (5, 40)), ((-8, 26), (5, 40)), ((8, 26), (-5, 40))]  # fmt: skip
    for ends in struts:
        pen.line(*ends, fill=ink, width=6.4 if ends[0][0] in (-19, 19) or ends[1][1] == 60 else 5.2)
    for ends in struts:
        pen.line(
            *ends, fill=colour, width=3.8 if ends[0][0] in (-19, 19) or ends[1][1] == 60 else 2.6
        )


_SKY = {  # top of the frame, horizon
    "day": ((96, 178, 246), (214, 240, 254)),
    "night": ((16, 18, 54), (52, 54, 112)),
    "sunset": ((112, 66, 150), (255, 168, 96)),
}
_GROUND = {  # far band, near band, by daylight
    "meadow": ((132, 208, 92), (92, 180, 72)),
    "desert": ((238, 196, 122), (226, 172, 94)),
    "snow": ((226, 238, 250), (246, 250, 255)),
    "sea": ((56, 142, 214), (244, 222, 164)),
}
_TINT = {"day": ((0, 0, 0), 0.0), "night": ((22, 24, 72), 0.56), "sunset": ((186, 84, 96), 0.36)}


def _gradient(top: RGB, bottom: RGB, height: int, width: int) -> Image.Image:
    column = np.linspace(top, bottom, height).round().astype(np.uint8)[:, None]
    return Image.fromarray(np.broadcast_to(column, (height, width, 3)).copy())


def _wave(base: float, height: float, length: float, phase: float) -> list[tuple[float, float]]:
    return [
        (x, base + height * np.sin(2 * np.pi * (x / length + phase)))
        for x in np.linspace(-2, 130, 45)
    ]


def _backdrop(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Sky, sun or moon, and ground; the sun stands where no thing does."""
    side = 128 * _SUPERSAMPLE
    horizon = 128 - 80 + float(rng.uniform(-3, 3))  # in units above the lower edge
    canvas = _gradient(*_SKY[scene.time], side, side)
    pen = Pen(canvas)
    taken = {t.position for t in scene.things}
    free = [p for p in ("left", "middle", "right") if p not in taken]
    spot = _CENTRES[free[rng.integers(len(free))]] + float(rng.uniform(-5, 5))
    if scene.time == "day":
        pen.oval(spot, 128 - 22, 10, 10, fill=(255, 220, 76), edge=0)
        others = [p for p in POSITIONS if abs(_CENTRES[p] - spot) > 20]
        x = _CENTRES[others[rng.integers(len(others))]] + float(rng.uniform(-6, 6))
        for dx, dy, r in ((-9, 0, 5.5), (0, 2.5, 7.5), (9, 0, 5.5)):
            pen.oval(x + dx, 128 - 17 + dy, r * 1.15, r, fill=(255, 255, 255), edge=0)
    elif scene.time == "night":
        sky = canvas.getpixel((round(spot * _SUPERSAMPLE), 22 * _SUPERSAMPLE))
        pen.oval(spot, 128 - 22, 10.5, 10.5, fill=(255, 244, 204), edge=0)
        pen.oval(spot + 5.5, 128 - 19, 9, 9, fill=sky, edge=0)
        for x in np.arange(5) * 25.6 + 12.8 + rng.uniform(-5, 5, 5):
            if abs(x - spot) > 17:
                y = 128 - float(rng.uniform(8, 34))
                pen.shape(*[(x + r * np.sin(a), y + r * np.cos(a)) for a, r in zip(np.arange(8) * np.pi / 4, (4, 1.6) * 4, strict=True)], fill=(255, 250, 222), edge=0)  # fmt: skip
    else:
        pen.oval(
            spot, horizon + 3, 21, 21, fill=mix(_SKY["sunset"][1], (255, 220, 120), 0.5), edge=0
        )
        pen.oval(spot, horizon + 3, 14, 14, fill=(255, 236, 150), edge=0)
    tint, share = _TINT[scene.time]
    far, near = (mix(c, tint, share) for c in _GROUND[scene.place])
    phase = float(rng.random())
    if scene.place == "snow":
        for x, h in ((22 + 12 * phase, 26), (70 + 12 * phase, 19), (112 + 10 * phase, 24)):
            pen.shape(
                (x - 34, horizon - 7),
                (x, horizon - 2 + h),
                (x + 34, horizon - 7),
                fill=mix(mix((150, 172, 206), tint, share), far, 0.25),
                edge=0,
            )
            pen.shape(
                (x - 10.5, horizon - 2 + h * 0.65),
                (x, horizon - 2 + h),
                (x + 10.5, horizon - 2 + h * 0.65),
                fill=far,
                edge=0,
            )
    if scene.place == "sea":
        pen.box(-2, -2, 130, horizon, fill=far, edge=0)
        foam = mix(far, (255, 255, 255), 0.45)
        for x, y in ((20, 5.5), (62, 9), (106, 5.5)):
            pen.line(
                (x - 8 + 12 * phase, horizon - y),
                (x + 8 + 12 * phase, horizon - y),
                fill=foam,
                width=2.6,
            )
        pen.shape(*_wave(horizon - 16, 2, 128, phase), (130, -2), (-2, -2), fill=near, edge=0)
    else:
        pen.shape(
            *_wave(horizon, 3.5, 150 if scene.place == "meadow" else 110, phase),
            (130, -2),
            (-2, -2),
            fill=far,
            edge=0,
        )
        pen.shape(
            *_wave(horizon - 15, 3.5, 180, phase + 0.4), (130, -2), (-2, -2), fill=near, edge=0
        )
    return canvas


def draw(scene: Scene, size: int = 128, seed: int = 0) -> Image.Image:
    """Paint a scene.

    Args:
        scene: what to paint.
        size: side of the square picture in pixels.
        seed: places the details (where exactly a thing stands, sun, hills, stars); the same seed gives the same picture.

    Returns:
        An RGB picture of ``size`` x ``size`` pixels.

    Raises:
        ValueError: if ``size`` is not between 16 and 512.
    """
    if not 16 <= size <= 128 * _SUPERSAMPLE:
        raise ValueError(f"size must be between 16 and {128 * _SUPERSAMPLE} pixels; got {size}.")
    rng = np.random.default_rng(seed)
    canvas = _backdrop(scene, rng)
    for t in scene.things:
        scale = float(rng.uniform(0.9, 1.02)) * (1.0 if len(scene.things) == 1 else 0.94)
        x = _CENTRES[t.position] + float(rng.uniform(-3, 3))
        y = _FOOT + float(rng.uniform(-3, 3)) - (12 if t.kind in ("balloon", "rocket") else 0)
        tint, share = _TINT[scene.time]
        _PAINTERS[t.kind](Pen(canvas, x, y, scale), mix(PALETTE[t.colour], tint, share * 0.12))
    return canvas.resize(
        (size, size), Image.Resampling.BOX if 512 % size == 0 else Image.Resampling.LANCZOS
    )

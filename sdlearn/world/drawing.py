"""How a scene is painted: the colours, the pen, the sky, the ground, and :func:`draw`.

Lengths are pixels of a 128-pixel frame, y counts up from its lower edge.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from sdlearn import inputs
from sdlearn.world.scenes import PAINTERS, POSITIONS, Scene, Thing, check_scene

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

SKY = {  # top of the frame, horizon
    "day": ((96, 178, 246), (214, 240, 254)),
    "night": ((16, 18, 54), (52, 54, 112)),
    "sunset": ((112, 66, 150), (255, 168, 96)),
}
GROUND = {  # far band, near band, by daylight
    "meadow": ((132, 208, 92), (92, 180, 72)),
    "desert": ((238, 196, 122), (226, 172, 94)),
    "snow": ((226, 238, 250), (246, 250, 255)),
    "sea": ((56, 142, 214), (244, 222, 164)),
    "forest": ((78, 120, 62), (106, 136, 66)),
    "city": ((158, 154, 158), (206, 196, 182)),
}
# the light of a time of day: every colour is blended with the first one, by the share
TINT = {"day": ((0, 0, 0), 0.0), "night": ((22, 24, 72), 0.56), "sunset": ((186, 84, 96), 0.36)}

CENTRES = {"left": 30.0, "middle": 64.0, "right": 98.0}  # x of the positions
FOOT = 107.0  # of the ground a thing stands on: pixels below the upper edge
# drawn four times larger, then averaged down: soft edges that survive the autoencoder
SUPERSAMPLE = 4


def mix(a: RGB, b: RGB, share: float) -> RGB:
    """Blend two colours; ``share`` 0 gives ``a``, 1 gives ``b``."""
    red, green, blue = (round(x + (y - x) * share) for x, y in zip(a, b, strict=True))
    return red, green, blue


def light(colour: RGB) -> RGB:
    """A lighter tint of a colour."""
    return mix(colour, (255, 255, 255), 0.45)


def dark(colour: RGB) -> RGB:
    """A darker shade of a colour."""
    return mix(colour, INK, 0.35)


class Pen:
    """Draws one thing: (0, 0) at the middle of its foot, y up, one unit a pixel of the frame."""

    def __init__(self, canvas: Image.Image, x: float = 0.0, y: float = 128.0, scale: float = 1.0):
        self.draw, self.x, self.y, self.scale = ImageDraw.Draw(canvas), x, y, scale

    def _at(self, points) -> list[tuple[float, float]]:
        s = SUPERSAMPLE
        return [
            ((self.x + px * self.scale) * s, (self.y - py * self.scale) * s) for px, py in points
        ]

    def _width(self, units: float) -> int:
        return max(1, round(units * self.scale * SUPERSAMPLE))

    def shape(self, *points: tuple[float, float], fill: RGB, edge: float = 1.6) -> None:
        """A closed polygon, outlined in a dark shade of its own colour."""
        at = self._at(points)
        self.draw.polygon(at, fill=fill)
        if edge:
            outline = mix(fill, INK, 0.72)
            self.draw.line(
                [*at, at[0], at[1]], fill=outline, width=self._width(edge), joint="curve"
            )

    def oval(
        self, x: float, y: float, rx: float, ry: float, *, fill: RGB, edge: float = 1.6
    ) -> None:
        """An ellipse around (x, y)."""
        (x0, y0), (x1, y1) = self._at([(x - rx, y + ry), (x + rx, y - ry)])
        outline = mix(fill, INK, 0.72) if edge else None
        self.draw.ellipse(
            [x0, y0, x1, y1], fill=fill, outline=outline, width=self._width(edge) if edge else 0
        )

    def box(
        self, x0: float, y0: float, x1: float, y1: float, *, fill: RGB, edge: float = 1.6
    ) -> None:
        """An upright rectangle between two corners."""
        self.shape((x0, y0), (x1, y0), (x1, y1), (x0, y1), fill=fill, edge=edge)

    def line(self, *points: tuple[float, float], fill: RGB, width: float) -> None:
        """A line with round joints and ends."""
        at = self._at(points)
        w = self._width(width)
        self.draw.line(at, fill=fill, width=w, joint="curve")
        for x, y in (at[0], at[-1]):
            self.draw.ellipse([x - w / 2, y - w / 2, x + w / 2, y + w / 2], fill=fill)


class View(NamedTuple):
    """What the parts of a background share."""

    pen: Pen  # over the whole frame, its foot at (0, 0)
    time: str
    horizon: float
    spot: float  # x of the sun or moon
    phase: float  # 0 to 1: where hills, waves and firs begin

    def lit(self, colour: RGB, share: float = 1.0) -> RGB:
        """A colour in the light of the time of day; ``share`` of it is felt."""
        tint, strength = TINT[self.time]
        return mix(colour, tint, strength * share)


def _gradient(top: RGB, bottom: RGB, side: int) -> Image.Image:
    column = np.linspace(top, bottom, side).round().astype(np.uint8)[:, None]
    return Image.fromarray(np.broadcast_to(column, (side, side, 3)).copy())


def _wave(base: float, height: float, length: float, phase: float) -> list[tuple[float, float]]:
    return [
        (x, base + height * np.sin(2 * np.pi * (x / length + phase)))
        for x in np.linspace(-2, 130, 45)
    ]


def _day(pen: Pen, spot: float, rng: np.random.Generator) -> None:
    """The sun and, away from it, a cloud."""
    pen.oval(spot, 128 - 22, 10, 10, fill=(255, 220, 76), edge=0)
    others = [p for p in POSITIONS if abs(CENTRES[p] - spot) > 20]
    x = CENTRES[others[rng.integers(len(others))]] + float(rng.uniform(-6, 6))
    for dx, dy, r in ((-9, 0, 5.5), (0, 2.5, 7.5), (9, 0, 5.5)):
        pen.oval(x + dx, 128 - 17 + dy, r * 1.15, r, fill=(255, 255, 255), edge=0)


def _night(pen: Pen, spot: float, rng: np.random.Generator, sky: RGB) -> None:
    """The moon's sickle, and stars where it is not; ``sky`` is the colour behind it."""
    pen.oval(spot, 128 - 22, 10.5, 10.5, fill=(255, 244, 204), edge=0)
    pen.oval(spot + 5.5, 128 - 19, 9, 9, fill=sky, edge=0)
    rays = list(zip(np.arange(8) * np.pi / 4, (4, 1.6) * 4, strict=True))
    for x in np.arange(5) * 25.6 + 12.8 + rng.uniform(-5, 5, 5):
        if abs(x - spot) > 17:
            y = 128 - float(rng.uniform(8, 34))
            star = [(x + r * np.sin(a), y + r * np.cos(a)) for a, r in rays]
            pen.shape(*star, fill=(255, 250, 222), edge=0)


def _sunset(pen: Pen, spot: float, horizon: float) -> None:
    """The sun on the horizon, in a glow."""
    glow = mix(SKY["sunset"][1], (255, 220, 120), 0.5)
    pen.oval(spot, horizon + 3, 21, 21, fill=glow, edge=0)
    pen.oval(spot, horizon + 3, 14, 14, fill=(255, 236, 150), edge=0)


def _mountains(view: View, far: RGB) -> None:
    """Three mountains with white tops, behind the snow."""
    pen, base, phase = view.pen, view.horizon, view.phase
    rock = mix(view.lit((150, 172, 206)), far, 0.25)
    for x, h in ((22 + 12 * phase, 26), (70 + 12 * phase, 19), (112 + 10 * phase, 24)):
        top, white = base - 2 + h, base - 2 + h * 0.65
        pen.shape((x - 34, base - 7), (x, top), (x + 34, base - 7), fill=rock, edge=0)
        pen.shape((x - 10.5, white), (x, top), (x + 10.5, white), fill=far, edge=0)


def _firs(view: View) -> None:
    """A row of firs behind the forest's ground, low before a setting sun."""
    green = view.lit((46, 104, 74), 0.7)
    for i, height in enumerate((26, 34, 24, 32, 25, 35, 26)):
        x, foot = 22 * i - 8 + 12 * view.phase, view.horizon - 6
        h = 15 if view.time == "sunset" and abs(x - view.spot) < 16 else height
        for base, top, half in ((0, 0.62, 12), (0.3, 0.82, 9.5), (0.58, 1, 7)):
            y = foot + base * h
            view.pen.shape((x - half, y), (x + half, y), (x, foot + top * h), fill=green, edge=0)


def _houses(view: View) -> None:
    """A row of houses with windows behind the city's ground, low before a setting sun."""
    strength = TINT[view.time][1]
    wall = view.lit(mix((142, 150, 180), INK, strength * 0.8), 0.5)
    bright, share = (GLOW, 0.8) if view.time == "night" else (SKY[view.time][1], 0.45)
    pane = mix(wall, bright, share)
    for i, height in enumerate((20, 32, 24, 36, 18, 30, 22)):
        x = 22 * i - 14 + 12 * view.phase
        h = 8 if view.time == "sunset" and abs(x + 11 - view.spot) < 17 else height
        y, odd = view.horizon + h, i % 2
        front = mix(wall, INK, 0.1) if odd else wall
        view.pen.box(x, view.horizon - 2, x + 22, y, fill=front, edge=0)
        for dx, dy in ((3, 9), (12, 20)) if odd else ((12, 9), (3, 20)):
            if dy < h:
                view.pen.box(x + dx, y - dy, x + dx + 6.5, y - dy + 6, fill=pane, edge=0)


def _pavement(view: View, far: RGB, near: RGB) -> None:
    """A street and the pavement before it."""
    view.pen.box(-2, -2, 130, view.horizon, fill=far, edge=0)
    view.pen.box(-2, -2, 130, view.horizon - 14, fill=near, edge=0)


def _water(view: View, far: RGB, near: RGB) -> None:
    """The sea with foam, and a beach before it."""
    pen, horizon, phase = view.pen, view.horizon, view.phase
    pen.box(-2, -2, 130, horizon, fill=far, edge=0)
    foam = mix(far, (255, 255, 255), 0.45)
    for x, y in ((20, 5.5), (62, 9), (106, 5.5)):
        ends = [(x + dx + 12 * phase, horizon - y) for dx in (-8, 8)]
        pen.line(*ends, fill=foam, width=2.6)
    pen.shape(*_wave(horizon - 16, 2, 128, phase), (130, -2), (-2, -2), fill=near, edge=0)


def _hills(view: View, far: RGB, near: RGB, length: float) -> None:
    """Two bands of ground in waves; ``length`` is that of the farther waves."""
    pen, horizon, phase = view.pen, view.horizon, view.phase
    corners = ((130, -2), (-2, -2))
    pen.shape(*_wave(horizon, 3.5, length, phase), *corners, fill=far, edge=0)
    pen.shape(*_wave(horizon - 15, 3.5, 180, phase + 0.4), *corners, fill=near, edge=0)


def _sky(scene: Scene, rng: np.random.Generator, horizon: float) -> tuple[Image.Image, float]:
    """The sky with its sun or moon, where no thing stands: (canvas, x of sun or moon)."""
    canvas = _gradient(*SKY[scene.time], 128 * SUPERSAMPLE)
    pen = Pen(canvas)
    taken = {t.position for t in scene.things}
    free = [p for p in POSITIONS if p not in taken]
    spot = CENTRES[free[rng.integers(len(free))]] + float(rng.uniform(-5, 5))
    if scene.time == "day":
        _day(pen, spot, rng)
    elif scene.time == "night":
        behind = canvas.getpixel((round(spot * SUPERSAMPLE), 22 * SUPERSAMPLE))
        _night(pen, spot, rng, behind)
    else:
        _sunset(pen, spot, horizon)
    return canvas, spot


def _background(scene: Scene, rng: np.random.Generator) -> Image.Image:
    """Sky, sun or moon, and ground."""
    horizon = 128 - 80 + float(rng.uniform(-3, 3))
    canvas, spot = _sky(scene, rng, horizon)
    view = View(Pen(canvas), scene.time, horizon, spot, float(rng.random()))
    far, near = (view.lit(colour) for colour in GROUND[scene.place])
    if scene.place == "snow":
        _mountains(view, far)
    elif scene.place == "forest":
        _firs(view)
    elif scene.place == "city":
        _houses(view)
    if scene.place == "sea":
        _water(view, far, near)
    elif scene.place == "city":
        _pavement(view, far, near)
    else:
        _hills(view, far, near, 150 if scene.place == "meadow" else 110)
    return canvas


def draw(
    scene: Scene, size: int = 128, seed: int = 0, *, paints: dict[Thing, RGB] | None = None
) -> Image.Image:
    """Paint a scene.

    Args:
        scene: what to paint.
        size: side of the square picture in pixels.
        seed: places the details (where exactly a thing stands, sun, hills, stars); the same seed
            gives the same picture.
        paints: colors for some of its things in place of their own, red, green and blue in 0..255.

    Returns:
        An RGB picture of ``size`` x ``size`` pixels.

    Raises:
        ValueError: if ``size`` is not between 16 and 512, or ``seed`` no seed.
        TypeError: if ``scene`` is none.
    """
    check_scene(scene)
    inputs.whole("size", size, 16, 128 * SUPERSAMPLE)
    inputs.seed(seed)
    rng = np.random.default_rng(seed)
    canvas = _background(scene, rng)
    tint, share = TINT[scene.time]
    for t in scene.things:
        painter = PAINTERS[t.kind]
        scale = float(rng.uniform(0.9, 1.02)) * (1.0 if len(scene.things) == 1 else 0.94)
        x = CENTRES[t.position] + float(rng.uniform(-3, 3))
        y = FOOT + float(rng.uniform(-3, 3)) - painter.lift
        paint = (paints or {}).get(t, PALETTE[t.colour])
        painter.paint(Pen(canvas, x, y, scale), mix(paint, tint, share * 0.12))
    fits = (128 * SUPERSAMPLE) % size == 0
    return canvas.resize((size, size), Image.Resampling.BOX if fits else Image.Resampling.LANCZOS)

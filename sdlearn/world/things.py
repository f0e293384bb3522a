"""Each thing of the world, drawn with the pen: the place to add one of your own.

Coordinates are pixels of a 128-pixel frame, (0, 0) the middle of the thing's foot, y up; a thing
stays inside x -24..24 and y 0..64. What hangs in the air has a ``lift``.
"""

from __future__ import annotations

import numpy as np

from sdlearn.world.drawing import (
    CREAM,
    GLASS,
    GLOW,
    INK,
    LEAF,
    PALETTE,
    RGB,
    WOOD,
    Pen,
    dark,
    light,
    mix,
)
from sdlearn.world.scenes import thing


@thing("house")
def house(pen: Pen, colour: RGB) -> None:
    pen.box(9, 30, 15, 50, fill=WOOD)
    pen.box(-19, 0, 19, 30, fill=colour)
    pen.shape((-24, 28), (0, 54), (24, 28), fill=dark(colour))
    pen.box(-5, 0, 5, 16, fill=WOOD)
    for x in (-12.5, 12.5):
        pen.box(x - 4, 13, x + 4, 22, fill=GLOW)


@thing("tree")
def tree(pen: Pen, colour: RGB) -> None:
    pen.shape((-5, 0), (5, 0), (3.5, 26), (-3.5, 26), fill=WOOD)
    pen.oval(-11, 33, 12, 11, fill=colour)
    pen.oval(11, 33, 12, 11, fill=colour)
    pen.oval(0, 45, 15, 15, fill=colour)
    pen.oval(0, 36, 13, 10, fill=colour, edge=0)
    pen.oval(-5, 49, 5, 4.5, fill=light(colour), edge=0)


@thing("cat")
def cat(pen: Pen, colour: RGB) -> None:
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


@thing("rocket", lift=12)
def rocket(pen: Pen, colour: RGB) -> None:
    pen.shape((-6, 13), (6, 13), (0, 0), fill=(255, 150, 40), edge=0)
    pen.shape((-3, 13), (3, 13), (0, 5), fill=GLOW, edge=0)
    for side in (-1, 1):
        pen.shape((side * 9, 26), (side * 9, 12), (side * 18, 9), fill=dark(colour))
    pen.shape((-9, 12), (9, 12), (11, 28), (9, 42), (0, 62), (-9, 42), (-11, 28), fill=colour)
    pen.shape((-9, 42), (9, 42), (0, 62), fill=dark(colour))
    pen.oval(0, 32, 5.5, 5.5, fill=GLASS)


@thing("balloon", lift=12)
def balloon(pen: Pen, colour: RGB) -> None:
    for side in (-1, 1):
        pen.line((side * 4.5, 12), (side * 10, 30), fill=WOOD, width=1.8)
    pen.oval(0, 43, 20, 20, fill=colour)
    pen.shape((-12, 29), (12, 29), (5, 20), (-5, 20), fill=dark(colour))
    pen.oval(0, 43, 8.5, 19, fill=light(colour), edge=0)
    pen.box(-6, 2, 6, 13, fill=WOOD)


@thing("mushroom")
def mushroom(pen: Pen, colour: RGB) -> None:
    pen.shape((-8, 0), (8, 0), (6, 24), (-6, 24), fill=CREAM)
    angles = np.linspace(0, np.pi, 25)
    pen.shape(*[(23 * np.cos(a), 20 + 26 * np.sin(a)) for a in angles], fill=colour)
    spot = CREAM if min(colour) < 230 else (240, 150, 150)
    for x, y, r in ((-12, 28, 4), (0, 37, 4.6), (12, 28, 4)):
        pen.oval(x, y, r, r, fill=spot, edge=0)


@thing("flower")
def flower(pen: Pen, colour: RGB) -> None:
    pen.line((0, 2), (0, 32), fill=LEAF, width=4.5)
    pen.shape((0, 6), (9, 9), (16, 17), (6, 15), fill=LEAF, edge=0)
    pen.shape((0, 10), (-9, 13), (-16, 21), (-6, 19), fill=LEAF, edge=0)
    for a in np.arange(6) * np.pi / 3 + np.pi / 6:
        pen.oval(11.5 * np.cos(a), 42 + 11.5 * np.sin(a), 8, 8, fill=colour)
    pen.oval(0, 42, 8, 8, fill=(255, 206, 60) if colour != PALETTE["yellow"] else WOOD)


@thing("boat")
def boat(pen: Pen, colour: RGB) -> None:
    pen.line((0, 12), (0, 58), fill=WOOD, width=3.4)
    pen.shape((3, 57), (3, 19), (23, 19), fill=colour)
    pen.shape((-3, 50), (-3, 19), (-20, 19), fill=light(colour))
    pen.shape((-24, 14), (24, 14), (16, 0), (-16, 0), fill=WOOD)
    pen.line((-21, 10), (21, 10), fill=CREAM, width=2.6)


@thing("car")
def car(pen: Pen, colour: RGB) -> None:
    pen.shape((-16, 18), (-10, 33), (10, 33), (17, 18), fill=colour)
    pen.shape((-11.5, 19), (-7.5, 29.5), (-1.5, 29.5), (-1.5, 19), fill=GLASS, edge=0)
    pen.shape((1.5, 19), (1.5, 29.5), (7.5, 29.5), (12, 19), fill=GLASS, edge=0)
    pen.shape((-24, 6), (24, 6), (24, 15), (18, 19), (-22, 19), fill=colour)
    pen.oval(21, 14, 2.6, 2.6, fill=GLOW, edge=0)
    for x in (-13, 13):
        pen.oval(x, 7, 7.2, 7.2, fill=INK)
        pen.oval(x, 7, 3.2, 3.2, fill=(214, 214, 220), edge=0)


@thing("tower")
def tower(pen: Pen, colour: RGB) -> None:
    ink = mix(colour, INK, 0.72)
    legs = [((-19, 2), (-9, 24)), ((19, 2), (9, 24)), ((-9, 24), (0, 60)), ((9, 24), (0, 60))]
    braces = [((-9, 24), (9, 24)), ((-15, 11), (9, 24)), ((15, 11), (-9, 24))]
    braces += [((-5, 40), (5, 40)), ((-8, 26), (5, 40)), ((8, 26), (-5, 40))]
    for fill, thick, thin in ((ink, 6.4, 5.2), (colour, 3.8, 2.6)):
        for ends in legs:
            pen.line(*ends, fill=fill, width=thick)
        for ends in braces:
            pen.line(*ends, fill=fill, width=thin)

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


@thing("dog")
def dog(pen: Pen, colour: RGB) -> None:
    for width, fill in ((8, mix(colour, INK, 0.72)), (5, colour)):
        pen.line((-16, 22), (-20, 32), (-19, 38), fill=fill, width=width)
    for x in (-17, -8, 3, 12):
        pen.box(x - 2, 0, x + 4.5, 14, fill=dark(colour) if x in (-8, 12) else colour)
    pen.oval(-1, 19, 18, 10, fill=colour)
    pen.oval(6, 42, 14, 13.5, fill=colour)
    for side in (-1, 1):
        pen.oval(6 + side * 13, 40, 5, 12, fill=dark(colour))
        pen.oval(6 + side * 5, 46.5, 3.2, 3.8, fill=(255, 255, 255), edge=0)
        pen.oval(6 + side * 4.5, 46, 2.4, 3, fill=INK, edge=0)
    pen.oval(6, 36, 8, 6.5, fill=light(colour))
    pen.oval(6, 39.5, 3.8, 3, fill=INK, edge=0)


@thing("dragon")
def dragon(pen: Pen, colour: RGB) -> None:
    for width, fill in ((9, mix(colour, INK, 0.72)), (6, colour)):
        pen.line((2, 6), (-14, 6), (-19, 13), fill=fill, width=width)
    pen.shape((-24, 13), (-14, 15), (-22, 24), fill=GLOW)
    wing = [(4, 24), (-4, 46), (-23, 55), (-20, 45), (-24, 36), (-15, 34), (-13, 26)]
    pen.shape(*wing, fill=dark(colour))
    for y in (33, 44):
        pen.shape((0, y - 6), (-10, y + 4), (0, y + 6), fill=GLOW)
    for x in (2, 10):
        pen.shape((x - 1, 52), (x - 3, 62), (x + 6, 54), fill=GLOW)
    for x in (-3, 12):
        pen.oval(x, 4, 7, 4, fill=colour)
    pen.oval(4, 17, 13, 15, fill=colour)
    pen.oval(8, 47, 11.5, 10, fill=colour)
    pen.shape((-1, 24), (-1, 46), (13, 44), (13, 22), fill=colour, edge=0)
    pen.oval(17, 43, 7, 6, fill=colour)
    pen.oval(8, 16, 7, 11, fill=light(colour), edge=0)
    pen.oval(8, 50, 4.2, 4.8, fill=(255, 255, 255), edge=0)
    pen.oval(9, 50, 2.6, 3.4, fill=INK, edge=0)


@thing("robot")
def robot(pen: Pen, colour: RGB) -> None:
    pen.line((0, 50), (0, 58), fill=dark(colour), width=3.6)
    pen.oval(0, 59, 4, 4, fill=GLOW)
    for side in (-1, 1):
        pen.box(side * 7 - 4.5, 0, side * 7 + 4.5, 10, fill=dark(colour))
        pen.box(side * 18 - 3.5, 10, side * 18 + 3.5, 28, fill=dark(colour))
    pen.box(-14, 7, 14, 31, fill=colour)
    pen.box(-17, 31, 17, 53, fill=colour)
    pen.box(-7, 13, 7, 23, fill=light(colour))
    for side in (-1, 1):
        pen.oval(side * 8, 44, 5, 5, fill=GLOW)
        pen.oval(side * 8, 44, 2.2, 2.2, fill=INK, edge=0)
    pen.line((-6, 36), (6, 36), fill=INK, width=2.8)


@thing("castle")
def castle(pen: Pen, colour: RGB) -> None:
    for x in (-8, 0, 8):
        pen.box(x - 2.6, 26, x + 2.6, 33, fill=colour)
    pen.box(-14, 0, 14, 27, fill=colour)
    for side in (-1, 1):
        pen.box(side * 17 - 6, 0, side * 17 + 6, 38, fill=colour)
        pen.shape((side * 17 - 7, 37), (side * 17, 60), (side * 17 + 7, 37), fill=dark(colour))
        pen.box(side * 17 - 2.2, 22, side * 17 + 2.2, 30, fill=GLOW, edge=0)
    pen.box(-6, 0, 6, 10, fill=WOOD)
    pen.oval(0, 10, 6, 6, fill=WOOD)


@thing("duck")
def duck(pen: Pen, colour: RGB) -> None:
    bill = (255, 160, 40)
    for x in (-7, 3):
        pen.line((x, 10), (x, 2), (x + 5, 2), fill=bill, width=4)
    pen.shape((-24, 35), (-22, 14), (-4, 29), fill=colour)
    pen.oval(-2, 19, 21, 13, fill=colour)
    pen.oval(4, 43, 12.5, 12, fill=colour)
    pen.shape((-5, 24), (-3, 40), (11, 40), (13, 24), fill=colour, edge=0)
    pen.oval(-5, 19, 10, 7, fill=light(colour))
    pen.shape((11, 46), (18, 42), (24, 43), (23, 36), (12, 35), fill=bill)
    pen.oval(5, 47, 3.6, 4.2, fill=(255, 255, 255), edge=0)
    pen.oval(6, 47, 2.4, 3.2, fill=INK, edge=0)


@thing("fish", lift=12)
def fish(pen: Pen, colour: RGB) -> None:
    pen.shape((-8, 28), (-24, 46), (-20, 28), (-24, 10), fill=dark(colour))
    pen.shape((-8, 38), (-2, 52), (14, 40), fill=dark(colour))
    pen.shape((-4, 18), (0, 7), (10, 16), fill=dark(colour))
    pen.oval(3, 28, 20, 15.5, fill=colour)
    pen.oval(-4, 28, 4, 11, fill=light(colour), edge=0)
    pen.oval(13, 32, 5, 5.6, fill=(255, 255, 255), edge=0)
    pen.oval(14, 32, 3, 3.8, fill=INK, edge=0)
    pen.line((15, 21), (20, 22), fill=mix(colour, INK, 0.72), width=2.4)


@thing("umbrella")
def umbrella(pen: Pen, colour: RGB) -> None:
    pen.line((0, 58), (0, 62), fill=WOOD, width=3.6)
    pen.line((0, 40), (0, 6), (2, 3), (6, 2), (10, 4), (11, 9), fill=WOOD, width=4)
    angles = np.linspace(0, np.pi, 25)
    along = np.linspace(-1, 1, 31)
    for width, bows, fill in ((23, 3, colour), (8, 1, light(colour))):
        dome = [(width * np.cos(a), 30 + 28 * np.sin(a)) for a in angles]
        hem = [(width * x, 30 + 5 * abs(np.cos(bows * np.pi / 2 * x))) for x in along]
        pen.shape(*dome, *hem, fill=fill)


@thing("cake")
def cake(pen: Pen, colour: RGB) -> None:
    for x in (-7, 7):
        pen.box(x - 2, 40, x + 2, 52, fill=CREAM)
        pen.oval(x, 56, 3, 4.6, fill=(255, 168, 40), edge=0)
    pen.oval(0, 4, 24, 4, fill=CREAM)
    for width, foot, top in ((20, 4, 24), (13, 24, 42)):
        pen.box(-width, foot, width, top, fill=colour)
        drops = width // 6
        for x in np.linspace(-width, width, 2 * drops + 1)[1::2]:
            pen.oval(x, top - 5, width / drops, 5, fill=light(colour), edge=0)
        pen.box(-width, top - 5, width, top, fill=light(colour), edge=0)


@thing("butterfly", lift=12)
def butterfly(pen: Pen, colour: RGB) -> None:
    turn = [(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, 25)]
    for side in (-1, 1):
        pen.line((side * 2, 46), (side * 8, 58), fill=WOOD, width=2.6)
        pen.oval(side * 8, 59, 2.8, 2.8, fill=WOOD, edge=0)
        lower = [(11 + 9 * c + 2 * s, 15 + 11 * s - 3 * c) for c, s in turn]
        pen.shape(*[(side * x, y) for x, y in lower], fill=colour)
        pen.oval(side * 12, 13, 4, 4.5, fill=dark(colour), edge=0)
        upper = [(13 + 10 * c + 4 * s, 37 + 13 * s + 4 * c) for c, s in turn]
        pen.shape(*[(side * x, y) for x, y in upper], fill=colour)
        pen.oval(side * 14.5, 39, 5, 6, fill=light(colour), edge=0)
    pen.oval(0, 23, 4, 19, fill=WOOD)
    pen.oval(0, 43, 7.5, 7, fill=WOOD)
    for side in (-1, 1):
        pen.oval(side * 3, 44, 2.8, 3.4, fill=(255, 255, 255), edge=0)
        pen.oval(side * 2.6, 44, 1.6, 2.2, fill=INK, edge=0)


@thing("ghost", lift=12)
def ghost(pen: Pen, colour: RGB) -> None:
    for side in (-1, 1):
        pen.oval(side * 18, 28, 6, 5, fill=colour)
    dome = [(17 * np.cos(a), 38 + 20 * np.sin(a)) for a in np.linspace(0, np.pi, 25)]
    hem = [(18 * x, 6 + 6 * abs(np.cos(1.5 * np.pi * x))) for x in np.linspace(-1, 1, 31)]
    pen.shape(*dome, *hem, fill=colour)
    for side in (-1, 1):
        pen.oval(side * 6.5, 41, 3.6, 5, fill=INK, edge=0)
        pen.oval(side * 11, 32, 3, 2, fill=(240, 130, 150), edge=0)
    pen.oval(0, 29, 3.4, 4.2, fill=INK, edge=0)

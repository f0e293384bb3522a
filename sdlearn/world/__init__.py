"""The picture-book world: scenes, their captions, and the pictures of them.

Everything Tiny SD knows comes from here. A :class:`Scene` says what there is, :func:`caption`
says it in words and :func:`draw` paints it, so pictures and captions are known to agree and can
be made without end.

Add a thing of your own in ten lines (then retrain, see ``sdlearn/training/README.md``)::

    from sdlearn import world

    @world.thing("lollipop")                     # the word used in captions
    def paint_lollipop(pen, colour):             # (0, 0) is the middle of its foot, y points up
        pen.box(-2, 0, 2, 30, fill=world.CREAM)  # inside x -24..24 and y 0..64 pixels
        pen.oval(0, 42, 17, 17, fill=colour)
        pen.oval(0, 42, 8, 8, fill=world.light(colour))

    world.draw(world.Scene((world.Thing("lollipop", "pink", "middle"),), "meadow", "day"))

``scenes`` says what there can be, ``captions`` how it is said, ``drawing`` has the pen, the places
and the times of day, ``things`` draws each thing.
"""

from sdlearn.world import things  # noqa: F401  (it registers the things)
from sdlearn.world.captions import PLACE_WORDS, POSITION_WORDS, TIME_WORDS, article, caption
from sdlearn.world.drawing import (
    CREAM,
    GLASS,
    GLOW,
    INK,
    LEAF,
    PALETTE,
    WOOD,
    Pen,
    dark,
    draw,
    light,
    mix,
)
from sdlearn.world.scenes import (
    COLOURS,
    HELD_OUT,
    KINDS,
    PLACES,
    POSITIONS,
    TIMES,
    Scene,
    Thing,
    mirror,
    sample_scene,
    thing,
)

__all__ = [
    "COLOURS",
    "CREAM",
    "GLASS",
    "GLOW",
    "HELD_OUT",
    "INK",
    "KINDS",
    "LEAF",
    "PALETTE",
    "PLACES",
    "PLACE_WORDS",
    "POSITIONS",
    "POSITION_WORDS",
    "TIMES",
    "TIME_WORDS",
    "WOOD",
    "Pen",
    "Scene",
    "Thing",
    "article",
    "caption",
    "dark",
    "draw",
    "light",
    "mirror",
    "mix",
    "sample_scene",
    "thing",
]

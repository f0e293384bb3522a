"""Chapter 00, First image: the map of the machine, and the exercises."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from sdlearn.checks import close, exercise
from sdlearn.plots import COLOURS, DPI

_NETWORK, _RULE = "#cfe5f5", "#fdeccb"


def machine(shapes: dict[str, tuple[int, ...]], sizes: dict[str, float]) -> Figure:
    """The map of the whole machine.

    Args:
        shapes: of "ids", "words", "latents", "noise", "pixels", written between the boxes.
        sizes: millions of parameters of "text_encoder", "unet", "vae", written into them.
    """
    fig = Figure(figsize=(9.4, 3.5), dpi=DPI, layout="constrained")
    ax = fig.subplots()
    ax.set(xlim=(0, 100), ylim=(0, 37))
    ax.axis("off")
    said = {key: " × ".join(map(str, shape)) for key, shape in shapes.items()}
    _box(ax, 8, 29, "tokenizer", _RULE, width=12)
    _box(ax, 32, 29, f"text encoder\n{sizes['text_encoder']:.1f} M", _NETWORK)
    _box(ax, 62, 29, f"U-Net\n{sizes['unet']:.1f} M", _NETWORK)
    _box(ax, 62, 7, "scheduler\na plain rule", _RULE)
    _box(ax, 88, 7, f"VAE decoder\n(VAE {sizes['vae']:.1f} M)", _NETWORK, width=16)
    ax.text(8, 36.6, "your sentence", ha="center", va="top", fontsize=9.5, style="italic")
    _arrow(ax, (8, 35), (8, 33.4))
    _arrow(ax, (15, 29), (23.8, 29), f"ids\n{said['ids']}", (19.4, 30.2))
    _arrow(ax, (40.2, 29), (53.8, 29), f"words\n{said['words']}", (47, 30.2))
    _arrow(ax, (65.5, 24.6), (65.5, 11.4), f"noise\n{said['noise']}", (74.3, 16))
    _arrow(ax, (58.5, 11.4), (58.5, 24.6), f"latents\n{said['latents']}", (49.6, 16))
    look = dict(ha="center", va="center", fontsize=9)
    ax.text(62, 17.7, "each\nstep", color=COLOURS[1], weight="bold", **look)
    _arrow(ax, (77, 29), (70.2, 29), "timestep $t$", (78, 30))
    _arrow(ax, (38, 13), (58.2, 13), "start: random noise", (28, 12))
    _arrow(ax, (70.2, 7), (79.2, 7), "after the\nlast step:\nlatents", (74.8, 8))
    _arrow(ax, (88, 11.4), (88, 19))
    look = dict(ha="center", va="center", fontsize=9)
    for y, face, what in ((9, _NETWORK, "a network: trained"), (3, _RULE, "a plain rule")):
        ax.add_patch(FancyBboxPatch((3, y - 1.2), 3, 2.4, boxstyle="round,pad=0.2", facecolor=face,
                                    edgecolor="0.3"))  # fmt: skip
        ax.text(8.5, y, what, ha="left", va="center", fontsize=9)
    ax.text(88, 21.5, f"pixels\n{said['pixels']}", **look)
    fig.alt = (
        f"The map of the machine. Sentence to tokens {said['ids']}; text encoder to "
        f"{said['words']}; U-Net and scheduler in a loop over latents {said['latents']}; "
        f"after the last step the decoder, to pixels {said['pixels']}."
    )
    return fig


def _box(ax, x: float, y: float, text: str, face: str, *, width: float = 15) -> None:
    style = dict(boxstyle="round,pad=0.3,rounding_size=1.2", facecolor=face, edgecolor="0.3")
    ax.add_patch(FancyBboxPatch((x - width / 2, y - 4), width, 8, **style))
    ax.text(x, y, text, ha="center", va="center", fontsize=9.5)


def _arrow(ax, start, end, text: str = "", at: tuple[float, float] = (0, 0)) -> None:
    look = dict(arrowstyle="-|>", mutation_scale=12, color="0.3")
    ax.add_patch(FancyArrowPatch(start, end, **look))
    ax.text(*at, text, ha="center", va="bottom", fontsize=8.5, color="0.2")


# ------------------------------------------------------------------------------------ the exercises


@exercise(
    "00.1",
    hint="How many pixels wide is one place of Tiny SD's latents, and how many numbers are in it?",
    right="64 times Tiny SD's: eight times as wide and eight times as high.",
)
def _(answer):
    yield (
        not close(answer, 128 * 128),
        "That counts places. How many numbers has a place?",
    )
    yield (
        not close(answer, 1024 * 1024 * 3),
        "That is the picture. The loop works on its latents.",
    )
    yield (
        not close(answer, 8 * 16 * 16 * 4),
        "Eight times as wide as Tiny SD's picture, yes; and how many times as high?",
    )
    yield close(answer, 128 * 128 * 4), None


@exercise(
    "00.2",
    hint="Write the line down with 2, with 1 and with 0 in place of guidance_scale.",
    right="Guidance doubles the work, except where it changes nothing.",
)
def _(answer):
    yield (
        not close(answer(1, 25, 2), 25),
        "At this scale both answers are needed: with your sentence, and without it.",
    )
    yield (
        close(answer(1, 25, 2), 50) and close(answer(2, 45, 7.5), 180),
        "First at a scale of 2: looks at each step, for each picture.",
    )
    yield (
        close(answer(1, 25, 1), 25) and close(answer(2, 45, 1), 90),
        "Put 1 for guidance_scale and multiply out: what is left?",
    )
    yield (
        close(answer(1, 25, 0), 25),
        "One answer drops out at one more scale: what must the second term be?",
    )
    yield close(answer(3, 10, -1), 60), "Below 0, too, both answers count."


@exercise(
    "00.3",
    hint="Call sample with your sentence four times in a list, and a list of four seeds.",
    right="What you did not say, the seed decided.",
)
def _(answer):
    pictures = [np.asarray(picture, dtype=float) for picture in answer]
    yield (
        len(pictures) == 4 and all(p.ndim == 3 for p in pictures),
        "Four pictures in one list, please.",
    )
    yield (
        all(np.abs(a - b).mean() > 0.5 for i, a in enumerate(pictures) for b in pictures[:i]),
        "Two of them are the same picture: did they get different seeds?",
    )

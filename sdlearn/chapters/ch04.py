"""Chapter 04, Text embedding: its figures and exercises."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from sdlearn.checks import close, exercise
from sdlearn.plots import COLOURS, DPI, Numbers, Picture, figure, thumbnail, to_array


def pieces(
    rows: Sequence[Sequence[str]],
    ids: Sequence[Sequence[int]] | None = None,
    *,
    columns: int = 14,
) -> Figure:
    """Token pieces as boxes, one row a text; "␣" stands for the end of a word.

    `ids[r][i]` stand below; what goes beyond `columns` boxes, or the page, is only counted.
    """
    high = 0.62 if ids else 0.46
    fig = Figure(figsize=(9, high * len(rows) + 0.1), dpi=DPI)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 9), ylim=(high * len(rows), -0.1))
    ax.axis("off")
    ends = [
        _row_of_pieces(ax, row, ids[r] if ids else None, high * r + 0.16, columns)
        for r, row in enumerate(rows)
    ]
    widest = max(3.0, *ends, 0)
    ax.set_xlim(0, widest)
    fig.set_figwidth(widest)
    said = "; ".join(" | ".join(row).replace("</w>", "␣") for row in rows)
    fig.alt = f"Texts cut into tokens, ␣ ends a word: {said}."
    return fig


def _row_of_pieces(ax, row: Sequence[str], ids, y: float, columns: int) -> float:
    """Draw one text; where its last box ends, in inches."""
    x = 0.05
    for i, piece in enumerate(row):
        text = piece.replace("</w>", "␣")
        width = 0.092 * len(text) + 0.1
        if i == columns or x + width > 8.2:
            ax.text(x + 0.05, y, f"… {len(row) - i} more", va="center", fontsize=10)
            return x + 0.8
        box = dict(boxstyle="round,pad=0.25", facecolor=("#e8f1fa", "#fdf0e1")[i % 2])
        look = dict(ha="center", va="center")
        mono = dict(family="monospace", fontsize=11, bbox=box | dict(edgecolor=COLOURS[i % 2]))
        ax.text(x + width / 2, y, text, **look, **mono)
        if ids is not None:
            ax.text(x + width / 2, y + 0.29, ids[i], fontsize=8, color="0.35", **look)
        x += width + 0.1
    return x


def picture_map(
    points: Numbers,
    pictures: Sequence[Picture],
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str | None = None,
    size: tuple[float, float] = (8, 6),
    cell: float = 0.42,
) -> Figure:
    """A small picture, `cell` inches wide, at each of the (N, 2) points: it needs no legend."""
    points = to_array(points)
    fig, ax = figure(size=size)
    ax.plot(*points.T, ".", markersize=1)
    for point, image in zip(points, pictures, strict=True):
        ax.add_artist(thumbnail(image, tuple(point), cell))
    ax.margins(0.08)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    fig.alt = f"{title or 'A map'}: {len(points)} small pictures, over {xlabel} and {ylabel}."
    return fig


# ------------------------------------------------------------------------------------ the exercises


@exercise(
    "04.1",
    hint="Walk once from left to right; compare the last piece kept with the next one.",
    right="Repeated until no pair is on the list, this is byte-pair encoding.",
)
def _(answer):
    yield (
        list(answer(["s", "n", "o", "w"], ("n", "o"))) == ["s", "no", "w"],
        "One pair in the middle: the pieces before and after it stay as they are.",
    )
    yield (
        list(answer(["a", "b", "a", "b"], ("a", "b"))) == ["ab", "ab"],
        "Every occurrence is glued, not only the first.",
    )
    yield list(answer(["a", "b"], ("b", "a"))) == ["a", "b"], "The order within the pair counts."
    yield (
        list(answer(["a", "a", "a"], ("a", "a"))) == ["aa", "a"],
        "Three equal pieces in a row: no piece can be used twice.",
    )
    yield list(answer(["a"], ("a", "b"))) == ["a"], "A single piece has no neighbour: it stays."


@exercise(
    "04.2",
    hint="torch.ones(n, n), cut along its diagonal.",
    right="Training sees every prefix of a sentence at once, and none of them can cheat.",
)
def _(answer):
    import torch

    got, n = answer(5), torch.arange(5)
    yield tuple(got.shape) == (5, 5), "The mask has a row and a column for each of the n tokens."
    yield (
        close(got.diagonal(), torch.ones(5)),
        "May a token look at itself? What would the first one look at otherwise?",
    )
    yield (
        not bool(got[0, -1]),
        "Row i is the token that looks, column j the one that is looked at: the first "
        "token must not see the last.",
    )
    yield close(got, n[:, None] >= n), "The last token has read the whole sentence."
    yield got.dtype == torch.bool, "The values are right; make them True and False."


@exercise(
    "04.3",
    hint="Who knows nothing finds all candidates equally likely; what does the log make of that?",
    right="More rivals, a harder game: CLIP likes large batches.",
)
def _(answer):
    import math

    yield (
        not close(answer, 192),
        "That is the number of candidates; the loss is the negative logarithm of a probability.",
    )
    yield not close(answer, 2 * math.log(192)), "Rows and columns are averaged, not added."
    yield (
        not close(answer, math.log2(192)),
        "Right with bits; log_softmax uses the natural logarithm.",
    )
    yield close(answer, math.log(192)), None


@exercise(
    "04.4",
    hint="Average the heads away, pick a column, fold it into a square.",
    right="Average that over layers and steps too, and you have text.average_maps.",
)
def _(answer):
    import torch

    listens = torch.rand(4, 36, 9).softmax(-1)
    got, want = answer(listens, 3), listens.mean(0)[:, 3].view(6, 6)
    yield tuple(got.shape) == (6, 6), "36 pixels are a square of 6 x 6, one number each."
    yield (
        not close(got, listens.sum(0)[:, 3].view(6, 6)),
        "Nearly: the heads are averaged, so that each pixel's shares still sum to 1.",
    )
    yield not close(got, want.T), "Rows and columns are swapped: pixels are counted row by row."
    yield (
        close(got, want),
        "One token's share in each pixel, averaged over the heads, and nothing else.",
    )


@exercise(
    "04.5",
    hint="Swap one word of the world for another of the same kind.",
    right="Count the pixels below, and compare with your other tries.",
)
def _(answer):
    from sdlearn import world

    before, after = (str(prompt).lower().split() for prompt in answer)
    yield before != after, "The two prompts are the same: swap a word."
    yield (
        len(before) == len(after),
        "Swap one word for one other: both prompts need the same number of words.",
    )
    swapped = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    yield (
        len(swapped) == 1,
        f"{len(swapped)} words differ; change only one, or you cannot tell which of them did it.",
    )
    pair = {word.strip(",.") for word in swapped[0]}
    yield (
        any(
            pair <= set(words)
            for words in (world.KINDS, world.COLOURS, world.PLACES, world.TIMES, world.POSITIONS)
        ),
        (
            "Swap within one list, a colour for a colour or a place for a place: "
            "world.KINDS, COLOURS, PLACES, TIMES and POSITIONS hold the words the model "
            "knows."
        ),
    )

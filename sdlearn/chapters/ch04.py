"""Chapter 04, Text embedding: its figures and exercises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from sdlearn.checks import close, exercise
from sdlearn.plots import COLOURS, DPI, Numbers, Picture, figure, grid, to_array

HIT = COLOURS[2]  # frames what changed
FRAMED = 0.75  # in at least this share of the pictures


def pieces(
    rows: Sequence[Sequence[str]],
    ids: Sequence[Sequence[int]] | None = None,
    *,
    columns: int = 14,
) -> Figure:
    """Token pieces as boxes, one row per text; "␣" stands for the end of a word.

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


def by_hand(words: Sequence[str], query: Numbers, keys: Numbers, values: Numbers) -> Figure:
    """One query against a few keys, written out: a row for each word, the answer below.

    ``query`` (d,), ``keys`` (n, d), ``values`` (n, m).
    """
    q, k, v = (np.asarray(to_array(x), float) for x in (query, keys, values))
    products = k @ q
    scores = products / len(q) ** 0.5
    powers = np.exp(scores)
    shares = powers / powers.sum()
    heads = ("word", "its key", "q · k", "÷ √d", "e to that", "share", "its value", "share × value")
    rows = [
        (word, _list(k[i]), f"{products[i]:g}", f"{scores[i]:.3g}", f"{powers[i]:.2f}",
         f"{shares[i]:.0%}", _list(v[i]), _list(shares[i] * v[i], 2))
        for i, word in enumerate(words)
    ]  # fmt: skip
    total = ("together", "", "", "", f"{powers.sum():.2f}", "100%", "", _list(shares @ v, 2))
    fig = _table(f"the query asks {_list(q)}", heads, [*rows, total], shares)
    said = "; ".join(f"{w} {share:.0%}" for w, share in zip(words, shares, strict=True))
    fig.alt = f"Attention by hand, query {_list(q)}: {said}; the answer is {_list(shares @ v, 2)}."
    return fig


def _list(numbers: np.ndarray, digits: int | None = None) -> str:
    form = "g" if digits is None else f".{digits}f"
    return ", ".join(f"{n:{form}}" for n in numbers)


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], bars) -> Figure:
    """Text in columns; behind the sixth column a bar for each of ``bars``."""
    left = (0.1, 1.2, 2.7, 3.5, 4.25, 5.15, 6.25, 7.3)
    fig = Figure(figsize=(8.7, 0.72 + 0.36 * len(rows)), dpi=DPI)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 8.7), ylim=(0.36 * len(rows) + 0.62, -0.1))
    ax.axis("off")
    ax.text(0.1, 0.1, title, fontsize=10.5, va="center", weight="bold")
    for r, row in enumerate([heads, *rows]):
        y = 0.42 + 0.36 * r
        if 0 < r <= len(bars):
            ax.add_patch(Rectangle((5.1, y - 0.13), 1.0 * bars[r - 1], 0.26, color="#56b4e9"))
        for x, text in zip(left, row, strict=True):
            look = dict(color="0.35") if r == 0 else dict(family="monospace")
            ax.text(x, y, text, fontsize=9.5, va="center", **look)
    ax.plot([0.1, 8.6], [0.42 + 0.36 * (len(rows) - 0.5)] * 2, color="0.6", linewidth=0.8)
    return fig


def swap_grid(
    rows: Sequence[Sequence[Picture | None]],
    counts: Sequence[Sequence[int | None]],
    row_labels: Sequence[str],
    col_labels: Sequence[str],
    seeds: int,
) -> Figure:
    """A picture for each swap, above it for how many of ``seeds`` the judge saw the new word; what
    changed for at least the share ``FRAMED`` is framed."""
    heads = [["" if n is None else f"{n} of {seeds}" for n in line] for line in counts]
    heads[0] = [f"{name}\n{n}" for name, n in zip(col_labels, heads[0], strict=True)]
    title = f"one of {seeds} pictures for each swap; above it, how many show the new word "
    title += f"(framed: {FRAMED:.0%} or more)"
    fig = grid(rows, row_labels, heads, title=title, cell=1.2)
    flat = [n for row, line in zip(rows, counts, strict=True)
            for image, n in zip(row, line, strict=True) if image is not None]  # fmt: skip
    for ax, n in zip(fig.axes, flat, strict=True):
        if n is not None and n >= FRAMED * seeds:
            box = dict(transform=ax.transAxes, fill=False, edgecolor=HIT, linewidth=4)
            ax.add_patch(Rectangle((0, 0), 1, 1, **box))
    said = [
        f"{label}: " + ", ".join(f"{c} {n}" for c, n in zip(col_labels, line, strict=True)
                                 if n is not None)
        for label, line in zip(row_labels, counts, strict=True)
    ]  # fmt: skip
    fig.alt = f"Pictures after a swap of states, of {seeds} seeds changed: {'; '.join(said)}."
    return fig


def fading(lines: dict[str, Numbers], *, starts: Sequence[int]) -> Figure:
    """Cosine of each place's state with the end token's, from each text's end on."""
    fig, ax = figure(size=(7.5, 3.2))
    for (name, y), start in zip(lines.items(), starts, strict=True):
        y = to_array(y)
        ax.plot(np.arange(start, start + len(y)), y, label=name)
    ax.set(xlabel="place of the padding token", ylabel="cosine with the end token", ylim=(0, 1.05))
    ax.legend(frameon=False, loc="lower right")
    said = "; ".join(f"{name} {float(to_array(y)[-1]):.2f}" for name, y in lines.items())
    fig.alt = f"How far the padding repeats the end token; cosine at the last place: {said}."
    return fig


# ------------------------------------------------------------------------------------ the exercises


@exercise(
    "04.1",
    hint="Two lines are wrong. Which numbers must sum to 1, and when is the future hidden?",
    right="Scale, hide, softmax, mix, in that order, and each row's shares sum to 1.",
)
def _(answer):
    import torch

    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(5, 16, generator=g) for _ in range(3))
    scores = q @ k.T / 4
    hidden = torch.ones(5, 5, dtype=torch.bool).triu(1)
    want = scores.masked_fill(hidden, -torch.inf).softmax(-1) @ v
    got = answer(q, k, v)
    yield tuple(got.shape) == (5, 16), "Each of the n tokens takes away one vector of d numbers."
    yield (
        not close(got, scores.softmax(0).masked_fill(hidden, 0) @ v),
        "Nothing is repaired yet: the function still gives what it gave.",
    )
    yield (
        not close(got, scores.softmax(-1).masked_fill(hidden, 0) @ v),
        "The shares run along the keys now. But a token still gives away a part of its attention "
        "to the future, which is then thrown away: do its shares sum to 1?",
    )
    yield (
        not close(got, scores.masked_fill(hidden, -torch.inf).softmax(0) @ v),
        "The future is hidden in time. But whose shares sum to 1: those of one token that looks, "
        "or those of one that is looked at?",
    )
    yield (
        close(got[0], v[0], rtol=1e-3, atol=1e-4),
        "The first token sees nobody but itself: what must it take away?",
    )
    yield close(got, want, rtol=1e-3, atol=1e-5), "The first token is right, later ones are not."


@exercise(
    "04.2",
    hint="Start from the empty prompt's state and walk towards the word's, weight times as far.",
    right="Weight 1 changes nothing, 0 is the empty prompt's state at that place.",
)
def _(answer):
    import torch

    g = torch.Generator().manual_seed(0)
    states, empty = (torch.randn(6, 4, generator=g) for _ in range(2))
    kept = states.clone()
    got = answer(states, empty, 2, 1.5)
    yield tuple(got.shape) == (6, 4), "All the states come back, the weighted one among them."
    yield (
        close(states, kept),
        "The states you were handed have changed too: work on a copy (clone), or the next weight "
        "starts from this one.",
    )
    others = [0, 1, 3, 4, 5]
    yield close(got[others], states[others]), "Only the state of this one place may change."
    yield (
        not close(got[2], 1.5 * states[2]),
        "That makes the state longer, as measured above. Here the empty prompt's state is the "
        "zero from which to measure.",
    )
    yield close(answer(states, empty, 2, 1.0)[2], states[2]), "Weight 1 must change nothing."
    yield close(answer(states, empty, 2, 0.0)[2], empty[2]), "With weight 0, what is left to say?"
    want = empty[2] + 1.5 * (states[2] - empty[2])
    yield close(got[2], want), "Right at 0 and 1; the walk between them is a straight line."


@exercise(
    "04.3",
    hint="Between how many pictures does it still have to guess?",
    right="A loss that stays there however large the batch shows a bag of words.",
)
def _(answer):
    import math

    yield (
        not close(answer, math.log(192)),
        "That is the loss of a CLIP that knows nothing. This one knows all the words.",
    )
    yield (
        not close(answer, math.log(96)),
        "It finds the right pair of twins at once. What is left to guess within the pair?",
    )
    yield not close(answer, 0), "That would need the order: its twin has the very same words."
    yield (
        not close(answer, 0.5),
        "That is the probability of the right picture; the loss is its negative logarithm.",
    )
    yield not close(answer, 1), "Right with bits; log_softmax uses the natural logarithm."
    yield not close(answer, 2 * math.log(2)), "Rows and columns are averaged, not added."
    yield close(answer, math.log(2)), None


@exercise(
    "04.4",
    hint="Print the numbered words of the sentence, and choose from the numbers.",
    right="Now say it in a sentence: which state did it, for how many seeds, and why that one?",
)
def _(answer):
    first, second, places = answer
    a, b = (str(sentence).lower().split() for sentence in (first, second))
    yield a != b, "The two sentences are the same: nothing can be swapped."
    yield (
        len(a) == len(b),
        "Both sentences need the same number of words, or a state would come to stand at the "
        "place of another word.",
    )
    places = sorted({int(place) for place in places})
    yield (
        0 < len(places) <= 2,
        f"{len(places)} states swapped; at most two are allowed, at least one.",
    )
    yield (
        all(1 <= place <= len(a) for place in places),
        f"Places 1 to {len(a)} are words: 0 is the start token, and the end comes after them.",
    )
    first_changed = 1 + next(i for i, (x, y) in enumerate(zip(a, b, strict=True)) if x != y)
    yield (
        max(places) >= first_changed,
        "These states come before the first word that differs. No token sees ahead, so they are "
        "equal in both sentences.",
    )

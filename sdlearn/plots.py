"""Figures: each function returns a matplotlib Figure and calls no model; `show` puts one on the page with its alt text.

Only `matplotlib.figure.Figure` is used, never pyplot: widget callbacks run in other threads, where pyplot's hidden "current figure" goes wrong.
Colours can be told apart without hue: lines have dashes or markers too, signed numbers run from orange through white (0) to purple.
"""

import base64
import io
import itertools
import textwrap
import threading
import uuid

import numpy as np
from cycler import cycler
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.ticker import LogLocator, NullLocator
from PIL import Image

DPI = 100
# the colour-blind safe cycle of Okabe and Ito (2008), its yellow left out: it vanishes on white paper
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (3, 1)), "-")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_HEAVY = 150_000  # bytes of a figure from which on 256 colours must do: pictures of noise would make a page of many megabytes
_DRAWING = (
    threading.Lock()
)  # matplotlib's fonts and maths text are shared: one figure is rendered at a time


def figure(rows: int = 1, cols: int = 1, size: tuple[float, float] = (7, 3.4), **subplots):
    """A Figure in the series' style and its axes (one, or an array of them, as `Figure.subplots` gives). `size` is inches, 100 pixels each."""
    fig = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = fig.subplots(rows, cols, **subplots)
    for ax in np.ravel(axes):
        ax.set_prop_cycle(cycler(color=COLOURS, linestyle=DASHES))
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="0.9", linewidth=0.8)
        ax.set_axisbelow(True)
    return fig, axes


def lines(
    x,
    series: dict[str, object],
    *,
    xlabel: str,
    ylabel: str,
    title: str | None = None,
    log: str = "",
    size=(7, 3.4),
    marks: bool | None = None,
) -> Figure:
    """Named lines over one `x`, each with its own colour and dash; markers too where there are few points. `log` is "", "x", "y" or "xy"."""
    fig, ax = figure(size=size)
    marks = len(x) <= 16 if marks is None else marks
    for (name, y), marker in zip(
        series.items(), MARKERS * (1 + len(series) // len(MARKERS)), strict=False
    ):
        ax.plot(_array(x), _array(y), label=name, marker=marker if marks else None, markersize=5)
    ax.set(
        xlabel=xlabel, ylabel=ylabel, title=title, **{f"{axis}scale": "log" for axis in log}
    )  # a scale that is set would wipe out an axis of names
    if "y" in log:
        _plain_log(ax)
    if not log and _array(x).dtype.kind in "iu":
        ax.xaxis.get_major_locator().set_params(integer=True)
    if (
        "x" in log and len(x) <= 10
    ):  # few points: their own values on the axis instead of powers of ten
        ax.set_xticks(_array(x), [f"{v:g}" for v in x])
        ax.xaxis.set_minor_locator(NullLocator())
    if len(series) > 1:
        ax.legend(frameon=False)
    return fig


def _array(image) -> np.ndarray:
    """A numpy array from a PIL image, an array or a tensor on any device, of any precision, with or without gradients."""
    if hasattr(image, "detach"):
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image
    return np.asarray(image)


def _plane(values) -> np.ndarray:
    """An (H, W) array of floats from one that may have leading axes of length 1."""
    array = _array(values).astype(np.float64)
    return array.reshape(array.shape[-2:])


def picture(image) -> Image.Image:
    """A PIL image from a PIL image, or from an (H, W) or (H, W, 3) array or tensor of 0..255 integers or 0..1 floats."""
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    array = _array(image)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise ValueError(
            f"A picture is (height, width) or (height, width, 3); this has the shape {array.shape}. For a (3, height, width) tensor use compression.to_images."
        )
    if array.dtype.kind == "f":
        array = (array.clip(0, 1) * 255).round()
    return Image.fromarray(array.clip(0, 255).astype(np.uint8)).convert("RGB")


def coloured(array, *, limit: float | None = None, cmap: str = "cividis") -> Image.Image:
    """An (H, W) array as a picture of the same size, for scrubbers: signed (orange, white, purple) if `limit` is given, else `cmap` from the least to the largest value."""
    array = _plane(array)
    low, high = (-limit, limit) if limit else (array.min(), array.max())
    return picture(
        colormaps["PuOr" if limit else cmap]((array - low) / ((high - low) or 1.0))[..., :3]
    )


def overlay(image, heat, *, dim: float = 0.4) -> Image.Image:
    """A picture with an (h, w) map of weights laid over it: in full colour where the map is highest, grey and down to `dim` of its light where it is lowest."""
    base = picture(image)
    heat = _plane(heat)
    heat = (heat - heat.min()) / ((heat.max() - heat.min()) or 1.0)
    mask = Image.fromarray((heat * 255).round().astype(np.uint8)).resize(
        base.size, Image.Resampling.BICUBIC
    )
    return Image.composite(
        base, base.convert("L").point(lambda light: light * dim).convert("RGB"), mask
    )


def _wrapped(text, letters: int) -> str:
    """Break lines that are too long, and keep the breaks that are there."""
    return "\n".join(textwrap.fill(line, letters) for line in str(text).split("\n"))


def grid(
    rows,
    row_labels=None,
    col_labels=None,
    *,
    title: str | None = None,
    cell: float | None = None,
    cmap: str = "cividis",
    limit: float | None = None,
) -> Figure:
    """Pictures in rows and columns, unresampled as far as they fit. An entry is a picture, an (H, W) array drawn through `cmap`, or None for a blank.

    `rows[r][c]`; `row_labels` stand on the left, `col_labels` above the first row (or `[r][c]`: above each picture). `cell` is the width of one in inches;
    `limit` makes arrays signed: orange to purple, symmetric from -limit to limit."""
    rows = [list(row) for row in rows]
    cols = max(map(len, rows))
    cell = cell or min(1.28, 9.0 / cols)
    nested = bool(col_labels) and isinstance(col_labels[0], (list, tuple))
    letters = max(6, int(cell * 13))  # about 13 letters of 9 points fit in an inch
    heads = [
        [_wrapped(text, letters) for text in line]
        for line in (col_labels if nested else [col_labels or []])
    ]
    sides = [_wrapped(text, 22) for text in row_labels or []]
    left = 0.2 + max(
        (0.1 + 0.07 * len(part) for text in sides for part in text.split("\n")), default=-0.16
    )
    head = [
        0.06 + 0.16 * max((text.count("\n") + 1 for text in line if text), default=0)
        for line in heads
    ] + [0.06] * len(rows)
    top, width = 0.34 if title else 0.0, left + cols * (cell + 0.06)
    height = top + len(rows) * cell + sum(head[: len(rows)]) + 0.04
    fig, y = Figure(figsize=(width, height), dpi=DPI), top
    if title:
        fig.text(0.5, 1 - 0.08 / height, title, ha="center", va="top", fontsize=11)
    for r, row in enumerate(rows):
        y += head[r]
        for c, image in enumerate(row):
            if image is None:
                continue
            ax = fig.add_axes(
                (
                    (left + c * (cell + 0.06)) / width,
                    1 - (y + cell) / height,
                    cell / width,
                    cell / height,
                )
            )
            array = _array(picture(image) if isinstance(image, Image.Image) else image)
            array = array if array.shape[-1] in (3, 4) and array.ndim == 3 else _plane(array)
            whole = (
                round(cell * DPI) % max(array.shape[:2]) == 0
            )  # then no smoothing: matplotlib would blur, or not, by rounding errors of the place
            ax.imshow(
                array,
                cmap="PuOr" if limit else cmap,
                vmin=-limit if limit else None,
                vmax=limit,
                interpolation="nearest" if whole else None,
            )
            ax.axis("off")
            if r < len(heads) and c < len(heads[r]):
                ax.set_title(heads[r][c], fontsize=9, pad=3)
        if r < len(sides):
            fig.text(
                (left - 0.07) / width,
                1 - (y + cell / 2) / height,
                sides[r],
                ha="right",
                va="center",
                fontsize=9,
            )
        y += cell
    return fig


def filmstrip(
    images,
    labels=None,
    *,
    columns: int | None = None,
    title: str | None = None,
    cell: float | None = None,
    cmap: str = "cividis",
    limit: float | None = None,
) -> Figure:
    """Pictures side by side with a label above each; `columns` breaks the strip into several rows. The static twin of a scrubber."""
    images, labels = list(images), [str(label) for label in labels or [""] * len(images)]
    if not images or len(labels) != len(images):
        raise ValueError(
            f"A filmstrip needs at least one picture and a label for each; got {len(images)} pictures and {len(labels)} labels."
        )
    cuts = range(0, len(images), columns or len(images))
    return grid(
        [images[i : i + (columns or len(images))] for i in cuts],
        None,
        [labels[i : i + (columns or len(images))] for i in cuts] if any(labels) else None,
        title=title,
        cell=cell,
        cmap=cmap,
        limit=limit,
    )


def every(items, count: int = 7) -> list:
    """About `count` of the items, evenly spread, the first and the last always among them: for the filmstrip beside a scrubber."""
    items = list(items)
    return [
        items[i] for i in np.linspace(0, len(items) - 1, min(count, len(items))).round().astype(int)
    ]


def signed(ax, array, *, limit: float | None = None, bar: bool = True, label: str | None = None):
    """Draw an (H, W) array of signed numbers (a latent channel, noise): PuOr, symmetric about 0, with numbers on its colour bar. Returns the image artist."""
    array = _plane(array)
    limit = limit or float(np.abs(array).max()) or 1.0
    drawn = ax.imshow(array, cmap="PuOr", vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(True)
    if bar:
        ax.figure.colorbar(drawn, ax=ax, label=label, shrink=0.9)
    return drawn


def latent_channels(latents, *, title: str | None = None, limit: float | None = None) -> Figure:
    """The channels of one latent, (C, h, w) or (1, C, h, w), side by side on one symmetric colour scale."""
    array = _array(latents)
    array = array[0] if array.ndim == 4 else array
    limit = limit or float(np.abs(array).max()) or 1.0
    fig, axes = figure(1, len(array), size=(2.0 * len(array) + 0.9, 2.5), squeeze=False)
    for i, ax in enumerate(axes[0]):
        drawn = signed(ax, array[i], limit=limit, bar=False)
        ax.set_title(f"channel {i}", fontsize=10)
    fig.colorbar(drawn, ax=axes, shrink=0.85)
    if title:
        fig.suptitle(title, fontsize=12)
    return fig


def pieces(rows, ids=None, *, columns: int = 14) -> Figure:
    """Token pieces as boxes, one row a text; "␣" stands for the end of a word. `ids[r][i]` stand below; what goes beyond `columns` boxes is only counted."""
    high = 0.62 if ids else 0.46
    fig = Figure(figsize=(9, high * len(rows) + 0.1), dpi=DPI)
    ax = fig.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, 9), ylim=(high * len(rows), -0.1))
    ax.axis("off")
    widest = 3.0
    for r, row in enumerate(rows):
        x, y = 0.05, high * r + 0.16
        for i, piece in enumerate(row):
            text = piece.replace("</w>", "␣")
            width = 0.092 * len(text) + 0.1
            if i == columns or x + width > 8.2:
                ax.text(x + 0.05, y, f"… {len(row) - i} more", va="center", fontsize=10)
                x += 0.8
                break
            ax.text(x + width / 2, y, text, ha="center", va="center", family="monospace", fontsize=11,
                    bbox={"boxstyle": "round,pad=0.25", "facecolor": ("#e8f1fa", "#fdf0e1")[i % 2], "edgecolor": COLOURS[i % 2]})  # fmt: skip
            if ids:
                ax.text(
                    x + width / 2,
                    y + 0.29,
                    ids[r][i],
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="0.35",
                )
            x += width + 0.1
        widest = max(widest, x)
    ax.set_xlim(0, widest)
    fig.set_figwidth(widest)
    return fig


def matrix(
    values,
    rows,
    cols,
    *,
    title=None,
    xlabel="",
    ylabel="",
    digits: int | None = None,
    limits=(None, None),
    cell: float = 0.5,
    label="",
) -> Figure:
    """An (R, C) table of numbers as colours, with a label, or a small picture, for each row and column. `digits` writes the numbers too; NaN stays white.

    `limits` that are symmetric about 0 mean signed numbers: orange to purple."""
    values = _array(values)
    rows = [_wrapped(n, 40) if isinstance(n, str) else n for n in rows]
    side, foot = (
        0.35
        + max(
            [0.075 * len(part) for n in names if isinstance(n, str) for part in n.split("\n")],
            default=cell,
        )
        for names in (rows, cols)
    )
    width, height = values.shape[1] * cell, values.shape[0] * cell
    total = (side + width + 1.1, foot + height + (0.4 if title else 0.12))
    fig = Figure(figsize=total, dpi=DPI)
    ax = fig.add_axes((side / total[0], foot / total[1], width / total[0], height / total[1]))
    signs = limits[0] is not None and limits[0] == -limits[1]
    drawn = ax.imshow(
        values, cmap="PuOr" if signs else "cividis", vmin=limits[0], vmax=limits[1], aspect="auto"
    )
    fig.colorbar(
        drawn,
        cax=fig.add_axes(
            ((side + width + 0.15) / total[0], foot / total[1], 0.15 / total[0], height / total[1])
        ),
        label=label,
    )
    for names, axis in ((rows, ax.yaxis), (cols, ax.xaxis)):
        axis.set_ticks(
            range(len(names)), [n if isinstance(n, str) else "" for n in names], fontsize=9
        )
    ax.tick_params(length=0)
    ax.tick_params(axis="x", rotation=90)
    for i, image in [(i, n) for i, n in enumerate(cols) if not isinstance(n, str)]:
        ax.add_artist(
            _thumbnail(image, (i, values.shape[0] - 0.5), cell, shift=(0, -36 * cell - 3))
        )
    for i, image in [(i, n) for i, n in enumerate(rows) if not isinstance(n, str)]:
        ax.add_artist(_thumbnail(image, (-0.5, i), cell, shift=(-36 * cell - 3, 0)))
    if digits is not None:
        low, high = drawn.get_clim()
        for (r, c), v in np.ndenumerate(values):
            dark = abs(v) > 0.6 * high if signs else v < (low + high) / 2
            if np.isfinite(v):
                ax.text(
                    c,
                    r,
                    f"{v:.{digits}f}",
                    ha="center",
                    va="center",
                    fontsize=7.5,
                    color="white" if dark else "black",
                )
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title or "", fontsize=11)
    return fig


def _thumbnail(image, xy, inches: float, shift=(0, 0)):
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    image = picture(image)
    return AnnotationBbox(OffsetImage(np.asarray(image), zoom=0.92 * inches * 72 / image.width, interpolation="lanczos"), xy, xybox=shift, boxcoords="offset points",
                          frameon=False, pad=0, annotation_clip=False)  # fmt: skip


def picture_map(
    points,
    pictures,
    *,
    xlabel: str = "",
    ylabel: str = "",
    title: str | None = None,
    size=(8, 6),
    cell: float = 0.42,
) -> Figure:
    """A small picture at each of the (N, 2) points, so that the map needs no legend."""
    points = _array(points)
    fig, ax = figure(size=size)
    ax.plot(*points.T, ".", markersize=1)
    for point, image in zip(points, pictures, strict=True):
        ax.add_artist(_thumbnail(image, tuple(point), cell))
    ax.margins(0.08)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    return fig


def histograms(
    series: dict[str, object],
    *,
    xlabel: str,
    title: str | None = None,
    bell: bool = False,
    bins: int = 80,
    size=(7, 3),
) -> Figure:
    """Named samples as step outlines over common bins, areas 1; `bell` adds the curve of the standard normal distribution."""
    fig, ax = figure(size=size)
    values = {name: _array(v).ravel() for name, v in series.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins)
    for (name, v), colour, dash in zip(values.items(), COLOURS, DASHES, strict=False):
        ax.hist(v, edges, density=True, histtype="stepfilled", alpha=0.25, color=colour)
        ax.hist(
            v,
            edges,
            density=True,
            histtype="step",
            linewidth=1.6,
            color=colour,
            linestyle=dash,
            label=name,
        )
    if bell:
        x = np.linspace(edges[0], edges[-1], 300)
        ax.plot(
            x,
            np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi),
            color="black",
            linestyle="--",
            label="exp(-x²/2) / √(2π)",
        )
    ax.set(xlabel=xlabel, yticks=[], title=title)
    ax.legend(frameon=False)
    return fig


def walks(times, paths, mean, std, *, xlabel: str, ylabel: str, size=(7, 3.4)) -> Figure:
    """Random walks (steps, walkers) in grey over `times`; above them what a formula says: its mean, and two standard deviations each way."""
    fig, ax = figure(size=size)
    mean, std = _array(mean), _array(std)
    ax.plot(times, _array(paths), color="0.6", linewidth=0.5, linestyle="-", alpha=0.7)
    ax.plot([], [], color="0.6", linestyle="-", label="walkers, step by step")
    ax.plot(times, mean, color=COLOURS[0], linestyle="-", linewidth=2.2, label="formula: mean")
    for sign in (-1, 1):
        ax.plot(
            times,
            mean + sign * 2 * std,
            color=COLOURS[1],
            linestyle="--",
            linewidth=2,
            label="formula: mean ± 2 std" if sign == 1 else None,
        )
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return fig


def beliefs(
    pictures, labels, shares: list[dict[str, dict[str, float]]], truth: dict[str, str]
) -> Figure:
    """Pictures, and below each how probable every answer to every question is: `shares[i][question][answer]`. The true answers are marked by a star and dark bars."""
    names = [(q, a) for q, answers in shares[0].items() for a in answers]
    gaps = np.cumsum(
        [0.0, *(1.0 if names[i][0] == names[i - 1][0] else 1.7 for i in range(1, len(names)))]
    )
    fig = Figure(
        figsize=(1.2 + 1.55 * len(shares), 1.7 + 0.19 * len(gaps)), dpi=DPI, layout="constrained"
    )
    axes = fig.subplots(2, len(shares), squeeze=False, height_ratios=[1.45, 0.19 * len(gaps) + 0.2])
    for i, (image, label) in enumerate(zip(pictures, labels, strict=True)):
        top, bars = axes[0, i], axes[1, i]
        top.imshow(_array(picture(image)))
        top.axis("off")
        top.set_title(label, fontsize=10)
        right = [truth[q] == a for q, a in names]
        bars.barh(
            gaps,
            [shares[i][q][a] for q, a in names],
            color=[COLOURS[0] if r else "0.72" for r in right],
        )
        bars.set(
            xlim=(0, 1.02),
            ylim=(gaps[-1] + 0.7, -0.7),
            xticks=[0, 0.5, 1],
            xticklabels=["0", "½", "1"],
            yticks=gaps,
        )
        bars.set_yticklabels(
            [f"{a} {'★' if r else '   '}" for (_, a), r in zip(names, right, strict=True)]
            if i == 0
            else [],
            fontsize=9,
        )
        bars.tick_params(axis="y", length=0)
        bars.grid(axis="x", color="0.9")
        bars.set_axisbelow(True)
        bars.spines[["top", "right"]].set_visible(False)
    return fig


def u_shape(shapes, skips: int) -> Figure:
    """The tensors (channels, height, width) that a U-Net passes on, in the order of running: `skips` on the way down, the middle, `skips` on the way up, the output.

    Each on the way down is joined by a dashed arrow to its partner on the way up; boxes are darker the fewer positions a tensor has."""
    if len(shapes) != 2 * skips + 2:
        raise ValueError(
            f"{skips} skip connections need {2 * skips + 2} tensors: {skips} down, one in the middle, {skips} up and the output; got {len(shapes)}."
        )
    width, step = 1.5, 0.42
    inner = 2 * (step * skips) + width
    fig = Figure(
        figsize=(min(9, 3.4 + 0.75 * skips), 0.9 + 0.46 * (skips + 2)),
        dpi=DPI,
        layout="constrained",
    )
    ax = fig.subplots()
    ax.axis("off")
    left = [(k * step, -k) for k in range(skips)]
    right = [(inner + 1.2 - k * step, -k) for k in range(skips)]
    places = [*left, ((inner + 1.2) / 2, -skips - 0.2), *reversed(right), (inner + 1.2, 1.1)]
    most, boxes = max(s[1] for s in shapes), []
    ax.plot(*zip(*places, strict=True), color="0.7", linestyle="-", linewidth=1, zorder=0)
    for (x, y), (channels, h, w) in zip(places, shapes, strict=True):
        depth = np.log2(most / h) / max(1, np.log2(most / min(s[1] for s in shapes)))
        face = (0.93 - 0.62 * depth, 0.95 - 0.45 * depth, 1 - 0.3 * depth)
        look = {
            "boxstyle": "square,pad=0.35",
            "facecolor": face,
            "edgecolor": "0.35",
            "linewidth": 0.8,
        }
        boxes.append(
            ax.text(
                x,
                y,
                f"{channels} × {h} × {w}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if depth > 0.7 else "black",
                bbox=look,
            ).get_bbox_patch()
        )
    for k in range(skips):
        arrow = {
            "arrowstyle": "->",
            "linestyle": "--",
            "color": COLOURS[1],
            "patchA": boxes[k],
            "patchB": boxes[2 * skips - k],
            "shrinkA": 3,
            "shrinkB": 3,
        }
        ax.annotate("", right[k], left[k], arrowprops=arrow)
        ax.text(
            places[skips][0],
            -k + 0.08,
            f"skip {k}",
            ha="center",
            va="bottom",
            fontsize=8,
            color=COLOURS[1],
        )
    ax.text(left[0][0], 1.1, "noisy latents in", ha="center", va="center", fontsize=9)
    ax.annotate(
        "", (left[0][0], 0.3), (left[0][0], 0.9), arrowprops={"arrowstyle": "->", "color": "0.35"}
    )
    ax.text(inner + 1.2, 1.62, "noise out", ha="center", va="bottom", fontsize=9)
    ax.set(xlim=(-width / 2 - 0.2, inner + 1.2 + width / 2 + 0.2), ylim=(-skips - 0.8, 2.1))
    return fig


def _plain_log(ax) -> None:
    """1, 2, 5, 10 instead of powers of ten, on a logarithmic y axis of up to three decades."""
    low, high = ax.get_ylim()
    if high < 1000 * low:
        ax.yaxis.set_major_locator(
            LogLocator(subs=(1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 5, 7))
        )
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())


def training(losses, timesteps, num_train_timesteps: int, *, title: str | None = None) -> Figure:
    """How a training went. Left: the loss of each step and the mean of the last twenty; right: the loss by timestep, first against last tenth of the steps.

    `losses` and `timesteps` are (steps, batch): the squared error and the timestep of each example."""
    losses, timesteps = _array(losses), _array(timesteps)
    fig, (curve, by_t) = figure(1, 2, size=(9, 3.2))
    each = losses.mean(1)
    mean = [each[max(0, i - 19) : i + 1].mean() for i in range(len(each))]
    curve.plot(each, ".", color="0.75", markersize=3, label="each step")
    curve.plot(mean, color=COLOURS[0], linestyle="-", linewidth=2, label="mean of 20")
    curve.set(xlabel="training step", ylabel="epsilon loss", yscale="log", title=title)
    edges = np.linspace(0, num_train_timesteps, 11)
    part = max(1, len(each) // 10)
    for name, steps, marker in (("first", slice(0, part), "s"), ("last", slice(-part, None), "o")):
        sums, counts = (
            np.histogram(timesteps[steps], edges, weights=w)[0] for w in (losses[steps], None)
        )
        middle, filled = (edges[:-1] + edges[1:]) / 2, counts > 0
        by_t.plot(
            middle[filled],
            sums[filled] / counts[filled],
            marker=marker,
            markersize=5,
            label=f"{name} {part} steps",
        )
    by_t.set(
        xlabel="timestep t (0 is clean, the right end is noise)",
        yscale="log",
        title="the same loss by timestep",
    )
    for ax in (curve, by_t):
        ax.legend(frameon=False)
        _plain_log(ax)
    return fig


def clocks(emb, alike, t: int) -> Figure:
    """A timestep embedding: left its numbers (timesteps, dim) as stripes, right how like each timestep is to `t`."""
    fig, (stripes, likeness) = figure(1, 2, size=(9, 3))
    stripes.imshow(
        _array(emb).T, cmap="PuOr", vmin=-1, vmax=1, aspect="auto", interpolation="nearest"
    )
    stripes.set(
        xlabel="t", ylabel="number (cosines, then sines)", title="purple 1, white 0, orange -1"
    )
    stripes.grid(False)
    likeness.plot(_array(alike))
    likeness.set(xlabel="t", ylabel="cosine similarity", title=f"how like t = {t}")
    return fig


def views(abars: dict[str, float]) -> Figure:
    """Noise levels as points of the unit circle: the noisy picture x_t at the angle whose cosine is sqrt(abar), its velocity v at a right angle to it."""
    fig, axes = figure(
        1,
        len(abars),
        size=(max(3.6, 1.9 * len(abars)), 1.6 if len(abars) > 1 else 2.4),
        squeeze=False,
    )
    turn = np.linspace(0, np.pi / 2, 100)
    for ax, (label, abar) in zip(axes[0], abars.items(), strict=True):
        angle = np.arccos(np.sqrt(abar))
        ax.plot(np.cos(turn), np.sin(turn), color="0.6", linestyle="-")
        arrows = {
            "$x_0$": (0, "-", 1.2, 0),
            "$\\epsilon$": (np.pi / 2, "--", 1.2, 0),
            "$x_t$": (angle, "-", 0.6, -0.17),
            "$v$": (angle + np.pi / 2, "-.", 0.6, 0.17),
        }
        for (name, (a, dash, reach, side)), colour in zip(arrows.items(), COLOURS, strict=False):
            look = {
                "arrowstyle": "-|>",
                "color": colour,
                "linestyle": dash,
                "linewidth": 1.8,
                "shrinkA": 0,
                "shrinkB": 0,
            }
            ax.annotate("", (np.cos(a), np.sin(a)), (0, 0), arrowprops=look)
            ax.text(  # beyond the tip, or beside the middle
                reach * np.cos(a) - side * np.sin(a),
                reach * np.sin(a) + side * np.cos(a),
                name,
                color=colour,
                fontsize=11,
                ha="center",
                va="center",
            )
        ax.set(xlim=(-1.1, 1.32), ylim=(-0.25, 1.32), aspect="equal", xticks=[], yticks=[])
        ax.set_title(f"{label}: {np.degrees(angle):.0f}°", fontsize=10)
        ax.spines[:].set_visible(False)
    return fig


def entry(alphas_cumprod, timesteps, start: int, pictures, labels) -> Figure:
    """Where image to image enters the loop: the picture's share over the timesteps, skipped steps as rings, those that are run as dots; beside it `pictures` with labels."""
    fig = Figure(figsize=(3.9 + 1.75 * len(pictures), 2.5), dpi=DPI, layout="constrained")
    axes = fig.subplots(1, 1 + len(pictures), width_ratios=[2.2, *[1] * len(pictures)])
    ax, share, at = axes[0], _array(alphas_cumprod) ** 0.5, np.array([round(t) for t in timesteps])
    ax.plot(share, color="0.6", linestyle="-", zorder=1)
    ax.plot(
        at[:start],
        share[at[:start]],
        "o",
        markersize=5,
        markerfacecolor="white",
        color="0.5",
        label=f"{start} skipped",
    )
    ax.plot(
        at[start:],
        share[at[start:]],
        "o",
        markersize=5,
        color=COLOURS[0],
        label=f"{len(at) - start} run",
    )
    ax.axvline(at[start], color=COLOURS[1], linestyle="--", label=f"entry, t = {at[start]}")
    ax.set(xlim=(len(share) * 1.02, -len(share) * 0.02), ylim=(0, 1.03))
    ax.set(
        xlabel="timestep: noise on the left, picture on the right",
        ylabel=r"picture's share $\sqrt{\bar\alpha_t}$",
    )
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    for ax, image, label in zip(axes[1:], pictures, labels, strict=True):
        ax.imshow(_array(picture(image)))
        ax.set_title(label, fontsize=10)
        ax.axis("off")
    return fig


def side_by_side(*images, gap: int = 8) -> Image.Image:
    """Pictures of equal height in a row, `gap` white pixels between them."""
    images = [picture(i) for i in images]
    sheet = Image.new(
        "RGB", (sum(i.width for i in images) + gap * (len(images) - 1), images[0].height), "white"
    )
    x = 0
    for image in images:
        sheet.paste(image, (x, 0))
        x += image.width + gap
    return sheet


def machine(shapes: dict[str, tuple], sizes: dict[str, float]) -> Figure:
    """The map of the whole machine.

    Args:
        shapes: of "ids", "words", "latents", "noise", "pixels", written between the boxes.
        sizes: millions of parameters of "text_encoder", "unet", "vae", written into them.
    """
    fig = Figure(figsize=(9.4, 3.5), dpi=DPI, layout="constrained")
    ax = fig.subplots()
    ax.set(xlim=(0, 100), ylim=(0, 37))
    ax.axis("off")

    def box(x, y, text, face, width=15):
        ax.add_patch(
            FancyBboxPatch(
                (x - width / 2, y - 4),
                width,
                8,
                boxstyle="round,pad=0.3,rounding_size=1.2",
                facecolor=face,
                edgecolor="0.3",
            )
        )
        ax.text(x, y, text, ha="center", va="center", fontsize=9.5)

    def arrow(a, b, text="", at=None, bend=0.0, **font):
        ax.add_patch(
            FancyArrowPatch(
                a,
                b,
                arrowstyle="-|>",
                mutation_scale=12,
                color="0.3",
                connectionstyle=f"arc3,rad={bend}",
            )
        )
        x, y = at or ((a[0] + b[0]) / 2, (a[1] + b[1]) / 2 + 1.2)
        ax.text(x, y, text, ha="center", va="bottom", fontsize=8.5, color="0.2", **font)

    def named(key):
        return " × ".join(map(str, shapes[key]))

    network, rule = "#cfe5f5", "#fdeccb"
    box(8, 29, "tokenizer", rule, 12)
    box(32, 29, f"text encoder\n{sizes['text_encoder']:.1f} M", network)
    box(62, 29, f"U-Net\n{sizes['unet']:.1f} M", network)
    box(62, 7, "scheduler\na plain rule", rule)
    box(88, 7, f"VAE decoder\n(VAE {sizes['vae']:.1f} M)", network, 16)
    ax.text(8, 36.6, "“a red house ...”", ha="center", va="top", fontsize=9.5, style="italic")
    arrow((15, 29), (23.8, 29), f"ids\n{named('ids')}", (19.4, 30.2))
    arrow((40.2, 29), (53.8, 29), f"words\n{named('words')}", (47, 30.2))
    arrow((65.5, 24.6), (65.5, 11.4), f"noise\n{named('noise')}", (74.3, 16))
    arrow((58.5, 11.4), (58.5, 24.6), f"latents\n{named('latents')}", (49.6, 16))
    ax.text(
        62,
        17.7,
        "each\nstep $t$",
        ha="center",
        va="center",
        fontsize=9,
        color=COLOURS[1],
        weight="bold",
    )
    arrow((33, 7), (53.8, 7), "start: random noise", (42, 8))
    arrow((70.2, 7), (79.2, 7), "after the\nlast step", (74.8, 8))
    arrow((88, 11.4), (88, 24), "", None)
    ax.text(88, 26.5, f"pixels\n{named('pixels')}", ha="center", va="center", fontsize=9)
    return fig


def bells(
    curves: dict[str, tuple[float, float]],
    *,
    xlabel: str,
    title: str | None = None,
    span: tuple[float, float] | None = None,
    size=(7, 2.6),
) -> Figure:
    """Normal distributions, each given by (mean, standard deviation), all of area 1; the last one is filled."""
    fig, ax = figure(size=size)
    mean, std = _array(list(curves.values())).astype(float).T
    low, high = span or ((mean - 3 * std).min(), (mean + 3 * std).max())
    x = np.linspace(low, high, 500)
    for i, (name, m, s) in enumerate(zip(curves, mean, std, strict=True)):
        y = np.exp(-(((x - m) / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi))
        ax.plot(x, y, label=f"{name}: {m:.2f} ± {s:.2f}", linewidth=2)
        if i == len(curves) - 1:
            ax.fill_between(x, y, color=COLOURS[i], alpha=0.25)
    ax.set(xlabel=xlabel, yticks=[], title=title, xlim=(low, high))
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return fig


def paths(
    panels: dict[str, object],
    *,
    goals=(),
    xlabel: str,
    ylabel: str,
    title: str | None = None,
    size=(8.4, 3),
) -> Figure:
    """Paths (steps, walkers) side by side on common axes, each coloured by where it ends: above or below 0 (solid and dashed). `goals` are marked by lines."""
    fig, axes = figure(1, len(panels), size=size, sharex=True, sharey=True, squeeze=False)
    for ax, (name, lines) in zip(axes[0], panels.items(), strict=True):
        lines = _array(lines)
        for goal in goals:
            ax.axhline(goal, color="0.3", linestyle=":", linewidth=1)
        for up, colour, dash in ((True, COLOURS[0], "-"), (False, COLOURS[1], "--")):
            ax.plot(
                lines[:, (lines[-1] > 0) == up],
                color=colour,
                linestyle=dash,
                linewidth=0.9,
                alpha=0.75,
            )
        ax.set(title=name, xlabel=xlabel)
    axes[0, 0].set(ylabel=ylabel)
    fig.suptitle(title or "", fontsize=11)
    return fig


def bars(
    groups,
    series: dict[str, list[float]],
    *,
    ylabel: str,
    title: str | None = None,
    log: bool = False,
    form: str = "{:.3g}",
    size=(8, 3.2),
) -> Figure:
    """Bars side by side in named groups, `series[name][group]`, told apart by hatching too; the number stands on each bar."""
    fig, ax = figure(size=size)
    width = 0.8 / len(series)
    for i, ((name, values), hatch) in enumerate(
        zip(series.items(), ("", "///", "...", "xx"), strict=False)
    ):
        at = np.arange(len(groups)) + (i - (len(series) - 1) / 2) * width
        drawn = ax.bar(
            at, values, 0.92 * width, label=name, color=COLOURS[i], hatch=hatch, edgecolor="white"
        )
        ax.bar_label(drawn, [form.format(v) for v in values], fontsize=8, padding=2)
    ax.set(
        xticks=range(len(groups)),
        xticklabels=[str(g) for g in groups],
        ylabel=ylabel,
        title=title,
        yscale="log" if log else "linear",
    )
    ax.margins(y=0.12)
    ax.grid(axis="x", visible=False)
    ax.legend(
        frameon=False,
        loc="lower center",
        bbox_to_anchor=(0.5, 1.06 if title else 1.0),
        ncols=len(series),
    )
    return fig


def to_png(figure_or_image, *, dpi: int = DPI) -> bytes:
    """PNG bytes of a Figure, or of anything `picture` takes. The same input gives the same bytes. Figures full of noise, which no PNG packs, are reduced to 256 colours."""
    buffer = io.BytesIO()
    if isinstance(figure_or_image, Figure):
        with _DRAWING:
            figure_or_image.savefig(
                buffer, format="png", dpi=dpi, facecolor="white", metadata={"Software": None}
            )
        drawn = Image.open(buffer).convert(
            "RGB"
        )  # without the alpha channel, and packed harder: a third smaller
        buffer = io.BytesIO()
        drawn.save(buffer, "PNG", optimize=True)
        if len(buffer.getvalue()) > _HEAVY:
            buffer = io.BytesIO()
            drawn.quantize(256).save(buffer, "PNG", optimize=True)
    else:
        picture(figure_or_image).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def data_uri(figure_or_image) -> str:
    """An address for `<img src>` that holds the picture itself: PNG, or JPEG of quality 88 where that is smaller. Figures stay PNG, so that text stays sharp."""
    data, kind = to_png(figure_or_image), "png"
    if not isinstance(figure_or_image, Figure):
        buffer = io.BytesIO()
        picture(figure_or_image).save(buffer, "JPEG", quality=88, subsampling=0)
        if len(buffer.getvalue()) < len(data):
            data, kind = buffer.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def show(figure_or_image, alt: str, *, width: int | None = None, **options) -> None:
    """Display a picture with `alt`, one sentence that says what is to be seen, numbers included, for readers who cannot see it.

    The alt text is stored as the output's text/plain and in its metadata. Small pictures are shown at `width` pixels, 256 unless told."""
    from IPython.display import display

    if not (isinstance(alt, str) and alt.strip()):
        raise ValueError("show(picture, alt) needs a sentence that says what the picture shows.")
    meta = {"alt": alt}
    if width or (not isinstance(figure_or_image, Figure) and picture(figure_or_image).width < 256):
        meta["width"] = width or 256
    data = base64.b64encode(to_png(figure_or_image)).decode()
    display(
        {"image/png": data, "text/plain": alt}, metadata={"image/png": meta}, raw=True, **options
    )


def live():
    """A place on the page for a picture that changes: call what this gives like `show`, as often as there is news. The last picture stays."""
    name, calls = uuid.uuid4().hex, itertools.count()
    return lambda figure_or_image, alt: show(
        figure_or_image, alt, display_id=name, update=next(calls) > 0
    )

"""Figures that every chapter uses, and `show`, which puts one on the page with its alt text.

Each function returns a matplotlib Figure and calls no model. The figure says itself what is to be
seen: the sentence in `figure.alt`. What only one chapter draws stands in `sdlearn.chapters`.

Only `matplotlib.figure.Figure` is used, never pyplot: widget callbacks run in other threads, where
pyplot's hidden "current figure" goes wrong. Colours can be told apart without hue: lines have
dashes or markers too, signed numbers run from orange through white (0) to purple.
"""

from __future__ import annotations

import base64
import io
import itertools
import textwrap
import threading
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from cycler import cycler
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from matplotlib.ticker import LogLocator, NullLocator
from PIL import Image

if TYPE_CHECKING:  # this module draws what torch computed, and starts without it
    import torch

Numbers: TypeAlias = "np.ndarray | torch.Tensor | Sequence[Any]"
Picture: TypeAlias = "Image.Image | np.ndarray | torch.Tensor"

DPI = 100
# the colour-blind safe cycle of Okabe and Ito (2008); its yellow vanishes on white paper
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (3, 1)), "-")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
# bytes of a figure from which on 256 colours must do: noise would make a page of many megabytes
_HEAVY = 150_000
# matplotlib's fonts and maths text are shared: one figure is rendered at a time
_DRAWING = threading.Lock()


def figure(
    rows: int = 1, cols: int = 1, *, size: tuple[float, float] = (7, 3.4), **subplots: Any
) -> tuple[Figure, Any]:
    """A Figure in the series' style and its axes (one, or an array, as `Figure.subplots` gives).

    `size` is in inches, 100 pixels each.
    """
    fig = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = fig.subplots(rows, cols, **subplots)
    for ax in np.ravel(axes):
        ax.set_prop_cycle(cycler(color=COLOURS, linestyle=DASHES))
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(color="0.9", linewidth=0.8)
        ax.set_axisbelow(True)
    return fig, axes


def lines(
    x: Numbers,
    series: dict[str, Numbers],
    *,
    xlabel: str,
    ylabel: str,
    title: str | None = None,
    log: str = "",
    size: tuple[float, float] = (7, 3.4),
    marks: bool | None = None,
) -> Figure:
    """Named lines over one `x`, each with its own colour and dash; markers where points are few.

    `log` is "", "x", "y" or "xy".
    """
    fig, ax = figure(size=size)
    at, marks = to_array(x), len(x) <= 16 if marks is None else marks
    for (name, y), marker in zip(series.items(), itertools.cycle(MARKERS), strict=False):
        ax.plot(at, to_array(y), label=name, marker=marker if marks else None, markersize=5)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    for axis in log:  # only where asked: setting a scale would wipe out an axis of names
        ax.set(**{f"{axis}scale": "log"})
    if "y" in log:
        plain_log(ax)
    if not log and at.dtype.kind in "iu":
        ax.xaxis.get_major_locator().set_params(integer=True)
    if "x" in log and len(x) <= 10:  # few points: their own values instead of powers of ten
        ax.set_xticks(at, [f"{v:g}" for v in x])
        ax.xaxis.set_minor_locator(NullLocator())
    if len(series) > 1:
        ax.legend(frameon=False)
    ends = [f"{name} from {_said(y, 0)} to {_said(y, -1)}" for name, y in series.items()]
    fig.alt = _sentence(title, f"{ylabel} over {xlabel}", "; ".join(ends))
    return fig


def _said(values: Numbers, index: int) -> str:
    value = to_array(values)[index]
    return f"{value:.3g}" if np.issubdtype(type(value), np.number) else str(value)


def _sentence(*parts: str | None) -> str:
    """An alt text from its parts: titles and labels, without line breaks."""
    text = ": ".join(" ".join(part.split()) for part in parts if part)
    return text if text.endswith(".") else f"{text}."


def to_array(values: Picture | Numbers) -> np.ndarray:
    """A numpy array from a picture, an array, or a tensor of any device, precision, gradient."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values
    return np.asarray(values)


def _plane(values: Numbers) -> np.ndarray:
    """An (H, W) array of floats from one that may have leading axes of length 1."""
    array = to_array(values).astype(np.float64)
    return array.reshape(array.shape[-2:])


def picture(image: Picture) -> Image.Image:
    """A PIL image from one, or from an (H, W) or (H, W, 3) array or tensor.

    Integers run from 0 to 255, floats from 0 to 1; what lies beyond is clipped.

    Raises:
        ValueError: for another shape.
    """
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    array = to_array(image)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[-1] not in (3, 4)):
        raise ValueError(
            f"A picture is (height, width) or (height, width, 3); this has the shape {array.shape}."
            " For a (3, height, width) tensor use compression.to_images."
        )
    if array.dtype.kind == "f":
        array = (array.clip(0, 1) * 255).round()
    return Image.fromarray(array.clip(0, 255).astype(np.uint8)).convert("RGB")


def coloured(array: Numbers, *, limit: float | None = None, cmap: str = "cividis") -> Image.Image:
    """An (H, W) array as a picture of the same size, for scrubbers.

    With `limit` the numbers are signed (orange, white, purple); else `cmap` runs from the least to
    the largest value.
    """
    array = _plane(array)
    low, high = (-limit, limit) if limit else (array.min(), array.max())
    shares = (array - low) / ((high - low) or 1.0)
    return picture(colormaps["PuOr" if limit else cmap](shares)[..., :3])


def overlay(image: Picture, heat: Numbers, *, dim: float = 0.4) -> Image.Image:
    """A picture with an (h, w) map of weights laid over it.

    In full colour where the map is highest, grey and down to `dim` of its light where it is lowest.
    """
    base = picture(image)
    heat = _plane(heat)
    heat = (heat - heat.min()) / ((heat.max() - heat.min()) or 1.0)
    mask = Image.fromarray((heat * 255).round().astype(np.uint8))
    dark = base.convert("L").point(lambda light: light * dim).convert("RGB")
    return Image.composite(base, dark, mask.resize(base.size, Image.Resampling.BICUBIC))


# ------------------------------------------------------------------------- pictures beside pictures


def sheet(pictures: Iterable[Picture], columns: int | None = None, *, gap: int = 8) -> Image.Image:
    """Pictures pixel for pixel on one white sheet, row by row; all in one row unless told.

    A place is as large as the largest picture; `gap` pixels lie between places.

    Raises:
        ValueError: without a picture.
    """
    images = [picture(image) for image in pictures]
    if not images:
        raise ValueError("A sheet needs at least one picture.")
    columns = columns or len(images)
    wide, high = max(i.width for i in images), max(i.height for i in images)
    rows = -(-len(images) // columns)
    size = (columns * (wide + gap) - gap, rows * (high + gap) - gap)
    whole = Image.new("RGB", size, "white")
    for k, image in enumerate(images):
        whole.paste(image, (k % columns * (wide + gap), k // columns * (high + gap)))
    return whole


def _wrapped(text: object, letters: int) -> str:
    """Break lines that are too long, and keep the breaks that are there."""
    return "\n".join(textwrap.fill(line, letters) for line in str(text).split("\n"))


class _Table:
    """Where pictures of one size stand in a figure with labels, in inches from its upper left."""

    def __init__(self, rows: list, sides: list[str], heads: list[list[str]], *, top: float):
        self.cell, self.gap = 0.0, 0.06
        self.rows, self.sides, self.heads, self.top = rows, sides, heads, top
        longest = [len(part) for text in sides for part in text.split("\n")]
        self.left = 0.3 + 0.07 * max(longest) if longest else 0.04
        lines = [max((t.count("\n") + 1 for t in line if t), default=0) for line in heads]
        self.head = [0.06 + 0.16 * n for n in lines] + [0.06] * len(rows)

    def size(self, cell: float) -> tuple[float, float]:
        """Width and height of the figure when a picture is `cell` inches wide."""
        self.cell = cell
        width = self.left + max(map(len, self.rows)) * (cell + self.gap)
        return width, self.top + len(self.rows) * cell + sum(self.head[: len(self.rows)]) + 0.04

    def place(self, r: int, c: int) -> tuple[float, float]:
        """The upper left corner of the picture in row `r`, column `c`."""
        down = self.top + sum(self.head[: r + 1]) + r * self.cell
        return self.left + c * (self.cell + self.gap), down


def grid(
    rows: Iterable[Iterable[Picture | None]],
    row_labels: Sequence | None = None,
    col_labels: Sequence | None = None,
    *,
    title: str | None = None,
    cell: float | None = None,
    cmap: str = "cividis",
    limit: float | None = None,
) -> Figure:
    """Pictures in rows and columns, unresampled as far as they fit.

    Args:
        rows: `rows[r][c]`: a picture, an (H, W) array drawn through `cmap`, or None for a blank.
        row_labels: stand on the left.
        col_labels: stand above the first row; or `[r][c]`, above each picture.
        title: stands above all.
        cell: width of a picture in inches.
        cmap: matplotlib's name of the colours for (H, W) arrays.
        limit: makes arrays signed: orange to purple, symmetric from -limit to limit.
    """
    rows = [list(row) for row in rows]
    cell = cell or min(1.28, 9.0 / max(map(len, rows)))
    nested = bool(col_labels) and isinstance(col_labels[0], (list, tuple))
    letters = max(6, int(cell * 13))  # about 13 letters of 9 points fit in an inch
    lines = col_labels if nested else [col_labels or []]
    heads = [[_wrapped(text, letters) for text in line] for line in lines]
    sides = [_wrapped(text, 22) for text in row_labels or []]
    table = _Table(rows, sides, heads, top=0.34 if title else 0.0)
    width, height = table.size(cell)
    fig = Figure(figsize=(width, height), dpi=DPI)
    if title:
        fig.text(0.5, 1 - 0.08 / height, title, ha="center", va="top", fontsize=11)
    colours = dict(cmap="PuOr" if limit else cmap, vmin=-limit if limit else None, vmax=limit)
    for r, row in enumerate(rows):
        for c, image in enumerate(row):
            if image is None:
                continue
            x, y = table.place(r, c)
            box = (x / width, 1 - (y + cell) / height, cell / width, cell / height)
            ax = fig.add_axes(box)
            _draw_cell(ax, image, cell, colours)
            if r < len(heads) and c < len(heads[r]):
                ax.set_title(heads[r][c], fontsize=9, pad=3)
        if r < len(sides):
            y = 1 - (table.place(r, 0)[1] + cell / 2) / height
            fig.text((table.left - 0.07) / width, y, sides[r], ha="right", va="center", fontsize=9)
    fig.alt = _grid_alt(rows, title, row_labels, col_labels, nested)
    return fig


def _draw_cell(ax: Any, image: Picture, cell: float, colours: dict) -> None:
    array = to_array(picture(image) if isinstance(image, Image.Image) else image)
    array = array if array.shape[-1] in (3, 4) and array.ndim == 3 else _plane(array)
    # whole multiples are not smoothed: matplotlib would blur, or not, by rounding of the place
    whole = round(cell * DPI) % max(array.shape[:2]) == 0
    ax.imshow(array, interpolation="nearest" if whole else None, **colours)
    ax.axis("off")


def _grid_alt(rows, title, row_labels, col_labels, nested: bool) -> str:
    count = sum(image is not None for row in rows for image in row)
    text = f"{count} picture{'s' * (count != 1)}"
    if nested:
        heads = [label for line in col_labels for label in line]
    else:
        heads = list(col_labels or [])
    named = [str(label) for label in heads if str(label).strip()]
    if row_labels:
        text += f" in {len(rows)} rows, {', '.join(map(str, row_labels))}"
        named = [f"columns {', '.join(named)}"] if named else []
    return _sentence(title, text, ", ".join(named) or None)


def filmstrip(
    images: Iterable[Picture],
    labels: Iterable | None = None,
    *,
    columns: int | None = None,
    **options: Any,
) -> Figure:
    """Pictures side by side with a label above each; the static twin of a scrubber.

    `columns` breaks the strip into several rows; `options` are those of :func:`grid`.

    Raises:
        ValueError: without a picture, or with another number of labels than pictures.
    """
    images = list(images)
    labels = [str(label) for label in labels or [""] * len(images)]
    if not images or len(labels) != len(images):
        raise ValueError(
            "A filmstrip needs at least one picture and a label for each; "
            f"got {len(images)} pictures and {len(labels)} labels."
        )
    step = columns or len(images)
    rows, heads = (
        [part[i : i + step] for i in range(0, len(images), step)] for part in (images, labels)
    )
    return grid(rows, None, heads if any(labels) else None, **options)


def every(items: Iterable, count: int = 7) -> list:
    """About `count` of the items, evenly spread, the first and the last always among them."""
    items = list(items)
    places = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [items[i] for i in places.round().astype(int)]


# ---------------------------------------------------------------------------- numbers as colours


def signed(
    ax: Any,
    array: Numbers,
    *,
    limit: float | None = None,
    bar: bool = True,
    label: str | None = None,
) -> Any:
    """Draw an (H, W) array of signed numbers (a latent channel, noise) on `ax`.

    PuOr, symmetric about 0, with numbers on its colour bar. Returns matplotlib's image.
    """
    array = _plane(array)
    limit = limit or float(np.abs(array).max()) or 1.0
    drawn = ax.imshow(array, cmap="PuOr", vmin=-limit, vmax=limit, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.grid(False)
    ax.spines[:].set_visible(True)
    if bar:
        ax.figure.colorbar(drawn, ax=ax, label=label, shrink=0.9)
    return drawn


def matrix(
    values: Numbers,
    rows: Sequence[str | Picture],
    cols: Sequence[str | Picture],
    *,
    title: str | None = None,
    xlabel: str = "",
    ylabel: str = "",
    digits: int | None = None,
    limits: tuple[float | None, float | None] = (None, None),
    cell: float = 0.5,
    label: str = "",
) -> Figure:
    """An (R, C) table of numbers as colours, a label or a small picture for each row and column.

    `digits` writes the numbers too; NaN stays white. `cell` is in inches. `limits` that are
    symmetric about 0 mean signed numbers: orange to purple. `label` names the colour bar.
    """
    values = to_array(values)
    rows = [_wrapped(n, 40) if isinstance(n, str) else n for n in rows]
    side, foot = (0.35 + _room(names, cell) for names in (rows, cols))
    width, height = values.shape[1] * cell, values.shape[0] * cell
    total = (side + width + 1.1, foot + height + (0.4 if title else 0.12))
    fig = Figure(figsize=total, dpi=DPI)
    down, tall = foot / total[1], height / total[1]
    ax = fig.add_axes((side / total[0], down, width / total[0], tall))
    signs = limits[0] is not None and limits[0] == -(limits[1] or 0)
    low, high = limits
    colours = dict(cmap="PuOr" if signs else "cividis", vmin=low, vmax=high)
    drawn = ax.imshow(values, aspect="auto", **colours)
    bar = fig.add_axes(((side + width + 0.15) / total[0], down, 0.15 / total[0], tall))
    fig.colorbar(drawn, cax=bar, label=label)
    _name_places(ax, rows, cols, cell)
    if digits is not None:
        _write_numbers(ax, values, digits, drawn.get_clim(), signs)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.set_title(title or "", fontsize=11)
    fig.alt = _sentence(title, f"a table of {len(values)} x {values.shape[1]} numbers {label}",
                        f"from {np.nanmin(values):.2g} to {np.nanmax(values):.2g}")  # fmt: skip
    return fig


def _room(names: Sequence, cell: float) -> float:
    """Inches that the longest name takes, or a picture."""
    said = [0.075 * len(part) for n in names if isinstance(n, str) for part in n.split("\n")]
    return max(said, default=cell)


def _name_places(ax: Any, rows: Sequence, cols: Sequence, cell: float) -> None:
    for names, axis in ((rows, ax.yaxis), (cols, ax.xaxis)):
        texts = [name if isinstance(name, str) else "" for name in names]
        axis.set_ticks(range(len(names)), texts, fontsize=9)
    ax.tick_params(length=0)
    ax.tick_params(axis="x", rotation=90)
    away = -36 * cell - 3
    for i, image in enumerate(cols):
        if not isinstance(image, str):
            ax.add_artist(thumbnail(image, (i, len(rows) - 0.5), cell, shift=(0, away)))
    for i, image in enumerate(rows):
        if not isinstance(image, str):
            ax.add_artist(thumbnail(image, (-0.5, i), cell, shift=(away, 0)))


def _write_numbers(ax: Any, values: np.ndarray, digits: int, clim: tuple, signs: bool) -> None:
    low, high = clim
    for (r, c), v in np.ndenumerate(values):
        if np.isfinite(v):
            dark = abs(v) > 0.6 * high if signs else v < (low + high) / 2
            look = dict(ha="center", va="center", fontsize=7.5, color="white" if dark else "black")
            ax.text(c, r, f"{v:.{digits}f}", **look)


def thumbnail(
    image: Picture, xy: tuple, inches: float, *, shift: tuple[float, float] = (0, 0)
) -> AnnotationBbox:
    """A small picture at `xy` (data), `shift` points away from it, for `ax.add_artist`."""
    image = picture(image)
    zoom = 0.92 * inches * 72 / image.width
    small = OffsetImage(np.asarray(image), zoom=zoom, interpolation="lanczos")
    place = dict(xybox=shift, boxcoords="offset points", frameon=False, pad=0)
    return AnnotationBbox(small, xy, annotation_clip=False, **place)


def plain_log(ax: Any) -> None:
    """1, 2, 5, 10 instead of powers of ten, on a logarithmic y axis of up to three decades."""
    low, high = ax.get_ylim()
    if high < 1000 * low:
        subs = (1, 2, 5) if high > 10 * low else (1, 1.5, 2, 3, 5, 7)
        ax.yaxis.set_major_locator(LogLocator(subs=subs))
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_locator(NullLocator())


def bars(
    groups: Sequence,
    series: dict[str, Sequence[float]],
    *,
    ylabel: str,
    title: str | None = None,
    log: bool = False,
    form: str = "{:.3g}",
    size: tuple[float, float] = (8, 3.2),
) -> Figure:
    """Bars side by side in named groups, `series[name][group]`, told apart by hatching too.

    The number stands on each bar, written by `form`.
    """
    fig, ax = figure(size=size)
    width = 0.8 / len(series)
    hatches, said = ("", "///", "...", "xx"), []
    for i, ((name, values), hatch) in enumerate(zip(series.items(), hatches, strict=False)):
        at = np.arange(len(groups)) + (i - (len(series) - 1) / 2) * width
        look = dict(label=name, color=COLOURS[i], hatch=hatch, edgecolor="white")
        drawn = ax.bar(at, values, 0.92 * width, **look)
        texts = [form.format(v) for v in values]
        ax.bar_label(drawn, texts, fontsize=8, padding=2)
        said.append(f"{name} " + ", ".join(f"{g} {t}" for g, t in zip(groups, texts, strict=True)))
    names = [str(group) for group in groups]
    ax.set(xticks=range(len(groups)), xticklabels=names, ylabel=ylabel, title=title)
    ax.set_yscale("log" if log else "linear")
    ax.margins(y=0.12)
    ax.grid(axis="x", visible=False)
    above = (0.5, 1.06 if title else 1.0)
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=above, ncols=len(series))
    fig.alt = _sentence(title, ylabel, "; ".join(said))
    return fig


# --------------------------------------------------------------------------------- onto the page


def to_png(figure_or_image: Figure | Picture, *, dpi: int = DPI, packed: bool = True) -> bytes:
    """PNG bytes of a Figure, or of anything `picture` takes. The same input, the same bytes.

    `packed` takes its time to make them few: right for a page that is kept, wrong for a picture
    that is gone at the next touch of a slider. Figures full of noise are reduced to 256 colours.
    """
    if not isinstance(figure_or_image, Figure):
        return _png(picture(figure_or_image), packed)
    buffer = io.BytesIO()
    kind = dict(format="png", metadata={"Software": None}, pil_kwargs={"compress_level": 1})
    with _DRAWING:
        figure_or_image.savefig(buffer, dpi=dpi, facecolor="white", **kind)
    if not packed:
        return buffer.getvalue()
    drawn = Image.open(buffer).convert("RGB")  # without the alpha channel: a third smaller
    data = _png(drawn, packed)
    return _png(_few_colours(drawn), packed) if len(data) > _HEAVY else data


def _few_colours(image: Image.Image) -> Image.Image:
    """The image in 256 colours. Rare ones keep their place: Pillow's own choice counts pixels only
    and paints a small purple flower gray; k-means, on a quarter of the pixels, mends it."""
    small = image.resize((image.width // 2, image.height // 2), Image.Resampling.NEAREST)
    return image.quantize(palette=small.quantize(256, kmeans=1), dither=Image.Dither.NONE)


def _png(image: Image.Image, packed: bool) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **(dict(optimize=True) if packed else dict(compress_level=1)))
    return buffer.getvalue()


def data_uri(figure_or_image: Figure | Picture, *, packed: bool = True) -> str:
    """An address for `<img src>` that holds the picture itself.

    PNG, or JPEG of quality 88 where that is smaller. Figures stay PNG, so that text stays sharp.
    `packed` as in :func:`to_png`; a figure that is not has two pixels for each one of the page, for
    screens that show so many.
    """
    dpi = DPI if packed else 2 * DPI
    data, kind = to_png(figure_or_image, packed=packed, dpi=dpi), "png"
    if packed and not isinstance(figure_or_image, Figure):
        buffer = io.BytesIO()
        picture(figure_or_image).save(buffer, "JPEG", quality=88, subsampling=0)
        if len(buffer.getvalue()) < len(data):
            data, kind = buffer.getvalue(), "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def show(
    figure_or_image: Figure | Picture,
    alt: str | None = None,
    *,
    width: int | None = None,
    **options: Any,
) -> None:
    """Display a picture with `alt`, a sentence for readers who cannot see it, numbers included.

    Figures of this package bring their own; one that is given takes its place. It is stored as the
    output's text/plain and in its metadata. Small pictures are shown at `width` pixels, else 256.

    Raises:
        ValueError: if there is no such sentence.
    """
    from IPython.display import display

    alt = getattr(figure_or_image, "alt", None) if alt is None else alt
    if not (isinstance(alt, str) and alt.strip()):
        raise ValueError("show(picture, alt) needs a sentence that says what the picture shows.")
    meta: dict[str, Any] = {"alt": alt}
    if isinstance(figure_or_image, Figure):  # twice the pixels, so that fine screens show all
        meta["width"] = width or round(figure_or_image.get_figwidth() * DPI)
    elif width or picture(figure_or_image).width < 256:
        meta["width"] = width or 256
    data = to_png(figure_or_image, dpi=2 * DPI)
    if len(data) > _HEAVY:  # full of noise or detail, which a fine screen shows no better
        data = to_png(figure_or_image)
    bundle = {"image/png": base64.b64encode(data).decode(), "text/plain": alt}
    display(bundle, metadata={"image/png": meta}, raw=True, **options)


def live() -> Callable[..., None]:
    """A place on the page for a picture that changes; the last picture stays.

    Call what this gives like `show`, as often as there is news.
    """
    name, calls = uuid.uuid4().hex, itertools.count()

    def draw(figure_or_image: Figure | Picture, alt: str | None = None) -> None:
        show(figure_or_image, alt, display_id=name, update=next(calls) > 0)

    return draw

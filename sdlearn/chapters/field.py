"""Clouds of points in a plane, and a small network that learns the arrows which lead back to them.

Chapters 02 (the score), 05 (guidance) and 08 (straight paths) use it: what happens to a latent of
a thousand numbers can be seen here, with two. The loss and the way back stand in the notebooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from sdlearn.plots import COLOURS, Numbers, figure, to_array

LIMIT = 2.9  # of the axes: noise of standard deviation 1 rarely lies beyond


def cloud(name: str, n: int = 2000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A cloud of points, centered and scaled to a standard deviation of 1.

    Args:
        name: "two moons", "rings", or any short text, whose letters are filled with points.
        n: how many points.
        seed: of chance.

    Returns:
        The points (n, 2) and to which moon, ring or letter each belongs (n,), from 0.

    Raises:
        ValueError: for fewer than two points, or a text without a letter.
    """
    if n < 2:
        raise ValueError(f"A cloud has at least two points; got n = {n}.")
    rng = np.random.default_rng(seed)
    if name not in ("two moons", "rings"):
        return _letters(name, n, rng)
    label, angle = rng.integers(0, 2, n), rng.uniform(0, np.pi, n)
    if name == "two moons":
        x, y = np.cos(angle), np.sin(angle)
        points = np.stack([np.where(label, 1 - x, x), np.where(label, 0.5 - y, y)], 1)
        return _scaled(points + rng.normal(0, 0.07, (n, 2)), label)
    radius = np.where(label, 1.0, 0.45) + rng.normal(0, 0.035, n)
    points = radius[:, None] * np.stack([np.cos(2 * angle), np.sin(2 * angle)], 1)
    return _scaled(points, label)


def drawn(mask: Numbers, n: int = 2000, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A cloud where an (H, W) `mask` is set, as `MaskCanvas.value` gives it; as :func:`cloud`.

    Raises:
        ValueError: where less than two places are set.
    """
    mask = to_array(mask) > 0
    if mask.ndim != 2 or mask.sum() < 2:
        raise ValueError("Draw a shape first: at least two places of the canvas must be set.")
    return _inside(mask, np.zeros(mask.shape, int), n, np.random.default_rng(seed))


def _letters(text: str, n: int, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    font = ImageFont.load_default(120)
    masks, labels, at = [], [], 0
    for letter in text.strip():
        left, _, right, _ = font.getbbox(letter)
        sheet = Image.new("L", (int(right - left) + 16, 180))
        ImageDraw.Draw(sheet).text((8 - left, 20), letter, 255, font, stroke_width=2)
        masks.append(np.asarray(sheet) > 127)
        labels.append(np.full(masks[-1].shape, at))
        at += bool(masks[-1].any())
    if not at:
        raise ValueError(
            f'A cloud is "two moons", "rings" or a short text like "SD"; got {text!r}.'
        )
    return _inside(np.hstack(masks), np.hstack(labels), n, rng)


def _inside(mask, labels, n: int, rng) -> tuple[torch.Tensor, torch.Tensor]:
    """Points evenly within what is set of a mask, whose row 0 is on top."""
    places = np.argwhere(mask)[rng.integers(0, mask.sum(), n)]
    points = (places + rng.uniform(0, 1, (n, 2)))[:, ::-1] * [1, -1]
    return _scaled(points, labels[tuple(places.T)])


def _scaled(points: np.ndarray, label: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    points = points - points.mean(0)
    points = torch.tensor(points / points.std(), dtype=torch.float32)
    return points, torch.tensor(label, dtype=torch.long)


class FieldNet(nn.Module):
    """A network of three hidden layers that sees a point and a time and gives an arrow.

    It sees waves of both as well (Tancik et al. 2020): from bare coordinates small networks learn
    only smooth fields.

    Args:
        classes: with labels 0 to classes - 1; without a label the network is asked in general.
        width: of the hidden layers.
    """

    def __init__(self, classes: int = 0, width: int = 128):
        super().__init__()
        self.classes = classes
        self.register_buffer("space", 1.5 * 2.0 ** torch.arange(3))
        self.register_buffer("beats", torch.pi * 2.0 ** torch.arange(-1, 5))
        self.first = nn.Linear(2 + 4 * len(self.space) + 2 * len(self.beats), width)
        self.of_label = nn.Embedding(classes + 1, width)
        hidden = [nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()]
        self.rest = nn.Sequential(*hidden, nn.Linear(width, 2))

    def forward(
        self, x: torch.Tensor, time: torch.Tensor | float, label: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Arrows (n, 2) at points x (n, 2); time (n,) or one number, from 0 to 1; label (n,)."""
        time = torch.as_tensor(time, dtype=x.dtype).expand(len(x))[:, None]
        if label is None:
            label = torch.full((len(x),), self.classes)
        waves = torch.cat([(x[:, :, None] * self.space).flatten(1), self.beats * time], 1)
        seen = torch.cat([x, waves.sin(), waves.cos()], 1)
        return self.rest(self.first(seen) + self.of_label(label))


def train_field(
    net: nn.Module, loss: Callable[[], torch.Tensor], steps: int = 1500, *, lr: float = 6e-3
) -> list[float]:
    """Train `net` in place on what `loss()` gives at each step: a fresh batch each time.

    AdamW, with a learning rate that falls to nothing along a cosine. Returns the losses, one per
    step. Seed chance with `torch.manual_seed` before the network is made.
    """
    optimizer = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=0.0)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    losses = []
    for _ in range(steps):
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        falling.step()
        losses.append(value.item())
    return losses


def lattice(n: int = 17, limit: float = LIMIT * 0.9) -> torch.Tensor:
    """(n * n, 2) points of an even grid, where arrows stand."""
    line = torch.linspace(-limit, limit, n)
    return torch.cartesian_prod(line, line)


def panels(
    titles: Iterable[str],
    *,
    points: Iterable[Numbers | None] | None = None,
    arrows: Iterable[Numbers | None] | None = None,
    paths: Iterable[Numbers | None] | None = None,
    labels: Numbers | None = None,
    size: float = 2.5,
) -> Figure:
    """Planes side by side.

    Args:
        titles: one per panel.
        points: (n, 2) per panel, small dots.
        arrows: (m, 4) per panel: where each stands and where it points, colored by its length.
        paths: (steps, k, 2) per panel: lines from a ring to a filled dot.
        labels: (n,) colors the points by moon, ring or letter.
        size: of a panel in inches.
    """
    titles = list(titles)
    fig, axes = figure(1, len(titles), size=(size * len(titles), size + 0.3), squeeze=False)
    layers: dict[str, list[Any]] = {
        name: list(given) if given is not None else [None] * len(titles)
        for name, given in (("points", points), ("arrows", arrows), ("paths", paths))
    }
    for i, (ax, title) in enumerate(zip(axes[0], titles, strict=True)):
        ax.grid(False)
        ax.spines[:].set_visible(True)
        ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), xticks=[], yticks=[], aspect="equal")
        ax.set_title(title, fontsize=10)
        if layers["points"][i] is not None:
            _dots(ax, to_array(layers["points"][i]), labels)
        if layers["arrows"][i] is not None:
            _arrows(ax, to_array(layers["arrows"][i]))
        if layers["paths"][i] is not None:
            _paths(ax, to_array(layers["paths"][i]))
    each = (_said(title, i, layers) for i, title in enumerate(titles))
    fig.alt = f"{len(titles)} planes. {'; '.join(each)}."
    return fig


def _said(title: str, i: int, layers: dict[str, list]) -> str:
    """What a panel shows, in words and numbers."""
    parts = []
    if (given := layers["points"][i]) is not None:
        spread = to_array(given).std(0)
        parts.append(f"{len(given)} points, {spread[0]:.2f} wide and {spread[1]:.2f} high")
    if (given := layers["arrows"][i]) is not None:
        where = to_array(given)
        inward = (where[:, :2] * where[:, 2:]).sum(1) < 0
        parts.append(f"{len(where)} arrows, {inward.mean():.0%} of them toward the middle")
    if (given := layers["paths"][i]) is not None:
        length = np.linalg.norm(np.diff(to_array(given), axis=0), axis=-1).sum(0).mean()
        parts.append(f"{to_array(given).shape[1]} paths of length {length:.1f}")
    return f"{' '.join(title.split())}: {', '.join(parts)}"


def _dots(ax: Any, xy: np.ndarray, labels: Numbers | None) -> None:
    colour = "0.45" if labels is None else [COLOURS[k % len(COLOURS)] for k in to_array(labels)]
    ax.scatter(*xy.T, s=3, c=colour, linewidths=0, alpha=0.6, rasterized=True)


def _arrows(ax: Any, where: np.ndarray) -> None:
    x, y, u, v = where.T
    length = np.hypot(u, v)
    shown = np.minimum(length, 1.6) / np.maximum(length, 1e-9)  # the longest would hide the others
    look = dict(angles="xy", scale_units="xy", scale=4.2, width=0.006, cmap="viridis_r")
    ax.quiver(x, y, u * shown, v * shown, length, clim=(0, 3), **look)


def _paths(ax: Any, paths: np.ndarray) -> None:
    for k in range(paths.shape[1]):
        colour = COLOURS[k % len(COLOURS)]
        ax.plot(*paths[:, k].T, color=colour, linestyle="-", linewidth=1.2)
        ax.plot(
            *paths[0, k],
            "o",
            color=colour,
            fillstyle="none",
            markersize=7,
            markeredgewidth=2,
            zorder=3,
        )
        ax.plot(*paths[-1, k], "o", color=colour, markersize=7, markeredgecolor="black", zorder=4)

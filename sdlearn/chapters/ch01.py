"""Chapter 01, Latent compression: its figures, the race of formats, and the exercises."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from sdlearn import compression, hub, world
from sdlearn.checks import close, exercise
from sdlearn.plots import COLOURS, Numbers, figure, grid, picture, signed, to_array


def latent_channels(
    latents: Numbers, *, title: str | None = None, limit: float | None = None
) -> Figure:
    """The channels of one latent, (C, h, w) or (1, C, h, w), on one symmetric colour scale."""
    array = to_array(latents)
    array = array[0] if array.ndim == 4 else array
    limit = limit or float(np.abs(array).max()) or 1.0
    fig, axes = figure(1, len(array), size=(2.0 * len(array) + 0.9, 2.5), squeeze=False)
    for i, ax in enumerate(axes[0]):
        drawn = signed(ax, array[i], limit=limit, bar=False)
        ax.set_title(f"channel {i}", fontsize=10)
    fig.colorbar(drawn, ax=axes, shrink=0.85)
    if title:
        fig.suptitle(title, fontsize=12)
    means = ", ".join(f"{channel.mean():.2f}" for channel in array)
    fig.alt = (
        f"{title or 'A latent'}: its {len(array)} channels of {array.shape[1]} x {array.shape[2]} "
        f"numbers, orange below 0 and purple above; their means are {means}."
    )
    return fig


def copies_of_points(points: torch.Tensor, copies: dict[str, torch.Tensor]) -> Figure:
    """Points (N, 2) of a plane, and beside each its copy: a panel for each way of copying."""
    fig, axes = figure(1, len(copies), size=(3.2 * len(copies), 3.4), squeeze=False)
    total, said = (points - points.mean(0)).square().sum(), []
    for ax, (name, copy) in zip(axes[0], copies.items(), strict=True):
        lost = (points - copy).square().sum() / total
        for pair in torch.stack([points, copy], 1):
            ax.plot(*to_array(pair).T, color="0.75", linewidth=0.8, linestyle="-")
        look = dict(linestyle="", markersize=4)
        ax.plot(*to_array(points).T, marker="o", color=COLOURS[0], label="points", **look)
        ax.plot(*to_array(copy).T, marker="x", color=COLOURS[1], label="copies", **look)
        ax.set(aspect="equal", xticks=[], yticks=[], title=f"{name}, {lost:.0%} lost")
        said.append(f"{name} loses {lost:.0%}")
    axes[0, -1].legend(loc="center", frameon=False)
    fig.alt = f"{len(points)} points of a plane and their copies: {', '.join(said)}."
    return fig


@torch.inference_mode()
def feature_maps(pipe: Any, image: Any) -> dict[str, torch.Tensor]:
    """What each stage of the encoder makes of one picture: name -> (channels, height, width),
    float32 on the CPU, from the first layer to the last."""
    encoder, maps, hooks = pipe.vae.encoder, {}, []
    blocks = {f"block {i}": block for i, block in enumerate(encoder.down_blocks, 1)}
    stages = {
        "first layer": encoder.conv_in,
        **blocks,
        "middle": encoder.mid_block,
        "last layer": encoder.conv_out,
    }

    def keep(name: str) -> Callable:
        def hook(_module: Any, _args: Any, out: torch.Tensor) -> None:
            maps[name] = out[0].float().cpu().clone()

        return hook

    with hub.LOCK:  # what other threads encode is not kept
        try:
            for name, stage in stages.items():
                hooks.append(stage.register_forward_hook(keep(name)))
            compression.encode_image(pipe, image)
        finally:
            for hook in hooks:
                hook.remove()
    return maps


def different(maps: torch.Tensor, count: int = 6) -> torch.Tensor:
    """Of the maps (C, h, w) of a stage `count` that repeat each other little: first the one that
    varies most, then each time the one least correlated with any of those already picked."""
    flat = maps.flatten(1)
    alike = torch.corrcoef(flat).abs().nan_to_num(1)  # an even map shows nothing new
    picked = [int(flat.var(1).argmax())]
    while len(picked) < min(count, len(maps)):
        nearest = alike[picked].amax(0)
        nearest[picked] = 2  # more than any correlation: no map twice
        picked.append(int(nearest.argmin()))
    return maps[picked]


def beside(pictures: list[Image.Image], copies: list[Image.Image]) -> Figure:
    """Pictures, their copies with PSNR, and four times the difference."""
    pairs = list(zip(pictures, copies, strict=False))
    apart = [np.abs(np.float32(a) - np.float32(b)).mean(2) / 64 for a, b in pairs]
    labels = [f"{compression.psnr(a, b):.1f} dB" for a, b in pairs]
    rows = [[a for a, _ in pairs], [b for _, b in pairs], [picture(d) for d in apart]]
    names = ["picture", "decoded from its latent", "difference x 4"]
    return grid(rows, names, [[], labels, []])


def with_psnr(
    original: Image.Image, rows: dict[str, list[Image.Image]], strengths: list[float]
) -> Figure:
    """Named rows of damaged copies of a picture, over each the strength and its PSNR."""
    labels = [
        [
            f"s = {s}: {compression.psnr(original, p):.1f} dB"
            for s, p in zip(strengths, row, strict=True)
        ]
        for row in rows.values()
    ]
    return grid(list(rows.values()), list(rows), labels, cell=1.25)


def patch_copies(
    pca: Callable, learn: list[Image.Image], test: list[Image.Image], k: int, factor: int
) -> list[Image.Image]:
    """Copies of `test` that keep `k` numbers of each patch of `factor` x `factor` pixels.

    Args:
        pca: (N, D) -> mean (D,), variances (D,), directions (D, D), largest first.
        learn: pictures to which PCA is fitted.
        test: pictures to copy.
        k: numbers kept per patch.
        factor: side of a patch in pixels.
    """
    known, new = (
        torch.nn.functional.pixel_unshuffle(compression.to_tensor(p), factor).movedim(1, -1)
        for p in (learn, test)
    )
    mean, _, directions = pca(known.flatten(0, 2))
    code = (new - mean) @ directions[:, :k]
    patches = (code @ directions[:, :k].T + mean).movedim(-1, 1)
    return compression.to_images(torch.nn.functional.pixel_shuffle(patches, factor))


def _file(image: Image.Image, kind: str, **options: int) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file


def png_bytes(pictures: list[Image.Image]) -> float:
    """Bytes of a lossless PNG, on average."""
    return float(np.mean([len(_file(p, "PNG", optimize=True).getvalue()) for p in pictures]))


def fitted(image: Image.Image, kind: str, max_bytes: int) -> Image.Image:
    """The best copy of a picture that a file format gives in `max_bytes`.

    The whole file counts for WebP and PNG; for JPEG what :func:`compression.jpeg` counts.

    Args:
        image: to be stored.
        kind: "JPEG" and "WebP", at the best quality that fits, or "PNG, smaller": the largest
            smaller picture that fits, brought back to the size of `image`.
        max_bytes: what the file may take.

    Raises:
        ValueError: for another kind, or where nothing fits.
    """
    if kind == "JPEG":
        return compression.jpeg(image, max_bytes)[0]
    if kind not in ("WebP", "PNG, smaller"):
        raise ValueError(f"Unknown kind {kind!r}: choose JPEG, WebP or PNG, smaller.")
    best, low, high = None, 1, 100 if kind == "WebP" else image.width
    while low <= high:  # size grows with quality, and with the side: halve the range
        middle = (low + high) // 2
        if kind == "WebP":
            file = _file(image, "WEBP", quality=middle, method=4)
        else:
            small = image.resize((middle, middle), Image.Resampling.LANCZOS)
            file = _file(small, "PNG", optimize=True)
        if len(file.getvalue()) <= max_bytes:
            best, low = file, middle + 1
        else:
            high = middle - 1
    if best is None:
        raise ValueError(f"No {kind} of this picture fits into {max_bytes} bytes: allow more.")
    return Image.open(best).convert("RGB").resize(image.size, Image.Resampling.BICUBIC)


def change(a: Image.Image, b: Image.Image) -> np.ndarray:
    """Squared difference of two pictures, summed over the colors, (H, W)."""
    return np.square(np.float32(a) - np.float32(b)).sum(2)


def house_and_balloon(side: int) -> list[Image.Image]:
    """A red house on the left in the snow, and a yellow balloon on the right in a meadow."""
    scenes = (
        world.Scene((world.Thing("house", "red", "left"),), "snow", "day"),
        world.Scene((world.Thing("balloon", "yellow", "right"),), "meadow", "day"),
    )
    return [world.draw(scene, side, seed=1) for scene in scenes]


# ------------------------------------------------------------------------------------ the exercises


@exercise(
    "01.1",
    hint="How many numbers does a patch hold, and how many does it become?",
    right="The side of the picture does not matter.",
)
def _(answer):
    yield answer(4, 8) > 1, "Numbers in BY numbers out: which is the larger one?"
    yield (
        close(answer(4, 16) / answer(4, 8), 4),
        "A patch twice as wide holds how many times as many pixels?",
    )
    yield (
        close(answer(4, 8) / answer(8, 8), 2),
        "More channels keep more numbers: the ratio must fall.",
    )
    yield close(answer(4, 8), 3 * 64 / 4), "How many numbers does ONE pixel hold?"


@exercise(
    "01.2",
    hint="What is the largest error that two numbers from -1 to 1 can have?",
    right="255 is the distance from black to white; so is your number.",
)
def _(answer):
    a, error = torch.rand(2, 3, 8, 8) * 1.8 - 0.9, 0.1 * torch.rand(2, 3, 8, 8)
    got = answer(a, a + error)
    want = 10 * torch.log10(4 / error.square().mean())
    yield (
        not close(got, want - 10 * torch.log10(torch.tensor(4.0))),
        "That is right for pictures from 0 to 1. How far apart are black and white here?",
    )
    yield (
        not close(got, want - 10 * torch.log10(torch.tensor(2.0))),
        "Nearly: look at the formula, is the peak squared?",
    )
    yield close(got, want), None


@exercise(
    "01.3",
    hint="How does one get from the logarithm of a variance to a standard deviation?",
    right="Gradients flow through mean and standard deviation.",
)
def _(answer):
    mean, logvar, noise = torch.randn(3, 1, 4, 8, 8)
    yield close(answer(mean, logvar, 0 * noise), mean), "Without noise, the mean must come out."
    yield (
        close(answer(mean, 0 * logvar, noise), mean + noise),
        "Where the logarithm of the variance is 0, the standard deviation is 1.",
    )
    yield (
        not close(answer(mean, logvar, noise), mean + logvar.exp() * noise),
        "You stretch by the variance; its root is wanted.",
    )
    yield close(answer(mean, logvar, noise), mean + (logvar / 2).exp() * noise), None


@exercise(
    "01.4",
    hint="Begin with first.clone() and assign to a part of it.",
    right="How do the seams look: harder or softer than a cut with scissors?",
)
def _(answer):
    first, mine = answer
    yield (
        tuple(mine.shape) == tuple(first.shape),
        f"The latent must keep its shape, {tuple(first.shape)}.",
    )
    yield bool(mine.isfinite().all()), "Some of its numbers are infinite or not a number."
    changed = ((mine - first).abs().amax(1) > 1e-6).float().mean().item()
    yield changed > 0.02, "Nearly nothing is changed yet: change a part that one can see."
    yield changed < 0.98, "Nothing of the first scene is left: keep a part of it."

"""Chapter 01, Latent compression: a latent's channels, and the exercises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from sdlearn import hub
from sdlearn.checks import close, exercise
from sdlearn.compression import encode_image
from sdlearn.plots import Numbers, figure, signed, to_array


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
            encode_image(pipe, image)
        finally:
            for hook in hooks:
                hook.remove()
    return maps


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
    import torch

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
    import torch

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

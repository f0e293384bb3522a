"""Chapter 03: what the U-Net predicts, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from sdlearn import hub, inputs
from sdlearn.noising import Schedule, add_noise

Abar = float | torch.Tensor
"""A share alphas_cumprod[t], or a tensor of them that fits the latents."""


def x0_from_epsilon(latents: torch.Tensor, noise_pred: torch.Tensor, abar: Abar) -> torch.Tensor:
    """The clean latents that a noise prediction implies: (x_t - sqrt(1 - abar) eps) / sqrt(abar)
    (Ho et al. 2020, eq. 4 solved for x0)."""
    return (latents - (1 - abar) ** 0.5 * noise_pred) / abar**0.5


def v_from(x0: torch.Tensor, noise: torch.Tensor, abar: Abar) -> torch.Tensor:
    """The velocity v = sqrt(abar) eps - sqrt(1 - abar) x0 (Salimans and Ho 2022, section 4)."""
    return abar**0.5 * noise - (1 - abar) ** 0.5 * x0


def epsilon_from_v(latents: torch.Tensor, v: torch.Tensor, abar: Abar) -> torch.Tensor:
    """The noise that a velocity implies: sqrt(abar) v + sqrt(1 - abar) x_t."""
    return abar**0.5 * v + (1 - abar) ** 0.5 * latents


def _check_sizes(unet: Any, latents: Any, t: Any, states: Any) -> None:
    inputs.tensors(latents=latents, encoder_hidden_states=states)
    if not torch.is_tensor(t):
        inputs.number("t", t, 0, 1_000_000)
    elif t.ndim > 1 or t.numel() not in (1, len(latents)) or not torch.isfinite(t).all():
        raise ValueError(
            f"t must be one timestep, or one for each of the {len(latents)}; got {inputs.shown(t)}."
        )
    channels, width = unet.config.in_channels, unet.config.cross_attention_dim
    if latents.ndim != 4 or latents.shape[1] != channels:
        raise ValueError(
            f"latents must have the shape (batch, {channels}, height, width); "
            f"got {tuple(latents.shape)}."
        )
    if states.ndim != 3 or states.shape[2] != width or len(states) != len(latents):
        raise ValueError(
            f"encoder_hidden_states must have the shape ({len(latents)}, tokens, {width}), one for "
            f"each of the latents; got {tuple(states.shape)}: encode_prompt makes them."
        )


@torch.no_grad()
def predict_noise(
    pipe: Any, latents: torch.Tensor, t: float | torch.Tensor, encoder_hidden_states: torch.Tensor
) -> torch.Tensor:
    """One run of the U-Net: the noise it sees in ``latents`` (B, 4, h, w) at timestep ``t``, given
    ``encoder_hidden_states`` (B, 77, D); float32.

    A model trained to predict the velocity (``prediction_type`` "v_prediction") is converted to
    noise, so callers need not care.

    Raises:
        ValueError: for a model that predicts anything else, or sizes that do not fit it.
        TypeError: for anything but a pipeline and tensors.
    """
    unet = inputs.check_pipe(pipe, "unet", "scheduler").unet
    _check_sizes(unet, latents, t, encoder_hidden_states)
    with hub.LOCK:
        # asked once: each looks through all modules, which a step of a small model feels
        like = {"device": unet.device, "dtype": unet.dtype}
        out = unet(
            latents.to(**like), t, encoder_hidden_states=encoder_hidden_states.to(**like)
        ).sample.float()
    if pipe.scheduler.config.get("prediction_type", "epsilon") != "epsilon":
        abar = Schedule.of(pipe).abar_at(float(t))  # refuses what it does not know
        out = epsilon_from_v(latents.to(out.device, out.dtype), out, abar)
    return out.to(latents.device)


@torch.no_grad()
def loss_by_timestep(
    predict: Callable,
    x0: torch.Tensor,
    timesteps: Iterable[int],
    alphas_cumprod: torch.Tensor,
    seed: int = 0,
) -> torch.Tensor:
    """The epsilon loss, mean squared error of the predicted noise, at each of the timesteps:
    float32 (len(timesteps),).

    Args:
        predict: ``predict(latents, t)`` gives the noise it sees in latents of x0's shape at the
            timestep t (an int).
        x0: clean latents or pictures (B, C, h, w). Every timestep, and every call with the same
            seed, adds the same noise to them: differences between two calls are then differences
            between the models, not luck.
    """
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
    return torch.stack(
        [
            torch.mean((predict(add_noise(x0, noise, int(t), alphas_cumprod), int(t)) - noise) ** 2)
            for t in timesteps
        ]
    )


def skip_count(unet: Any) -> int:
    """How many skip connections a UNet2DConditionModel has: its up blocks take one for each of
    their ResNet blocks."""
    return sum(len(block.resnets) for block in unet.up_blocks)


@contextmanager
def skip_cut(unet: Any, index: int | None) -> Iterator[None]:
    """While it lasts, skip connection ``index`` of a UNet2DConditionModel carries zeros; 0 leaves
    the top of the U, the last the bottom. None cuts nothing. Other threads wait meanwhile.

    Raises:
        ValueError: if the U-Net has no such skip connection.
    """
    count = skip_count(unet)
    if index is not None and not 0 <= index < count:
        raise ValueError(
            f"This U-Net has the skip connections 0 to {count - 1}; there is no {index}."
        )
    blocks, end = [], count
    for block in unet.up_blocks:  # each takes the last ones of those that are left
        start = end - len(block.resnets)
        if index is not None and start <= index < end:
            blocks.append((block, index - start))
        end = start

    def cut(place: int) -> Callable:
        def hook(_module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            kept = list(kwargs["res_hidden_states_tuple"])
            kept[place] = torch.zeros_like(kept[place])
            return args, {**kwargs, "res_hidden_states_tuple": tuple(kept)}

        return hook

    # before the first hook and until after the last: no other thread may run the cut U-Net
    with hub.LOCK:
        handles = [
            block.register_forward_pre_hook(cut(place), with_kwargs=True) for block, place in blocks
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

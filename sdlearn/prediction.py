"""Chapter 03: what the U-Net predicts, and what follows from it."""

from __future__ import annotations

from typing import Any

import torch

from sdlearn import hub, inputs
from sdlearn.noising import Schedule

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

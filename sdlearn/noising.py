"""Chapter 02: schedules and the forward process."""

from __future__ import annotations

import math

import torch


def make_betas(
    schedule: str = "scaled_linear",
    num_train_timesteps: int = 1000,
    beta_start: float = 0.00085,
    beta_end: float = 0.012,
) -> torch.Tensor:
    """Noise variance added at each step, float32 (num_train_timesteps,).

    Schedules: "linear" (Ho et al. 2020), "scaled_linear" (linear in the square root; Rombach et al. 2022), "cosine" (Nichol and Dhariwal 2021, eq. 17; ignores start and end).

    Raises:
        ValueError: for another name, no steps, or betas that are no shares between 0 and 1.
    """
    if num_train_timesteps < 1 or not 0 < beta_start <= beta_end < 1:
        raise ValueError(
            f"A schedule has at least one step and 0 < beta_start <= beta_end < 1; got {num_train_timesteps} steps, {beta_start} and {beta_end}."
        )
    if schedule == "linear":
        return torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float32)
    if schedule == "scaled_linear":
        return (
            torch.linspace(beta_start**0.5, beta_end**0.5, num_train_timesteps, dtype=torch.float32)
            ** 2
        )
    if schedule == "cosine":

        def alpha_bar(u: float) -> float:
            return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

        steps = num_train_timesteps
        return torch.tensor(
            [
                min(1 - alpha_bar((i + 1) / steps) / alpha_bar(i / steps), 0.999)
                for i in range(steps)
            ],
            dtype=torch.float32,
        )
    raise ValueError(f"Unknown schedule {schedule!r}: choose linear, scaled_linear or cosine.")


def make_alphas_cumprod(schedule: str = "scaled_linear", **options) -> torch.Tensor:
    """Share of the picture's variance left at each step: the running product of 1 - beta, float32, falling from nearly 1 to nearly 0."""
    return torch.cumprod(1.0 - make_betas(schedule, **options), dim=0)


def add_noise(
    x0: torch.Tensor, noise: torch.Tensor, t: int | torch.Tensor, alphas_cumprod: torch.Tensor
) -> torch.Tensor:
    """The closed form of the forward process: sqrt(abar_t) x0 + sqrt(1 - abar_t) noise (Ho et al. 2020, eq. 4).

    Args:
        x0, noise: (B, ...) of equal shape; one x0 (1, ...) serves all of several noises.
        t: one timestep for all, or an integer tensor (B,).
        alphas_cumprod: (num_train_timesteps,).

    Raises:
        ValueError: for a timestep outside the schedule or between two of its steps, or noise of another shape.
    """
    t = torch.as_tensor(t, device=alphas_cumprod.device)
    if noise.shape[1:] != x0.shape[1:]:
        raise ValueError(
            f"Every number of x0 gets its own noise: x0 has the shape {tuple(x0.shape)}, the noise {tuple(noise.shape)}; use torch.randn(x0.shape)."
        )
    if t.is_floating_point():
        raise ValueError(
            f"Timesteps are whole numbers that count the steps of the schedule; got {t.flatten()[0].item()}: use int(t)."
        )
    if t.min() < 0 or t.max() >= len(alphas_cumprod):
        raise ValueError(
            f"Timesteps run from 0 to {len(alphas_cumprod) - 1}; got {t.min().item()} to {t.max().item()}."
        )
    abar = alphas_cumprod[t].to(x0.device, x0.dtype)
    abar = abar.reshape(*abar.shape, *[1] * (x0.ndim - abar.ndim))
    return abar**0.5 * x0 + (1 - abar) ** 0.5 * noise


def snr(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """Signal-to-noise ratio abar / (1 - abar) at each step (Kingma et al. 2021, eq. 3 with unit data variance)."""
    return alphas_cumprod / (1 - alphas_cumprod)


def rescale_zero_terminal_snr(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """The same schedule shifted and stretched so that nothing of the picture is left at its last step, while the first stays as it is (Lin et al. 2024, algorithm 1)."""
    root = alphas_cumprod**0.5
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2

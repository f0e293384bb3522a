"""Chapter 02: schedules and the forward process."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sdlearn import inputs


def make_betas(
    schedule: str = "scaled_linear",
    num_train_timesteps: int = 1000,
    beta_start: float = 0.00085,
    beta_end: float = 0.012,
) -> torch.Tensor:
    """Noise variance added at each step, float32 (num_train_timesteps,).

    Schedules: "linear" (Ho et al. 2020), "scaled_linear" (linear in the square root; Rombach et
    al. 2022), "cosine" (Nichol and Dhariwal 2021, eq. 17; ignores start and end).

    Raises:
        ValueError: for another name, no steps, or betas that are no shares between 0 and 1.
        TypeError: for a schedule that is no name.
    """
    if not isinstance(schedule, str):
        raise TypeError(f"schedule is a name, such as 'linear'; got {type(schedule).__name__}.")
    inputs.whole("num_train_timesteps", num_train_timesteps, 0, 1_000_000)
    for name, beta in (("beta_start", beta_start), ("beta_end", beta_end)):
        inputs.number(name, beta)
    if num_train_timesteps < 1 or not 0 < beta_start <= beta_end < 1:
        raise ValueError(
            "A schedule has at least one step and 0 < beta_start <= beta_end < 1; "
            f"got {num_train_timesteps} steps, {beta_start} and {beta_end}."
        )
    if schedule == "linear":
        return torch.linspace(beta_start, beta_end, num_train_timesteps, dtype=torch.float32)
    if schedule == "scaled_linear":
        ends = beta_start**0.5, beta_end**0.5
        return torch.linspace(*ends, num_train_timesteps, dtype=torch.float32) ** 2
    if schedule == "cosine":

        def alpha_bar(u: float) -> float:
            return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

        n = num_train_timesteps
        kept = [alpha_bar((i + 1) / n) / alpha_bar(i / n) for i in range(n)]
        return torch.tensor([min(1 - k, 0.999) for k in kept], dtype=torch.float32)
    raise ValueError(
        f"Unknown schedule {inputs.shown(schedule)}: choose linear, scaled_linear or cosine."
    )


def make_alphas_cumprod(schedule: str = "scaled_linear", **options: Any) -> torch.Tensor:
    """Share of the picture's variance left at each step: the running product of 1 - beta, float32,
    falling from nearly 1 to nearly 0."""
    return torch.cumprod(1.0 - make_betas(schedule, **options), dim=0)


def _timesteps(t: Any, batch: int, device: torch.device) -> torch.Tensor:
    """One timestep for all, or one for each of a batch."""
    try:
        found = torch.as_tensor(t, device=device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"t must be a timestep, or a tensor; got {inputs.shown(t)}.") from error
    if found.dtype == torch.bool or found.is_complex() or (found.ndim and len(found) != batch):
        raise ValueError(
            f"t must be one timestep, or one for each of the {batch}; got {inputs.shown(t)}."
        )
    return found


def add_noise(
    x0: torch.Tensor, noise: torch.Tensor, t: int | torch.Tensor, alphas_cumprod: torch.Tensor
) -> torch.Tensor:
    """The closed form of the forward process: sqrt(abar_t) x0 + sqrt(1 - abar_t) noise (Ho et al.
    2020, eq. 4).

    Args:
        x0, noise: (B, ...) of equal shape, floating point; one x0 (1, ...) serves all of several
            noises.
        t: one timestep for all, or an integer tensor (B,).
        alphas_cumprod: (num_train_timesteps,).

    Raises:
        ValueError: for a timestep outside the schedule or between two of its steps, noise of
            another shape, or pictures of whole numbers.
        TypeError: for anything but tensors and timesteps.
    """
    inputs.tensors(noise=noise, alphas_cumprod=alphas_cumprod)
    if not torch.is_tensor(x0):
        raise TypeError(f"x0 must be a tensor; got {type(x0).__name__}.")
    t = _timesteps(t, len(noise), alphas_cumprod.device)
    if noise.shape[1:] != x0.shape[1:]:
        raise ValueError(
            f"Every number of x0 gets its own noise: x0 has the shape {tuple(x0.shape)}, "
            f"the noise {tuple(noise.shape)}; use torch.randn(x0.shape)."
        )
    if not x0.is_floating_point():
        raise ValueError(
            f"x0 holds whole numbers ({x0.dtype}), which no share of noise fits into: use "
            "compression.to_tensor(image), or x0 / 127.5 - 1 for pixels of 0 to 255."
        )
    if t.is_floating_point():
        raise ValueError(
            "Timesteps are whole numbers that count the steps of the schedule; "
            f"got {t.flatten()[0].item()}: use int(t)."
        )
    if t.min() < 0 or t.max() >= len(alphas_cumprod):
        raise ValueError(
            f"Timesteps run from 0 to {len(alphas_cumprod) - 1}; "
            f"got {t.min().item()} to {t.max().item()}."
        )
    abar = alphas_cumprod[t].to(x0.device, x0.dtype)
    abar = abar.reshape(*abar.shape, *[1] * (x0.ndim - abar.ndim))
    return abar**0.5 * x0 + (1 - abar) ** 0.5 * noise


def snr(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """Signal-to-noise ratio abar / (1 - abar) at each step (Kingma et al. 2021, eq. 3 with unit
    data variance)."""
    return alphas_cumprod / (1 - alphas_cumprod)


def rescale_zero_terminal_snr(alphas_cumprod: torch.Tensor) -> torch.Tensor:
    """The same schedule shifted and stretched so that nothing of the picture is left at its last
    step, while the first stays as it is (Lin et al. 2024, algorithm 1)."""
    root = alphas_cumprod**0.5
    return ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2


def lcm_timesteps(num_train_timesteps: int = 1000, original_steps: int = 50) -> np.ndarray:
    """The timesteps that a consistency model was taught at, from the last down (Luo et al. 2023):
    its sampler visits some of these, evenly."""
    return np.arange(original_steps, 0, -1) * (num_train_timesteps // original_steps) - 1


@dataclass(frozen=True, eq=False)
class Schedule:
    """How much noise there is at each timestep, and which timesteps a sampler visits.

    Samplers ask for nothing else: a path of another shape (straight ones of flow matching) is
    another class with the same attributes.

    Attributes:
        alphas_cumprod: share of the picture's variance at each step, float32 on the CPU,
            (num_train_timesteps,).
        prediction_type: what a network on this schedule was trained to say: "epsilon" (the noise)
            or "v_prediction" (the velocity; see prediction.v_from).
    """

    alphas_cumprod: torch.Tensor
    prediction_type: str = "epsilon"

    def __post_init__(self) -> None:
        abar = self.alphas_cumprod
        if not (abar.ndim == 1 and len(abar) and bool(((abar >= 0) & (abar <= 1)).all())):
            raise ValueError(
                "alphas_cumprod must be a row of shares from 0 to 1, one a step: this schedule's "
                "betas are damaged; see noising.make_alphas_cumprod."
            )
        if self.prediction_type not in ("epsilon", "v_prediction"):
            raise ValueError(
                f"This model predicts {self.prediction_type!r}; the samplers here know 'epsilon' "
                "(the noise) and 'v_prediction' (the velocity): load another model."
            )

    @classmethod
    def named(cls, schedule: str = "scaled_linear", **options: Any) -> Schedule:
        """From a name and the options of :func:`make_betas`; Stable Diffusion's unless told."""
        return cls(make_alphas_cumprod(schedule, **options))

    @classmethod
    def of(cls, pipe: Any) -> Schedule:
        """The one a pipeline's model was trained on, from the configuration of its scheduler."""
        prediction_type = pipe.scheduler.config.get("prediction_type", "epsilon")
        return cls(pipe.scheduler.alphas_cumprod.cpu().float(), prediction_type)

    @property
    def num_train_timesteps(self) -> int:
        return len(self.alphas_cumprod)

    @property
    def betas(self) -> torch.Tensor:
        """Noise variance added at each step: 1 - abar_t / abar_(t - 1)."""
        before = torch.cat([self.alphas_cumprod.new_ones(1), self.alphas_cumprod[:-1]])
        return 1 - self.alphas_cumprod / before

    @property
    def sigmas(self) -> torch.Tensor:
        """Noise over signal at each step, sqrt((1 - abar) / abar), rising from nearly 0."""
        return ((1 - self.alphas_cumprod) / self.alphas_cumprod) ** 0.5

    def sigma_at(self, timesteps: float | list[float]) -> torch.Tensor:
        """Sigmas at these timesteps, float32, also between two of the schedule (on a line)."""
        table = self.sigmas.numpy()
        found = np.interp(timesteps, np.arange(len(table)), table)
        return torch.tensor(found, dtype=torch.float32)

    def abar_at(self, t: float) -> float:
        """The share at a timestep, which may lie between two of the schedule."""
        if t == int(t):
            return self.alphas_cumprod[int(t)].item()
        return 1 / (1 + self.sigma_at(t).item() ** 2)

    def add_noise(self, x0: torch.Tensor, noise: torch.Tensor, t: float) -> torch.Tensor:
        """:func:`add_noise` on this schedule; ``t`` may lie between two timesteps."""
        if t == int(t):
            return add_noise(x0, noise, int(t), self.alphas_cumprod)
        sigma = np.interp(t, np.arange(self.num_train_timesteps), self.sigmas).item()
        return (x0 + sigma * noise) / (sigma**2 + 1) ** 0.5

    def timesteps(self, spacing: str, steps: int) -> list[float]:
        """The timesteps to visit, most noise first, placed as diffusers does.

        Args:
            spacing: "leading" (every (T // steps)-th from 1 up; from 0 if all T are taken),
                "linspace" (evenly from the last to 0, also between two), "linspace_open" (the
                same rounded, without the 0, where the picture is clean), "trailing" (from the
                last down; Lin et al. 2024, table 2) or "lcm" (some of :func:`lcm_timesteps`).
            steps: 1 to num_train_timesteps.

        Raises:
            ValueError: for another spacing, or a number of steps that the schedule does not have.
        """
        T = self.num_train_timesteps
        most = len(lcm_timesteps(T)) if spacing == "lcm" else T
        whole = isinstance(steps, (int, np.integer)) and not isinstance(steps, bool)
        if not whole or not 1 <= steps <= most:
            raise ValueError(
                f"num_inference_steps must be a whole number from 1 to {most}; got "
                f"{inputs.shown(steps)}. {4 if most < T else 25} is a good start."
            )
        if spacing == "leading":
            return (np.arange(steps)[::-1] * (T // steps) + (steps < T)).tolist()
        if spacing == "linspace":
            even = np.linspace(0, T - 1, steps, dtype=np.float32)[::-1].tolist()
            return [float(T - 1), *even[1:]]  # a single step starts from noise too
        if spacing == "linspace_open":
            even = np.linspace(0, T - 1, min(steps, T - 1) + 1).round()
            return even[::-1][:steps].astype(int).tolist()
        if spacing == "trailing":
            return (np.arange(T, 0, -T / steps).round()[:steps].astype(int) - 1).tolist()
        if spacing == "lcm":
            taught = lcm_timesteps(T)
            return taught[np.linspace(0, len(taught), steps, endpoint=False).astype(int)].tolist()
        raise ValueError(
            f"Unknown spacing {spacing!r}: choose leading, linspace, linspace_open, trailing or "
            "lcm."
        )

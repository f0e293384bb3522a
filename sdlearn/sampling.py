"""Chapter 05: from pure noise to a picture, one step at a time.

A sampler is a generator: it is handed ``predict(latents, t)``, the start noise and the schedule, and yields one
:class:`Update` a step. ``sample_steps`` wraps it with guidance; whoever iterates owns plots, progress bars and the right to stop.
A caller may ``send()`` changed latents back before the next step: inpainting does (see editing.py).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import replace as changed
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from sdlearn.compression import decode_latents
from sdlearn.prediction import predict_noise, x0_from_epsilon
from sdlearn.text import check_prompt, encode_prompt


class Update(NamedTuple):
    """What a sampler yields at each step; all tensors (B, 4, h, w), scaled so that clean latents and noise have unit variance."""

    timestep: float
    latents: torch.Tensor
    noise_pred: torch.Tensor
    pred_original_sample: torch.Tensor
    prev_latents: torch.Tensor


@dataclass(frozen=True)
class SampleStep:
    """One denoising step: what went in, what the U-Net said, what came out. Tensors (B, 4, h, w), float32."""

    index: int
    timestep: float
    latents: torch.Tensor
    noise_pred_uncond: torch.Tensor
    noise_pred_text: torch.Tensor
    noise_pred: torch.Tensor  # after guidance
    pred_original_sample: torch.Tensor  # the finished picture as this step imagines it
    prev_latents: (
        torch.Tensor
    )  # the next step's latents: one step less noise (after ``replace``, if there is one)


def guide(
    noise_pred_uncond: torch.Tensor, noise_pred_text: torch.Tensor, guidance_scale: float
) -> torch.Tensor:
    """Classifier-free guidance, eps_uncond + s (eps_text - eps_uncond) (Ho and Salimans 2022, eq. 6 with w = s - 1).

    0 ignores the prompt, 1 only obeys it, more exaggerates what the prompt changes.
    """
    return noise_pred_uncond + guidance_scale * (noise_pred_text - noise_pred_uncond)


# ------------------------------------------------------------------------------------------------------- the samplers
# Each takes (predict, latents, alphas_cumprod, steps, start, noise): ``start`` skips that many steps (image to image), and
# ``noise()`` gives fresh Gaussian noise of the latents' shape.

Predict = Callable[[torch.Tensor, float], torch.Tensor]


def leading_timesteps(steps: int, num_train_timesteps: int) -> np.ndarray:
    """SD's DDIM and DDPM timesteps: every (T // steps)-th from 1 up (from 0 if all T are taken), in falling order."""
    return np.arange(steps)[::-1] * (num_train_timesteps // steps) + (steps < num_train_timesteps)


def ddim(
    predict: Predict, latents, alphas_cumprod, steps: int, start: int, noise, eta: float = 0.0
) -> Iterator[Update]:
    """DDIM (Song et al. 2021, eq. 12): jump to the imagined picture, then put back the noise of the next level; ``eta`` > 0 replaces part of it by fresh noise."""
    stride = len(alphas_cumprod) // steps
    for t in leading_timesteps(steps, len(alphas_cumprod)).tolist()[start:]:
        abar, abar_prev = alphas_cumprod[t], alphas_cumprod[max(t - stride, 0)]
        eps = predict(latents, t)
        x0 = x0_from_epsilon(latents, eps, abar)
        std = eta * ((1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev)) ** 0.5
        prev = abar_prev**0.5 * x0 + (1 - abar_prev - std**2) ** 0.5 * eps
        if eta > 0:
            prev = prev + std * noise()
        sent = yield Update(t, latents, eps, x0, prev)
        latents = prev if sent is None else sent


def ddpm(
    predict: Predict, latents, alphas_cumprod, steps: int, start: int, noise
) -> Iterator[Update]:
    """DDPM (Ho et al. 2020, eqs. 6-7): a weighted mean of the imagined picture and the present one, plus fresh noise."""
    stride = len(alphas_cumprod) // steps
    for t in leading_timesteps(steps, len(alphas_cumprod)).tolist()[start:]:
        abar = alphas_cumprod[t]
        abar_prev = alphas_cumprod[t - stride] if t >= stride else torch.ones_like(abar)
        alpha = abar / abar_prev  # of the whole stride
        eps = predict(latents, t)
        x0 = x0_from_epsilon(latents, eps, abar)
        mean = (
            abar_prev**0.5 * (1 - alpha) / (1 - abar) * x0
            + alpha**0.5 * (1 - abar_prev) / (1 - abar) * latents
        )
        variance = ((1 - abar_prev) / (1 - abar) * (1 - alpha)).clamp(min=1e-20)
        prev = mean + variance**0.5 * noise()
        sent = yield Update(t, latents, eps, x0, prev)
        latents = prev if sent is None else sent


def euler(
    predict: Predict, latents, alphas_cumprod, steps: int, start: int, noise
) -> Iterator[Update]:
    """Euler (Karras et al. 2022, algorithm 1 without churn): the same path as DDIM, walked in units of sigma = noise / signal."""
    all_sigmas = (((1 - alphas_cumprod) / alphas_cumprod) ** 0.5).numpy()
    timesteps = np.linspace(0, len(alphas_cumprod) - 1, steps, dtype=np.float32)[::-1].copy()
    timesteps[0] = len(alphas_cumprod) - 1  # a single step starts from noise too
    sigmas = torch.tensor(
        [*np.interp(timesteps, np.arange(len(all_sigmas)), all_sigmas), 0.0], dtype=torch.float32
    )
    x = latents * (sigmas[0] if start == 0 else (sigmas[start] ** 2 + 1) ** 0.5)
    for t, sigma, sigma_next in zip(
        timesteps.tolist()[start:], sigmas[start:-1], sigmas[start + 1 :], strict=True
    ):
        scaled = x / (sigma**2 + 1) ** 0.5  # what the U-Net was trained on
        eps = predict(scaled, t)
        prev = x + (sigma_next - sigma) * eps  # eps is the slope dx / dsigma
        back = (sigma_next**2 + 1) ** 0.5
        sent = yield Update(t, scaled, eps, x - sigma * eps, prev / back)
        x = prev if sent is None else sent * back


def dpm_solver(
    predict: Predict, latents, alphas_cumprod, steps: int, start: int, noise
) -> Iterator[Update]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): also uses the picture imagined one step before, so few steps go far."""
    all_sigmas = (((1 - alphas_cumprod) / alphas_cumprod) ** 0.5).numpy()
    last = len(alphas_cumprod) - 1
    timesteps = np.linspace(0, last, min(steps, last) + 1).round()[::-1][:steps].astype(np.int64)
    sigmas = torch.tensor(
        [*np.interp(timesteps, np.arange(len(all_sigmas)), all_sigmas), 0.0], dtype=torch.float32
    )
    alphas = 1 / (sigmas**2 + 1) ** 0.5
    stds = sigmas * alphas
    lambdas = alphas.log() - stds.log()  # half the log signal-to-noise ratio; infinite at the end
    older = None
    for i, t in list(enumerate(timesteps.tolist()))[start:]:
        eps = predict(latents, t)
        x0 = (latents - stds[i] * eps) / alphas[i]
        h = lambdas[i + 1] - lambdas[i]
        direction = x0
        if older is not None and i < steps - 1:
            r = (lambdas[i] - lambdas[i - 1]) / h
            direction = x0 + (x0 - older) / (2 * r)  # straight on from the last two
        prev = stds[i + 1] / stds[i] * latents - alphas[i + 1] * torch.expm1(-h) * direction
        sent = yield Update(t, latents, eps, x0, prev)
        latents, older = (prev if sent is None else sent), x0


SAMPLERS = {"ddim": ddim, "ddpm": ddpm, "euler": euler, "dpm++": dpm_solver}

# ------------------------------------------------------------------------------------------------------ the whole loop


def _gaussian(
    shape: tuple[int, ...], generator: torch.Generator | list[torch.Generator] | None
) -> torch.Tensor:
    """Gaussian noise from one generator for the whole batch, or from one generator for each picture."""
    if isinstance(generator, list):
        return torch.cat([torch.randn(1, *shape[1:], generator=g) for g in generator])
    return torch.randn(shape, generator=generator)


def start_latents(
    pipe,
    batch: int = 1,
    seed: int | list[int] | None = None,
    generator: torch.Generator | list[torch.Generator] | None = None,
) -> torch.Tensor:
    """Pure Gaussian noise (batch, 4, h, w), always drawn on the CPU: a seed starts from the same latents on every device.

    One seed draws the whole batch as diffusers does; a list of seeds draws each picture by itself, so that each can be repeated alone.
    """
    config = pipe.unet.config
    if generator is None:
        generator = _generator(seed)
    if isinstance(generator, list) and len(generator) != batch:
        raise ValueError(
            f"{len(generator)} seeds for {batch} pictures: give one seed, or one for each picture."
        )
    return _gaussian((batch, config.in_channels, config.sample_size, config.sample_size), generator)


def _generator(seed: int | list[int] | None) -> torch.Generator | list[torch.Generator] | None:
    if isinstance(seed, (list, tuple)):
        return [torch.Generator().manual_seed(int(s)) for s in seed]
    return None if seed is None else torch.Generator().manual_seed(int(seed))


def timesteps_of(pipe, sampler: str, steps: int) -> list[float]:
    """The timesteps a sampler visits, most noise first.

    Raises:
        ValueError: for a sampler that does not exist, or a number of steps that it cannot take.
    """
    longest = pipe.scheduler.config.num_train_timesteps
    if sampler not in SAMPLERS:
        raise ValueError(f"Unknown sampler {sampler!r}: choose one of {', '.join(SAMPLERS)}.")
    if (
        isinstance(steps, bool)
        or not isinstance(steps, (int, np.integer))
        or not 1 <= steps <= longest
    ):
        raise ValueError(
            f"num_inference_steps must be a whole number from 1 to {longest}; got {steps!r}. 25 is a good start."
        )
    alphas_cumprod, nothing = pipe.scheduler.alphas_cumprod.cpu().float(), torch.zeros(1, 1, 1, 1)
    return [
        u.timestep
        for u in SAMPLERS[sampler](
            lambda x, t: x, nothing, alphas_cumprod, steps, 0, lambda: nothing
        )
    ]


def _check(
    pipe,
    prompts: list[str],
    negative: list[str],
    steps,
    guidance_scale,
    sampler,
    latents,
    start,
    eta,
) -> None:
    channels = pipe.unet.config.in_channels
    if channels != pipe.unet.config.out_channels:
        raise ValueError(
            f'This U-Net reads {channels} channels, a picture and a mask beside the latents: only models.as_pipeline("inpaint", pipe) can drive it.'
        )
    if not prompts:
        raise ValueError("No prompt: give a string, or a list with at least one.")
    if len(negative) != len(prompts):
        raise ValueError(
            f"{len(negative)} negative prompts for {len(prompts)} prompts: give one for all, or one for each."
        )
    timesteps_of(pipe, sampler, steps)
    if not 0 <= start < steps:
        raise ValueError(
            f"start must be from 0 to {steps - 1} (one step must be left); got {start}."
        )
    if start and latents is None:
        raise ValueError(
            f"start = {start} goes in half-way: give latents that carry the noise of that step (noising.add_noise makes them)."
        )
    if latents is not None and (latents.ndim != 4 or latents.shape[:2] != (len(prompts), channels)):
        raise ValueError(
            f"latents must be one for each prompt, shape ({len(prompts)}, {channels}, height, width); got {tuple(latents.shape)}."
        )
    if not 0 <= eta <= 1 or (eta and sampler != "ddim"):
        raise ValueError(
            f"eta mixes fresh noise into the sampler 'ddim', from 0 to 1; got {eta} with {sampler!r}."
        )
    if not math.isfinite(guidance_scale):
        raise ValueError(
            f"guidance_scale must be a finite number; got {guidance_scale}. 5 is a good start, 0 ignores the prompt."
        )
    if guidance_scale == 0:
        warnings.warn(
            "guidance_scale 0 ignores the prompt: the picture follows the negative prompt alone. 1 obeys the prompt, 5 is a good start.",
            stacklevel=3,
        )
    for prompt in dict.fromkeys([*prompts, *(n for n in negative if n != "")]):
        check_prompt(pipe, prompt)


def sample_steps(
    pipe,
    prompt: str | list[str],
    *,
    negative_prompt: str | list[str] = "",
    num_inference_steps: int = 25,
    guidance_scale: float = 5.0,
    sampler: str = "ddim",
    seed: int | list[int] | None = None,
    generator: torch.Generator | None = None,
    latents: torch.Tensor | None = None,
    start: int = 0,
    eta: float = 0.0,
    replace: Callable[[SampleStep], torch.Tensor | None] | None = None,
) -> Iterator[SampleStep]:
    """Denoise step by step, guided by a prompt.

    Args:
        pipe: from ``load_pipeline``.
        prompt: what the picture should show; a list gives a batch.
        negative_prompt: what it should not show: it takes the place of the empty prompt in guidance.
        num_inference_steps: 1 to the schedule's length (1000).
        guidance_scale: see :func:`guide`.
        sampler: "ddim", "ddpm", "euler" or "dpm++".
        seed: start noise (see :func:`start_latents`); with None each run differs. Also seeds the noise that "ddpm" adds.
        generator: a CPU generator (or a list, one for each picture), instead of ``seed``.
        latents: (B, 4, h, w) to start from, instead of noise.
        start: steps to skip; ``latents`` must then carry the noise of that step (image to image).
        eta: fresh noise in "ddim", 0 (none) to 1.
        replace: called with each step; what it returns (unless None) goes into the next step instead of ``prev_latents``.

    Yields:
        One :class:`SampleStep` a step. Arguments are checked, and warned about, before the first one.

    Raises:
        ValueError, TypeError: one sentence that says what to do.
    """
    prompts = list(prompt) if isinstance(prompt, (list, tuple)) else [prompt]
    negative = (
        list(negative_prompt)
        if isinstance(negative_prompt, (list, tuple))
        else [negative_prompt or ""] * len(prompts)
    )
    _check(
        pipe, prompts, negative, num_inference_steps, guidance_scale, sampler, latents, start, eta
    )
    if generator is None:
        generator = _generator(seed)
    if latents is None:
        latents = start_latents(pipe, len(prompts), generator=generator)
    return _run(
        pipe,
        prompts,
        negative,
        num_inference_steps,
        guidance_scale,
        sampler,
        generator,
        latents,
        start,
        eta,
        replace,
    )


@torch.no_grad()
def _run(
    pipe, prompts, negative, steps, guidance_scale, sampler, generator, latents, start, eta, replace
):
    encoder_hidden_states = encode_prompt(pipe, negative + prompts)  # (2B, 77, D)
    halves: list[torch.Tensor] = []

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        halves[:] = predict_noise(pipe, torch.cat([x, x]), t, encoder_hidden_states).chunk(2)
        return guide(*halves, guidance_scale)

    def noise() -> torch.Tensor:
        return _gaussian(latents.shape, generator)

    options = {"eta": eta} if sampler == "ddim" else {}
    alphas_cumprod = pipe.scheduler.alphas_cumprod.cpu().float()
    updates = SAMPLERS[sampler](
        predict, latents.cpu().float(), alphas_cumprod, steps, start, noise, **options
    )
    sent = None
    for index in range(start, steps):
        u = updates.send(sent) if index > start else next(updates)
        step = SampleStep(
            index,
            u.timestep,
            u.latents,
            halves[0],
            halves[1],
            u.noise_pred,
            u.pred_original_sample,
            u.prev_latents,
        )
        sent = replace(step) if replace else None
        yield step if sent is None else changed(step, prev_latents=sent)


def sample(pipe, prompt: str | list[str], **options) -> list[Image.Image]:
    """Prompt in, pictures out: all of :func:`sample_steps`, then the decoder. Same arguments.

    Returns:
        One PIL picture a prompt.
    """
    for step in sample_steps(pipe, prompt, **options):
        final = step
    return decode_latents(pipe, final.prev_latents)

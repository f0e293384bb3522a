"""Chapter 05: from pure noise to a picture, one step at a time.

A sampler is a generator: it is handed ``predict(latents, t)``, latents, a schedule and the
timesteps to visit, and yields one :class:`Update` a step. ``sample_steps`` adds a prompt and
guidance; whoever iterates owns plots, progress bars and the right to stop. Latents are changed on
the way by setting ``step.prev_latents`` before the next step is asked for: inpainting does (see
editing.py).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from sdlearn import hub, inputs
from sdlearn.compression import decode_latents
from sdlearn.noising import Schedule
from sdlearn.prediction import predict_noise, x0_from_epsilon
from sdlearn.text import check_prompt, encode_prompt

Predict = Callable[[torch.Tensor, float], torch.Tensor]
Generators = torch.Generator | list[torch.Generator] | None
_BUILT = "DDIMScheduler"  # models.build_pipeline's own


@dataclass
class Update:
    """What a sampler yields at each step. Tensors (B, C, h, w), scaled so that clean latents and
    noise have unit variance."""

    timestep: float
    latents: torch.Tensor
    noise_pred: torch.Tensor
    # the finished picture as this step imagines it
    pred_original_sample: torch.Tensor
    # one step less noise: what the next step starts from, and may be set by whoever iterates
    prev_latents: torch.Tensor


@dataclass
class SampleStep(Update):
    """One guided step: ``noise_pred`` is the sum of the two halves by :func:`guide`. Float32."""

    index: int
    noise_pred_uncond: torch.Tensor
    noise_pred_text: torch.Tensor


def guide(
    noise_pred_uncond: torch.Tensor, noise_pred_text: torch.Tensor, guidance_scale: float
) -> torch.Tensor:
    """Classifier-free guidance: eps_uncond + w (eps_text - eps_uncond).

    This w is 1 + the w of Ho and Salimans 2022, eq. 6.

    0 ignores the prompt, 1 only obeys it, more exaggerates what the prompt changes.
    """
    return noise_pred_uncond + guidance_scale * (noise_pred_text - noise_pred_uncond)


# ---------------------------------------------------------------------------------- the samplers
# ``timesteps`` fall; fewer than all of a spacing go in half-way (image to image). The last step
# ends at the clean picture, in ddim at the schedule's first level. ``noise()`` gives fresh Gaussian
# noise of the latents' shape.


def _levels_after(timesteps: Sequence[float], num_train_timesteps: int) -> list[float]:
    """Where each step ends: at the next timestep, the last one as far on as the one before it."""
    stride = timesteps[-2] - timesteps[-1] if len(timesteps) > 1 else num_train_timesteps
    return [*timesteps[1:], timesteps[-1] - stride]


def ddim(
    predict: Predict,
    latents: torch.Tensor,
    schedule: Schedule,
    timesteps: Sequence[int],
    *,
    eta: float = 0.0,
    noise: Callable[[], torch.Tensor] | None = None,
) -> Iterator[Update]:
    """DDIM (Song et al. 2021, eq. 12): jump to the imagined picture, then put back the noise of the
    next level; ``eta`` > 0 replaces part of it by fresh noise."""
    abars = schedule.alphas_cumprod
    for t, t_next in zip(timesteps, _levels_after(timesteps, len(abars)), strict=True):
        abar, abar_prev = abars[t], abars[max(t_next, 0)]
        eps = predict(latents, t)
        x0 = x0_from_epsilon(latents, eps, abar)
        std = eta * ((1 - abar_prev) / (1 - abar) * (1 - abar / abar_prev)) ** 0.5
        prev = abar_prev**0.5 * x0 + (1 - abar_prev - std**2) ** 0.5 * eps
        if eta > 0:
            prev = prev + std * noise()
        update = Update(t, latents, eps, x0, prev)
        yield update
        latents = update.prev_latents


def ddpm(
    predict: Predict,
    latents: torch.Tensor,
    schedule: Schedule,
    timesteps: Sequence[int],
    *,
    noise: Callable[[], torch.Tensor],
) -> Iterator[Update]:
    """DDPM (Ho et al. 2020, eqs. 6-7): a weighted mean of the imagined picture and the present one,
    plus fresh noise."""
    abars = schedule.alphas_cumprod
    for t, t_next in zip(timesteps, _levels_after(timesteps, len(abars)), strict=True):
        abar, abar_prev = abars[t], abars[t_next] if t_next >= 0 else torch.ones_like(abars[t])
        alpha = abar / abar_prev  # of the whole stride
        eps = predict(latents, t)
        x0 = x0_from_epsilon(latents, eps, abar)
        of_x0 = abar_prev**0.5 * (1 - alpha) / (1 - abar)
        of_latents = alpha**0.5 * (1 - abar_prev) / (1 - abar)
        variance = ((1 - abar_prev) / (1 - abar) * (1 - alpha)).clamp(min=1e-20)
        prev = of_x0 * x0 + of_latents * latents + variance**0.5 * noise()
        update = Update(t, latents, eps, x0, prev)
        yield update
        latents = update.prev_latents


def euler(
    predict: Predict, latents: torch.Tensor, schedule: Schedule, timesteps: Sequence[float]
) -> Iterator[Update]:
    """Euler (Karras et al. 2022, algorithm 1 without churn): the same path as DDIM, walked in units
    of sigma = noise / signal. At the schedule's last level the latents count as noise alone."""
    sigmas = torch.cat([schedule.sigma_at(timesteps), torch.zeros(1)])
    pure = timesteps[0] == schedule.num_train_timesteps - 1
    x = latents * (sigmas[0] if pure else (sigmas[0] ** 2 + 1) ** 0.5)
    for t, sigma, sigma_next in zip(timesteps, sigmas[:-1], sigmas[1:], strict=True):
        scaled = x / (sigma**2 + 1) ** 0.5  # what the U-Net was trained on
        eps = predict(scaled, t)
        prev = x + (sigma_next - sigma) * eps  # eps is the slope dx / dsigma
        back = (sigma_next**2 + 1) ** 0.5
        update = Update(t, scaled, eps, x - sigma * eps, prev / back)
        yield update
        x = update.prev_latents * back


def dpm_solver(
    predict: Predict, latents: torch.Tensor, schedule: Schedule, timesteps: Sequence[float]
) -> Iterator[Update]:
    """DPM-Solver++(2M) (Lu et al. 2022, algorithm 2): also uses the picture imagined one step
    before, so few steps go far."""
    sigmas = torch.cat([schedule.sigma_at(timesteps), torch.zeros(1)])
    alphas = 1 / (sigmas**2 + 1) ** 0.5
    stds = sigmas * alphas
    lambdas = alphas.log() - stds.log()  # half the log signal-to-noise ratio; infinite at the end
    older = None
    for i, t in enumerate(timesteps):
        eps = predict(latents, t)
        x0 = (latents - stds[i] * eps) / alphas[i]
        h = lambdas[i + 1] - lambdas[i]
        direction = x0
        if older is not None and i < len(timesteps) - 1:
            r = (lambdas[i] - lambdas[i - 1]) / h
            direction = x0 + (x0 - older) / (2 * r)  # straight on from the last two
        prev = stds[i + 1] / stds[i] * latents - alphas[i + 1] * torch.expm1(-h) * direction
        update = Update(t, latents, eps, x0, prev)
        yield update
        latents, older = update.prev_latents, x0


def boundary(t: Any) -> tuple[Any, Any]:
    """(c_skip, c_out): the shares in which a consistency function keeps its input and takes the
    imagined picture, (1, 0) at t = 0 and all but (0, 1) from t = 20 up (Luo et al. 2023, with
    sigma_data 0.5 and timesteps scaled by 10)."""
    scaled, data = 10 * t, 0.5
    return data**2 / (scaled**2 + data**2), scaled / (scaled**2 + data**2) ** 0.5


def lcm(
    predict: Predict,
    latents: torch.Tensor,
    schedule: Schedule,
    timesteps: Sequence[int],
    *,
    noise: Callable[[], torch.Tensor],
) -> Iterator[Update]:
    """Few steps of a consistency model (Song et al. 2023, algorithm 1; Luo et al. 2023): jump to
    the clean picture, then put fresh noise of the next level on it."""
    for t, t_next in zip(timesteps, [*timesteps[1:], None], strict=True):
        eps = predict(latents, t)
        kept, new = boundary(t)
        clean = kept * latents + new * x0_from_epsilon(latents, eps, schedule.alphas_cumprod[t])
        prev = clean
        if t_next is not None:
            abar = schedule.alphas_cumprod[t_next]
            prev = abar**0.5 * clean + (1 - abar) ** 0.5 * noise()
        update = Update(t, latents, eps, clean, prev)
        yield update
        latents = update.prev_latents


SAMPLERS: dict[str, Callable[..., Iterator[Update]]] = {
    "ddim": ddim,
    "ddpm": ddpm,
    "euler": euler,
    "dpm++": dpm_solver,
}
"""Those that any model can be sampled with."""
EVERY = SAMPLERS | {"lcm": lcm}
"""And the one for models that were taught to take few steps."""
# diffusers' own spacing for each, as Stable Diffusion is set up
SPACINGS = {"ddim": "leading", "ddpm": "leading", "euler": "linspace", "dpm++": "linspace_open"}
SPACINGS["lcm"] = "lcm"

# ------------------------------------------------------------------------------ the whole loop


def gaussian(shape: Sequence[int], generator: Generators) -> torch.Tensor:
    """Gaussian noise from one generator for the whole batch, or from one for each picture; always
    drawn on the CPU, so that a seed means the same on every device."""
    if isinstance(generator, list):
        return torch.cat([torch.randn(1, *shape[1:], generator=g) for g in generator])
    return torch.randn(tuple(shape), generator=generator)


def generators_of(seed: int | Sequence[int] | None, batch: int) -> Generators:
    """One CPU generator for a seed, one for each picture for a list of them, None for None.

    Raises:
        ValueError: for a seed that is no whole number, or another number of seeds than pictures.
    """
    if not isinstance(seed, (list, tuple)):
        return None if seed is None else torch.Generator().manual_seed(inputs.seed(seed))
    _one_each(seed, batch)
    return [torch.Generator().manual_seed(inputs.seed(one)) for one in seed]


def _one_each(seeds: Sequence[Any], batch: int) -> None:
    if len(seeds) != batch:
        raise ValueError(
            f"{len(seeds)} seeds for {batch} pictures: give one seed, or one for each picture."
        )


def start_latents(
    pipe: Any,
    batch: int = 1,
    seed: int | Sequence[int] | None = None,
    generator: Generators = None,
) -> torch.Tensor:
    """Pure Gaussian noise (batch, 4, h, w), always drawn on the CPU: a seed starts from the same
    latents on every device.

    One seed draws the whole batch as diffusers does; a list of seeds draws each picture by itself,
    so that each can be repeated alone.
    """
    inputs.check_pipe(pipe)
    batch = inputs.whole("batch", batch, 1, 4096)
    config = pipe.unet.config
    if generator is None:
        generator = generators_of(seed, batch)
    elif isinstance(generator, list):
        _one_each(generator, batch)
    return gaussian((batch, config.in_channels, config.sample_size, config.sample_size), generator)


def timesteps_of(pipe: Any, sampler: str, steps: int) -> list[float]:
    """The timesteps a sampler visits, most noise first.

    Raises:
        ValueError: for a sampler that does not exist, or a number of steps that it cannot take.
    """
    inputs.check_pipe(pipe, "scheduler")
    if not isinstance(sampler, str) or sampler not in EVERY:
        raise ValueError(
            f"Unknown sampler {inputs.shown(sampler)}: choose one of {', '.join(EVERY)}."
        )
    return Schedule.of(pipe).timesteps(SPACINGS[sampler], steps)


def _check_model(pipe: Any) -> None:
    config = inputs.check_pipe(pipe).unet.config
    if config.in_channels != config.out_channels:
        raise ValueError(
            f"This U-Net reads {config.in_channels} channels, a picture and a mask beside the "
            'latents: only models.as_pipeline("inpaint", pipe) can drive it.'
        )


def _check_start(pipe: Any, latents: torch.Tensor | None, start: int, batch: int, steps: int):
    channels = pipe.unet.config.in_channels
    if isinstance(start, bool) or not isinstance(start, int) or not 0 <= start < steps:
        raise ValueError(
            f"start must be from 0 to {steps - 1} (one step must be left); "
            f"got {inputs.shown(start)}."
        )
    if start and latents is None:
        raise ValueError(
            f"start = {start} goes in half-way: give latents that carry the noise of that step "
            "(noising.add_noise makes them)."
        )
    if latents is None:
        return
    if not torch.is_tensor(latents):
        raise TypeError(f"latents are a torch tensor; got {type(latents).__name__}.")
    if latents.ndim != 4 or latents.shape[:2] != (batch, channels):
        raise ValueError(
            f"latents must be one for each prompt, shape ({batch}, {channels}, height, width); "
            f"got {tuple(latents.shape)}."
        )
    if not torch.isfinite(latents).all():
        raise ValueError("latents hold nan or inf: start from finite numbers, such as noise.")


def _check_guidance(guidance_scale: float, negative: list[str], *, once: bool) -> None:
    if once and (guidance_scale != 1 or any(negative)):
        raise ValueError(
            "This few-step model learned its guidance: it runs once per step and takes "
            "guidance_scale=1 and no negative prompt; load another model to choose them."
        )
    try:
        inputs.number("guidance_scale", guidance_scale, -1000, 1000)
    except ValueError as error:
        raise ValueError(f"{error} 5 is a good start, 0 ignores the prompt.") from None
    if guidance_scale == 0:
        warnings.warn(
            "guidance_scale 0 ignores the prompt: the picture follows the negative prompt alone. "
            "1 obeys the prompt, 5 is a good start.",
            stacklevel=4,
        )
    if guidance_scale == 1 and any(negative):
        warnings.warn(
            "At guidance_scale 1 the negative prompt cannot act: choose a larger one, such as 3.",
            stacklevel=4,
        )


def _shipped_scheduler(pipe: Any) -> str:
    """Class name of the scheduler in the model's folder; of a pipeline built from parts, DDIM's."""
    folder = getattr(pipe, "name_or_path", None)
    path = Path(folder or ".") / "scheduler" / "scheduler_config.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))["_class_name"] if folder else _BUILT
    except (OSError, ValueError, KeyError, TypeError):
        return _BUILT


def _warn_of_scheduler(pipe: Any, sampler: str) -> None:
    """A scheduler that somebody put on the pipeline takes no part in our loop: say so."""
    own, put_on = _shipped_scheduler(pipe), type(pipe.scheduler).__name__
    meant = {theirs: name for name, theirs in hub.SAMPLERS.items()}.get(put_on)
    if put_on == own or meant == sampler:
        return
    say = f'say sampler="{meant}" for it' if meant else "choose by sampler= instead"
    warnings.warn(
        f"pipe.scheduler is now a {put_on}, but the steps here are taken by the sampler "
        f"{sampler!r}: {say}.",
        stacklevel=4,
    )


def _texts(pipe: Any, prompt: Any, negative_prompt: Any) -> list[str]:
    """The negative prompts, then as many prompts: what the text encoder reads."""
    _check_model(pipe)
    prompts = list(prompt) if isinstance(prompt, (list, tuple)) else [prompt]
    several = isinstance(negative_prompt, (list, tuple))
    negative = (
        list(negative_prompt)
        if several
        else ["" if negative_prompt is None else negative_prompt] * len(prompts)
    )
    if not prompts:
        raise ValueError("No prompt: give a string, or a list with at least one.")
    if len(negative) != len(prompts):
        raise ValueError(
            f"{len(negative)} negative prompts for {len(prompts)} prompts: give one for all, or "
            "one for each."
        )
    return [inputs.text(each) for each in negative + prompts]


def _chosen(
    pipe: Any, guidance_scale: float | None, sampler: str | None, steps: int | None
) -> hub.Defaults:
    """What was asked for, and the model's own settings where nothing was."""
    own = hub.defaults_of(pipe)
    return hub.Defaults(
        guidance_scale=own.guidance_scale if guidance_scale is None else guidance_scale,
        sampler=own.sampler if sampler is None else sampler,
        num_inference_steps=own.num_inference_steps if steps is None else steps,
    )


def _options(sampler: str, eta: float) -> dict[str, Any]:
    """What a sampler takes beyond latents, schedule and timesteps; the noise is still to come."""
    if not 0 <= inputs.number("eta", eta) <= 1 or (eta and sampler != "ddim"):
        raise ValueError(
            f"eta mixes fresh noise into the sampler 'ddim', from 0 to 1; got {eta} with "
            f"{sampler!r}."
        )
    options: dict[str, Any] = {"eta": eta} if sampler == "ddim" else {}
    return options | {"noise": None} if sampler in ("ddim", "ddpm", "lcm") else options


def _warn(pipe: Any, texts: list[str], chosen: hub.Defaults, *, from_noise: bool) -> None:
    """An empty prompt is warned of where nothing else says what the picture should be."""
    negative, prompts = texts[: len(texts) // 2], texts[len(texts) // 2 :]
    _check_guidance(chosen.guidance_scale, negative, once=hub.is_few_step(pipe))
    _warn_of_scheduler(pipe, chosen.sampler)
    for each in dict.fromkeys(prompts + negative):
        if each.strip() or (each in prompts and from_noise):
            check_prompt(pipe, each)


@inputs.own_keywords()
def sample_steps(
    pipe: Any,
    prompt: str | list[str],
    *,
    negative_prompt: str | list[str] = "",
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    sampler: str | None = None,
    seed: int | list[int] | None = None,
    generator: Generators = None,
    latents: torch.Tensor | None = None,
    start: int = 0,
    eta: float = 0.0,
) -> Iterator[SampleStep]:
    """Denoise step by step, guided by a prompt. What is None is the model's own (hub.defaults_of).

    Args:
        prompt, negative_prompt: what the picture should show and what not; lists give a batch.
        num_inference_steps: 1 to the schedule's length (1000).
        guidance_scale: see :func:`guide`.
        sampler: "ddim", "ddpm", "euler", "dpm++", or "lcm" for a few-step model.
        seed: of all noise (see :func:`start_latents`); with None each run differs.
        generator: a CPU generator (or a list, one for each picture), instead of ``seed``.
        latents: (B, 4, h, w) to start from, instead of noise.
        start: steps to skip; ``latents`` must then carry the noise of that step (image to image).
        eta: fresh noise in "ddim", 0 (none) to 1.

    Yields:
        One :class:`SampleStep` a step; set ``step.prev_latents`` to change what the next one starts
        from. Arguments are checked, and warned about, before the first one.

    Raises:
        ValueError, TypeError: one sentence that says what to do.
    """
    texts = _texts(pipe, prompt, negative_prompt)
    chosen = _chosen(pipe, guidance_scale, sampler, num_inference_steps)
    timesteps = timesteps_of(pipe, chosen.sampler, chosen.num_inference_steps)
    _check_start(pipe, latents, start, len(texts) // 2, len(timesteps))
    options = _options(chosen.sampler, eta)
    _warn(pipe, texts, chosen, from_noise=latents is None)
    generator = generators_of(seed, len(texts) // 2) if generator is None else generator
    if latents is None:
        latents = start_latents(pipe, len(texts) // 2, generator=generator)
    if "noise" in options:
        options["noise"] = partial(gaussian, latents.shape, generator)
    run = partial(EVERY[chosen.sampler], **options)
    way = (latents.cpu().float(), Schedule.of(pipe), timesteps[start:])
    return _guided(pipe, texts, chosen.guidance_scale, lambda predict: run(predict, *way), start)


@torch.no_grad()
def _guided(
    pipe: Any,
    texts: list[str],
    guidance_scale: float,
    run: Callable[[Predict], Iterator[Update]],
    start: int,
) -> Iterator[SampleStep]:
    """The sampler that ``run`` makes of a guided prediction; ``texts`` are the negative prompts,
    then the prompts."""
    states = encode_prompt(pipe, texts)  # (2B, 77, D)
    once = hub.is_few_step(pipe)  # guidance is folded in: no second run
    halves: list[torch.Tensor] = []

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        if once:
            halves[:] = [predict_noise(pipe, x, t, states[len(x) :])] * 2
            return halves[1]
        halves[:] = predict_noise(pipe, torch.cat([x, x]), t, states).chunk(2)
        return guide(halves[0], halves[1], guidance_scale)

    for index, update in enumerate(run(predict), start):
        step = SampleStep(**vars(update), index=index, noise_pred_uncond=halves[0],
                          noise_pred_text=halves[1])  # fmt: skip
        yield step
        update.prev_latents = step.prev_latents


def last_picture(pipe: Any, steps: Iterable[Update]) -> list[Image.Image]:
    """Go through all steps, then decode what the last one left: one PIL picture a prompt."""
    for step in steps:
        final = step
    return decode_latents(pipe, final.prev_latents)


def sample(pipe: Any, prompt: str | list[str], **options: Any) -> list[Image.Image]:
    """Prompt in, pictures out: all of :func:`sample_steps`, then the decoder. Same arguments.

    Returns:
        One PIL picture a prompt.
    """
    return last_picture(pipe, sample_steps(pipe, prompt, **options))

"""Chapter 07: the ways before latents: pictures made of pixels, and a cascade: a small picture,
then a second network that enlarges it.

All of it in the manner of sampling.py: generators that yield one :class:`sampling.Update` a step,
whose "latents" are here the pixels themselves, (B, 3, side, side) between -1 and 1.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch.nn import functional

from sdlearn import folders, hub, inputs, models, noising, sampling
from sdlearn.compression import to_images
from sdlearn.noising import Schedule
from sdlearn.text import encode_prompt

# the shipped networks, or your own
RACE = Path(os.environ.get("SDLEARN_RACE") or Path(__file__).parents[1] / "race")
WAYS = ("pixels", "cascade", "latents")
MOST_NOISE = 100  # the noisiest timestep that the enlarging network met on its small pictures
STEPS = {"pixels": 12, "small": 12, "upscale": 6}
GUIDANCE = 2.0
NOISE_LEVEL = 20  # timestep of the noise put on the small picture before it is enlarged

# The race of chapter 07: three U-Nets on pixels that are told the same words as Tiny SD's. The wide
# stages are narrow, because each of their pixels costs; attention stands at sides of 16 and less.
_DOWN, _UP = ("DownBlock2D", "CrossAttnDownBlock2D"), ("UpBlock2D", "CrossAttnUpBlock2D")
RACE_UNETS: dict[str, dict[str, Any]] = {
    "pixels": dict(  # 128 x 128 pixels from words
        sample_size=128,
        in_channels=3,
        out_channels=3,
        block_out_channels=(24, 32, 64, 96, 112),
        down_block_types=(_DOWN[0],) * 3 + (_DOWN[1],) * 2,
        up_block_types=(_UP[1],) * 2 + (_UP[0],) * 3,
        attention_head_dim=(1, 1, 2, 3, 4),
        norm_num_groups=8,
    ),
    "small": dict(  # 32 x 32 pixels from words
        sample_size=32,
        in_channels=3,
        out_channels=3,
        block_out_channels=(48, 96, 112),
        down_block_types=(_DOWN[0], _DOWN[1], _DOWN[1]),
        up_block_types=(_UP[1], _UP[1], _UP[0]),
        attention_head_dim=(1, 3, 4),
        norm_num_groups=16,
    ),
    "upscale": dict(  # 128 x 128 pixels from 32 x 32: local, it reads no words
        sample_size=128,
        in_channels=6,  # the noisy picture and the enlarged small one
        out_channels=3,
        block_out_channels=(16, 32, 64),
        down_block_types=(_DOWN[0],) * 3,
        up_block_types=(_UP[0],) * 3,
        mid_block_type=None,
        norm_num_groups=8,
        class_embed_type="timestep",  # how noisy the small picture is
    ),
}


# ------------------------------------------------------------------------------ sizes and noise


def shift_noise(alphas_cumprod: torch.Tensor, factor: float) -> torch.Tensor:
    """The same schedule with ``factor`` times as much noise over signal at each step:
    abar / (abar + factor^2 (1 - abar)) (Hoogeboom et al. 2023, "simple diffusion", section 3.1).

    A picture of ``factor`` times the side needs it: the mean of factor^2 pixels, which is what the
    smaller picture shows, has only a factor-th of their noise.

    Raises:
        ValueError: for a factor that is not above 0.
    """
    if inputs.number("factor", factor) <= 0:
        raise ValueError(f"factor must be above 0; got {factor}: 1 leaves the noise as it is.")
    return alphas_cumprod / (alphas_cumprod + factor**2 * (1 - alphas_cumprod))


def shrink(pixels: torch.Tensor, side: int) -> torch.Tensor:
    """Pictures (B, 3, h, w) of a smaller side: each pixel the mean of those it stands for."""
    return functional.adaptive_avg_pool2d(pixels, side)


def enlarge(small: torch.Tensor, side: int) -> torch.Tensor:
    """Pictures (B, 3, h, w) of a larger side, with straight lines between the old pixels."""
    return functional.interpolate(small, size=(side, side), mode="bilinear", align_corners=False)


def noisy_and_enlarged(
    small: torch.Tensor, noise: torch.Tensor, level: int | torch.Tensor, side: int
) -> torch.Tensor:
    """What the enlarging network reads beside its own noisy picture: the small one with the noise
    of timestep ``level``, enlarged (Ho et al. 2022, "Cascaded diffusion models", section 4.2)."""
    noisy = noising.add_noise(small, noise, level, noising.make_alphas_cumprod())
    return enlarge(noisy, side)


def schedule_of(name: str) -> torch.Tensor:
    """The ``alphas_cumprod`` a network of the race learns on: Tiny SD's, with as many times the
    noise as its pictures are larger than latents of 16 x 16. The enlarging one keeps Tiny SD's:
    what is large in a picture it reads from the small one."""
    abars = noising.make_alphas_cumprod()
    if name in ("pixels", "small"):
        side = RACE_UNETS[name]["sample_size"]
        return shift_noise(abars, side / models.TINY_UNET["sample_size"])
    return abars


# -------------------------------------------------------------------------------- the networks


class Denoiser(NamedTuple):
    """A U-Net with its schedule and nothing else."""

    unet: Any
    scheduler: Any

    @property
    def schedule(self) -> Schedule:
        """The levels of noise; what is predicted of them is :func:`imagine`'s affair."""
        return Schedule(self.scheduler.alphas_cumprod)


def load_denoiser(folder: str | os.PathLike) -> Denoiser:
    """A U-Net in float32 and its scheduler from a folder with ``unet/`` and ``scheduler/``.

    Raises:
        FileNotFoundError, ValueError: with one sentence that says what to do.
    """
    unet = hub.load_part("unet", folder)
    for key, value in unet.named_parameters():
        if not torch.isfinite(value).all():
            raise ValueError(
                f"{folder}: unet/{key} holds numbers that are not finite: fetch it again."
            )
    config = folders.read_json(Path(folder) / "scheduler" / "scheduler_config.json")
    told = {key: value for key, value in config.items() if not key.startswith("_")}
    return Denoiser(unet, models.build_scheduler(**told))


def save_denoiser(
    folder: str | os.PathLike, unet: Any, alphas_cumprod: torch.Tensor, prediction_type: str
) -> None:
    """Write a U-Net as fp16 safetensors, with its schedule and what it predicts beside it."""
    models.quiet()
    copy.deepcopy(unet).half().save_pretrained(Path(folder) / "unet")
    before = torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    scheduler = models.build_scheduler(
        prediction_type=prediction_type,
        beta_schedule="linear",
        trained_betas=(1 - alphas_cumprod.double() / before.double()).tolist(),
        timestep_spacing="trailing",
    )
    scheduler.save_pretrained(Path(folder) / "scheduler")


class Race(NamedTuple):
    """The three networks on pixels; Tiny SD is the fourth."""

    pixels: Denoiser  # words -> 128 x 128 pixels
    small: Denoiser  # words -> 32 x 32 pixels
    upscale: Denoiser  # 32 x 32 -> 128 x 128 pixels


def load_race(folder: str | os.PathLike = RACE) -> Race:
    """The trained networks of a folder with ``pixels/``, ``small/`` and ``upscale/``: those that
    ship, or the ones that the environment variable ``SDLEARN_RACE`` names.

    Raises:
        FileNotFoundError: if one is not there.
        ValueError: if one is damaged, or does another task than its name says.
    """
    if not isinstance(folder, (str, os.PathLike)) or not Path(folder).is_dir():
        raise FileNotFoundError(
            f"There is no race at {inputs.shown(folder)}: `python -m sdlearn.training race` makes "
            "one."
        )
    race = Race(*(load_denoiser(Path(folder) / name) for name in Race._fields))
    for name, net in race._asdict().items():
        wanted = RACE_UNETS[name]["in_channels"]
        if net.unet.config.in_channels != wanted:
            raise ValueError(
                f"{folder}: {name} reads {net.unet.config.in_channels} channels instead of "
                f"{wanted}: it is another network; train it with `python -m sdlearn.training race`."
            )
    return race


# --------------------------------------------------------------------------------- the samplers


@torch.no_grad()
def imagine(
    net: Denoiser,
    x: torch.Tensor,
    t: float,
    states: torch.Tensor | None = None,
    *,
    beside: torch.Tensor | None = None,
    level: int = 0,
) -> torch.Tensor:
    """The clean picture (B, 3, side, side) that a network on pixels sees in the noisy ``x``.

    Networks here are trained to say the picture, not its noise (Li and He 2025, "Back to basics").

    Args:
        states: (B, 77, D) what the text encoder made of the words.
        beside: the enlarged small picture, for the network that enlarges: it says what is to be
            added to it.
        level: the timestep of the noise on it.
    """
    told = torch.full((len(x),), level)
    seen = x if beside is None else torch.cat([x, beside], 1)
    with hub.LOCK:
        said = net.unet(seen, t, encoder_hidden_states=states, class_labels=told).sample
    return said if beside is None else said + beside


def noise_of(x: torch.Tensor, x0: torch.Tensor, abar: float | torch.Tensor) -> torch.Tensor:
    """The noise in ``x`` where the clean picture is ``x0``, cut off at -1 and 1: pixels, unlike
    latents, have an end (Saharia et al. 2022, "Imagen", section 2.3, static thresholding)."""
    return (x - abar**0.5 * x0.clamp(-1, 1)) / (1 - abar) ** 0.5


@torch.no_grad()
def pixel_steps(
    net: Denoiser,
    pipe: Any,
    prompt: str | list[str],
    *,
    steps: int = STEPS["pixels"],
    guidance_scale: float = GUIDANCE,
    seed: int | list[int] | None = None,
) -> Iterator[sampling.Update]:
    """A picture of pixels from words, step by step: the loop of chapter 05 without an autoencoder.

    Args:
        net: a network on pixels, ``race.pixels`` or ``race.small``.
        pipe: whose tokenizer and text encoder read the prompt.
        prompt, seed: as in :func:`sampling.sample_steps`.
        steps: of DPM-Solver++(2M).
        guidance_scale: see :func:`sampling.guide`.

    Yields:
        One :class:`sampling.Update` a step, with (B, 3, side, side) pixels.
    """
    prompts = list(prompt) if isinstance(prompt, (list, tuple)) else [prompt]
    scale = inputs.number("guidance_scale", guidance_scale, -1000, 1000)
    schedule, side = net.schedule, net.unet.config.sample_size
    timesteps = schedule.timesteps("linspace_open", steps)
    states = encode_prompt(pipe, [""] * len(prompts) + prompts)
    noise = sampling.generators_of(seed, len(prompts))
    x = sampling.gaussian((len(prompts), 3, side, side), noise)

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        without, told = imagine(net, torch.cat([x, x]), t, states).chunk(2)
        return noise_of(x, sampling.guide(without, told, scale), schedule.abar_at(t))

    yield from sampling.dpm_solver(predict, x, schedule, timesteps)


@torch.no_grad()
def upscale_steps(
    net: Denoiser,
    small: torch.Tensor,
    *,
    steps: int = STEPS["upscale"],
    noise_level: int = NOISE_LEVEL,
    seed: int | list[int] | None = None,
) -> Iterator[sampling.Update]:
    """A large picture around a small one, step by step. It reads no words and needs no guidance.

    Args:
        net: the enlarging network, ``race.upscale``.
        small: (B, 3, 32, 32) pixels between -1 and 1.
        steps: of DPM-Solver++(2M).
        noise_level: timestep of the noise put on the small picture first, 0 to
            :data:`MOST_NOISE`.
        seed: of all noise.

    Raises:
        ValueError, TypeError: one sentence that says what to do.
    """
    side = net.unet.config.sample_size
    wanted = RACE_UNETS["small"]["sample_size"]
    inputs.tensors(small=small)
    if small.ndim != 4 or tuple(small.shape[1:]) != (3, wanted, wanted):
        raise ValueError(
            f"The cascade enlarges pictures of {wanted} x {wanted} pixels, a tensor "
            f"(B, 3, {wanted}, {wanted}); got {tuple(small.shape)}: "
            f"cascade.shrink(pixels, {wanted}) makes them."
        )
    level = inputs.whole("noise_level", noise_level, 0, MOST_NOISE)
    schedule, generator = net.schedule, sampling.generators_of(seed, len(small))
    timesteps = schedule.timesteps("linspace_open", steps)
    beside = noisy_and_enlarged(small, sampling.gaussian(small.shape, generator), level, side)

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        x0 = imagine(net, x, t, beside=beside, level=level)
        return noise_of(x, x0, schedule.abar_at(t))

    x = sampling.gaussian((len(small), 3, side, side), generator)
    yield from sampling.dpm_solver(predict, x, schedule, timesteps)


def in_pixels(race: Race, pipe: Any, prompt: str | list[str], **options: Any) -> list[Image.Image]:
    """Prompt in, pictures out, in one go: all of :func:`pixel_steps`. Same options."""
    for step in pixel_steps(race.pixels, pipe, prompt, **options):
        final = step
    return to_images(final.prev_latents)


def by_cascade(
    race: Race,
    pipe: Any,
    prompt: str | list[str],
    *,
    noise_level: int = NOISE_LEVEL,
    guidance_scale: float = GUIDANCE,
    seed: int | list[int] | None = None,
) -> tuple[list[Image.Image], list[Image.Image]]:
    """Prompt in, (small pictures, the same enlarged) out.

    ``noise_level`` is that of :func:`upscale_steps`, the others are those of :func:`pixel_steps`.
    """
    for step in pixel_steps(race.small, pipe, prompt, guidance_scale=guidance_scale, seed=seed):
        small = step.prev_latents
    for step in upscale_steps(race.upscale, small, noise_level=noise_level, seed=seed):
        large = step.prev_latents
    return to_images(small), to_images(large)

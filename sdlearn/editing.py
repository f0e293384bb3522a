"""Chapter 06: from a picture that exists to a picture you asked for. Everything here is the loop of
chapter 05, entered or bent somewhere."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sdlearn import hub, inputs
from sdlearn.compression import encode_image, posterior, psnr
from sdlearn.noising import Schedule
from sdlearn.prediction import predict_noise, x0_from_epsilon
from sdlearn.sampling import (
    SampleStep,
    ddim,
    gaussian,
    generators_of,
    guide,
    last_picture,
    sample_steps,
    start_latents,
    timesteps_of,
)
from sdlearn.text import AttentionRecorder, check_prompt, encode_prompt, record_attention

Images = Image.Image | list[Image.Image]
"""One picture or several, in any form that inputs.open_image reads."""

# ------------------------------------------------------------------ image to image, inpainting


def skipped_steps(strength: float, num_inference_steps: int) -> int:
    """How many steps image to image skips, so that the last int(steps x strength) are left (Meng et
    al. 2022, "SDEdit").

    Raises:
        ValueError: for a strength outside 0 to 1, or so small that no step is left.
    """
    inputs.number("strength", strength)
    if not 0 <= strength <= 1 or int(num_inference_steps * strength) < 1:
        least = 1 / num_inference_steps
        raise ValueError(
            f"strength must be from {least:.2g} (one of {num_inference_steps} steps) to 1 (all of "
            f"them); got {strength}. 0.6 is a good start."
        )
    return num_inference_steps - int(num_inference_steps * strength)


def _leave_out(settings: dict[str, Any], *names: str) -> None:
    if taken := [name for name in names if name in settings]:
        raise TypeError(f"This function sets {taken[0]} itself: leave it out.")


class _Start:
    """Where a run enters: the picture's latents, drawn from their posteriors, then the noise, both
    from one generator, as diffusers does."""

    def __init__(self, pipe, image, prompt, strength, settings: dict[str, Any]):
        _leave_out(settings, "latents", "start")
        own = hub.defaults_of(inputs.check_pipe(pipe))
        self.sampler = settings.get("sampler") or own.sampler
        self.steps = settings.get("num_inference_steps")
        self.steps = own.num_inference_steps if self.steps is None else self.steps
        self.schedule = Schedule.of(pipe)
        self.timesteps = timesteps_of(pipe, self.sampler, self.steps)
        self.index = skipped_steps(strength, self.steps)
        count = len(prompt) if isinstance(prompt, (list, tuple)) else 1
        self.generator = settings.get("generator")
        if self.generator is None:
            self.generator = generators_of(settings.get("seed"), count)
        mean, std = (part.cpu() for part in posterior(pipe, image))
        if len(mean) not in (1, count):
            raise ValueError(
                f"{len(mean)} pictures for {count} prompts: give one picture for all, or one for "
                "each."
            )
        mean, std = (part.expand(count, -1, -1, -1) for part in (mean, std))
        self.x0 = mean + std * gaussian(mean.shape, self.generator)
        self.noise = gaussian(mean.shape, self.generator)

    def noised(self, index: int) -> torch.Tensor:
        """The picture's latents as the step of this index finds them; clean after the last."""
        if index == self.steps:
            return self.x0
        return self.schedule.add_noise(self.x0, self.noise, self.timesteps[index])

    def run(
        self, pipe: Any, prompt: Any, latents: torch.Tensor, settings: dict[str, Any]
    ) -> Iterator[SampleStep]:
        settings = {name: v for name, v in settings.items() if name not in ("seed", "generator")}
        mine = dict(num_inference_steps=self.steps, sampler=self.sampler, start=self.index)
        return sample_steps(
            pipe, prompt, latents=latents, generator=self.generator, **{**settings, **mine}
        )


def img2img_steps(
    pipe: Any,
    image: Images,
    prompt: str | list[str],
    *,
    strength: float = 0.6,
    **sampling: Any,
) -> Iterator[SampleStep]:
    """The steps of :func:`img2img`; the first one's ``latents`` are the picture with the noise of
    the point of entry."""
    start = _Start(pipe, image, prompt, strength, sampling)
    latents = start.noised(start.index)
    if start.sampler == "euler" and start.index == 0:
        # which takes whatever enters at the schedule's last level for noise alone
        latents = latents / (1 - start.schedule.alphas_cumprod[-1].item()) ** 0.5
    return start.run(pipe, prompt, latents, sampling)


def img2img(
    pipe: Any, image: Images, prompt: str | list[str], *, strength: float = 0.6, **sampling: Any
) -> list[Image.Image]:
    """Image to image: noise a picture part of the way and denoise it with a prompt (Meng et al.
    2022).

    Args:
        image: sides a multiple of the autoencoder's reduction (``compression.fit`` sees to it). One
            for all prompts, or a list.
        strength: share of the steps that are run: little changes little, 1 leaves almost nothing of
            the picture.
        sampling: as for ``sampling.sample_steps``.

    Returns:
        One PIL picture a prompt, the same as StableDiffusionImg2ImgPipeline's.
    """
    return last_picture(pipe, img2img_steps(pipe, image, prompt, strength=strength, **sampling))


def latent_mask(mask: Any, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A mask as the latents see it, (1, 1, h, w) of 0 and 1: the nearest pixel of each patch, light
    ones are 1 and will be repainted.

    Args:
        mask: see inputs.open_mask; of the picture's ``size`` (width, height).

    Raises:
        ValueError: if its size is another, or nothing is to be repainted.
    """
    mask = inputs.same_size(inputs.open_mask(mask), size)
    light = torch.from_numpy(np.asarray(mask, np.float32))[None, None] >= 127.5
    small = torch.nn.functional.interpolate(light.float(), size=latents.shape[-2:])
    if not small.any():
        raise ValueError(
            "The mask leaves nothing to repaint: make the part that should change white, at least "
            "a few patches wide."
        )
    return small


def inpaint_steps(
    pipe: Any,
    image: Images,
    mask: Any,
    prompt: str | list[str],
    *,
    strength: float = 1.0,
    **sampling: Any,
) -> Iterator[SampleStep]:
    """The steps of :func:`inpaint`."""
    images = inputs.open_images(image)
    start = _Start(pipe, images, prompt, strength, sampling)
    m = latent_mask(mask, start.x0, images[0].size)
    latents = start.noise if strength == 1 else start.noised(start.index)
    return _blended(start.run(pipe, prompt, latents, sampling), m, start)


def _blended(steps: Iterator[SampleStep], m: torch.Tensor, start: _Start) -> Iterator[SampleStep]:
    """Outside the mask, the picture with the noise of the next step (none after the last) takes the
    place of what was imagined."""
    for step in steps:
        step.prev_latents = (1 - m) * start.noised(step.index + 1) + m * step.prev_latents
        yield step


def inpaint(
    pipe: Any,
    image: Images,
    mask: Any,
    prompt: str | list[str],
    *,
    paste: bool = False,
    **sampling: Any,
) -> list[Image.Image]:
    """Repaint the white part of a mask so that it fits the rest and the prompt (Avrahami et al.
    2023, "Blended Latent Diffusion").

    Works with any model of 4 latent channels: outside the mask, each step's latents are overwritten
    by the picture's own at the same noise level.

    Args:
        mask: of the picture's size; see :func:`latent_mask`.
        prompt: best a caption of the whole wished picture, not only of what is new.
        paste: put the original pixels back outside the mask, which the autoencoder would soften.
        sampling: as for ``sampling.sample_steps``, and ``strength`` (1: what was under the mask is
            forgotten).

    Returns:
        One PIL picture a prompt; without ``paste`` the same as StableDiffusionInpaintPipeline's
        with a 4-channel U-Net and sampler "ddim", "euler" or "dpm++".
    """
    pictures = last_picture(pipe, inpaint_steps(pipe, image, mask, prompt, **sampling))
    originals = inputs.open_images(image)
    if len(originals) == 1:
        originals = originals * len(pictures)
    if not paste:
        return pictures
    return [paste_back(new, old, mask) for new, old in zip(pictures, originals, strict=True)]


def paste_back(new: Image.Image, original: Any, mask: Any) -> Image.Image:
    """The new picture where the mask is light, the original's pixels elsewhere."""
    original, mask = inputs.open_image(original), inputs.open_mask(mask)
    new = inputs.same_size(inputs.open_image(new), original.size)
    light = inputs.same_size(mask, original.size).point(lambda light: 255 * (light >= 127.5))
    return Image.composite(new, original, light)


def psnr_outside(a: Any, b: Any, mask: Any) -> float:
    """``compression.psnr`` of the pixels that a mask leaves alone.

    Raises:
        ValueError: if sizes differ, or the mask leaves no pixel alone.
    """
    pair = [inputs.open_image(one) for one in (a, b)]
    dark = np.asarray(inputs.same_size(inputs.open_mask(mask), pair[0].size)) < 127.5
    if not dark.any():
        raise ValueError("The mask covers the whole picture: there is nothing outside to compare.")
    if pair[0].size != pair[1].size:
        return psnr(*pair)  # which says what is wrong
    return psnr(*(Image.fromarray(np.asarray(one)[dark][None]) for one in pair))


# --------------------------------------------------------- inversion, the same noise told anew


@inputs.own_keywords()
def invert_steps(
    pipe: Any, image: Images, prompt: str | list[str], *, num_inference_steps: int = 50
) -> Iterator[torch.Tensor]:
    """DDIM backwards (Song et al. 2021, section 4.3; Mokady et al. 2023, section 3): yields the
    picture's clean latents, then those with ever more noise, steps + 1 in all.

    The noise is the one the U-Net sees, so DDIM with guidance 1 and as many steps leads back nearly
    the same way. Each backward step asks the U-Net about the latents of the level before, because
    those of its own are what it is about to find: hence the "nearly".

    Raises:
        ValueError, TypeError: for bad pictures, prompts or steps, before the first step.
    """
    prompts = list(prompt) if isinstance(prompt, (list, tuple)) else [prompt]
    images = inputs.open_images(image)
    if len(images) not in (1, len(prompts)):
        raise ValueError(
            f"{len(images)} pictures for {len(prompts)} prompts: give one picture for all, or one "
            "for each."
        )
    timesteps = timesteps_of(inputs.check_pipe(pipe), "ddim", num_inference_steps)
    for one in dict.fromkeys(map(inputs.text, prompts)):
        check_prompt(pipe, one)
    x0 = encode_image(pipe, images).cpu().expand(len(prompts), -1, -1, -1)
    return _inverted(pipe, x0, encode_prompt(pipe, prompts), timesteps)


@torch.no_grad()
def _inverted(pipe: Any, x: torch.Tensor, states: torch.Tensor, timesteps: list[float]):
    alphas_cumprod = Schedule.of(pipe).alphas_cumprod
    abar = alphas_cumprod[0]
    yield x
    for t in timesteps[::-1]:
        eps = predict_noise(pipe, x, t, states)
        x0, abar = x0_from_epsilon(x, eps, abar), alphas_cumprod[t]
        x = abar**0.5 * x0 + (1 - abar) ** 0.5 * eps
        yield x


@inputs.own_keywords()
def invert(
    pipe: Any, image: Images, prompt: str | list[str], *, num_inference_steps: int = 50
) -> torch.Tensor:
    """The noise (B, 4, h, w) from which DDIM would paint this picture, given this prompt, with
    guidance 1 and as many steps."""
    *_, noise = invert_steps(pipe, image, prompt, num_inference_steps=num_inference_steps)
    return noise


def shared_words(pipe: Any, prompt: str, new_prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
    """For each token of the new prompt: its place in the old one, and whether it has one; both
    (77,).

    Tokens that both prompts share belong together, and a replaced one to the one it replaces; what
    is added belongs to nothing.
    """
    with hub.LOCK:
        old, new = (
            pipe.tokenizer(inputs.text(p), padding="max_length", truncation=True).input_ids
            for p in (prompt, new_prompt)
        )
    place, kept = torch.arange(len(new)), torch.zeros(len(new), dtype=torch.bool)
    for what, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal" or (what == "replace" and b - a == d - c):
            place[c:d], kept[c:d] = torch.arange(a, b), True
    return place, kept


class KeepAttention(AttentionRecorder):
    """Cross-attention for a batch [..., old prompts, new prompts]: while ``on``, the new ones look
    at the words they share with the old ones from where the old ones do.

    This is prompt-to-prompt (Hertz et al. 2022, section 3): where a word acts is kept from the old
    prompt, what it says comes from the new one.
    """

    def __init__(self, pairs: list[tuple[torch.Tensor, torch.Tensor]]):
        super().__init__()
        self.place, self.kept = (
            torch.stack(part)[:, None, None] for part in zip(*pairs, strict=True)
        )  # (B, 1, 1, 77)
        self.on = True

    def look(self, weights: torch.Tensor) -> torch.Tensor:
        if not self.on:
            return weights
        count = len(self.place)
        old, new = weights[-2 * count : -count], weights[-count:]
        moved = old.gather(-1, self.place.to(old.device).expand_as(new))
        return torch.cat([weights[:-count], torch.where(self.kept.to(old.device), moved, new)])


def prompt_to_prompt(
    pipe: Any,
    prompt: str | list[str],
    new_prompt: str | list[str],
    *,
    path: list[torch.Tensor] | None = None,
    keep: float = 0.8,
    num_inference_steps: int = 25,
    seed: int | list[int] | None = None,
    **sampling: Any,
) -> tuple[list[Image.Image], list[Image.Image]]:
    """The same picture with a word changed (prompt-to-prompt, Hertz et al. 2022): (pictures of the
    old prompts, of the new ones).

    Args:
        path: the list of :func:`invert_steps` with as many steps, to edit a picture that exists:
            the old prompt's latents are held on it (Ju et al. 2024, "PnP Inversion").
        keep: share of the steps, from the first on, in which the new prompt keeps the old one's
            attention.
        seed: of the start noise, if there is no path. Old and new prompt start from the same.
        sampling: as for ``sampling.sample_steps``.
    """
    old, new = ([p] if isinstance(p, str) else list(p) for p in (prompt, new_prompt))
    inputs.number("keep", keep, 0, 1)
    if len(old) != len(new):
        raise ValueError(f"{len(old)} prompts and {len(new)} new ones: each needs its partner.")
    if path is not None and len(path) != num_inference_steps + 1:
        raise ValueError(
            f"The path has {len(path) - 1} steps and the sampling {num_inference_steps}: give both "
            "the same num_inference_steps."
        )
    _leave_out(sampling, "latents", "start", "generator")
    pairs = [shared_words(pipe, a, b) for a, b in zip(old, new, strict=True)]
    if path is not None:  # an inverted picture lies on the path of DDIM
        sampling = {"sampler": "ddim", **sampling}
    keeper = KeepAttention(pairs)
    start = start_latents(pipe, len(old), seed) if path is None else path[-1]
    steps = sample_steps(
        pipe,
        old + new,
        latents=torch.cat([start, start]),
        num_inference_steps=num_inference_steps,
        **sampling,
    )
    with record_attention(pipe, keeper):
        held = _held(steps, keeper, path, keep * num_inference_steps)
        pictures = last_picture(pipe, held)
    return pictures[: len(old)], pictures[len(old) :]


def _held(
    steps: Iterator[SampleStep],
    keeper: KeepAttention,
    path: list[torch.Tensor] | None,
    kept_steps: float,
) -> Iterator[SampleStep]:
    """Switch the keeper off after its share, and hold the old prompts' half of the latents on the
    path."""
    keeper.on = kept_steps > 0
    for step in steps:
        keeper.on = step.index + 1 < kept_steps
        if path is not None:
            mine = step.prev_latents[len(path[0]) :]
            step.prev_latents = torch.cat([path[-2 - step.index], mine])
        yield step


# -------------------------------------------------------------------------------------- walks


@inputs.own_keywords()
def slerp(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """From a (t = 0) to b (t = 1) along the arc between them, each picture of the batch (B, ...) as
    one long vector (Shoemake 1985).

    A straight line would cut through the ball: halfway between two noises its length is only
    1 / sqrt(2) of theirs.

    Raises:
        ValueError: for different shapes, or vectors that point exactly away from each other: of
            their arcs none is the shortest.
    """
    inputs.tensors(a=a, b=b)
    if a.shape != b.shape or not a.ndim:
        raise ValueError(
            f"Both ends of the arc need one shape; got {tuple(a.shape)} and {tuple(b.shape)}."
        )
    inputs.number("t", t)
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    cosine = torch.nn.functional.cosine_similarity(flat_a, flat_b).clamp(-1, 1)
    angle = cosine.acos()[:, None]
    bend = angle.sin()
    if ((bend <= 1e-3) & (angle > 1)).any():
        raise ValueError(
            "The two ends point exactly away from each other, so that no arc between them is the "
            "shortest: take another seed for one of them."
        )
    arc = (((1 - t) * angle).sin() * flat_a + (t * angle).sin() * flat_b) / bend
    # parallel vectors have no arc
    return torch.where(bend > 1e-4, arc, torch.lerp(flat_a, flat_b, t)).view_as(a)


@inputs.own_keywords()
def walk(
    pipe: Any,
    prompts: tuple[str, str],
    seeds: tuple[int, int],
    count: int = 9,
    *,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
) -> list[Image.Image]:
    """``count`` pictures on the way from one prompt and seed to another: the prompts' states mixed
    in a straight line, the noises along the arc. Both ends are ``sample``'s with sampler "ddim".

    Raises:
        ValueError, TypeError: unless there are two prompts and two seeds.
    """
    own = hub.defaults_of(inputs.check_pipe(pipe))
    steps = own.num_inference_steps if num_inference_steps is None else num_inference_steps
    scale = own.guidance_scale if guidance_scale is None else guidance_scale
    timesteps = timesteps_of(pipe, "ddim", steps)
    inputs.number("guidance_scale", scale, -1000, 1000)
    inputs.whole("count", count, 1, 1000)
    for name, pair in (("prompts", prompts), ("seeds", seeds)):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise ValueError(f"A walk has two ends: give two {name}; got {inputs.shown(pair)}.")
    for prompt in prompts:
        check_prompt(pipe, prompt)
    here, there = (start_latents(pipe, 1, inputs.seed(seed)) for seed in seeds)
    shares = torch.linspace(0, 1, count).tolist()
    latents = torch.cat([slerp(here, there, u) for u in shares])
    without, first, last = encode_prompt(pipe, ["", *prompts]).split(1)
    states = torch.cat([torch.lerp(first, last, u) for u in shares])
    both_states = torch.cat([without.expand_as(states), states])

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        uncond, text = predict_noise(pipe, torch.cat([x, x]), t, both_states).chunk(2)
        return guide(uncond, text, scale)

    return last_picture(pipe, ddim(predict, latents, Schedule.of(pipe), timesteps))


def save_gif(
    images: list[Image.Image], path: str | Path, *, seconds: float = 0.12, back: bool = True
) -> Path:
    """Write pictures as a GIF that runs for ever, ``seconds`` a picture; with ``back`` it returns
    the way it came, so that it has no jump.

    Raises:
        ValueError: if there is no picture.
    """
    if not images:
        raise ValueError("A GIF needs at least one picture.")
    images = inputs.open_images(list(images))
    milliseconds = round(1000 * inputs.number("seconds", seconds, 0.01, 60))
    frames = [*images, *(images[-2:0:-1] if back else [])]
    options = dict(save_all=True, append_images=frames[1:], duration=milliseconds, loop=0)
    frames[0].save(path, "GIF", **options)
    return Path(path)

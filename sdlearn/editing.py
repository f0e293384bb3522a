"""Chapter 06: from a picture that exists to a picture you asked for. Everything here is the loop of chapter 05, entered or bent somewhere."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from sdlearn.compression import decode_latents, encode_image, posterior, psnr
from sdlearn.noising import add_noise
from sdlearn.prediction import predict_noise, x0_from_epsilon
from sdlearn.sampling import (
    SampleStep,
    _gaussian,
    _generator,
    ddim,
    guide,
    sample_steps,
    start_latents,
    timesteps_of,
)
from sdlearn.text import AttentionRecorder, encode_prompt, record_attention

Images = Image.Image | list[Image.Image]

# --------------------------------------------------------------------------------------------- image to image, inpainting


def entry(strength: float, num_inference_steps: int) -> int:
    """How many steps image to image skips, so that the last int(steps x strength) are left (Meng et al. 2022, "SDEdit").

    Raises:
        ValueError: for a strength outside 0 to 1, or so small that no step is left.
    """
    if not 0 <= strength <= 1 or int(num_inference_steps * strength) < 1:
        least = 1 / num_inference_steps
        raise ValueError(
            f"strength must be from {least:.2g} (one of {num_inference_steps} steps) to 1 (all of them); got {strength}. 0.6 is a good start."
        )
    return num_inference_steps - int(num_inference_steps * strength)


def _noised(pipe, x0: torch.Tensor, noise: torch.Tensor, t: float) -> torch.Tensor:
    """Clean latents with the noise of timestep t, which the sampler "euler" may set between two of the schedule."""
    alphas_cumprod = pipe.scheduler.alphas_cumprod.cpu().float()
    if t == int(t):
        return add_noise(x0, noise, int(t), alphas_cumprod)
    sigma = np.interp(
        t, np.arange(len(alphas_cumprod)), ((1 - alphas_cumprod) / alphas_cumprod) ** 0.5
    ).item()
    return (x0 + sigma * noise) / (sigma**2 + 1) ** 0.5


def _prepare(pipe, image: Images, prompt, seed, generator):
    """Latents of the pictures, drawn from their posteriors, then noise, in this order from one generator, as diffusers does: (x0, noise, generator)."""
    count = len(prompt) if isinstance(prompt, (list, tuple)) else 1
    mean, std = (part.cpu() for part in posterior(pipe, image))
    if len(mean) not in (1, count):
        raise ValueError(
            f"{len(mean)} pictures for {count} prompts: give one picture for all, or one for each."
        )
    mean, std = (part.expand(count, -1, -1, -1) for part in (mean, std))
    generator = _generator(seed) if generator is None else generator
    if isinstance(generator, list) and len(generator) != count:
        raise ValueError(
            f"{len(generator)} seeds for {count} pictures: give one seed, or one for each picture."
        )
    x0 = mean + std * _gaussian(mean.shape, generator)
    return x0, _gaussian(mean.shape, generator), generator


def img2img_steps(
    pipe,
    image: Images,
    prompt,
    *,
    strength=0.6,
    seed=None,
    generator=None,
    num_inference_steps=25,
    sampler="ddim",
    **sampling,
) -> Iterator[SampleStep]:
    """The steps of :func:`img2img`; the first one's ``latents`` are the picture with the noise of the point of entry."""
    timesteps, start = (
        timesteps_of(pipe, sampler, num_inference_steps),
        entry(strength, num_inference_steps),
    )
    x0, noise, generator = _prepare(pipe, image, prompt, seed, generator)
    latents = _noised(pipe, x0, noise, timesteps[start])
    if sampler == "euler" and start == 0:
        latents = (
            latents / (1 - pipe.scheduler.alphas_cumprod[-1].item()) ** 0.5
        )  # which takes whatever enters its first step for noise alone
    return sample_steps(
        pipe,
        prompt,
        latents=latents,
        start=start,
        generator=generator,
        num_inference_steps=num_inference_steps,
        sampler=sampler,
        **sampling,
    )


def img2img(
    pipe, image: Images, prompt: str | list[str], *, strength: float = 0.6, **sampling
) -> list[Image.Image]:
    """Image to image: noise a picture part of the way and denoise it with a prompt (Meng et al. 2022).

    Args:
        image: sides a multiple of the autoencoder's reduction (``compression.fit`` sees to it). One for all prompts, or a list.
        strength: share of the steps that are run: little changes little, 1 leaves almost nothing of the picture.
        sampling: as for ``sampling.sample_steps``.

    Returns:
        One PIL picture a prompt, the same as StableDiffusionImg2ImgPipeline's.
    """
    return _last(pipe, img2img_steps(pipe, image, prompt, strength=strength, **sampling))


def latent_mask(mask: Image.Image, latents: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """A mask as the latents see it, (1, 1, h, w) of 0 and 1: the nearest pixel of each patch, light ones are 1 and will be repainted.

    Raises:
        ValueError: if its size (width, height) is not the picture's, or nothing is to be repainted.
    """
    if mask.size != size:
        raise ValueError(
            f"The mask is {mask.width} x {mask.height} and the picture {size[0]} x {size[1]}: use mask.resize(image.size)."
        )
    light = torch.from_numpy(np.asarray(mask.convert("L"), np.float32))[None, None] >= 127.5
    small = torch.nn.functional.interpolate(light.float(), size=latents.shape[-2:])
    if not small.any():
        raise ValueError(
            "The mask leaves nothing to repaint: make the part that shall change white, at least a few patches wide."
        )
    return small


def inpaint_steps(
    pipe,
    image: Images,
    mask: Image.Image,
    prompt,
    *,
    strength=1.0,
    seed=None,
    generator=None,
    num_inference_steps=25,
    sampler="ddim",
    **sampling,
) -> Iterator[SampleStep]:
    """The steps of :func:`inpaint`."""
    timesteps, start = (
        timesteps_of(pipe, sampler, num_inference_steps),
        entry(strength, num_inference_steps),
    )
    x0, noise, generator = _prepare(pipe, image, prompt, seed, generator)
    m = latent_mask(mask, x0, (image if isinstance(image, Image.Image) else image[0]).size)

    def blend(step: SampleStep) -> torch.Tensor:
        """Outside the mask, the picture with the noise of the next step (none after the last) takes the place of what was imagined."""
        known = (
            x0
            if step.index == num_inference_steps - 1
            else _noised(pipe, x0, noise, timesteps[step.index + 1])
        )
        return (1 - m) * known + m * step.prev_latents

    latents = noise if strength == 1 else _noised(pipe, x0, noise, timesteps[start])
    return sample_steps(
        pipe,
        prompt,
        latents=latents,
        start=start,
        replace=blend,
        generator=generator,
        num_inference_steps=num_inference_steps,
        sampler=sampler,
        **sampling,
    )


def inpaint(
    pipe,
    image: Images,
    mask: Image.Image,
    prompt: str | list[str],
    *,
    paste: bool = False,
    **sampling,
) -> list[Image.Image]:
    """Repaint the white part of a mask so that it fits the rest and the prompt (Avrahami et al. 2023, "Blended Latent Diffusion").

    Works with any model of 4 latent channels: outside the mask, each step's latents are overwritten by the picture's own, noised as far.

    Args:
        mask: of the picture's size; see :func:`latent_mask`.
        prompt: best a caption of the whole wished picture, not only of what is new.
        paste: put the original pixels back outside the mask, which the autoencoder would soften.
        sampling: as for ``sampling.sample_steps``, and ``strength`` (1: what was under the mask is forgotten).

    Returns:
        One PIL picture a prompt; without ``paste`` the same as StableDiffusionInpaintPipeline's with a 4-channel U-Net and sampler "ddim", "euler" or "dpm++".
    """
    pictures = _last(pipe, inpaint_steps(pipe, image, mask, prompt, **sampling))
    originals = [image] * len(pictures) if isinstance(image, Image.Image) else image
    return (
        [paste_back(new, old, mask) for new, old in zip(pictures, originals, strict=False)]
        if paste
        else pictures
    )


def paste_back(new: Image.Image, original: Image.Image, mask: Image.Image) -> Image.Image:
    """The new picture where the mask is light, the original's pixels elsewhere."""
    return Image.composite(
        new, original.convert("RGB"), mask.convert("L").point(lambda light: 255 * (light >= 127.5))
    )


def psnr_outside(a: Image.Image, b: Image.Image, mask: Image.Image) -> float:
    """``compression.psnr`` of the pixels that a mask leaves alone."""
    dark = np.asarray(mask.convert("L")) < 127.5
    return psnr(*(Image.fromarray(np.asarray(i.convert("RGB"))[dark][None]) for i in (a, b)))


def _last(pipe, steps: Iterator[SampleStep]) -> list[Image.Image]:
    for step in steps:
        final = step
    return decode_latents(pipe, final.prev_latents)


# ------------------------------------------------------------------------------------------------- inversion, re-telling


@torch.no_grad()
def invert_steps(
    pipe, image: Images, prompt: str | list[str], *, num_inference_steps: int = 50
) -> Iterator[torch.Tensor]:
    """DDIM backwards (Song et al. 2021, section 4.3; Mokady et al. 2023, section 3): yields the picture's clean latents, then those with ever more noise, steps + 1 in all.

    The noise is the one the U-Net sees, so DDIM with guidance 1 and as many steps leads back nearly the same way. Each backward step asks the U-Net about the
    latents of the level before, because those of its own are what it is about to find: hence the "nearly".
    """
    alphas_cumprod = pipe.scheduler.alphas_cumprod.cpu().float()
    timesteps = timesteps_of(pipe, "ddim", num_inference_steps)
    states, x, abar = (
        encode_prompt(pipe, prompt),
        encode_image(pipe, image).cpu(),
        alphas_cumprod[0],
    )
    yield x
    for t in timesteps[::-1]:
        eps = predict_noise(pipe, x, t, states)
        x0, abar = x0_from_epsilon(x, eps, abar), alphas_cumprod[t]
        x = abar**0.5 * x0 + (1 - abar) ** 0.5 * eps
        yield x


def invert(
    pipe, image: Images, prompt: str | list[str], *, num_inference_steps: int = 50
) -> torch.Tensor:
    """The noise (B, 4, h, w) from which DDIM would paint this picture, told this prompt, with guidance 1 and as many steps."""
    *_, noise = invert_steps(pipe, image, prompt, num_inference_steps=num_inference_steps)
    return noise


def shared_words(pipe, prompt: str, new_prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
    """For each token of the new prompt: its place in the old one, and whether it has one; both (77,).

    Tokens that both prompts share belong together, and a replaced one to the one it replaces; what is added belongs to nothing.
    """
    old, new = (
        pipe.tokenizer(p, padding="max_length", truncation=True).input_ids
        for p in (prompt, new_prompt)
    )
    place, kept = torch.arange(len(new)), torch.zeros(len(new), dtype=torch.bool)
    for what, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if what == "equal" or (what == "replace" and b - a == d - c):
            place[c:d], kept[c:d] = torch.arange(a, b), True
    return place, kept


class KeepAttention(AttentionRecorder):
    """Cross-attention for a batch [..., old prompts, new prompts]: while ``on``, the new ones look at the words they share with the old ones from where the old ones do.

    This is prompt-to-prompt (Hertz et al. 2022, section 3): where a word acts is kept from the first telling, what it says comes from the second.
    """

    def __init__(self, pairs: list[tuple[torch.Tensor, torch.Tensor]]):
        super().__init__()
        self.place, self.kept = (
            torch.stack(part)[:, None, None] for part in zip(*pairs, strict=True)
        )  # (B, 1, 1, 77)
        self.on = True

    def look(self, weights):
        if not self.on:
            return weights
        count = len(self.place)
        old, new = weights[-2 * count : -count], weights[-count:]
        moved = old.gather(-1, self.place.to(old.device).expand_as(new))
        return torch.cat([weights[:-count], torch.where(self.kept.to(old.device), moved, new)])


def retell(
    pipe,
    prompt: str | list[str],
    new_prompt: str | list[str],
    *,
    path: list[torch.Tensor] | None = None,
    keep: float = 0.8,
    num_inference_steps=25,
    seed=None,
    **sampling,
) -> tuple[list[Image.Image], list[Image.Image]]:
    """The same picture told twice, with a word changed (prompt-to-prompt, Hertz et al. 2022): (pictures of the old prompts, of the new ones).

    Args:
        path: the list of :func:`invert_steps` with as many steps, to re-tell a picture that exists: the first telling is held on it (Ju et al. 2024, "PnP Inversion").
        keep: share of the steps, from the first on, in which the new telling keeps the old one's attention.
        seed: of the start noise, if there is no path. Old and new telling start from the same.
    """
    old, new = ([p] if isinstance(p, str) else list(p) for p in (prompt, new_prompt))
    if len(old) != len(new):
        raise ValueError(f"{len(old)} prompts and {len(new)} new ones: each needs its partner.")
    if path is not None and len(path) != num_inference_steps + 1:
        raise ValueError(
            f"The path has {len(path) - 1} steps and the re-telling {num_inference_steps}: give both the same num_inference_steps."
        )
    count, start = len(old), start_latents(pipe, len(old), seed) if path is None else path[-1]
    keeper = KeepAttention([shared_words(pipe, a, b) for a, b in zip(old, new, strict=True)])

    def hold(step: SampleStep) -> torch.Tensor | None:
        keeper.on = step.index + 1 < keep * num_inference_steps
        return (
            None if path is None else torch.cat([path[-2 - step.index], step.prev_latents[count:]])
        )

    keeper.on = keep > 0
    with record_attention(pipe, keeper):
        for step in sample_steps(
            pipe,
            old + new,
            latents=torch.cat([start, start]),
            replace=hold,
            num_inference_steps=num_inference_steps,
            **sampling,
        ):
            final = step
    pictures = decode_latents(pipe, final.prev_latents)
    return pictures[:count], pictures[count:]


# ---------------------------------------------------------------------------------------------------------------- walks


def slerp(a: torch.Tensor, b: torch.Tensor, t: float) -> torch.Tensor:
    """From a (t = 0) to b (t = 1) along the arc between them, each picture of the batch (B, ...) as one long vector (Shoemake 1985).

    A straight line would cut through the ball: halfway between two noises its length is only 1 / sqrt(2) of theirs.
    """
    flat_a, flat_b = a.flatten(1), b.flatten(1)
    cosine = torch.nn.functional.cosine_similarity(flat_a, flat_b).clamp(-1, 1)
    angle = cosine.acos()[:, None]
    bend = angle.sin()
    arc = (((1 - t) * angle).sin() * flat_a + (t * angle).sin() * flat_b) / bend
    return torch.where(bend > 1e-4, arc, torch.lerp(flat_a, flat_b, t)).view_as(
        a
    )  # parallel vectors have no arc


@torch.no_grad()
def walk(
    pipe,
    prompts: tuple[str, str],
    seeds: tuple[int, int],
    count: int = 9,
    *,
    num_inference_steps: int = 25,
    guidance_scale: float = 5.0,
) -> list[Image.Image]:
    """``count`` pictures on the way from one prompt and seed to another: the prompts' states mixed in a straight line, the noises along the arc. Both ends are ``sample``'s."""
    shares = torch.linspace(0, 1, count).tolist()
    without, first, last = encode_prompt(pipe, ["", *prompts]).split(1)
    states = torch.cat([torch.lerp(first, last, u) for u in shares])
    noises = [start_latents(pipe, 1, seed) for seed in seeds]
    latents = torch.cat([slerp(*noises, u) for u in shares])

    def predict(x: torch.Tensor, t: float) -> torch.Tensor:
        both = predict_noise(
            pipe, torch.cat([x, x]), t, torch.cat([without.expand_as(states), states])
        )
        return guide(*both.chunk(2), guidance_scale)

    for update in ddim(
        predict, latents, pipe.scheduler.alphas_cumprod.cpu().float(), num_inference_steps, 0, None
    ):
        final = update
    return decode_latents(pipe, final.prev_latents)


def save_gif(
    images: list[Image.Image], path: str | Path, *, seconds: float = 0.12, back: bool = True
) -> Path:
    """Write pictures as a GIF that runs for ever, ``seconds`` a picture; with ``back`` it returns the way it came, so that it has no jump.

    Raises:
        ValueError: if there is no picture.
    """
    if not images:
        raise ValueError("A GIF needs at least one picture.")
    frames = [*images, *(images[-2:0:-1] if back else [])]
    frames[0].save(
        path, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 * seconds), loop=0
    )
    return Path(path)

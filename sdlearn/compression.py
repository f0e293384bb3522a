"""Chapter 01: pictures into latents and back, and what that costs."""

from __future__ import annotations

import io
import math
import weakref
from typing import Any

import numpy as np
import torch
from PIL import Image

from sdlearn import hub, inputs, world

# autoencoder -> its linear preview
_MAPS: weakref.WeakKeyDictionary[torch.nn.Module, torch.Tensor] = weakref.WeakKeyDictionary()

LARGEST = 16
"""Times the area of the model's own pictures: beyond it the autoencoder's attention, which grows
with the square of the area, takes minutes and gigabytes."""


def to_tensor(images: Any) -> torch.Tensor:
    """Pictures of one size, in any form that inputs.open_image reads -> float tensor (B, 3, H, W)
    between -1 and 1."""
    pixels = np.stack([np.asarray(image) for image in inputs.open_images(images)])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pixels: torch.Tensor) -> list[Image.Image]:
    """Tensor (B, 3, H, W) between -1 and 1 (clipped) -> PIL pictures."""
    pixels = ((pixels.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(p) for p in pixels.permute(0, 2, 3, 1).cpu().numpy()]


def fit(image: Any, pipe: Any, *, mask: bool = False) -> Image.Image:
    """Crop a picture to a centred square and scale it to the size the model was made for; with
    ``mask``, a mask in the same way, so that both still lie on each other."""
    image = inputs.open_mask(image) if mask else inputs.open_image(image)
    side, short = picture_size(pipe), min(image.size)
    left, top = (image.width - short) / 2, (image.height - short) / 2
    scaling = Image.Resampling.NEAREST if mask else Image.Resampling.LANCZOS
    return image.resize((side, side), scaling, box=(left, top, left + short, top + short))


def picture_size(pipe: Any) -> int:
    """Side of the model's pictures in pixels: latent side times the autoencoder's reduction."""
    return inputs.check_pipe(pipe).unet.config.sample_size * pipe.vae_scale_factor


def encode_image(pipe: Any, images: Any) -> torch.Tensor:
    """Pictures -> latents (B, 4, H/8, W/8), the posterior's mean times ``scaling_factor``: about
    unit variance (Rombach et al. 2022, appendix G).

    Raises:
        ValueError: if a side is not a multiple of the autoencoder's reduction (8 for Stable
            Diffusion), or the picture is very large.
    """
    return posterior(pipe, images)[0]


@torch.inference_mode()
def posterior(pipe: Any, images: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the bell curves that pictures are encoded to, both times
    ``scaling_factor``, (B, 4, H/8, W/8), float32.

    Raises:
        ValueError: as for :func:`encode_image`.
    """
    own, factor = picture_size(pipe), pipe.vae_scale_factor
    opened = inputs.open_images(images)
    width, height = opened[0].size
    if width % factor or height % factor or width * height > LARGEST * own**2:
        raise ValueError(
            f"The sides of a picture must be multiples of {factor} and its area at most "
            f"{LARGEST} times {own} x {own} pixels; this one is {width} x {height}: use "
            "compression.fit(image, pipe)."
        )
    pixels, scaling = to_tensor(opened), _scaling(pipe)
    with hub.LOCK:
        curves = [
            pipe.vae.encode(part.to(pipe.device, pipe.vae.dtype)).latent_dist
            for part in pixels.split(_at_once(pipe, (height, width)))
        ]
    mean = torch.cat([curve.mean for curve in curves]).float()
    std = torch.cat([curve.std for curve in curves]).float()
    _finite(mean, "What the encoder made of the picture")
    return mean * scaling, std * scaling


@torch.inference_mode()
def decode_latents(pipe: Any, latents: torch.Tensor) -> list[Image.Image]:
    """Scaled latents (B, 4, h, w) -> PIL pictures.

    Raises:
        ValueError: if the latents, or what the decoder makes of them, hold nan or infinity.
    """
    vae, scaling = inputs.check_pipe(pipe).vae, _scaling(pipe)
    channels = vae.config.latent_channels
    if not torch.is_tensor(latents) or latents.ndim != 4 or latents.shape[1] != channels:
        got = tuple(latents.shape) if torch.is_tensor(latents) else type(latents).__name__
        raise ValueError(f"Latents are a tensor (pictures, {channels}, height, width); got {got}.")
    inputs.tensors(latents=latents)
    _finite(latents, "The tensor of latents")
    unscaled = latents.to(pipe.device, vae.dtype) / scaling
    with hub.LOCK:
        parts = [
            vae.decode(part).sample
            for part in unscaled.split(_at_once(pipe, latents.shape[-2:], 1))
        ]
    _finite(
        torch.stack([part.sum(dtype=torch.float32) for part in parts]), "What the decoder painted"
    )
    return [image for part in parts for image in to_images(part)]


def _scaling(pipe: Any) -> float:
    factor = pipe.vae.config.scaling_factor
    if not isinstance(factor, (int, float)) or not math.isfinite(factor) or factor <= 0:
        raise ValueError(
            f"The autoencoder's scaling_factor is {factor!r} and must be a number above 0: "
            "vae/config.json is damaged; fetch the model again."
        )
    return factor


def _finite(numbers: torch.Tensor, what: str) -> None:
    """Stop at nan and infinity, which would pass as a black picture."""
    if not torch.isfinite(numbers).all():
        raise ValueError(
            f"{what} holds nan or infinity: the numbers overflowed in half precision (load the "
            "model with load_pipeline(dtype=torch.float32)), a setting such as guidance_scale is "
            "extreme, or the weights are damaged (python -m sdlearn doctor)."
        )


def _at_once(pipe: Any, size: tuple[int, ...], factor: int | None = None) -> int:
    """How many pictures go through the autoencoder together: its first and last layers hold many
    times a picture's numbers, so large pictures go one by one."""
    positions = size[0] * size[1] / (factor or pipe.vae_scale_factor) ** 2
    # two of 128 pixels: more at once are no faster on a CPU, and cost 130 MB
    return max(1, int(512 / positions))


def psnr(a: Any, b: Any) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(255^2 / mean squared error): 20 is poor, 30 good,
    40 hard to tell apart; infinite for equal pictures.

    Raises:
        ValueError: for pictures of different sizes.
    """
    a, b = (inputs.open_image(i) for i in (a, b))
    if a.size != b.size:
        raise ValueError(
            f"Only pictures of one size can be compared; these are {a.width} x {a.height} and "
            f"{b.width} x {b.height}: resize one of them."
        )
    error = np.square(np.asarray(a, np.float64) - np.asarray(b, np.float64)).mean()
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def jpeg(image: Any, max_bytes: int) -> tuple[Image.Image, int]:
    """The best JPEG of a picture in ``max_bytes``: (picture as it comes back, bytes used).

    Counted is what describes this picture, one byte for the quality and the coded blocks; the
    standard tables in each file's head (some 600 bytes) are not.

    Raises:
        ValueError: if the coarsest JPEG is larger.
    """
    best, image = None, inputs.open_image(image)
    low, high = 1, 95
    while low <= high:  # size grows with quality: halve the range
        quality, file = (low + high) // 2, io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        # the marker before the coded blocks, which cannot hold it
        size = 1 + len(file.getvalue()) - file.getvalue().rindex(b"\xff\xda")
        if size <= max_bytes:
            best, low = (Image.open(file).convert("RGB"), size), quality + 1
        else:
            high = quality - 1
    if best is None:
        raise ValueError(
            f"No JPEG of this picture fits into {max_bytes} bytes: even the coarsest takes {size}. "
            "Allow more bytes."
        )
    return best


@torch.inference_mode()
def preview_map(pipe: Any, count: int = 32) -> torch.Tensor:
    """Least-squares map (C + 1, 3) from one latent position (and a 1) to the mean color, -1..1, of
    the patch it stands for; fitted on drawn scenes, once a model."""
    if pipe.vae not in _MAPS:
        factor = pipe.vae_scale_factor
        pictures = [
            world.draw(world.sample_scene(np.random.default_rng([8, i])), 16 * factor, seed=i)
            for i in range(count)
        ]
        colours = (
            torch.nn.functional.avg_pool2d(to_tensor(pictures), factor).movedim(1, -1).flatten(0, 2)
        )
        _MAPS[pipe.vae] = torch.linalg.lstsq(
            _with_one(encode_image(pipe, pictures).cpu()).flatten(0, 2), colours
        ).solution
    return _MAPS[pipe.vae]


def _with_one(latents: torch.Tensor) -> torch.Tensor:
    """(B, C, h, w) -> (B, h, w, C + 1), a 1 at the end for the constant."""
    return torch.nn.functional.pad(latents.movedim(1, -1), (0, 1), value=1.0)


@torch.inference_mode()
def latent_preview(latents: torch.Tensor, pipe: Any) -> list[Image.Image]:
    """Scaled latents (B, C, h, w) -> small PIL pictures (w x h) by :func:`preview_map`: one matrix
    product, hundreds of times faster than the decoder."""
    return to_images((_with_one(latents.float().cpu()) @ preview_map(pipe)).movedim(-1, 1))

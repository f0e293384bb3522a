"""Chapter 01: pictures into latents and back, and what that costs."""

from __future__ import annotations

import io
import weakref

import numpy as np
import torch
from PIL import Image

from sdlearn import hub, world

_MAPS: weakref.WeakKeyDictionary[torch.nn.Module, torch.Tensor] = (
    weakref.WeakKeyDictionary()
)  # autoencoder -> its linear preview


def to_tensor(images: Image.Image | list[Image.Image]) -> torch.Tensor:
    """PIL pictures -> float tensor (B, 3, H, W) between -1 and 1."""
    images = [images] if isinstance(images, Image.Image) else images
    pixels = np.stack([np.asarray(i.convert("RGB")) for i in images])
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_images(pixels: torch.Tensor) -> list[Image.Image]:
    """Tensor (B, 3, H, W) between -1 and 1 (clipped) -> PIL pictures."""
    pixels = ((pixels.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(p) for p in pixels.permute(0, 2, 3, 1).cpu().numpy()]


def fit(image: Image.Image, pipe) -> Image.Image:
    """Crop a picture to a centred square and scale it to the size the model was made for."""
    side = picture_size(pipe)
    short = min(image.size)
    box = (
        (image.width - short) / 2,
        (image.height - short) / 2,
        (image.width + short) / 2,
        (image.height + short) / 2,
    )
    return image.convert("RGB").resize((side, side), Image.Resampling.LANCZOS, box=box)


def picture_size(pipe) -> int:
    """Side of the model's pictures in pixels: latent side times the autoencoder's reduction."""
    return pipe.unet.config.sample_size * pipe.vae_scale_factor


def encode_image(pipe, images: Image.Image | list[Image.Image]) -> torch.Tensor:
    """Pictures -> latents (B, 4, H/8, W/8), the posterior's mean times ``scaling_factor``: about unit variance (Rombach et al. 2022, appendix G).

    Raises:
        ValueError: if a side is not a multiple of the autoencoder's reduction (8 for Stable Diffusion).
    """
    return posterior(pipe, images)[0]


@torch.inference_mode()
def posterior(pipe, images: Image.Image | list[Image.Image]) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of the bell curves that pictures are encoded to, both times ``scaling_factor``, (B, 4, H/8, W/8), float32."""
    pixels = to_tensor(images)
    factor = pipe.vae_scale_factor
    if pixels.shape[-1] % factor or pixels.shape[-2] % factor:
        raise ValueError(
            f"The sides of a picture must be multiples of {factor}; this one is {pixels.shape[-1]} x {pixels.shape[-2]}: use compression.fit(image, pipe)."
        )
    with hub.LOCK:
        curves = [
            pipe.vae.encode(part.to(pipe.device, pipe.vae.dtype)).latent_dist
            for part in pixels.split(_at_once(pipe, pixels.shape[-2:]))
        ]
    mean, std = (
        torch.cat([getattr(curve, name) for curve in curves]).float() for name in ("mean", "std")
    )
    return mean * pipe.vae.config.scaling_factor, std * pipe.vae.config.scaling_factor


@torch.inference_mode()
def decode_latents(pipe, latents: torch.Tensor) -> list[Image.Image]:
    """Scaled latents (B, 4, h, w) -> PIL pictures."""
    unscaled = latents.to(pipe.device, pipe.vae.dtype) / pipe.vae.config.scaling_factor
    with hub.LOCK:
        return [
            image
            for part in unscaled.split(_at_once(pipe, latents.shape[-2:], 1))
            for image in to_images(pipe.vae.decode(part).sample)
        ]


def _at_once(pipe, size, factor: int | None = None) -> int:
    """How many pictures go through the autoencoder together: its first and last layers hold many times a picture's numbers, so large pictures go one by one."""
    positions = size[0] * size[1] / (factor or pipe.vae_scale_factor) ** 2
    return max(
        1, int(512 / positions)
    )  # two of 128 pixels: more at once are no faster on a CPU, and cost 130 MB


def psnr(a: Image.Image, b: Image.Image) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(255^2 / mean squared error): 20 is poor, 30 good, 40 hard to tell apart; infinite for equal pictures.

    Raises:
        ValueError: for pictures of different sizes.
    """
    a, b = (i.convert("RGB") for i in (a, b))
    if a.size != b.size:
        raise ValueError(
            f"Only pictures of one size can be compared; these are {a.width} x {a.height} and {b.width} x {b.height}: resize one of them."
        )
    error = np.square(np.asarray(a, np.float64) - np.asarray(b, np.float64)).mean()
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


def jpeg(image: Image.Image, max_bytes: int) -> tuple[Image.Image, int]:
    """The best JPEG of a picture in ``max_bytes``: (picture as it comes back, bytes used).

    Counted is what describes this picture, one byte for the quality and the coded blocks; the standard tables in each file's head (some 600 bytes) are not.

    Raises:
        ValueError: if the coarsest JPEG is larger.
    """
    best = None
    low, high = 1, 95
    while low <= high:  # size grows with quality: halve the range
        quality, file = (low + high) // 2, io.BytesIO()
        image.convert("RGB").save(file, "JPEG", quality=quality)
        size = (
            1 + len(file.getvalue()) - file.getvalue().rindex(b"\xff\xda")
        )  # the marker before the coded blocks, which cannot hold it
        if size <= max_bytes:
            best, low = (Image.open(file).convert("RGB"), size), quality + 1
        else:
            high = quality - 1
    if best is None:
        raise ValueError(
            f"No JPEG of this picture fits into {max_bytes} bytes: even the coarsest takes {size}. Allow more bytes."
        )
    return best


@torch.inference_mode()
def feature_maps(pipe, image: Image.Image) -> dict[str, torch.Tensor]:
    """What each stage of the encoder makes of one picture: name -> (channels, height, width), float32 on the CPU, from the first layer to the last."""
    encoder, maps, hooks = pipe.vae.encoder, {}, []
    blocks = {f"block {i}": block for i, block in enumerate(encoder.down_blocks, 1)}
    stages = {
        "first layer": encoder.conv_in,
        **blocks,
        "middle": encoder.mid_block,
        "last layer": encoder.conv_out,
    }
    try:
        for name, stage in stages.items():
            hooks.append(
                stage.register_forward_hook(
                    lambda _module, _args, out, name=name: maps.update(
                        {name: out[0].float().cpu().clone()}
                    )
                )
            )
        encode_image(pipe, image)
    finally:
        for hook in hooks:
            hook.remove()
    return maps


@torch.inference_mode()
def preview_map(pipe, count: int = 32) -> torch.Tensor:
    """Least-squares map (C + 1, 3) from one latent position (and a 1) to the mean colour, -1..1, of the patch it stands for; fitted on drawn scenes, once a model."""
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
def latent_preview(latents: torch.Tensor, pipe) -> list[Image.Image]:
    """Scaled latents (B, C, h, w) -> small PIL pictures (w x h) by :func:`preview_map`: one matrix product, hundreds of times faster than the decoder."""
    return to_images((_with_one(latents.float().cpu()) @ preview_map(pipe)).movedim(-1, 1))

"""What a model needs of a device's memory, what to do where there is less, and what when it runs out all the same."""

from __future__ import annotations

import gc
import math
import os
from itertools import repeat
from types import MethodType
from typing import NamedTuple

import torch

# What a model needs beside its weights, in GB of half precision, for 64 x 64 latents: counted by costs.py's method (tests/test_real_sd.py counts again)
ROW_GB = (
    0.07  # the U-Net's intermediate results for one latent; guidance looks at two for each picture
)
DECODE_GB, TILED_GB = 0.41, 0.11  # the decoder's, for a whole picture and for one of its tiles
MATRIX_GB = 0.54  # pixels x pixels attention of one latent before and after the softmax, 2 x 8 heads x 4096^2 numbers, where no fused kernel avoids it
RESERVE_GB = (
    0.6  # scratch space of the convolutions and gaps between tensors: an allowance, not a count
)


class Rung(NamedTuple):
    """One thing done so that a model fits into memory, and why."""

    name: str  # "batch", "half", "single", "slicing", "tiling", "offload" or "tiny"
    reason: str
    pictures: int = 2  # that the U-Net may look at together


def ladder(free_gb: float, device: str, model, dtype: torch.dtype | None = None) -> list[Rung]:
    """What it takes to run a model on a device with ``free_gb`` of memory: rungs from the fastest down, as far as is needed; "tiny" at the end means it does not fit.

    Args:
        device: "cuda", "mps" or "cpu".
        dtype: None means float16 on cuda, and float32 elsewhere as long as it fits.
    """
    taken: list[Rung] = []
    size = (4 if device != "cuda" else 2) if dtype is None else dtype.itemsize
    area = (model.side / 64) ** 2
    held = sum(model.parts_gb)
    reserve = min(RESERVE_GB, held)  # a small model's scratch space is small too
    latents, matrices, decoder = 4, 4 if device == "mps" else 0, DECODE_GB

    def need() -> float:
        return reserve + size / 2 * (
            held + max(area * latents * ROW_GB + area**2 * matrices * MATRIX_GB, area * decoder)
        )

    before = need()
    if before <= free_gb:
        each = size * (area * ROW_GB + area**2 * (MATRIX_GB if matrices else 0))
        pictures = int((free_gb - reserve - size / 2 * held) / each)
        return [
            Rung(
                "batch",
                f"float{8 * size} and up to {pictures} pictures at once: two need {before:.1f} GB, and {free_gb:.1f} GB are free",
                pictures,
            )
        ]
    for name, devices, what in (
        ("half", ("mps",), "float16 instead of float32"),
        ("single", ("cuda", "mps", "cpu"), "one picture at a time"),
        (
            "slicing",
            ("mps",),
            "attention in slices",
        ),  # the fused kernels of cuda and cpu never write the matrix, so slicing would only cost time there
        ("tiling", ("cuda", "mps", "cpu"), "the decoder paints in tiles"),
        (
            "offload",
            ("cuda",),
            "only the part that is working is on the GPU",
        ),  # mps and cpu have one memory: nowhere to put the rest
    ):
        if device in devices and (name != "half" or dtype is None) and before > free_gb:
            size, latents = (2 if name == "half" else size), (2 if name == "single" else latents)
            matrices = min(matrices, latents) if name != "slicing" else 1 / 8
            decoder, held = (
                (TILED_GB if name == "tiling" else decoder),
                (max(model.parts_gb) if name == "offload" else held),
            )
            taken.append(
                Rung(
                    name,
                    f"{what}: otherwise it needs {before:.1f} GB, and {free_gb:.1f} GB are free",
                    1 if name == "single" else 2,
                )
            )
            before = need()
    if before > free_gb:
        taken.append(
            Rung(
                "tiny",
                f"Tiny SD instead of it: it needs {before:.1f} GB even so, and {free_gb:.1f} GB are free; close what else uses the memory to run the model itself",
            )
        )
    return taken


def free(device: str | torch.device) -> float:
    """GB that are free on a device now. "mps" shares the machine's memory, and Apple's driver gives only a part of it."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 1e9
    try:
        import psutil

        free = psutil.virtual_memory().available
    except ImportError:
        free = (
            os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
            if "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {})
            else math.inf
        )
    return (
        min(free, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
        if kind == "mps"
        else free
    ) / 1e9


def settle(pipe, device: str | torch.device, rungs: list[Rung]):
    """Move a pipeline to its device, doing what the rungs say; returns it."""
    taken = {rung.name for rung in rungs}
    if rungs:
        spare(pipe, device, 2 * min(rung.pictures for rung in rungs))
    if "slicing" in taken:
        pipe.enable_attention_slicing()
    if "tiling" in taken:
        tile(pipe.vae)
    if "offload" in taken:
        pipe.enable_model_cpu_offload(device=device)
        return pipe
    return pipe.to(device)


def tile(vae) -> None:
    """Decode and encode in tiles of half the side; the library's own tiles are as large as a whole picture."""
    vae.enable_tiling()
    vae.tile_sample_min_size, vae.tile_latent_min_size = (
        vae.tile_sample_min_size // 2,
        vae.tile_latent_min_size // 2,
    )


def _until_it_fits(run, step_down):
    """What ``run()`` gives; each time the device's memory runs out, ``step_down()`` first makes it need less, as long as it can."""
    while True:
        try:
            return run()
        except RuntimeError as error:
            if "out of memory" not in str(error):
                raise
        gc.collect()  # here, where the failed run's tensors are no longer held by its traceback
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if not step_down():
            raise MemoryError(
                'The device\'s memory is full even with the smallest steps: close what else uses it, or load a smaller model, such as "tiny".'
            )


def spare(pipe, device, latents: int) -> None:
    """Make a pipeline's U-Net look at no more than ``latents`` at once, and its parts step down when memory runs out, whoever calls them."""
    unet, vae = pipe.unet, pipe.vae
    unet.spare_limit, unet.spare_device, vae.spare_device = latents, device, device
    if "spare_look" in vars(unet):
        return
    unet.spare_look, vae.spare_encode, vae.spare_decode = unet.forward, vae.encode, vae.decode
    unet.forward, vae.encode, vae.decode = (
        MethodType(_forward, unet),
        MethodType(_encode, vae),
        MethodType(_decode, vae),
    )  # bound: a deep copy gets its own


def _forward(unet, sample, timestep, encoder_hidden_states, *args, **kwargs):
    def run():
        n = unet.spare_limit
        # an attention processor of our own (chapters 04 and 06) compares the rows of a batch, so these stay together
        if len(sample) <= n or any(
            not type(p).__module__.startswith("diffusers.") for p in unet.attn_processors.values()
        ):
            return unet.spare_look(sample, timestep, encoder_hidden_states, *args, **kwargs)
        times = (
            timestep.split(n) if torch.is_tensor(timestep) and timestep.ndim else repeat(timestep)
        )
        seen = [
            unet.spare_look(x, t, words, *args, **kwargs)
            for x, t, words in zip(
                sample.split(n), times, encoder_hidden_states.split(n), strict=False
            )
        ]
        whole = torch.cat([one[0] for one in seen])
        return (whole,) if isinstance(seen[0], tuple) else type(seen[0])(sample=whole)

    def step_down():
        rows = min(unet.spare_limit, len(sample))
        if rows > 1:
            unet.spare_limit = 2 if rows > 2 else 1
            print(
                f"The memory of {unet.spare_device} is full: from now on {'one picture' if rows > 2 else 'half a guided step'} at a time."
            )
        return rows > 1

    return _until_it_fits(run, step_down)


def _autoencode(vae, method, x, args, kwargs):
    def step_down():
        tiled = vae.use_tiling
        if not tiled:
            print(
                f"The memory of {vae.spare_device} is full: from now on the autoencoder works in tiles."
            )
            tile(vae)
        return not tiled

    return _until_it_fits(
        lambda: method(x.to(vae.spare_device), *args, **kwargs), step_down
    )  # .to: an offloaded part moves itself, not what it is handed


def _encode(vae, x, *args, **kwargs):
    return _autoencode(vae, vae.spare_encode, x, args, kwargs)


def _decode(vae, z, *args, **kwargs):
    return _autoencode(vae, vae.spare_decode, z, args, kwargs)

"""What a model needs of a device's memory, and what to do where there is less."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

import torch

# What a model needs beside its weights, in GB of half precision, for 64 x 64 latents.
# tests/test_memory.py holds the sums against what a GPU's allocator measured (bench_gpu.json).
LATENT_GB = 0.07  # the U-Net's intermediate results for one latent; guidance looks at two
DECODE_GB, TILED_GB = 0.41, 0.11  # the decoder's, for a whole picture and for one of its tiles
# Pixels x pixels attention of one latent, before and after the softmax: 2 x 8 heads x 4096^2
# numbers, where no fused kernel avoids writing them down
MATRIX_GB = 0.54
# Scratch space of the convolutions and gaps between tensors: an allowance, not a count
RESERVE_GB = 0.6


class Measure(NamedTuple):
    """One thing done so that a model fits into memory, and why."""

    name: str  # "whole", "half", "slicing", "tiling", "offload" or "tiny"
    reason: str


class Size(NamedTuple):
    """What decides how much memory a model needs."""

    parts_gb: tuple[float, ...]  # text encoder, U-Net, autoencoder in half precision
    side: int = 64  # of the latents


class _Need(NamedTuple):
    """What is held at once; each measure makes one of these smaller."""

    weights: float
    bytes_a_number: int
    matrices: float  # attention matrices of one latent, written down together
    decoder: float


def _gb(model, need: _Need, pictures: int = 1) -> float:
    """GB for ``pictures`` sampled together with guidance, and decoded one by one."""
    area = (model.side / 64) ** 2
    latents = 2 * pictures
    unet = area * latents * LATENT_GB + area**2 * min(need.matrices, latents) * MATRIX_GB
    reserve = min(RESERVE_GB, need.weights)  # a small model's scratch space is small too
    return reserve + need.bytes_a_number / 2 * (need.weights + max(unet, area * need.decoder))


# The measures in the order in which they cost time: where they help, and how they read.
# The fused attention of cuda and cpu never writes the matrix, so slicing would only cost time
# there; mps and cpu have one memory, so there is nowhere else to put the rest.
MEASURES = {
    "half": (("mps",), "float16 instead of float32"),
    "slicing": (("mps",), "attention in slices"),
    "tiling": (("cuda", "mps", "cpu"), "the decoder paints in tiles"),
    "offload": (("cuda",), "only the part that is working is on the GPU"),
}


def ladder(
    free_gb: float, device: str, model: Size, dtype: torch.dtype | None = None
) -> list[Measure]:
    """What it takes to run a model on a device with ``free_gb`` of memory.

    Args:
        free_gb: see :func:`free`.
        device: "cuda", "mps" or "cpu".
        model: a :class:`Size`, or an entry of ``hub.MODELS``, which has the same fields.
        dtype: None means float16 on cuda, and float32 elsewhere as long as it fits.

    Returns:
        "whole" alone if nothing need be done; else the measures from the fastest down, as far as
        needed; "tiny" at the end means that even all of them are not enough.
    """
    size = (2 if device == "cuda" else 4) if dtype is None else dtype.itemsize
    need = _Need(sum(model.parts_gb), size, math.inf if device == "mps" else 0, DECODE_GB)
    smaller = {
        "half": {"bytes_a_number": 2},
        "slicing": {"matrices": 1 / 8},  # one head at a time
        "tiling": {"decoder": TILED_GB},
        "offload": {"weights": max(model.parts_gb)},
    }
    taken = []
    for name, (devices, what) in MEASURES.items():
        before = _gb(model, need)
        if before <= free_gb:
            break
        if device in devices and not (name == "half" and dtype is not None):
            need = need._replace(**smaller[name])
            reason = f"{what}: otherwise it needs {before:.1f} GB, and {free_gb:.1f} GB are free"
            taken.append(Measure(name, reason))
    last = _gb(model, need)
    if last > free_gb:
        reason = (
            f"Tiny SD instead of it: it needs {last:.1f} GB even so, and {free_gb:.1f} GB are "
            "free; close what else uses the memory to run the model itself"
        )
        taken.append(Measure("tiny", reason))
    if not taken:
        reason = f"float{8 * size}: a picture needs {last:.1f} GB, and {free_gb:.1f} GB are free"
        taken.append(Measure("whole", reason))
    return taken


def free(device: str | torch.device) -> float:
    """GB that are free on a device now.

    "mps" shares the machine's memory, and Apple's driver gives only a part of it.
    """
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.mem_get_info(device)[0] / 1e9
    try:
        import psutil

        left = psutil.virtual_memory().available
    except ImportError:
        known = "SC_AVPHYS_PAGES" in getattr(os, "sysconf_names", {})
        left = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else math.inf
    if kind == "mps":
        left = min(left, torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory())
    return left / 1e9


def settle(pipe: Any, device: str | torch.device, measures: list[Measure]) -> Any:
    """Move a pipeline to its device, doing what the measures say; returns it."""
    taken = {measure.name for measure in measures}
    if "slicing" in taken:
        pipe.enable_attention_slicing("max")
    if "tiling" in taken:
        _tile(pipe.vae)
    if "offload" not in taken:
        return pipe.to(device)
    for entrance in (pipe.vae.encoder, pipe.vae.post_quant_conv):
        entrance.register_forward_pre_hook(_bring_input)
    pipe.enable_model_cpu_offload(device=device)
    return pipe


def _tile(vae) -> None:
    """Decode and encode in tiles of half the side; diffusers' own are as large as a picture."""
    vae.enable_tiling()
    vae.tile_sample_min_size //= 2
    vae.tile_latent_min_size //= 2


def _bring_input(module, args):
    """An offloaded autoencoder moves itself when it is called, but not what it is handed."""
    return (args[0].to(next(module.parameters()).device), *args[1:])

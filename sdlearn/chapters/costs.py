"""Chapter 05: what a picture costs in pixels, by super-resolution and in latents.

The networks have the shapes their authors published and random weights: a price does not depend
on what a network has learned. Counting builds them on torch's "meta" device, where tensors have
shapes but no numbers, so that a laptop can count what it could never run. Time and memory were
measured on a GPU: :func:`committed`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sdlearn import models

# U-Nets on pixels: side, channels, their multiples level by level, sides with attention, residual
# blocks a level, channels in. "ADM" is Dhariwal and Nichol 2021 (settings from the README of
# openai/guided-diffusion); the small ones have Tiny SD's channels.
PIXELS = {
    "ADM 64": (64, 192, (1, 2, 3, 4), (32, 16, 8), 3, 3),
    "ADM 128": (128, 256, (1, 1, 2, 3, 4), (32, 16, 8), 2, 3),
    "ADM 256": (256, 256, (1, 1, 2, 2, 4, 4), (32, 16, 8), 2, 3),
    "ADM 512": (512, 256, (0.5, 1, 1, 2, 2, 4, 4), (32, 16, 8), 2, 3),
    "ADM 64 to 256": (256, 192, (1, 1, 2, 2, 4, 4), (32, 16, 8), 2, 6),
    "ADM 128 to 512": (512, 192, (1, 1, 2, 2, 4, 4), (32, 16), 2, 6),
    "small 32": (32, 64, (1, 2, 3), (16, 8), 1, 3),
    "small 128": (128, 64, (1, 2, 3), (32,), 1, 3),
    "small 32 to 128": (128, 64, (1, 2, 3), (32,), 1, 6),
}

# inside the package: an installed one has it
BENCH_GPU = Path(models.__file__).parent / "bench_gpu.json"


class Stage(NamedTuple):
    """One network on the way to a picture."""

    network: str
    side: int  # of what it reads
    looks: int  # at each step: 2 with guidance, 1 without; 0 means once, at the end


GUIDED, PLAIN, ONCE = 2, 1, 0
WAYS: dict[int, dict[str, tuple[Stage, ...]]] = {
    # Tiny SD's size, small enough to be timed on a laptop
    128: {
        "pixels": (Stage("small 128", 128, GUIDED),),
        "small + super-resolution": (
            Stage("small 32", 32, GUIDED),
            Stage("small 32 to 128", 128, PLAIN),
        ),
        "latents": (Stage("Tiny SD", 16, GUIDED), Stage("Tiny SD decoder", 16, ONCE)),
    },
    256: {
        "pixels": (Stage("ADM 256", 256, GUIDED),),
        "small + super-resolution": (
            Stage("ADM 64", 64, GUIDED),
            Stage("ADM 64 to 256", 256, PLAIN),
        ),
        "latents": (Stage("SD 1.5", 32, GUIDED), Stage("SD 1.5 decoder", 32, ONCE)),
    },
    512: {
        "pixels": (Stage("ADM 512", 512, GUIDED),),
        "small + super-resolution": (
            Stage("ADM 128", 128, GUIDED),
            Stage("ADM 128 to 512", 512, PLAIN),
        ),
        "latents": (Stage("SD 1.5", 64, GUIDED), Stage("SD 1.5 decoder", 64, ONCE)),
    },
    # nobody published these three at 1024: the networks of 512, on four times the area
    1024: {
        "pixels": (Stage("ADM 512", 1024, GUIDED),),
        "small + super-resolution": (
            Stage("ADM 256", 256, GUIDED),
            Stage("ADM 128 to 512", 1024, PLAIN),
        ),
        "latents": (Stage("SD 1.5", 128, GUIDED), Stage("SD 1.5 decoder", 128, ONCE)),
    },
}


class Cost(NamedTuple):
    """What one picture costs."""

    operations: float  # floating point additions and multiplications
    weights: int  # bytes of all networks


def network(
    name: str, device: str | torch.device = "meta", dtype: torch.dtype = torch.float16
) -> torch.nn.Module:
    """One of the networks above with random weights."""
    models.quiet()
    with torch.device(device):
        if name in PIXELS:
            net = models.build_pixel_unet(*PIXELS[name])
        elif name in ("SD 1.5", "Tiny SD"):
            net = models.build_unet(**(models.SD15_UNET if name == "SD 1.5" else {}))
        elif name in ("SD 1.5 decoder", "Tiny SD decoder"):
            net = models.build_vae(**(models.SD15_VAE if name == "SD 1.5 decoder" else {}))
            net.encoder, net.quant_conv = None, None  # only the way back is needed
        else:
            known = {s.network for ways in WAYS.values() for way in ways.values() for s in way}
            raise ValueError(f"Unknown network {name!r}: choose one of {', '.join(sorted(known))}.")
    return net.to(dtype).eval()


def look(net: torch.nn.Module, side: int, batch: int = 1) -> Callable[[], object]:
    """A function that runs the network once on noise of this side."""
    device, dtype = net.device, net.dtype
    if "latent_channels" in net.config:
        z = torch.randn(batch, net.config.latent_channels, side, side, device=device, dtype=dtype)
        return lambda: net.decode(z)
    x = torch.randn(batch, net.config.in_channels, side, side, device=device, dtype=dtype)
    t = torch.full((batch,), 500, device=device)
    if "cross_attention_dim" not in net.config:
        return lambda: net(x, t)
    words = torch.randn(
        batch,
        models.TINY_TEXT["max_position_embeddings"],
        net.config.cross_attention_dim,
        device=device,
        dtype=dtype,
    )
    return lambda: net(x, t, encoder_hidden_states=words)


@torch.no_grad()
def count(net: torch.nn.Module, run: Callable[[], object]) -> Cost:
    """Count one ``run`` of ``net`` by torch's FlopCounterMode.

    A multiplication and an addition are two operations. Attention is run as the matrix products it
    consists of: in one piece, as a CPU prefers it, the counter passes it over.
    """
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as operations:
        run()
    return Cost(operations.get_total_flops(), sum(p.nbytes for p in net.parameters()))


@torch.inference_mode()
def measure(
    side: int, way: str, steps: int = 25, *, device: str = "cpu", rehearse: bool = True
) -> dict:
    """Time the same picture on ``device``, random weights and all.

    One step of each stage is timed and multiplied on a CPU; on CUDA all steps are run.

    Returns:
        {"way", "side", "steps", "seconds", "peak_gb"}; "peak_gb" is what CUDA's allocator saw, and
        None elsewhere.
    """
    cuda = torch.device(device).type == "cuda"
    total, peak = 0.0, 0
    for stage in WAYS[side][way]:
        net = network(stage.network, device, torch.float16 if cuda else torch.float32)
        run = look(net, stage.side, max(1, stage.looks))
        if rehearse:
            run()
        if cuda:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        start, times = time.perf_counter(), steps if stage.looks else 1
        for _ in range(times if cuda else 1):
            run()
        if cuda:
            torch.cuda.synchronize()
            peak = max(peak, torch.cuda.max_memory_allocated())
        total += (time.perf_counter() - start) * (1 if cuda else times)
        del net, run
    return {
        "way": way,
        "side": side,
        "steps": steps,
        "seconds": total,
        "peak_gb": peak / 1e9 if cuda else None,
    }


def committed(path: str | Path = BENCH_GPU) -> dict | None:
    """What was measured on a GPU and committed, or None if nobody has measured yet.

    Returns:
        {"device": name, "date": "YYYY-MM-DD", "sd15": {"seconds", "seconds_per_step", "peak_gb"},
        "ways": [rows of :func:`measure`]}
    """
    path = Path(path)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

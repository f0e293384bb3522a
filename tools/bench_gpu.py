"""Measure Stable Diffusion 1.5's full size on a CUDA device: ``python run.py bench-gpu``. Prints a
table and writes bench_gpu.json, which chapter 05 shows where there is no GPU.

The weights are random, built on the device, nothing is fetched: time and memory do not depend on
what a network has learned.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch

from sdlearn import hub, memory, models, sampling
from sdlearn.chapters import costs
from sdlearn.noising import add_noise
from tools.bench import PROMPT, STEPS

GUIDANCE = 5.0  # any above 1 asks the U-Net twice a step, which is all that counts here
MEASURES = {  # what memory.ladder may choose, one by one
    "half precision, both pictures at once": ["whole"],
    "attention in slices": ["slicing"],
    "the decoder paints in tiles": ["tiling"],
    "only the working part on the GPU": ["offload"],
    "all of them": ["slicing", "tiling", "offload"],
}


def _fresh(device: str) -> bool:
    """Forget what was measured before; whether the device counts its memory."""
    gc.collect()
    cuda = torch.device(device).type == "cuda"
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        torch.cuda.synchronize()
    return cuda


def two_pictures(pipe, device: str, steps: int = STEPS) -> dict:
    """Time and memory of two pictures, decoded, after a rehearsal: {"seconds", "seconds_per_step",
    "peak_gb"}; "peak_gb" is None where nobody counts."""
    prompts = [PROMPT, "a yellow cat and a red tower in a meadow at sunset"]
    sampling.sample(pipe, prompts, num_inference_steps=1, guidance_scale=GUIDANCE, seed=7)
    cuda = _fresh(device)
    start = time.perf_counter()
    sampling.sample(
        pipe, prompts, num_inference_steps=steps, guidance_scale=GUIDANCE, seed=7
    )  # pictures on the CPU in the end, so the device has finished
    seconds = time.perf_counter() - start
    return {
        "seconds": seconds,
        "seconds_per_step": seconds / steps,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
    }


def training_speed(device: str, batch: int = 128, steps: int = 100) -> dict:
    """Pictures a second that Tiny SD's U-Net learns from, in bfloat16, latents and words given:
    {"batch", "pictures_per_second", "peak_gb"}."""
    unet = models.build_unet().to(device)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=1e-5)
    config, abar = unet.config, models.build_scheduler().alphas_cumprod.to(device)
    x0, noise = torch.randn(
        2, batch, config.in_channels, config.sample_size, config.sample_size, device=device
    )
    words = torch.randn(
        batch,
        models.TINY_TEXT["max_position_embeddings"],
        config.cross_attention_dim,
        device=device,
    )

    def run(count: int) -> float:
        for _ in range(count):
            t = torch.randint(len(abar), (batch,), device=device)
            with torch.autocast(torch.device(device).type, torch.bfloat16):
                predicted = unet(
                    add_noise(x0, noise, t, abar), t, encoder_hidden_states=words
                ).sample
            loss = torch.nn.functional.mse_loss(predicted.float(), noise)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return loss.item()  # waits for the device

    run(min(10, steps))
    cuda = _fresh(device)
    start = time.perf_counter()
    run(steps)
    speed = batch * steps / (time.perf_counter() - start)
    return {
        "batch": batch,
        "pictures_per_second": speed,
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9 if cuda else None,
    }


def measure(
    build: Callable[[], object],
    device: str,
    steps: int = STEPS,
    sides: tuple[int, ...] = (256, 512, 1024),
    train: tuple[int, int] = (128, 100),
) -> dict:
    """Everything, each measure on a pipeline that ``build()`` makes anew; what runs out of memory
    is left out of the list and said."""
    found: dict = {"measures": [], "ways": []}
    for what, names in MEASURES.items():
        _fresh(device)
        try:
            pipe = memory.settle(build(), device, [memory.Measure(name, "") for name in names])
            row = two_pictures(pipe, device, steps)
        except torch.OutOfMemoryError:
            print(f"{what}: not enough memory", file=sys.stderr)
            continue
        found["measures"].append({"measure": what, **row})
        print(f"{what}: {row['seconds']:.2f} s", file=sys.stderr, flush=True)
    if not found["measures"]:
        raise MemoryError("Nothing fits into this GPU's free memory: close what else uses it.")
    found["sd15"] = {
        k: v for k, v in found["measures"][0].items() if k != "measure"
    }  # the fastest that fits
    found["training"] = training_speed(device, *train)
    for side in sides:
        for way in costs.WAYS[side]:
            _fresh(device)
            try:
                found["ways"].append(costs.measure(side, way, device=device))
            except torch.OutOfMemoryError:
                print(f"{way} at {side} px: not enough memory", file=sys.stderr)
    return found


def table(found: dict) -> str:
    def gb(row):
        return f"{row['peak_gb']:.2f} GB" if row["peak_gb"] else ""

    lines = [
        f"Stable Diffusion 1.5, two pictures of 512 px, {STEPS} guided steps, on "
        f"{found['device']}, {found['date']}, torch {found['torch']}",
        "",
    ]
    lines += ["| measure | time | a step | peak memory |", "|---|---|---|---|"]
    lines += [
        f"| {r['measure']} | {r['seconds']:.2f} s | {1000 * r['seconds_per_step']:.0f} ms | "
        f"{gb(r)} |"
        for r in found["measures"]
    ]
    lines += [
        "",
        "| one picture, 25 guided steps | side | time | peak memory |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {w['way']} | {w['side']} px | {w['seconds']:.2f} s | {gb(w)} |" for w in found["ways"]
    ]
    train = found["training"]
    return "\n".join(
        [
            *lines,
            "",
            f"Tiny SD's U-Net learns from {train['pictures_per_second']:.0f} pictures a second "
            f"(batch {train['batch']}, bfloat16, {gb(train)}).",
        ]
    )


def main(out: Path = costs.BENCH_GPU) -> int:
    if not torch.cuda.is_available():
        print(
            "bench-gpu needs a CUDA GPU and a torch built for it, and this machine has none: "
            "nothing was measured.",
            file=sys.stderr,
        )
        return 1
    tokenizer = hub.load_tokenizer() if (hub.TINY_SD / "tokenizer").exists() else None
    found = {
        "device": torch.cuda.get_device_name(),
        "date": str(date.today()),
        "torch": torch.__version__,
    }
    try:
        found |= measure(lambda: models.random_sd15("cuda", torch.float16, tokenizer), "cuda")
    except MemoryError as sentence:
        print(f"bench-gpu: {sentence}", file=sys.stderr)
        return 1
    print(table(found))
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"\nWritten to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

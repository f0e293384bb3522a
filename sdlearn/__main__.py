"""Pictures from the command line: ``python -m sdlearn "a red house in the snow at night"``; ``python -m sdlearn doctor``."""

from __future__ import annotations

import argparse
import re
import secrets
import sys
import time
import warnings
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m sdlearn",
        description="Make pictures from a sentence. `python -m sdlearn doctor` says what works on this machine.",
    )
    p.add_argument(
        "prompt", help='what the picture should show, such as "a red house in the snow at night"'
    )
    p.add_argument(
        "--images",
        type=int,
        default=1,
        metavar="N",
        help="how many pictures, each from a seed of its own (1)",
    )
    p.add_argument("--steps", type=int, default=25, help="denoising steps, 1 to 1000 (25)")
    p.add_argument(
        "--seed",
        type=int,
        help="start noise of the first picture; the next has seed + 1 (random, and printed)",
    )
    p.add_argument(
        "--guidance",
        type=float,
        default=5.0,
        metavar="SCALE",
        help="how strongly the prompt is obeyed; 0 ignores it (5)",
    )
    p.add_argument(
        "--negative", default="", metavar="TEXT", help="what the picture should not show"
    )
    p.add_argument("--sampler", default="ddim", help="ddim, ddpm, euler or dpm++ (ddim)")
    p.add_argument(
        "--model",
        help="a folder, a hub id, or one of tiny, sd15, sd15-inpainting, sd-small, sd-turbo (Tiny SD, or what SDLEARN_MODEL says)",
    )
    p.add_argument(
        "--out",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="where the PNG files go (this folder)",
    )
    return p


def check(options: argparse.Namespace) -> None:
    """Find what is wrong before a model is loaded.

    Raises:
        ValueError, OSError: with one sentence that says what to do.
    """
    if not options.prompt.strip():
        raise ValueError(
            'The prompt is empty: say what the picture should show, such as "a yellow cat in a meadow".'
        )
    if not 1 <= options.images <= 64:
        raise ValueError(f"--images must be from 1 to 64; got {options.images}.")
    if options.seed is not None and not 0 <= options.seed < 2**63:
        raise ValueError(f"--seed must be a whole number from 0 up; got {options.seed}.")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        probe = options.out / ".sdlearn-write-test"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OSError(
            f"Cannot write into {options.out} ({error.strerror}): choose another folder with --out."
        ) from error


def free_name(folder: Path, prompt: str, seed: int) -> Path:
    """A name made of prompt and seed that overwrites nothing."""
    stem = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60].strip("-") or "picture"
    path, count = folder / f"{stem}_{seed}.png", 1
    while path.exists():
        count += 1
        path = folder / f"{stem}_{seed}_{count}.png"
    return path


def make(options: argparse.Namespace) -> list[Path]:
    """Sample, decode, write; print what it cost. Returns the files."""
    import torch
    from PIL.PngImagePlugin import PngInfo
    from tqdm import tqdm

    from sdlearn import hub
    from sdlearn.compression import decode_latents
    from sdlearn.sampling import sample_steps

    pipe = hub.load_pipeline(options.model)
    first = secrets.randbelow(2**31) if options.seed is None else options.seed
    seeds = [first + i for i in range(options.images)]
    steps = sample_steps(
        pipe, [options.prompt] * options.images, negative_prompt=options.negative, num_inference_steps=options.steps,
        guidance_scale=options.guidance, sampler=options.sampler, seed=seeds,
    )  # fmt: skip
    start = time.perf_counter()
    for step in tqdm(steps, total=options.steps, desc="denoising", unit="step"):
        final = step
    a_step = (time.perf_counter() - start) / options.steps
    paths = []
    for image, seed in zip(decode_latents(pipe, final.prev_latents), seeds, strict=True):
        settings = PngInfo()
        for name in ("prompt", "negative", "steps", "guidance", "sampler"):
            settings.add_itxt(name, str(getattr(options, name)))
        settings.add_itxt("seed", str(seed))
        paths.append(free_name(options.out, options.prompt, seed))
        image.save(paths[-1], pnginfo=settings)
        print(paths[-1])
    peak = torch.cuda.max_memory_allocated() / 1e9  # 0 where there is no CUDA
    memory = f", at most {peak:.1f} GB of its memory" if peak else ""
    print(
        f"{options.images} x {options.steps} steps, {1000 * a_step:.0f} ms a step, {time.perf_counter() - start:.1f} s in all, seed {first}, on {pipe.device.type}{memory}"
    )
    return paths


def note(message: Warning, category: type[Warning], *_) -> None:
    """Show what the prompt checks warn of as one plain line; what libraries warn of is not the learner's business."""
    if category is UserWarning:
        print(f"Note: {message}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 made, 1 the doctor found a problem, 2 what was asked for cannot be done (one sentence says why)."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["doctor"]:
        from sdlearn import doctor

        return doctor.main()
    options = parser().parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = note
            check(options)
            make(options)
    except (ValueError, TypeError, OSError, MemoryError) as sentence:
        print(
            "sdlearn: "
            + str(sentence)
            .replace("num_inference_steps", "--steps")
            .replace("guidance_scale", "--guidance"),
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("sdlearn: stopped, nothing written.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

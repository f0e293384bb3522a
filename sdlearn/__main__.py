"""Pictures from the command line: ``python -m sdlearn "a red house in the snow at night"``.

``python -m sdlearn doctor`` says what works on this machine.
"""

from __future__ import annotations

import argparse
import errno
import io
import os
import re
import secrets
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

DTYPES = ("float32", "float16", "bfloat16")
OPTIONS = {  # how the sentences of the package call what is a switch here
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance",
    "load_pipeline(dtype=torch.float32)": "--dtype float32",
    "dtype=torch.float32": "--dtype float32",
    "negative_prompt": "--negative",
}


def parser() -> argparse.ArgumentParser:
    """The command's switches; what is not given is taken from the model."""
    p = argparse.ArgumentParser(
        prog="python -m sdlearn",
        description="Make pictures from a sentence. `python -m sdlearn doctor` says what works on "
        "this machine.",
    )
    add = p.add_argument
    add("prompt", help='what to show, such as "a red house in the snow at night"')
    add("--images", type=int, default=1, metavar="N", help="how many pictures, 1 to 64 (1)")
    add("--steps", type=int, help="denoising steps, 1 to 1000 (as the model likes it)")
    add("--seed", type=int, help="of the first picture; the next has seed + 1 (random, printed)")
    add(
        "--guidance",
        type=float,
        metavar="SCALE",
        help="how strongly the prompt is obeyed; 0 ignores it (as the model likes it)",
    )
    add("--negative", default="", metavar="TEXT", help="what the picture should not show")
    add("--sampler", help="ddim, ddpm, euler, dpm++ or lcm (as the model likes it)")
    add(
        "--model",
        help="a folder, a hub id, or one of tiny, tiny-few, sd15, sd15-inpainting, sd-small, "
        "sd-turbo (Tiny SD, or what SDLEARN_MODEL says)",
    )
    add("--dtype", choices=DTYPES, help="float32 where half precision gives no picture")
    add("--out", type=Path, default=Path(), metavar="FOLDER", help="for the PNGs (this folder)")
    return p


def check_options(options: argparse.Namespace) -> None:
    """Find what is wrong before a model is loaded.

    Raises:
        ValueError, OSError: with one sentence that says what to do.
    """
    if not options.prompt.strip():
        raise ValueError(
            "The prompt is empty: say what the picture should show, such as "
            '"a yellow cat in a meadow".'
        )
    if not 1 <= options.images <= 64:
        raise ValueError(f"--images must be from 1 to 64; got {options.images}.")
    if options.seed is not None and not 0 <= options.seed < 2**63:
        raise ValueError(f"--seed must be a whole number from 0 up; got {options.seed}.")
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        probe = options.out / f".sdlearn-write-test-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise OSError(
            f"Cannot write into {options.out} ({why}): choose another folder with --out."
        ) from error


def free_name(folder: Path, prompt: str, seed: int) -> Path:
    """A name made of prompt and seed that overwrites nothing."""
    stem = re.sub(r"[^a-z0-9]+", "-", prompt.lower()).strip("-")[:60].strip("-") or "picture"
    path, count = folder / f"{stem}_{seed}.png", 1
    while path.exists():
        count += 1
        path = folder / f"{stem}_{seed}_{count}.png"
    return path


def save_png(image: Image.Image, path: Path, settings: dict[str, object]) -> None:
    """Write a PNG with its settings, whole or not at all.

    Raises:
        OSError: with one sentence that names the folder.
    """
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    for name, value in settings.items():
        info.add_itxt(name, str(value))
    content = io.BytesIO()
    image.save(content, "PNG", pnginfo=info)
    try:
        path.write_bytes(content.getvalue())
    except BaseException as error:  # an interrupt too leaves no half a picture
        path.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        why = "its disk is full" if full else error.strerror
        raise OSError(
            f"Cannot write {path.name} into {path.parent.absolute()} ({why}): make room, or choose "
            "another folder with --out."
        ) from error


def make(options: argparse.Namespace, paths: list[Path]) -> None:
    """Sample, decode, write, print what it cost; the files are added to ``paths`` one by one."""
    import torch
    from tqdm import tqdm

    from sdlearn import hub
    from sdlearn.compression import decode_latents
    from sdlearn.sampling import sample_steps

    dtype = getattr(torch, options.dtype) if options.dtype else None
    pipe = hub.load_pipeline(options.model, dtype=dtype)
    best = hub.defaults_of(pipe)
    settings = {
        "prompt": options.prompt,
        "negative": options.negative,
        "steps": best.num_inference_steps if options.steps is None else options.steps,
        "guidance": best.guidance_scale if options.guidance is None else options.guidance,
        "sampler": best.sampler if options.sampler is None else options.sampler,
    }
    first = secrets.randbelow(2**31) if options.seed is None else options.seed
    seeds = [first + i for i in range(options.images)]
    steps = sample_steps(
        pipe,
        [options.prompt] * options.images,
        negative_prompt=options.negative,
        num_inference_steps=settings["steps"],
        guidance_scale=settings["guidance"],
        sampler=settings["sampler"],
        seed=seeds,
    )
    start = time.perf_counter()
    for step in tqdm(steps, total=settings["steps"], desc="denoising", unit="step"):
        final = step
    a_step = (time.perf_counter() - start) / settings["steps"]
    for image, seed in zip(decode_latents(pipe, final.prev_latents), seeds, strict=True):
        path = free_name(options.out, options.prompt, seed)
        save_png(image, path, settings | {"seed": seed})
        paths.append(path)
        print(path)
    peak = torch.cuda.max_memory_allocated() / 1e9  # 0 where there is no CUDA
    memory = f", at most {peak:.1f} GB of its memory" if peak else ""
    print(
        f"{options.images} x {settings['steps']} steps of {settings['sampler']}, guidance "
        f"{settings['guidance']:g}, {1000 * a_step:.0f} ms a step, "
        f"{time.perf_counter() - start:.1f} s in all, seed {first}, on {pipe.device.type}{memory}"
    )


def note(message: Warning | str, category: type[Warning], *_) -> None:
    """Show what the prompt checks warn of as one plain line.

    What libraries warn of is not the learner's business.
    """
    if category is UserWarning:
        print(f"Note: {message}", file=sys.stderr)


def say(sentence: object) -> None:
    """One line on the error output, in the command's own words."""
    text = " ".join(str(sentence).split())
    for theirs, ours in OPTIONS.items():
        text = text.replace(theirs, ours)
    print(f"sdlearn: {text}", file=sys.stderr)


def main(argv: list[str] | None = None) -> int:
    """Exit codes: 0 made, 1 the doctor found a problem, 130 stopped, 2 it cannot be done.

    One sentence says why.
    """
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["doctor"]:
        from sdlearn import doctor

        return doctor.main(argv[1:])
    for stream in (sys.stdout, sys.stderr):  # a name that cannot be shown is no reason to stop
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = parser().parse_args(argv)
    if [] in vars(options).values():  # what argparse makes of "--out=--"
        parser().error("each switch needs a value of its own")
    paths: list[Path] = []
    try:
        with warnings.catch_warnings():
            warnings.showwarning = note
            check_options(options)
            make(options, paths)
    except (ValueError, TypeError, OSError) as sentence:
        say(sentence)
        return 2
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "out of memory" not in str(error):
            raise
        say("The memory is full: ask for fewer --images, or a smaller --model such as tiny.")
        return 2
    except KeyboardInterrupt:
        say(f"stopped; written: {', '.join(map(str, paths)) or 'nothing'}.")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

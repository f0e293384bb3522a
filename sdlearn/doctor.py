"""What works on this machine, in ten seconds: ``python -m sdlearn doctor``."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from sdlearn import hub


class Finding(NamedTuple):
    """One line of the report.

    Its level is "OK", "NOTE" (works, but know this) or "PROBLEM" (mend this first).
    """

    level: str
    text: str


def judge(good: bool, text: str, advice: str) -> Finding:
    """OK, or a NOTE with its advice."""
    return Finding("OK", text) if good else Finding("NOTE", f"{text}: {advice}")


def python() -> Iterator[Finding]:
    """Whether this Python is one that the course is tested with."""
    here = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if (3, 11) <= sys.version_info[:2] <= (3, 14):
        yield Finding("OK", here)
    else:
        yield Finding("PROBLEM", f"{here}: install Python 3.11 to 3.14 and start run.py with it.")


def libraries() -> Iterator[Finding]:
    """Which libraries are there, and in which versions."""
    for name, found in hub.versions().items():
        tested = hub.TESTED.get(name)
        if found == "missing":
            yield Finding(
                "PROBLEM",
                f"{name} is missing: run `pip install -r requirements.txt` in this environment.",
            )
        elif tested and found.split("+")[0] != tested:
            yield Finding(
                "NOTE",
                f"{name} {found}; the course is tested with {tested}: if something fails, run "
                f"`pip install {name}=={tested}`.",
            )
        else:
            yield Finding("OK", f"{name} {found}")


def accelerator() -> Iterator[Finding]:
    """What computes: cores, and a GPU if there is one."""
    import torch

    cores = os.cpu_count() or 1
    threads = torch.get_num_threads()
    yield judge(
        2 * threads >= cores,
        f"{threads} of {cores} cores are used",
        "unset OMP_NUM_THREADS to use more.",
    )
    if torch.cuda.is_available():
        free, total = (b / 1e9 for b in torch.cuda.mem_get_info())
        yield judge(
            free > 4,
            f"{torch.cuda.get_device_name()}, {free:.1f} of {total:.1f} GB free",
            "Stable Diffusion 1.5 wants 4 GB, so close what else uses the GPU.",
        )
    elif torch.backends.mps.is_available():
        yield Finding("OK", "Apple GPU (mps)")
    else:
        yield Finding(
            "OK", "no GPU, and Tiny SD needs none; only Stable Diffusion 1.5 itself would be slow"
        )


def room() -> Iterator[Finding]:
    """Memory and disk that are free."""
    import psutil

    memory = psutil.virtual_memory().available / 1e9
    disk = shutil.disk_usage(Path.cwd()).free / 1e9
    yield judge(
        memory > 1.5,
        f"{memory:.1f} GB of memory free",
        "a notebook takes up to 1 GB, so close other programs or kernels.",
    )
    yield judge(
        disk > 1, f"{disk:.1f} GB of disk free", "make room before you save notebooks or pictures."
    )


def model(asked: str | None = None) -> Iterator[Finding]:
    """Load the model that is asked for (see ``hub.resolve``) and run one guided step of it."""
    try:
        folder, hub_ids = hub.resolve(asked)
        if folder is None and not hub.in_cache(hub_ids):
            name = asked or os.environ["SDLEARN_MODEL"]
            yield Finding("NOTE", f"{name} is not on this machine: loading it fetches it first.")
            return
        start = time.perf_counter()
        pipe = hub.load_pipeline(asked)
    except (OSError, ValueError, TypeError) as error:
        yield Finding("PROBLEM", f"The model: {error}")
        return
    loaded = time.perf_counter() - start
    yield _one_step(pipe, "Tiny SD" if folder == hub.TINY_SD else str(folder or asked), loaded)


def _one_step(pipe, name: str, loaded: float) -> Finding:
    import torch

    from sdlearn.prediction import predict_noise
    from sdlearn.sampling import start_latents
    from sdlearn.text import encode_prompt

    words = encode_prompt(pipe, ["", "a red house"])
    latents = start_latents(pipe, 2, seed=0)
    predict_noise(pipe, latents, 500, words)  # the first call also allocates
    start = time.perf_counter()
    noise = predict_noise(pipe, latents, 500, words)
    step = time.perf_counter() - start
    if not torch.isfinite(noise).all():
        return Finding(
            "PROBLEM",
            f"{name} predicts numbers that are not finite: load it with dtype=torch.float32 (here "
            "--dtype float32), or fetch it again if that does not help.",
        )
    best = hub.defaults_of(pipe)
    steps = best.num_inference_steps
    cost = (
        f"{name} loads in {loaded:.1f} s; a guided step takes {1000 * step:.0f} ms, a picture of "
        f"{steps} steps about {steps * step:.1f} s; it likes {best.sampler} and guidance "
        f"{best.guidance_scale:g}"
    )
    return judge(step < 0.5, cost, "that is slow, so close other programs, or use fewer steps.")


def hub_answers() -> Iterator[Finding]:
    """Whether the hub answers; nobody needs it for Tiny SD."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        yield Finding(
            "OK", "the hub is not asked, as HF_HUB_OFFLINE is set; Tiny SD needs no network"
        )
        return
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=3):
            yield Finding("OK", f"{address} answers: Stable Diffusion 1.5 can be fetched")
    except Exception:  # blocked, unresolved, refused, too slow: the learner needs only the outcome
        yield Finding(
            "NOTE",
            f"{address} cannot be reached: all of Tiny SD works offline, only other models need "
            "it.",
        )


CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    python,
    libraries,
    accelerator,
    room,
    model,
    hub_answers,
)


def diagnose(checks: tuple[Callable[[], Iterator[Finding]], ...] = CHECKS) -> Iterator[Finding]:
    """Run the checks; one that breaks is itself a problem found."""
    for check in checks:
        try:
            yield from check()
        except Exception as error:
            yield Finding(
                "PROBLEM",
                f"{check.__name__}: {type(error).__name__}: {error}; run "
                "`pip install -r requirements.txt`, then the doctor again.",
            )


def main(argv: list[str] | None = None) -> int:
    """Print the report; 1 if there is a PROBLEM, else 0.

    ``--model`` names the model to look at; without it ``SDLEARN_MODEL`` does, or else Tiny SD.
    """
    parser = argparse.ArgumentParser(prog="python -m sdlearn doctor", description=__doc__)
    parser.add_argument("--model", help="the one to look at (Tiny SD, or what SDLEARN_MODEL says)")
    asked = parser.parse_args(argv).model
    if asked:
        os.environ["SDLEARN_MODEL"] = asked
    levels = []
    for finding in diagnose():
        print(f"{finding.level:8} {finding.text}", flush=True)
        levels.append(finding.level)
    problems = levels.count("PROBLEM")
    print(
        f"\n{problems} problem{'s' * (problems > 1)}: mend the first one first."
        if problems
        else "\nEverything the course needs works here."
    )
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())

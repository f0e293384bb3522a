"""What can be known to fail is said before the first step of a training."""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from sdlearn.training import data

CHECKPOINT_MB = 300  # the largest checkpoint, its unfinished copy beside it, logs and samples
PARTS = ("tokenizer", "vae", "clip", "text_encoder", "unet", "scheduler")
FILES = ("model_index.json", "defaults.json", "judge.safetensors")


def prepare(settings: Any) -> None:
    """Check the settings of a training and bring the parts it goes on from into ``--out``.

    Raises:
        ValueError: with one sentence that says what to change.
        FileNotFoundError: if a part of the model that is needed is not there yet.
    """
    check_numbers(settings)
    check_device(settings.device)
    for folder in (settings.work, settings.out):
        check_folder_writable(folder)
    check_room(settings)
    if settings.start_from:
        bring_parts(Path(settings.start_from), Path(settings.out))
    for part in settings.needs:
        if not (Path(settings.out) / part).is_dir():
            stage = "clip" if part == "text_encoder" else part
            raise FileNotFoundError(
                f"{settings.out} has no {part} yet: train it with `python -m sdlearn.training "
                f"{stage} --out {settings.out}`, or name a model that has one with --start-from."
            )


def check_numbers(settings: Any) -> None:
    """Every number finite and in its range.

    Counts are at least 1, shares between 0 and 1, time and rates above 0, all else at least 0.
    """
    for field in fields(settings):
        value, option = getattr(settings, field.name), "--" + field.name.replace("_", "-")
        if isinstance(value, (bool, str)) or value is None:
            continue
        if not math.isfinite(value):
            raise ValueError(f"{option} must be a number with an end; it is {value}.")
        if field.name in settings.shares:
            if not 0 <= value <= 1:
                raise ValueError(f"{option} is a share between 0 and 1; it is {value}.")
        elif isinstance(value, int):
            least = settings.least.get(field.name, 1)
            if value < least:
                raise ValueError(f"{option} must be at least {least}; it is {value}.")
        elif field.name in ("minutes", "lr", "save_every"):
            if value <= 0:
                raise ValueError(f"{option} must be above 0; it is {value}.")
        elif value < 0:
            raise ValueError(f"{option} must not be below 0; it is {value}.")
    if getattr(settings, "ema", 0) >= 1:
        raise ValueError(f"--ema must be below 1, or nothing is averaged; it is {settings.ema}.")


def check_device(name: str | None) -> None:
    """Refuse a device that this machine does not have; None lets accelerate choose."""
    if name is None:
        return
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"There is no device {name!r}: try cpu or cuda.") from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        raise ValueError(
            f"PyTorch finds no {name} on this machine: leave out --device, or say cpu."
        )


def check_folder_writable(folder: str) -> None:
    """Make a folder and write into it."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"Nothing can be written into {folder}: {reason}.") from error


def check_room(settings: Any) -> None:
    """Refuse a training whose pictures and checkpoints the disk cannot hold."""
    drawn = settings.drawn().items()
    missing = sum(n for split, n in drawn if not data.are_drawn(split, n, settings.work))
    needed = missing * 3 * data.SIDE**2 / 1e6 + CHECKPOINT_MB
    free = shutil.disk_usage(settings.work).free / 1e6
    if free < needed:
        raise ValueError(
            f"{settings.work} needs {needed / 1000:,.1f} GB for pictures and checkpoints and its "
            f"disk has {free / 1000:,.1f} GB free: take fewer --pictures or another --work."
        )


def bring_parts(source: Path, target: Path) -> None:
    """Copy those parts of a model that the other folder does not have."""
    if not source.is_dir():
        raise ValueError(f"--start-from names a model folder; there is none at {source}.")
    for name in PARTS:
        if (source / name).is_dir() and not (target / name).exists():
            shutil.copytree(source / name, target / name)
    for name in FILES:
        if (source / name).is_file() and not (target / name).exists():
            shutil.copy2(source / name, target / name)

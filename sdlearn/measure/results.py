"""What the measurements share: their settings, shares and means with intervals, the record."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from sdlearn import hub
from sdlearn.training.common import hardware


@dataclass
class Measurement:
    """Settings every measurement has."""

    model: str = str(hub.TINY_SD)  # the folder that is measured
    out: str = "measured"  # where results are written; the model's own folder to publish them
    work: str = "runs"  # drawn pictures are kept here
    seed: int = 0
    batch: int = 25  # pictures at once

    def check(self) -> None:
        """Refuse what cannot be measured, before anything is loaded.

        Raises:
            ValueError: with one sentence that says what to change.
        """
        for name, value in asdict(self).items():
            if isinstance(value, int) and not isinstance(value, bool):
                least = 0 if name == "seed" else 1
                if value < least:
                    option = name.replace("_", "-")
                    raise ValueError(f"--{option} must be at least {least}; it is {value}.")
        if not Path(self.model).is_dir():
            raise ValueError(f"There is no model folder at {self.model}: name one with --model.")
        for folder in (self.out, self.work):
            try:
                Path(folder).mkdir(parents=True, exist_ok=True)
                probe = Path(folder) / ".writable"
                probe.touch()
                probe.unlink()
            except OSError as error:
                reason = error.strerror or type(error).__name__
                raise ValueError(f"Nothing can be written into {folder}: {reason}.") from error


def share(hits: list[bool]) -> dict[str, float]:
    """Share of hits with its Wilson 95 % interval, in percent."""
    interval = stats.binomtest(int(sum(hits)), len(hits)).proportion_ci(method="wilson")
    value = 100 * float(np.mean(hits))
    return {"value": value, "low": 100 * interval.low, "high": 100 * interval.high, "n": len(hits)}


def average(values: list[float]) -> dict[str, float]:
    """Mean with its normal 95 % interval."""
    mean = float(np.mean(values))
    half = 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return {"value": mean, "low": mean - half, "high": mean + half, "n": len(values)}


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Distance of two Gaussians fitted to features (N, D).

    |mean difference|^2 + tr(Ca + Cb - 2 (Ca Cb)^(1/2)) (Heusel et al. 2017, eq. 6).
    """
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(ca @ cb).real.clip(0))
    apart = np.square(a.mean(0) - b.mean(0)).sum()
    return float(apart + np.trace(ca) + np.trace(cb) - 2 * roots.sum())


def record(command: str, device: Any, began: float) -> dict[str, object]:
    """By which command, when, on what and in how many minutes something was measured.

    ``began`` is the ``time.perf_counter()`` of the start.
    """
    return {
        "by": f"python -m sdlearn.measure {command}",
        "on": date.today().isoformat(),
        "hardware": hardware(device),
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "versions": hub.versions(),
    }


def write_json(path: Path, result: dict) -> None:
    """Write a result, whole or not at all."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    new.replace(path)

"""What the four trainers share: a clock, checkpoints that survive ``kill -9``, a JSON log, a moving average of the weights."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast, set_seed
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm


@dataclass
class Settings:
    """Settings every trainer has; each trainer's own dataclass adds its model and its losses."""

    minutes: float = (
        30.0  # training stops after this much training time, counted over all resumed runs
    )
    work: str = "runs"  # folder for drawn pictures, checkpoints, logs and sample grids
    out: str = "sdlearn/tiny_sd"  # model folder the finished part is written into
    seed: int = 0
    device: str | None = None  # None lets accelerate choose
    start_from: str | None = (
        None  # a model folder whose weights to go on from, where there is no checkpoint: sdlearn/tiny_sd itself, say (vae, clip and unet)
    )
    resume: bool = False  # go on from the last checkpoint instead of starting anew
    bf16: bool = True  # bfloat16 autocast: 1.2-2 times faster on CPUs that have it, more on GPUs; elsewhere it is not used, see fast_bf16
    save_every: float = 30.0  # seconds between checkpoints: what kill -9 can cost at most


def learning_rate(
    progress: float, peak: float, *, warmup: float = 0.02, flat: float = 0.0
) -> float:
    """Linear warm-up, ``flat`` at the peak up to that share of the run, then half a cosine down to 1 % of the peak.

    ``progress`` is the share of the run's time that is over, 0 to 1. Tying the rate to time, not to steps, makes
    ``--minutes 5`` end as properly as ``--minutes 500``.
    """
    if progress < warmup:
        return peak * max(progress / warmup, 0.02)
    start = max(warmup, flat)
    if progress < start:
        return peak
    done = min(1.0, (progress - start) / (1 - start))
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def hardware(device: torch.device) -> str:
    """What a training or a measurement ran on, for its record."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return (
        f"{torch.get_num_threads()} CPU threads ({platform.machine()})"
        if device.type == "cpu"
        else f"{device.type} ({platform.machine()})"
    )


def fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is worth it: a CPU without instructions of its own for it takes more than ten times as long as with float32 (a U-Net step on AVX2: 17.5 s against 1.4 s)."""
    if device.type == "cpu":
        return any(
            getattr(torch.cpu, "get_capabilities", dict)().get(name)
            for name in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16")
        )
    return device.type != "mps"


class Run:
    """One training run: ``for step, rng in run: ... run.update(loss)``; see vae.py for how it reads in use."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        model: torch.nn.Module,  # what is averaged, saved and shipped
        *,
        lr: float,
        weight_decay: float = 0.01,
        flat: float = 0.0,
        ema: float = 0.999,
        through: torch.nn.Module
        | None = None,  # what is called in training, if not the model itself: several GPUs exchange gradients around its forward
    ):
        self.name, self.settings, self.lr, self.flat = name, settings, lr, flat
        self.folder = Path(settings.work) / name
        self.folder.mkdir(parents=True, exist_ok=True)
        set_seed(settings.seed)
        self.device = PartialState(cpu=settings.device == "cpu").device
        self.accelerator = Accelerator(
            mixed_precision="bf16" if settings.bf16 and fast_bf16(self.device) else "no",
            cpu=settings.device == "cpu",
        )
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
        )
        # the average starts after a short warm-up of its own, or it would remember the random start
        average = get_ema_multi_avg_fn(ema)
        self.raw = model
        self.model, self.optimizer = self.accelerator.prepare(through or model, optimizer)
        self.average = AveragedModel(self.raw, multi_avg_fn=average)
        self.step, self.elapsed, self.history = 0, 0.0, []
        if settings.resume:
            self._load()
        elif self.checkpoint.exists() and self.accelerator.is_main_process:
            self.checkpoint.rename(
                self.checkpoint.with_suffix(".previous.pt")
            )  # never lose hours to a forgotten --resume

    @property
    def checkpoint(self) -> Path:
        return self.folder / "checkpoint.pt"

    @property
    def progress(self) -> float:
        """Share of the allowed time that is over, 0 to 1."""
        return min(1.0, self.elapsed / (60 * self.settings.minutes))

    def __iter__(self) -> Iterator[tuple[int, np.random.Generator]]:
        """Yield (step, rng) until time is up. The generator depends on seed, step and process only: a resumed run draws what an unbroken one would have drawn."""
        main = self.accelerator.is_main_process
        last_save = last_tick = time.perf_counter()
        self.model.train()
        with tqdm(total=round(60 * self.settings.minutes), initial=round(self.elapsed), desc=self.name, unit="s", disable=not main, mininterval=2) as bar:  # fmt: skip
            while self.progress < 1:
                for group in self.optimizer.param_groups:
                    group["lr"] = learning_rate(self.progress, self.lr, flat=self.flat)
                yield (
                    self.step,
                    np.random.default_rng(
                        [self.settings.seed, self.step, self.accelerator.process_index]
                    ),
                )
                self.step += 1
                now = time.perf_counter()
                self.elapsed += now - last_tick
                if (
                    self.accelerator.num_processes > 1
                ):  # one clock for all, or one process would stop while the others wait for it
                    self.elapsed = broadcast(
                        torch.tensor([self.elapsed], device=self.device)
                    ).item()
                bar.update(round(self.elapsed) - bar.n)
                last_tick = now
                if now - last_save > self.settings.save_every:
                    self.save()
                    last_save = time.perf_counter()
                    if self.history:
                        bar.set_postfix(
                            {
                                k: f"{v:.4g}"
                                for k, v in self.history[-1].items()
                                if k not in ("seconds", "time")
                            }
                        )
        self.save()

    def update(self, loss: torch.Tensor, **also: float | torch.Tensor) -> None:
        """One optimiser step on ``loss``; ``also`` are further numbers for the log."""
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.raw.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.step < 200:
            self.average.n_averaged.zero_()  # copy instead of average
        self.average.update_parameters(self.raw)
        if self.step % 50 == 0:
            row = {
                "step": self.step,
                "seconds": round(self.elapsed, 1),
                "loss": loss.detach().item(),
                **{k: torch.as_tensor(v).detach().item() for k, v in also.items()},
            }
            if not math.isfinite(row["loss"]):
                raise FloatingPointError(
                    f"The loss of {self.name} became {row['loss']} at step {self.step}: lower the learning rate and resume from {self.checkpoint}."
                )
            self.history.append(row)

    def save(self) -> None:
        """Write a checkpoint; a crash while writing leaves the old one whole."""
        if not self.accelerator.is_main_process:
            return
        parts = {"model": self.raw, "average": self.average, "optimizer": self.optimizer}
        state = {name: part.state_dict() for name, part in parts.items()} | {
            "step": self.step,
            "elapsed": self.elapsed,
            "history": self.history,
        }
        new = self.checkpoint.with_suffix(".new")
        torch.save(state, new)
        os.replace(new, self.checkpoint)
        rows = [
            {"settings": asdict(self.settings), "hardware": hardware(self.device)},
            *self.history,
        ]
        (self.folder / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))

    def _load(self) -> None:
        if not self.checkpoint.exists():
            return
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        self.raw.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed, self.history = state["step"], state["elapsed"], state["history"]

    @property
    def best(self) -> torch.nn.Module:
        """The averaged model, in evaluation mode: what is measured and shipped."""
        return self.average.module.eval()

"""What the trainers share: a clock, checkpoints that survive ``kill -9``, a log, an average."""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast, set_seed
from filelock import FileLock, Timeout
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from sdlearn import hub

LOG_EVERY = 50  # steps between two rows of the log


@dataclass
class Settings:
    """Settings every trainer has; each trainer's own dataclass adds its model and its losses."""

    # training stops after this much training time, counted over all resumed runs
    minutes: float = 30.0
    work: str = "runs"  # folder for drawn pictures, checkpoints, logs and sample grids
    out: str = "my_model"  # model folder the finished part is written into
    seed: int = 0
    device: str | None = None  # None lets accelerate choose
    # a model folder: its weights are gone on from where there is no checkpoint, and parts that
    # --out does not have are copied from it
    start_from: str | None = None
    resume: bool = False  # go on from the last checkpoint instead of starting anew
    # bfloat16 autocast: 1.2-2 times faster on CPUs that have it, more on GPUs; elsewhere it is
    # not used, see fast_bf16
    bf16: bool = True
    save_every: float = 30.0  # seconds between checkpoints: what kill -9 can cost at most
    compile: bool = False  # torch.compile: needs a C++ compiler, and minutes at the start
    lr: float = 1e-3  # peak of the learning rate

    # not options: what prepare.py checks
    needs = ()  # parts that must be in ``out``
    splits = ("train",)  # pictures that are drawn, see drawn
    shares = ()  # settings between 0 and 1
    least = {"seed": 0}  # noqa: RUF012  (smallest count of settings that may be 0)

    def drawn(self) -> dict[str, int]:
        """How many pictures of each split are drawn at most."""
        return dict.fromkeys(self.splits, getattr(self, "pictures", 0))


def learning_rate(
    progress: float, peak: float, *, warmup: float = 0.02, flat: float = 0.0
) -> float:
    """Linear warm-up, ``flat`` at the peak up to that share of the run, then half a cosine down
    to 1 % of the peak.

    ``progress`` is the share of the run's time that is over, 0 to 1. Tying the rate to time, not
    to steps, makes ``--minutes 5`` end as properly as ``--minutes 500``.
    """
    if progress < warmup:
        return peak * max(progress / warmup, 0.02)
    start = max(warmup, flat)
    if progress < start:
        return peak
    done = min(1.0, (progress - start) / (1 - start)) if start < 1 else 1.0
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def hardware(device: torch.device) -> str:
    """What a training or a measurement ran on, for its record."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        threads = torch.get_num_threads()
        return f"{threads} CPU thread{'s' if threads > 1 else ''} ({platform.machine()})"
    return f"{device.type} ({platform.machine()})"


def fast_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is worth it.

    A CPU without instructions of its own for it takes more than ten times as long as with
    float32 (a U-Net step on AVX2: 17.5 s against 1.4 s).
    """
    if device.type == "cpu":
        has = getattr(torch.cpu, "get_capabilities", dict)()
        return any(has.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16"))
    return device.type != "mps"


def fingerprint_of_text(text: str) -> str:
    """Eight letters and digits that change with the text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def kept_file(path: Path, make: Callable[[], np.ndarray]) -> torch.Tensor:
    """The array of a ``.npy`` file as a tensor over its pages; made and written if not there."""
    if not path.exists():
        new = path.with_suffix(".new.npy")
        try:
            np.save(new, make())
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    return torch.from_numpy(np.load(path, mmap_mode="c"))


def not_finite(state: dict, name: str = "") -> str | None:
    """The name of the first tensor of a state that holds NaN or infinity, None if all are well."""
    for key, value in state.items():
        inside = f"{name}.{key}".lstrip(".")
        if isinstance(value, dict):
            found = not_finite(value, inside)
            if found:
                return found
        elif torch.is_tensor(value) and value.is_floating_point():
            if not torch.isfinite(value).all():
                return inside
    return None


def ship(folder: str | os.PathLike, **parts: torch.nn.Module) -> None:
    """Write parts into a model folder, as :func:`sdlearn.hub.save` does, if they are finite.

    Raises:
        FloatingPointError: if a weight is not finite in half precision, in which it is written.
    """
    for name, part in parts.items():
        bad = not_finite({k: v.half() for k, v in part.state_dict().items()})
        if bad:
            raise FloatingPointError(
                f"{name} was not written into {folder}: its {bad} is not finite in half precision."
            )
    hub.save(folder, **parts)


class Run:
    """One training run: ``for step, rng in run: ... run.update(loss)``; see vae.py."""

    def __init__(
        self,
        name: str,
        settings: Settings,
        model: torch.nn.Module,  # what is averaged, saved and shipped
        *,
        weight_decay: float = 0.01,
        flat: float = 0.0,  # share of the time at the full learning rate
        ema: float = 0.999,
        # what is called in training, if not the model itself: several GPUs exchange gradients
        # around its forward
        through: torch.nn.Module | None = None,
        keep: torch.nn.Module | None = None,  # further state of the training to save
    ):
        bad = not_finite(model.state_dict())
        if bad:
            raise ValueError(f"The weights {name} would go on from are not finite: {bad}.")
        self.name, self.settings, self.flat = name, settings, flat
        self.folder = Path(settings.work) / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.accelerator, self.device = accelerator_for(settings)
        self._lock = self._take_folder()
        set_seed(settings.seed)
        self.raw, trained = model, [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            trained, lr=settings.lr, betas=(0.9, 0.99), weight_decay=weight_decay, fused=True
        )
        self.model, self.optimizer = self.accelerator.prepare(through or model, optimizer)
        # the average starts after a short warm-up of its own, or it would remember the start
        self.average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema))
        self.keep = (keep or torch.nn.Module()).to(self.device)
        self.step, self.elapsed, self.history = 0, 0.0, []
        if settings.resume:
            self._load()
        elif self.checkpoint.exists() and self.is_main:
            # never lose hours to a forgotten --resume
            self.checkpoint.replace(self.checkpoint.with_suffix(".previous.pt"))

    @property
    def is_main(self) -> bool:
        """Whether this process writes: the first one of several."""
        return self.accelerator.is_main_process

    @property
    def checkpoint(self) -> Path:
        """The file of the last checkpoint."""
        return self.folder / "checkpoint.pt"

    @property
    def progress(self) -> float:
        """Share of the allowed time that is over, 0 to 1."""
        return min(1.0, self.elapsed / (60 * self.settings.minutes))

    @property
    def best(self) -> torch.nn.Module:
        """The averaged model, in evaluation mode: what is measured and shipped."""
        return self.average.module.eval()

    def main_first(self) -> AbstractContextManager:
        """The first process goes ahead, to draw what the others then only read."""
        return self.accelerator.main_process_first()

    def compiled(self) -> Callable:
        """The model as it is called in training, compiled where ``--compile`` asks for it."""
        return torch.compile(self.model) if self.settings.compile else self.model

    def generator(self, rng: np.random.Generator) -> torch.Generator:
        """Random numbers on the device that follow from those of the step."""
        return torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))

    def __iter__(self) -> Iterator[tuple[int, np.random.Generator]]:
        """Yield (step, rng) until time is up.

        The generator depends on seed, step and process only: a resumed run draws what an unbroken
        one would have drawn.
        """
        last_save = last_tick = time.perf_counter()
        process = self.accelerator.process_index
        self.model.train()
        try:
            with self._bar() as bar:
                while self.progress < 1:
                    rate = learning_rate(self.progress, self.settings.lr, flat=self.flat)
                    for group in self.optimizer.param_groups:
                        group["lr"] = rate
                    yield self.step, np.random.default_rng([self.settings.seed, self.step, process])
                    self.step += 1
                    now = time.perf_counter()
                    self._tick(now - last_tick)
                    last_tick = now
                    bar.update(round(self.elapsed) - bar.n)
                    if now - last_save > self.settings.save_every:
                        self.save()
                        last_save = time.perf_counter()
            self.save()
        finally:
            self._lock.release()

    def _bar(self) -> tqdm:
        return tqdm(
            total=round(60 * self.settings.minutes),
            initial=round(self.elapsed),
            desc=self.name,
            unit="s",
            disable=not self.is_main,
            mininterval=2,
        )

    def _tick(self, seconds: float) -> None:
        self.elapsed += seconds
        # one clock for all, or one process would stop while the others wait for it
        if self.accelerator.num_processes > 1:
            told = torch.tensor([self.elapsed], device=self.device)
            self.elapsed = broadcast(told).item()

    def update(self, loss: torch.Tensor, **also: float | torch.Tensor) -> None:
        """One optimizer step on ``loss``; ``also`` are further numbers for the log."""
        self.accelerator.backward(loss)
        self.accelerator.clip_grad_norm_(self.raw.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.step < 200:
            self.average.n_averaged.zero_()  # copy instead of average
        self.average.update_parameters(self.raw)
        if self.step % LOG_EVERY == 0:
            numbers = {"loss": loss, **also}
            row = {"step": self.step, "seconds": round(self.elapsed, 1)}
            row |= {k: torch.as_tensor(v).detach().float().item() for k, v in numbers.items()}
            if not math.isfinite(row["loss"]):
                raise FloatingPointError(self._diverged(f"The loss of {self.name}"))
            self.history.append(row)

    def _diverged(self, what: str) -> str:
        kept = "the last good checkpoint is kept" if self.checkpoint.exists() else "there is none"
        return (
            f"{what} is not finite at step {self.step}: nothing was saved, {kept}. "
            f"Take a lower --lr than {self.settings.lr:g}."
        )

    def save(self) -> None:
        """Write a checkpoint; a crash while writing leaves the old one whole.

        Raises:
            FloatingPointError: if a weight is not finite; then nothing is written.
            OSError: if the disk is full.
        """
        if not self.is_main:
            return
        state = {name: part.state_dict() for name, part in self._parts().items()}
        bad = not_finite(state)
        if bad:
            raise FloatingPointError(self._diverged(bad))
        state |= {"step": self.step, "elapsed": self.elapsed, "history": self.history}
        head = {"settings": asdict(self.settings), "hardware": hardware(self.device)}
        lines = "".join(json.dumps(row) + "\n" for row in [head, *self.history])
        new = self.checkpoint.with_suffix(".new")
        try:
            torch.save(state, new)
            os.replace(new, self.checkpoint)
            (self.folder / "log.jsonl").write_text(lines, encoding="utf-8")
        except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError
            new.unlink(missing_ok=True)
            raise OSError(
                f"A checkpoint could not be written into {self.folder} ({error}): "
                "the one before is kept. Make room and go on with --resume."
            ) from error

    def _parts(self) -> dict:
        """What a checkpoint holds: parts with ``state_dict`` and ``load_state_dict``."""
        return {
            "model": self.raw,
            "average": self.average,
            "optimizer": self.optimizer,
            "keep": self.keep,
        }

    def _take_folder(self) -> FileLock:
        """Keep other trainings of this part out of the folder."""
        lock = FileLock(self.folder / ".lock")
        if self.is_main:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise ValueError(
                    f"Another training of {self.name} works in {self.folder}: wait for it, or "
                    "give this one its own --work."
                ) from None
        return lock

    def _load(self) -> None:
        path = self.checkpoint
        if not path.exists():
            print(f"There is no checkpoint in {self.folder} yet: {self.name} starts anew.")
            return
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
        except Exception as error:  # whatever the file is, it is no whole checkpoint
            raise ValueError(
                f"The checkpoint {path} cannot be read ({type(error).__name__}), it is not whole "
                "or something else: start without --resume, or put the one before in its place."
            ) from error
        wanted = {*self._parts(), "step", "elapsed", "history"}
        if not isinstance(state, dict) or not wanted <= set(state):
            raise ValueError(f"{path} is no checkpoint of this training: start without --resume.")
        bad = not_finite({name: state[name] for name in self._parts()})
        if bad:
            raise ValueError(
                f"The checkpoint {path} is not finite ({bad}): start without --resume."
            )
        try:
            for name, part in self._parts().items():
                part.load_state_dict(state[name])
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"The checkpoint {path} is of another model than this training's: "
                "start without --resume, or give this one its own --work."
            ) from error
        self.step, self.elapsed, self.history = state["step"], state["elapsed"], state["history"]


def accelerator_for(settings: Settings) -> tuple[Accelerator, torch.device]:
    """accelerate's view of the processes and the device that a training uses."""
    if settings.device not in (None, "cpu"):
        os.environ.setdefault("ACCELERATE_TORCH_DEVICE", settings.device)
    cpu = settings.device == "cpu"
    device = PartialState(cpu=cpu).device
    if device.type == "cuda":  # the tensor cores' own precision, for what is not bfloat16
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    precision = "bf16" if settings.bf16 and fast_bf16(device) else "no"
    return Accelerator(mixed_precision=precision, cpu=cpu), device

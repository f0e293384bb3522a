"""Train the race: the same drawn world, told the same captions, learned in pixels, by
a cascade (small pictures, then a network that enlarges them) and in Tiny SD's latents.

1. All learn by the same recipe: each level of noise counted alike
   (:class:`sdlearn.training.unet.UsualError`), one caption in ten empty. Networks on pixels say the
   clean picture, the one on latents the velocity v (Salimans and Ho 2022): a picture has far more
   noise than a thin network can copy to its output (Li and He 2025, "Back to basics").
2. Larger pictures get more noise: :func:`sdlearn.chapters.cascade.shift_noise`.
3. The network that enlarges learns on crops. It reads the enlarged small picture with noise on it,
   and how much, as diffusers' StableDiffusionUpscalePipeline does: small pictures that come from
   the network before it are not as clean as drawn ones (Ho et al. 2022, "Cascaded diffusion").
4. On a CPU the clock counts the processor's seconds, so that a machine with other work is fair.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdlearn import hub, models, noising, prediction
from sdlearn.chapters import cascade
from sdlearn.training import data
from sdlearn.training.common import Run, Settings, hardware, not_finite
from sdlearn.training.prepare import prepare
from sdlearn.training.unet import UsualError
from sdlearn.training.vae import latents_of

SHARES = {"latents": 1.0, "pixels": 1.0, "small": 0.6, "upscale": 0.4}
"""How much of a way's time each network gets: the cascade's two share theirs."""


@dataclass
class RaceSettings(Settings):
    """Settings of the race; ``--out`` gets a folder for each network."""

    minutes: float = 20.0  # for each of the three ways
    out: str = "my_race"
    model: str = str(hub.TINY_SD)  # gives the text encoder and the autoencoder
    only: str = "latents,pixels,small,upscale"  # which networks are trained
    marks: int = 4  # times, evenly spaced, at which each network is kept to be judged
    pictures: int = 6000
    # Pictures a step. On a CPU more, smaller steps learn faster than fewer, larger ones.
    batch: int = 16
    crop: int = 64  # side of the crops that the enlarging network learns on
    drop_caption: float = 0.1  # share of captions replaced by "": guidance needs both
    toward_noise: float = 0.6  # as in UNetSettings
    lr: float = 1.5e-3
    flat: float = 0.7  # share of the time at the full rate
    ema: float = 0.98  # an average over about 50 steps: raise it for longer trainings

    shares = ("drop_caption", "flat")


class CoreTime(Run):
    """A run whose clock, on a CPU, counts the processor's seconds instead of the wall's."""

    _before = 0.0  # of the processor, when the last step ended

    def __iter__(self) -> Iterator[tuple[int, np.random.Generator]]:
        self._before = time.process_time()
        yield from super().__iter__()

    def _tick(self, seconds: float) -> None:
        if self.device.type == "cpu":
            now = time.process_time()
            self._before, seconds = now, now - self._before
        super()._tick(seconds)


@dataclass
class Told:
    """What batches are picked from, on the device."""

    pixels: torch.Tensor  # (N, 128, 128, 3) uint8
    ids: torch.Tensor  # (N, 9, 77)
    empty: torch.Tensor  # (77,)
    latents: torch.Tensor | None  # (N, 2, 4, h, w): mean and deviation


@dataclass
class Lesson:
    """One batch: what is to be told from noise, and what the network reads beside it."""

    clean: torch.Tensor  # (B, C, h, w)
    ids: torch.Tensor | None = None  # (B, 77) captions
    beside: torch.Tensor | None = None  # (B, 3, h, w) the enlarged small picture
    level: torch.Tensor | None = None  # (B,) the timestep of the noise on it


def fill_told(settings: RaceSettings, pipe: Any, device: torch.device, *, latents: bool) -> Told:
    """Draw, say and tokenize all that a training picks from, and encode it for ``latents``."""
    pixels = data.pictures_tensor("train", settings.pictures, settings.work)
    ids = data.token_ids("train", settings.pictures, pipe.tokenizer, settings.work)
    empty = pipe.tokenizer("", padding="max_length", max_length=data.TOKENS).input_ids
    encoded = latents_of(pipe.vae, pixels, settings.work).to(device) if latents else None
    return Told(
        pixels.to(device), ids.to(device), torch.tensor(empty, device=device).short(), encoded
    )


def captions_of(
    told: Told, picks: torch.Tensor, settings: RaceSettings, rng: np.random.Generator
) -> torch.Tensor:
    """Token ids (B, 77) of captions in any wording, some of them the empty one."""
    which = torch.from_numpy(rng.choice(data.ANY_WORDING, len(picks))).to(picks.device)
    dropped = torch.from_numpy(rng.random(len(picks)) < settings.drop_caption).to(picks.device)
    return torch.where(dropped[:, None], told.empty, told.ids[picks, which]).long()


def lesson_of(
    name: str,
    told: Told,
    settings: RaceSettings,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> Lesson:
    """One batch for a network of the race."""
    device = told.ids.device
    picks = torch.from_numpy(rng.integers(len(told.ids), size=settings.batch)).to(device)
    if name == "upscale":
        return crops_of(told, picks, settings, rng, generator)
    ids = captions_of(told, picks, settings, rng)
    if name == "latents":
        mean, deviation = told.latents[picks].float().unbind(1)
        inside = torch.randn(mean.shape, generator=generator, device=device)
        return Lesson(mean + deviation * inside, ids)
    pixels = data.to_pixels(told.pixels[picks])
    side = cascade.RACE_UNETS[name]["sample_size"]
    return Lesson(cascade.shrink(pixels, side), ids)


def crops_of(
    told: Told,
    picks: torch.Tensor,
    settings: RaceSettings,
    rng: np.random.Generator,
    generator: torch.Generator,
) -> Lesson:
    """Crops (B, 3, crop, crop), and beside them the same crops of the enlarged small picture with
    noise on it, from none to :data:`cascade.MOST_NOISE`."""
    pixels, device = data.to_pixels(told.pixels[picks]), picks.device
    small = cascade.shrink(pixels, cascade.RACE_UNETS["small"]["sample_size"])
    level = torch.from_numpy(rng.integers(cascade.MOST_NOISE + 1, size=len(picks))).to(device)
    noise = torch.randn(small.shape, generator=generator, device=device)
    beside = cascade.noisy_and_enlarged(small, noise, level, pixels.shape[-1])
    corners = rng.integers(pixels.shape[-1] - settings.crop + 1, size=(len(picks), 2))
    cut = [
        torch.stack([
            one[:, y : y + settings.crop, x : x + settings.crop]
            for one, (y, x) in zip(rows, corners, strict=True)
        ])
        for rows in (pixels, beside)
    ]  # fmt: skip
    return Lesson(cut[0], None, cut[1], level)


def error_of_prediction(
    unet: Callable,
    lesson: Lesson,
    states: torch.Tensor | None,
    t: torch.Tensor,
    *,
    noise: torch.Tensor,
    alphas_cumprod: torch.Tensor,
    velocity: bool,
) -> torch.Tensor:
    """Squared error (B,) of the ``velocity`` that a network predicts at timesteps (B,), or of the
    clean picture."""
    abar = alphas_cumprod[t].view(-1, 1, 1, 1)
    x = noising.add_noise(lesson.clean, noise, t, alphas_cumprod)
    if lesson.beside is not None:
        x = torch.cat([x, lesson.beside], 1)
    x = x.contiguous(memory_format=torch.channels_last)
    said = unet(x, t, encoder_hidden_states=states, class_labels=lesson.level).sample.float()
    if lesson.beside is not None:
        said = said + lesson.beside
    wanted = prediction.v_from(lesson.clean, noise, abar) if velocity else lesson.clean
    return (said - wanted).square().mean(dim=(1, 2, 3))


def build(name: str) -> Any:
    """A fresh network of the race."""
    return models.build_unet(**cascade.RACE_UNETS.get(name, {}))


def keep(folder: Path, name: str, unet: Any, facts: dict[str, Any]) -> None:
    """Write a network with its schedule and how it was trained, if it is finite.

    Raises:
        FloatingPointError: if a weight is not finite in half precision, in which it is written.
    """
    bad = not_finite({key: value.half() for key, value in unet.state_dict().items()})
    if bad:
        raise FloatingPointError(f"{name} was not written: its {bad} is not finite.")
    says = "v_prediction" if name == "latents" else "sample"
    cascade.save_denoiser(folder / name, unet, cascade.schedule_of(name), says)
    text = json.dumps(facts, indent=1) + "\n"
    (folder / name / "training.json").write_text(text, encoding="utf-8")


def facts_of(run: Run, settings: RaceSettings) -> dict[str, Any]:
    """How a network was trained so far."""
    private = ("work", "out", "device", "resume", "save_every", "start_from", "model", "only")
    return {
        "minutes": round(run.elapsed / 60, 4),
        "steps": run.step,
        "hardware": hardware(run.device),
        "settings": {k: v for k, v in asdict(settings).items() if k not in private},
    }


def train_one(name: str, settings: RaceSettings, pipe: Any) -> None:
    """Train one network of the race and write it into ``--out``; kept at each mark beside it."""
    unet, usual = build(name).to(memory_format=torch.channels_last), UsualError()
    run = CoreTime(f"race_{name}", settings, unet, flat=settings.flat, ema=settings.ema, keep=usual)
    text_encoder = pipe.text_encoder.to(run.device).requires_grad_(False)
    if run.device.type == "cpu" and name != "upscale":
        models.plain_attention(unet)
    with run.main_first():
        told = fill_told(settings, pipe, run.device, latents=name == "latents")
    abars = noising.Schedule(cascade.schedule_of(name)).alphas_cumprod.to(run.device)
    model, mark = run.compiled(), int(run.progress * settings.marks) + 1
    for _step, rng in run:
        generator = run.generator(rng)
        lesson = lesson_of(name, told, settings, rng, generator)
        noise = torch.randn(lesson.clean.shape, generator=generator, device=run.device)
        u = rng.random(len(noise)) ** settings.toward_noise
        t = torch.from_numpy(u * len(abars)).long().clamp(max=len(abars) - 1).to(run.device)
        with run.accelerator.autocast():
            with torch.no_grad():
                ids = lesson.ids
                states = None if ids is None else text_encoder(ids).last_hidden_state
            error = error_of_prediction(
                model, lesson, states, t, noise=noise, alphas_cumprod=abars,
                velocity=name == "latents")  # fmt: skip
        loss = (error / usual(t)).mean()
        usual.update(t, error, torch.ones_like(t, dtype=torch.bool))
        run.update(loss, error=error.mean())
        if run.is_main and run.progress >= mark / settings.marks and mark < settings.marks:
            keep(Path(settings.out) / f"mark_{mark}", name, run.best, facts_of(run, settings))
            mark += 1
    if run.is_main:
        out = Path(settings.out)  # a training of very few steps may have jumped over marks
        for folder in (out, *(out / f"mark_{at}" for at in range(mark, settings.marks + 1))):
            keep(folder, name, run.best, facts_of(run, settings))


def train_race(settings: RaceSettings) -> None:
    """Train the networks that ``--only`` names, one after the other."""
    names = settings.only.split(",")
    unknown = [name for name in names if name not in SHARES]
    if unknown:
        raise ValueError(f"--only takes some of {','.join(SHARES)}; it names {unknown[0]!r}.")
    if settings.start_from:
        raise ValueError("The race starts from nothing: leave out --start-from; --resume goes on.")
    side = cascade.RACE_UNETS["upscale"]["sample_size"]
    if settings.crop % 4 or settings.crop > side:
        raise ValueError(
            f"--crop must be a multiple of 4 of at most {side} pixels; it is {settings.crop}."
        )
    prepare(settings)
    for name in names:
        pipe = hub.load_pipeline(settings.model)
        train_one(name, replace(settings, minutes=settings.minutes * SHARES[name]), pipe)

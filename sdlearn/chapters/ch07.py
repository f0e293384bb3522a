"""Chapter 07, The race: the recording with its clock, the curves, and the exercises."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from sdlearn import compression, hub, sampling
from sdlearn.chapters import cascade
from sdlearn.checks import close, exercise
from sdlearn.plots import COLOURS, DASHES, MARKERS, figure, to_array

Film = list[tuple[float, Image.Image]]
"""Seconds on the clock, and what the way has imagined by then."""


def read_race(path: str | Path = cascade.RACE / "race.json") -> dict:
    """What ``python -m sdlearn.measure race`` wrote.

    Raises:
        FileNotFoundError: if it has not been run.
    """
    if not Path(path).is_file():
        folder = Path(path).parent
        raise FileNotFoundError(
            f"{folder} has no race.json: `python -m sdlearn.measure race --race {folder} "
            f"--out {folder}` writes it."
        )
    return json.loads(Path(path).read_text(encoding="utf-8"))


def read_trainings(*parts: str) -> list[tuple[str, dict]]:
    """How parts of Tiny SD learned, as its model card has it: the part; steps, batch, hardware."""
    told = json.loads((hub.TINY_SD / "evaluation.json").read_text(encoding="utf-8"))["training"]
    return [(part, run) for part in parts for run in told.get(part, [])]


def read_sheet(path: str | Path = cascade.RACE / "equal_time.webp") -> list[list[Image.Image]]:
    """The pictures of equal training time: a row for each way."""
    page = Image.open(path).convert("RGB")
    side = page.height // len(cascade.WAYS)
    return [
        [page.crop((x, y, x + side, y + side)) for x in range(0, page.width, side)]
        for y in range(0, page.height, side)
    ]


# ------------------------------------------------------------------------------------- the clock


def timed(steps: Iterator[sampling.Update]) -> Iterator[tuple[float, sampling.Update]]:
    """Each step with the seconds that all steps so far took; drawing them does not count."""
    seconds = 0.0
    while True:
        began = time.perf_counter()
        step = next(steps, None)
        if step is None:
            return
        seconds += time.perf_counter() - began
        yield seconds, step


def film_of(way: str, pipe: Any, race: cascade.Race, prompt: str, seed: int) -> Film:
    """One picture by one way, with the clock at each step."""
    film: Film = []
    if way == "latents":
        for seconds, step in timed(sampling.sample_steps(pipe, prompt, seed=seed)):
            began = time.perf_counter()
            picture = compression.decode_latents(pipe, step.pred_original_sample)[0]
            film.append((seconds, picture))
        return [*film[:-1], (film[-1][0] + time.perf_counter() - began, film[-1][1])]
    if way == "pixels":
        for seconds, step in timed(cascade.pixel_steps(race.pixels, pipe, prompt, seed=seed)):
            film.append((seconds, compression.to_images(step.pred_original_sample)[0]))
        return film
    for seconds, step in timed(cascade.pixel_steps(race.small, pipe, prompt, seed=seed)):
        film.append((seconds, compression.to_images(step.pred_original_sample)[0]))
    before, small = film[-1][0], step.prev_latents
    for seconds, step in timed(cascade.upscale_steps(race.upscale, small, seed=seed)):
        film.append((before + seconds, compression.to_images(step.pred_original_sample)[0]))
    return film


class Clocked:
    """The three films of a sentence, recorded when they are asked for the first time."""

    def __init__(self, pipe: Any, race: cascade.Race):
        self.films = lru_cache(maxsize=8)(
            lambda prompt, seed: {
                way: film_of(way, pipe, race, prompt, seed) for way in cascade.WAYS
            }
        )

    def at(self, prompt: str, seconds: float, seed: int = 0) -> Figure:
        """What each way shows when so many seconds are on the clock."""
        fig, axes = figure(1, len(cascade.WAYS), size=(6.9, 3.1))
        said = []
        for ax, (way, film) in zip(axes, self.films(prompt, seed).items(), strict=True):
            done = [picture for at, picture in film if at <= seconds]
            end = film[-1][0]
            clock = f"finished after {end:.2f} s" if seconds >= end else f"{seconds:.2f} s"
            ax.imshow(to_array(done[-1]) if done else np.full((1, 1, 3), 210, np.uint8))
            ax.set_title(way, fontsize=11)
            ax.set_xlabel(f"{clock}\n{len(done)} of {len(film)} steps", fontsize=10)
            ax.set(xticks=[], yticks=[])
            said.append(f"{way} {clock}, {len(done)} of {len(film)} steps")
        fig.alt = f"{prompt}: {'; '.join(said)}."
        return fig

    def slowest(self, prompt: str, seed: int = 0) -> float:
        """Seconds until the last way is finished."""
        return max(film[-1][0] for film in self.films(prompt, seed).values())


# ------------------------------------------------------------------------------------ the curves


def curves(equal_time: dict[str, list[dict]]) -> Figure:
    """What the judge finds right against minutes of training, for each way: surroundings with time
    of day, and single wishes, with 95 % intervals."""
    fig, axes = figure(1, 2, size=(8.6, 3.2), sharey=True)
    titles = {"surroundings": "surroundings and time right", "wishes": "single wishes come true"}
    said = []
    for ax, (key, title) in zip(axes, titles.items(), strict=True):
        for i, (way, rows) in enumerate(equal_time.items()):
            minutes = [row["minutes"] for row in rows]
            value, low, high = ([row[key][end] for row in rows] for end in ("value", "low", "high"))
            look = dict(color=COLOURS[i], linestyle=DASHES[i], marker=MARKERS[i])
            ax.plot(minutes, value, label=way, **look)
            ax.fill_between(minutes, low, high, color=COLOURS[i], alpha=0.12)
            said.append(f"{title}, {way}: {value[0]:.0f} to {value[-1]:.0f} %")
        ax.set(title=title, xlabel="minutes of training (one CPU core)", ylim=(0, 102))
    axes[0].set(ylabel="percent")
    axes[1].legend(frameon=False, loc="upper left")
    fig.alt = f"Against minutes of training. {'; '.join(said)}."
    return fig


# ------------------------------------------------------------------------------------ the exercises


@exercise(
    "07.1",
    hint="Two faults. What is the factor of each part, and which picture gets the noise?",
    right="The second network has seen such pictures in training, and was told how noisy they are.",
)
def _(answer):
    import torch

    generator = torch.Generator().manual_seed(0)
    small, noise = torch.randn(2, 1, 3, 8, 8, generator=generator)
    a = torch.tensor(0.6)
    want = cascade.enlarge(a**0.5 * small + (1 - a) ** 0.5 * noise, 32)
    got = answer(small, noise, a, 32)
    yield tuple(got.shape) == (1, 3, 32, 32), "The picture that comes out must be of the new side."
    yield (
        close(got, answer(small, noise, a, 32)),
        "It draws noise of its own, with a grain as fine as the large picture's pixels. The noise "
        "that is given belongs to the small picture.",
    )
    yield (
        not close(got, cascade.enlarge(a * small + (1 - a) * noise, 32), atol=1e-4),
        "The order is right. But shares of variance are not amounts: see the closed form of "
        "chapter 02.",
    )
    yield (
        close(answer(small, noise, torch.tensor(1.0), 32), cascade.enlarge(small, 32), atol=1e-4),
        "With a = 1 there is no noise: the small picture itself, enlarged, must come out.",
    )
    yield close(got, want, atol=1e-4), "Nearly: compare each line with the formula of section 2."


@exercise(
    "07.2",
    hint="How much noise is left in the mean of k x k pixels? That much more is needed before.",
    right="Which is why larger pictures need other schedules, in pixels and in latents alike.",
)
def _(answer):
    import torch

    abar = torch.tensor([0.999, 0.7, 0.3, 0.01])
    got, sigma = torch.as_tensor(answer(abar, 4)), ((1 - abar) / abar) ** 0.5
    yield close(answer(abar, 1), abar), "With k = 1 nothing is enlarged, and nothing may change."
    yield bool((got < abar).all()), "Larger pictures need more noise: less must be left."
    yield (
        not close(got, 1 / (1 + 4 * sigma**2), rtol=1e-3),
        "That is k times the variance of the noise; asked for is k times the noise itself.",
    )
    yield (
        not close(got, 1 / (1 + 16**2 * sigma**2), rtol=1e-3),
        "That is k squared times the noise: the mean of k x k pixels has a k-th of it, not a "
        "k-squared-th.",
    )
    yield (
        close(got, cascade.shift_noise(abar, 4), rtol=1e-3),
        "Go by way of sigma = sqrt((1 - abar) / abar): multiply it by k, then solve for abar.",
    )


@exercise(
    "07.3",
    hint="Give (Tiny SD's picture, the small picture, the enlarged one), all PIL images.",
    right="Now you know which half of the cascade to train on.",
)
def _(answer):
    first, small, large = (image.convert("RGB") for image in answer)
    yield first.size == large.size, "The first and the last picture must have one size."
    yield small.width < first.width, "The picture in the middle must be smaller."
    shrunk = compression.to_images(cascade.shrink(compression.to_tensor([first]), small.width))[0]
    yield (
        compression.psnr(shrunk, small) > 25,
        "The small picture is not the first one, shrunk: cascade.shrink makes it.",
    )
    yield compression.psnr(first, large) < 60, "The last picture is the first one."
    yield (
        compression.psnr(first, large) > 15,
        "The last picture shows something else than the first: was the small one enlarged?",
    )

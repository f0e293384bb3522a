"""Chapter 02, Forward noising: its figures and exercises."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from random import Random
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from sdlearn import compression, world
from sdlearn.chapters import field
from sdlearn.checks import close, exercise
from sdlearn.plots import COLOURS, DASHES, DPI, Numbers, Picture, figure, grid, picture, to_array


def histograms(
    series: dict[str, Numbers],
    *,
    xlabel: str,
    title: str | None = None,
    bell: bool = False,
    bins: int = 80,
    size: tuple[float, float] = (7, 3),
) -> Figure:
    """Named samples as step outlines over common bins, each of area 1.

    `bell` adds the curve of the standard normal distribution.
    """
    fig, ax = figure(size=size)
    values = {name: to_array(v).ravel() for name, v in series.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(values.values())), bins)
    for (name, v), colour, dash in zip(values.items(), COLOURS, DASHES, strict=False):
        ax.hist(v, edges, density=True, histtype="stepfilled", alpha=0.25, color=colour)
        look = dict(linewidth=1.6, color=colour, linestyle=dash, label=name)
        ax.hist(v, edges, density=True, histtype="step", **look)
    if bell:
        x = np.linspace(edges[0], edges[-1], 300)
        y = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
        ax.plot(x, y, color="black", linestyle="--", label="exp(-x²/2) / √(2π)")
    ax.set(xlabel=xlabel, yticks=[], title=title)
    ax.legend(frameon=False)
    said = "; ".join(f"{name} {v.mean():.2f} ± {v.std():.2f}" for name, v in values.items())
    fig.alt = f"Histograms over {xlabel}, mean and standard deviation: {said}."
    return fig


def walks(
    times: Numbers,
    paths: Numbers,
    mean: Numbers,
    std: Numbers,
    *,
    xlabel: str,
    ylabel: str,
    size: tuple[float, float] = (7, 3.4),
) -> Figure:
    """Random walks (steps, walkers) in grey over `times`, and above them what a formula says:

    its mean, and two standard deviations each way.
    """
    fig, ax = figure(size=size)
    paths, mean, std = to_array(paths), to_array(mean), to_array(std)
    ax.plot(times, paths, color="0.6", linewidth=0.5, linestyle="-", alpha=0.7)
    ax.plot([], [], color="0.6", linestyle="-", label="walkers, step by step")
    ax.plot(times, mean, color=COLOURS[0], linestyle="-", linewidth=2.2, label="formula: mean")
    look = dict(color=COLOURS[1], linestyle="--", linewidth=2)
    ax.plot(times, mean - 2 * std, **look)
    ax.plot(times, mean + 2 * std, label="formula: mean ± 2 std", **look)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    inside = (np.abs(paths - mean[:, None]) <= 2 * std[:, None] + 1e-9).mean()
    fig.alt = (
        f"{paths.shape[1]} random walks over {xlabel}, and a formula's mean with two standard "
        f"deviations each way: {inside:.0%} of the points lie between."
    )
    return fig


def beliefs(
    pictures: list[Picture],
    labels: list[str],
    shares: list[dict[str, dict[str, float]]],
    truth: dict[str, str],
) -> Figure:
    """Pictures, and below each how probable every answer to every question is.

    Args:
        pictures: one for each of `labels` and `shares`.
        labels: stand above the pictures.
        shares: `shares[i][question][answer]`, from 0 to 1.
        truth: the true answer to each question, marked by a star and a dark bar.
    """
    names = [(q, a) for q, answers in shares[0].items() for a in answers]
    right = [truth[q] == a for q, a in names]
    apart = (1.0 if b[0] == a[0] else 1.7 for a, b in zip(names, names[1:], strict=False))
    at = np.cumsum([0.0, *apart])
    size = (1.2 + 1.55 * len(shares), 1.7 + 0.19 * len(at))
    fig = Figure(figsize=size, dpi=DPI, layout="constrained")
    ratios = [1.45, 0.19 * len(at) + 0.2]
    axes = fig.subplots(2, len(shares), squeeze=False, height_ratios=ratios)
    stars = [f"{a} {'★' if r else '   '}" for (_, a), r in zip(names, right, strict=True)]
    for i, (image, label) in enumerate(zip(pictures, labels, strict=True)):
        top, bars = axes[0, i], axes[1, i]
        top.imshow(to_array(picture(image)))
        top.axis("off")
        top.set_title(label, fontsize=10)
        colours = [COLOURS[0] if r else "0.72" for r in right]
        bars.barh(at, [shares[i][q][a] for q, a in names], color=colours)
        bars.set(xlim=(0, 1.02), ylim=(at[-1] + 0.7, -0.7), yticks=at)
        bars.set_xticks([0, 0.5, 1], ["0", "½", "1"])
        bars.set_yticklabels(stars if i == 0 else [], fontsize=9)
        bars.tick_params(axis="y", length=0)
        bars.grid(axis="x", color="0.9")
        bars.set_axisbelow(True)
        bars.spines[["top", "right"]].set_visible(False)
    said = (", ".join(f"{a} {share[q][a]:.0%}" for q, a in truth.items()) for share in shares)
    each = "; ".join(f"{label}: {text}" for label, text in zip(labels, said, strict=True))
    fig.alt = f"How probable the true answers are. {' '.join(each.split())}."
    return fig


def example() -> Image.Image:
    """A red house on the left and a yellow balloon on the right in a meadow by day."""
    things = (world.Thing("house", "red", "left"), world.Thing("balloon", "yellow", "right"))
    return world.draw(world.Scene(things, "meadow", "day"), seed=2)


def stages(walks: dict[str, list[torch.Tensor]], stops: Sequence[int]) -> Figure:
    """Named walks, (1, 3, H, W) at each of `stops`: a row each, with its first and last spread."""
    rows = [compression.to_images(torch.cat(walk)) for walk in walks.values()]
    spreads = [f"std {walk[0].std():.2f} to {walk[-1].std():.2f}" for walk in walks.values()]
    labels = [f"{name}:\n{spread}" for name, spread in zip(walks, spreads, strict=True)]
    return grid(rows, labels, [f"{k} steps" for k in stops])


def encoded(pipe: Any, pictures: list[Image.Image]) -> torch.Tensor:
    """Pictures of any size -> latents (B, 4, h, w) on the CPU."""
    return compression.encode_image(pipe, [compression.fit(p, pipe) for p in pictures]).cpu()


def pixels_and_latents(
    pipe: Any, in_pixels: torch.Tensor, in_latents: torch.Tensor, timesteps: Sequence[int]
) -> Figure:
    """One picture noised at `timesteps`: its pixels, their means over blocks, and its latents.

    Args:
        pipe: decodes the latents; a block is as large as one of its latent positions.
        in_pixels: (steps, 3, H, W), from -1 to 1 before the noise.
        in_latents: (steps, C, h, w).
        timesteps: stand above the columns.
    """
    size = pipe.vae_scale_factor
    blocks = torch.nn.functional.avg_pool2d(in_pixels, size)
    rows = {
        "pixels": compression.to_images(in_pixels),
        f"pixels, means of {size} x {size}": compression.to_images(blocks),
        "latents, decoded": compression.decode_latents(pipe, in_latents),
    }
    return grid(rows.values(), list(rows), [f"t = {t}" for t in timesteps])


def answers(
    weights: torch.Tensor, facts: Sequence[Sequence[str]], questions: Sequence[str]
) -> dict[str, dict[str, float]]:
    """From how sure one is of each scene, (N,), to how sure of each answer to each question."""
    shares: dict[str, dict[str, float]] = {question: {} for question in questions}
    for weight, fact in zip(weights.tolist(), facts, strict=True):
        for question, answer in zip(questions, fact, strict=True):
            shares[question][answer] = shares[question].get(answer, 0.0) + weight
    return shares


def agreement(facts: Sequence[Sequence[str]], questions: Sequence[str]) -> dict[str, torch.Tensor]:
    """For each question (N, N): 1 where two of N scenes give it the same answer, else 0."""
    return {
        question: torch.tensor([[float(a[i] == b[i]) for b in facts] for a in facts])
        for i, question in enumerate(questions)
    }


def moved(
    galleries: list[torch.Tensor], agree: dict[str, torch.Tensor], question: str
) -> torch.Tensor:
    """How far latents are apart on average where two scenes differ in one fact alone: (worlds,).

    Args:
        galleries: for each world the latents of its N scenes, (N, ...).
        agree: what :func:`agreement` gives.
        question: the fact in which the scenes differ.
    """
    pairs = 1 - agree[question]
    for other, same in agree.items():
        pairs = pairs if other == question else pairs * same
    distances = [torch.cdist(z.flatten(1), z.flatten(1)) for z in galleries]
    return torch.stack([(distance * pairs).sum() / pairs.sum() for distance in distances])


def from_to(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The direction from the mean of some latents to that of others, flat and of length 1."""
    return torch.nn.functional.normalize((second.mean(0) - first.mean(0)).flatten(), dim=0)


def small_world(
    places: Sequence[str], colours: Sequence[str], kinds: Sequence[str]
) -> tuple[list[tuple[str, ...]], list[Image.Image]]:
    """Every scene of one thing in the middle: what it shows (time, place, colour, kind) and it."""
    facts: list[tuple[str, ...]] = list(product(world.TIMES, places, colours, kinds))
    scenes = (
        world.Scene((world.Thing(kind, colour, "middle"),), place, time)
        for time, place, colour, kind in facts
    )
    return facts, [world.draw(scene) for scene in scenes]


def worlds_by_chance(pipe: Any, count: int, seed: int = 0) -> list[torch.Tensor]:
    """Latents of `count` small worlds, whose three places, colours and things chance picks."""
    pick, known = Random(seed).sample, (world.PLACES, world.COLOURS, world.KINDS)
    return [encoded(pipe, small_world(*(pick(k, 3) for k in known))[1]) for _ in range(count)]


def ways_back(walked: dict[str, torch.Tensor]) -> Figure:
    """Ends and some paths of the two ways back, "ODE" and "SDE", each (steps, n, 2)."""
    titles = {"ODE": "ODE: half the arrow", "SDE": "SDE: the whole arrow and noise"}
    shown = {"ODE": 8, "SDE": 2}  # a path with noise fills the panel
    return field.panels(
        [titles[name] for name in walked],
        points=[way[-1] for way in walked.values()],
        paths=[way[:, : shown[name]] for name, way in walked.items()],
        size=3.6,
    )


def deciding_share(abar: Numbers, levels: Numbers, recognised: list[float]) -> float:
    """Share of a schedule's steps at noise levels where 20 to 90 % of scenes are recognised.

    Args:
        abar: the schedule's alpha-bar at each step.
        levels: alpha-bars, falling, at which it was counted.
        recognised: what was counted there, falling.
    """
    with np.errstate(divide="ignore"):
        at, counted = (np.log(a / (1 - a)) for a in (to_array(abar), to_array(levels)))
    lost, sure = np.interp([0.2, 0.9], recognised[::-1], counted[::-1])
    return float(((at > lost) & (at < sure)).mean())


# ------------------------------------------------------------------------------------ the exercises


@exercise(
    "02.1",
    hint="How much of the picture is in x_t, how much at s? What must the new factor be?",
    right="The product of the shares from t to s is the ratio of two alpha-bars.",
)
def _(answer):
    x_t, noise = torch.randn(2, 2, 4, 8, 8)
    for abar_t, abar_s in ((0.9, 0.5), (0.5, 0.1), (0.3, 0.3)):
        left = abar_s / abar_t
        got = answer(x_t, noise, abar_t, abar_s)
        yield (
            not close(got, abar_s**0.5 * x_t + (1 - abar_s) ** 0.5 * noise),
            "x_t has already lost a part: what is left of *x_t* at s, not of x_0?",
        )
        yield (
            left == 1 or not close(got, left**0.5 * x_t + (1 - abar_s) ** 0.5 * noise),
            "The picture is right, and there is too much noise: x_t brings its own along.",
        )
        yield (
            left == 1 or not close(got, left * x_t + (1 - left) * noise),
            "Shares are of variances: what multiplies the numbers is their root.",
        )
        yield close(got, left**0.5 * x_t + (1 - left) ** 0.5 * noise, 1e-3, 1e-4), None


@exercise(
    "02.2",
    hint="First the noise from the score, then the closed form solved for the picture.",
    right="Noise, score and picture: one answer in three units.",
)
def _(answer):
    x0, noise = torch.randn(2, 2, 4, 8, 8)
    for abar in (0.5, 0.9, 0.05):
        x_t = abar**0.5 * x0 + (1 - abar) ** 0.5 * noise
        score = -noise / (1 - abar) ** 0.5
        got = answer(x_t, score, abar)
        yield (
            not close(got, abar**0.5 * x0, 1e-3, 1e-4),
            "The noise is out, but the picture is still turned down.",
        )
        yield (
            not close(got, (x_t - (1 - abar) * score) / abar**0.5, 1e-3, 1e-4),
            "The score points toward the data: go with it, not against it.",
        )
        noise_taken_for_score = (x_t - (1 - abar) ** 0.5 * score) / abar**0.5
        yield (
            not close(got, noise_taken_for_score, 1e-3, 1e-4),
            "That takes the score for the noise: they differ by a factor and by the sign.",
        )
        yield close(got, x0, 1e-3, 1e-4), None


@exercise(
    "02.3",
    hint="Run back with a score of your own, lambda x, t: -x, and with a way that adds no noise: "
    "change a copy of back.",
    right="Each step shrinks what it should have kept: without fresh noise the cloud collapses.",
)
def _(answer):
    from sdlearn.noising import make_betas

    spread = (1 - make_betas() / 2).prod().item()
    yield (
        not close(answer, 1, 0.1),
        "That is what the SDE gives with its noise, or the ODE with half the arrow.",
    )
    yield not close(answer, spread**2, 0.1), "That is the variance; take its root."
    yield close(answer, spread, 0.05), None


@exercise(
    "02.4",
    hint="Try the ends: what does your function give at u = 0, and at u = 1?",
    right="Compare it with the others below: are its steps where they are needed?",
)
def _(answer):
    abar = torch.as_tensor(answer(torch.linspace(0, 1, 1000))).float()
    yield tuple(abar.shape) == (1000,), "One alpha-bar for each u, please."
    yield (
        bool(abar.isfinite().all()) and 0 <= abar.min() <= abar.max() <= 1,
        "Alpha-bar is a share: it must stay between 0 and 1.",
    )
    yield (
        bool((abar.diff() <= 1e-6).all()),
        "Somewhere it rises: noise cannot leave the picture on the way forward.",
    )
    yield abar[0] >= 0.98, "The first step already takes away too much: start close to 1."
    yield abar[-1] <= 0.005, "Too much of the picture is left at the end."
    yield (
        ((abar > 0.1) & (abar < 0.9)).float().mean() > 0.1,
        "It falls off a cliff: hardly a step lies between nearly clean and nearly gone.",
    )

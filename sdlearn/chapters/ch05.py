"""Chapter 05, Full sampling: its figures and exercises."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sdlearn.checks import close, exercise
from sdlearn.plots import COLOURS, Numbers, figure, to_array


def paths(
    panels: dict[str, Numbers],
    *,
    goals: Sequence[float] = (),
    xlabel: str,
    ylabel: str,
    title: str | None = None,
    size: tuple[float, float] = (8.4, 3),
) -> Figure:
    """Paths (steps, walkers) side by side on common axes, colored by where each ends:

    above 0 (solid) or below (dashed). `goals` are marked by lines.
    """
    fig, axes = figure(1, len(panels), size=size, sharex=True, sharey=True, squeeze=False)
    said = []
    for ax, (name, values) in zip(axes[0], panels.items(), strict=True):
        values = to_array(values)
        for goal in goals:
            ax.axhline(goal, color="0.3", linestyle=":", linewidth=1)
        up = values[-1] > 0
        look = dict(linewidth=0.9, alpha=0.75)
        ax.plot(values[:, up], color=COLOURS[0], linestyle="-", **look)
        ax.plot(values[:, ~up], color=COLOURS[1], linestyle="--", **look)
        ax.set(title=name, xlabel=xlabel)
        said.append(f"{name}: {up.sum()} of {len(up)} end above 0")
    axes[0, 0].set(ylabel=ylabel)
    fig.suptitle(title or "", fontsize=11)
    fig.alt = f"Paths of {ylabel} over {xlabel}. {'; '.join(said)}."
    return fig


def read_grid(path: str | Path) -> dict | None:
    """What ``python -m sdlearn.measure grid`` wrote, or None if nobody has measured yet."""
    path = Path(path)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def fidelity_of(
    grid: dict, guidance_scale: float, sampler: str, steps: int, split: str = "seen"
) -> float:
    """Percent of prompts that came true, everything in its place; NaN if it was not measured."""
    asked = (guidance_scale, sampler, steps)
    for row in grid["rows"]:
        if (row["guidance_scale"], row["sampler"], row["num_inference_steps"]) == asked:
            return row[split]["in_place"]["value"]
    return float("nan")


def fidelity(grid: dict, split: str = "seen") -> Figure:
    """A table of percents for each sampler: guidance downwards, steps to the right."""
    names, scales, steps = (
        list(dict.fromkeys(row[key] for row in grid["rows"]))
        for key in ("sampler", "guidance_scale", "num_inference_steps")
    )
    size = (0.6 + 0.42 * len(steps) * len(names), 1.1 + 0.36 * len(scales))
    fig, axes = figure(1, len(names), size=size, sharey=True, squeeze=False)
    said = []
    for ax, name in zip(axes[0], names, strict=True):
        table = [[fidelity_of(grid, s, name, n, split) for n in steps] for s in scales]
        ax.imshow(table, cmap="cividis", vmin=0, vmax=100, aspect="auto")
        for (r, c), value in np.ndenumerate(table):
            if np.isfinite(value):
                ink = "black" if value > 55 else "white"
                ax.text(c, r, f"{value:.0f}", ha="center", va="center", fontsize=8, color=ink)
            else:  # not measured
                ax.text(c, r, "–", ha="center", va="center", fontsize=8, color="0.4")
        ax.grid(False)
        ax.set(title=name, xlabel="steps")
        ax.set_xticks(range(len(steps)), [str(n) for n in steps])
        ax.set_yticks(range(len(scales)), [f"{s:g}" for s in scales])
        ends = [(r, c) for r in (0, -1) for c in (0, -1)]
        corners = (f"{table[r][c]:.0f} at {scales[r]:g} and {steps[c]} steps" for r, c in ends)
        said.append(f"{name} {', '.join(corners)}")
    axes[0, 0].set(ylabel="guidance scale")
    count = grid["settings"]["prompts"]
    fig.suptitle(f"prompts that came true, in percent of {count}", fontsize=11)
    fig.alt = f"Percent of {count} prompts by guidance and steps: {'; '.join(said)}."
    return fig


# ------------------------------------------------------------------------------------ the exercises


@exercise(
    "05.1",
    hint="Two lines, two faults: each line treats a variance as if it were an amount of noise, or "
    "takes it from the wrong level.",
    right="Repeat it from level to level, and a picture is drawn.",
)
def _(answer):
    import torch

    x0, eps = torch.randn(2, 1, 4, 8, 8)
    a_t, a_s = torch.tensor(0.3), torch.tensor(0.6)
    x_t = a_t**0.5 * x0 + (1 - a_t) ** 0.5 * eps
    got, end = answer(x_t, eps, a_t, a_s), answer(x_t, eps, a_t, torch.tensor(1.0))
    yield (
        not close(got, x0, atol=1e-4),
        "That is the imagined picture itself; a step goes only as far as the next level.",
    )
    yield (
        not close(got, a_s**0.5 * x0 + (1 - a_t) ** 0.5 * eps, atol=1e-4),
        "The imagined picture is right now. How much noise belongs to level a_s?",
    )
    yield (
        close(end, x0, atol=1e-4),
        "A step to the level without noise (a_s = 1) must arrive at the imagined picture, "
        "with nothing left of the noise.",
    )
    yield (
        close(answer(x_t, eps, a_t, a_t), x_t, atol=1e-4),
        "A step from a level to the same level must change nothing.",
    )
    yield (
        close(got, a_s**0.5 * x0 + (1 - a_s) ** 0.5 * eps, atol=1e-4),
        "Right at both ends; but how much picture and how much noise belong to level a_s?",
    )


@exercise(
    "05.2",
    hint="Three lines: the slope here, the slope where Euler's step lands, the mean of both.",
    right="Two looks per step, and the error falls with the square of the step, not with the step.",
)
def _(answer):
    import torch

    looks = []

    def slope(z, sigma):
        sigma = float(sigma)
        looks.append(sigma)
        return z * sigma / (0.25 + sigma**2) if sigma else z * float("nan")

    z, sigma_t, sigma_s = torch.tensor([-2.0, 0.5, 3.0]), 2.0, 1.0
    first = z + (sigma_s - sigma_t) * slope(z, sigma_t)
    second = slope(first, sigma_s)
    middle = slope(z + (first - z) / 2, (sigma_t + sigma_s) / 2)
    looks.clear()
    got = answer(slope, z.clone(), sigma_t, sigma_s)
    yield not close(got, first), "That is Euler's step. Look a second time, where it lands."
    yield (
        not close(got, z + (sigma_s - sigma_t) * second),
        "That walks along the second slope alone: take the mean of the two.",
    )
    yield (
        not close(got, first + (sigma_s - sigma_t) * second),
        "That takes two steps one after the other: walk once, from the start.",
    )
    yield (
        not close(got, z + (sigma_s - sigma_t) * middle),
        "That looks half-way, the midpoint rule: as good, but Heun looks where Euler lands.",
    )
    yield len(looks) == 2, f"Heun asks for the slope twice; this asked {len(looks)} times."
    yield (
        close(got, z + (sigma_s - sigma_t) * (slope(z, sigma_t) + second) / 2),
        "Start again at z and walk from sigma_t to sigma_s, a negative way.",
    )
    last = answer(slope, z.clone(), sigma_t, 0.0)
    yield (
        close(last, z - sigma_t * slope(z, sigma_t)),
        "Right in the middle; but at sigma_s = 0 there is no second look, only Euler's step.",
    )


@exercise(
    "05.3",
    hint=(
        "Even steps in the rho-th root, from the largest down to the smallest; then the "
        "rho-th power of it all."
    ),
    right="Most steps now go where little noise is left and the details are made.",
)
def _(answer):
    import torch

    got = torch.as_tensor(answer(9, 0.03, 14.6))
    yield tuple(got.shape) == (9,), "n levels are wanted, a tensor of shape (n,)."
    yield (
        bool((got.diff() < 0).all()),
        "Sampling goes from much noise to little: the levels must fall.",
    )
    yield close(got[[0, -1]], [14.6, 0.03]), "The first level is sigma_max, the last is sigma_min."
    yield (
        not close(got, torch.linspace(14.6, 0.03, 9)),
        "These steps are even; take the root of both ends first.",
    )
    root = torch.linspace(14.6 ** (1 / 7), 0.03 ** (1 / 7), 9)
    yield not close(got, root), "Nearly: the levels are still the roots."
    yield (
        close(got, root**7, rtol=1e-3),
        "The ends are right, the levels between them are not: rho is 7.",
    )


@exercise(
    "05.4",
    hint="Keep the slope of the step before, or choose better levels, or look twice and average.",
    right="Nearer than twelve steps of DDIM. See its picture below.",
)
def _(answer):
    import torch

    from sdlearn import noising, sampling

    # a world whose noise and whose paths are known exactly: numbers of spread 1/2 around 0
    # (see tests/test_sampling.py)
    schedule, spread, looks = noising.Schedule.named(), 0.5, []
    abar = schedule.alphas_cumprod
    sigmas = ((1 - abar) / abar).double().numpy() ** 0.5

    def predict(x, t, *_):
        looks.append(t)
        sigma = float(np.interp(float(t), np.arange(len(sigmas)), sigmas))
        return x * (sigma**2 + 1) ** 0.5 * sigma / (spread**2 + sigma**2)

    x = torch.linspace(-2, 2, 9).reshape(1, 1, 3, 3)
    end = x * (sigmas[-1] ** 2 + 1) ** 0.5 * spread / (spread**2 + sigmas[-1] ** 2) ** 0.5
    twelve = schedule.timesteps("leading", 12)
    ddim = [u.prev_latents for u in sampling.ddim(predict, x, schedule, twelve)][-1]
    looks.clear()
    got = answer(predict, x.clone())
    yield (
        tuple(got.shape) == tuple(x.shape) and bool(got.isfinite().all()),
        "Give back the finished latents: the shape of x, every number finite.",
    )
    yield 0 < len(looks) <= 12, f"It looked {len(looks)} times at the network; 12 are allowed."
    mine, theirs = ((y - end).abs().max().item() / end.max().item() for y in (got, ddim))
    yield (
        mine < theirs,
        f"It runs; its error is {mine:.0%} where twelve steps of DDIM have {theirs:.0%}.",
    )

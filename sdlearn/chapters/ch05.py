"""Chapter 05, Full sampling: its figures and exercises."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from sdlearn.checks import close, exercise
from sdlearn.plots import COLOURS, Numbers, figure, to_array


def bells(
    curves: dict[str, tuple[float, float]],
    *,
    xlabel: str,
    title: str | None = None,
    span: tuple[float, float] | None = None,
    size: tuple[float, float] = (7, 2.6),
) -> Figure:
    """Normal distributions, each given by (mean, standard deviation), all of area 1.

    The last one is filled. `span` is what the x axis shows; three standard deviations unless told.
    """
    fig, ax = figure(size=size)
    mean, std = to_array(list(curves.values())).astype(float).T
    low, high = span or ((mean - 3 * std).min(), (mean + 3 * std).max())
    x = np.linspace(low, high, 500)
    said = [f"{name}: {m:.2f} ± {s:.2f}" for name, m, s in zip(curves, mean, std, strict=True)]
    for label, m, s in zip(said, mean, std, strict=True):
        y = np.exp(-(((x - m) / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi))
        ax.plot(x, y, label=label, linewidth=2)
    ax.fill_between(x, y, color=COLOURS[(len(curves) - 1) % len(COLOURS)], alpha=0.25)
    ax.set(xlabel=xlabel, yticks=[], title=title, xlim=(low, high))
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    fig.alt = f"Bell curves over {xlabel}, mean and standard deviation: {'; '.join(said)}."
    return fig


def paths(
    panels: dict[str, Numbers],
    *,
    goals: Sequence[float] = (),
    xlabel: str,
    ylabel: str,
    title: str | None = None,
    size: tuple[float, float] = (8.4, 3),
) -> Figure:
    """Paths (steps, walkers) side by side on common axes, coloured by where each ends:

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


# ------------------------------------------------------------------------------------ the exercises


@exercise(
    "05.1",
    hint="Guidance walks from one prediction towards another, and beyond it.",
    right="That is all a negative prompt is: another place to walk away from.",
)
def _(answer):
    import torch

    unwanted, told = torch.randn(2, 1, 4, 8, 8)
    yield (
        close(answer(unwanted, told, 0.0), unwanted),
        "At scale 0 the prompt counts for nothing: what is left?",
    )
    yield (
        close(answer(unwanted, told, 1.0), told, atol=1e-5),
        "At scale 1 the prediction with the prompt must come out, as it is.",
    )
    yield (
        close(answer(unwanted, told, 5.0), 5 * told - 4 * unwanted, atol=1e-4),
        "Right at 0 and 1, but the way must be one straight line, also beyond 1.",
    )


@exercise(
    "05.2",
    hint="Two lines: the picture that the network imagines, then chapter 02's closed form with it.",
    right="Repeat it from level to level, and a picture is drawn.",
)
def _(answer):
    import torch

    x0, eps = torch.randn(2, 1, 4, 8, 8)
    a_t, a_s = torch.tensor(0.3), torch.tensor(0.6)
    x_t = a_t**0.5 * x0 + (1 - a_t) ** 0.5 * eps
    got = answer(x_t, eps, a_t, a_s)
    yield (
        not close(got, x0, atol=1e-4),
        "That is the imagined picture itself; a step goes only as far as the next level.",
    )
    yield (
        close(answer(x_t, eps, a_t, a_t), x_t, atol=1e-4),
        "A step from a level to the same level must change nothing.",
    )
    yield (
        close(answer(x_t, eps, a_t, torch.tensor(1.0)), x0, atol=1e-4),
        "A step to the level without noise must arrive at the imagined picture.",
    )
    yield (
        close(got, a_s**0.5 * x0 + (1 - a_s) ** 0.5 * eps, atol=1e-4),
        "Right at both ends; but how much picture and how much noise belong to level a_s?",
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

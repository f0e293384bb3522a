"""Chapter 06, Editing: where image to image enters the loop, and the exercises."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np
from matplotlib.figure import Figure

from sdlearn.checks import close, exercise
from sdlearn.judge import Judge
from sdlearn.plots import COLOURS, DPI, Numbers, Picture, picture, to_array


def entry(
    alphas_cumprod: Numbers,
    timesteps: Numbers,
    start: int,
    pictures: list[Picture],
    labels: list[str],
) -> Figure:
    """Where image to image enters the loop: the picture's share over the timesteps.

    The `start` skipped steps are rings, those that are run are dots; beside it labelled
    pictures.
    """
    fig = Figure(figsize=(3.9 + 1.75 * len(pictures), 2.5), dpi=DPI, layout="constrained")
    axes = fig.subplots(1, 1 + len(pictures), width_ratios=[2.2, *[1] * len(pictures)])
    ax, share = axes[0], to_array(alphas_cumprod) ** 0.5
    at = np.array([round(float(t)) for t in timesteps])
    skipped, run = at[:start], at[start:]
    ax.plot(share, color="0.6", linestyle="-", zorder=1)
    ring = dict(markersize=5, markerfacecolor="white", color="0.5")
    ax.plot(skipped, share[skipped], "o", label=f"{start} skipped", **ring)
    ax.plot(run, share[run], "o", markersize=5, color=COLOURS[0], label=f"{len(run)} run")
    ax.axvline(at[start], color=COLOURS[1], linestyle="--", label=f"entry, t = {at[start]}")
    ax.set(xlim=(len(share) * 1.02, -len(share) * 0.02), ylim=(0, 1.03))
    ax.set_xlabel("timestep: noise on the left, picture on the right")
    ax.set_ylabel(r"picture's share $\sqrt{\bar\alpha_t}$")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    for ax, image, label in zip(axes[1:], pictures, labels, strict=True):
        ax.imshow(to_array(picture(image)))
        ax.set_title(label, fontsize=10)
        ax.axis("off")
    fig.alt = (
        f"{start} steps are skipped and {len(run)} run: the loop is entered at t = {at[start]}, "
        f"where {share[at[start]]:.0%} of the picture's amplitude is left. "
        f"Beside it: {', '.join(' '.join(map(str, str(label).split())) for label in labels)}."
    )
    return fig


def told(judge: Judge, rows: dict[str, Sequence[Picture]], labels: Sequence) -> str:
    """Rows of pictures for who cannot see them: what the judge sees, neighbors alike told once."""
    said = []
    for name, row in rows.items():
        seen = [", ".join(look.words) for look in judge.look([picture(image) for image in row])]
        for words, same in groupby(zip(seen, labels, strict=True), key=lambda pair: pair[0]):
            where = ", ".join(str(label) for _, label in same)
            said.append(f"{' '.join(name.split())} ({where}): {words or 'nothing'}")
    return f"The judge sees: {'; '.join(said)}."


# ------------------------------------------------------------------------------------ the exercises


@exercise(
    "06.1",
    hint="Two faults. Which steps are run when the strength is small: the first or the last ones? "
    "And abar is a variance, not an amount.",
    right="Now the loop goes on from there as if it had come that far by itself.",
)
def _(answer):
    import torch

    abar, timesteps = torch.linspace(0.99, 0.01, 100), list(range(90, -1, -10))
    z, noise = torch.randn(2, 1, 4, 8, 8)
    start, got = answer(z, noise, abar, timesteps, 0.3)
    yield (
        start != 3,
        "At strength 0.3, 3 of 10 steps should be run; yours skips 3 and runs 7. The loop begins "
        "with the noisiest steps: skip 7 of those.",
    )
    yield start == 7, f"At strength 0.3 of 10 steps, {start} are skipped; how many should be run?"
    yield (
        answer(z, noise, abar, timesteps, 0.37)[0] == 7,
        "Whole steps only: what is left over of a step is not run.",
    )
    yield answer(z, noise, abar, timesteps, 1.0)[0] == 0, "Strength 1 skips no step."
    a = abar[timesteps[7]]
    yield (
        not close(got, a * z + (1 - a) * noise),
        "The right steps now. But picture and noise are mixed by the roots of abar and 1 - abar.",
    )
    yield (
        close(got, a**0.5 * z + (1 - a) ** 0.5 * noise),
        "What enters must have exactly as much noise as belongs to the first step that is run.",
    )


@exercise(
    "06.2",
    hint="Make an empty picture and paste the old one into it, `by` pixels further left; "
    "`PIL.Image.new(mode, size)` and `.paste(what, box)` do both.",
    right="The model continues the picture beyond its edge.",
)
def _(answer):
    from PIL import Image

    old = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    moved, mask = answer(Image.fromarray(old), 8)
    yield moved.size == mask.size == (32, 24), "Both need the size of the old picture."
    new, white = np.asarray(moved.convert("RGB")), np.asarray(mask.convert("L"))
    yield not (new[:, 8:] == old[:, :-8]).all(), "The picture moved to the right, not to the left."
    yield (new[:, :-8] == old[:, 8:]).all(), "Every pixel stands `by` pixels further left."
    yield (
        not (white[:, :-8] == 255).all(),
        "The other way round: white is repainted, and that is the strip on the right.",
    )
    yield (white[:, -8:] == 255).all(), "The freed strip on the right must be white, 255."
    yield (white[:, :-8] == 0).all(), "What has moved must be kept: the mask is black, 0, there."


@exercise(
    "06.3",
    hint="Three lines: a step from x with the noise asked at x, the noise asked where that step "
    "landed, a step from x with it. The step is the formula of section 4.",
    right="Twice the looks, and the picture comes back far more exactly.",
)
def _(answer):
    import torch

    looks = []

    def predict(x, t):
        looks.append(t)
        return torch.tanh(x) + 0.1 * x

    def step(x, eps):
        return there**0.5 * (x - (1 - here) ** 0.5 * eps) / here**0.5 + (1 - there) ** 0.5 * eps

    x, here, there = torch.randn(1, 4, 8, 8), torch.tensor(0.8), torch.tensor(0.5)
    first = step(x, predict(x, 7))
    again = predict(first, 7)
    looks.clear()
    got = answer(predict, x.clone(), 7, here, there)
    yield not close(got, first), "That is one look. Ask again where it landed."
    yield (
        not close(got, step(first, again)),
        "That takes two steps, one after the other: the second one starts at x again.",
    )
    yield (
        not close(got, step(x, (predict(x, 7) + again) / 2)),
        "That averages the two looks. Here the second one alone is used: it was asked at the level "
        "where the way back will ask.",
    )
    yield looks[:2] == [7, 7], "Both times the network is asked at the timestep t."
    yield (
        close(got, step(x, again)),
        "Imagine the clean picture from level `here`, then put the same noise back for `there`.",
    )


@exercise(
    "06.4",
    hint="Give (picture before, mask, picture after), all PIL images of one size.",
    right="What the words could not do matters as much as what they could.",
)
def _(answer):
    before, mask, after = (np.asarray(image.convert("RGB"), dtype=float) for image in answer)
    yield before.shape == mask.shape == after.shape, "All three need the same size."
    light = mask[..., 0] > 127
    yield (
        0.01 < light.mean() < 0.99,
        "The mask must leave a part of the picture alone and free another.",
    )
    change = np.abs(after - before).mean(2)
    yield (
        change[light].mean() > 3,
        "Inside the mask nearly nothing has changed: ask for something that was not there.",
    )
    yield (
        change[~light].mean() < 20,
        "Outside the mask the picture is another one: it should have been kept.",
    )

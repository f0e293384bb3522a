"""Chapter 06, Editing: where image to image enters the loop, and the exercises."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from sdlearn.checks import close, exercise
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


# ------------------------------------------------------------------------------------ the exercises


@exercise(
    "06.1",
    hint="How many steps are run? The others are skipped.",
    right="The more is skipped, the more of the picture is left.",
)
def _(answer):
    yield answer(1.0, 25) == 0, "Strength 1 runs all the steps: how many are skipped?"
    yield (
        answer(0.2, 25) != 5,
        "That is how many steps are run; the loop begins with the noisiest, and those are "
        "the ones to skip.",
    )
    yield (
        answer(0.2, 25) == 20 and answer(0.6, 50) == 20,
        "Run the given share of the steps, skip the rest.",
    )
    yield (
        answer(0.5, 25) == 13 and answer(0.79, 10) == 3 and isinstance(answer(0.5, 25), int),
        "Whole steps only: what is left over of a step is not run.",
    )


@exercise(
    "06.2",
    hint="Two products and a sum: which part is kept where the mask is 0?",
    right="Three lines of code, and a model that was never trained for it can repaint.",
)
def _(answer):
    import torch

    imagined, known = torch.randn(2, 1, 4, 8, 8)
    mask = (torch.rand(1, 1, 8, 8) < 0.5).float()
    want = mask * imagined + (1 - mask) * known
    got = answer(imagined, known, mask)
    yield (
        not close(got, mask * known + (1 - mask) * imagined),
        "The other way round: white, 1, is what shall be repainted.",
    )
    yield (
        close(answer(imagined, known, torch.ones_like(mask)), imagined),
        "Where the mask is 1 everywhere, only what was imagined must be left.",
    )
    yield (
        close(got, want),
        "Where the mask is 0, the picture's own noised latents must stand, unchanged.",
    )


@exercise(
    "06.3",
    hint=(
        "Imagine the clean picture from the level where you are, then add the same noise for "
        "the level where you go."
    ),
    right="DDIM does not mind which way it goes.",
)
def _(answer):
    import torch

    x0, eps = torch.randn(2, 1, 4, 8, 8)
    here, there = torch.tensor(0.8), torch.tensor(0.5)
    x = here**0.5 * x0 + (1 - here) ** 0.5 * eps
    got = answer(x, eps, here, there)
    yield (
        not close(got, there**0.5 * x + (1 - there) ** 0.5 * eps),
        "That takes x for a clean picture, but it carries noise already: take that away first.",
    )
    yield (
        not close(got, x),
        "Nothing has changed: the noise in x is that of the level where you are, not of "
        "the one where you go.",
    )
    yield (
        close(answer(x, eps, here, here), x),
        "Going nowhere (both levels equal) must change nothing.",
    )
    yield close(got, there**0.5 * x0 + (1 - there) ** 0.5 * eps), None


@exercise(
    "06.4",
    hint="Give (picture before, mask, picture after), all PIL images of one size.",
    right="What the words could not do is as telling as what they could.",
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

"""Chapter 08, Few steps and straight paths: its figures and exercises."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sdlearn.checks import close, exercise
from sdlearn.plots import COLOURS, DASHES, MARKERS, Numbers, figure, to_array


def beside_chord(path: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """A path (steps, k, n) seen from the straight line between its ends, both (steps, k).

    How far it has come along the line, from 0 to 1, and how far it is beside it, as a share of
    the line's length.
    """
    path = to_array(path)
    way = path - path[0]
    length = np.linalg.norm(way[-1], axis=-1)
    line = way[-1] / length[:, None]
    along = (way * line).sum(-1)
    beside = np.linalg.norm(way - along[..., None] * line, axis=-1)
    return along / length, beside / length


def bends(paths: dict[str, Numbers]) -> Figure:
    """Paths (steps, k, n) beside the straight line between their ends, one panel a name."""
    size = (2.9 * len(paths), 2.7)
    fig, axes = figure(1, len(paths), size=size, sharex=True, sharey=True, squeeze=False)
    said = []
    for ax, (name, path) in zip(axes[0], paths.items(), strict=True):
        along, beside = beside_chord(path)
        ax.axhline(0, color="0.3", linestyle=":", linewidth=1.5)
        for k in range(along.shape[1]):
            ax.plot(along[:, k], beside[:, k], color=COLOURS[k], linestyle=DASHES[k], linewidth=1.6)
        ax.set(title=name, xlabel="along the line, noise to picture")
        said.append(f"{name}: at most {beside.max():.0%} beside it, to {along.max():.2f} of it")
    axes[0, 0].set(ylabel="distance from the line,\nshare of its length")
    fig.alt = f"Paths beside the straight line from start to end. {'; '.join(said)}."
    return fig


def read_few_steps(path: str | Path) -> dict | None:
    """What ``python -m sdlearn.measure few-steps`` wrote, or None if nobody has measured yet."""
    path = Path(path)
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


WAYS = {  # how the figure calls them
    ("few", "lcm"): "taught to take few steps",
    ("teacher", "lcm"): "not taught, sampled the same way",
    ("teacher", ""): "the teacher, guided",
}


def by_way(rows: list[dict], split: str) -> dict[str, dict[int, tuple[int, float]]]:
    """For each way its {steps: (runs of the U-Net, percent in place)}."""
    found: dict[str, dict[int, tuple[int, float]]] = {name: {} for name in WAYS.values()}
    for row in rows:
        way = WAYS.get((row["model"], row["sampler"]), WAYS["teacher", ""])
        found[way][row["num_inference_steps"]] = row["looks"], row[split]["in_place"]["value"]
    return {name: dict(sorted(values.items())) for name, values in found.items() if values}


def looks(result: dict) -> Figure:
    """Percent of prompts that came true over runs of the U-Net, the steps beside each point."""
    splits = {"seen": "pairs seen in training", "held_out": "pairs never drawn for training"}
    fig, axes = figure(1, 2, size=(8.4, 3.6), sharex=True, sharey=True)
    said = []
    for ax, (split, title) in zip(axes, splits.items(), strict=True):
        for i, (way, points) in enumerate(by_way(result["rows"], split).items()):
            x, y = zip(*points.values(), strict=True)
            look = dict(color=COLOURS[i], linestyle=DASHES[i], marker=MARKERS[i], markersize=6)
            ax.plot(x, y, label=way, **look)
            for steps, (at, share) in points.items():
                ax.annotate(str(steps), (at, share), xytext=(0, (-14, 7, -14)[i]),
                            textcoords="offset points", ha="center", fontsize=8,
                            color=COLOURS[i])  # fmt: skip
            said.append(f"{title}, {way}: " + ", ".join(
                f"{share:.0f} at {steps}" for steps, (_, share) in points.items()))  # fmt: skip
        ax.set_xscale("log", base=2)
        ax.set(title=title, xlabel="runs of the U-Net for one picture")
        ax.set_xticks([1, 2, 4, 8, 20, 50], ["1", "2", "4", "8", "20", "50"])
    floor = axes[0].get_ylim()[0] - 2  # room for the steps below the lowest point
    axes[0].set(ylabel="prompts that came true, %", ylim=(floor, 104))
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
               frameon=False, fontsize=9)  # fmt: skip
    count = result["settings"]["prompts"]
    fig.alt = f"Percent of {count} prompts that came true by number of steps. {'; '.join(said)}."
    return fig


# ------------------------------------------------------------------------------------ the exercises


@exercise(
    "08.1",
    hint="Two faults: one in what x is divided and multiplied by, one in the direction.",
    right="One step in straight coordinates, and it is DDIM's.",
)
def _(answer):
    import torch

    x0, eps = torch.randn(2, 1, 4, 8, 8)
    a_t, a_s = torch.tensor(0.3), torch.tensor(0.6)
    x_t, x_s = (a**0.5 * x0 + (1 - a) ** 0.5 * eps for a in (a_t, a_s))

    def sizes(a):
        return a**0.5 + (1 - a) ** 0.5

    s_t, s_s = ((1 - a) ** 0.5 / sizes(a) for a in (a_t, a_s))
    got = answer(x_t, eps, a_t, a_s)
    backwards = sizes(a_s) * (x_t / sizes(a_t) + (s_t - s_s) * (eps - x0))
    yield (
        not close(got, x_t + (s_t - s_s) * (eps - x0), atol=1e-4),
        "Nothing is divided here: a + (1 - a) is always 1. Which amounts of picture and of noise "
        "are in x?",
    )
    yield (
        not close(got, backwards, atol=1e-4),
        "The amounts are right now. But the velocity points from the picture to the noise, and "
        "s falls: which sign has the way?",
    )
    yield (
        close(answer(x_t, eps, a_t, a_t), x_t, atol=1e-4),
        "A step from a level to the same level must change nothing.",
    )
    yield (
        not close(got, x_s / sizes(a_s), atol=1e-4),
        "That is right in straight coordinates; the U-Net wants the new x in its own.",
    )
    yield (
        not close(got, x_t + (s_s - s_t) * (eps - x0), atol=1e-4),
        "The direction is right now, but x is moved in its own coordinates: abar + (1 - abar) is "
        "always 1. Signal and noise have the amounts sqrt(abar) and sqrt(1 - abar).",
    )
    yield close(got, x_s, atol=1e-4), "Walk in y = x / (signal + noise), from s_t to s_s, and back."


@exercise(
    "08.2",
    hint="The velocity of each step is its way divided by its time; the line's is the whole way "
    "divided by the whole time. Square the distance of the two, weigh it by the step's time.",
    right="0 is a straight line, and a number this small is nearly one.",
)
def _(answer):
    import torch

    s = torch.tensor([1.0, 0.7, 0.4, 0.1, 0.0])
    ends = torch.randn(2, 3, 8)
    straight = s[:, None, None] * ends[0] + (1 - s[:, None, None]) * ends[1]
    y = straight + 0.3 * (s * (1 - s))[:, None, None] * torch.randn(1, 3, 8)
    steps = -s.diff()
    v, line = y.diff(dim=0) / s.diff()[:, None, None], y[0] - y[-1]
    squared = ((v - line) ** 2).sum(-1)
    per_line = (line**2).sum(-1)
    right = (squared * steps[:, None]).sum(0) / per_line
    got = torch.as_tensor(answer(y, s))
    yield tuple(got.shape) == (3,), "One number for each of the k paths: shape (k,)."
    yield (
        close(answer(straight, s), torch.zeros(3), atol=1e-4),
        "A straight line, walked in uneven steps, must get 0: divide each way by its time.",
    )
    yield not close(got, squared.mean(0) / per_line), "The steps last differently long: weigh them."
    yield (
        not close(got, (squared * steps[:, None]).sum(0)),
        "Nearly: divide by the square of the line's own velocity, so that long paths and short "
        "ones can be compared.",
    )
    yield (
        not close(got, (squared.sqrt() * steps[:, None]).sum(0) / per_line.sqrt()),
        "Nearly: it is the squared distance that is averaged.",
    )
    yield close(got, right, rtol=1e-3), "Compare each step's velocity with that of the whole line."


@exercise(
    "08.3",
    hint="A list of one or two whole timesteps, the first of them the noisiest.",
    right="Two looks at most. The next cell counts what they give.",
)
def _(answer):
    got = [float(t) for t in answer]
    yield 1 <= len(got) <= 2, f"One or two timesteps are allowed; these are {len(got)}."
    yield all(t == int(t) and 0 <= t <= 999 for t in got), "Timesteps are whole numbers, 0 to 999."
    yield sorted(set(got), reverse=True) == got, "Noise is taken away: the second must be smaller."
    yield (
        got[0] >= 900,
        f"The walk starts from pure noise, and at t = {got[0]:.0f} the network expects a picture.",
    )

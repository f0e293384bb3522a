"""Chapter 03, U-Net noise prediction: its figures, its small network and the exercises."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image
from torch import nn

from sdlearn import compression, hub, world
from sdlearn.checks import close, exercise
from sdlearn.noising import add_noise
from sdlearn.plots import COLOURS, DPI, Numbers, Picture, figure, picture, plain_log, to_array

# ------------------------------------------------------------------------------ what it measures


@torch.no_grad()
def loss_by_timestep(
    predict: Callable,
    x0: torch.Tensor,
    timesteps: Iterable[int],
    alphas_cumprod: torch.Tensor,
    seed: int = 0,
) -> torch.Tensor:
    """The epsilon loss, mean squared error of the predicted noise, at each of the timesteps:
    float32 (len(timesteps),).

    Args:
        predict: ``predict(latents, t)`` gives the noise it sees in latents of x0's shape at the
            timestep t (an int).
        x0: clean latents or pictures (B, C, h, w). Every timestep, and every call with the same
            seed, adds the same noise to them: differences between two calls are then differences
            between the models, not luck.
    """
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
    return torch.stack(
        [
            torch.mean((predict(add_noise(x0, noise, int(t), alphas_cumprod), int(t)) - noise) ** 2)
            for t in timesteps
        ]
    )


def skip_count(unet: Any) -> int:
    """How many skip connections a UNet2DConditionModel has: its up blocks take one for each of
    their ResNet blocks."""
    return sum(len(block.resnets) for block in unet.up_blocks)


@contextmanager
def skip_cut(unet: Any, index: int | None) -> Iterator[None]:
    """While it lasts, skip connection ``index`` of a UNet2DConditionModel carries zeros; 0 leaves
    the top of the U, the last the bottom. None cuts nothing. Other threads wait meanwhile.

    Raises:
        ValueError: if the U-Net has no such skip connection.
    """
    count = skip_count(unet)
    if index is not None and not 0 <= index < count:
        raise ValueError(
            f"This U-Net has the skip connections 0 to {count - 1}; there is no {index}."
        )
    blocks, end = [], count
    for block in unet.up_blocks:  # each takes the last ones of those that are left
        start = end - len(block.resnets)
        if index is not None and start <= index < end:
            blocks.append((block, index - start))
        end = start

    def cut(place: int) -> Callable:
        def hook(_module: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
            kept = list(kwargs["res_hidden_states_tuple"])
            kept[place] = torch.zeros_like(kept[place])
            return args, {**kwargs, "res_hidden_states_tuple": tuple(kept)}

        return hook

    # before the first hook and until after the last: no other thread may run the cut U-Net
    with hub.LOCK:
        handles = [
            block.register_forward_pre_hook(cut(place), with_kwargs=True) for block, place in blocks
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


# ------------------------------------------------------------------------------------ its figures


def clocks(emb: Numbers, alike: Numbers, t: int) -> Figure:
    """A timestep embedding: its numbers (timesteps, dim) as stripes, and how like each
    is to `t`."""
    fig, (stripes, likeness) = figure(1, 2, size=(9, 3))
    emb, alike = to_array(emb), to_array(alike)
    look = dict(aspect="auto", interpolation="nearest")
    stripes.imshow(emb.T, cmap="PuOr", vmin=-1, vmax=1, **look)
    stripes.set(xlabel="t", ylabel="number (cosines, then sines)")
    stripes.set_title("purple 1, white 0, orange -1")
    stripes.grid(False)
    likeness.plot(alike)
    likeness.set(xlabel="t", ylabel="cosine similarity", title=f"how like t = {t}")
    fig.alt = (
        f"Left the {emb.shape[1]} numbers of each of {len(emb)} timesteps as stripes, fast waves "
        f"above, slow ones below; right the cosine similarity to t = {t}: 1 there, "
        f"{alike.min():.2f} at least."
    )
    return fig


def training(
    losses: Numbers,
    timesteps: Numbers,
    num_train_timesteps: int,
    *,
    title: str | None = None,
    sketches: dict[str, Picture] | None = None,
) -> Figure:
    """How a training went: the loss by step, and by timestep, and what the network draws.

    Left the loss of each step and the mean of the last twenty; beside it the first against the last
    tenth of the steps. `losses` and `timesteps` are (steps, batch): the squared error and the
    timestep of each example. `sketches` are pictures by name (see :func:`sketch`).
    """
    losses, timesteps, sketches = to_array(losses), to_array(timesteps), sketches or {}
    ratios = [4, 4, *[1.6] * len(sketches)]
    fig, axes = figure(
        1, len(ratios), size=(9 + 1.3 * len(sketches), 3.2), gridspec_kw=dict(width_ratios=ratios)
    )
    curve, by_t, *beside = axes
    for ax, (name, drawn) in zip(beside, sketches.items(), strict=True):
        ax.imshow(to_array(picture(drawn)), interpolation="nearest")
        ax.set_title(name, fontsize=10)
        ax.axis("off")
    each = losses.mean(1)
    start = 19 if len(each) > 19 else 0  # a mean of fewer steps would be mostly luck
    mean = [each[max(0, i - 19) : i + 1].mean() for i in range(start, len(each))]
    curve.plot(each, ".", color="0.75", markersize=3, label="each step")
    look = dict(color=COLOURS[0], linestyle="-", linewidth=2, label="mean of 20")
    curve.plot(range(start, len(each)), mean, **look)
    curve.set(xlabel="training step", ylabel="epsilon loss", yscale="log", title=title)
    part = max(1, len(each) // 10)
    for name, steps, marker in (("first", slice(0, part), "s"), ("last", slice(-part, None), "o")):
        middle, height = _means(timesteps[steps], losses[steps], num_train_timesteps)
        by_t.plot(middle, height, marker=marker, markersize=5, label=f"{name} {part} steps")
    by_t.set_xlabel("timestep t (0 is clean, the right end is noise)")
    by_t.set(yscale="log", title="the same loss by timestep")
    for ax in (curve, by_t):
        ax.legend(frameon=False)
        plain_log(ax)
    fig.alt = (
        f"{len(each)} training steps: the epsilon loss falls from {each[:part].mean():.3f} in the "
        f"first {part} to {each[-part:].mean():.3f} in the last; right the same by timestep."
    )
    if sketches:
        fig.alt += f" Beside it, what the network draws by now: {', '.join(sketches)}."
    return fig


def _means(t: np.ndarray, loss: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Means of the loss in ten equal ranges of t: (middles, means), without the empty ones."""
    edges = np.linspace(0, count, 11)
    sums, counts = (np.histogram(t, edges, weights=w)[0] for w in (loss, None))
    filled = counts > 0
    return ((edges[:-1] + edges[1:]) / 2)[filled], sums[filled] / counts[filled]


def views(abars: dict[str, float]) -> Figure:
    """Noise levels as points of the unit circle.

    The noisy picture x_t stands at the angle whose cosine is sqrt(abar), its velocity v at a right
    angle to it (Salimans and Ho 2022, appendix D).
    """
    size = (max(3.6, 1.9 * len(abars)), 1.6 if len(abars) > 1 else 2.4)
    fig, axes = figure(1, len(abars), size=size, squeeze=False)
    turn, said = np.linspace(0, np.pi / 2, 100), []
    for ax, (label, abar) in zip(axes[0], abars.items(), strict=True):
        angle = np.arccos(np.sqrt(abar))
        ax.plot(np.cos(turn), np.sin(turn), color="0.6", linestyle="-")
        arrows = (
            ("$x_0$", 0, "-", 1.2, 0),
            ("$\\epsilon$", np.pi / 2, "--", 1.2, 0),
            ("$x_t$", angle, "-", 0.6, -0.17),
            ("$v$", angle + np.pi / 2, "-.", 0.6, 0.17),
        )
        for (name, a, dash, reach, side), colour in zip(arrows, COLOURS, strict=False):
            look = dict(arrowstyle="-|>", color=colour, linestyle=dash, linewidth=1.8)
            ends = dict(shrinkA=0, shrinkB=0)
            ax.annotate("", (np.cos(a), np.sin(a)), (0, 0), arrowprops=look | ends)
            # beyond the tip, or beside the middle
            x = reach * np.cos(a) - side * np.sin(a)
            y = reach * np.sin(a) + side * np.cos(a)
            ax.text(x, y, name, color=colour, fontsize=11, ha="center", va="center")
        ax.set(xlim=(-1.1, 1.32), ylim=(-0.25, 1.32), aspect="equal", xticks=[], yticks=[])
        said.append(f"{label}: {np.degrees(angle):.0f}°")
        ax.set_title(said[-1], fontsize=10)
        ax.spines[:].set_visible(False)
    fig.alt = (
        f"The noisy picture between the picture's axis and the noise's, {'; '.join(said)}; "
        "the velocity stands at a right angle to it."
    )
    return fig


def u_shape(shapes: list[tuple[int, int, int]], skips: int) -> Figure:
    """The tensors (channels, height, width) that a U-Net passes on, in the order of running.

    `skips` on the way down, the middle, `skips` on the way up, the output. Each on the way down is
    joined by a dashed arrow to its partner on the way up; a box is darker the fewer positions.

    Raises:
        ValueError: if the number of tensors does not fit.
    """
    if len(shapes) != 2 * skips + 2:
        raise ValueError(
            f"{skips} skip connections need {2 * skips + 2} tensors: {skips} down, one in the "
            f"middle, {skips} up and the output; got {len(shapes)}."
        )
    width, step = 1.5, 0.42
    size = (min(9, 3.4 + 0.75 * skips), 0.9 + 0.46 * (skips + 2))
    fig = Figure(figsize=size, dpi=DPI, layout="constrained")
    ax, far = fig.subplots(), 2 * step * skips + width + 1.2
    ax.axis("off")
    left = [(k * step, -k) for k in range(skips)]
    right = [(far - k * step, -k) for k in range(skips)]
    places = [*left, (far / 2, -skips - 0.2), *reversed(right), (far, 1.1)]
    ax.plot(*zip(*places, strict=True), color="0.7", linestyle="-", linewidth=1, zorder=0)
    boxes = [_tensor(ax, p, s, shapes) for p, s in zip(places, shapes, strict=True)]
    for k in range(skips):
        ends = dict(patchA=boxes[k], patchB=boxes[2 * skips - k], shrinkA=3, shrinkB=3)
        look = dict(arrowstyle="->", linestyle="--", color=COLOURS[1])
        ax.annotate("", right[k], left[k], arrowprops=look | ends)
        text = dict(ha="center", va="bottom", fontsize=8, color=COLOURS[1])
        ax.text(far / 2, -k + 0.08, f"skip {k}", **text)
    ax.text(left[0][0], 1.1, "noisy latents in", ha="center", va="center", fontsize=9)
    x = left[0][0]
    ax.annotate("", (x, 0.3), (x, 0.9), arrowprops=dict(arrowstyle="->", color="0.35"))
    ax.text(far, 1.62, "noise out", ha="center", va="bottom", fontsize=9)
    ax.set(xlim=(-width / 2 - 0.2, far + width / 2 + 0.2), ylim=(-skips - 0.8, 2.1))
    names = [" x ".join(map(str, shape)) for shape in shapes]
    fig.alt = (
        f"A U of {len(shapes)} tensors: {skips} down from {names[0]}, {names[skips]} in the "
        f"middle, {skips} up, noise of {names[-1]} out; {skips} skip connections across."
    )
    return fig


def _tensor(ax, place: tuple, shape: tuple, shapes: list):
    """A box for one tensor; its patch."""
    sides = [s[1] for s in shapes]
    depth = np.log2(max(sides) / shape[1]) / max(1, np.log2(max(sides) / min(sides)))
    face = (0.93 - 0.62 * depth, 0.95 - 0.45 * depth, 1 - 0.3 * depth)
    box = dict(boxstyle="square,pad=0.35", facecolor=face, edgecolor="0.35", linewidth=0.8)
    look = dict(ha="center", va="center", fontsize=9, color="white" if depth > 0.7 else "black")
    text = ax.text(*place, " × ".join(map(str, shape)), bbox=box, **look)
    return text.get_bbox_patch()


# ------------------------------------------------------------------- the lesson's small network
# The chapter shows this code in its cells, without the types (a test holds the two together); its
# solutions go on with it here.

KINDS = ("house", "tree", "cat", "mushroom", "flower", "boat")


def close_up(i: int) -> Image.Image:
    kind, colour = KINDS[i % len(KINDS)], world.COLOURS[i // len(KINDS) % len(world.COLOURS)]
    thing = world.Thing(kind, colour, "middle")
    return world.draw(world.Scene((thing,), "meadow", "day"), 28, seed=i).crop((6, 9, 22, 25))


def timestep_embedding(t: torch.Tensor | int, dim: int) -> torch.Tensor:
    omega = torch.exp(-math.log(10000) * torch.arange(dim // 2) / (dim // 2))  # fast clocks first
    angle = torch.as_tensor(t).reshape(-1, 1).float() * omega  # (B, dim / 2)
    return torch.cat([angle.cos(), angle.sin()], dim=1)  # (B, dim)


def epsilon_loss(
    net: Callable, x0: torch.Tensor, alphas_cumprod: torch.Tensor, *told: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    t = torch.randint(len(alphas_cumprod), (len(x0),))  # a t for each picture
    noise = torch.randn_like(x0)  # fresh noise
    noisy = add_noise(x0, noise, t, alphas_cumprod)  # chapter 02
    noise_pred = net(noisy, t, *told)  # the question
    loss = F.mse_loss(noise_pred, noise, reduction="none").mean((1, 2, 3))  # each picture's error
    return loss, t


class Block(nn.Module):
    def __init__(self, cin: int, cout: int, dim: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, cin), nn.Conv2d(cin, cout, 3, padding=1)
        self.time = nn.Linear(dim, cout)
        self.norm2, self.conv2 = nn.GroupNorm(8, cout), nn.Conv2d(cout, cout, 3, padding=1)
        self.past = nn.Conv2d(cin, cout, 1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: torch.Tensor, emb: torch.Tensor) -> torch.Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(emb)[:, :, None, None]
        return self.past(x) + self.conv2(F.silu(self.norm2(h)))


class SmallUNet(nn.Module):
    def __init__(self, width: int, kinds: int, alphas_cumprod: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("abar", alphas_cumprod.reshape(-1, 1, 1, 1))
        a, b, c, dim = width, 2 * width, 3 * width, 4 * width
        self.time = nn.Sequential(nn.Linear(width, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.kind = nn.Embedding(kinds, dim)
        self.conv_in, self.conv_out = nn.Conv2d(3, a, 3, padding=1), nn.Conv2d(a, 3, 3, padding=1)
        self.down1, self.down2 = Block(a, a, dim), Block(a, b, dim)
        self.mid1, self.mid2 = Block(b, c, dim), Block(c, c, dim)
        self.up2, self.up1 = Block(c + b, b, dim), Block(b + a, a, dim)
        self.norm = nn.GroupNorm(8, a)
        nn.init.zeros_(self.conv_out.weight)

    def forward(  # x: (B, 3, 16, 16)
        self, x: torch.Tensor, t: torch.Tensor, kind: torch.Tensor
    ) -> torch.Tensor:
        emb = F.silu(self.time(timestep_embedding(t, self.conv_in.out_channels)) + self.kind(kind))
        h1 = self.down1(self.conv_in(x), emb)  # (B, a, 16, 16)
        h2 = self.down2(F.avg_pool2d(h1, 2), emb)  # (B, b, 8, 8)
        h = self.mid2(self.mid1(F.avg_pool2d(h2, 2), emb), emb)  # (B, c, 4, 4)
        h = self.up2(torch.cat([F.interpolate(h, scale_factor=2), h2], 1), emb)  # skip
        h = self.up1(torch.cat([F.interpolate(h, scale_factor=2), h1], 1), emb)  # skip
        correction = self.conv_out(F.silu(self.norm(h)))  # (B, 3, 16, 16)
        return (1 - self.abar[t]) ** 0.5 * x + self.abar[t] ** 0.5 * correction  # skips the whole U


def train(
    net: nn.Module,
    data: tuple[torch.Tensor, torch.Tensor],
    alphas_cumprod: torch.Tensor,
    steps: int,
    *,
    loss_of: Callable = epsilon_loss,
    seed: int = 0,
    rate: float = 2e-3,
    batch: int = 32,
) -> Iterator[tuple[nn.Module, torch.Tensor, torch.Tensor]]:
    torch.manual_seed(seed)
    ema = copy.deepcopy(net).requires_grad_(False)
    optimizer = torch.optim.AdamW(net.parameters(), rate, betas=(0.9, 0.99))
    for step in range(steps):
        some = torch.randint(len(data[0]), (batch,))
        x0, kind = (part[some] for part in data)
        loss, t = loss_of(net, x0, alphas_cumprod, kind)
        optimizer.zero_grad()
        loss.mean().backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        keep = min(0.99, (step + 1) / (step + 10))
        for mean, new in zip(ema.parameters(), net.parameters(), strict=True):
            mean.lerp_(new.detach(), 1 - keep)
        yield ema, loss.detach(), t


@torch.no_grad()
def sketch(
    net: Callable, alphas_cumprod: torch.Tensor, *, kinds: Sequence[int], steps: int = 12
) -> list[Image.Image]:
    """What a small network draws by now: a picture of each of `kinds`, always from the same noise,
    in a few steps of DDIM (section 8 of the chapter)."""
    x = torch.randn(len(kinds), 3, 16, 16, generator=torch.Generator().manual_seed(1))
    count, kind = len(alphas_cumprod), torch.as_tensor(kinds)
    for i in range(steps):
        t, after = (round(count * (1 - k / steps)) - 1 for k in (i, i + 1))
        a, a_next = alphas_cumprod[t], alphas_cumprod[after] if after >= 0 else torch.tensor(1.0)
        eps = net(x, torch.full((len(x),), t), kind)
        x = a_next**0.5 * (x - (1 - a) ** 0.5 * eps) / a**0.5 + (1 - a_next) ** 0.5 * eps
    return compression.to_images(x)


# ------------------------------------------------------------------------------------ the exercises


@exercise(
    "03.1",
    hint="The mean is 1 - 2 c sqrt(1 - abar) + c^2: where is its slope 0?",
    right="What is left of the loss is abar: the more noise, the less there is to do.",
)
def _(answer):
    import torch

    abar = torch.tensor([0.1, 0.36, 0.5, 0.75, 0.99])
    got = [float(answer(a)) for a in abar]
    yield (
        not close(got, 1 - abar),
        "That is the noise's share of the variance. How is the input correlated with the noise?",
    )
    yield not close(got, abar**0.5), "That is the picture's factor in x_t; which one has the noise?"
    yield (
        got[0] > got[-1],
        "Near abar = 0 the input IS the noise, near 1 it has nearly none: how much of it "
        "should be handed back?",
    )
    yield close(got, (1 - abar) ** 0.5), None


@exercise(
    "03.2",
    hint="Where does the factor (1 - abar) / abar pass 1?",
    right="From there on the picture is harder to name than the noise.",
)
def _(answer):
    from sdlearn.noising import make_alphas_cumprod

    last = int((make_alphas_cumprod() > 0.5).sum()) - 1
    yield (
        not close(answer, last + 1),
        "There the picture's error is the larger one for the first time; one step earlier.",
    )
    yield close(answer, last), None


@exercise(
    "03.3",
    hint="Section 11 has both formulas; which needs the plus?",
    right="Any sampler made for noise can now run on such a network.",
)
def _(answer):
    import torch

    noise, x0 = torch.randn(2, 2, 4, 8, 8)
    for abar in torch.tensor([0.9, 0.3]):
        a, s = abar**0.5, (1 - abar) ** 0.5
        noise_pred, x0_pred = answer(a * x0 + s * noise, a * noise - s * x0, abar)
        yield (
            not (close(noise_pred, x0, 1e-3, 1e-4) and close(x0_pred, noise, 1e-3, 1e-4)),
            "Both are right; give the noise first, then the picture.",
        )
        yield (
            close(x0_pred, x0, 1e-3, 1e-4),
            "The noise or the picture: look at the picture again, its signs and which "
            "root stands where.",
        )
        yield close(noise_pred, noise, 1e-3, 1e-4), "The picture is right, the noise not yet."


@exercise(
    "03.4",
    hint="Hand in (a sentence, the loss of each step, a few pictures).",
    right="It learned. Was your prediction right? If not, what did it leave out?",
)
def _(answer):
    import torch

    expected, losses, pictures = answer
    losses = torch.as_tensor(losses).detach().float().flatten()
    yield len(str(expected).split()) >= 4, "Say in a sentence what you expected, before the run."
    yield len(losses) >= 50, f"{len(losses)} steps are too few to see anything; train at least 50."
    yield (
        bool(losses.isfinite().all()),
        "The loss became infinite: the learning rate is probably too high.",
    )
    tenth = len(losses) // 10
    yield (
        losses[-tenth:].mean() < 0.6 * losses[:tenth].mean(),
        "The loss hardly fell: does the optimizer step, and is the learning rate large enough?",
    )
    yield (
        pictures.ndim == 4 and pictures.shape[1] == 3 and bool(pictures.isfinite().all()),
        "The pictures should be a tensor (n, 3, 16, 16) of finite numbers, from ddim.",
    )
    rough = (pictures - pictures.roll(1, -1)).square().mean() / (2 * pictures.var())
    yield (
        rough < 0.7,
        "The pictures are still noise: neighboring pixels have nothing to do with each "
        "other. Train longer, or draw with the running mean.",
    )

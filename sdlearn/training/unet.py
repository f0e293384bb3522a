"""Train the U-Net: tell the noise from the latents, given the noise level and the caption
(Ho et al. 2020; Rombach et al. 2022).

1. Take a picture's latents, a timestep (noisy ones more often) and noise; mix them.
2. Let the U-Net predict the noise, told a caption of the picture, one in ten times the empty one.
3. The loss is the squared error of v, divided by what this error usually is at that level of
   noise: so every level counts alike (Karras et al. 2024, "EDM2").
4. Each scene comes with a partner whose things stand elsewhere, under the same noise: in two of
   five pairs at noisy timesteps they exchange their noisy latents, so that only the words tell.
5. Two things help with pairs of thing and color that were never drawn. One picture in five paints
   things in colors without a name, which its captions leave out. And in three of ten captions all
   words but a thing's own speak of another thing in its place: it must be learned from its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from sdlearn import hub, models, noising, sampling, world
from sdlearn.training import data
from sdlearn.training.common import Run, Settings, ship
from sdlearn.training.prepare import prepare
from sdlearn.training.vae import latents_of

LOOK_EVERY = 600  # seconds
LEVELS = 40  # of noise, each 25 timesteps wide
SWAP_FROM = 500  # timestep from which on a pair may exchange its noisy latents
FAR_FROM = 800  # timestep from which on half of these take those of any other picture


@dataclass
class UNetSettings(Settings):
    """Settings of the U-Net's training."""

    minutes: float = 180.0
    # data
    pictures: int = 10_000  # and as many of their partners, whose things stand elsewhere
    # Share of further pictures whose things have colors without a name, which their captions leave
    # out: so that no kind belongs to the colors it was seen in.
    unnamed: float = 0.25
    two_things: float = 0.6  # share of pictures with two things: they are harder
    # share of captions replaced by "": guidance needs the U-Net to know both
    drop_caption: float = 0.1
    # pictures a step, half of them partners. On a CPU more, smaller steps learn faster than fewer,
    # larger ones; a large GPU wants 1024.
    batch: int = 64
    # Share of the pairs that exchange their noisy latents where t is at least 500 (from 800 up half
    # of them take any other picture's); asked for is still the caption's own picture. Training's
    # noisiest latents still hold a trace of the picture, sampling starts without one: so where
    # things stand must be learned from the words. With 0 the U-Net follows the trace.
    swap: float = 0.4
    # Share of the captions in which all states but those of one thing's own words ("white fish")
    # are those of the caption with another thing there. Later words retell what stood before them,
    # and a pair never seen as one that was; so a thing must be learned from its own words.
    retold: float = 0.3
    # Timesteps are T u**toward_noise with u uniform in 0..1: 1 visits all alike, less the noisier
    # ones more often, where words matter.
    toward_noise: float = 0.6
    # optimizer
    lr: float = 5e-4
    flat: float = 0.5  # share of the time at the full rate; half of what is learned comes after it
    ema: float = 0.998  # an average over about 500 steps; raise it for trainings of many hours

    needs = ("tokenizer", "vae", "text_encoder")
    shares = ("unnamed", "two_things", "drop_caption", "swap", "retold", "flat")

    def drawn(self) -> dict[str, int]:
        """Scenes, then their partners; each time those with colors without a name come first."""
        more = round(self.unnamed * self.pictures)
        counts = {"unnamed": more, "train": self.pictures}
        counts |= {"unnamed_moved": more, "moved": self.pictures}
        return {split: count for split, count in counts.items() if count}


class Batch(NamedTuple):
    """One batch on the device: the first half are scenes, the second half partners."""

    ids: torch.Tensor  # (B, 77) captions
    latents: torch.Tensor  # (B, 4, h, w) the captions' own pictures
    shown: torch.Tensor  # (B, 4, h, w) what gets noisy: the latents, or another picture's
    noise: torch.Tensor  # (B, 4, h, w)
    t: torch.Tensor  # (B,)
    swapped: torch.Tensor  # (B,) whether what gets noisy is another picture's


class UsualError(torch.nn.Module):
    """A running average of the error at each of :data:`LEVELS` levels of noise."""

    def __init__(self, timesteps: int = 1000):
        super().__init__()
        self.timesteps = timesteps
        self.register_buffer("average", torch.ones(LEVELS))
        self.register_buffer("updates", torch.zeros((), dtype=torch.long))

    def level(self, t: torch.Tensor) -> torch.Tensor:
        """The level of each timestep."""
        return t * LEVELS // self.timesteps

    def forward(self, t: torch.Tensor) -> torch.Tensor:
        """What the error at timesteps (B,) usually is."""
        return self.average[self.level(t)]

    @torch.no_grad()
    def update(self, t: torch.Tensor, error: torch.Tensor, counts: torch.Tensor) -> None:
        """Learn from errors (B,) at timesteps (B,); ``counts`` (B,) is False for those to leave
        out. The average forgets slowly, quickly in the first hundred steps."""
        level, weight = self.level(t), counts.to(error.dtype)
        zeros = torch.zeros_like(self.average)
        number = zeros.scatter_add(0, level, weight)
        mean = zeros.scatter_add(0, level, error.detach() * weight) / number.clamp(min=1)
        share = torch.where(self.updates < 100, 0.2, 0.02)
        moved = torch.lerp(self.average, mean, share).clamp(min=1e-4)
        self.average.copy_(torch.where(number > 0, moved, self.average))
        self.updates += 1


def error_of_v(
    unet: Any, batch: Batch, encoder_hidden_states: torch.Tensor, alphas_cumprod: torch.Tensor
) -> torch.Tensor:
    """Squared error of v (B,) of the predicted noise.

    With v = sqrt(abar) noise - sqrt(1 - abar) latents, an error e of the noise is one of
    e / sqrt(abar) in v at the same noisy latents (Salimans and Ho 2022). Asked for is what must be
    taken away to arrive at the caption's own latents, (x_t - sqrt(abar) latents) / sqrt(1 - abar):
    the noise itself, unless the pair exchanged its noisy latents.
    """
    abar = alphas_cumprod[batch.t].view(-1, 1, 1, 1)
    noisy = noising.add_noise(batch.shown, batch.noise, batch.t, alphas_cumprod)
    wanted = (noisy - abar.sqrt() * batch.latents) / (1 - abar).sqrt()
    noisy = noisy.contiguous(memory_format=torch.channels_last)
    predicted = unet(noisy, batch.t, encoder_hidden_states=encoder_hidden_states).sample
    return (predicted.float() - wanted).square().mean(dim=(1, 2, 3)) / abar.flatten()


@dataclass
class Table:
    """What batches are picked from, on the device."""

    latents: torch.Tensor  # (2, N, 2, 4, h, w) of scenes and partners: mean and deviation
    ids: torch.Tensor  # (2, N, 9, 77) their captions
    empty: torch.Tensor  # (77,) the empty caption
    two: np.ndarray  # numbers of the scenes with two things
    one: np.ndarray


def fill_table(settings: UNetSettings, vae: Any, tokenizer: Any, device: torch.device) -> Table:
    """Draw, encode, say and tokenize all that a training picks from."""
    latents, ids = [], []
    for split, count in settings.drawn().items():
        drawn = data.pictures_tensor(split, count, settings.work)
        latents.append(latents_of(vae, drawn, settings.work, split).to(device))
        ids.append(data.token_ids(split, count, tokenizer, settings.work).to(device))
    empty = tokenizer("", padding="max_length", max_length=data.TOKENS).input_ids
    counts = [(split, n) for split, n in settings.drawn().items() if not split.endswith("moved")]
    scenes = (data.scene(split, i) for split, count in counts for i in range(count))
    two = np.array([len(scene.things) == 2 for scene in scenes])
    if two.all() or not two.any():
        raise ValueError(f"{settings.pictures} pictures are too few: take more --pictures.")
    return Table(
        torch.cat(latents).unflatten(0, (2, -1)),
        torch.cat(ids).unflatten(0, (2, -1)),
        torch.tensor(empty, dtype=torch.int16, device=device),
        np.flatnonzero(two),
        np.flatnonzero(~two),
    )


class Retold:
    """Captions read with another thing in them, by their token ids."""

    def __init__(self, tokenizer: Any, device: torch.device):
        def ids(words: Iterable[str]) -> torch.Tensor:
            return torch.tensor([tokenizer(word).input_ids[1] for word in words], device=device)

        self.colours, self.kinds, self.articles = map(
            ids, (world.COLOURS, world.KINDS, ("a", "an"))
        )
        drawn = [[(k, c) not in world.HELD_OUT for c in world.COLOURS] for k in world.KINDS]
        self.drawn = torch.tensor(drawn, device=device)  # (kinds, colors)
        self.article = ids(map(world.article, world.COLOURS))

    def captions(
        self, ids: torch.Tensor, share: float, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids (B, 77) with another kind, color or both at one thing of a ``share`` of the
        captions, and where (B, 77) the states of ``ids`` itself stay."""
        count, device = len(ids), ids.device

        def chance(*shape: int) -> torch.Tensor:
            return torch.rand(shape, generator=generator, device=device)

        pair = torch.isin(ids[:, :-1], self.colours) & torch.isin(ids[:, 1:], self.kinds)
        rows, at = torch.arange(count, device=device), (pair * chance(*pair.shape)).argmax(1)
        kind = (self.kinds == ids[rows, at + 1, None]).int().argmax(1)
        colour = (self.colours == ids[rows, at, None]).int().argmax(1)
        change = chance(count)  # the kind, the color, or both
        kinds, colours = self.drawn.shape
        kind = torch.where(change < 2 / 3, (chance(count) * kinds).long(), kind)
        colour = torch.where(change > 1 / 3, (chance(count) * colours).long(), colour)
        told = pair.any(1) & self.drawn[kind, colour] & (chance(count) < share)
        other = ids.clone()
        other[rows, at], other[rows, at + 1] = self.colours[colour], self.kinds[kind]
        before = (at - 1).clamp(min=0)
        article = torch.isin(ids[rows, before], self.articles)
        other[rows, before] = torch.where(article, self.article[colour], ids[rows, before])
        places = torch.arange(ids.shape[1], device=device)
        own = (places == at[:, None]) | (places == at[:, None] + 1) | ~told[:, None]
        return torch.where(told[:, None], other, ids), own


def pick_batch_of_pairs(
    table: Table, settings: UNetSettings, rng: np.random.Generator, generator: torch.Generator
) -> Batch:
    """Scenes and their partners, under the same noise at the same timesteps."""
    device, half = table.ids.device, max(1, settings.batch // 2)
    many = round(half * settings.two_things)
    scenes = np.concatenate([rng.choice(table.two, many), rng.choice(table.one, half - many)])
    picks = torch.from_numpy(scenes).to(device)
    t = torch.from_numpy(1000 * rng.random(half) ** settings.toward_noise).long().clamp(max=999)
    swap = torch.from_numpy(rng.random(half) < settings.swap) & (t >= SWAP_FROM)
    t, swap = t.to(device), swap.to(device)
    wordings = rng.choice(data.ANY_WORDING, (2, half)), rng.choice(data.WITH_SIDES, (2, half))
    free, sided = (torch.from_numpy(which).to(device) for which in wordings)
    which = torch.where(swap, sided, free)  # (2, half): who exchanges latents is told the sides
    ids = torch.cat([table.ids[k][picks, which[k]] for k in (0, 1)])
    swapped = swap.repeat(2)
    dropped = torch.from_numpy(rng.random(2 * half) < settings.drop_caption).to(device)
    ids = torch.where((dropped & ~swapped)[:, None], table.empty, ids).long()
    mean, deviation = table.latents[:, picks].float().flatten(0, 1).unbind(1)
    noise, inside = torch.randn((2, half, *mean.shape[1:]), generator=generator, device=device)
    latents = mean + deviation * inside.repeat(2, 1, 1, 1)
    far = torch.from_numpy(rng.random(2 * half) < 0.5).to(device) & (t.repeat(2) >= FAR_FROM)
    others = torch.where(far.view(-1, 1, 1, 1), latents.roll(1, 0), latents.roll(half, 0))
    shown = torch.where(swapped.view(-1, 1, 1, 1), others, latents)
    return Batch(ids, latents, shown, noise.repeat(2, 1, 1, 1), t.repeat(2), swapped)


@torch.inference_mode()
def error_by_caption(
    unet: Any,
    text_encoder: Any,
    table: Table,
    alphas_cumprod: torch.Tensor,
    *,
    t: int = 800,
    count: int = 48,
) -> dict[str, float]:
    """Which words the U-Net follows: mean squared error of the latents it imagines from noisy
    ones of scenes with two things, told their own plain captions ("own") and those with left and
    right exchanged ("mirrored"). Where the two are equal, it does not follow the sides."""
    picks = torch.from_numpy(table.two[-count:]).to(table.ids.device)
    latents = table.latents[0, picks, 0].float()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    steps = torch.full((len(picks),), t, device=latents.device)
    errors = {}
    for k, name in enumerate(("own", "mirrored")):
        batch = Batch(table.ids[k][picks, 0].long(), latents, latents, noise, steps, steps < 0)
        states = text_encoder(batch.ids).last_hidden_state
        error = error_of_v(unet, batch, states, alphas_cumprod).mean()
        errors[name] = ((1 - alphas_cumprod[t]) * error).item()
    return errors


def samples(pipe: Any, count: int = 12, split: str = "held_out") -> Image.Image:
    """First-take pictures of prompts of a split, for the eye during training."""
    prompts = [world.caption(data.scene(split, i)) for i in range(count)]
    pictures = sampling.sample(pipe, prompts, num_inference_steps=20, seed=list(range(count)))
    columns, side = 6, pictures[0].width
    sheet = Image.new("RGB", (columns * side, -(-count // columns) * side))
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (i % columns * side, i // columns * side))
    return sheet


def train_unet(settings: UNetSettings) -> None:
    """Train the U-Net and write it into ``--out``."""
    prepare(settings)
    tokenizer = hub.load_tokenizer(settings.out)
    vae, text_encoder = (hub.load_part(name, settings.out) for name in ("vae", "text_encoder"))
    source, width = settings.start_from, text_encoder.config.hidden_size
    unet = hub.load_part("unet", source) if source else models.build_unet(cross_attention_dim=width)
    usual = UsualError()
    unet = unet.to(memory_format=torch.channels_last)
    run = Run("unet", settings, unet, flat=settings.flat, ema=settings.ema, keep=usual)
    vae = vae.to(run.device, memory_format=torch.channels_last)
    text_encoder = text_encoder.to(run.device).requires_grad_(False)
    for part in (unet, text_encoder) if run.device.type == "cpu" else ():
        models.plain_attention(part)
    with run.main_first():
        table = fill_table(settings, vae, tokenizer, run.device)
    retold = Retold(tokenizer, run.device)
    alphas_cumprod = noising.make_alphas_cumprod().to(run.device)
    pipe = models.build_pipeline(vae, text_encoder, tokenizer, run.best)
    model, next_look = run.compiled(), run.elapsed + LOOK_EVERY
    for step, rng in run:
        generator = run.generator(rng)
        batch = pick_batch_of_pairs(table, settings, rng, generator)
        with run.accelerator.autocast():
            with torch.no_grad():
                states = text_encoder(batch.ids).last_hidden_state
                if settings.retold:
                    other, own = retold.captions(batch.ids, settings.retold, generator)
                    others = text_encoder(other).last_hidden_state
                    states = torch.where(own[..., None], states, others)
            error = error_of_v(model, batch, states, alphas_cumprod)
        loss = (error / usual(batch.t)).mean()
        usual.update(batch.t, error, ~batch.swapped)
        run.update(loss, error=error.mean())
        if run.elapsed > next_look and run.is_main:
            next_look = run.elapsed + LOOK_EVERY
            samples(pipe).save(run.folder / f"samples_{step:06d}.png")
            told = error_by_caption(run.best, text_encoder, table, alphas_cumprod)
            print(f"\nunet step {step}: error told {told}", flush=True)
    if run.is_main:
        samples(pipe).save(run.folder / "samples.png")
        ship(settings.out, unet=run.best)

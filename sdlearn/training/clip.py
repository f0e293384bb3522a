"""Train a CLIP: a text tower and an image tower that agree on which caption belongs to which picture (Radford et al. 2021).

The text tower then conditions the U-Net; the image tower ships too, for chapter 04.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from sdlearn import hub, models, world
from sdlearn.training import data
from sdlearn.training.common import Run, Settings


@dataclass
class CLIPSettings(Settings):
    minutes: float = 10.0
    # data
    pictures: int = 20_000
    batch: int = 192  # the more captions compete, the finer the differences that must be learnt
    # Share of the batches that show one place at one time: only things, colours and positions are left to tell pictures apart by.
    # Without them the towers learn sky and ground first, and the words for things late.
    alike: float = 0.6
    # Share of the batches in which each picture stands beside its mirrored scene, and captions say where things are. Without them the towers
    # see a bag of words (Yuksekgonul et al. 2023): their vectors did not say which of two things stands on the left.
    mirrored: float = 0.5
    # Captions here have at most 26 tokens. The towers meet at the end-of-text token, and attention is causal, so padding
    # behind it changes nothing: a shorter row saves half the time.
    tokens: int = 32
    # Going on from shipped weights: weight of the squared distance (share of their variance) to the text states of ``start_from``, each the mean
    # of a caption and of the same with left and right exchanged. So the states are free to tell the sides, and a U-Net trained on the old ones finds all else in its place.
    hold: float = 0.0
    # optimiser
    lr: float = 1e-3
    weight_decay: float = 0.05


def features(clip, ids: torch.Tensor, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit-length (text, image) features, (B, 128) each."""
    out = clip(input_ids=ids, pixel_values=pixels)
    return out.text_embeds.float(), out.image_embeds.float()


def contrastive_loss(
    text: torch.Tensor,
    image: torch.Tensor,
    logit_scale: torch.Tensor,
    same: torch.Tensor | None = None,
) -> torch.Tensor:
    """Symmetric cross-entropy over the similarity matrix: each caption finds its picture, each picture its caption.

    ``same`` (B, B) is true where two pictures show the same scene: they share the target evenly (default: no two do).
    """
    logits = logit_scale.exp().clamp(max=100) * text @ image.T  # (B, B)
    target = (
        torch.eye(len(logits), device=logits.device)
        if same is None
        else same / same.sum(1, keepdim=True)
    )
    return (
        torch.nn.functional.cross_entropy(logits, target)
        + torch.nn.functional.cross_entropy(logits.T, target)
    ) / 2


def drift(text_model, teacher, ids: torch.Tensor) -> torch.Tensor:
    """Squared distance of text states to those of ``teacher``, as a share of their variance.

    Padded token ids (2, B, 77): of captions, and of the same with left and right exchanged; the states of each pair are averaged.
    """

    def states(model) -> torch.Tensor:
        return (
            model(ids.flatten(0, 1)).last_hidden_state.float().unflatten(0, ids.shape[:2]).mean(0)
        )

    with torch.no_grad():
        held = states(teacher)
    return (states(text_model) - held).square().mean() / held.var(dim=(0, 1)).mean()


def pick(scenes: list[world.Scene], settings: CLIPSettings, rng: np.random.Generator) -> np.ndarray:
    """Numbers of the scenes of one batch: any, or (a share ``alike`` of the batches) only those of one place at one time."""
    pool = np.arange(len(scenes))
    if rng.random() < settings.alike:
        place, time = rng.choice(world.PLACES), rng.choice(world.TIMES)
        pool = np.array([i for i in pool if (scenes[i].place, scenes[i].time) == (place, time)])
    return np.sort(rng.choice(pool, min(settings.batch, len(pool)), replace=False))


@torch.inference_mode()
def sides(clip, tokenizer, split: str, count: int) -> list[bool]:
    """For scenes of no training, whether the plain caption is nearer to its own picture than to that of the mirrored scene (chance is one half)."""
    scenes = [s for s in (data.scene(split, i) for i in range(2 * count)) if s != data.mirror(s)][
        :count
    ]
    drawn = [
        np.asarray(world.draw(one, seed=i))
        for i, s in enumerate(scenes)
        for one in (s, data.mirror(s))
    ]
    ids = tokenizer([world.caption(s) for s in scenes], padding=True, return_tensors="pt").input_ids
    text, image = features(
        clip, ids.to(clip.device), data.to_tensor(np.stack(drawn)).to(clip.device)
    )
    own, other = (text[:, None] * image.unflatten(0, (-1, 2))).sum(-1).T
    return (own > other).tolist()


@torch.inference_mode()
def loudness(clip, tokenizer, split: str, count: int) -> dict[str, float]:
    """How far the padded text states of plain captions with two things move when left and right are exchanged ("sides") or other colours are named ("colours"):
    root mean square, in units of their standard deviation. What hardly moves them, a U-Net hardly learns."""
    scenes = [s for s in (data.scene(split, i) for i in range(4 * count)) if len(s.things) == 2][
        :count
    ]

    def states(said: list[world.Scene]) -> torch.Tensor:
        ids = tokenizer(
            [world.caption(s) for s in said],
            padding="max_length",
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return clip.text_model(ids.to(clip.device)).last_hidden_state.float()

    told = states(scenes)
    other = {
        "sides": states([data.mirror(s) for s in scenes]),
        "colours": states([data.alter(s, np.random.default_rng(i)) for i, s in enumerate(scenes)]),
    }
    return {
        name: ((states - told).square().mean() / told.var(dim=(0, 1)).mean()).sqrt().item()
        for name, states in other.items()
    }


@torch.inference_mode()
def retrieval(
    clip, tokenizer, split: str, count: int, work: str, among: int = 192
) -> dict[str, float]:
    """Share of plain captions that find their picture first (top-1) among ``among`` pictures, and the reverse; equal captions count as one."""
    images = data.pictures(split, count, work)
    hits = {"text_to_image": [], "image_to_text": []}
    for start in range(0, count - among + 1, among):
        captions = [world.caption(data.scene(split, i)) for i in range(start, start + among)]
        ids = tokenizer(captions, padding=True, return_tensors="pt").input_ids
        text, image = features(
            clip, ids.to(clip.device), data.to_tensor(images[start : start + among]).to(clip.device)
        )
        similarity = (text @ image.T).cpu()
        for name, best in (
            ("text_to_image", similarity.argmax(1)),
            ("image_to_text", similarity.argmax(0)),
        ):
            hits[name] += [captions[i] == captions[j] for i, j in enumerate(best.tolist())]
    return {name: float(np.mean(h)) for name, h in hits.items()}


def train(settings: CLIPSettings) -> None:
    if settings.hold and not settings.start_from:
        raise ValueError(
            "--hold keeps the text states near those of a model: name it with --start-from (sdlearn/tiny_sd, say)."
        )
    images = {
        split: data.pictures(split, settings.pictures, settings.work)
        for split in ("train", "mirrored")
    }
    scenes = {split: [data.scene(split, i) for i in range(settings.pictures)] for split in images}
    tokenizer = hub.load_tokenizer(settings.out)
    fresh = (
        hub.load_part("clip", settings.start_from)
        if settings.start_from
        else models.build_clip(tokenizer)
    )
    run = Run("clip", settings, fresh, lr=settings.lr, weight_decay=settings.weight_decay, ema=0.99)
    if run.device.type == "cpu":
        models.plain_attention(run.raw)
    teacher = (
        hub.load_part("clip", settings.start_from).to(run.device).text_model
        if settings.hold
        else None
    )
    next_look = run.elapsed + 120
    for step, rng in run:
        picks = pick(scenes["train"], settings, rng)
        twins = rng.random() < settings.mirrored
        if twins:
            picks = picks[rng.permutation(len(picks))[: settings.batch // 2]]
        shown = [(split, i) for split in ("train", "mirrored")[: 1 + twins] for i in picks]
        say = data.telling if twins else world.caption
        captions = [say(scenes[split][i], rng) for split, i in shown]
        ids = tokenizer(
            captions,
            padding="max_length",
            max_length=settings.tokens,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        pixels = data.to_tensor(np.stack([images[split][i] for split, i in shown]))
        with run.accelerator.autocast():
            text, image = features(run.model, ids.to(run.device), pixels.to(run.device))
        plain = np.array([world.caption(scenes[split][i]) for split, i in shown])
        loss = contrastive_loss(
            text,
            image,
            run.raw.logit_scale,
            torch.from_numpy(plain[:, None] == plain[None, :]).to(text.device),
        )
        moved = torch.zeros(())
        if teacher is not None:
            kept = [
                (scenes["train"][i], int(rng.integers(2**62))) for i in picks[: settings.batch // 8]
            ]
            said = [
                world.caption(side(scene), np.random.default_rng(wording))
                for side in (lambda s: s, data.mirror)
                for scene, wording in kept
            ]
            half = len(kept)
            with run.accelerator.autocast():
                padded = tokenizer(
                    [*said[:half], "", *said[half:], ""],
                    padding="max_length",
                    truncation=True,
                    return_tensors="pt",
                ).input_ids.to(run.device)
                moved = drift(run.raw.text_model, teacher, padded.unflatten(0, (2, -1)))
            loss = loss + settings.hold * moved
        right = (
            (text @ image.T)
            .argmax(1)
            .eq(torch.arange(len(text), device=text.device))
            .float()
            .mean()
        )
        run.update(loss, top1=right, drift=moved)
        if run.elapsed > next_look and run.accelerator.is_main_process:
            next_look = run.elapsed + 120
            heard = loudness(run.best, tokenizer, "seen", 100)
            side = np.mean(sides(run.best, tokenizer, "seen", 200))
            print(
                f"\nclip step {step}: {retrieval(run.best, tokenizer, 'seen', 384, settings.work)}, side {side:.1%}, {heard}",
                flush=True,
            )
    if run.accelerator.is_main_process:
        hub.save(settings.out, clip=run.best)
        print(f"held-out scenes: {retrieval(run.best, tokenizer, 'seen', 960, settings.work)}")

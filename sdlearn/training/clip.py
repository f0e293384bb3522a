"""Train a CLIP: a text tower and an image tower that agree on which caption belongs to which
picture (Radford et al. 2021).

The text tower then conditions the U-Net; the image tower ships too, for chapter 04.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from sdlearn import hub, models, world
from sdlearn.training import data
from sdlearn.training.common import Run, Settings, ship
from sdlearn.training.prepare import prepare

LOOK_EVERY = 120  # seconds


@dataclass
class CLIPSettings(Settings):
    """Settings of CLIP's training."""

    minutes: float = 10.0
    # data
    pictures: int = 20_000
    batch: int = 192  # the more captions compete, the finer the differences that must be learned
    # Share of the batches that show one place at one time: only things, colors and positions are
    # left to tell pictures apart by. Without them the towers learn sky and ground first, and the
    # words for things late.
    alike: float = 0.6
    # Share of the batches in which each picture stands beside its mirrored scene, and captions
    # say where things are. Without them the towers see a bag of words (Yuksekgonul et al. 2023):
    # their vectors did not say which of two things stands on the left.
    mirrored: float = 0.85
    # Weight of the loss by which the states at the padding repeat what the end token's state says
    # of the sentence: the U-Net reads all 77 places, so none of them should be random.
    padding_weight: float = 0.1
    text: bool = True  # --no-text: only the image tower learns, so the U-Net stays valid
    # optimizer
    lr: float = 1e-3
    weight_decay: float = 0.05

    needs = ("tokenizer",)
    splits = ("train", "mirrored", "seen")
    shares = ("alike", "mirrored")


def towers(
    clip: Any, ids: torch.Tensor, pixels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Unit-length (text, image) features, (B, 128) each, and the text states (B, tokens, 128)."""
    out = clip(input_ids=ids, pixel_values=pixels)
    states = out.text_model_output.last_hidden_state
    return out.text_embeds.float(), out.image_embeds.float(), states.float()


def contrastive_loss(
    text: torch.Tensor,
    image: torch.Tensor,
    logit_scale: torch.Tensor,
    same: torch.Tensor | None = None,
) -> torch.Tensor:
    """Symmetric cross-entropy over the similarity matrix: each caption finds its picture, each
    picture its caption.

    ``same`` (B, B) is true where two pictures show the same scene: they share the target evenly
    (default: no two do).
    """
    logits = logit_scale.exp().clamp(max=100) * text @ image.T  # (B, B)
    if same is None:
        target = torch.eye(len(logits), device=logits.device)
    else:
        target = same / same.sum(1, keepdim=True)
    cross_entropy = torch.nn.functional.cross_entropy
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def padding_loss(states: torch.Tensor, ids: torch.Tensor, end: int) -> torch.Tensor:
    """How far the states behind the end token are from saying what its state says.

    ``states`` (B, tokens, width), ``ids`` (B, tokens), ``end``: id of the end token, which also
    pads. What tells sentences apart is compared: each place's states minus their mean over the
    batch. 0 is the same, 1 is what states that know nothing have.
    """
    first = ids.eq(end).int().argmax(1)  # (B,)
    wanted = states[torch.arange(len(states)), first].detach()
    behind = torch.arange(ids.shape[1], device=ids.device) > first[:, None]  # (B, tokens)
    there = behind[..., None].float()
    mean = (states * there).sum(0) / there.sum(0).clamp(min=1)  # (tokens, width)
    apart = (states - mean) - (wanted - wanted.mean(0))[:, None]
    error = (apart.square() * there).sum() / there.sum().clamp(min=1)
    return error / wanted.var(0, correction=0).sum().clamp(min=1e-6)


@dataclass
class Shelf:
    """What a batch is picked from, on the device: pictures (2, N, ...) and ids (2, N, 9, 77) of
    scenes and of the mirrored ones, and the number of each plain caption (2, N)."""

    pictures: list[torch.Tensor]
    ids: list[torch.Tensor]
    names: torch.Tensor
    groups: list[np.ndarray]  # numbers of the scenes of one place at one time


def fill_shelf(settings: CLIPSettings, tokenizer: Any, device: torch.device) -> Shelf:
    """Draw, say and tokenize all that a training picks from."""
    count, splits = settings.pictures, ("train", "mirrored")
    pictures = [data.pictures_tensor(s, count, settings.work).to(device) for s in splits]
    ids = [data.token_ids(s, count, tokenizer, settings.work).to(device) for s in splits]
    plain = torch.cat([one[:, 0] for one in ids])  # the same row of ids is the same caption
    names = plain.unique(dim=0, return_inverse=True)[1].unflatten(0, (2, count))
    groups: dict[tuple[str, str], list[int]] = {}
    for i in range(count):
        scene = data.scene("train", i)
        groups.setdefault((scene.place, scene.time), []).append(i)
    return Shelf(pictures, ids, names, [np.array(group) for group in groups.values()])


def pick_batch(
    shelf: Shelf, settings: CLIPSettings, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids (B, 77), pixels (B, 3, 128, 128) and the names (B,) of the scenes of one batch.

    Any scenes, or (a share ``alike`` of the batches) only those of one place at one time; each
    alone, or (a share ``mirrored``) beside its mirrored scene.
    """
    device = shelf.names.device
    both = rng.random() < settings.mirrored
    pool = np.arange(shelf.names.shape[1])
    if rng.random() < settings.alike:
        pool = shelf.groups[rng.integers(len(shelf.groups))]
    count = min(settings.batch // 2 if both else settings.batch, len(pool))
    picks = torch.from_numpy(rng.choice(pool, max(count, 1), replace=False)).to(device)
    wordings = data.WITH_SIDES if both else data.ANY_WORDING
    kinds = range(2) if both else range(1)
    which = torch.from_numpy(rng.choice(wordings, (2, len(picks)))).to(device)
    ids = torch.cat([shelf.ids[k][picks, which[k]] for k in kinds]).long()
    pixels = torch.cat([data.to_pixels(shelf.pictures[k][picks]) for k in kinds])
    return ids, pixels, torch.cat([shelf.names[k][picks] for k in kinds])


def with_sides(split: str, count: int) -> list[int]:
    """Numbers of the first scenes of a split that differ from their mirrored scenes."""
    numbers = (i for i in range(20 * count) if data.scene(split, i).things[0].position != "middle")
    return [next(numbers) for _ in range(count)]


@torch.inference_mode()
def nearer_than_mirrored(clip: Any, tokenizer: Any, split: str, count: int) -> list[bool]:
    """For scenes of no training, whether the plain caption is nearer to its own picture than to
    that of the mirrored scene (chance is one half)."""
    numbered = [(i, data.scene(split, i)) for i in with_sides(split, count)]
    pairs = [(i, one) for i, scene in numbered for one in (scene, world.mirror(scene))]
    drawn = np.stack([np.asarray(world.draw(one, seed=i)) for i, one in pairs])
    said = [world.caption(scene) for _, scene in numbered]
    ids = tokenizer(said, padding="max_length", return_tensors="pt").input_ids
    text, image, _ = towers(clip, ids.to(clip.device), data.to_pixels(drawn).to(clip.device))
    own, other = (text[:, None] * image.unflatten(0, (-1, 2))).sum(-1).T
    return (own > other).tolist()


@torch.inference_mode()
def shift_by_sides(clip: Any, tokenizer: Any, split: str, count: int) -> float:
    """How far the 77 text states of plain captions move when left and right are exchanged: root
    mean square, in units of their standard deviation. What hardly moves them, a U-Net hardly
    learns."""
    scenes = [data.scene(split, i) for i in with_sides(split, count)]
    states = []
    for said in (scenes, [world.mirror(scene) for scene in scenes]):
        texts = [world.caption(scene) for scene in said]
        ids = tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
        states.append(clip.text_model(ids.to(clip.device)).last_hidden_state.float())
    moved = (states[0] - states[1]).square().mean()
    return (moved / states[0].var(dim=(0, 1)).mean()).sqrt().item()


@torch.inference_mode()
def retrieval(
    clip: Any, tokenizer: Any, split: str, count: int, work: str, *, among: int = 192
) -> dict[str, list[bool]]:
    """For each of ``count`` plain captions, whether it finds its picture first among ``among``
    ("text_to_image"), and the reverse; equal captions count as one."""
    images = data.pictures(split, count, work)
    hits: dict[str, list[bool]] = {"text_to_image": [], "image_to_text": []}
    for start in range(0, count - among + 1, among):
        said = [world.caption(data.scene(split, i)) for i in range(start, start + among)]
        ids = tokenizer(said, padding="max_length", return_tensors="pt").input_ids
        pixels = data.to_pixels(images[start : start + among])
        text, image, _ = towers(clip, ids.to(clip.device), pixels.to(clip.device))
        similarity = (text @ image.T).cpu()
        for name, axis in (("text_to_image", 1), ("image_to_text", 0)):
            best = similarity.argmax(axis).tolist()
            hits[name] += [said[i] == said[j] for i, j in enumerate(best)]
    return hits


def how_good(clip: Any, tokenizer: Any, settings: CLIPSettings, count: int = 192) -> str:
    """What CLIP can do so far, in one line."""
    found = retrieval(clip, tokenizer, "seen", count, settings.work)
    shares = {name: float(np.mean(row)) for name, row in found.items()}
    nearer = np.mean(nearer_than_mirrored(clip, tokenizer, "seen", 200))
    moved = shift_by_sides(clip, tokenizer, "seen", 100)
    told = ", ".join(f"{name} {value:.1%}" for name, value in shares.items())
    return f"{told}, nearer than mirrored {nearer:.1%}, states moved by sides {moved:.2f}"


def train_clip(settings: CLIPSettings) -> None:
    """Train CLIP and write both towers and the text encoder into ``--out``."""
    prepare(settings)
    tokenizer = hub.load_tokenizer(settings.out)
    source = settings.start_from
    clip = hub.load_part("clip", source) if source else models.build_clip(tokenizer)
    clip.text_model.requires_grad_(settings.text)
    run = Run("clip", settings, clip, weight_decay=settings.weight_decay, ema=0.99)
    if run.device.type == "cpu":
        models.plain_attention(run.raw)
    with run.main_first():
        shelf = fill_shelf(settings, tokenizer, run.device)
        data.pictures("seen", 960, settings.work)
    model, next_look = run.compiled(), run.elapsed + LOOK_EVERY
    for step, rng in run:
        ids, pixels, names = pick_batch(shelf, settings, rng)
        with run.accelerator.autocast():
            text, image, states = towers(model, ids, pixels)
        same = names[:, None] == names[None, :]
        loss = contrastive_loss(text, image, run.raw.logit_scale, same)
        padding = padding_loss(states, ids, tokenizer.eos_token_id)
        top = (text @ image.T).argmax(1)
        found = (names[top] == names).float().mean()
        run.update(loss + settings.padding_weight * padding, top1=found, padding=padding)
        if run.elapsed > next_look and run.is_main:
            next_look = run.elapsed + LOOK_EVERY
            print(f"\nclip step {step}: {how_good(run.best, tokenizer, settings)}", flush=True)
    if run.is_main:
        ship(settings.out, clip=run.best)
        print(f"scenes of no training: {how_good(run.best, tokenizer, settings, 960)}")

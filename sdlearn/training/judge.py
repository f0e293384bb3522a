"""Train the judge (``sdlearn/judge.py``): it learns what a picture shows from drawings only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from tqdm.auto import tqdm

from sdlearn import hub, world
from sdlearn.judge import FILE, Judge, words_of_world
from sdlearn.training import data
from sdlearn.training.common import Run, Settings, fast_bf16, kept_file
from sdlearn.training.prepare import prepare


@dataclass
class JudgeSettings(Settings):
    """Settings of the judge's training."""

    minutes: float = 6.0
    # data
    pictures: int = 20_000
    batch: int = 96
    # Those it will judge have been through the autoencoder: half of the batches are drawings
    # after such a round trip, and half of all batches come softened or noisy besides.
    round_trip: float = 0.5
    soften: float = 0.5
    # optimizer
    lr: float = 1.5e-3

    needs = ("vae",)
    splits = ("judge",)
    shares = ("round_trip", "soften")


def targets(scenes: list[world.Scene]) -> dict[str, torch.Tensor]:
    """Class numbers: kind and colour (B, 3), place and time (B,)."""
    places = len(world.POSITIONS)
    kind = torch.full((len(scenes), places), len(world.KINDS))
    colour = torch.full((len(scenes), places), len(world.COLOURS))
    for row, scene in enumerate(scenes):
        for thing in scene.things:
            at = world.POSITIONS.index(thing.position)
            kind[row, at] = world.KINDS.index(thing.kind)
            colour[row, at] = world.COLOURS.index(thing.colour)
    return {
        "kind": kind,
        "colour": colour,
        "place": torch.tensor([world.PLACES.index(s.place) for s in scenes]),
        "time": torch.tensor([world.TIMES.index(s.time) for s in scenes]),
    }


def soften(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Shrink and enlarge by a random factor and add a little noise: what an autoencoder does to
    edges, roughly."""
    side = int(rng.integers(40, 120))
    small = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
    back = F.interpolate(small, size=pixels.shape[-2:], mode="bilinear")
    return back + float(rng.uniform(0, 0.08)) * torch.randn_like(pixels)


@torch.inference_mode()
def round_trips(vae: Any, images: torch.Tensor, work: str, batch: int = 50) -> torch.Tensor:
    """Pictures after encoding and decoding, uint8 (count, 128, 128, 3).

    Kept on disk until the autoencoder changes.
    """

    def make() -> np.ndarray:
        rows = []
        for i in tqdm(range(0, len(images), batch), desc="round trips"):
            x = data.to_pixels(images[i : i + batch].to(vae.device))
            with torch.autocast(vae.device.type, torch.bfloat16, enabled=fast_bf16(vae.device)):
                y = vae.decode(vae.encode(x).latent_dist.mean).sample
            y = ((y.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            rows.append(y.permute(0, 2, 3, 1).cpu().numpy())
        return np.concatenate(rows)

    weights = sum(p.double().abs().sum().item() for p in vae.parameters())
    path = Path(work) / f"round_trips_judge_{len(images)}_{weights:.6e}.npy"
    return kept_file(path, make)


def train_judge(settings: JudgeSettings) -> None:
    """Train the judge and write ``judge.safetensors`` into ``--out``."""
    from safetensors.torch import save_file

    prepare(settings)
    run = Run("judge", settings, Judge().to(memory_format=torch.channels_last), ema=0.995)
    with run.main_first():
        drawn = data.pictures_tensor("judge", settings.pictures, settings.work)
        vae = hub.load_part("vae", settings.out)
        vae = vae.to(run.device, memory_format=torch.channels_last)
        after = round_trips(vae, drawn, settings.work).to(run.device)
    drawn = drawn.to(run.device)
    scenes = [data.scene("judge", i) for i in range(settings.pictures)]
    wanted = {name: rows.to(run.device) for name, rows in targets(scenes).items()}
    for _, rng in run:
        picks = torch.from_numpy(rng.integers(len(drawn), size=settings.batch)).to(run.device)
        source = after if rng.random() < settings.round_trip else drawn
        pixels = data.to_pixels(source[picks])
        if rng.random() < settings.soften:
            pixels = soften(pixels, rng)
        with run.accelerator.autocast():
            out = run.model(pixels)
        loss = sum(
            F.cross_entropy(out[name].float().flatten(0, -2), rows[picks].flatten())
            for name, rows in wanted.items()
        )
        run.update(loss)
    if run.is_main:
        weights = {k: v.half().contiguous().cpu() for k, v in run.best.state_dict().items()}
        save_file(weights, Path(settings.out) / FILE, metadata=words_of_world())

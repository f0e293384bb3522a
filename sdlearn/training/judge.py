"""Train the judge: a classifier that says what a picture shows, learnt from drawn scenes only.

It measures Tiny SD and is never used to train it or to pick its pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from sdlearn import compression, hub, world
from sdlearn.training import data
from sdlearn.training.common import Run, Settings, fast_bf16

WEIGHTS = Path(__file__).parent / "judge.safetensors"


@dataclass
class JudgeSettings(Settings):
    minutes: float = 6.0
    # data
    pictures: int = 20_000
    batch: int = 96
    # Those it will judge have been through the autoencoder: half of the batches are drawings after such a round trip,
    # and half of all batches come softened or noisy besides.
    round_trip: float = 0.5
    soften: float = 0.5
    # optimiser
    lr: float = 1.5e-3


class Judge(nn.Module):
    """Pictures (B, 3, 128, 128) in -1..1 -> logits: kind and colour at each of the three positions (the last class is "nothing"), place, time."""

    def __init__(self, width: int = 32):
        super().__init__()
        sizes = {
            "kind": 3 * (len(world.KINDS) + 1),
            "colour": 3 * (len(world.COLOURS) + 1),
            "place": len(world.PLACES),
            "time": len(world.TIMES),
        }
        channels = (3, width, 2 * width, 3 * width, 4 * width)
        stages = []
        for a, b in zip(channels, channels[1:], strict=False):
            stages += [nn.Conv2d(a, b, 4, 2, 1), nn.GroupNorm(4, b), nn.SiLU()]
        self.body = nn.Sequential(
            *stages,
            nn.Conv2d(channels[-1], 64, 1),
            nn.SiLU(),
            nn.Flatten(),
            nn.Linear(64 * 8 * 8, 128),
            nn.SiLU(),
        )
        self.heads = nn.ModuleDict({name: nn.Linear(128, size) for name, size in sizes.items()})

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.body(pixels)
        out = {name: head(features) for name, head in self.heads.items()}
        return {
            "features": features,
            **out,
            "kind": out["kind"].unflatten(1, (3, -1)),
            "colour": out["colour"].unflatten(1, (3, -1)),
        }

    @torch.inference_mode()
    def look(
        self, images: list[Image.Image], batch: int = 100
    ) -> tuple[list[world.Scene | None], np.ndarray]:
        """What each picture shows (None where no valid scene can be read), and its features (N, 128)."""
        scenes, features = [], []
        for i in range(0, len(images), batch):
            pixels = np.stack(
                [
                    np.asarray(
                        im.convert("RGB").resize((128, 128), Image.Resampling.LANCZOS)
                        if im.size != (128, 128)
                        else im.convert("RGB")
                    )
                    for im in images[i : i + batch]
                ]
            )
            out = self(data.to_tensor(pixels))
            features.append(out["features"].numpy())
            best = {k: v.argmax(-1).tolist() for k, v in out.items() if k != "features"}
            scenes += [
                _read(*row)
                for row in zip(
                    best["kind"], best["colour"], best["place"], best["time"], strict=True
                )
            ]
        return scenes, np.concatenate(features)


def _read(kinds: list[int], colours: list[int], place: int, time: int) -> world.Scene | None:
    things = [
        world.Thing(world.KINDS[k], world.COLOURS[c], position)
        for k, c, position in zip(kinds, colours, world.POSITIONS, strict=True)
        if k < len(world.KINDS) and c < len(world.COLOURS)
    ]
    try:
        return world.Scene(tuple(things), world.PLACES[place], world.TIMES[time])
    except ValueError:
        return None


def targets(scenes: list[world.Scene]) -> dict[str, torch.Tensor]:
    """Class numbers: kind and colour (B, 3), place and time (B,)."""
    kind = torch.full((len(scenes), 3), len(world.KINDS))
    colour = torch.full((len(scenes), 3), len(world.COLOURS))
    for row, scene in enumerate(scenes):
        for thing in scene.things:
            at = world.POSITIONS.index(thing.position)
            kind[row, at], colour[row, at] = (
                world.KINDS.index(thing.kind),
                world.COLOURS.index(thing.colour),
            )
    return {
        "kind": kind,
        "colour": colour,
        "place": torch.tensor([world.PLACES.index(s.place) for s in scenes]),
        "time": torch.tensor([world.TIMES.index(s.time) for s in scenes]),
    }


def soften(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Shrink and enlarge by a random factor and add a little noise: what an autoencoder does to edges, roughly."""
    side = int(rng.integers(40, 120))
    small = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
    noise = torch.randn(
        pixels.shape, generator=torch.Generator().manual_seed(int(rng.integers(2**62)))
    ).to(pixels.device)
    return (
        F.interpolate(small, size=pixels.shape[-2:], mode="bilinear")
        + float(rng.uniform(0, 0.08)) * noise
    )


@torch.inference_mode()
def round_trips(autoencoder, images: np.ndarray, work: str, batch: int = 50) -> np.ndarray:
    """Pictures after encoding and decoding, uint8 (count, 128, 128, 3), kept on disk until the autoencoder changes."""
    weights = sum(p.double().abs().sum().item() for p in autoencoder.parameters())
    path = Path(work) / f"round_trips_judge_{len(images)}_{weights:.6e}.npy"
    if not path.exists():
        rows = []
        for i in tqdm(range(0, len(images), batch), desc="round trips"):
            with torch.autocast(
                autoencoder.device.type, torch.bfloat16, enabled=fast_bf16(autoencoder.device)
            ):
                x = data.to_tensor(images[i : i + batch]).to(
                    autoencoder.device, memory_format=torch.channels_last
                )
                y = autoencoder.decode(autoencoder.encode(x).latent_dist.mean).sample
            rows.append(np.stack(compression.to_images(y)))
        np.save(path.with_suffix(".new.npy"), np.concatenate(rows))
        path.with_suffix(".new.npy").replace(path)
    return np.load(path, mmap_mode="r")


def same(scene: world.Scene, seen: world.Scene | None, positions: bool = False) -> bool:
    """Does the judge see every named thing with its colour, and the place and the time? With ``positions``, each in its place too."""
    if seen is None or (scene.place, scene.time) != (seen.place, seen.time):
        return False
    read = [
        sorted((t.kind, t.colour, t.position if positions else "") for t in s.things)
        for s in (scene, seen)
    ]
    return read[0] == read[1]


def load(path: Path = WEIGHTS) -> Judge:
    """The trained judge.

    Raises:
        FileNotFoundError: if it has not been trained yet.
    """
    if not path.exists():
        raise FileNotFoundError(
            f"There is no judge at {path}: train it with `python -m sdlearn.training judge` (about six minutes)."
        )
    judge = Judge()
    judge.load_state_dict({k: v.float() for k, v in load_file(path).items()})
    return judge.eval()


def train(settings: JudgeSettings, path: Path = WEIGHTS) -> None:
    images = data.pictures("judge", settings.pictures, settings.work)
    scenes = [data.scene("judge", i) for i in range(settings.pictures)]
    run = Run(
        "judge", settings, Judge().to(memory_format=torch.channels_last), lr=settings.lr, ema=0.995
    )
    after = images
    if settings.round_trip:
        after = round_trips(
            hub.load_part("vae", settings.out).to(run.device, memory_format=torch.channels_last),
            images,
            settings.work,
        )
    for _, rng in run:
        picks = np.sort(rng.choice(len(images), settings.batch, replace=False))
        source = after if rng.random() < settings.round_trip else images
        pixels = data.to_tensor(source[picks]).to(run.device, memory_format=torch.channels_last)
        if rng.random() < settings.soften:
            pixels = soften(pixels, rng)
        with run.accelerator.autocast():
            out = run.model(pixels)
        wanted = {k: v.to(run.device) for k, v in targets([scenes[i] for i in picks]).items()}
        loss = sum(
            F.cross_entropy(out[k].float().flatten(0, -2), v.flatten()) for k, v in wanted.items()
        )
        run.update(loss)
    if run.accelerator.is_main_process:
        save_file({k: v.half().contiguous() for k, v in run.best.state_dict().items()}, path)

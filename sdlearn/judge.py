"""The judge: a classifier, trained on drawings only, that says what a picture shows.

It measures Tiny SD (``python -m sdlearn.measure``) and tells a reader what came of a prompt; it is
never used to train the model or to pick its pictures. ``sdlearn/training/judge.py`` trains it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from sdlearn import compression, hub, world

FILE = "judge.safetensors"  # in the model's folder, beside the parts of the pipeline
SIDE = 128  # pixels: what it is trained on


# ------------------------------------------------------------------------ what a prompt asks for


@dataclass(frozen=True)
class Request:
    """A thing asked for; ``colour`` and ``position`` are None where the prompt leaves them open."""

    kind: str
    colour: str | None = None
    position: str | None = None

    def fits(self, thing: world.Thing) -> bool:
        """Whether a thing is what was asked for."""
        return self.kind == thing.kind and all(
            wish in (None, has)
            for wish, has in ((self.colour, thing.colour), (self.position, thing.position))
        )

    def __str__(self) -> str:
        noun = f"{self.colour} {self.kind}" if self.colour else self.kind
        where = f" {world.POSITION_WORDS[self.position]}" if self.position else ""
        return f"{world.article(noun)} {noun}{where}"


@dataclass(frozen=True)
class Asked:
    """What a prompt asks for; ``place`` and ``time`` are None where it leaves them open."""

    things: tuple[Request, ...]
    place: str | None = None
    time: str | None = None

    @property
    def words(self) -> tuple[str, ...]:
        """Each wish in words: "a red cat on the left", "in the snow", "at night"."""
        said = [str(request) for request in self.things]
        said += [world.PLACE_WORDS[self.place][0]] if self.place else []
        return (*said, *([world.TIME_WORDS[self.time][0]] if self.time else []))


def read_prompt(prompt: str | world.Scene) -> Asked:
    """What a prompt asks for, read by the word lists of the world; other words are passed over.

    A colour belongs to the thing named next, "to the left of" to the things on both sides of it,
    any other position to the thing before it, or to the next one where none is open ("on the left
    a cat"). Where a prompt names two places or two times, the last one counts.
    """
    if isinstance(prompt, world.Scene):
        things = tuple(Request(t.kind, t.colour, t.position) for t in prompt.things)
        return Asked(things, prompt.place, prompt.time)
    words = re.findall(r"[^\W\d_]+", prompt.lower())
    found: list[dict] = []
    colour = position = place = time = None
    opened = False  # whether "and" has begun a new thing since the last one
    for i, word in enumerate(words):
        if word in world.COLOURS:
            colour = word
        elif word in world.PLACES:
            place, colour = word, None  # "in a green meadow": the colour is the meadow's
        elif word in world.TIMES:
            time = word
        elif word == "and":
            opened = True
        elif word in world.KINDS:
            found.append({"kind": word, "colour": colour, "position": position})
            colour, position, opened = None, None, False
        elif word in world.POSITIONS:
            last = found[-1] if found and not opened else None
            if last is not None and last["position"] is None:
                last["position"] = word
                if words[i + 1 : i + 2] == ["of"] and word != "middle":
                    position = {"left": "right", "right": "left"}[word]
            else:
                position = word
    return Asked(tuple(Request(**one) for one in found), place, time)


# ----------------------------------------------------------------------- what a picture shows


@dataclass(frozen=True)
class Seen:
    """What the judge reads from a picture, each answer with its probability, 0 to 1."""

    things: tuple[world.Thing, ...]
    place: str
    time: str
    sure: tuple[float, ...]  # of each thing (its kind and colour), of the place, of the time
    features: np.ndarray = field(repr=False, compare=False)  # (128,)

    @property
    def scene(self) -> world.Scene | None:
        """The scene, or None where what was read is none: nothing, or three things."""
        try:
            return world.Scene(self.things, self.place, self.time)
        except ValueError:
            return None

    @property
    def words(self) -> tuple[str, ...]:
        """What is seen in words, in the order of ``sure``."""
        things = tuple(Request(t.kind, t.colour, t.position) for t in self.things)
        return Asked(things, self.place, self.time).words


@dataclass(frozen=True)
class Comparison:
    """What was asked for beside what is seen."""

    asked: Asked
    seen: Seen
    missing: tuple[str, ...]  # what was asked for and is not there, in the prompt's words
    extra: tuple[str, ...]  # things that are there and were not asked for

    @property
    def right(self) -> bool:
        """Everything is there, where it was asked for, and nothing else."""
        return not self.missing and not self.extra


def compare_readings(asked: Asked, seen: Seen) -> Comparison:
    """Match each request to a thing that is seen; the fullest requests choose first."""
    left, there = list(seen.things), set()
    openness = [(r.colour is None) + (r.position is None) for r in asked.things]
    for k in sorted(range(len(openness)), key=openness.__getitem__):
        match = next((thing for thing in left if asked.things[k].fits(thing)), None)
        if match is not None:
            left.remove(match)
            there.add(k)
    missing = [str(request) for k, request in enumerate(asked.things) if k not in there]
    if asked.place not in (None, seen.place):
        missing.append(world.PLACE_WORDS[asked.place][0])
    if asked.time not in (None, seen.time):
        missing.append(world.TIME_WORDS[asked.time][0])
    extra = tuple(str(Request(t.kind, t.colour, t.position)) for t in left)
    return Comparison(asked, seen, tuple(missing), extra)


def same_scene(scene: world.Scene, seen: world.Scene | None, *, positions: bool = False) -> bool:
    """Whether ``seen`` has every thing with its colour, the place and the time, and no more.

    With ``positions``, each thing where it was asked for, too.
    """
    if seen is None or (scene.place, scene.time) != (seen.place, seen.time):
        return False
    read = [
        sorted((t.kind, t.colour, t.position if positions else "") for t in s.things)
        for s in (scene, seen)
    ]
    return read[0] == read[1]


# ---------------------------------------------------------------------------------- the network


class Judge(nn.Module):
    """Pictures (B, 3, 128, 128) in -1..1 -> logits.

    Kind and colour at each of the three positions (the last class is "nothing"), place, time.
    """

    def __init__(self, width: int = 32):
        super().__init__()
        channels = (3, width, 2 * width, 3 * width, 4 * width)
        stages = []
        for a, b in zip(channels, channels[1:], strict=False):
            stages += [nn.Conv2d(a, b, 4, 2, 1), nn.GroupNorm(4, b), nn.SiLU()]
        stages += [nn.Conv2d(channels[-1], 64, 1), nn.SiLU(), nn.Flatten()]
        self.body = nn.Sequential(*stages, nn.Linear(64 * 8 * 8, 128), nn.SiLU())
        self.heads = nn.ModuleDict({name: nn.Linear(128, n) for name, n in classes().items()})

    def forward(self, pixels: torch.Tensor) -> dict[str, torch.Tensor]:
        features = self.body(pixels)
        out = {name: head(features) for name, head in self.heads.items()}
        for name in ("kind", "colour"):
            out[name] = out[name].unflatten(1, (len(world.POSITIONS), -1))
        return {"features": features, **out}

    @torch.inference_mode()
    def look(self, images: list[Image.Image], batch: int = 100) -> list[Seen]:
        """What each picture shows, and how sure it is of that."""
        seen = []
        device = next(self.parameters()).device
        for i in range(0, len(images), batch):
            sized = [_sized(image) for image in images[i : i + batch]]
            out = self(compression.to_tensor(sized).to(device))
            features = out.pop("features").cpu().numpy()
            best = {name: logits.softmax(-1).max(-1) for name, logits in out.items()}
            rows = {k: (v.indices.tolist(), v.values.tolist()) for k, v in best.items()}
            seen += [_seen(rows, k, features[k]) for k in range(len(sized))]
        return seen

    def compare(self, asked: str | world.Scene, picture: Image.Image) -> Comparison:
        """What a prompt (or a scene) asks for beside what its picture shows."""
        return compare_readings(read_prompt(asked), self.look([picture])[0])


def _sized(image: Image.Image) -> Image.Image:
    image = image.convert("RGB")
    if image.size == (SIDE, SIDE):
        return image
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _seen(rows: dict[str, tuple[list, list]], k: int, features: np.ndarray) -> Seen:
    """Picture ``k`` of a batch: ``rows`` has class numbers and probabilities of each answer."""
    things, sure = [], []
    for at, position in enumerate(world.POSITIONS):
        kind, colour = (rows[name][0][k][at] for name in ("kind", "colour"))
        if kind < len(world.KINDS) and colour < len(world.COLOURS):
            things.append(world.Thing(world.KINDS[kind], world.COLOURS[colour], position))
            sure.append(rows["kind"][1][k][at] * rows["colour"][1][k][at])
    place, time = (rows[name][0][k] for name in ("place", "time"))
    sure += [rows[name][1][k] for name in ("place", "time")]
    return Seen(tuple(things), world.PLACES[place], world.TIMES[time], tuple(sure), features)


def classes() -> dict[str, int]:
    """How many numbers each answer has in this world."""
    return {
        "kind": len(world.POSITIONS) * (len(world.KINDS) + 1),
        "colour": len(world.POSITIONS) * (len(world.COLOURS) + 1),
        "place": len(world.PLACES),
        "time": len(world.TIMES),
    }


def words_of_world() -> dict[str, str]:
    """The lists a judge has learned, as they are kept in its file."""
    lists = {"kind": world.KINDS, "colour": world.COLOURS}
    lists |= {"place": world.PLACES, "time": world.TIMES}
    return {name: " ".join(words) for name, words in lists.items()}


def load_judge(folder: str | os.PathLike = hub.TINY_SD) -> Judge:
    """The trained judge of a model folder.

    Raises:
        FileNotFoundError: if the folder has none.
        ValueError: if its file is damaged, or it has learned another world.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no judge at {path}: train one with `python -m sdlearn.training judge "
            f"--out {folder}` (about six minutes)."
        )
    try:
        with safe_open(path, framework="pt") as file:
            told, weights = file.metadata() or {}, {k: file.get_tensor(k) for k in file.keys()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"The judge at {path} cannot be read ({error}): train it anew.") from error
    sizes = {name: weights.get(f"heads.{name}.bias", torch.empty(0)).numel() for name in classes()}
    lists = {name: told[name] for name in words_of_world() if name in told}
    if sizes != classes() or any(words_of_world()[name] != said for name, said in lists.items()):
        raise ValueError(
            f"The judge at {path} has learned another world than this one with its "
            f"{len(world.KINDS)} things and {len(world.PLACES)} places: take the model folder and "
            "the code of one version, or train the judge with `python -m sdlearn.training judge`."
        )
    judge = Judge()
    judge.load_state_dict({name: value.float() for name, value in weights.items()})
    return judge.eval()

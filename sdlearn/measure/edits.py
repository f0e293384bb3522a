"""Measure editing: does what was asked for come about, and does the rest stay as it was?

Three tasks on drawn scenes that training never saw: a second thing is added by inpainting, one of
two things is rubbed out, one color is told anew. The judge says what each picture shows; the part
that was to stay is compared pixel by pixel, beside what the autoencoder alone does to it. And the
prompt is switched on the way from a found noise, late and early. Writes ``edits.json``.
"""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from sdlearn import compression, editing, hub, sampling, world
from sdlearn.judge import Judge, load_judge, same_scene
from sdlearn.measure.results import Measurement, average, record, share, write_json


@dataclass
class EditsSettings(Measurement):
    """How the edits are made and how many."""

    scenes: int = 100
    steps: int = 25
    guidance_scale: float | None = None  # None takes the model's default
    keep: float = 0.8  # share of the steps in which the new prompt keeps the first one's attention
    switched: int = 16  # scenes whose prompt is switched on the way
    batch: int = 20


@dataclass
class Edits:
    """What was made so far, by name of the task."""

    pipe: object
    judge: Judge
    options: dict  # of sampling: num_inference_steps, guidance_scale
    keep: float
    right: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))
    kept: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def look(self, name: str, pictures: list[Image.Image], wanted: list[world.Scene]) -> None:
        """Judge the pictures of a task."""
        seen = self.judge.look(pictures)
        self.right[name] += [
            same_scene(scene, one.scene, positions=True)
            for scene, one in zip(wanted, seen, strict=True)
        ]


def side_mask(position: str, size: int = 128) -> Image.Image:
    """White where a thing on the left or right stands.

    It begins a quarter of the height down: sun and moon hang above it.
    """
    mask, left = Image.new("L", (size, size)), 0 if position == "left" else size // 2
    mask.paste(255, (left, size // 4, left + size // 2, size * 15 // 16))
    return mask


def fewer(scene: world.Scene) -> world.Scene:
    """The scene without its second thing."""
    return world.Scene(scene.things[:1], scene.place, scene.time)


def recolored(scene: world.Scene, rng: np.random.Generator) -> world.Scene:
    """The scene with another colour for its second thing, one that training drew."""
    first, thing = scene.things
    free = [c for c in world.COLOURS if c != thing.colour and (thing.kind, c) not in world.HELD_OUT]
    other = world.Thing(thing.kind, str(rng.choice(free)), thing.position)
    return world.Scene((first, other), scene.place, scene.time)


def inpaint_side(edits: Edits, part: list[tuple[int, world.Scene]], position: str) -> None:
    """Add the second thing where it stands on this side, and rub it out again.

    ``part``: (seed, scene) of scenes with two things.
    """
    part = [(i, s) for i, s in part if s.things[1].position == position]
    if not part:
        return
    mask, seeds, goal = side_mask(position), [i for i, _ in part], [s for _, s in part]
    single = [world.draw(fewer(s), seed=i) for i, s in part]
    whole = [world.caption(s) for s in goal]
    alone = [world.caption(world.Scene(s.things[1:], s.place, s.time)) for s in goal]

    def paint(pictures, prompts, **more):
        return editing.inpaint(
            edits.pipe, pictures, mask, prompts, seed=seeds, **edits.options, **more
        )

    added = paint(single, whole)
    edits.look("add", added, goal)
    edits.look("add_named_alone", paint(single, alone), goal)
    copies = compression.decode_latents(edits.pipe, compression.encode_image(edits.pipe, single))
    for name, pictures in (("add", added), ("autoencoder", copies)):
        edits.kept[name] += [
            editing.psnr_outside(a, b, mask) for a, b in zip(pictures, single, strict=True)
        ]
    full = [world.draw(s, seed=i) for i, s in part]
    goal = [fewer(s) for s in goal]
    wished = [world.caption(s) for s in goal]
    for name, avoided in (("erase", whole), ("erase_without_negative", "")):
        edits.look(name, paint(full, wished, negative_prompt=avoided), goal)


def tell_anew(edits: Edits, part: list[tuple[int, world.Scene]]) -> None:
    """Give the second thing another colour by inversion and a new prompt, with and without the
    first prompt's attention."""
    full = [world.draw(s, seed=i) for i, s in part]
    edits.look("drawn", full, [s for _, s in part])
    goal = [recolored(s, np.random.default_rng([9, i])) for i, s in part]
    prompts, new = [world.caption(s) for _, s in part], [world.caption(s) for s in goal]
    steps = edits.options["num_inference_steps"]
    path = list(editing.invert_steps(edits.pipe, full, prompts, num_inference_steps=steps))
    for name, keep in (("told_plainly", 0.0), ("retold", edits.keep)):
        before, after = editing.prompt_to_prompt(
            edits.pipe, prompts, new, path=path, keep=keep, **edits.options
        )
        edits.look(name, after, goal)
        edits.kept[name] += [
            editing.psnr_outside(a, b, side_mask(s.things[1].position))
            for a, b, s in zip(after, before, goal, strict=True)
        ]


def other_word(words: tuple[str, ...], word: str, rng: np.random.Generator) -> str:
    """Another one of ``words``."""
    return str(rng.choice([one for one in words if one != word]))


def one_change(scene: world.Scene, rng: np.random.Generator) -> dict[str, world.Scene]:
    """The scene of one thing with its color, place, time or kind exchanged, by pairs that
    training drew."""
    thing = scene.things[0]

    def drawn(**new: str) -> world.Scene:
        return world.Scene((replace(thing, **new),), scene.place, scene.time)

    kinds = tuple(k for k in world.KINDS if (k, thing.colour) not in world.HELD_OUT)
    colours = tuple(c for c in world.COLOURS if (thing.kind, c) not in world.HELD_OUT)
    return {
        "color": drawn(colour=other_word(colours, thing.colour, rng)),
        "place": replace(scene, place=other_word(world.PLACES, scene.place, rng)),
        "time": replace(scene, time=other_word(world.TIMES, scene.time, rng)),
        "kind": drawn(kind=other_word(kinds, thing.kind, rng)),
    }


def switch_prompt(
    edits: Edits, part: list[tuple[int, world.Scene]], steps: int = 20
) -> dict[int, dict[str, list[bool]]]:
    """Find the noise of drawings of one thing, go back from each level with another prompt.

    Returns:
        {steps that belong to the old prompt: {what changes: whether it came true, per scene}}.
    """
    scenes = [fewer(scene) for _, scene in part]
    drawings = [world.draw(scene, seed=i) for scene, (i, _) in zip(scenes, part, strict=True)]
    told = [world.caption(scene) for scene in scenes]
    path = list(editing.invert_steps(edits.pipe, drawings, told, num_inference_steps=steps))
    goals = [
        one_change(s, np.random.default_rng([10, i]))
        for s, (i, _) in zip(scenes, part, strict=True)
    ]
    guidance, found = edits.options["guidance_scale"], {}
    for start in range(0, steps, steps // 5):
        found[start] = {}
        for what in goals[0]:
            wished = [goal[what] for goal in goals]
            *_, last = sampling.sample_steps(
                edits.pipe,
                [world.caption(one) for one in wished],
                latents=path[-1 - start],
                start=start,
                sampler="ddim",
                num_inference_steps=steps,
                guidance_scale=guidance,
            )
            seen = edits.judge.look(compression.decode_latents(edits.pipe, last.prev_latents))
            pairs = zip(wished, seen, strict=True)
            found[start][what] = [same_scene(a, b.scene, positions=True) for a, b in pairs]
    return found


def judge_edits(
    pipe: Any, judge: Judge, settings: EditsSettings, scenes: list[world.Scene]
) -> dict[str, dict]:
    """All tasks on scenes of two things, of which the second is added, rubbed out or
    given another colour."""
    guidance = settings.guidance_scale
    guidance = hub.defaults_of(pipe).guidance_scale if guidance is None else guidance
    options = {"num_inference_steps": settings.steps, "guidance_scale": guidance}
    edits = Edits(pipe, judge, options, settings.keep)
    numbered = list(enumerate(scenes))
    for first in tqdm(range(0, len(scenes), settings.batch), desc="edits"):
        part = numbered[first : first + settings.batch]
        for position in ("left", "right"):
            inpaint_side(edits, part, position)
        tell_anew(edits, part)
    switched = switch_prompt(edits, numbered[: settings.switched])
    return {
        "right": {name: share(hits) for name, hits in edits.right.items()},
        "psnr_outside": {name: average(values) for name, values in edits.kept.items()},
        "switched": {
            str(k): {what: share(hits) for what, hits in row.items()} for k, row in switched.items()
        },
    }


def measure_edits(settings: EditsSettings) -> dict:
    """Measure editing with the model of a folder and write ``edits.json``."""
    torch.manual_seed(settings.seed)
    began = time.perf_counter()
    pipe = hub.load_pipeline(settings.model)
    scenes = [
        world.sample_scene(np.random.default_rng([6, i]), things=2) for i in range(settings.scenes)
    ]
    result = judge_edits(pipe, load_judge(settings.model), settings, scenes)
    told = ("scenes", "steps", "guidance_scale", "keep", "switched")
    result["settings"] = {name: getattr(settings, name) for name in told}
    if settings.guidance_scale is None:
        result["settings"]["guidance_scale"] = hub.defaults_of(pipe).guidance_scale
    result["measured"] = record(f"edits --scenes {settings.scenes}", pipe.device, began)
    write_json(Path(settings.out) / "edits.json", result)
    for group, label, unit in (("right", "right", "%"), ("psnr_outside", "untouched part", "dB")):
        for name, entry in result[group].items():
            low, high = entry["low"], entry["high"]
            value = f"{entry['value']:5.1f} {unit}"
            print(f"{name:24} {label} {value} ({low:.1f}-{high:.1f})")
    for k, row in result["switched"].items():
        told = ", ".join(f"{what} {entry['value']:.0f} %" for what, entry in row.items())
        print(f"prompt switched after {k} of 20 steps: {told}")
    return result

"""Measure editing: does what was asked for appear, vanish or change, and does the rest stay as it was? Writes ``edits.json`` into the model's folder.

Three tasks on drawn scenes that training never saw: a second thing is added by inpainting, one of two things is rubbed out, one colour is re-told. The judge says
what each picture shows; the part that was to stay is compared pixel by pixel, beside what the autoencoder alone does to it.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from sdlearn import compression, editing, hub, world
from sdlearn.training import judge as judging
from sdlearn.training.common import Settings, hardware
from sdlearn.training.evaluate import average, share


@dataclass
class EditsSettings(Settings):
    scenes: int = 100
    steps: int = 25
    guidance_scale: float = 5.0
    keep: float = 0.8  # share of the steps in which a re-telling keeps the first one's attention
    batch: int = 20


def side_mask(position: str, size: int = 128) -> Image.Image:
    """White where a thing on the left or right stands, from a quarter of the height down; sun and moon hang above it."""
    mask, left = Image.new("L", (size, size)), 0 if position == "left" else size // 2
    mask.paste(255, (left, size // 4, left + size // 2, size * 15 // 16))
    return mask


def fewer(scene: world.Scene) -> world.Scene:
    """The scene without its second thing."""
    return world.Scene(scene.things[:1], scene.place, scene.time)


def recoloured(scene: world.Scene, rng: np.random.Generator) -> world.Scene:
    """The scene with another colour for its second thing, one that training drew."""
    thing = scene.things[1]
    free = [c for c in world.COLOURS if c != thing.colour and (thing.kind, c) not in world.HELD_OUT]
    return world.Scene(
        (scene.things[0], world.Thing(thing.kind, str(rng.choice(free)), thing.position)),
        scene.place,
        scene.time,
    )


def measure(pipe, judge, settings: EditsSettings, scenes: list[world.Scene]) -> dict:
    """All three tasks on scenes of two things, of which the second is added, rubbed out or re-told."""
    kept: dict[str, list[float]] = {"autoencoder": [], "add": [], "told_plainly": [], "retold": []}
    done: dict[str, list[world.Scene | None]] = {
        "drawn": [],
        "add": [],
        "add_named_alone": [],
        "erase": [],
        "erase_without_negative": [],
        "told_plainly": [],
        "retold": [],
    }
    wanted: dict[str, list[world.Scene]] = {name: [] for name in done}
    options = {"num_inference_steps": settings.steps, "guidance_scale": settings.guidance_scale}

    def look(name: str, pictures: list[Image.Image], scenes: list[world.Scene]) -> None:
        done[name] += judge.look(pictures)[0]
        wanted[name] += scenes

    for first in tqdm(range(0, len(scenes), settings.batch), desc="edits"):
        part = list(enumerate(scenes))[first : first + settings.batch]
        full = [world.draw(s, seed=i) for i, s in part]
        single = [world.draw(fewer(s), seed=i) for i, s in part]
        look("drawn", full, [s for _, s in part])
        copies = compression.decode_latents(pipe, compression.encode_image(pipe, single))
        for position in ("left", "right"):
            here = [k for k, (_, s) in enumerate(part) if s.things[1].position == position]
            if not here:
                continue
            mask, seeds, goal = (
                side_mask(position),
                [part[k][0] for k in here],
                [part[k][1] for k in here],
            )
            whole, alone = (
                [world.caption(s) for s in goal],
                [world.caption(world.Scene(s.things[1:], s.place, s.time)) for s in goal],
            )
            added = editing.inpaint(
                pipe, [single[k] for k in here], mask, whole, seed=seeds, **options
            )
            look("add", added, goal)
            look(
                "add_named_alone",
                editing.inpaint(
                    pipe, [single[k] for k in here], mask, alone, seed=seeds, **options
                ),
                goal,
            )
            kept["add"] += [
                editing.psnr_outside(a, single[k], mask) for a, k in zip(added, here, strict=True)
            ]
            kept["autoencoder"] += [editing.psnr_outside(copies[k], single[k], mask) for k in here]
            goal = [fewer(s) for s in goal]
            wished = [world.caption(s) for s in goal]
            for name, avoided in (("erase", whole), ("erase_without_negative", "")):
                look(
                    name,
                    editing.inpaint(
                        pipe,
                        [full[k] for k in here],
                        mask,
                        wished,
                        negative_prompt=avoided,
                        seed=seeds,
                        **options,
                    ),
                    goal,
                )
        goal = [recoloured(s, np.random.default_rng([9, i])) for i, s in part]
        prompts, new = [world.caption(s) for _, s in part], [world.caption(s) for s in goal]
        path = list(editing.invert_steps(pipe, full, prompts, num_inference_steps=settings.steps))
        for name, keep in (("told_plainly", 0.0), ("retold", settings.keep)):
            before, after = editing.retell(pipe, prompts, new, path=path, keep=keep, **options)
            look(name, after, goal)
            kept[name] += [
                editing.psnr_outside(a, b, side_mask(s.things[1].position))
                for a, b, s in zip(after, before, goal, strict=True)
            ]
    right = {
        name: share(
            [
                judging.same(s, r, positions=True)
                for s, r in zip(wanted[name], done[name], strict=True)
            ]
        )
        for name in done
    }
    return {
        "right": right,
        "psnr_outside": {name: average(values) for name, values in kept.items()},
    }


def train(settings: EditsSettings) -> None:
    """Measure and write (the name is the one every stage has)."""
    torch.manual_seed(settings.seed)
    began, folder = time.perf_counter(), Path(settings.out)
    pipe = hub.load_pipeline(folder)
    scenes = [
        world.sample_scene(np.random.default_rng([6, i]), things=2) for i in range(settings.scenes)
    ]
    result = measure(pipe, judging.load(), settings, scenes)
    result["settings"] = {
        k: getattr(settings, k) for k in ("scenes", "steps", "guidance_scale", "keep")
    }
    result["measured"] = {
        "by": f"python -m sdlearn.training edits --scenes {settings.scenes}",
        "on": date.today().isoformat(),
        "hardware": hardware(pipe.device),
        "minutes": round((time.perf_counter() - began) / 60, 1),
    }
    (folder / "edits.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for name, entry in result["right"].items():
        print(f"{name:24} right {entry['value']:5.1f} % ({entry['low']:.1f}-{entry['high']:.1f})")
    for name, entry in result["psnr_outside"].items():
        print(
            f"{name:24} untouched part {entry['value']:5.1f} dB ({entry['low']:.1f}-{entry['high']:.1f})"
        )

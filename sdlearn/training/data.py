"""Drawn pictures and captions for the trainers: made once, kept as one plain array on disk, recovered by number."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from tqdm.auto import tqdm

from sdlearn import world

SPLITS = {
    "train": (0, 0),
    "mirrored": (0, 0),
    "altered": (0, 0),
    "seen": (1, 0),
    "held_out": (2, 1),
    "judge": (3, 3),
}
"""Name -> (seed, every how many-th scene has a held-out pair; 0 is none). Tiny SD trains on ``train`` and on its twins
before the same background: ``mirrored``, with left and right exchanged, and ``altered``, with other colours. ``seen`` differs
from ``train`` only in the seed and ``held_out`` in the pairs too. The judge, who must recognise every pair, learns on ``judge``."""


def scene(split: str, index: int) -> world.Scene:
    """Scene number ``index`` of a split: always the same one."""
    seed, every = SPLITS[split]
    drawn = world.sample_scene(
        np.random.default_rng([seed, index]), held_out=bool(every) and index % every == 0
    )
    twin = {
        "mirrored": mirror,
        "altered": lambda one: alter(one, np.random.default_rng([seed, index, 1])),
    }
    return twin[split](drawn) if split in twin else drawn


def mirror(scene: world.Scene) -> world.Scene:
    """The same scene with left and right exchanged."""
    other = {"left": "right", "middle": "middle", "right": "left"}
    return replace(
        scene, things=tuple(replace(t, position=other[t.position]) for t in scene.things)
    )


def alter(scene: world.Scene, rng: np.random.Generator) -> world.Scene:
    """The same scene with the colours of its two things exchanged, or with one thing of another colour or (as often) of another kind; never with a held-out pair.

    Where an exchange would change nothing or make a held-out pair, both things take other colours.
    """

    def other(thing: world.Thing, part: str, words: tuple[str, ...]) -> world.Thing:
        choices = [replace(thing, **{part: word}) for word in words if word != getattr(thing, part)]
        choices = [c for c in choices if not c.held_out]
        return choices[rng.integers(len(choices))]

    if len(scene.things) == 1:
        part, words = (("colour", world.COLOURS), ("kind", world.KINDS))[rng.integers(2)]
        return replace(scene, things=(other(scene.things[0], part, words),))
    a, b = scene.things
    swapped = replace(scene, things=(replace(a, colour=b.colour), replace(b, colour=a.colour)))
    if a.colour != b.colour and not swapped.held_out:
        return swapped
    return replace(
        scene, things=tuple(other(thing, "colour", world.COLOURS) for thing in scene.things)
    )


def telling(scene: world.Scene, rng: np.random.Generator) -> str:
    """A caption that says of each thing its colour, and where things are."""
    while True:
        said = world.caption(scene, rng)
        if any(word in said.split() for word in world.POSITIONS) and all(
            f"{t.colour} {t.kind}" in said for t in scene.things
        ):
            return said


def picture(split: str, index: int, size: int = 128) -> np.ndarray:
    """Its picture, uint8 of shape (size, size, 3)."""
    return np.asarray(
        world.draw(scene(split, index), size, seed=1_000_003 * SPLITS[split][0] + index)
    )


def _block(job: tuple[str, int, int]) -> np.ndarray:
    split, start, stop = job
    return np.stack([picture(split, i) for i in range(start, stop)])


def pictures(split: str, count: int, work: str | Path) -> np.ndarray:
    """The first ``count`` pictures of a split as a read-only uint8 array (count, 128, 128, 3), drawn on the first call.

    About 3 ms and 49 kB a picture; drawn by all cores into ``work``, so 20,000 take half a minute on two cores.
    """
    path = Path(work) / f"pictures_{split}_{count}.npy"
    larger = [
        p for p in Path(work).glob(f"pictures_{split}_*.npy") if int(p.stem.split("_")[-1]) >= count
    ]
    if larger:  # pictures are numbered, so the first ones of a longer row are the same
        return np.load(larger[0], mmap_mode="r")[:count]
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    array = open_memmap(new, mode="w+", dtype=np.uint8, shape=(count, 128, 128, 3))
    jobs = [(split, i, min(i + 250, count)) for i in range(0, count, 250)]
    with ProcessPoolExecutor() as pool:
        for job, block in zip(
            jobs,
            tqdm(pool.map(_block, jobs), total=len(jobs), desc=f"drawing {split}"),
            strict=True,
        ):
            array[job[1] : job[2]] = block
    array.flush()
    new.replace(path)
    return np.load(path, mmap_mode="r")


def to_tensor(pixels: np.ndarray) -> torch.Tensor:
    """uint8 (..., H, W, 3) -> float (..., 3, H, W) between -1 and 1, the range Stable Diffusion's autoencoder uses."""
    return torch.from_numpy(np.array(pixels)).movedim(-1, -3).float() / 127.5 - 1

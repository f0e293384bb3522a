"""Drawn pictures and captions for the trainers: made once, kept on disk, found by number.

In training they lie in memory as tensors: pictures as bytes, captions as token ids.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from tqdm.auto import tqdm

from sdlearn import world
from sdlearn.training.common import fingerprint_of_text, kept_file

SPLITS = {
    "train": (0, 0),
    "mirrored": (0, 0),
    "moved": (0, 0),
    "unnamed": (4, 0),
    "unnamed_moved": (4, 0),
    "seen": (1, 0),
    "held_out": (2, 1),
    "judge": (3, 3),
}
"""Name -> (seed, every how many-th scene has a held-out pair; 0 is none).

Tiny SD trains on ``train`` and on its partners before the same background: ``mirrored``, with left
and right exchanged (CLIP), and ``moved``, the same, but a thing that is alone stands at any other
position (U-Net). In ``unnamed`` and its partners things have colors without a name (U-Net).
``seen`` differs from ``train`` only in the seed and ``held_out`` in the pairs too. The judge, who
must recognize every pair, learns on ``judge``."""

SIDE = 128  # pixels
WORDINGS = 9
"""Captions of a scene: the plain one, then six in any wording, then two that name the sides."""
ANY_WORDING = np.arange(7)
WITH_SIDES = np.array([0, 7, 8])
TOKENS = 77


def scene(split: str, index: int) -> world.Scene:
    """Scene number ``index`` of a split: always the same one."""
    seed, every = SPLITS[split]
    drawn = world.sample_scene(
        np.random.default_rng([seed, index]), held_out=bool(every) and index % every == 0
    )
    if split.endswith("moved") and len(drawn.things) == 1:
        return _moved(drawn, np.random.default_rng([5, index]))
    return world.mirror(drawn) if split.endswith(("mirrored", "moved")) else drawn


def _moved(scene: world.Scene, rng: np.random.Generator) -> world.Scene:
    """A scene of one thing, with the thing at another position."""
    thing = scene.things[0]
    others = [position for position in world.POSITIONS if position != thing.position]
    thing = replace(thing, position=others[rng.integers(len(others))])
    return replace(scene, things=(thing,))


def drawn_picture(split: str, index: int) -> np.ndarray:
    """Its picture, uint8 of shape (128, 128, 3)."""
    seed, one = 1_000_003 * SPLITS[split][0] + index, scene(split, index)
    if split.startswith("unnamed"):
        return np.asarray(world.draw(one, SIDE, seed=seed, paints=unnamed_paints(one, index)))
    return np.asarray(world.draw(one, SIDE, seed=seed))


def nearest_colour(paint: tuple[int, int, int]) -> str:
    """The name in the palette whose color is nearest to (red, green, blue) in 0..255."""
    return min(world.PALETTE, key=lambda name: math.dist(paint, world.PALETTE[name]))


def unnamed_paints(scene: world.Scene, index: int) -> dict[world.Thing, tuple[int, int, int]]:
    """Colors without a name for one or all things of a scene: two of the palette mixed, and never
    one whose nearest in the palette makes a pair that is held out."""
    rng, palette = np.random.default_rng([6, index]), list(world.PALETTE.values())
    things = scene.things if rng.random() < 0.5 else scene.things[:1]
    paints = {}
    for thing in things:
        while thing not in paints:
            one, other = (palette[i] for i in rng.choice(len(palette), 2, replace=False))
            paint = world.mix(one, other, float(rng.uniform(0.25, 0.75)))
            if (thing.kind, nearest_colour(paint)) not in world.HELD_OUT:
                paints[thing] = paint
    return paints


def without_colour(said: str, thing: world.Thing) -> str:
    """A caption that no longer says a thing's color."""
    return re.sub(
        rf"\b(an? )?{thing.colour} {thing.kind}\b",
        lambda found: f"{world.article(thing.kind)} {thing.kind}" if found[1] else thing.kind,
        said,
    )


def caption_with_sides(scene: world.Scene, rng: np.random.Generator) -> str:
    """A caption in any wording that says of each thing its colour, and where things are."""
    while True:
        said = world.caption(scene, rng)
        named = all(f"{t.colour} {t.kind}" in said for t in scene.things)
        if named and any(word in said.split() for word in world.POSITIONS):
            return said


def captions(split: str, index: int) -> list[str]:
    """The :data:`WORDINGS` captions of a scene, always the same ones."""
    one, rng = scene(split, index), np.random.default_rng([77, index, len(split)])
    said = [world.caption(one)] + [world.caption(one, rng) for _ in ANY_WORDING[1:]]
    said += [caption_with_sides(one, rng) for _ in range(WORDINGS - len(ANY_WORDING))]
    for thing in unnamed_paints(one, index) if split.startswith("unnamed") else ():
        said = [without_colour(words, thing) for words in said]
    return said


def _end_with_parent() -> None:
    """Let a worker end when the process that started it is gone, killed or not."""

    def watch() -> None:
        wait([multiprocessing.parent_process().sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _picture_block(job: tuple[str, int, int]) -> np.ndarray:
    split, start, stop = job
    return np.stack([drawn_picture(split, i) for i in range(start, stop)])


def _caption_block(job: tuple[str, int, int]) -> list[str]:
    split, start, stop = job
    return [said for i in range(start, stop) for said in captions(split, i)]


def in_blocks(work: Callable, split: str, count: int, what: str) -> Iterable:
    """``work((split, start, stop))`` for blocks of 250 scenes, by all cores, in order."""
    jobs = [(split, i, min(i + 250, count)) for i in range(0, count, 250)]
    with ProcessPoolExecutor(initializer=_end_with_parent) as pool:
        try:
            yield from tqdm(pool.map(work, jobs), total=len(jobs), desc=f"{what} {split}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _rows_of(path: Path) -> int:
    """How many pictures the array in a file has, 0 where it is none of pictures or not whole."""
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return 0
    fits = array.shape[1:] == (SIDE, SIDE, 3) and array.dtype == np.uint8
    return len(array) if fits else 0


def pictures(split: str, count: int, work: str | Path) -> np.ndarray:
    """The first ``count`` pictures of a split: read-only uint8 (count, 128, 128, 3).

    Drawn on the first call, by all cores, into ``work``: about 3 ms and 49 kB a picture, so
    20,000 take half a minute on two cores. Two processes that want the same do not draw twice.

    Raises:
        OSError: if the disk is full; nothing half-written stays.
    """
    work = Path(work)
    work.mkdir(parents=True, exist_ok=True)
    with FileLock(work / f".pictures_{split}.lock"):
        path = _drawn(split, count, work)
        if path is None:
            path = work / f"pictures_{split}_{count}.npy"
            blocks = in_blocks(_picture_block, split, count, "drawing")
            write_rows(path, (count, SIDE, SIDE, 3), blocks)
    return np.load(path, mmap_mode="r")[:count]


def are_drawn(split: str, count: int, work: str | Path) -> bool:
    """Whether the first ``count`` pictures of a split lie in ``work`` already."""
    return _drawn(split, count, Path(work)) is not None


def _drawn(split: str, count: int, work: Path) -> Path | None:
    """A file with at least that many pictures: they are numbered, so the first ones of a longer
    row are the same. What is no whole array of pictures is passed over."""
    for path in sorted(work.iterdir()) if work.is_dir() else ():
        found = re.fullmatch(rf"pictures_{split}_(\d+)\.npy", path.name)
        if found and int(found[1]) >= count and _rows_of(path) >= count:
            return path
    return None


def write_rows(path: Path, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> None:
    """Write uint8 blocks of rows one after another into one ``.npy`` file, whole or not at all.

    By plain writes: a full disk is then an error with a name, where a memory map would end the
    process.
    """
    new = path.with_suffix(".new")
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    try:
        with new.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for block in blocks:
                file.write(block.tobytes())
        new.replace(path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def pictures_tensor(split: str, count: int, work: str | Path) -> torch.Tensor:
    """:func:`pictures` as a tensor over the file's pages: processes share the memory."""
    array = pictures(split, count, work)
    # "c": writable for the process alone, which is what torch asks for; nobody writes
    return torch.from_numpy(np.load(array.filename, mmap_mode="c")[:count])


def token_ids(split: str, count: int, tokenizer: Any, work: str | Path) -> torch.Tensor:
    """Token ids of all captions of the first ``count`` scenes: int16 (count, 9, 77), padded.

    Made on the first call and kept in ``work``.

    Raises:
        ValueError: if a caption is longer than 77 tokens.
    """

    def make() -> np.ndarray:
        said = [c for block in in_blocks(_caption_block, split, count, "captions") for c in block]
        ids = np.full((len(said), TOKENS), tokenizer.pad_token_id, np.int16)
        for i in range(0, len(said), 20_000):
            for k, row in enumerate(tokenizer(said[i : i + 20_000]).input_ids):
                if len(row) > TOKENS:
                    raise ValueError(f"A caption has {len(row)} tokens, more than {TOKENS}.")
                ids[i + k, : len(row)] = row
        return ids.reshape(count, WORDINGS, TOKENS)

    words = fingerprint_of_text(repr(sorted(tokenizer.get_vocab().items())))
    return kept_file(Path(work) / f"ids_{split}_{count}_{words}.npy", make)


def to_pixels(pictures: torch.Tensor | np.ndarray) -> torch.Tensor:
    """uint8 (B, H, W, 3) -> float (B, 3, H, W) between -1 and 1, channels last in memory."""
    if isinstance(pictures, np.ndarray):
        pictures = torch.from_numpy(np.array(pictures))
    pixels = pictures.permute(0, 3, 1, 2).float() / 127.5 - 1
    return pixels.contiguous(memory_format=torch.channels_last)

"""Measure the race of chapter 07: pixels, a cascade and latents, by the same judge.

``equal_time``: the networks kept at each mark of a training of equal length for all three.
``shipped``: as good as each got, with seconds, operations and memory per picture.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from PIL import Image
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm.auto import tqdm

from sdlearn import hub, models, sampling, world
from sdlearn.chapters import cascade
from sdlearn.judge import Judge, compare_readings, load_judge, read_prompt, same_scene
from sdlearn.measure.results import Measurement, record, share, write_json
from sdlearn.training import data

SHOWN = 4  # pictures of each way that are kept to be seen
Paint = Callable[[list[str], list[int]], list[Image.Image]]


@dataclass
class RaceMeasurement(Measurement):
    """What is measured; ``--model`` is Tiny SD, the way by latents."""

    race: str = str(cascade.RACE)  # the folder of ``python -m sdlearn.training race``
    part: str = "both"  # "equal_time", "shipped" or "both"
    prompts: int = 48
    batch: int = 8

    def check(self) -> None:
        """Refuse what cannot be measured, before anything is loaded."""
        super().check()
        if self.part not in ("equal_time", "shipped", "both"):
            raise ValueError(f"--part is equal_time, shipped or both; it is {self.part!r}.")
        if not Path(self.race).is_dir():
            raise ValueError(f"There is no race at {self.race}: name one with --race.")


def painter(way: str, pipe: Any, race: cascade.Race | None) -> Paint:
    """A function of prompts and seeds that paints by one of the three ways."""
    if way == "latents":
        return lambda prompts, seeds: sampling.sample(pipe, prompts, seed=seeds)
    if way == "pixels":
        return lambda prompts, seeds: cascade.in_pixels(race, pipe, prompts, seed=seeds)
    return lambda prompts, seeds: cascade.by_cascade(race, pipe, prompts, seed=seeds)[1]


def scenes_of(count: int) -> list[world.Scene]:
    """The scenes that every way is asked for; scene i starts from seed i."""
    return [data.scene("seen", 30_000 + i) for i in range(count)]


def paint_all(paint: Paint, scenes: list[world.Scene], batch: int) -> list[Image.Image]:
    """One try for each scene, nothing picked."""
    prompts, pictures = [world.caption(scene) for scene in scenes], []
    for i in tqdm(range(0, len(scenes), batch), leave=False):
        part = prompts[i : i + batch]
        pictures += paint(part, list(range(i, i + len(part))))
    return pictures


def judged(scenes: list[world.Scene], pictures: list[Image.Image], judge: Judge) -> dict[str, dict]:
    """Shares of the scenes: all of it right and in place ("in_place"); of single wishes (each
    thing with color and place, the surroundings, the time) those that came true."""
    seen = judge.look(pictures)
    pairs = list(zip(scenes, seen, strict=True))
    compared = [compare_readings(read_prompt(scene), look) for scene, look in pairs]
    wishes = [word not in one.missing for one in compared for word in one.asked.words]
    return {
        "in_place": share([same_scene(s, look.scene, positions=True) for s, look in pairs]),
        "wishes": share(wishes),
        "surroundings": share([(s.place, s.time) == (look.place, look.time) for s, look in pairs]),
    }


def price_of(paint: Paint) -> dict[str, float]:
    """Operations of one picture, and its seconds on this machine (median of three)."""
    prompt, seconds = ["a red cat in the snow"], []
    # attention in one piece, as a CPU prefers it, is passed over by the counter
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as operations:
        paint(prompt, [0])
    for seed in range(3):
        began = time.perf_counter()
        paint(prompt, [seed])
        seconds.append(time.perf_counter() - began)
    return {"operations": operations.get_total_flops(), "seconds": statistics.median(seconds)}


def _memory_of(way: str, model: str, race: str) -> float:
    """Megabytes that one picture takes beside the loaded networks, in a process of its own."""
    networks = None if way == "latents" else cascade.load_race(race)
    paint = painter(way, hub.load_pipeline(model), networks)
    process, most, ended = psutil.Process(), [0], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not ended.wait(0.002):
            most[0] = max(most[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    paint(["a red cat in the snow"], [0])
    ended.set()
    watcher.join()
    return max(0, most[0] - before) / 1e6


def memory_of(way: str, settings: RaceMeasurement) -> float:
    """:func:`_memory_of` in a fresh process, whose memory nothing else has stretched."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_memory_of, way, settings.model, settings.race).result()


def weights_of(way: str, pipe: Any, race: cascade.Race) -> int:
    """Parameters that one picture passes through, the text encoder left out: it is everybody's."""
    parts = {
        "pixels": [race.pixels.unet],
        "cascade": [race.small.unet, race.upscale.unet],
        "latents": [pipe.unet, pipe.vae.decoder],
    }[way]
    return sum(p.numel() for part in parts for p in part.parameters())


def facts_in(folder: Path) -> dict[str, Any] | None:
    """How a network was trained, as its trainer wrote it."""
    path = folder / "training.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def sheet_of(rows: list[list[Image.Image]]) -> Image.Image:
    """Pictures of one size in rows, without a gap: :func:`ch07.read_sheet` cuts them apart."""
    side = rows[0][0].width
    page = Image.new("RGB", (side * len(rows[0]), side * len(rows)))
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            page.paste(image, (side * x, side * y))
    return page


def measure_equal_time(settings: RaceMeasurement, pipe: Any, judge: Judge) -> dict[str, list]:
    """Each way at each mark: minutes learned, and what the judge says; the first pictures of the
    last mark as ``equal_time.webp``."""
    found: dict[str, list] = {way: [] for way in cascade.WAYS}
    scenes = scenes_of(settings.prompts)
    for folder in sorted(Path(settings.race).glob("mark_*")):
        race = cascade.load_race(folder)
        net = cascade.load_denoiser(folder / "latents")
        learned = models.build_pipeline(
            pipe.vae, pipe.text_encoder, pipe.tokenizer, net.unet, net.scheduler
        )
        learned.defaults = hub.defaults_of(pipe)
        shown = []
        for way in cascade.WAYS:
            names = ("small", "upscale") if way == "cascade" else (way,)
            facts = [facts_in(folder / name) for name in names]
            paint = painter(way, learned if way == "latents" else pipe, race)
            row = {
                "minutes": sum(fact["minutes"] for fact in facts),
                "pictures": [f["steps"] * f["settings"]["batch"] for f in facts],
            }
            pictures = paint_all(paint, scenes, settings.batch)
            shown.append(pictures[:SHOWN])
            found[way].append(row | judged(scenes, pictures, judge))
            print(folder.name, way, f"{found[way][-1]['wishes']['value']:.0f} % of the wishes")
        sheet_of(shown).save(Path(settings.out) / "equal_time.webp", quality=90)
    return found


def measure_shipped(settings: RaceMeasurement, pipe: Any, judge: Judge) -> dict[str, dict]:
    """Each way as good as it got."""
    race, found = cascade.load_race(settings.race), {}
    scenes = scenes_of(settings.prompts)
    for way in cascade.WAYS:
        paint = painter(way, pipe, race)
        found[way] = {
            "parameters": weights_of(way, pipe, race),
            **price_of(paint),
            "memory_mb": memory_of(way, settings),
            **judged(scenes, paint_all(paint, scenes, settings.batch), judge),
        }
        print(way, f"{found[way]['wishes']['value']:.0f} % of the wishes", flush=True)
    return found


def measure_noise_levels(
    settings: RaceMeasurement, pipe: Any, judge: Judge
) -> dict[str, dict[str, dict]]:
    """The cascade's own small pictures, enlarged with more and more noise on them."""
    race, scenes, found = cascade.load_race(settings.race), scenes_of(settings.prompts), {}
    for level in (0, cascade.NOISE_LEVEL, cascade.MOST_NOISE):

        def paint(prompts: list[str], seeds: list[int], level: int = level) -> list[Image.Image]:
            return cascade.by_cascade(race, pipe, prompts, noise_level=level, seed=seeds)[1]

        found[str(level)] = judged(scenes, paint_all(paint, scenes, settings.batch), judge)
    return found


def format_race(shipped: dict[str, dict]) -> str:
    """The table of what was measured of the shipped networks, in Markdown."""
    lines = [
        "| way | parameters | operations per picture | seconds | memory | prompts right | wishes |",
        "|---|---|---|---|---|---|---|",
    ]
    for way, row in shipped.items():
        lines.append(
            f"| {way} | {row['parameters'] / 1e6:.1f} M | {row['operations'] / 1e9:.0f} billion "
            f"| {row['seconds']:.1f} | {row['memory_mb']:.0f} MB "
            f"| {row['in_place']['value']:.0f} % | {row['wishes']['value']:.0f} % |"
        )
    return "\n".join(lines)


def format_card(result: dict) -> str:
    """The page beside the shipped networks: what they are, how long each learned, what it gives."""
    lines = [
        "# The race: two ways to pictures that are not Tiny SD's",
        "",
        "Networks for chapter 07, told by Tiny SD's text encoder: `pixels` paints 128 x 128",
        "pixels; `small` paints 32 x 32, and `upscale` makes 128 x 128 of them. Each folder holds",
        "a UNet2DConditionModel and its scheduler as diffusers writes them. They are trained by",
        "`python -m sdlearn.training race`; `python -m sdlearn.measure race` judges them and",
        "writes this page. All its figures are in `race.json`.",
        "",
        "| network | minutes of one CPU core | steps | pictures a step |",
        "|---|---|---|---|",
    ]
    for name, facts in result["training"].items():
        batch = facts["settings"]["batch"]
        lines.append(f"| {name} | {facts['minutes']:.0f} | {facts['steps']:,} | {batch} |")
    return "\n".join([*lines, "", format_race(result["shipped"]), ""])


def measure_race(settings: RaceMeasurement) -> dict:
    """Measure what ``--part`` names into ``race.json``; the other part stays as it was."""
    began, path = time.perf_counter(), Path(settings.out) / "race.json"
    pipe, judge = hub.load_pipeline(settings.model), load_judge(settings.model)
    result = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    parts = {"equal_time": measure_equal_time, "shipped": measure_shipped}
    for name, measure_part in parts.items():
        if settings.part in (name, "both"):
            result[name] = measure_part(settings, pipe, judge)
            if name == "shipped":
                result["noise_levels"] = measure_noise_levels(settings, pipe, judge)
            told = f"race --part {name} --prompts {settings.prompts}"
            result[f"{name}_measured"] = record(told, pipe.device, began)
    result["shown"] = [world.caption(scene) for scene in scenes_of(SHOWN)]
    result["training"] = {
        name: facts_in(Path(settings.race) / name) for name in cascade.Race._fields
    }
    write_json(path, result)
    if "shipped" in result:
        (Path(settings.out) / "README.md").write_text(format_card(result), encoding="utf-8")
        print(format_race(result["shipped"]))
    return result

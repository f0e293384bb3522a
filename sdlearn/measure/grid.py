"""How often a prompt comes true by guidance, number of steps and sampler: ``grid.json``.

The same prompts and seeds at every entry. The model's defaults are chosen from it, and chapter 05
draws it. An interrupted run goes on with ``--resume``.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from sdlearn import hub, sampling, world
from sdlearn.judge import Judge, load_judge, same_scene
from sdlearn.measure.evaluate import draw_prompts
from sdlearn.measure.results import Measurement, record, share, write_json
from sdlearn.training import data

GUIDANCE = (1.0, 1.5, 2.0, 3.0, 5.0, 7.5)
STEPS = (2, 3, 4, 5, 10, 25)


@dataclass
class GridSettings(Measurement):
    """How many prompts an entry has."""

    prompts: int = 60  # with seen pairs, and as many with held-out pairs
    resume: bool = False  # keep the entries of --out/grid.json and add what is missing


def grid_entry(pipe: Any, judge: Judge, scenes: list[world.Scene], batch: int, **options) -> dict:
    """Shares of prompts that came true, in place and anywhere; ``options`` are `sample`'s."""
    seen = judge.look(draw_prompts(pipe, scenes, batch=batch, **options))
    pairs = list(zip(scenes, (s.scene for s in seen), strict=True))
    return {
        "in_place": share([same_scene(a, b, positions=True) for a, b in pairs]),
        "all_named": share([same_scene(a, b) for a, b in pairs]),
    }


def format_grid(rows: list[dict], split: str) -> str:
    """Percent in place, a line for each sampler and guidance, a column for each number of steps."""
    found = {(r["sampler"], r["guidance_scale"], r["num_inference_steps"]): r for r in rows}
    lines = [f"{split:18}" + "".join(f"{steps:7}" for steps in STEPS)]
    for sampler, guidance in dict.fromkeys(key[:2] for key in found):
        cells = [found.get((sampler, guidance, steps)) for steps in STEPS]
        told = "".join(f"{c[split]['in_place']['value']:7.0f}" if c else "      -" for c in cells)
        lines.append(f"{sampler:6} guidance {guidance:3g}{told}")
    return "\n".join(lines)


def measure_grid(settings: GridSettings) -> dict:
    """Fill the grid, writing it after every entry."""
    began, path = time.perf_counter(), Path(settings.out) / "grid.json"
    pipe, judge = hub.load_pipeline(settings.model), load_judge(settings.model)
    told = {"prompts": settings.prompts, "guidance": GUIDANCE, "steps": STEPS}
    result: dict = {"settings": json.loads(json.dumps(told)), "rows": []}
    if settings.resume and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before.get("settings") != result["settings"]:
            raise ValueError(f"{path} was measured with other settings: leave out --resume.")
        result["rows"] = before["rows"]
    scenes = {
        split: [data.scene(split, 10_000 + i) for i in range(settings.prompts)]
        for split in ("seen", "held_out")
    }
    names = ("sampler", "guidance_scale", "num_inference_steps")
    known = {tuple(row[name] for name in names) for row in result["rows"]}
    for key in product(sampling.SAMPLERS, GUIDANCE, STEPS):
        if key in known:
            continue
        row = dict(zip(names, key, strict=True))
        for split, wanted in scenes.items():
            row[split] = grid_entry(pipe, judge, wanted, settings.batch, **row_options(row))
        result["rows"].append(row)
        result["measured"] = record(f"grid --prompts {settings.prompts}", pipe.device, began)
        write_json(path, result)
        value = " ".join(f"{split} {row[split]['in_place']['value']:.0f} %" for split in scenes)
        print(f"{key[0]:6} guidance {key[1]:g}, {key[2]:2} steps: {value}", flush=True)
    for split in scenes:
        print(format_grid(result["rows"], split))
    return result


def row_options(row: dict) -> dict:
    """Those entries of a row that are options of ``sample``."""
    return {k: row[k] for k in ("sampler", "guidance_scale", "num_inference_steps")}

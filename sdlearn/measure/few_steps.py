"""How often a prompt comes true in few steps: ``few_steps.json`` beside the few-step model's LoRA.

The few-step model, and beside it its teacher: guided as it likes it, and sampled as if it were the
few-step model. Chapter 08 draws it. An interrupted run goes on with ``--resume``.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdlearn import hub
from sdlearn.judge import load_judge
from sdlearn.measure.grid import grid_entry, row_options
from sdlearn.measure.results import Measurement, record, write_json
from sdlearn.training import data

FEW = (1, 2, 4)
MORE = (2, 4, 5, 10, 25)


@dataclass
class FewStepsMeasured(Measurement):
    """How many prompts a row has; ``--model`` is the teacher, who also lends the judge."""

    few: str = str(hub.TINY_FEW)  # the folder with the LoRA; "" measures the teacher alone
    prompts: int = 64  # with seen pairs, and as many with held-out pairs
    resume: bool = False  # keep the rows of --out/few_steps.json and add what is missing


def rows_to_measure(teacher: Any, few: str) -> list[dict]:
    """What is sampled, and how; ``looks`` is how often the U-Net runs for one picture."""
    own = hub.defaults_of(teacher)
    wanted = [("few", 1.0, "lcm", steps, steps) for steps in FEW] if few else []
    wanted += [("teacher", own.guidance_scale, own.sampler, n, 2 * n) for n in MORE]
    wanted += [("teacher", 1.0, "lcm", steps, steps) for steps in FEW]
    names = ("model", "guidance_scale", "sampler", "num_inference_steps", "looks")
    return [dict(zip(names, row, strict=True)) for row in wanted]


def format_few_steps(rows: list[dict]) -> str:
    """A line for each row: percent in place, for seen and held-out pairs."""
    lines = ["model    sampler guidance steps looks   seen held out"]
    for row in rows:
        seen, held_out = (row[split]["in_place"]["value"] for split in ("seen", "held_out"))
        lines.append(
            f"{row['model']:8}{row['sampler']:>8}{row['guidance_scale']:9g}"
            f"{row['num_inference_steps']:6}{row['looks']:6}{seen:7.1f}{held_out:9.1f}"
        )
    return "\n".join(lines)


def measure_few_steps(settings: FewStepsMeasured) -> dict:
    """Measure every row, writing the file after each."""
    began, path = time.perf_counter(), Path(settings.out) / "few_steps.json"
    teacher, judge = hub.load_pipeline(settings.model), load_judge(settings.model)
    few = hub.add_lora_to(hub.load_pipeline(settings.model), settings.few) if settings.few else None
    result: dict = {"settings": {"prompts": settings.prompts}, "rows": []}
    if settings.resume and path.exists():
        before = json.loads(path.read_text(encoding="utf-8"))
        if before.get("settings") != result["settings"]:
            raise ValueError(f"{path} was measured with other settings: leave out --resume.")
        result["rows"] = before["rows"]
    known = [{k: v for k, v in row.items() if not isinstance(v, dict)} for row in result["rows"]]
    for row in rows_to_measure(teacher, settings.few):
        if row in known:
            continue
        pipe = few if row["model"] == "few" else teacher
        for split in ("seen", "held_out"):
            scenes = [data.scene(split, 10_000 + i) for i in range(settings.prompts)]
            row = row | {split: grid_entry(pipe, judge, scenes, settings.batch, **row_options(row))}
        result["rows"].append(row)
        told = f"few-steps --prompts {settings.prompts}"
        result["measured"] = record(told, teacher.device, began)
        write_json(path, result)
        print(format_few_steps([row]).splitlines()[1], flush=True)
    print(format_few_steps(result["rows"]))
    return result

"""The model card: a template filled with what was measured, what the logs say and the files."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from huggingface_hub import ModelCard, ModelCardData

from sdlearn import hub, world
from sdlearn.training import data

TEMPLATE = Path(__file__).parent / "card.md"
PARTS = {
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "unet": "UNet2DConditionModel",
    "clip": "CLIPModel",  # both towers, for chapter 04
}
# settings that say where and how something ran, not what was trained
PRIVATE = ("work", "out", "device", "resume", "save_every", "start_from")


def facts_of_training(
    work: str, before: dict[str, list[dict]] | None = None
) -> dict[str, list[dict]]:
    """What the logs of the trainings say: minutes, steps, settings.

    A run that went on from other weights stands after the runs ``before`` that made those.
    """
    facts = dict(before or {})
    for name in ("vae", "decoder", "clip", "unet", "judge"):
        log = Path(work) / name / "log.jsonl"
        if not log.exists():
            continue
        first, *rows = [json.loads(line) for line in log.read_text().splitlines()]
        if not rows:
            continue
        run = {
            "minutes": round(rows[-1]["seconds"] / 60, 1),
            "steps": rows[-1]["step"],
            "hardware": first.get("hardware", "not recorded"),
            "settings": {k: v for k, v in first["settings"].items() if k not in PRIVATE},
        }
        earlier = facts.get(name, []) if first["settings"].get("start_from") else []
        facts[name] = [*(r for r in earlier if r != run), run]
    return facts


def words_of_captions(folder: Path) -> list[str]:
    """The words of the captions that the tokenizer of a model folder has as one piece."""
    pieces = set(hub.load_tokenizer(folder).get_vocab())
    captions = [
        world.caption(data.scene("train", i), np.random.default_rng(i)) for i in range(2000)
    ]
    said = {word for caption in captions for word in re.findall(r"[a-z]+", caption)}
    return sorted(word for word in said if f"{word}</w>" in pieces)


def _rows(facts: dict[str, list[dict]]) -> list[dict]:
    return [
        {
            "part": f"{name}, further" if i else name,
            "hardware": run.get("hardware", "not recorded"),
            **{key: run[key] for key in ("minutes", "steps")},
            **{key: run["settings"].get(key, "-") for key in ("batch", "lr", "seed")},
        }
        for name, runs in facts.items()
        if name != "judge"
        for i, run in enumerate(runs)
    ]


def model_card(result: dict, table: str, folder: Path) -> str:
    """The model card of a folder; ``result`` and its ``table`` are those of ``evaluate``."""
    loaded = {name: hub.load_part(name, folder) for name in PARTS}
    config = loaded["vae"].config
    told, judged = result["settings"], result["measured"]
    unets = [run["settings"].get("unnamed", 0) for run in result["training"].get("unet", [])]
    card = ModelCard.from_template(
        ModelCardData(license="mit", library_name="diffusers", pipeline_tag="text-to-image"),
        template_path=str(TEMPLATE),
        parts=[
            {"name": name, "class_name": PARTS[name], "millions": millions(part)}
            for name, part in loaded.items()
        ],
        megabytes=sum(f.stat().st_size for f in folder.rglob("*.safetensors")) / 1e6,
        picture=config.sample_size,
        latent=loaded["unet"].config.sample_size,
        channels=config.latent_channels,
        scaling_factor=config.scaling_factor,
        kinds=len(world.KINDS),
        colours=len(world.COLOURS),
        positions=len(world.POSITIONS),
        places=len(world.PLACES),
        times=len(world.TIMES),
        held_out=", ".join(f"{colour} {kind}" for kind, colour in sorted(world.HELD_OUT)),
        runs=_rows(result["training"]),
        unets=len(unets),
        unnamed=[more / (1 + more) for more in unets if more],  # shares of all pictures
        table=table,
        prompts=told["prompts"],
        sampler=told["sampler"],
        steps=told["num_inference_steps"],
        guidance=f"{told['guidance_scale']:g}",
        hardware=judged["hardware"],
        words=words_of_captions(folder),
    )
    return str(card).rstrip() + "\n"


def millions(part: Any) -> float:
    """Parameters of a network, in millions."""
    return sum(p.numel() for p in part.parameters()) / 1e6

"""Measure Tiny SD: autoencoder, CLIP, prompt fidelity by the judge, Frechet distance.

Every figure has a 95 % interval and is given for scenes whose (kind, colour) pairs were seen in
training and for held-out pairs. Writes ``evaluation.json``, the model card and the 48 unpicked
pictures into ``--out``; ``--readme`` puts the table into a page with markers, too.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from skimage.metrics import structural_similarity
from tqdm.auto import tqdm

from sdlearn import compression, hub, sampling, world
from sdlearn.judge import Judge, load_judge, same_scene
from sdlearn.measure.card import facts_of_training, model_card
from sdlearn.measure.pages import require_markers, write_between
from sdlearn.measure.results import (
    Measurement,
    average,
    frechet_distance,
    record,
    share,
    write_json,
)
from sdlearn.training import clip, data


@dataclass
class EvaluateSettings(Measurement):
    """How much is measured; pictures are sampled with the model's own defaults."""

    scenes: int = 1000  # drawn scenes for the autoencoder, half of them with held-out pairs
    retrieved: int = 960  # captions and pictures for CLIP
    among: int = 192  # pictures a caption is looked for among
    prompts: int = 500  # for seen pairs, and as many for held-out pairs
    unpicked: int = 48  # pictures of samples_48.png
    readme: str | None = None  # a page with markers, whose table is written, too

    def check(self) -> None:
        """Refuse what cannot be measured, before anything is loaded.

        Raises:
            ValueError: with one sentence that says what to change.
        """
        super().check()
        if self.among > self.retrieved or min(self.scenes, self.prompts) < 4:
            raise ValueError("Take at least 4 --scenes and --prompts, and --retrieved >= --among.")
        if self.readme:
            require_markers(Path(self.readme), "evaluation")


def draw_prompts(
    pipe: Any, scenes: list[world.Scene], *, batch: int = 25, **options
) -> list[Image.Image]:
    """One first-take picture for each scene's plain caption, seeds 0, 1, 2 ...

    ``options`` are those of :func:`sdlearn.sampling.sample`; the model's defaults are taken for
    guidance, sampler and steps where they name none.
    """
    options = hub.defaults_of(pipe)._asdict() | options
    pictures = []
    for i in tqdm(range(0, len(scenes), batch), desc="sampling", leave=False):
        prompts = [world.caption(scene) for scene in scenes[i : i + batch]]
        seeds = list(range(i, i + len(prompts)))
        pictures += sampling.sample(pipe, prompts, seed=seeds, **options)
    return pictures


def autoencoder_quality(pipe: Any, judge: Judge, split: str, count: int, work: str) -> dict:
    """PSNR and SSIM of the round trip, and whether the judge still recognizes the scene."""
    pixels = data.pictures(split, count, work)
    found: dict[str, list] = {"psnr": [], "ssim": [], "drawn": [], "back": []}
    for i in tqdm(range(0, count, 50), desc=f"autoencoder {split}", leave=False):
        drawn = [Image.fromarray(p) for p in pixels[i : i + 50]]
        back = compression.decode_latents(pipe, compression.encode_image(pipe, drawn))
        for a, b in zip(drawn, back, strict=True):
            found["psnr"].append(compression.psnr(a, b))
            found["ssim"].append(
                structural_similarity(np.asarray(a), np.asarray(b), channel_axis=2)
            )
        scenes = [data.scene(split, j) for j in range(i, i + len(drawn))]
        for name, pictures in (("drawn", drawn), ("back", back)):
            found[name] += placed(scenes, judge, pictures)
    return {
        "psnr": average(found["psnr"]),
        "ssim": average(found["ssim"]),
        "judge_on_drawings": share(found["drawn"]),
        "judge_after_round_trip": share(found["back"]),
    }


def placed(scenes: list[world.Scene], judge: Judge, pictures: list[Image.Image]) -> list[bool]:
    """For each picture, whether the judge sees everything of its scene where it belongs."""
    seen = judge.look(pictures)
    return [same_scene(s, r.scene, positions=True) for s, r in zip(scenes, seen, strict=True)]


def clip_quality(model: Any, tokenizer: Any, split: str, settings: EvaluateSettings) -> dict:
    """How well the two towers find each other's captions and pictures, and hear the sides."""
    among = settings.among
    count = settings.retrieved // among * among
    hits = clip.retrieval(model, tokenizer, split, count, settings.work, among=among)
    found = {name: share(row) for name, row in hits.items()}
    nearer = clip.nearer_than_mirrored(model, tokenizer, split, settings.prompts)
    return found | {"sides": share(nearer)}


def prompt_fidelity(
    pipe: Any, judge: Judge, split: str, settings: EvaluateSettings, **options
) -> dict:
    """Share of prompts whose picture shows everything named where it was asked for ("in_place"),
    and of those that show everything named anywhere ("all_named").

    ``options`` are those of :func:`sdlearn.sampling.sample`, beside the model's defaults.
    """
    scenes = [data.scene(split, i) for i in range(settings.prompts)]
    seen = judge.look(draw_prompts(pipe, scenes, batch=settings.batch, **options))
    drawn = data.pictures(split, settings.prompts, settings.work)
    drawn_features = [s.features for s in judge.look([Image.fromarray(p) for p in drawn])]
    where = [same_scene(s, r.scene, positions=True) for s, r in zip(scenes, seen, strict=True)]
    named = [same_scene(s, r.scene) for s, r in zip(scenes, seen, strict=True)]
    one = [len(s.things) == 1 for s in scenes]
    features = np.stack([s.features for s in seen])
    # no interval: resampled pictures repeat, which moves this distance up, so a bootstrap
    # interval misses the value itself
    distance = frechet_distance(features, np.stack(drawn_features))
    return {
        "in_place": share(where),
        "one_thing": share([r for r, o in zip(where, one, strict=True) if o]),
        "two_things": share([r for r, o in zip(where, one, strict=True) if not o]),
        "all_named": share(named),
        "frechet": {"value": distance, "n": len(features)},
    }


def unpicked_sheet(pipe: Any, count: int = 48, batch: int = 25) -> Image.Image:
    """Seeds 0, 1, 2 ..., first take, each above its prompt.

    Every third prompt names a held-out pair and is marked *.
    """
    scenes = [data.scene("held_out" if i % 3 == 2 else "seen", 20_000 + i) for i in range(count)]
    pictures = draw_prompts(pipe, scenes, batch=batch)
    side, text, columns = 192, 46, 8
    size = (columns * (side + 8) + 8, -(-count // columns) * (side + text) + 8)
    sheet = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11.5)
    for i, (scene, picture) in enumerate(zip(scenes, pictures, strict=True)):
        x, y = 8 + i % columns * (side + 8), 8 + i // columns * (side + text)
        sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (x, y))
        lines = [""]
        for word in (world.caption(scene) + (" *" if scene.held_out else "")).split():
            if font.getlength(f"{lines[-1]} {word}") > side:
                lines.append("")
            lines[-1] = f"{lines[-1]} {word}".strip()
        for k, line in enumerate(lines):
            pen.text((x, y + side + 2 + 13 * k), line, fill=(30, 30, 40), font=font)
    return sheet


ROWS = (  # label, entry, group, digits, unit
    ("**Everything named, where it was asked for**", "in_place", "fidelity", 1, " %"),
    ("... prompts with one thing", "one_thing", "fidelity", 1, " %"),
    ("... prompts with two things", "two_things", "fidelity", 1, " %"),
    ("Everything named, wherever it stands", "all_named", "fidelity", 1, " %"),
    ("Autoencoder, PSNR", "psnr", "autoencoder", 1, " dB"),
    ("Autoencoder, SSIM", "ssim", "autoencoder", 3, ""),
    ("CLIP: caption finds its picture among {among}", "text_to_image", "clip", 1, " %"),
    ("CLIP: picture finds its caption among {among}", "image_to_text", "clip", 1, " %"),
    ("CLIP: caption nearer to its picture than to the mirrored one", "sides", "clip", 1, " %"),
    ("Frechet distance in the judge's features (no interval)", "frechet", "fidelity", 0, ""),
    ("The judge itself, on drawings", "judge_on_drawings", "autoencoder", 1, " %"),
    ("The judge, after the round trip", "judge_after_round_trip", "autoencoder", 1, " %"),
)


def format_table(result: dict) -> str:
    """The measured table in Markdown."""

    def cell(entry: dict, digits: int, unit: str) -> str:
        low, high = (entry.get(end) for end in ("low", "high"))
        interval = f" ({low:.{digits}f}-{high:.{digits}f})" if low is not None else ""
        return f"{entry['value']:.{digits}f}{unit}{interval}"

    lines = ["| measured (95 % interval) | seen pairs | held-out pairs |", "|---|---|---|"]
    for label, key, group, digits, unit in ROWS:
        found = (cell(result[group][split][key], digits, unit) for split in ("seen", "held_out"))
        lines.append(f"| {label.format(**result['settings'])} | {' | '.join(found)} |")
    return "\n".join(lines)


def evaluate(settings: EvaluateSettings) -> dict:
    """Measure the model of a folder and write what was found."""
    torch.manual_seed(settings.seed)
    began, folder, out = time.perf_counter(), Path(settings.model), Path(settings.out)
    pipe, judge = hub.load_pipeline(folder), load_judge(folder)
    towers = hub.load_part("clip", folder)
    before = folder / "evaluation.json"
    known = json.loads(before.read_text(encoding="utf-8")) if before.exists() else {}
    result: dict = {
        "settings": {k: getattr(settings, k) for k in ("scenes", "prompts", "among")}
        | hub.defaults_of(pipe)._asdict(),
        "autoencoder": {},
        "clip": {},
        "fidelity": {},
    }
    for split in ("seen", "held_out"):
        result["autoencoder"][split] = autoencoder_quality(
            pipe, judge, split, settings.scenes // 2, settings.work
        )
        result["clip"][split] = clip_quality(towers, pipe.tokenizer, split, settings)
        result["fidelity"][split] = prompt_fidelity(pipe, judge, split, settings)
    result["measured"] = record(f"evaluate --prompts {settings.prompts}", pipe.device, began)
    result["training"] = facts_of_training(settings.work, known.get("training"))
    table = format_table(result)
    write_json(out / "evaluation.json", result)
    card = model_card(result, table, folder)
    (out / "README.md").write_text(card, encoding="utf-8")
    unpicked_sheet(pipe, settings.unpicked, settings.batch).save(
        out / "samples_48.png", optimize=True
    )
    if settings.readme:
        write_between(Path(settings.readme), "evaluation", table)
    print(table)
    return result

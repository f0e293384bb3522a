"""Measure Tiny SD: autoencoder, CLIP, prompt fidelity by the judge, Frechet distance; write the table into the model card and the README.

Every figure has a 95 % interval and is given for scenes whose (kind, colour) pairs were seen in training and for held-out pairs.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy import stats
from skimage.metrics import structural_similarity
from tqdm.auto import tqdm

from sdlearn import compression, hub, models, sampling, world
from sdlearn.training import clip, data
from sdlearn.training import judge as judging
from sdlearn.training.common import Settings, hardware

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class EvaluateSettings(Settings):
    scenes: int = 1000  # drawn scenes for the autoencoder, half of them with held-out pairs
    prompts: int = 500  # for seen pairs, and as many for held-out pairs
    steps: int = 25
    guidance_scale: float = 5.0
    little_guidance: float = 2.0  # prompt fidelity is measured a second time with this: guidance exaggerates, and orange may end as yellow
    batch: int = 25
    table: int = (
        60  # prompts for each entry of the table of samplers and steps; 0 leaves the table as it is
    )
    readme: str = str(ROOT / "README.md")
    images: str = str(ROOT / "images")


def share(hits: list[bool]) -> dict[str, float]:
    """Share of hits with its Wilson 95 % interval, in percent."""
    interval = stats.binomtest(int(sum(hits)), len(hits)).proportion_ci(method="wilson")
    return {
        "value": 100 * float(np.mean(hits)),
        "low": 100 * interval.low,
        "high": 100 * interval.high,
        "n": len(hits),
    }


def average(values: list[float]) -> dict[str, float]:
    """Mean with its normal 95 % interval."""
    half = 1.96 * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return {
        "value": float(np.mean(values)),
        "low": float(np.mean(values)) - half,
        "high": float(np.mean(values)) + half,
        "n": len(values),
    }


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Distance of two Gaussians fitted to features (N, D): |mean difference|^2 + tr(Ca + Cb - 2 (Ca Cb)^(1/2)) (Heusel et al. 2017, eq. 6)."""
    ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    roots = np.sqrt(np.linalg.eigvals(ca @ cb).clip(0).real) if np.isrealobj(ca) else None
    return float(
        np.square(a.mean(0) - b.mean(0)).sum() + np.trace(ca) + np.trace(cb) - 2 * roots.sum()
    )


def draw_prompts(
    pipe, scenes: list[world.Scene], seeds: list[int], settings: EvaluateSettings, **options
) -> list[Image.Image]:
    """One first-take picture for each scene's plain caption."""
    pictures = []
    for i in tqdm(range(0, len(scenes), settings.batch), desc="sampling"):
        prompts = [world.caption(s) for s in scenes[i : i + settings.batch]]
        pictures += sampling.sample(
            pipe,
            prompts,
            **{
                "num_inference_steps": settings.steps,
                "guidance_scale": settings.guidance_scale,
                **options,
            },
            seed=seeds[i : i + settings.batch],
        )
    return pictures


def autoencoder(pipe, judge, split: str, count: int, work: str) -> dict:
    """PSNR and SSIM of the round trip, and whether the judge still recognises the scene after it."""
    pixels = data.pictures(split, count, work)
    psnr, ssim, hits, hits_drawn = [], [], [], []
    for i in tqdm(range(0, count, 50), desc=f"autoencoder {split}"):
        drawn = [Image.fromarray(p) for p in pixels[i : i + 50]]
        back = compression.decode_latents(pipe, compression.encode_image(pipe, drawn))
        psnr += [compression.psnr(a, b) for a, b in zip(drawn, back, strict=True)]
        ssim += [
            structural_similarity(np.asarray(a), np.asarray(b), channel_axis=2)
            for a, b in zip(drawn, back, strict=True)
        ]
        scenes = [data.scene(split, j) for j in range(i, i + len(drawn))]
        hits_drawn += [
            judging.same(s, r, positions=True)
            for s, r in zip(scenes, judge.look(drawn)[0], strict=True)
        ]
        hits += [
            judging.same(s, r, positions=True)
            for s, r in zip(scenes, judge.look(back)[0], strict=True)
        ]
    return {
        "psnr": average(psnr),
        "ssim": average(ssim),
        "judge_on_drawings": share(hits_drawn),
        "judge_after_round_trip": share(hits),
    }


def fidelity(pipe, judge, split: str, settings: EvaluateSettings, **options) -> dict:
    """Share of prompts whose picture shows all that was named, and what went wrong in the others; ``options`` are those of :func:`sampling.sample`."""
    scenes = [data.scene(split, i) for i in range(settings.prompts)]
    pictures = draw_prompts(pipe, scenes, list(range(settings.prompts)), settings, **options)
    seen, features = judge.look(pictures)
    drawn = judge.look(
        [Image.fromarray(p) for p in data.pictures(split, settings.prompts, settings.work)]
    )[1]
    one = [len(s.things) == 1 for s in scenes]
    right = [judging.same(s, r) for s, r in zip(scenes, seen, strict=True)]
    return {
        "all_named": share(right),
        "one_thing": share([r for r, o in zip(right, one, strict=True) if o]),
        "two_things": share([r for r, o in zip(right, one, strict=True) if not o]),
        "with_positions": share(
            [judging.same(s, r, positions=True) for s, r in zip(scenes, seen, strict=True)]
        ),
        # no interval: resampled pictures repeat, which moves this distance up, so a bootstrap interval misses the value itself
        "frechet": {"value": frechet_distance(features, drawn), "n": len(features)},
    }


def sampler_table(pipe, judge, settings: EvaluateSettings) -> dict:
    """Share of prompts right for each sampler and number of steps, the same prompts and seeds throughout."""
    scenes = [data.scene("seen", 10_000 + i) for i in range(settings.table)]
    rows = {}
    for name in sampling.SAMPLERS:
        for steps in (2, 3, 5, 10, 20, 40):
            pictures = draw_prompts(
                pipe,
                scenes,
                list(range(len(scenes))),
                settings,
                sampler=name,
                num_inference_steps=steps,
            )
            rows.setdefault(name, {})[str(steps)] = share(
                [judging.same(s, r) for s, r in zip(scenes, judge.look(pictures)[0], strict=True)]
            )
    return rows


def unpicked(pipe, settings: EvaluateSettings, count: int = 48) -> Image.Image:
    """Seeds 0 to 47, first take, each above its prompt; every third prompt names a held-out pair (marked *)."""
    scenes = [data.scene("held_out" if i % 3 == 2 else "seen", 20_000 + i) for i in range(count)]
    pictures = draw_prompts(pipe, scenes, list(range(count)), settings)
    side, text, columns = 192, 46, 8
    sheet = Image.new(
        "RGB", (columns * (side + 8) + 8, -(-count // columns) * (side + text) + 8), "white"
    )
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11.5)
    for i, (scene, picture) in enumerate(zip(scenes, pictures, strict=True)):
        x, y = 8 + i % columns * (side + 8), 8 + i // columns * (side + text)
        sheet.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (x, y))
        words, lines = (world.caption(scene) + (" *" if scene.held_out else "")).split(), [""]
        for word in words:
            if font.getlength(f"{lines[-1]} {word}") > side:
                lines.append("")
            lines[-1] = f"{lines[-1]} {word}".strip()
        for k, line in enumerate(lines):
            pen.text((x, y + side + 2 + 13 * k), line, fill=(30, 30, 40), font=font)
    return sheet


def format_table(result: dict) -> str:
    """The measured table in Markdown."""

    def cell(entry: dict, digits: int = 1, unit: str = " %") -> str:
        interval = (
            f" ({entry['low']:.{digits}f}-{entry['high']:.{digits}f})" if "low" in entry else ""
        )
        return f"{entry['value']:.{digits}f}{unit}{interval}"

    rows = [
        ("Autoencoder, PSNR", "psnr", "autoencoder", 1, " dB"),
        ("Autoencoder, SSIM", "ssim", "autoencoder", 3, ""),
        ("CLIP: caption finds its picture among 192", "text_to_image", "clip", 1, " %"),
        ("CLIP: picture finds its caption among 192", "image_to_text", "clip", 1, " %"),
        (
            "CLIP: caption is nearer to its picture than to that with left and right exchanged",
            "sides",
            "clip",
            1,
            " %",
        ),
        ("**Prompt fidelity**: everything named is there", "all_named", "fidelity", 1, " %"),
        ("... prompts with one thing", "one_thing", "fidelity", 1, " %"),
        ("... prompts with two things", "two_things", "fidelity", 1, " %"),
        ("... and everything where it was asked for", "with_positions", "fidelity", 1, " %"),
        (
            "**Prompt fidelity** with guidance {little_guidance:g}",
            "all_named",
            "fidelity_little_guidance",
            1,
            " %",
        ),
        ("... prompts with one thing", "one_thing", "fidelity_little_guidance", 1, " %"),
        ("... prompts with two things", "two_things", "fidelity_little_guidance", 1, " %"),
        (
            "Frechet distance in the judge's features (lower is better; no interval)",
            "frechet",
            "fidelity",
            0,
            "",
        ),
        ("The judge itself, on drawings", "judge_on_drawings", "autoencoder", 1, " %"),
        (
            "The judge itself, after the autoencoder's round trip",
            "judge_after_round_trip",
            "autoencoder",
            1,
            " %",
        ),
    ]
    lines = ["| measured (95 % interval) | seen pairs | held-out pairs |", "|---|---|---|"]
    for label, key, group, d, u in rows:
        lines.append(
            f"| {label.format(**result['settings'])} | {cell(result[group]['seen'][key], d, u)} | {cell(result[group]['held_out'][key], d, u)} |"
        )
    return "\n".join(lines)


def training_facts(work: str, before: dict[str, list[dict]] | None = None) -> dict[str, list[dict]]:
    """What the logs of the four runs say: minutes, steps, settings. A run that went on from shipped weights stands after the runs ``before`` that made those."""
    facts = dict(before or {})
    for name in ("vae", "clip", "unet", "judge"):
        log = Path(work) / name / "log.jsonl"
        if log.exists():
            first, *rows = [json.loads(line) for line in log.read_text().splitlines()]
            settings = {
                k: v
                for k, v in first["settings"].items()
                if k not in ("work", "out", "device", "resume", "save_every", "start_from")
            }
            last = rows[-1]
            run = {
                "minutes": round(last["seconds"] / 60, 1),
                "steps": last["step"],
                "hardware": first.get("hardware", "not recorded"),
                "settings": settings,
            }
            earlier = facts.get(name, []) if first["settings"].get("start_from") else []
            facts[name] = [*(r for r in earlier if r != run), run]
    return facts


def model_card(result: dict, facts: dict, folder: Path) -> str:
    """The model card, all figures from the measurement, the logs and the files."""
    size = sum(f.stat().st_size for f in folder.rglob("*.safetensors")) / 1e6
    parts = {
        p: sum(v.numel() for v in hub.load_part(p, folder).parameters()) / 1e6
        for p in ("vae", "text_encoder", "unet", "clip")
    }
    rows = [
        f"| {name}{', further' if i else ''} | {r['minutes']} | {r['steps']:,} | "
        + " | ".join(str(r["settings"][key]) for key in ("batch", "lr", "seed"))
        + f" | {r.get('hardware', 'not recorded')} |"
        for name, runs in facts.items()
        for i, r in enumerate(runs)
        if name != "judge"
    ]
    pairs = ", ".join(f"{c} {k}" for k, c in sorted(world.HELD_OUT))
    wrong = (
        facts["unet"][-1]["settings"].get("wrong", 0) if facts.get("unet") else 0
    )  # a folder without its logs has a card all the same
    from_wrong = (
        f"In the last training of the U-Net, up to {100 * wrong:.0f} % of the noisy latents were of a wrong picture (setting `wrong`).\n"
        if wrong
        else ""
    )
    return f"""---
license: mit
library_name: diffusers
pipeline_tag: text-to-image
---
# Tiny SD

A latent diffusion model of the picture-book world of sdlearn, in the same classes and the same folder format as Stable Diffusion.
This page is printed by `python -m sdlearn.training evaluate`.

| part | class | parameters |
|---|---|---|
| vae | AutoencoderKL | {parts["vae"]:.2f} M |
| text_encoder | CLIPTextModel | {parts["text_encoder"]:.2f} M |
| unet | UNet2DConditionModel | {parts["unet"]:.2f} M |
| clip (both towers, for chapter 04) | CLIPModel | {parts["clip"]:.2f} M |

Weights in fp16 safetensors, {size:.1f} MB together. Pictures are 128 x 128, latents 16 x 16 x 4, `scaling_factor` {hub.load_part("vae", folder).config.scaling_factor}.

## Data
Scenes drawn by `sdlearn/world.py`: {len(world.KINDS)} things in {len(world.COLOURS)} colours at {len(world.POSITIONS)} positions,
{len(world.PLACES)} places, {len(world.TIMES)} times of day, one or two things a picture.
Never drawn for training: {pairs}.

## Training
| part | minutes | steps | batch | learning rate | seed | hardware |
|---|---|---|---|---|---|---|
{chr(10).join(rows)}

A batch of the vae is of 64-pixel crops; in the last part of its time it has a quarter as many whole pictures.
{from_wrong}All settings are in `evaluation.json` and, with reasons, in `sdlearn/training/`.

## Measured
{format_table(result)}

{result["settings"]["prompts"]} prompts a column, {result["settings"]["steps"]} DDIM steps,
guidance {result["settings"]["guidance_scale"]} where no other is named, seeds 0 to {result["settings"]["prompts"] - 1}, first take. Measured on {result["hardware"]}.
The judge is a classifier trained on drawings only (as drawn, and after the autoencoder's round trip); it was never used to train or to pick.

## Limits
It knows only its world and the {len(_words())} words of its captions: {", ".join(_words())}. Any other word is a guess. It draws at most two things, one left and one right.
Small errors are those of its autoencoder: thin struts and small stars are softened. It is made for learning, not for pictures.

## Licence
MIT, weights and pictures included. No picture or text of anybody else went into it.
"""


def _words() -> list[str]:
    tokenizer = hub.load_tokenizer()
    base = models.byte_vocabulary()[0]
    pieces = [t for t in tokenizer.get_vocab() if t.endswith("</w>") and t not in base]
    said = {
        w
        for i in range(2000)
        for w in re.findall(
            r"[a-z]+", world.caption(data.scene("train", i), np.random.default_rng(i))
        )
    }
    return sorted(w for w in said if f"{w}</w>" in pieces or len(w) == 1)


def write_readme(readme: Path, result: dict) -> None:
    """Put the table between the README's marks."""
    if readme.exists():
        mark = re.compile(r"(<!-- evaluation:start -->\n).*?(<!-- evaluation:end -->)", re.DOTALL)
        readme.write_text(
            mark.sub(lambda m: m[1] + format_table(result) + "\n" + m[2], readme.read_text())
        )


def train(settings: EvaluateSettings) -> None:
    """Measure and write (the name is the one every stage has)."""
    torch.manual_seed(settings.seed)
    folder = Path(settings.out)
    pipe, judge = hub.load_pipeline(folder), judging.load()
    pipe.unet.to(
        memory_format=torch.channels_last
    )  # the U-Net alone took 25 ms in place of 33 a guided picture, 25 at once on two cores
    clip_model = hub.load_part("clip", folder)
    path = folder / "evaluation.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    result: dict = {
        "settings": {
            k: getattr(settings, k)
            for k in ("scenes", "prompts", "steps", "guidance_scale", "little_guidance")
        },
        "versions": hub.versions(),
    }
    result["hardware"] = hardware(pipe.device)
    for split in ("seen", "held_out"):
        result.setdefault("autoencoder", {})[split] = autoencoder(
            pipe, judge, split, settings.scenes // 2, settings.work
        )
        found = clip.retrieval(clip_model, pipe.tokenizer, split, 960, settings.work)
        result.setdefault("clip", {})[split] = {
            k: share([True] * round(v * 960) + [False] * (960 - round(v * 960)))
            for k, v in found.items()
        }
        result["clip"][split]["sides"] = share(
            clip.sides(clip_model, pipe.tokenizer, split, settings.prompts)
        )
        result.setdefault("fidelity", {})[split] = fidelity(pipe, judge, split, settings)
        result.setdefault("fidelity_little_guidance", {})[split] = fidelity(
            pipe, judge, split, settings, guidance_scale=settings.little_guidance
        )
    result["samplers"] = (
        sampler_table(pipe, judge, settings) if settings.table else before.get("samplers", {})
    )
    result["training"] = training_facts(settings.work, before.get("training"))
    path.write_text(json.dumps(result, indent=1) + "\n")
    (folder / "README.md").write_text(model_card(result, result["training"], folder))
    Path(settings.images).mkdir(exist_ok=True)
    unpicked(pipe, settings).save(Path(settings.images) / "samples_48.png", optimize=True)
    write_readme(Path(settings.readme), result)
    print(format_table(result))

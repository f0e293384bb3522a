"""What a model folder may hold: refuse what could run code, hang, or draw nonsense in silence.

A folder comes from anywhere, so all of this is looked at before diffusers or transformers see it.
Every refusal is a ``FileNotFoundError`` or a ``ValueError`` of one sentence that says what to do.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Iterator
from pathlib import Path

INDEX = "model_index.json"
PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
)
SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "HeunDiscreteScheduler",
    "UniPCMultistepScheduler",
)
PARTS = {  # of a pipeline, and the classes that each may have
    "vae": {"diffusers": ("AutoencoderKL",)},
    "unet": {"diffusers": ("UNet2DConditionModel",)},
    "text_encoder": {"transformers": ("CLIPTextModel",)},
    "tokenizer": {"transformers": ("CLIPTokenizer", "CLIPTokenizerFast")},
    "scheduler": {"diffusers": SCHEDULERS},
}
WEIGHTS = ("vae", "unet", "text_encoder")
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")  # may be named, is not loaded
LIBRARIES = (None, "diffusers", "transformers", "stable_diffusion")
CONFIGS = {"scheduler": "scheduler_config.json"}  # the others have config.json
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")

# Least and most of what configurations say in whole numbers. The limits are far beyond any model
# of this kind; they keep a damaged or hostile one from filling the memory before it is refused.
CHANNELS, LAYERS, SIDE = (1, 16_384), (1, 64), (1, 4096)
RANGES = {
    "unet": {
        "sample_size": SIDE,
        "in_channels": (1, 64),
        "out_channels": (1, 64),
        "block_out_channels": CHANNELS,
        "layers_per_block": LAYERS,
        "norm_num_groups": CHANNELS,
        "cross_attention_dim": CHANNELS,
        "attention_head_dim": CHANNELS,
        "transformer_layers_per_block": LAYERS,
        "freq_shift": (0, 1000),
        "downsample_padding": (0, 8),
    },
    "vae": {
        "sample_size": SIDE,
        "in_channels": (1, 64),
        "out_channels": (1, 64),
        "latent_channels": (1, 64),
        "block_out_channels": CHANNELS,
        "layers_per_block": LAYERS,
        "norm_num_groups": CHANNELS,
    },
    "text_encoder": {
        "vocab_size": (3, 1_000_000),
        "hidden_size": CHANNELS,
        "intermediate_size": (1, 65_536),
        "num_hidden_layers": LAYERS,
        "num_attention_heads": CHANNELS,
        "max_position_embeddings": (3, 4096),
    },
    "scheduler": {"num_train_timesteps": (1, 10_000)},
}
BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
PREDICTION_TYPES = ("epsilon", "v_prediction")


def check_folder(folder: Path) -> None:
    """Refuse a folder that is no Stable Diffusion, lacks a part, is damaged or brings code.

    Raises:
        FileNotFoundError, ValueError: with one sentence that says what to do.
    """
    try:
        _check_folder(folder)
    except OSError as error:
        if error.errno is None:  # one of our own sentences
            raise
        raise _unreadable(error.filename or folder, error) from error


def _check_folder(folder: Path) -> None:
    if not _there(folder / INDEX):
        raise FileNotFoundError(
            f"{folder} is not a diffusers model: it has no {INDEX}. Choose the folder that holds "
            "vae/, unet/, text_encoder/ and tokenizer/."
        )
    check_index(read_json(folder / INDEX), folder)
    for file in _files(folder):
        if file.suffix.lower() == ".py":
            raise ValueError(
                f"{file} is a program that comes with the model, and this package never runs one: "
                "delete it, or get a version of the model without it."
            )
    for part in PARTS:
        _check_part(folder / part)
    _check_schedule(folder / "scheduler" / "scheduler_config.json")
    for part in WEIGHTS:
        _check_weights(folder / part)


def check_index(index: object, where: Path | str) -> None:
    """Refuse a ``model_index.json`` that asks for other classes than :data:`PARTS` names.

    Args:
        index: what the file holds.
        where: the folder or hub id it comes from, for the sentence.
    """
    if not isinstance(index, dict):
        raise ValueError(f"{where}: {INDEX} is damaged (it is no table of parts): fetch it again.")
    named = {k: v for k, v in index.items() if isinstance(v, list)}
    pipeline = index.get("_class_name")
    foreign = [v for v in named.values() if not _is_class(v) or v[0] not in LIBRARIES]
    if not isinstance(pipeline, str) or foreign:
        raise ValueError(
            f"{where}: {INDEX} asks to run code that comes with the model, which this package "
            "never does: get a version of the model that needs none."
        )
    others = [
        name
        for name, (library, kind) in named.items()
        if kind is not None
        and name not in LEFT_OUT
        and kind not in PARTS.get(name, {}).get(library, ())
    ]
    if pipeline not in PIPELINES or others:
        raise ValueError(_another_family(pipeline[:80], named, others, where))
    for part in PARTS:
        if part not in named or named[part][1] is None:
            raise FileNotFoundError(
                f"{where}: {INDEX} names no {part}: the model is incomplete; fetch it again."
            )


def _is_class(value: list) -> bool:
    return len(value) == 2 and all(v is None or isinstance(v, str) for v in value)


def _another_family(pipeline: str, named: dict, others: list[str], where: Path | str) -> str:
    traits = {
        "text_encoder_3": "three text encoders",
        "text_encoder_2": "two text encoders",
        "transformer": "a transformer in place of the U-Net",
        "prior": "a network that comes before the U-Net",
        "controlnet": "a second network that guides the U-Net",
    }
    found = [text for name, text in traits.items() if named.get(name, [None, None])[1]]
    if "three text encoders" in found:
        found = [text for text in found if text != "two text encoders"]
    why = " and ".join(found) or ", ".join(f"{n}: {named[n][1][:80]}" for n in others[:3])
    return (
        f"{where} is another kind of model, a {pipeline}{f' ({why})' if why else ''}, and this "
        "course reads Stable Diffusion 1 and 2: load 'tiny', 'sd15', 'sd-small' or 'sd-turbo'."
    )


def read_json(path: Path) -> object:
    """What a JSON file holds, be it damaged, nested without end, or no file at all."""
    _ordinary(path, most=64_000_000)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        reason = str(error)[:200]
        raise ValueError(f"{path} is damaged ({reason}): fetch it again.") from error


def _there(path: Path) -> bool:
    """Whether there is something of this name, even if it cannot be read."""
    try:
        path.lstat()
    except (OSError, ValueError):
        return False
    return True


def _unreadable(path: Path | str, error: OSError) -> ValueError:
    if isinstance(error, PermissionError):
        return ValueError(f"{path} cannot be read ({error.strerror}): see to its rights.")
    return ValueError(f"{path} is damaged ({error.strerror}): fetch it again.")


def _ordinary(path: Path, most: float = math.inf) -> None:
    """Refuse pipes, devices, links that lead nowhere: opening one may wait for ever."""
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{path} is no ordinary file: the model is damaged; fetch it again.")
    if found.st_size > most:
        raise ValueError(f"{path} is too large to be what its name says: fetch it again.")


def _files(folder: Path) -> Iterator[Path]:
    """All that lies in the folder and in its parts' folders, without going deeper."""
    for place in (folder, *(folder / part for part in PARTS)):
        if place.is_dir():
            yield from (f for f in place.iterdir() if not f.is_dir())


def _check_part(part: Path) -> None:
    """Files that can be opened, and a configuration within sense."""
    if not part.is_dir():
        lacks = "has no weights (*.safetensors)" if part.name in WEIGHTS else "is missing or empty"
        raise FileNotFoundError(f"{part} {lacks}: the model is incomplete; fetch it again.")
    for file in part.iterdir():
        if not file.is_dir():
            _ordinary(file)
    jsons = {f.name: read_json(f) for f in sorted(part.glob("*.json"))}
    if part.name == "tokenizer":
        words = "tokenizer.json" in jsons or (
            "vocab.json" in jsons and (part / "merges.txt").exists()
        )
        if not words:
            raise FileNotFoundError(
                f"{part} is missing or empty: the model is incomplete; fetch it again."
            )
    elif CONFIGS.get(part.name, "config.json") not in jsons:
        raise FileNotFoundError(
            f"{part} has no configuration: the model is incomplete; fetch it again."
        )
    for name, content in jsons.items():
        if name.endswith("config.json"):
            _check_config(part / name, content)


def _check_config(path: Path, config: object) -> None:
    if not isinstance(config, dict):
        raise ValueError(f"{path} is damaged (it is no table of settings): fetch it again.")
    part = path.parent.name
    if "auto_map" in config or "quantization_config" in config:
        raise ValueError(
            f"{path} asks to run code that comes with the model, or that reads weights in a "
            "format of its own: get a version of the model that needs neither."
        )
    known = [kind for kinds in PARTS[part].values() for kind in kinds]
    for key in ("_class_name", "tokenizer_class"):
        if config.get(key, known[0]) not in known:
            raise ValueError(
                f"{path} says {key} {str(config[key])[:80]!r}: this course reads {known[0]}."
            )
    if part == "text_encoder" and config.get("model_type", "clip_text_model") != "clip_text_model":
        raise ValueError(
            f"{path} says model_type {str(config['model_type'])[:80]!r}: this course reads "
            "CLIP's text encoder."
        )
    for key, value in config.items():
        _check_finite(path, key, value)
    for key, (least, most) in RANGES.get(part, {}).items():
        values = config.get(key, None if key == "sample_size" else least)
        listed = values if isinstance(values, list) else [values]
        if not 0 < len(listed) <= 32 or not all(
            type(v) is int and least <= v <= most for v in listed
        ):
            raise ValueError(
                f"{path} says {key} = {str(values)[:80]}: it must be whole numbers from {least} "
                f"to {most}; fetch the model again."
            )
    if part == "vae":
        _check_scale(path, config.get("scaling_factor", 0.18215))


def _check_finite(path: Path, key: str, value: object) -> None:
    number = isinstance(value, (int, float)) and path.parent.name != "tokenizer"
    if number and not abs(value) < 1e7:
        raise ValueError(
            f"{path} says {key} = {str(value)[:80]}: it must be finite, and no such number has "
            "ever been needed; fetch the model again."
        )


def _check_scale(path: Path, scale: object) -> None:
    if type(scale) not in (int, float) or not 1e-6 < scale < 1e6:
        raise ValueError(
            f"{path} says scaling_factor = {str(scale)[:80]}: it must be a number above 0, about "
            "1 over the standard deviation of the latents; fetch the model again."
        )


def _check_schedule(path: Path) -> None:
    """A noise schedule that the samplers of this course know."""
    config = read_json(path)
    kind = config.get("prediction_type", "epsilon")
    if kind not in PREDICTION_TYPES:
        raise ValueError(
            f"{path} says prediction_type {str(kind)[:80]!r}: the samplers of this course know "
            f"{' and '.join(PREDICTION_TYPES)}; load another model."
        )
    schedule = config.get("beta_schedule", "linear")
    if schedule not in BETA_SCHEDULES:
        raise ValueError(
            f"{path} says beta_schedule {str(schedule)[:80]!r}: choose {', '.join(BETA_SCHEDULES)}."
        )
    start, end = config.get("beta_start", 0.0001), config.get("beta_end", 0.02)
    trained = config.get("trained_betas")
    betas = [start, end] if trained is None else trained
    numbers = isinstance(betas, list) and all(type(b) in (int, float) for b in betas)
    if not numbers or not 0 < len(betas) <= 10_000 or not all(0 < b < 1 for b in betas):
        raise ValueError(
            f"{path} says betas from {str(start)[:40]} to {str(end)[:40]}: each must be a share "
            "between 0 and 1; fetch the model again."
        )
    if trained is None and start > end:
        raise ValueError(f"{path} says beta_start {start} > beta_end {end}: fetch the model again.")


def _check_weights(part: Path) -> None:
    from safetensors import SafetensorError, safe_open

    files = sorted(part.glob("*.safetensors"))
    pickles = [f.name for f in sorted(part.iterdir()) if f.suffix in PICKLES]
    if not files and pickles:
        raise ValueError(
            f"{part} holds only {pickles[0]}, a pickle, which can run any code when opened: get "
            "the safetensors version of this model."
        )
    if not files:
        raise FileNotFoundError(
            f"{part} has no weights (*.safetensors): the model is incomplete; fetch it again."
        )
    for file in files:
        try:
            with safe_open(file, "pt") as opened:
                opened.keys()
        except PermissionError as error:
            raise _unreadable(file, error) from error
        except (SafetensorError, OSError) as error:
            raise ValueError(
                f"{file} is damaged ({str(error)[:200]}): delete it and fetch it again (for Tiny "
                f"SD: git checkout -- {file.name}'s folder)."
            ) from error

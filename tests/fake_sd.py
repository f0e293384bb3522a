"""Folders that look like Stable Diffusion 1.5 from outside and hold random weights: the real
thing's layout, configurations and file names, at any size.

Configurations are the published ones (huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5),
the entries that diffusers and transformers read.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from types import SimpleNamespace

import torch
from safetensors.torch import save_file

from sdlearn import hub, models, text

COMMIT = "0123456789abcdef0123456789abcdef01234567"

# parameters of Stable Diffusion 1.5's parts
PUBLISHED = {"unet": 859_520_964, "text_encoder": 123_060_480, "vae": 83_653_863}

# what differs in the shrunken model: no size equals one of Tiny SD's or of the real one's
SHRUNKEN = {
    "unet": {
        "block_out_channels": (16, 32, 48, 48),
        "sample_size": 24,
        "cross_attention_dim": 48,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    },
    "vae": {
        "block_out_channels": (16, 16, 32, 32),
        "sample_size": 192,
        "norm_num_groups": 8,
        "scaling_factor": 0.31,
    },
    "text_encoder": {
        "hidden_size": 48,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "projection_dim": 48,
    },
}
PNDM = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": "0.6.0",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def tokenizer(length: int = 77):
    """A tokenizer of the web's kind: common words (those of our world) are one piece, and thousands
    of other pieces make up every word there is."""
    vocabulary, _ = models.byte_vocabulary()
    specials = [t for t in vocabulary if t.startswith("<|")]
    words = text.merges(SimpleNamespace(tokenizer=hub.load_tokenizer()))
    pairs = list(product(ascii_lowercase, repeat=2))
    others = [
        *pairs,
        *((a, b + "</w>") for a, b in pairs),
        *((a + b, c + "</w>") for (a, b), c in product(pairs, "adeghklnorsty")),
    ]
    merges = list(dict.fromkeys([*words, *others]))
    pieces = dict.fromkeys(
        [*(t for t in vocabulary if t not in specials), *("".join(m) for m in merges), *specials]
    )
    return models.build_tokenizer({t: i for i, t in enumerate(pieces)}, merges, length)


def parts(shrink: dict = SHRUNKEN, words=None):
    """Text encoder, U-Net and autoencoder with random weights, of Stable Diffusion 1.5's kind with
    what ``shrink`` changes."""
    from transformers import CLIPTextConfig, CLIPTextModel

    ids = {} if words is None else {"vocab_size": len(words)}
    config = CLIPTextConfig(
        **{
            **models.SD15_TEXT,
            "hidden_act": "quick_gelu",
            "bos_token_id": 0,
            "eos_token_id": 2,
            "pad_token_id": 1,
            **shrink.get("text_encoder", {}),
            **ids,
        }
    )
    return {
        "text_encoder": CLIPTextModel(config).eval(),
        "unet": models.build_unet(**{**models.SD15_UNET, **shrink.get("unet", {})}).eval(),
        "vae": models.build_vae(**{**models.SD15_VAE, **shrink.get("vae", {})}).eval(),
    }


def write_tokenizer(path: Path):
    """As the original has it: vocab.json and merges.txt."""
    words = tokenizer()
    words.save_pretrained(path)
    (path / "tokenizer.json").unlink()  # the originals have vocab.json and merges.txt
    state = json.loads(words.backend_tokenizer.to_str())["model"]
    (path / "vocab.json").write_text(json.dumps(state["vocab"]), encoding="utf-8")
    (path / "merges.txt").write_text(
        "#version: 0.2\n"
        + "\n".join(m if isinstance(m, str) else " ".join(m) for m in state["merges"])
        + "\n",
        encoding="utf-8",
    )
    (path / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "add_prefix_space": False,
                "bos_token": "<|startoftext|>",
                "do_lower_case": True,
                "eos_token": "<|endoftext|>",
                "errors": "replace",
                "model_max_length": 77,
                "pad_token": "<|endoftext|>",
                "tokenizer_class": "CLIPTokenizer",
                "unk_token": "<|endoftext|>",
            }
        )
    )
    return words


def folder(
    path: Path, shrink: dict = SHRUNKEN, variant: str | None = "fp16", seed: int = 0
) -> Path:
    """Write a model folder, part by part, so that the full size never stands in memory whole.
    ``variant`` None gives the plain file names."""
    models.quiet()
    path.mkdir(parents=True)
    dot = f".{variant}" if variant else ""
    words = write_tokenizer(path / "tokenizer")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = parts(shrink, words if shrink else None)
    while made:
        name, part = made.popitem()
        part.half().save_pretrained(path / name)
        (file,) = (path / name).glob("*.safetensors")
        file.unlink()
        prefix = "text_model." if name == "text_encoder" else ""  # as transformers 4 wrote it
        weights = {
            prefix + k.removeprefix("text_model."): v.contiguous()
            for k, v in part.state_dict().items()
        }
        save_file(weights, path / name / f"{file.stem}{dot}.safetensors", metadata={"format": "pt"})
        config = path / name / "config.json"
        changed = (
            {"_diffusers_version": "0.6.0"}
            if name == "vae"
            else {"torch_dtype": "float32"}
            if name == "text_encoder"
            else {}
        )
        known = {k: v for k, v in json.loads(config.read_text()).items() if k != "dtype"}
        config.write_text(json.dumps(known | changed, indent=2))
        del part, weights
    (path / "scheduler").mkdir()
    (path / "scheduler" / "scheduler_config.json").write_text(json.dumps(PNDM, indent=2))
    (path / "model_index.json").write_text(json.dumps(INDEX, indent=2))
    return path


def cache(root: Path, hub_id: str, model: Path, commit: str = COMMIT) -> Path:
    """Put a model folder into a hub cache as a download would: blobs named by their hash, links to
    them under snapshots, refs/main. Returns the snapshot."""
    home = root / f"models--{hub_id.replace('/', '--')}"
    snapshot = home / "snapshots" / commit
    for file in sorted(f for f in model.rglob("*") if f.is_file()):
        blob = home / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        link = snapshot / file.relative_to(model)
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, blob)
        try:
            link.symlink_to(os.path.relpath(blob, link.parent))
        except OSError:  # Windows without the right to make links: the cache holds copies there too
            shutil.copyfile(blob, link)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text(commit)
    return snapshot

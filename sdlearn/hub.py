"""Find a model, check it, fetch it, load it, save one: with models.py the only door to diffusers.

Everything is imported inside the functions, because importing diffusers alone takes seconds.
"""

from __future__ import annotations

import copy
import json
import math
import os
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from sdlearn import folders, inputs, memory, world
from sdlearn.models import SAMPLERS, build_scheduler, quiet

if TYPE_CHECKING:
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTokenizer

TINY_SD = Path(__file__).parent / "tiny_sd"
TINY_FEW = Path(__file__).parent / "tiny_sd_few"  # a LoRA on it, distilled to few steps
LORA_FILE = "pytorch_lora_weights.safetensors"  # diffusers' own name
LOCK = threading.RLock()
"""Held by every function that runs a model: widget callbacks arrive in other threads, and
schedulers and capturing layers hold state."""

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
# A tokenizer with no more pieces than this was trained on a picture-book world alone, and knows
# each word of it as one piece; one trained on the web has seen nearly every word.
WORLD_TOKENIZER = 5000
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
TESTED = {"torch": "2.13.0", "diffusers": "0.42.1", "transformers": "5.23.0"}


class Defaults(NamedTuple):
    """How a model is best sampled where nothing else is asked for."""

    guidance_scale: float
    sampler: str  # "ddim", "ddpm", "euler", "dpm++" or "lcm"
    num_inference_steps: int


STABLE_DIFFUSION = Defaults(7.5, "dpm++", 25)
"""For models that say nothing: the scale of Stable Diffusion's model cards, 25 steps of DPM++."""
FEW_STEPS = Defaults(1.0, "lcm", 4)
"""For what ``python -m sdlearn.training few-steps`` makes."""


@dataclass(frozen=True)
class Model:
    """One entry of the table of models: where it lives on the hub, and what it costs."""

    hub_ids: tuple[str, ...]  # in order of preference
    about: str
    licence: str
    # the safetensors this package asks for: half precision where the model has it
    download_gb: float
    parts_gb: tuple[float, ...]  # text encoder, U-Net, autoencoder in half precision
    revisions: tuple[str, ...] = ()  # a commit for each hub id: everybody gets the same files
    side: int = 64  # of the latents
    note: str = ""  # what to know before sampling with it
    defaults: Defaults = STABLE_DIFFUSION

    @property
    def memory_gb(self) -> float:
        """Half precision, one picture at a time."""
        return round(
            memory.RESERVE_GB + sum(self.parts_gb) + (self.side / 64) ** 2 * memory.DECODE_GB, 1
        )


# Sizes are those of the files listed under huggingface.co/ID/tree/REVISION/{unet,vae,text_encoder}
# (two bytes a parameter in half precision), licences those of the models' cards, revisions the
# commits that these pages, or for sd15, v1-4 and sd-turbo public projects that pin them, name in
# full.
RAIL = "CreativeML Open RAIL-M"
MODELS = {
    "sd15": Model(
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "CompVis/stable-diffusion-v1-4"),
        "Stable Diffusion 1.5, 512 x 512",
        RAIL,
        download_gb=2.1,
        parts_gb=(0.25, 1.72, 0.17),
        revisions=(
            "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
            "133a221b8aa7292a167afc5127cb63fb5005638b",
        ),
    ),
    "sd15-inpainting": Model(
        ("stable-diffusion-v1-5/stable-diffusion-inpainting",),
        "Stable Diffusion 1.5 trained on for inpainting",
        RAIL,
        download_gb=2.1,
        parts_gb=(0.25, 1.72, 0.17),
        revisions=("8a4288a76071f7280aedbdb3253bdb9e9d5d84bb",),
        note="Its U-Net also reads a picture and a mask, so the cells' own samplers cannot drive "
        'it: use models.as_pipeline("inpaint", pipe).',
    ),
    # Kim et al. 2023, "BK-SDM"; its text encoder and autoencoder come in single precision only
    "sd-small": Model(
        ("nota-ai/bk-sdm-small",),
        "BK-SDM-Small, Stable Diffusion 1.4 with blocks of its U-Net distilled away, 512 x 512",
        RAIL,
        download_gb=1.8,
        parts_gb=(0.25, 0.97, 0.17),
        revisions=("103ac4e97c80f8b807eb6a17547d650d86381102",),
    ),
    # Sauer et al. 2023, "Adversarial Diffusion Distillation"; a larger text encoder, 1024 wide
    "sd-turbo": Model(
        ("stabilityai/sd-turbo",),
        "SD-Turbo, distilled to 1 to 4 steps, 512 x 512",
        "Stability AI's own; for commercial use see stability.ai/license",
        download_gb=2.6,
        parts_gb=(0.68, 1.73, 0.17),
        revisions=("b261bac6fd2cf515557d5d0707481eafa0485ec2",),
        note="One step as its authors take it is num_inference_steps=1, "
        'sampler="euler", guidance_scale=1; other settings stop at noise levels it was not '
        "distilled for.",
        defaults=Defaults(1.0, "euler", 1),
    ),
}


def versions() -> dict[str, str]:
    """Installed versions of the libraries the series stands on; "missing" where there is none."""
    found = {}
    names = "torch diffusers transformers accelerate peft safetensors ipywidgets jupyterlab"
    for name in names.split():
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def resolve(model: str | os.PathLike | None = None) -> tuple[Path | None, tuple[str, ...]]:
    """Where a model is: (local folder, ()) or (None, hub ids to try in order).

    Order: the argument, then the environment variable ``SDLEARN_MODEL``, then Tiny SD. A model is
    a local folder, "tiny", "tiny-few", a short name of :data:`MODELS`, or a hub id "owner/name".
    A ``Path`` is always a local folder.

    Raises:
        FileNotFoundError: if it is none of these.
        TypeError: if it is neither text nor a path.
    """
    if model is not None and not isinstance(model, (str, os.PathLike)):
        raise TypeError(f"A model is a folder or a name, not {type(model).__name__}.")
    name = str(model or os.environ.get("SDLEARN_MODEL") or TINY_SD)
    ours = {"tiny": TINY_SD, "tiny_sd": TINY_SD, "tiny-few": TINY_FEW}
    name = str(ours.get(name, name))
    if name in MODELS:
        return None, MODELS[name].hub_ids
    folder = os.path.expanduser(name)
    if os.path.isdir(folder):
        return Path(folder), ()
    if os.path.isfile(folder):
        raise FileNotFoundError(
            f"{name!r} is a single file: this course reads diffusers folders, which hold "
            f"{folders.INDEX}, vae/, unet/, text_encoder/ and tokenizer/."
        )
    parent = name.split("/")[0]
    if (
        not isinstance(model, str | None)
        or not HUB_ID.fullmatch(name)
        or ".." in name
        or "--" in name
    ):
        raise FileNotFoundError(
            f"No model at {name[:200]!r}: give a folder that exists, a short name "
            f"({', '.join(['tiny', 'tiny-few', *MODELS])}) or a hub id like 'owner/name'."
        )
    if os.path.isdir(parent):
        raise FileNotFoundError(
            f"There is a folder {parent!r} here, but no {name!r} in it: correct the name (to ask "
            "the hub for a model of this name, start in another folder)."
        )
    return None, (name,)


def _weights(folder: Path) -> dict[str, Path]:
    """The files that are loaded: for each part the half precision variant, if there is one."""
    found = {part: sorted((folder / part).glob("*.safetensors")) for part in folders.WEIGHTS}
    return {
        part: next((f for f in files if ".fp16." in f.name), files[0])
        for part, files in found.items()
    }


def measure_size(folder: Path) -> memory.Size:
    """What decides how much memory a folder's model needs, from the shapes in its files."""
    from safetensors import safe_open

    files, parts = _weights(folder), []
    for part in ("text_encoder", "unet", "vae"):
        with safe_open(files[part], "pt") as opened:
            shapes = [opened.get_slice(key).get_shape() for key in opened.keys()]
        parts.append(2e-9 * sum(math.prod(shape) for shape in shapes))
    side = folders.read_json(folder / "unet" / "config.json")["sample_size"]
    return memory.Size(tuple(parts), side if isinstance(side, int) else max(side))


def _device(device: str | torch.device | None, folder: Path | None) -> torch.device:
    """The device that was asked for, or the fastest that is there; Tiny SD needs none."""
    mps, cuda = torch.backends.mps.is_available(), torch.cuda.is_available()
    if device is None:
        best = "cuda" if cuda else "mps" if mps else "cpu"
        return torch.device("cpu" if folder == TINY_SD else best)
    try:
        asked = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"Unknown device {inputs.shown(device)}: choose 'cpu', 'cuda' or 'mps'."
        ) from error
    there = {"cpu": True, "cuda": cuda, "mps": mps}
    if not there.get(asked.type) or (cuda and (asked.index or 0) >= torch.cuda.device_count()):
        have = ", ".join(repr(name) for name, found in there.items() if found)
        raise ValueError(f"This machine has no device {str(device)!r} for models: it has {have}.")
    return asked


def _check_dtype(dtype: Any) -> None:
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype in DTYPES):
        known = ", ".join(map(str, DTYPES))
        raise TypeError(f"dtype must be one of {known}; got {inputs.shown(dtype)}.")


@inputs.own_keywords(inputs.LOAD_NAMES)
def load_pipeline(
    model: str | os.PathLike | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> StableDiffusionPipeline:
    """Load a Stable Diffusion pipeline.

    A model from the hub is taken from the cache, or fetched after saying from where and how large
    it is. If memory is short, each thing done about it is printed with its reason
    (:func:`memory.ladder`); if all of them are not enough, Tiny SD is loaded instead.

    Args:
        model: see :func:`resolve`. None means ``SDLEARN_MODEL`` or else Tiny SD. A folder with a
            LoRA alone is put on Tiny SD.
        device: None chooses cuda, then mps, then cpu; Tiny SD always runs on the cpu unless told
            otherwise, it is small enough.
        dtype: None means float16 on cuda, float32 on cpu, and on mps float32 if it fits.

    Returns:
        A ``diffusers.StableDiffusionPipeline`` with weights from safetensors only, no safety
        checker, in evaluation mode; :func:`defaults_of` knows how it is best sampled.

    Raises:
        FileNotFoundError, ValueError, TypeError: with one sentence that says what to do.
    """
    _check_dtype(dtype)
    folder, hub_ids = resolve(model)
    if folder is not None and (folder / LORA_FILE).is_file():
        return add_lora_to(load_pipeline(TINY_SD, device=device, dtype=dtype), folder)
    asked = _device(device, folder)
    card = next((m for m in MODELS.values() if m.hub_ids == hub_ids), None)
    plan = []
    if card:  # before anything is fetched in vain
        plan = memory.ladder(memory.free(asked), asked.type, card, dtype)
    if folder is None and not (plan and plan[-1].name == "tiny"):
        folder = _from_hub(hub_ids, card)
    if folder is not None:
        folders.check_folder(folder)
        if folder != TINY_SD:
            size = card or measure_size(folder)
            plan = memory.ladder(memory.free(asked), asked.type, size, dtype)
    return _loaded(folder, card, plan, asked, dtype)


def _loaded(
    folder: Path | None,
    card: Model | None,
    plan: list[memory.Measure],
    asked: torch.device,
    dtype: torch.dtype | None,
) -> StableDiffusionPipeline:
    """The pipeline, as the plan against short memory wants it; says what there is to say."""
    taken = {measure.name for measure in plan}
    if card or not taken <= {"whole"}:
        _tell(card.about if card else folder.name, asked.type, plan, card.note if card else "")
    if "tiny" in taken:
        return load_pipeline(TINY_SD)
    best = torch.float16 if asked.type == "cuda" or "half" in taken else torch.float32
    pipe = _from_folder(folder, dtype or best)
    pipe.defaults = card.defaults if card else read_defaults(folder)
    if lacking := lacking_words(pipe):
        print(
            f"{folder} was trained on another picture-book world: {len(lacking)} words of this one "
            f"it has never read ({', '.join(lacking[:4])}{', ...' * (len(lacking) > 4)}), so ask "
            "for what its own captions held, or load 'tiny', which the chapters are written for."
        )
    return memory.settle(pipe, asked, plan)


def add_lora_to(pipe: Any, folder: str | os.PathLike) -> Any:
    """Put a LoRA's weights into a pipeline's U-Net, for good, and take over its defaults.

    Raises:
        ValueError: if the folder holds none that can be read, or one of another model.
    """
    from safetensors.torch import load_file

    path = _part(folder, LORA_FILE)
    try:
        state = load_file(path)
    except Exception as error:  # whatever the library says of missing and damaged files
        raise ValueError(
            f"There is no LoRA that can be read at {inputs.shown(str(path))} ({error}): "
            "`python -m sdlearn.training few-steps` makes one."
        ) from error
    sizes = {key.removesuffix(".weight"): w.shape for key, w in pipe.unet.named_parameters()}
    for key, weight in state.items():
        layer, _, side = key.removeprefix("unet.").removesuffix(".weight").rpartition(".lora_")
        at = {"A": 1, "B": 0}.get(side, 9)
        if sizes.get(layer, ())[at : at + 1] != weight.shape[at : at + 1]:
            raise ValueError(f"{path} is a LoRA of another model ({key}): load that model first.")
        if not torch.isfinite(weight).all():
            raise ValueError(f"{path} holds numbers that are not finite ({key}): fetch it again.")
    pipe.load_lora_weights(state)
    pipe.fuse_lora()
    pipe.unload_lora_weights()  # the sum stays
    pipe.defaults = read_defaults(folder)
    return pipe


def save_lora(folder: str | os.PathLike, unet: Any) -> None:
    """Write the LoRA of a U-Net in half precision, as ``pipe.load_lora_weights`` reads it."""
    from diffusers import StableDiffusionPipeline
    from peft import get_peft_model_state_dict

    state = {key: w.half().contiguous() for key, w in get_peft_model_state_dict(unet).items()}
    Path(folder).mkdir(parents=True, exist_ok=True)
    StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=state)


def is_few_step(pipe: Any) -> bool:
    """Whether the model was taught to take few steps: it runs once per step, without guidance."""
    return defaults_of(pipe).sampler == "lcm"


def lacking_words(pipe: Any) -> list[str]:
    """Words of our world that a model which was trained on a picture-book world has never read.

    Empty for a model of this world, and for one trained on the web.
    """
    vocabulary = pipe.tokenizer.get_vocab()
    words = [*world.KINDS, *world.COLOURS, *world.PLACES, *world.TIMES]
    lacking = [word for word in words if f"{word}</w>" not in vocabulary]
    return [] if len(vocabulary) > WORLD_TOKENIZER or len(lacking) == len(words) else lacking


def _tell(name: str, kind: str, plan: list[memory.Measure], note: str) -> None:
    lines = [f"{name} on {kind}: {measure.reason}." for measure in plan]
    print("\n".join([*lines, *([note] if note else [])]))


def defaults_of(pipe: Any) -> Defaults:
    """How this pipeline is best sampled: what its folder says, else :data:`STABLE_DIFFUSION`."""
    return getattr(pipe, "defaults", STABLE_DIFFUSION)


def read_defaults(folder: str | os.PathLike) -> Defaults:
    """What ``defaults.json`` beside the weights says; :data:`STABLE_DIFFUSION` where there is none.

    Raises:
        ValueError: if the file holds anything but the three fields in their ranges.
    """
    path = Path(folder) / "defaults.json"
    if not path.is_file():
        return STABLE_DIFFUSION
    try:
        found = Defaults(**json.loads(path.read_text(encoding="utf-8")))
        good = (
            math.isfinite(found.guidance_scale)
            and found.sampler in SAMPLERS
            and 1 <= found.num_inference_steps <= 1000
            and type(found.num_inference_steps) is int
        )
    except (ValueError, TypeError, OSError, RecursionError):
        good = False
    if not good:
        raise ValueError(
            f"{path} must hold a guidance_scale, a sampler ({', '.join(SAMPLERS)}) and "
            "num_inference_steps from 1 to 1000: mend it, or delete it."
        )
    return found


def write_defaults(folder: str | os.PathLike, defaults: Defaults) -> None:
    """Write ``defaults.json``, which :func:`load_pipeline` keeps for the pipeline."""
    text = json.dumps(defaults._asdict(), indent=2) + "\n"
    (Path(folder) / "defaults.json").write_text(text, encoding="utf-8")


def _from_folder(folder: Path, dtype: torch.dtype) -> StableDiffusionPipeline:
    quiet()  # first: importing the pipeline class already gives advice
    from diffusers import StableDiffusionPipeline

    halves = any(".fp16." in file.name for file in _weights(folder).values())
    try:
        pipe = StableDiffusionPipeline.from_pretrained(
            str(folder),
            variant="fp16" if halves else None,  # of those parts that have one
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            requires_safety_checker=False,
            **dict.fromkeys(folders.LEFT_OUT),
        )
    except Exception as error:  # whatever the libraries say of files that do not fit together
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(
            f"{folder} could not be loaded, its files do not fit together ({reason}): fetch it "
            "again."
        ) from error
    _check_complete(folder, pipe)
    _check_fit(folder, pipe)
    pipe.set_progress_bar_config(disable=True)
    # On a CPU a picture is decoded in 72 to 77 ms so, before in 86 to 92 (one thread, measured
    # twice); the U-Net gains nothing.
    pipe.vae.to(memory_format=torch.channels_last)
    return pipe


def _check_complete(folder: Path, pipe) -> None:
    """Refuse weights that lack a tensor.

    diffusers leaves weights that it does not find empty, transformers fills them with random
    numbers, and both only log it.
    """
    from safetensors import safe_open

    stored = set()
    for file in (folder / "text_encoder").glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            stored |= {key.removeprefix("text_model.") for key in opened.keys()}
    lacking = [
        f"text_encoder/{key}"
        for key, _ in pipe.text_encoder.named_parameters()
        if key.removeprefix("text_model.") not in stored
    ]
    lacking += [
        f"{part}/{key}"
        for part in ("vae", "unet")
        for key, value in getattr(pipe, part).named_parameters()
        if value.is_meta
    ]
    if lacking:
        raise ValueError(
            f"{folder} lacks {len(lacking)} of its weights ({lacking[0]}): the model is "
            "incomplete; fetch it again."
        )


def _check_fit(folder: Path, pipe) -> None:
    """Refuse parts of different models, and weights that hold something else than numbers."""
    words, text, unet = pipe.tokenizer, pipe.text_encoder.config, pipe.unet.config
    for mine, its, what in (
        (len(words), text.vocab_size, "pieces of text that tokenizer and text encoder know"),
        (words.model_max_length, text.max_position_embeddings, "places for them"),
    ):
        if not 2 < mine <= its:
            raise ValueError(
                f"{folder}: the {what} are {mine} and {its}, so these parts belong to different "
                "models: take all from one."
            )
    for mine, its, what in (
        (text.hidden_size, unet.cross_attention_dim, "text encoder's states and U-Net's"),
        (pipe.vae.config.latent_channels, unet.out_channels, "autoencoder's latents and U-Net's"),
    ):
        if mine != its:
            raise ValueError(
                f"{folder}: the {what} have {mine} and {its} channels, so these parts belong to "
                "different models: take all from one."
            )
    for part in folders.WEIGHTS:
        for key, value in getattr(pipe, part).named_parameters():
            # the largest magnitude: NaN and infinity pass through it, and nothing is copied
            if not torch.isfinite(torch.linalg.vector_norm(value, math.inf)):
                raise ValueError(
                    f"{folder}: {part}/{key} holds numbers that are not finite in {value.dtype}: "
                    "load it with dtype=torch.float32, or fetch it again."
                )


def _from_hub(hub_ids: tuple[str, ...], card: Model | None) -> Path:
    """A model's folder in the hub's cache, complete; what is missing is fetched.

    Tried in order: for each hub id the pinned commit, then what is in the cache, then the hub.
    """
    why = {
        "OfflineModeIsEnabled": "it is not in the cache, and HF_HUB_OFFLINE forbids to fetch it",
        "GatedRepoError": "accept its licence on its page, then log in with `hf auth login`",
        "RepositoryNotFoundError": "the hub has no public model of this name",
    }
    problems = []
    for hub_id, revision in zip_longest(hub_ids, card.revisions if card else ()):
        folder, problem = _from_cache(hub_id, revision)
        if folder:
            return folder
        try:
            return _download(hub_id, revision, card)
        except Exception as error:  # whatever the reason, the next one may do
            own = type(error) in (ValueError, OSError, FileNotFoundError)
            reason = str(error) if own else f"it cannot be reached ({type(error).__name__})"
            reason = problem or why.get(type(error).__name__, reason)
            problems.append(f"{hub_id}: {reason}".splitlines()[0].rstrip("."))
    raise FileNotFoundError(
        "The model could not be loaded from the hub or its cache; check the name and the network, "
        f"or pass a local folder. {' | '.join(problems)}."
    )


def in_cache(hub_ids: tuple[str, ...]) -> bool:
    """Whether one of these models lies on this machine, complete."""
    card = next((m for m in MODELS.values() if m.hub_ids == hub_ids), None)
    pairs = zip_longest(hub_ids, card.revisions if card else ())
    return any(_from_cache(hub_id, revision)[0] for hub_id, revision in pairs)


def _from_cache(hub_id: str, revision: str | None) -> tuple[Path | None, str]:
    """(the model's folder, "") or (None, what is wrong with what was found)."""
    from huggingface_hub import snapshot_download

    problem = ""
    for wanted in dict.fromkeys((revision, None)):  # the pinned commit, else what is there
        try:
            folder = Path(snapshot_download(hub_id, revision=wanted, local_files_only=True))
        except (OSError, ValueError):  # it is not there
            continue
        if (folder / folders.INDEX).exists():
            try:
                folders.check_folder(folder)
                return folder, ""
            except (OSError, ValueError) as error:
                problem = str(error)
    return None, problem


def _download(hub_id: str, revision: str | None, card: Model | None) -> Path:
    """Fetch what a pipeline needs and nothing else: no pickles, no code, no second precision."""
    from huggingface_hub import HfApi, constants, hf_hub_download, snapshot_download
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    if not card and not constants.HF_HUB_OFFLINE:
        print(f"No folder {hub_id!r} here, so huggingface.co is asked for it.", flush=True)
    siblings = HfApi().model_info(hub_id, revision=revision, files_metadata=True).siblings
    sizes = {f.rfilename: f.size or 0 for f in siblings}
    if folders.INDEX not in sizes:
        raise ValueError(f"it has no {folders.INDEX}, so it is no diffusers pipeline")
    index = hf_hub_download(hub_id, folders.INDEX, revision=revision)
    folders.check_index(folders.read_json(Path(index)), hub_id)  # before the weights are fetched
    wanted = _needed(sizes)
    about = f"{card.about} ({card.licence})" if card else hub_id
    print(
        f"Fetching {about} from huggingface.co/{hub_id}: {sum(sizes[f] for f in wanted) / 1e9:.1f} "
        f"GB, once; it is kept in {constants.HF_HUB_CACHE}.",
        flush=True,
    )
    enable_progress_bars()
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=wanted))
    finally:
        disable_progress_bars()


def _needed(names: Iterable[str]) -> list[str]:
    """Of a repository's files those of the parts: configurations, the tokenizer, safetensors.

    Raises:
        ValueError: if a part comes as a pickle only.
    """
    names = list(names)
    needed = [
        name
        for name in names
        if name.split("/")[0] in (folders.INDEX, *folders.PARTS)
        and name.endswith((".json", "merges.txt"))
    ]
    for part in folders.WEIGHTS:
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        files = [f"{part}/{stem}{precision}.safetensors" for precision in (".fp16", "")]
        offered = [f for f in files if f in names]
        if not offered:
            raise ValueError(
                f"its {part} does not come as safetensors, and pickles, which can run any code "
                "when opened, are refused"
            )
        needed.append(offered[0])
    return needed


def _part(folder: Any, name: str) -> Path:
    if not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"A model's folder is a path; got {type(folder).__name__}.")
    return Path(folder) / name


def load_tokenizer(folder: str | os.PathLike = TINY_SD) -> CLIPTokenizer:
    """The CLIPTokenizer of a pipeline folder; nothing is asked of the network."""
    from transformers import CLIPTokenizer

    path = _part(folder, "tokenizer")
    if not os.path.isdir(path):  # False too for a name that no file can have
        raise FileNotFoundError(
            f"{inputs.shown(str(path))} does not exist: this model has no tokenizer. Tiny SD's is "
            "made by `python -m sdlearn.training tokenizer`."
        )
    return CLIPTokenizer.from_pretrained(str(path), local_files_only=True)


def load_part(name: str, folder: str | os.PathLike = TINY_SD) -> torch.nn.Module:
    """One part of a pipeline folder in float32, in evaluation mode.

    Args:
        name: "vae", "unet", "text_encoder", or Tiny SD's "clip" (both towers) for chapter 04.
        folder: of the pipeline.

    Raises:
        FileNotFoundError, ValueError: with one sentence that says what to do.
    """
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPModel, CLIPTextModel

    quiet()
    classes = {
        "vae": AutoencoderKL,
        "unet": UNet2DConditionModel,
        "text_encoder": CLIPTextModel,
        "clip": CLIPModel,
    }
    if not isinstance(name, str) or name not in classes:
        raise ValueError(f"Unknown part {inputs.shown(name)}: choose one of {', '.join(classes)}.")
    path = _part(folder, name)
    if not os.path.isdir(path):  # False too for a name that no file can have
        raise FileNotFoundError(
            f"{inputs.shown(str(path))} does not exist: this model has no part {name!r}. Tiny SD's "
            "parts are made by `python -m sdlearn.training all`."
        )
    try:
        part = classes[name].from_pretrained(
            str(path), dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
    except Exception as error:  # whatever the libraries say of damaged files
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"{path} could not be loaded ({reason}): fetch it again.") from error
    return part.eval()


def save(folder: str | os.PathLike, *, vae: Any = None, unet: Any = None, clip: Any = None) -> None:
    """Write parts into a pipeline folder as fp16 safetensors, with its index and scheduler.

    ``clip`` (a CLIPModel) gives ``clip/``, both towers, and ``text_encoder/``, the text tower
    alone as the pipeline wants it.
    """
    import diffusers

    quiet()
    folder = Path(folder)
    for name, part in (("vae", vae), ("unet", unet), ("clip", clip)):
        if part is not None:
            copy.deepcopy(part).half().save_pretrained(folder / name)
            # where the trainer found the weights it went on from: nobody else has that folder
            _change_json(folder / name / "config.json", lambda c: c.pop("_name_or_path", None))
    if clip is not None:
        _save_text_encoder(folder / "text_encoder", clip)
        for name in ("clip", "text_encoder"):
            # fp16 on disk, float32 when loaded, in step with diffusers' default
            path = folder / name / "config.json"
            _change_json(path, lambda c: c.update(dtype="float32"))
    build_scheduler().save_pretrained(folder / "scheduler")
    if not (folder / "defaults.json").exists():  # trained anew: Tiny SD's, until they are measured
        write_defaults(folder, read_defaults(TINY_SD))
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        "vae": ("diffusers", "AutoencoderKL"),
        "unet": ("diffusers", "UNet2DConditionModel"),
        "scheduler": ("diffusers", "DDIMScheduler"),
        "text_encoder": ("transformers", "CLIPTextModel"),
        "tokenizer": ("transformers", "CLIPTokenizer"),
        "safety_checker": (None, None),
        "feature_extractor": (None, None),
        "requires_safety_checker": False,
    }
    (folder / folders.INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _save_text_encoder(folder: Path, clip) -> None:
    """The text tower, with the prefix on its weights' names that transformers 4 needs.

    Version 5 writes them without, and 4 would then silently load random weights; both read them
    with it.
    """
    from safetensors.torch import save_file
    from transformers import CLIPTextModel

    text = CLIPTextModel(clip.config.text_config)
    text.load_state_dict(clip.text_model.state_dict())
    text.save_pretrained(folder)
    prefix = "text_model."
    weights = {
        prefix + key.removeprefix(prefix): value.half().contiguous()
        for key, value in text.state_dict().items()
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _change_json(path: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content, indent=2) + "\n")

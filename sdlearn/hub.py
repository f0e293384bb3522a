"""Find a model, check it, fetch it, load it, save one: with models.py the only door to diffusers.

Everything is imported inside the functions, because importing diffusers alone takes seconds.
"""

from __future__ import annotations

import json
import math
import os
import threading
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import torch

from sdlearn import memory
from sdlearn.models import SAMPLERS, build_scheduler, quiet

TINY_SD = Path(__file__).parent / "tiny_sd"
LOCK = threading.RLock()
"""Held by every function that runs a model: widget callbacks arrive in other threads, and schedulers and capturing layers hold state."""

TESTED = {"torch": "2.13.0", "diffusers": "0.42.1", "transformers": "5.23.0"}


class Defaults(NamedTuple):
    """How a model is best sampled where nothing else is asked for."""

    guidance_scale: float
    sampler: str  # "ddim", "ddpm", "euler" or "dpm++"
    num_inference_steps: int


STABLE_DIFFUSION = Defaults(7.5, "dpm++", 25)
"""For models that say nothing: the scale of Stable Diffusion's model cards, 25 steps of DPM++."""


@dataclass(frozen=True)
class Model:
    """One entry of the table of models: where it lives on the Hugging Face hub and what it costs."""

    hub_ids: tuple[str, ...]  # in order of preference
    about: str
    licence: str
    download_gb: (
        float  # the safetensors this package asks for: half precision where the model has it
    )
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


# Sizes are those of the files listed under huggingface.co/ID/tree/REVISION/{unet,vae,text_encoder} (two bytes a parameter in half precision), licences those of the
# models' cards, revisions the commits that these pages, or for sd15, v1-4 and sd-turbo public projects that pin them, name in full.
MODELS = {
    "sd15": Model(
        ("stable-diffusion-v1-5/stable-diffusion-v1-5", "CompVis/stable-diffusion-v1-4"), "Stable Diffusion 1.5, 512 x 512", "CreativeML Open RAIL-M", 2.1, (0.25, 1.72, 0.17),
        revisions=("451f4fe16113bff5a5d2269ed5ad43b0592e9a14", "133a221b8aa7292a167afc5127cb63fb5005638b"),
    ),
    "sd15-inpainting": Model(
        ("stable-diffusion-v1-5/stable-diffusion-inpainting",), "Stable Diffusion 1.5 trained on for inpainting", "CreativeML Open RAIL-M", 2.1, (0.25, 1.72, 0.17),
        revisions=("8a4288a76071f7280aedbdb3253bdb9e9d5d84bb",),
        note='Its U-Net also reads a picture and a mask, so the cells\' own samplers cannot drive it: use models.as_pipeline("inpaint", pipe).',
    ),
    "sd-small": Model(  # Kim et al. 2023, "BK-SDM"; its text encoder and autoencoder come in single precision only
        ("nota-ai/bk-sdm-small",), "BK-SDM-Small, Stable Diffusion 1.4 with blocks of its U-Net distilled away, 512 x 512", "CreativeML Open RAIL-M", 1.8, (0.25, 0.97, 0.17),
        revisions=("103ac4e97c80f8b807eb6a17547d650d86381102",),
    ),
    "sd-turbo": Model(  # Sauer et al. 2023, "Adversarial Diffusion Distillation"; a larger text encoder, 1024 wide
        ("stabilityai/sd-turbo",), "SD-Turbo, distilled to 1 to 4 steps, 512 x 512", "Stability AI's own; for commercial use see stability.ai/license", 2.6, (0.68, 1.73, 0.17),
        revisions=("b261bac6fd2cf515557d5d0707481eafa0485ec2",),
        note='One step as its authors take it is num_inference_steps=1, sampler="euler", guidance_scale=1; other settings stop at noise levels it was not distilled for.',
        defaults=Defaults(1.0, "euler", 1),
    ),
}  # fmt: skip


def versions() -> dict[str, str]:
    """Installed versions of the libraries the series stands on; "missing" where there is none."""
    found = {}
    for name in (
        "torch",
        "diffusers",
        "transformers",
        "accelerate",
        "safetensors",
        "ipywidgets",
        "jupyterlab",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "missing"
    return found


def resolve(model: str | os.PathLike | None = None) -> tuple[Path | None, tuple[str, ...]]:
    """Where a model is: (local folder, ()) or (None, hub ids to try in order).

    Order: the argument, then the environment variable ``SDLEARN_MODEL``, then Tiny SD. A model is a local folder, a short
    name of :data:`MODELS`, or a hub id "owner/name".

    Raises:
        FileNotFoundError: if it is none of these.
    """
    name = str(model or os.environ.get("SDLEARN_MODEL") or TINY_SD)
    if name in ("tiny", "tiny_sd"):
        name = str(TINY_SD)
    if name in MODELS:
        return None, MODELS[name].hub_ids
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder, ()
    if name.count("/") == 1 and not name.startswith((".", "/", "~")) and "\\" not in name:
        return None, (name,)
    raise FileNotFoundError(
        f"No model at {name!r}: give a folder that exists, a short name ({', '.join(['tiny', *MODELS])}) or a hub id like 'owner/name'."
    )


def check_folder(folder: Path) -> None:
    """Refuse a folder that is no pipeline, lacks a part, holds only pickles, or holds damaged files.

    Raises:
        FileNotFoundError, ValueError: with one sentence that says what to do.
    """
    from safetensors import SafetensorError, safe_open

    if not (folder / "model_index.json").exists():
        raise FileNotFoundError(
            f"{folder} is not a diffusers model: it has no model_index.json. Choose the folder that holds vae/, unet/, text_encoder/ and tokenizer/."
        )
    for file in (folder / "model_index.json", *sorted(folder.glob("*/*config.json"))):
        try:
            json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is damaged ({error}): fetch it again.") from error
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    if any(
        isinstance(value, list)
        and value[0] not in (None, "diffusers", "transformers", "stable_diffusion")
        for value in index.values()
    ):
        raise ValueError(
            f"{folder / 'model_index.json'} asks to run code that comes with the model, which this package never does: get a version of the model that needs none."
        )
    for part in ("tokenizer", "scheduler"):
        if not any((folder / part).glob("*.json")):
            raise FileNotFoundError(
                f"{folder / part} is missing or empty: the model is incomplete; fetch it again."
            )
    for part in ("vae", "unet", "text_encoder"):
        files = sorted((folder / part).glob("*.safetensors"))
        pickles = [
            *(folder / part).glob("*.bin"),
            *(folder / part).glob("*.ckpt"),
            *(folder / part).glob("*.pt"),
        ]
        if not files and pickles:
            raise ValueError(
                f"{folder / part} holds only {pickles[0].name}, a pickle, which can run any code when opened: get the safetensors version of this model."
            )
        if not files:
            raise FileNotFoundError(
                f"{folder / part} has no weights (*.safetensors): the model is incomplete; fetch it again."
            )
        for file in files:
            try:
                with safe_open(file, "pt") as opened:
                    opened.keys()
            except (SafetensorError, OSError) as error:
                raise ValueError(
                    f"{file} is damaged ({error}): delete it and fetch it again (for Tiny SD: git checkout -- {file.name}'s folder)."
                ) from error


def _weights(folder: Path) -> dict[str, Path]:
    """The files that are loaded: for each part the half precision variant, if there is one, else the plain one."""
    found = {
        part: sorted((folder / part).glob("*.safetensors"))
        for part in ("text_encoder", "unet", "vae")
    }
    return {
        part: next((f for f in files if ".fp16." in f.name), files[0])
        for part, files in found.items()
    }


def measure_size(folder: Path) -> memory.Size:
    """What decides how much memory a folder's model needs, from the shapes in its files."""
    from safetensors import safe_open

    parts = []
    for file in _weights(folder).values():
        with safe_open(file, "pt") as opened:
            parts.append(
                2e-9 * sum(math.prod(opened.get_slice(key).get_shape()) for key in opened.keys())
            )
    side = (
        json.loads((folder / "unet" / "config.json").read_text(encoding="utf-8")).get("sample_size")
        or 64
    )
    return memory.Size(tuple(parts), side if isinstance(side, int) else max(side))


def load_pipeline(
    model: str | os.PathLike | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
):
    """Load a Stable Diffusion pipeline.

    A model from the hub is taken from the cache, or fetched after saying from where and how large it is. If memory is short, each
    thing done about it is printed with its reason (:func:`memory.ladder`); if all of them are not enough, Tiny SD is loaded instead.

    Args:
        model: see :func:`resolve`. None means ``SDLEARN_MODEL`` or else Tiny SD.
        device: None chooses cuda, then mps, then cpu; Tiny SD always runs on the cpu unless told otherwise, it is small enough.
        dtype: None means float16 on cuda, float32 on cpu, and on mps float32 if it fits.

    Returns:
        A ``diffusers.StableDiffusionPipeline`` with weights from safetensors only, no safety checker, in evaluation mode.

    Raises:
        FileNotFoundError, ValueError: with one sentence that says what to do.
    """
    folder, hub_ids = resolve(model)
    if device is None:
        device = (
            "cpu"
            if folder == TINY_SD
            else "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    kind, plan = torch.device(device).type, []
    card = next((m for m in MODELS.values() if m.hub_ids == hub_ids), None)
    if card:
        plan = memory.ladder(
            memory.free(device), kind, card, dtype
        )  # before anything is fetched in vain
    if folder is None and not (plan and plan[-1].name == "tiny"):
        folder = _from_hub(hub_ids, card)
    if folder is not None:
        check_folder(folder)
        if folder != TINY_SD:
            plan = memory.ladder(memory.free(device), kind, card or measure_size(folder), dtype)
    if plan and (card or plan[0].name != "whole"):
        print(
            "\n".join(
                f"{card.about if card else folder.name} on {kind}: {measure.reason}."
                for measure in plan
            ),
            *([card.note] if card and card.note else []),
            sep="\n",
        )
    taken = {measure.name for measure in plan}
    if "tiny" in taken:
        return load_pipeline(TINY_SD)
    if dtype is None:
        dtype = torch.float16 if kind == "cuda" or "half" in taken else torch.float32
    pipe = memory.settle(_from_folder(folder, dtype), device, plan)
    pipe.defaults = card.defaults if card else read_defaults(folder)
    return pipe


def defaults_of(pipe) -> Defaults:
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


def _from_folder(folder: Path, dtype: torch.dtype):
    quiet()  # first: importing the pipeline class already gives advice
    from diffusers import StableDiffusionPipeline

    options = dict(
        dtype=dtype,
        use_safetensors=True,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    if any(".fp16." in file.name for file in _weights(folder).values()):
        options["variant"] = "fp16"  # of those parts that have one
    try:
        pipe = StableDiffusionPipeline.from_pretrained(
            str(folder), local_files_only=True, **options
        )
    except (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{folder} could not be loaded, its files do not fit together ({str(error).splitlines()[0][:200]}): fetch it again."
        ) from error
    _check_weights(folder, pipe)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _check_weights(folder: Path, pipe) -> None:
    """diffusers leaves weights that it does not find empty, transformers fills them with random numbers, and both only log it: refuse that."""
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
            f"{folder} lacks {len(lacking)} of its weights ({lacking[0]}): the model is incomplete; fetch it again."
        )


def _from_hub(hub_ids: tuple[str, ...], card: Model | None) -> Path:
    """A model's folder in the hub's cache, complete; what is missing is fetched, from the first of the hub ids that has it."""
    from huggingface_hub import try_to_load_from_cache

    why = {
        "OfflineModeIsEnabled": "it is not in the cache, and HF_HUB_OFFLINE forbids to fetch it",
        "GatedRepoError": "accept its licence on its page, then log in with `hf auth login`",
        "RepositoryNotFoundError": "the hub has no public model of this name",
    }
    problems = []
    for hub_id, revision in zip_longest(hub_ids, card.revisions if card else ()):
        problem = None
        for wanted in dict.fromkeys((revision, None)):  # the pinned commit, else what is there
            index = try_to_load_from_cache(hub_id, "model_index.json", revision=wanted)
            if isinstance(index, str):
                try:
                    check_folder(Path(index).parent)
                    return Path(index).parent
                except (OSError, ValueError) as error:
                    problem = str(error)
        try:
            return _download(hub_id, revision, card)
        except Exception as error:  # whatever the reason, the next one may do
            reason = (
                str(error)
                if type(error) in (ValueError, OSError)
                else f"it cannot be reached ({type(error).__name__})"
            )
            problems.append(
                f"{hub_id}: {problem or why.get(type(error).__name__, reason)}".splitlines()[
                    0
                ].rstrip(".")
            )
    raise FileNotFoundError(
        f"The model could not be loaded from the hub or its cache; check the name and the network, or pass a local folder. {' | '.join(problems)}."
    )


def _download(hub_id: str, revision: str | None, card: Model | None) -> Path:
    """Fetch what a pipeline needs and nothing else: configurations, the tokenizer and safetensors, no pickles and no code."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    files = {
        f.rfilename: f.size or 0
        for f in HfApi().model_info(hub_id, revision=revision, files_metadata=True).siblings
    }
    parts = ("model_index.json", "tokenizer", "scheduler", "text_encoder", "unet", "vae")
    small = [
        name
        for name in files
        if name.split("/")[0] in parts and name.endswith((".json", "merges.txt"))
    ]
    weights = []
    for part, name in (
        ("text_encoder", "model"),
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
    ):
        offered = [
            f
            for f in (f"{part}/{name}.fp16.safetensors", f"{part}/{name}.safetensors")
            if f in files
        ]
        if not offered:
            raise ValueError(
                f"its {part} does not come as safetensors, and pickles, which can run any code when opened, are refused"
            )
        weights.append(offered[0])
    about = f"{card.about} ({card.licence})" if card else hub_id
    size = sum(files[name] for name in weights + small) / 1e9
    print(
        f"Fetching {about} from huggingface.co/{hub_id}: {size:.1f} GB, once; it is kept in {constants.HF_HUB_CACHE}.",
        flush=True,
    )
    enable_progress_bars()
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=weights + small))
    finally:
        disable_progress_bars()


def load_tokenizer(folder: str | os.PathLike = TINY_SD):
    """The CLIPTokenizer of a pipeline folder."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(Path(folder) / "tokenizer"))


def load_part(name: str, folder: str | os.PathLike = TINY_SD):
    """One part of a pipeline folder in float32: "vae", "unet", "text_encoder", or Tiny SD's "clip" (both towers) for chapter 04."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPModel, CLIPTextModel

    quiet()
    classes = {
        "vae": AutoencoderKL,
        "unet": UNet2DConditionModel,
        "text_encoder": CLIPTextModel,
        "clip": CLIPModel,
    }
    path = Path(folder) / name
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist: this model has no part {name!r}. Tiny SD's parts are made by `python -m sdlearn.training all`."
        )
    part = classes[name].from_pretrained(str(path), dtype=torch.float32, use_safetensors=True)
    return part.eval()


def save(folder: str | os.PathLike, *, vae=None, unet=None, clip=None) -> None:
    """Write parts into a pipeline folder as fp16 safetensors, with the index and the scheduler that make it a StableDiffusionPipeline.

    ``clip`` (a CLIPModel) gives ``clip/``, both towers, and ``text_encoder/``, the text tower alone as the pipeline wants it.
    """
    import copy

    import diffusers
    from safetensors.torch import save_file
    from transformers import CLIPTextModel

    quiet()
    folder = Path(folder)
    for name, part in (("vae", vae), ("unet", unet), ("clip", clip)):
        if part is not None:
            copy.deepcopy(part).half().save_pretrained(folder / name)
            path = folder / name / "config.json"
            config = json.loads(path.read_text())
            config.pop(
                "_name_or_path", None
            )  # where the trainer found the weights it went on from: nobody else has that folder
            path.write_text(json.dumps(config, indent=2) + "\n")
    if clip is not None:
        text = CLIPTextModel(clip.config.text_config)
        text.load_state_dict(clip.text_model.state_dict())
        text.save_pretrained(folder / "text_encoder")
        # transformers 5 writes keys without this prefix, and version 4 would then silently load random weights; both read them with it
        prefix = "text_model."
        weights = {
            prefix + k.removeprefix(prefix): v.half().contiguous()
            for k, v in text.state_dict().items()
        }
        save_file(weights, folder / "text_encoder" / "model.safetensors", metadata={"format": "pt"})
        for name in (
            "clip",
            "text_encoder",
        ):  # fp16 on disk, float32 when loaded, in step with diffusers' default
            path = folder / name / "config.json"
            path.write_text(
                json.dumps({**json.loads(path.read_text()), "dtype": "float32"}, indent=2) + "\n"
            )
    build_scheduler().save_pretrained(folder / "scheduler")
    if not (folder / "defaults.json").exists():  # trained anew: Tiny SD's, until they are measured
        write_defaults(folder, read_defaults(TINY_SD))
    parts = {"vae": ("diffusers", "AutoencoderKL"), "unet": ("diffusers", "UNet2DConditionModel"), "scheduler": ("diffusers", "DDIMScheduler"),
             "text_encoder": ("transformers", "CLIPTextModel"), "tokenizer": ("transformers", "CLIPTokenizer"),
             "safety_checker": (None, None), "feature_extractor": (None, None)}  # fmt: skip
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": diffusers.__version__,
        **parts,
        "requires_safety_checker": False,
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")

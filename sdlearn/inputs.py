"""What people hand in, looked at in one place: pictures, masks, pipelines, numbers, seeds, words.

Each function gives back what the package works with, or ends in one sentence that says what to do.
"""

from __future__ import annotations

import difflib
import functools
import inspect
import io
import math
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

F = TypeVar("F", bound=Callable)
MAX_PIXELS = 100_000_000  # more than any camera's; opening it would fill the memory
MAX_SEED = 2**63 - 1

# ------------------------------------------------------------------------------------- pictures


def open_image(source: Any) -> Image.Image:
    """A picture as people have it -> an upright RGB picture.

    Args:
        source: a PIL picture of any mode, a path, the bytes of a file, or an array (H, W), (H, W,
            1), (H, W, 3) or (H, W, 4) of whole numbers from 0 to 255 (or 65535 in 16 bits) or of
            fractions from 0 to 1.

    Transparent parts are laid on white; a camera's note on orientation is followed; 16-bit and
    float depths are scaled to 8 bits.

    Raises:
        ValueError, TypeError, FileNotFoundError: one sentence that says what to do.
    """
    image = _opened(source)
    if "A" in image.getbands() or "transparency" in image.info:
        colours = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, colours).convert("RGB")
    return image.convert("RGB")


def open_images(source: Any) -> list[Image.Image]:
    """One picture, or a list or tuple of them -> a list of upright RGB pictures of one size.

    Raises:
        ValueError: if there is none, or their sizes differ.
    """
    several = source if isinstance(source, (list, tuple)) else [source]
    images = [open_image(one) for one in several]
    sizes = sorted({image.size for image in images})
    if not images:
        raise ValueError("No picture: give one, or a list with at least one.")
    if len(sizes) > 1:
        raise ValueError(
            f"Pictures of one call have one size; these have {_size(sizes[0])} and "
            f"{_size(sizes[-1])}: use compression.fit(image, pipe) on each."
        )
    return images


def open_mask(source: Any) -> Image.Image:
    """A mask as people have it -> a picture of mode "L": light is to be changed, dark stays.

    Args:
        source: as for :func:`open_image`; also arrays of truth values or of 0 and 1.

    What is transparent stays, as where white was painted on an empty layer. Only where the visible
    part holds no white, or is a picture in colour, is the transparent part a hole that somebody
    erased: then the hole is what changes.

    Raises:
        ValueError, TypeError, FileNotFoundError: one sentence that says what to do.
    """
    if isinstance(source, np.ndarray) and source.dtype.kind in "ui" and source.size:
        source = source.astype(bool) if source.max() <= 1 else source
    image = _opened(source)
    if "A" not in image.getbands() and "transparency" not in image.info:
        return image.convert("L")
    rgba = np.asarray(image.convert("RGBA")).astype(int)
    light, visible = np.asarray(image.convert("RGBA").convert("L")), rgba[..., 3] >= 128
    if visible.all() or not visible.any():
        return Image.fromarray(np.where(visible, light, 0).astype(np.uint8))
    seen = rgba[visible][:, :3]
    grey = np.ptp(seen, axis=1) <= 16
    extreme = (seen.max(1) <= 32) | (seen.min(1) >= 223)
    painted = (grey & extreme).mean() > 0.9 and (seen.min(1) >= 223).any()
    return Image.fromarray(
        (np.where(visible, light, 0) if painted else np.where(visible, 0, 255)).astype(np.uint8)
    )


def same_size(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The mask, if it lies on a picture of this size (width, height).

    Raises:
        ValueError: if it does not.
    """
    if mask.size != tuple(size):
        raise ValueError(
            f"The mask is {_size(mask.size)} and the picture {_size(size)}: they must lie on each "
            "other. If the picture went through compression.fit, send the mask through "
            "compression.fit(mask, pipe, mask=True); else draw it on the picture itself."
        )
    return mask


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _opened(source: Any) -> Image.Image:
    """Any source -> an upright PIL picture of 8 bits a channel."""
    if isinstance(source, (str, os.PathLike)):
        image = _from_file(source, f"the file {shown(os.fspath(source))}")
    elif isinstance(source, (bytes, bytearray, memoryview)):
        image = _from_file(io.BytesIO(source), f"the {len(source)} bytes given")
    elif isinstance(source, np.ndarray):
        image = _from_array(source)
    elif isinstance(source, Image.Image):
        image = source
    else:
        hint = (
            "use compression.to_images(tensor)"
            if type(source).__module__.startswith("torch")
            else "give a PIL picture, a path, the bytes of a file, or an array (height, width, 3)"
        )
        raise TypeError(f"A picture is needed; got {type(source).__name__}: {hint}.")
    if not image.width or not image.height or image.width * image.height > MAX_PIXELS:
        raise ValueError(
            f"This picture is {_size(image.size)} pixels: it must have at least 1 x 1 and at most "
            f"{MAX_PIXELS // 10**6} million; make it smaller before you open it here."
        )
    try:
        image.load()
        image = ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"The picture is damaged ({error}): save it anew.") from error
    return _eight_bits(image)


def _from_file(file: Any, name: str) -> Image.Image:
    try:
        return Image.open(file)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no picture at {shown(os.fspath(file))}.") from error
    except UnidentifiedImageError as error:
        raise ValueError(
            f"No picture could be read from {name}: save it as PNG or JPEG."
        ) from error
    except Image.DecompressionBombError as error:
        raise ValueError(f"The picture in {name} is too large: make it smaller.") from error
    except (OSError, ValueError, SyntaxError) as error:
        why = str(error)[:200]
        raise ValueError(f"No picture could be read from {name} ({why}).") from error


def _from_array(array: np.ndarray) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise ValueError(
            "A picture is an array (height, width), (height, width, 3) or (height, width, 4); "
            f"this one has the shape {array.shape}."
        )
    if array.dtype.kind not in "buif":
        raise TypeError(f"A picture holds numbers; this array holds {array.dtype}.")
    if not array.size:
        raise ValueError(f"This picture has no pixels: its array has the shape {array.shape}.")
    return Image.fromarray(_bytes(array))


def _bytes(array: np.ndarray) -> np.ndarray:
    """Numbers of any depth -> 0 to 255."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == bool:
        return np.uint8(255) * array
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and 0 <= low and high <= 1:
        scale = 255.0
    elif 0 <= low and high <= 255:
        scale = 255 / 65535 if array.dtype == np.uint16 else 1.0
    elif array.dtype.kind in "ui" and 0 <= low and high <= 65535:
        scale = 255 / 65535
    else:
        raise ValueError(
            "Pixels are whole numbers from 0 to 255 (65535 in 16 bits) or fractions from 0 to 1; "
            f"these run from {low:g} to {high:g}: scale them first."
        )
    return (array * scale).round().astype(np.uint8)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit and float pictures scaled, which PIL's own ``convert`` would clip, and colors that
    were multiplied by their alpha as they were before."""
    if image.mode in ("La", "RGBa"):
        return image.convert(image.mode.upper())
    if image.mode.startswith("I;16"):
        return Image.fromarray(_bytes(np.asarray(image).astype(np.uint16)))
    if image.mode in ("I", "F"):
        return Image.fromarray(_bytes(np.asarray(image)))
    return image


# ------------------------------------------------------------- pipelines, numbers, seeds, words


def shown(value: Any) -> str:
    """A value as a sentence can show it: on one line, and no longer than a line."""
    line = " ".join(repr(value).split())
    return line if len(line) <= 80 else f"{line[:77]}..."


def tensors(**named: Any) -> None:
    """Tensors of fractions, none of them empty.

    Raises:
        TypeError: if one is something else.
    """
    import torch

    for name, value in named.items():
        if not torch.is_tensor(value) or not value.is_floating_point() or not value.numel():
            kind = tuple(value.shape) if torch.is_tensor(value) else type(value).__name__
            of = f" of {value.dtype}" if torch.is_tensor(value) else ""
            raise TypeError(
                f"{name} must be a tensor of fractions, such as float32; got {kind}{of}."
            )


PIPELINE = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


def check_pipe(pipe: Any, *parts: str) -> Any:
    """The pipeline, if it is one.

    Args:
        pipe: what was given.
        parts: those that are needed; without any, all of them.

    Raises:
        TypeError: if a part is missing from it.
    """
    for part in parts or PIPELINE:
        if getattr(pipe, part, None) is None:
            raise TypeError(
                f"A pipeline is needed here, and this {type(pipe).__name__} has no {part}: "
                "give what load_pipeline() returns, as the first argument."
            )
    return pipe


def whole(name: str, value: Any, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``.

    Raises:
        ValueError: for anything else, truth values and "7" included.
    """
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_whole or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high}; got {shown(value)}.")
    return int(value)


def number(name: str, value: Any, low: float = -math.inf, high: float = math.inf) -> float:
    """A finite number from ``low`` to ``high``.

    Raises:
        ValueError: for anything else, nan included.
    """
    is_number = isinstance(value, (int, float, np.integer, np.floating))
    # compared, not converted: a whole number may be too large for a float
    if not is_number or isinstance(value, bool) or not abs(value) <= sys.float_info.max:
        raise ValueError(f"{name} must be a finite number; got {shown(value)}.")
    if not low <= value <= high:
        raise ValueError(f"{name} must be from {low:g} to {high:g}; got {shown(value)}.")
    return float(value)


def seed(value: Any) -> int:
    """A seed.

    Raises:
        ValueError: if it is no whole number from 0 up.
    """
    return whole("seed", value, 0, MAX_SEED)


def text(value: Any) -> str:
    """A prompt as a string that can be written down.

    Raises:
        TypeError: if it is none.
        ValueError: if it holds half a character (a lone surrogate), as broken copies do.
    """
    if not isinstance(value, str):
        raise TypeError(f"A prompt is a string (or a list of them); got {type(value).__name__}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"The prompt holds half a character at place {error.start}: type that place anew."
        ) from error
    return value


OTHER_NAMES = {
    **dict.fromkeys(
        ("height", "width", "size"),
        "pictures have the model's own size (compression.picture_size); for another one give "
        "latents of that many positions",
    ),
    **dict.fromkeys(
        ("num_images_per_prompt", "num_images", "n_iter", "batch_size", "num_samples"),
        "for several pictures give a list of prompts, such as [prompt] * 4, and a list of seeds",
    ),
    **dict.fromkeys(
        ("torch_dtype", "dtype", "device", "variant"), "say it to load_pipeline(dtype=, device=)"
    ),
    **dict.fromkeys(("steps", "num_steps", "inference_steps"), "it is called num_inference_steps"),
    **dict.fromkeys(("cfg", "cfg_scale", "guidance", "scale"), "it is called guidance_scale"),
    **dict.fromkeys(("negative", "negative_prompts"), "it is called negative_prompt"),
    **dict.fromkeys(
        ("scheduler", "sampler_name", "method"), 'it is called sampler, such as sampler="euler"'
    ),
    **dict.fromkeys(
        ("callback", "callback_on_step_end", "replace"),
        "go through the steps yourself: for step in sample_steps(...), and set step.prev_latents "
        "to change what the next one starts from",
    ),
    **dict.fromkeys(("image", "init_image"), "editing.img2img starts from a picture"),
    **dict.fromkeys(("mask", "mask_image"), "editing.inpaint takes a mask"),
    **dict.fromkeys(
        ("strength", "denoising_strength"), "strength belongs to editing.img2img and inpaint"
    ),
    **dict.fromkeys(
        ("output_type", "return_dict"),
        "sample gives PIL pictures, and sample_steps the latents of each step",
    ),
    **dict.fromkeys(
        ("prompt_embeds", "negative_prompt_embeds"),
        "chapter 06 shows the loop that takes encoder_hidden_states",
    ),
}


# and of what loads a model
LOAD_NAMES = {
    "torch_dtype": "it is called dtype",
    "device_map": "it is called device, and short memory is seen to without being asked",
    "pretrained_model_name_or_path": "it is called model",
    **dict.fromkeys(
        ("variant", "revision", "use_safetensors"),
        "half precision, the tested commit and safetensors are chosen by themselves",
    ),
    **dict.fromkeys(
        ("safety_checker", "requires_safety_checker", "feature_extractor"), "none is loaded"
    ),
    **dict.fromkeys(
        ("local_files_only", "cache_dir", "token"),
        "set HF_HUB_OFFLINE, HF_HOME or HF_TOKEN in the environment",
    ),
    "trust_remote_code": "code that comes with a model is never run",
    "scheduler": 'a sampler is chosen when sampling: sample(pipe, prompt, sampler="euler")',
    **dict.fromkeys(
        ("vae", "unet", "text_encoder", "tokenizer"),
        "set it on what load_pipeline gives, such as pipe.unet = mine",
    ),
}


def own_keywords(other_names: Mapping[str, str] = OTHER_NAMES) -> Callable[[F], F]:
    """Make a function stop at a keyword that it does not have, and say what it is called here.

    Args:
        other_names: what other libraries say, and what to say instead.
    """

    def decorate(function: F) -> F:
        known = list(inspect.signature(function).parameters)

        @functools.wraps(function)
        def checked(*args: Any, **options: Any) -> Any:
            for name in options.keys() - set(known):
                near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
                hint = other_names.get(name) or (
                    f"did you mean {near[0]}?" if near else f"it knows {', '.join(known)}"
                )
                end = "" if hint.endswith("?") else "."
                raise TypeError(f"{function.__name__} has no {name}: {hint}{end}")
            return function(*args, **options)

        return cast(F, checked)

    return decorate

"""What a model is made of: the configurations of Tiny SD and Stable Diffusion 1.5, and builders.

Everything is imported inside the functions, because importing diffusers alone takes seconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import (
        AutoencoderKL,
        DiffusionPipeline,
        SchedulerMixin,
        StableDiffusionPipeline,
        UNet2DConditionModel,
        UNet2DModel,
    )
    from transformers import CLIPModel, CLIPTokenizer

TINY_VAE = dict(
    in_channels=3,
    out_channels=3,
    down_block_types=("DownEncoderBlock2D",) * 4,
    up_block_types=("UpDecoderBlock2D",) * 4,
    # the 128-pixel stage costs most, so it is narrow; the deep stages are cheap
    block_out_channels=(32, 48, 96, 128),
    layers_per_block=1,
    latent_channels=4,
    # few, wide groups: narrow ones wash out the colors, and training stalls at gray blobs
    norm_num_groups=4,
    sample_size=128,
)
TINY_UNET = dict(
    sample_size=16,
    in_channels=4,
    out_channels=4,
    layers_per_block=1,
    block_out_channels=(64, 128, 192),
    down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    cross_attention_dim=128,
    attention_head_dim=(2, 4, 6),  # diffusers' name for the NUMBER of heads: 32 channels each
    norm_num_groups=16,
)
TINY_TEXT = dict(
    hidden_size=128,
    intermediate_size=512,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=77,
    projection_dim=128,
    hidden_act="quick_gelu",
)
TINY_VISION = dict(
    hidden_size=128,
    intermediate_size=512,
    num_hidden_layers=4,
    num_attention_heads=4,
    image_size=128,
    patch_size=16,
    projection_dim=128,
    hidden_act="quick_gelu",
)
# the published configuration of Stable Diffusion 1.5 (860, 123 and 84 M parameters): to count and
# to test with, without its weights
SD15_UNET = dict(
    sample_size=64,
    layers_per_block=2,
    block_out_channels=(320, 640, 1280, 1280),
    down_block_types=(*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
    up_block_types=("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
    cross_attention_dim=768,
    attention_head_dim=8,
    norm_num_groups=32,
)
SD15_TEXT = dict(
    vocab_size=49408,
    hidden_size=768,
    intermediate_size=3072,
    num_hidden_layers=12,
    num_attention_heads=12,
    max_position_embeddings=77,
    projection_dim=768,
)
SD15_VAE = dict(
    block_out_channels=(128, 256, 512, 512),
    layers_per_block=2,
    norm_num_groups=32,
    sample_size=512,
    scaling_factor=0.18215,
)
SCHEDULE = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
    prediction_type="epsilon",
)


SAMPLERS = {  # our names, and diffusers' classes
    "ddim": "DDIMScheduler",
    "ddpm": "DDPMScheduler",
    "euler": "EulerDiscreteScheduler",
    "dpm++": "DPMSolverMultistepScheduler",
    "lcm": "LCMScheduler",
}
# everything with weights but the first and last layers, as a regular expression
LORA_LAYERS = (
    r".*\.(to_[qkv]|to_out\.0|proj_in|proj_out|net\.0\.proj|net\.2|conv[12]|conv_shortcut"
    r"|(down|up)samplers\.0\.conv|time_emb_proj)"
)


def build_vae(**changes) -> AutoencoderKL:
    """A fresh AutoencoderKL with random weights: Tiny SD's shape, but for ``changes``."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(**{**TINY_VAE, **changes})


def build_unet(**changes) -> UNet2DConditionModel:
    """A fresh UNet2DConditionModel with random weights: Tiny SD's shape, but for ``changes``."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**{**TINY_UNET, **changes})


def build_pixel_unet(
    side: int, channels: int, multiples: tuple, attention: tuple, layers: int, in_channels: int = 3
) -> UNet2DModel:
    """A U-Net that denoises pixels, without words (Dhariwal and Nichol 2021).

    Args:
        side: of the pictures, in pixels.
        channels: of the first level, before ``multiples``.
        multiples: what ``channels`` is multiplied by, level by level.
        attention: the sides at which it attends.
        layers: residual blocks a level.
        in_channels: 3, or 6 where it also reads the small picture that it enlarges.
    """
    from diffusers import UNet2DModel

    attends = [side // 2**i in attention for i in range(len(multiples))]
    return UNet2DModel(
        sample_size=side,
        in_channels=in_channels,
        out_channels=6,
        layers_per_block=layers,
        block_out_channels=tuple(round(channels * m) for m in multiples),
        down_block_types=tuple("AttnDownBlock2D" if a else "DownBlock2D" for a in attends),
        up_block_types=tuple("AttnUpBlock2D" if a else "UpBlock2D" for a in attends[::-1]),
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=64,
        resnet_time_scale_shift="scale_shift",
    )


def plain_attention(model: torch.nn.Module) -> None:
    """Compute attention by plain matrix products.

    On CPUs the fused kernel trains slower at these small sizes: the U-Net 57 against 93 pictures a
    second, CLIP 107 against 168.
    """
    if hasattr(model, "set_attn_implementation"):
        model.set_attn_implementation("eager")
    else:
        from diffusers.models.attention_processor import AttnProcessor

        model.set_attn_processor(AttnProcessor())


def add_lora(unet: Any, rank: int) -> None:
    """Put a LoRA (Hu et al. 2021) beside the U-Net's layers, by peft: from then on it alone learns.

    A layer W becomes W + B A with A (rank, in) random and B (out, rank) zero: nothing changes yet.
    """
    from peft import LoraConfig

    unet.requires_grad_(False)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=LORA_LAYERS))


def build_tokenizer(
    vocab: dict[str, int], merges: list[tuple[str, str]], max_length: int = 77
) -> CLIPTokenizer:
    """A CLIPTokenizer from a byte-pair vocabulary and its merges, in order of priority."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=max_length)


def build_clip(
    tokenizer: CLIPTokenizer, text: dict | None = None, vision: dict | None = None
) -> CLIPModel:
    """A fresh CLIPModel (text tower, image tower, learned temperature) for this tokenizer."""
    from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig

    ids = dict(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    text_config = CLIPTextConfig(**{**TINY_TEXT, **ids, **(text or {})})
    vision_config = CLIPVisionConfig(**{**TINY_VISION, **(vision or {})})
    return CLIPModel(
        CLIPConfig(
            text_config=text_config.to_dict(),
            vision_config=vision_config.to_dict(),
            projection_dim=text_config.projection_dim,
        )
    )


def build_scheduler(sampler: str = "ddim", **changes) -> SchedulerMixin:
    """diffusers' scheduler for one of our samplers, on Stable Diffusion's schedule.

    Its own defaults differ, so all is said explicitly.

    Raises:
        ValueError: for a sampler that is not one of :data:`SAMPLERS`.
    """
    import diffusers

    if sampler not in SAMPLERS:
        raise ValueError(f"Unknown sampler {sampler!r}: choose one of {', '.join(SAMPLERS)}.")

    quiet()  # or it would list the settings that some of them do not have
    return getattr(diffusers, SAMPLERS[sampler]).from_config({**SCHEDULE, **changes})


def build_pipeline(
    vae: Any, text_encoder: Any, tokenizer: Any, unet: Any, scheduler: Any = None
) -> StableDiffusionPipeline:
    """Put parts together to a StableDiffusionPipeline without a safety checker."""
    quiet()
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler or build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def as_pipeline(kind: str, pipe: Any, sampler: str = "ddim") -> DiffusionPipeline:
    """The same parts as diffusers' pipeline of another kind, with a fresh scheduler.

    Args:
        kind: "img2img" or "inpaint".
        pipe: whose parts it takes.
        sampler: see :data:`SAMPLERS`.
    """
    if kind not in ("img2img", "inpaint"):
        raise ValueError(f"Unknown pipeline {kind!r}: choose 'img2img' or 'inpaint'.")
    quiet()
    import diffusers

    cls = {
        "img2img": diffusers.StableDiffusionImg2ImgPipeline,
        "inpaint": diffusers.StableDiffusionInpaintPipeline,
    }[kind]
    other = cls(
        **{**pipe.components, "scheduler": build_scheduler(sampler)}, requires_safety_checker=False
    )
    other.set_progress_bar_config(disable=True)
    return other


def random_sd15(
    device: str | torch.device = "meta",
    dtype: torch.dtype = torch.float16,
    tokenizer: CLIPTokenizer | None = None,
) -> StableDiffusionPipeline:
    """A pipeline of Stable Diffusion 1.5's full published size with random weights.

    Its price does not depend on what it has learned. On "meta" it takes no memory.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.device(device):
        parts = [
            part.to(dtype).eval()
            for part in (
                build_vae(**SD15_VAE),
                CLIPTextModel(CLIPTextConfig(**SD15_TEXT)),
                build_unet(**SD15_UNET),
            )
        ]
    vae, text_encoder, unet = parts
    tokenizer = tokenizer or build_tokenizer(*byte_vocabulary())
    return build_pipeline(vae, text_encoder, tokenizer, unet)


def byte_vocabulary() -> tuple[dict[str, int], list]:
    """(vocabulary, no merges) of all 256 bytes, inside a word and at its end.

    The base every byte-pair tokenizer starts from (Radford et al. 2019).
    """
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    symbols = [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]
    tokens = [*symbols, *(s + "</w>" for s in symbols), "<|startoftext|>", "<|endoftext|>"]
    return {t: i for i, t in enumerate(tokens)}, []


def quiet() -> None:
    """Switch off the progress bars and advice of diffusers and transformers."""
    import diffusers
    import transformers

    diffusers.utils.logging.set_verbosity_error()
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()

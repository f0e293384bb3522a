"""Chapter 04: words into numbers, and how the U-Net reads them."""

from __future__ import annotations

import difflib
import json
import math
import re
import warnings
from contextlib import contextmanager

import torch

from sdlearn import hub


def tokens(pipe, prompt: str) -> list[str]:
    """The pieces a prompt is cut into, without start, end and padding; "</w>" marks the end of a word."""
    tokenizer = pipe.tokenizer
    return tokenizer.convert_ids_to_tokens(
        tokenizer(prompt, add_special_tokens=False, truncation=False, verbose=False).input_ids
    )


def merges(pipe) -> list[tuple[str, str]]:
    """The tokenizer's byte-pair merges, most urgent first (Sennrich et al. 2016)."""
    tokenizer = pipe.tokenizer
    if hasattr(tokenizer, "bpe_ranks"):  # transformers 4
        return sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)
    pairs = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in pairs]


def unknown_words(pipe, prompt: str) -> list[str]:
    """Words of a prompt that the model's captions never held.

    Tiny SD's tokenizer knows every word of its world as one piece, so a word in several pieces is new to it. A tokenizer
    trained on the web (tens of thousands of pieces) has seen nearly everything: then the list is empty.
    """
    if len(pipe.tokenizer) > 5000:
        return []
    words = dict.fromkeys(re.findall(r"[^\W_]+", prompt.lower()))
    return [w for w in words if len(tokens(pipe, w)) != 1]


def check_prompt(pipe, prompt: str) -> None:
    """Warn, in one sentence each, of an empty prompt, of words the model has never seen, and of words beyond its length.

    Raises:
        TypeError: if the prompt is not a string.
    """
    if not isinstance(prompt, str):
        raise TypeError(f"A prompt is a string (or a list of them); got {type(prompt).__name__}.")
    if not prompt.strip():
        warnings.warn(
            "The prompt is empty: the picture will be of nothing in particular.", stacklevel=3
        )
    room, pieces = pipe.tokenizer.model_max_length - 2, tokens(pipe, prompt)
    if len(pieces) > room:
        lost = "".join(pieces[room:]).replace("</w>", " ").strip()
        warnings.warn(
            f"The prompt is {len(pieces)} tokens long and the model reads {room}: the rest is not seen, from {lost[:60]!r} on.",
            stacklevel=3,
        )
    if new := unknown_words(pipe, prompt[:2000]):
        known = [
            t.removesuffix("</w>")
            for t in pipe.tokenizer.get_vocab()
            if t.endswith("</w>") and len(t) > 5
        ]
        near = {w: difflib.get_close_matches(w, known, n=1, cutoff=0.6) for w in new}
        hints = ", ".join(
            f"{w!r}" + (f" (did you mean {near[w][0]!r}?)" if near[w] else "") for w in new[:8]
        )
        warnings.warn(
            f"This model has never seen the word{'s' if len(new) > 1 else ''} {hints}: it will guess.",
            stacklevel=3,
        )


@torch.no_grad()
def encode_prompt(pipe, prompts: str | list[str]) -> torch.Tensor:
    """Prompts -> encoder_hidden_states (B, 77, D), float32: the text tower's last hidden states, padding included, as Stable Diffusion uses them."""
    prompts = [prompts] if isinstance(prompts, str) else list(prompts)
    tokenizer = pipe.tokenizer
    ids = tokenizer(
        prompts,
        padding="max_length",
        max_length=tokenizer.model_max_length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
    with hub.LOCK:
        return pipe.text_encoder(ids.to(pipe.text_encoder.device))[0].float()


class AttentionRecorder:
    """An attention processor that keeps its weights: softmax(Q K^T / sqrt(d)) by plain products, because the library's fused kernel never forms them.

    ``maps`` holds one (B, pixels, tokens) tensor for each layer it ran in, averaged over the heads; each row sums to 1.
    """

    def __init__(self):
        self.maps: list[torch.Tensor] = []

    def __call__(
        self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None
    ):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        split = [
            x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for x in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        ]
        q, k, v = split  # (B, heads, pixels or tokens, d)
        weights = (q @ k.mT * attn.scale).softmax(-1)  # attn.scale is 1 / sqrt(d)
        weights = self.look(weights)
        return attn.to_out[1](attn.to_out[0]((weights @ v).transpose(1, 2).flatten(2)))

    def look(self, weights: torch.Tensor) -> torch.Tensor:
        """Called with each layer's weights (B, heads, pixels, tokens); what it returns is used in their place."""
        self.maps.append(weights.mean(1).float().cpu())
        return weights

    def take(self) -> list[torch.Tensor]:
        """What was recorded since the last call; forgets it."""
        taken, self.maps = self.maps, []
        return taken


@contextmanager
def record_attention(pipe, recorder: AttentionRecorder | None = None):
    """Within the ``with`` block every cross-attention layer of the U-Net reports to the :class:`AttentionRecorder` it gives; pictures stay the same.

    A ``recorder`` of another class may change what the layers use (editing.KeepAttention does).
    Other threads wait for the block to end before they may run the model: what they do is not recorded.
    """
    with hub.LOCK:
        before, recorder = pipe.unet.attn_processors, recorder or AttentionRecorder()
        pipe.unet.set_attn_processor(
            {name: recorder if ".attn2." in name else old for name, old in before.items()}
        )
        try:
            yield recorder
        finally:
            pipe.unet.set_attn_processor(dict(before))


def average_maps(maps: list[torch.Tensor], side: int | None = None) -> torch.Tensor:
    """One heat map a token: the mean over a step's layers, (B, tokens, side, side), as Tang et al. 2022 ("What the DAAM") do.

    Args:
        maps: from :meth:`AttentionRecorder.take`, of square pictures.
        side: None takes the finest layers of at most 16 x 16, where attention is about things rather than edges (Hertz et al. 2022).
            Layers of this side and of half of it are averaged, the coarser ones interpolated.

    Raises:
        ValueError: if nothing was recorded, or no layer has this side.
    """
    sides = [math.isqrt(m.shape[1]) for m in maps]
    side = side or max((s for s in sides if s <= 16), default=0)
    if side not in sides:
        raise ValueError(
            f"No layer attends at {side} x {side}; recorded: {sorted(set(sides)) or 'nothing (run the U-Net inside `with record_attention(pipe)`)'}."
        )
    chosen = [
        m.mT.unflatten(-1, (s, s))
        for m, s in zip(maps, sides, strict=True)
        if s in (side, side // 2)
    ]
    return torch.stack(
        [torch.nn.functional.interpolate(m, size=(side, side), mode="bilinear") for m in chosen]
    ).mean(0)

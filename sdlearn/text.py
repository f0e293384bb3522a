"""Chapter 04: words into numbers, and how the U-Net reads them."""

from __future__ import annotations

import difflib
import json
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from sdlearn import hub, inputs, world


def _ids(pipe: Any, prompt: str) -> list[int]:
    tokenizer = pipe.tokenizer
    with hub.LOCK:  # truncation is a state of the tokenizer that threads share
        return tokenizer(
            inputs.text(prompt), add_special_tokens=False, truncation=False, verbose=False
        ).input_ids


def tokens(pipe: Any, prompt: str) -> list[str]:
    """The pieces a prompt is cut into, without start, end and padding; "</w>" marks the end of a
    word."""
    inputs.check_pipe(pipe, "tokenizer")
    return pipe.tokenizer.convert_ids_to_tokens(_ids(pipe, prompt))


def merges(pipe: Any) -> list[tuple[str, str]]:
    """The tokenizer's byte-pair merges, most urgent first (Sennrich et al. 2016)."""
    tokenizer = pipe.tokenizer
    if hasattr(tokenizer, "bpe_ranks"):  # transformers 4
        return sorted(tokenizer.bpe_ranks, key=tokenizer.bpe_ranks.get)
    pairs = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    return [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in pairs]


# ------------------------------------------------------------------- what a prompt may not do


class Note(NamedTuple):
    """Something about a prompt that its writer should know.

    ``kind`` is "empty", "long", "weight", "negation", "number", "plural", "unknown", "symbol",
    "third" (a thing beyond two), "mixed" (two colors for one thing) or "nothing" (no word
    understood); ``word`` is the part of the prompt it is about, ``suggestion`` a word to take
    instead, or "".
    """

    word: str
    kind: str
    suggestion: str
    sentence: str


NEGATIONS = frozenset(
    "not no without never none except but minus nor neither nobody nothing cannot cant dont doesnt "
    "didnt isnt arent aint".split()
)
NUMBERS = frozenset(
    "one two three four five six seven eight nine ten twelve twenty dozen dozens hundred "
    "hundreds thousand million several many few some lots multiple both pair couple group "
    "crowd".split()
)
# what belongs to writing a sentence; everything else in a prompt is a word or a symbol
_PUNCTUATION = frozenset(" \t\r\n.,;:!?'\"()[]{}-_\u2019\u2018\u201c\u201d\u2013\u2014\u2026/&+")


@lru_cache(maxsize=8)
def _caption_words(*lists: tuple[str, ...]) -> frozenset[str]:
    """Every word that captions of the world with these lists are made of."""
    rng = np.random.default_rng(0)
    said = [world.caption(world.sample_scene(rng), rng) for _ in range(600)]
    said += [" ".join(words) for words in lists]
    return frozenset(re.findall(r"[^\W_]+", " ".join(said)))


def known_words(pipe: Any) -> frozenset[str]:
    """The words that the model's captions held: those of the world that its tokenizer has as one
    piece. Empty for a model trained on the web, which has seen nearly every word."""
    if len(pipe.tokenizer) > hub.WORLD_TOKENIZER:
        return frozenset()
    lists = (world.KINDS, world.COLOURS, world.PLACES, world.TIMES, world.POSITIONS)
    vocabulary = pipe.tokenizer.get_vocab()
    words = _caption_words(*(tuple(one) for one in lists))
    return frozenset(word for word in words if f"{word}</w>" in vocabulary)


def unknown_words(pipe: Any, prompt: str) -> list[str]:
    """Words of a prompt that the model's captions never held; see :func:`known_words`."""
    known = known_words(pipe)
    words = dict.fromkeys(_words(prompt))
    return [word for word in words if word not in known] if known else []


def _words(prompt: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['\u2019][^\W_]+)*", prompt.lower())


def _singular(word: str, known: frozenset[str]) -> str:
    """The known word that this one is the plural of, or ""."""
    ends = (("ies", "y"), ("ves", "f"), ("es", ""), ("s", ""), ("es", "e"))
    stems = [word[: -len(a)] + b for a, b in ends if word.endswith(a) and len(word) > len(a) + 1]
    return next((stem for stem in stems if stem in known), "")


def _nearest(word: str, known: frozenset[str]) -> str:
    """The one known word a letter away from a long enough word, or "". The first letter is
    right: who slips, slips later, and an insult may be a letter away from a harmless word."""
    if len(word) < 4:
        return ""
    cutoff = 0.8 if len(word) > 4 else 0.85
    alike = sorted(other for other in known if other[0] == word[0])
    return next(iter(difflib.get_close_matches(word, alike, n=1, cutoff=cutoff)), "")


def _word_note(word: str, known: frozenset[str]) -> Note | None:
    """What to say of one word, or None if captions hold it."""
    if word in known:
        return None
    if word in NEGATIONS or word.endswith(("n't", "n\u2019t")):
        return Note(
            word, "negation", "",
            f"{word!r} takes nothing away: this model draws the words it reads. Leave out what "
            "should not be there. In code, negative_prompt can hold it.",
        )  # fmt: skip
    if word in NUMBERS or word.isdecimal():
        return Note(
            word, "number", "",
            f"This model has learned no numbers and will not count {word!r}: it draws one or two "
            "things, each named by itself.",
        )  # fmt: skip
    if one := _singular(word, known):
        return Note(
            word, "plural", one,
            f"This model has learned one of each thing and has never seen {word!r}: say {one!r}.",
        )  # fmt: skip
    near = _nearest(word, known)
    return Note(word, "unknown", near, _never_seen([(word, near)]))


def mixed_colors() -> str:
    """The pattern of two colors in a row, for Python's `re` and for the live page's JavaScript."""
    colour = f"(?:{'|'.join(world.COLOURS)})"
    return rf"\b{colour}(?:[\s,/-]|\band\b|\bor\b)+{colour}\b"


def _never_seen(words: list[tuple[str, str]]) -> str:
    hints = ", ".join(
        f"{word!r}" + (f" (did you mean {near!r}?)" if near else "") for word, near in words[:8]
    )
    return f"This model has never seen the word{'s' * (len(words) > 1)} {hints}: it will guess."


def _world_notes(prompt: str, known: frozenset[str]) -> list[Note]:
    """What a model of the picture-book world makes of a prompt that it was not trained for."""
    notes = []
    if found := re.search(r"\([^()]*:\s*[\d.]+\s*\)|\(\(|\[\[", prompt):
        notes.append(Note(
            found[0], "weight", "",
            f"Brackets and weights such as {found[0]!r} are not read here, only the words between "
            "them: a larger guidance_scale strengthens the whole prompt.",
        ))  # fmt: skip
        prompt = re.sub(r":\s*[\d.]+\s*\)", ")", prompt)
    words = _words(prompt)
    notes += [note for word in dict.fromkeys(words) if (note := _word_note(word, known))]
    things = [w for w in words if w in world.KINDS or _singular(w, known) in world.KINDS]
    if len(things) > 2:
        notes.append(Note(
            things[2], "third", "",
            f"This model has only seen pictures of one or two things: {things[2]!r} or another "
            "will be missing, or they will melt into each other.",
        ))  # fmt: skip
    if found := re.search(mixed_colors(), prompt.lower()):
        notes.append(Note(
            found[0], "mixed", "",
            f"Every thing that this model has seen had one color: of {found[0]!r} it takes one, or "
            "mixes them.",
        ))  # fmt: skip
    told = {*world.KINDS, *world.COLOURS, *world.PLACES, *world.TIMES}
    understood = any(w in told or _singular(w, known) in told for w in words)
    symbols = [c for c in dict.fromkeys(prompt) if not c.isalnum() and c not in _PUNCTUATION]
    if not understood and not notes:
        example = ", ".join([*world.KINDS[:5], world.COLOURS[0], world.PLACES[0]])
        sentence = (
            "This model understands no thing, color, place or time in this prompt; it knows, for "
            f"example, {example}."
        )
        notes.append(Note(prompt.strip()[:60], "nothing", "", sentence))
    elif symbols:
        shown = "".join(symbols)[:12]
        sentence = f"This model reads words only; it has never seen {shown!r}."
        notes.append(Note(shown, "symbol", "", sentence))
    return notes


def prompt_notes(pipe: Any, prompt: str) -> list[Note]:
    """What the writer of a prompt should know before a picture is made of it, word by word.

    Raises:
        TypeError, ValueError: if the prompt is not a string that can be written down.
    """
    inputs.text(prompt)
    if not prompt.strip():
        sentence = "The prompt is empty: the picture will be of nothing in particular."
        return [Note("", "empty", "", sentence)]
    notes = []
    room, ids = pipe.tokenizer.model_max_length - 2, _ids(pipe, prompt)
    if len(ids) > room:
        with hub.LOCK:
            lost = pipe.tokenizer.decode(ids[room:]).strip(" \ufffd")[:60]
        sentence = (
            f"The prompt is {len(ids)} tokens long and the model reads {room}: the rest is not "
            f"seen, from {lost!r} on."
        )
        notes.append(Note(lost, "long", "", sentence))
    if known := known_words(pipe):
        notes += _world_notes(prompt[:2000], known)
    return notes


def check_prompt(pipe: Any, prompt: str) -> None:
    """Warn of what :func:`prompt_notes` finds, in one sentence for each kind.

    Raises:
        TypeError, ValueError: if the prompt is not a string that can be written down.
    """
    notes = prompt_notes(pipe, prompt)
    new = [(note.word, note.suggestion) for note in notes if note.kind == "unknown"]
    for kind in dict.fromkeys(note.kind for note in notes):
        first = next(note for note in notes if note.kind == kind)
        warnings.warn(_never_seen(new) if kind == "unknown" else first.sentence, stacklevel=3)


@torch.no_grad()
def encode_prompt(pipe: Any, prompts: str | list[str]) -> torch.Tensor:
    """Prompts -> encoder_hidden_states (B, 77, D), float32: the text tower's last hidden states,
    padding included, as Stable Diffusion uses them.

    Raises:
        TypeError, ValueError: for anything but a string or a list of at least one.
    """
    inputs.check_pipe(pipe, "tokenizer", "text_encoder")
    prompts = list(prompts) if isinstance(prompts, (list, tuple)) else [prompts]
    if not prompts:
        raise ValueError("No prompt: give a string, or a list with at least one.")
    tokenizer, encoder = pipe.tokenizer, pipe.text_encoder
    with hub.LOCK:  # padding and truncation are a state of the tokenizer that threads share
        ids = tokenizer(
            [inputs.text(prompt) for prompt in prompts],
            padding="max_length",
            max_length=tokenizer.model_max_length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return encoder(ids.to(encoder.device))[0].float()


class AttentionRecorder:
    """An attention processor that keeps its weights: softmax(Q K^T / sqrt(d)) by plain products,
    because the library's fused kernel never forms them.

    ``maps`` holds one (B, pixels, tokens) tensor for each layer it ran in, averaged over the heads;
    each row sums to 1.
    """

    def __init__(self) -> None:
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
        """Called with each layer's weights (B, heads, pixels, tokens); what it returns is used in
        their place."""
        self.maps.append(weights.mean(1).float().cpu())
        return weights

    def take(self) -> list[torch.Tensor]:
        """What was recorded since the last call; forgets it."""
        taken, self.maps = self.maps, []
        return taken


@contextmanager
def record_attention(
    pipe: Any, recorder: AttentionRecorder | None = None
) -> Iterator[AttentionRecorder]:
    """Within the ``with`` block every cross-attention layer of the U-Net reports to the
    :class:`AttentionRecorder` it gives; pictures stay the same.

    A ``recorder`` of another class may change what the layers use (editing.KeepAttention does).
    Other threads wait for the block to end before they may run the model: what they do is not
    recorded.
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
    """One heat map a token: the mean over a step's layers, (B, tokens, side, side), as Tang et al.
    2022 ("What the DAAM") do.

    Args:
        maps: from :meth:`AttentionRecorder.take`, of square pictures.
        side: None takes the finest layers of at most 16 x 16, where attention is about things
            rather than edges (Hertz et al. 2022). Layers of this side and of half of it are
            averaged, the coarser ones interpolated.

    Raises:
        ValueError: if nothing was recorded, or no layer has this side.
    """
    sides = [math.isqrt(m.shape[1]) for m in maps]
    side = side or max((s for s in sides if s <= 16), default=0)
    if side not in sides:
        nothing = "nothing (run the U-Net inside `with record_attention(pipe)`)"
        raise ValueError(
            f"No layer attends at {side} x {side}; recorded: {sorted(set(sides)) or nothing}."
        )
    chosen = [
        m.mT.unflatten(-1, (s, s))
        for m, s in zip(maps, sides, strict=True)
        if s in (side, side // 2)
    ]
    return torch.stack(
        [torch.nn.functional.interpolate(m, size=(side, side), mode="bilinear") for m in chosen]
    ).mean(0)

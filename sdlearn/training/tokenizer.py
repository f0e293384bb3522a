"""Train the tokenizer: byte pairs merged, most frequent first, on captions of the picture-book
world (Sennrich et al. 2016)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Regex, Tokenizer, pre_tokenizers, trainers
from tokenizers.models import BPE

from sdlearn import models, world
from sdlearn.training import data
from sdlearn.training.common import Settings
from sdlearn.training.prepare import prepare

# how CLIP cuts a text into words before any merging (Radford et al. 2021): contractions, letters,
# single digits, the rest
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


@dataclass
class TokenizerSettings(Settings):
    """Settings of the tokenizer's training."""

    captions: int = 20_000
    merges: int = 2_000  # an upper bound: it stops when every word of the captions is one piece


def merges_of(captions: list[str], limit: int) -> list[tuple[str, str]]:
    """The merges that byte-pair encoding learns from captions, in order of priority."""
    base, _ = models.byte_vocabulary()
    tokenizer = Tokenizer(BPE(end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=len(base) + limit,
        end_of_word_suffix="</w>",
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(captions, trainer)
    return [tuple(m) for m in json.loads(tokenizer.to_str())["model"]["merges"]]


def train_tokenizer(settings: TokenizerSettings) -> None:
    """Train the tokenizer and write it into ``--out``."""
    prepare(settings)
    rng = np.random.default_rng(settings.seed)
    captions = [world.caption(data.scene("train", i), rng) for i in range(settings.captions)]
    merges = merges_of(captions, settings.merges)
    vocab, _ = models.byte_vocabulary()
    specials = ["<|startoftext|>", "<|endoftext|>"]
    pieces = [t for t in vocab if t not in specials] + ["".join(m) for m in merges] + specials
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = models.build_tokenizer(vocab, merges)
    folder = Path(settings.out) / "tokenizer"
    tokenizer.save_pretrained(folder)
    # transformers 4 reads these two files instead of tokenizer.json
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    words = sorted({w for c in captions for w in c.replace(",", " ").split()})
    split = [w for w in words if len(tokenizer(w, add_special_tokens=False).input_ids) != 1]
    print(f"{len(vocab)} pieces, {len(merges)} merges, {len(words)} words in the captions")
    print(f"words in several pieces: {split or 'none'}")

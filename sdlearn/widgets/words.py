"""What the panel says about words: which ones a model knows, what was asked and what is seen."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sdlearn import hub, text, world
from sdlearn.judge import load_judge


def chips(pipe: Any) -> dict[str, list[str]]:
    """Words to click, by what they are; empty for a model that knows more than this world."""
    if not (known := text.known_words(pipe)):
        return {}
    lists = dict(Things=world.KINDS, Colors=world.COLOURS)
    lists |= dict(Places=world.PLACES, Times=world.TIMES)
    made = {name: [str(word) for word in words] for name, words in lists.items()}
    made["Places"] = [world.PLACE_WORDS[word][0] for word in world.PLACES]
    made["Times"] = [world.TIME_WORDS[word][0] for word in world.TIMES]
    made["Positions"] = list(world.POSITION_WORDS.values())
    return {name: [w for w in words if known.issuperset(w.split())] for name, words in made.items()}


def random_prompt(rng: np.random.Generator) -> str:
    """A sentence of the world, for the dice."""
    return world.caption(world.sample_scene(rng))


def marks(pipe: Any, prompt: str) -> tuple[list[dict[str, str]], list[str]]:
    """Each word with its mark, and the sentences about the prompt.

    A mark is {"text", "kind", "take"}: kind "known", "plain" (the model knows more words than can
    be listed), "unknown", or "habit" (what works elsewhere and not here); "take" is a suggestion.
    """
    known = text.known_words(pipe)
    # of two notes on one word the first counts: it may have a suggestion
    notes = {note.word.lower(): note for note in reversed(text.prompt_notes(pipe, prompt))}
    found = []
    for word in re.findall(r"[^\W_]+(?:['\u2019][^\W_]+)*", prompt):
        note = notes.get(word.lower())
        kind = "known" if word.lower() in known else "plain"
        if note is not None:
            kind = "unknown" if note.kind == "unknown" else "habit"
        found.append({"text": word, "kind": kind, "take": note.suggestion if note else ""})
    return found, said(lambda: text.check_prompt(pipe, prompt))[1]


def said(act: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What `act` gives, and what it warns of, as sentences."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        given = act()
    return given, list(dict.fromkeys(str(warning.message) for warning in caught))


def word_places(pipe: Any, prompt: str) -> list[tuple[str, list[int]]]:
    """The words of a prompt and the places of their tokens, the start token being place 0."""
    found: list[tuple[str, list[int]]] = []
    word, places = "", []
    room = pipe.tokenizer.model_max_length - 2
    for i, piece in enumerate(text.tokens(pipe, prompt)[:room], 1):
        word, places = word + piece.removesuffix("</w>"), [*places, i]
        if piece.endswith("</w>"):
            found.append((word, places))
            word, places = "", []
    return [(w, p) for w, p in found if any(c.isalnum() for c in w)]


@lru_cache(maxsize=4)
def _judge(folder: Path, lists: tuple) -> Any:
    try:
        return load_judge(folder)
    except (FileNotFoundError, ValueError):  # a folder without one, or with one of another world
        return None


def compared(pipe: Any, prompt: str, picture: Image.Image) -> list[dict[str, str]]:
    """Asked, seen and missing by the judge, as lines {"name", "text"}; empty for other models."""
    if not text.known_words(pipe):
        return []
    lists = (tuple(world.KINDS), tuple(world.COLOURS), tuple(world.PLACES), tuple(world.TIMES))
    judge = _judge(hub.TINY_SD, lists)
    if judge is None:
        return []
    found = judge.compare(prompt, picture)
    sure = zip(found.seen.words, found.seen.sure, strict=True)
    lines = {
        "Asked": ", ".join(found.asked.words) or "no thing, color, place or time of this world",
        "Seen": ", ".join(f"{word} ({share:.0%} sure)" for word, share in sure),
        "Missing": ", ".join(found.missing) or "nothing",
    }
    if found.extra:
        lines["Not asked for"] = ", ".join(found.extra)
    return [{"name": name, "text": words} for name, words in lines.items()]

"""Sentences of the chapters that state what *these weights* do, each with what proves it.

A chapter's claims stand in ``tests/claims/chNN.py``. They are judged by the one run of the chapter
that the tests make anyway (tests/browser/test_chapters.py), or from the measured files beside the
weights. New weights that refute a sentence fail there, with the sentence in the message.
"""

from __future__ import annotations

import importlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
NOTEBOOKS = FOLDER.parents[1] / "notebooks"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One sentence and the number that must lie within ``low`` to ``high``, both included.

    Exactly one of ``value``, ``printed`` and ``measured`` says where the number comes from:

    value: a Python expression over the chapter's own names, evaluated right after ``cell`` has
        run; a yes-or-no counts as 1 or 0, so ``low=1`` asks for yes.
    printed: a regular expression with one group, matched in what ``cell`` prints.
    measured: a file beside the weights and the keys in it,
        ``"evaluation.json/fidelity/seen/all_named/value"``.

    long: true only after the full training of a cell; judged by ``run.py test --all``.
    any_weights: why random weights do not refute it, where they do not.
    """

    name: str
    sentence: str
    cell: str = ""
    value: str = ""
    printed: str = ""
    measured: str = ""
    low: float = -math.inf
    high: float = math.inf
    long: bool = False
    any_weights: str = ""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.value, self.printed, self.measured))) != 1:
            raise ValueError(f"{self.name}: give one of value, printed and measured")
        if bool(self.cell) == bool(self.measured):
            raise ValueError(f"{self.name}: value and printed need the cell's id, measured none")
        if math.isinf(self.low) and math.isinf(self.high):
            raise ValueError(f"{self.name}: without a bound nothing can refute it")

    def verdict(self, number: float | str | None) -> str | None:
        """Nothing if the number bears the sentence out, else what is wrong, with the sentence."""
        if isinstance(number, (int, float)) and self.low <= number <= self.high:
            return None
        found = f"{number:.6g}" if isinstance(number, (int, float)) else number or "not found"
        return (
            f"claim {self.name}: {found}, not within {self.low:g} to {self.high:g}; "
            f"the chapter says: “{self.sentence}”"
        )


def of(chapter: str) -> list[Claim]:
    """A chapter's claims; empty where none are written yet. ``chapter`` begins with its number."""
    if not (FOLDER / f"ch{chapter[:2]}.py").exists():
        return []
    return importlib.import_module(f"claims.ch{chapter[:2]}").CLAIMS


def chapters() -> list[str]:
    """The chapters that have claims: ["00", "03", ...]."""
    return sorted(path.stem[2:] for path in FOLDER.glob("ch[0-9][0-9].py"))


def notebook(chapter: str) -> dict:
    path = next(NOTEBOOKS.glob(f"{chapter[:2]}_*.ipynb"))
    return json.loads(path.read_text(encoding="utf-8"))


def plain(text: str) -> str:
    """Markdown as words: without emphasis and with single blanks, so that both sides compare."""
    return " ".join(re.sub(r"[*_`]", "", text).split())


def measured(claim: Claim, folder: Path) -> float | str:
    """The number that a measured file of the model folder holds."""
    name, *keys = claim.measured.split("/")
    found = json.loads((folder / name).read_text(encoding="utf-8"))
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            return f"no {claim.measured} there"
        found = found[key]
    return float(found)


def printed(claim: Claim, text: str) -> float | str:
    """The number in what the claim's cell has printed."""
    match = re.search(claim.printed, text)
    return float(match[1].replace(",", "")) if match else f"{claim.printed!r} is not printed"

"""One execution of a chapter, and everything that is asked of it: its cells run without an error,
print what is committed, ask nothing of the network, stay within memory and time, and bear out the
sentences of the chapter (tests/claims)."""

from __future__ import annotations

import configparser
import difflib
import json
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import claims
import nbformat

from tools import notebooks

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
CHAPTERS = sorted(path.name for path in FOLDER.glob("[0-9][0-9]_*.ipynb"))
OFFLINE = ROOT / "tests" / "offline"
MAX_MB = 1000.0
MAX_SECONDS = 400.0  # of the processor, not of the clock: other work on the machine does not count


class Ran(NamedTuple):
    """What one execution has shown."""

    cells: list[dict]  # of each code cell with source: id, count, outputs
    seconds: float  # of the processor
    peak_mb: float
    tried: list[str]  # hosts that were asked for
    found: dict[str, float | str]  # claims evaluated in the kernel


class Scratch:
    """A folder for one execution: an IPython profile with the probe, and where it writes."""

    def __init__(self, folder: Path):
        self.asks, self.finds, self.log = (folder / n for n in ("asks", "finds", "network"))
        startup = folder / "ipython" / "profile_default" / "startup"
        startup.mkdir(parents=True)
        shutil.copy(OFFLINE / "probe.py", startup / "00-probe.py")
        path = [str(OFFLINE), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = {
            "PYTHONPATH": os.pathsep.join(path),
            "IPYTHONDIR": str(folder / "ipython"),
            "SDLEARN_NETWORK_LOG": str(self.log),
            "SDLEARN_PROBE_ASKS": str(self.asks),
            "SDLEARN_PROBE_FINDS": str(self.finds),
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",  # two chapters run side by side
        }
        self.ask([], [])

    def ask(self, cells: list, wanted: list[claims.Claim]) -> None:
        """Before a kernel starts: what to evaluate in it. What others have left is forgotten."""
        source = {cell["id"]: "".join(cell["source"]).strip() for cell in cells}
        asked: dict[str, list] = {}
        for claim in wanted:
            if claim.value and claim.cell in source:
                asked.setdefault(source[claim.cell], []).append([claim.name, claim.value])
        self.asks.write_text(json.dumps(asked), encoding="utf-8")
        self.finds.unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)

    def rows(self) -> list[dict]:
        text = self.finds.read_text(encoding="utf-8") if self.finds.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def ran(self, cells: list[dict], peak_mb: float) -> Ran:
        found = {row["claim"]: row["value"] for row in self.rows() if "claim" in row}
        tried = self.log.read_text().split() if self.log.exists() else []
        seconds = max((row["seconds"] for row in self.rows() if "seconds" in row), default=0.0)
        return Ran(cells, seconds, peak_mb, tried, found)

    def peak_mb(self) -> float:
        """Of the kernel that started last, while it lives."""
        return notebooks.peak_memory([row["pid"] for row in self.rows() if "pid" in row][-1])


def headless(path: Path, folder: Path, wanted: list[claims.Claim] = (), **environment) -> Ran:
    """Run a notebook without a browser, in a clean kernel of its own, cut off the network."""
    scratch, nb = Scratch(folder), nbformat.read(path, as_version=4)
    scratch.ask(nb.cells, wanted)
    for cell in nb.cells:
        if cell.cell_type == "code":  # what is stored must not count as run
            cell.update(execution_count=None, outputs=[])
    env = {k: v for k, v in os.environ.items() if k not in ("SDLEARN_MODEL", "SDLEARN_RACE")}
    done = notebooks.execute(nb, path.parent, env=env | scratch.environment | environment)
    code = [c for c in nb.cells if c.cell_type == "code" and c.source.strip()]
    cells = [dict(id=c.id, count=c.execution_count, outputs=c.outputs) for c in code]
    return scratch.ran(cells, done.peak_mb)


def faults(path: Path, ran: Ran, wanted: list[claims.Claim] = ()) -> list[str]:
    """What an execution shows that it should not; empty if all is well."""
    nb = nbformat.read(path, as_version=4)
    code = {c.id: c for c in nb.cells if c.cell_type == "code" and c.source.strip()}
    shown = {cell["id"]: cell for cell in ran.cells}
    found = []
    for number, (id, cell) in enumerate(code.items(), 1):
        outputs = shown[id]["outputs"] if id in shown else []
        if shown.get(id, {}).get("count") != number:
            found.append(f"cell [{number}] did not run in its turn")
        found += [
            f"cell [{number}] {o.get('ename') or 'wrote to stderr'}: "
            f"{o.get('evalue') or text([o], 'stderr')}"
            for o in outputs
            if o["output_type"] == "error" or o.get("name") == "stderr"
        ]
        if "nbval-check-output" in cell.metadata.get("tags", []):
            found += differences(number, text(cell.outputs), text(outputs))
    found += [f"tried to reach {host}" for host in ran.tried]
    if not ran.peak_mb <= MAX_MB:
        found.append(f"held {ran.peak_mb:.0f} MB, more than {MAX_MB:.0f}")
    if ran.seconds > MAX_SECONDS:
        found.append(f"took {ran.seconds:.0f} s of the processor, more than {MAX_SECONDS:.0f}")
    return found + refuted(ran, wanted)


def refuted(ran: Ran, wanted: list[claims.Claim]) -> list[str]:
    """Claims that what was run or measured does not bear out, each with its sentence."""
    from sdlearn import hub

    outputs, found = {cell["id"]: cell["outputs"] for cell in ran.cells}, []
    for claim in wanted:
        if claim.measured:
            number = claims.measured(claim, hub.TINY_SD)
        elif claim.printed:
            number = claims.printed(claim, text(outputs.get(claim.cell, [])))
        else:
            number = ran.found.get(claim.name)
        found.append(claim.verdict(number))
    return [sentence for sentence in found if sentence]


def text(outputs: list, name: str = "stdout") -> str:
    """What a cell has printed."""
    return "".join("".join(o["text"]) for o in outputs if o.get("name") == name)


def differences(number: int, committed: str, now: str) -> list[str]:
    """How a printed text differs from the committed one; times and memory are not compared."""
    old, new = (sanitized(t).splitlines() for t in (committed, now))
    if old == new:
        return []
    lines = list(difflib.unified_diff(old, new, "committed", "now", lineterm="", n=0))[2:]
    return [f"cell [{number}] prints something else: " + " ".join(lines)[:1500]]


def sanitized(printed: str) -> str:
    rules = configparser.RawConfigParser()
    rules.read(ROOT / "tests" / "sanitize.cfg")
    for section in rules.sections():
        printed = re.sub(rules.get(section, "regex"), rules.get(section, "replace"), printed)
    return printed

"""One style for all code, notebooks included: ruff's rules stand in pyproject.toml, the limits in
tools/count.py."""

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import count

ROOT = Path(__file__).resolve().parents[1]
PATHS = count.sources()
OTHERS = [*ROOT.glob("tools/*.py"), *ROOT.glob("tests/**/*.py"), ROOT / "run.py"]
# What is over a limit today; it may only become less, and goes when it is nothing. Untyped is what
# chapter 03 shows, line by line as it stands in its cells. The core is far from count.CORE_LINES
# (2,600): `python -m tools.count` says where its lines are.
STILL = {"long": 0, "positional": 0, "untyped": 0, "twice": 0, "core": 4400, "mypy": 0}


def test_ruff_finds_nothing():
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_types_fit():
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir=.mypy_cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(errors) <= STILL["mypy"], "\n".join(errors)
    assert done.returncode in (0, 1), done.stderr


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("long", count.long_functions(PATHS + OTHERS)),
        ("positional", count.many_positional(PATHS + OTHERS)),
        ("untyped", count.untyped(PATHS)),
        ("twice", count.twice(PATHS)),
    ],
)
def test_nothing_is_over_a_limit(name, found):
    assert len(found) <= STILL[name], "\n".join(found)


def test_imports_run_downwards_and_hub_is_the_door():
    assert count.upward(PATHS) == []


def test_the_core_stays_small():
    assert sum(map(count.code_lines, count.core(PATHS))) <= STILL["core"]


def test_each_limit_is_found(tmp_path, monkeypatch):
    """A package with one fault of each kind."""
    monkeypatch.setattr(count, "ROOT", tmp_path)
    (tmp_path / "sdlearn").mkdir()
    (tmp_path / "sdlearn" / "noising.py").write_text(
        '"""A docstring\nof two lines."""\n\nfrom diffusers import X  # no code\n'
        "from sdlearn import hub\nfrom .widgets import y\n\n"
        "def grid(a, b, c, d, e, f, g): pass\n"
    )
    body = "\n".join(["def grid() -> None:", *["    x = 1"] * 50, "class A:"])
    (tmp_path / "sdlearn" / "hub.py").write_text(
        f"{body}\n    def __init__(self, a: int, *, b: int): pass\n    def f(self): pass\n"
    )
    paths = count.sources(tmp_path / "sdlearn")
    assert count.long_functions(paths) == ["sdlearn/hub.py: grid: 51 lines"]
    assert count.many_positional(paths) == ["sdlearn/noising.py: grid: 7 positional arguments"]
    assert count.untyped(paths) == ["sdlearn/hub.py: f", "sdlearn/noising.py: grid"]
    assert count.twice(paths) == ["grid"]
    assert count.upward(paths) == [
        "sdlearn/noising.py imports diffusers.X past hub.py",
        "sdlearn/noising.py imports sdlearn.hub, which stands above it",
        "sdlearn/noising.py imports sdlearn.widgets.y, which stands above it",
    ]
    assert count.code_lines(paths[1]) == 4 and count.code_lines(paths[0]) == 54


def missing_names(path: Path) -> Iterator[str]:
    """What a notebook's cells take from the package and is not there (any more)."""
    modules = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        tree = ast.parse("".join(cell["source"])) if cell["cell_type"] == "code" else ast.Module([])
        for node in ast.walk(tree):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            for alias in node.names if (module or "").startswith("sdlearn") else ():
                try:
                    found = importlib.import_module(f"{module}.{alias.name}")
                    modules[alias.asname or alias.name] = found
                except ModuleNotFoundError:  # a function, or nothing
                    if not hasattr(importlib.import_module(module), alias.name):
                        yield f"{path.name} {cell['id']}: {module} has no {alias.name}"
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                module = modules.get(node.value.id)
                if module and not hasattr(module, node.attr):
                    yield f"{path.name} {cell['id']}: {node.value.id} has no {node.attr}"


def test_notebooks_name_what_there_is(tmp_path):
    """A name that was changed is found here, before any chapter is run."""
    wrong = {
        "cells": [{"cell_type": "code", "id": "x", "source": ["from sdlearn import hub, no\n"]}]
    }
    wrong["cells"][0]["source"] += ["hub.nothing, hub.TINY_SD"]
    (tmp_path / "a.ipynb").write_text(json.dumps(wrong))
    assert list(missing_names(tmp_path / "a.ipynb")) == [
        "a.ipynb x: sdlearn has no no",
        "a.ipynb x: hub has no nothing",
    ]
    found = [line for path in ROOT.glob("notebooks/**/*.ipynb") for line in missing_names(path)]
    assert found == []

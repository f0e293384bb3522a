"""A chapter's own cells, so that what is proved is what the reader sees."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import nbformat

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


def part(name: str, /, *ids: str, **given) -> ModuleType:
    """Some cells of one chapter, run in the order given, as a module.

    ``given`` are names that the cells find already there.

    Raises:
        KeyError: if the chapter has no cell of that id.
    """
    path = next(p for p in sorted(FOLDER.glob("*.ipynb")) if name in p.stem)
    cells = {cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells}
    module = ModuleType(path.stem)
    module.__dict__.update(given)
    for id in ids:
        exec(compile(cells[id], f"{path.name}: {id}", "exec"), module.__dict__)
    return module

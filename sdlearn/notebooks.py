"""A chapter's own cells for its solutions and for the tests, so that no line of a lesson stands twice."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"


def part(name: str, /, *ids: str, **given) -> ModuleType:
    """Some cells of one chapter, run in the order given, as a module; ``given`` are names the cells find already there.

    Raises:
        KeyError: if the chapter has no cell of that id.
    """
    import nbformat

    path = next(p for p in sorted(FOLDER.glob("*.ipynb")) if name in p.stem)
    cells = {cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells}
    module = ModuleType(path.stem)
    module.__dict__.update(given)
    for id in ids:
        exec(compile(cells[id], f"{path.name}: {id}", "exec"), module.__dict__)
    return module

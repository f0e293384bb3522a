#!/usr/bin/env python3
"""Put the address of a published copy where clouds need it: ``python docs/publish.py OWNER/NAME
[BRANCH]`` (standard library only).

README gets badges that open it on Colab and Binder. Each notebook's first code cell becomes one
that installs, on a fresh cloud runtime, what is missing, and nothing else; where sdlearn is
installed it does nothing. A second run replaces what the first wrote.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CELL = "cloud-set-up"
FIRST = "notebooks/00_first_image.ipynb"


def badges(repository: str, branch: str) -> str:
    colab = f"https://colab.research.google.com/github/{repository}/blob/{branch}/{FIRST}"
    binder = f"https://mybinder.org/v2/gh/{repository}/{branch}?urlpath=lab/tree/{FIRST}"
    return (
        "[![Open in "
        f"Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab}) [![Open on "
        f"Binder](https://mybinder.org/badge_logo.svg)]({binder})"
    )


def set_up(repository: str) -> str:
    return f"""\
# Colab and the like: install what is missing. Where sdlearn is there, nothing happens.
import importlib.util

if importlib.util.find_spec("sdlearn") is None:
    %pip install -q "sdlearn @ git+https://github.com/{repository}\""""


def mark_readme(text: str, line: str, repository: str = "OWNER/NAME") -> str:
    """The badges between their markers, which stand below the title; the address to clone."""
    text = text.replace(
        "github.com/OWNER/NAME && cd NAME",
        f"github.com/{repository} && cd {repository.split('/')[-1]}",
    )
    block = f"<!-- clouds:start -->\n{line}\n<!-- clouds:end -->"
    if "<!-- clouds:start -->" in text:
        return re.sub(
            r"<!-- clouds:start -->.*?<!-- clouds:end -->", lambda _: block, text, flags=re.DOTALL
        )
    title, rest = text.split("\n", 1)
    return f"{title}\n\n{block}\n{rest}"


def mark_notebook(nb: dict, source: str) -> dict:
    """The set-up cell before all other code; the cells are numbered as a run from the top would
    number them."""
    cells = [c for c in nb["cells"] if c.get("id") != CELL]
    place = next(i for i, c in enumerate(cells) if c["cell_type"] == "code")
    cells.insert(
        place,
        {
            "cell_type": "code",
            "execution_count": None,
            "id": CELL,
            "metadata": {},
            "outputs": [],
            "source": source.splitlines(keepends=True),
        },
    )
    executed = [c for c in cells if c["cell_type"] == "code" and "".join(c["source"]).strip()]
    for number, cell in enumerate(executed, 1):
        cell["execution_count"] = number
        for output in cell["outputs"]:
            if "execution_count" in output:
                output["execution_count"] = number
    return {**nb, "cells": cells}


def main(argv: list[str], root: Path = ROOT) -> int:
    if not 1 <= len(argv) <= 2 or not re.fullmatch(r"[\w.-]+/[\w.-]+", argv[0]):
        print(
            "Say where the copy is published: python docs/publish.py OWNER/NAME [BRANCH]",
            file=sys.stderr,
        )
        return 2
    repository, branch = argv[0], argv[1] if len(argv) == 2 else "main"
    readme = root / "README.md"
    readme.write_text(
        mark_readme(readme.read_text(encoding="utf-8"), badges(repository, branch), repository),
        encoding="utf-8",
    )
    for path in sorted((root / "notebooks").rglob("*.ipynb")):
        if ".ipynb_checkpoints" not in path.parts:
            nb = mark_notebook(json.loads(path.read_text(encoding="utf-8")), set_up(repository))
            path.write_text(json.dumps(nb, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

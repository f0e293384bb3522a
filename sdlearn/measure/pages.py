"""Put generated text into a page that is written by hand."""

from __future__ import annotations

import re
from pathlib import Path


def write_between(path: Path, name: str, text: str) -> None:
    """Put text between the markers ``<!-- name:start -->`` and ``<!-- name:end -->`` of a page.

    Raises:
        ValueError: if the page has none.
    """
    before = require_markers(path, name)
    after = _between(name).sub(lambda m: f"{m[1]}{text}\n{m[2]}", before)
    path.write_text(after, encoding="utf-8")


def require_markers(path: Path, name: str) -> str:
    """The text of a page that has the markers of ``name``.

    Raises:
        ValueError: if it has none, or is not there.
    """
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    if not _between(name).search(text):
        raise ValueError(f"{path} has no markers <!-- {name}:start --> and <!-- {name}:end -->.")
    return text


def _between(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}:start -->\n).*?(<!-- {name}:end -->)", re.DOTALL)

"""Put generated text into a page that is written by hand."""

from __future__ import annotations

import re
from pathlib import Path


def write_between(path: Path, name: str, text: str) -> None:
    """Put text between the markers ``<!-- name:start -->`` and ``<!-- name:end -->`` of a page.

    Raises:
        ValueError: if the page has none.
    """
    before = path.read_text(encoding="utf-8")
    after, found = re.subn(
        rf"(<!-- {name}:start -->\n).*?(<!-- {name}:end -->)",
        lambda m: f"{m[1]}{text}\n{m[2]}",
        before,
        flags=re.DOTALL,
    )
    if not found:
        raise ValueError(f"{path} has no markers <!-- {name}:start --> and <!-- {name}:end -->.")
    path.write_text(after, encoding="utf-8")

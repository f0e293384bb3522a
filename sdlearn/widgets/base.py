"""What all controls stand on: style sheet, pictures as HTML, sliders, the box around them."""

from __future__ import annotations

import base64
import html
import io
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets as W
import traitlets
from matplotlib.figure import Figure
from PIL import Image

from sdlearn import plots
from sdlearn.plots import Picture

HERE = Path(__file__).parent
# what a control is called on the page where a chapter gives it a variable's name
WORDS = {
    "t": "timestep t",
    "s": "strength s",
    "u": "share u of the way",
    "beta": "noise of a step, beta",
    "beta_start": "beta at the first timestep",
    "beta_end": "beta at the last timestep",
    "eta": "fresh noise, eta",
}
WIDE = {"width": "100%", "max_width": "520px"}
_STYLE = f"<style>{(HERE / 'style.css').read_text(encoding='utf-8')}</style>"


def setup() -> None:
    """Call it first in a notebook: names and keys for the controls, no chatter of libraries."""
    from IPython.display import display

    from sdlearn import models

    models.quiet()
    # a script inside text/html runs in JupyterLab, Colab and saved pages, and is dropped silently
    # where scripts are not trusted
    script = (HERE / "a11y.js").read_text(encoding="utf-8")
    display({"text/html": f"<script>{script}</script>", "text/plain": ""}, raw=True)


def esm(name: str) -> str:
    """One of the scripts beside this file as a module, after what all of them share."""
    return "".join((HERE / part).read_text(encoding="utf-8") for part in ("common.js", name))


def img(
    image: Picture | Figure,
    alt: str,
    size: int,
    *,
    pixelated: bool = False,
    packed: bool = True,
) -> str:
    """One picture as HTML, of fixed width and height, so that nothing jumps when it is replaced.

    `size` is its width in pixels (a Figure has its own); `packed` as in `plots.to_png`.
    """
    if isinstance(image, Figure):
        width, height = (round(inches * plots.DPI) for inches in image.get_size_inches())
    else:
        image = plots.picture(image)
        width, height = size, round(size * image.height / image.width)
    style = f"image-rendering: {'pixelated' if pixelated else 'auto'}"
    source = plots.data_uri(image, packed=packed)
    return (
        f'<figure><img alt="{html.escape(alt, quote=True)}" width="{width}" height="{height}" '
        f'style="{style}" src="{source}"></figure>'
    )


def jpeg_uri(image: Image.Image) -> str:
    """A picture as an address, packed in a millisecond."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=92, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def deck(pages: list[W.Widget], start: int) -> W.Tab:
    """Pages of which the browser shows one."""
    tab = W.Tab(children=pages)
    tab.selected_index = start
    tab.add_class("sd-frames")
    return tab


def pages(images: Sequence, alts: Sequence[str], size: int, pixelated: bool) -> list[W.HTML]:
    """A page for each picture. They share one layout and one style: a third of the messages."""
    first = W.HTML(img(images[0], alts[0], size, pixelated=pixelated))
    shared = dict(layout=first.layout, style=first.style)
    others = zip(images[1:], alts[1:], strict=True)
    return [first, *(W.HTML(img(i, a, size, pixelated=pixelated), **shared) for i, a in others)]


def in_words(name: str) -> str:
    """What a control is called on the page: by :data:`WORDS`, else its name without underscores."""
    return WORDS.get(name, name.replace("_", " "))


def slider(labels: Iterable, description: str, start: int = 0) -> W.SelectionSlider:
    """A slider over labels; its `.index` is the place. Hidden where there is nothing to choose."""
    options = [(str(label), i) for i, label in enumerate(labels)]
    made = W.SelectionSlider(options=options, index=start, description=in_words(description))
    made.style.description_width = "initial"
    made.layout = W.Layout(**WIDE, display=None if len(options) > 1 else "none")
    return made


def align(controls: Iterable[W.Widget]) -> None:
    """Give the names of controls that stand below each other one width: they start in one line."""
    controls = list(controls)
    for control in controls:
        control.style.description_width = f"{max(len(c.description) for c in controls) + 1}ch"


def close_all(widget: W.Widget) -> None:
    """Free a control and all its pages, in the kernel and in the browser."""
    for part in (*getattr(widget, "children", ()), *getattr(widget, "links", ())):
        close_all(part)
    widget.close()


class Control(W.VBox):
    """A box with the series' style sheet.

    The sheet travels with each control: some front ends show each output in a page of its own.
    """

    value: Any

    def __init__(self, *children: W.Widget):
        super().__init__(children=[W.HTML(_STYLE, layout=W.Layout(display="none")), *children])
        self.add_class("sd-control")

    def __repr__(self) -> str:  # ipywidgets would print every picture as text
        return f"{type(self).__name__}(value={self.value!r})"


class WorkerFace(anywidget.AnyWidget):
    """What every control that works on a prompt shows: notes on it, status, steps done."""

    _css = HERE / "panel.css"
    prompt = traitlets.Unicode().tag(sync=True)
    notes = traitlets.List().tag(sync=True)
    status = traitlets.Unicode().tag(sync=True)
    bad = traitlets.Bool(False).tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)
    done = traitlets.Int(0).tag(sync=True)
    total = traitlets.Int(0).tag(sync=True)


class Worker(Control):
    """A control whose `face` is drawn by a script, and whose work runs in a thread."""

    face: WorkerFace
    error = ""  # the sentence that is shown when it failed
    _thread: threading.Thread | None = None

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is drawn any more; False if `timeout` seconds were not enough."""
        end = time.monotonic() + (threading.TIMEOUT_MAX / 2 if timeout is None else timeout)
        while self._thread and self._thread.is_alive():  # one run may begin another
            if (left := end - time.monotonic()) <= 0:
                return False
            self._thread.join(left)
        return True

    def _say(self, words: str, bad: bool = False) -> None:
        self.error = words if bad else ""
        self.face.status, self.face.bad = words, bad


def sentence(error: BaseException) -> str:
    """An exception as one sentence: our own are sentences already, others get their kind first."""
    text = (str(error).strip() or "no message").splitlines()[0]
    ours = isinstance(error, (ValueError, FileNotFoundError))
    return text if ours else f"{type(error).__name__}: {text}"


def line(text: str, bad: bool = False) -> str:
    """A line of status as HTML."""
    lead = "<b>Not possible:</b> " if bad else ""
    return f"<p>{lead}{html.escape(text.strip())}</p>" if text else ""

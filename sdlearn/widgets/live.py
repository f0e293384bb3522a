"""A picture computed afresh whenever one of its controls is moved."""

from __future__ import annotations

import contextlib
import html
import io
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import anywidget
import ipywidgets as W
import traitlets
from matplotlib.figure import Figure

from sdlearn.plots import Picture
from sdlearn.widgets.base import WIDE, Control, align, esm, img, in_words, line, sentence, slider

# sys.stdout belongs to all threads: one of them at a time may listen to what it prints
_LISTENING = threading.RLock()


class _Heard(io.TextIOBase):
    """What one thread prints; other threads print where they always did."""

    def __init__(self, usual: Any):
        self.usual, self.thread, self.text = usual, threading.get_ident(), io.StringIO()

    def write(self, text: str) -> int:
        mine = threading.get_ident() == self.thread
        return (self.text if mine else self.usual).write(text)

    def flush(self) -> None:
        self.usual.flush()


class Place(anywidget.AnyWidget):
    """A field over a picture that hears clicks and arrow keys; `place.js` draws it."""

    _esm = esm("place.js")
    at = traitlets.List([0, 0]).tag(sync=True)  # row and column
    counts = traitlets.List([1, 1]).tag(sync=True)


class LivePicture(Control):
    """A picture computed from its controls: `fn(**values)` gives a PIL image, an array or a Figure.

    Pictures are kept by value. While `fn` takes under 100 ms the picture follows the drag, else it
    waits for the release; if values come faster than pictures, only the latest is drawn, and the
    old picture is dimmed until then. What `fn` prints stands below. Where "row" and "column" are
    sliders, a click on the picture and the arrow keys choose them too.
    `.value` is the dict of values, `.picture` what `fn` gave, `.error` what is shown when it fails.
    """

    DRAG_SECONDS = 0.1
    packed = False  # see plots.to_png: pictures that are gone at the next touch are not

    def __init__(
        self,
        fn: Callable[..., Picture | Figure],
        controls: dict[str, W.Widget | Iterable],
        alt: str | Callable[..., str],
        *,
        labels: dict[str, str] | None = None,
        size: int = 256,
        pixelated: bool = False,
    ):
        """Draw the first picture at once.

        Args:
            fn: called with the values by name.
            controls: the arguments of `fn` and their widgets. Values that are strings become
                buttons, other lists and ranges a slider.
            alt: a sentence with the names in braces ("noise at t = {t}"), or a function of the
                values.
            labels: what the controls are called on the page; the argument's name in words
                (`base.WORDS`) unless told.
            size: width on the page in pixels; a Figure has its own.
            pixelated: keeps the squares of small arrays.
        """
        self._fn, self._alt, self._size, self._pixelated = fn, alt, size, pixelated
        labels = {name: in_words(name) for name in controls} | (labels or {})
        self.controls: dict[str, W.Widget] = {
            name: c if isinstance(c, W.Widget) else _over(labels[name], c)
            for name, c in controls.items()
        }
        self.picture: Picture | Figure | None = None
        self.error, self._drawn, self._seconds = "", None, []
        self._held = False  # while both of two controls are being set
        self._lock, self._cached = threading.RLock(), lru_cache(maxsize=256)(self._draw)
        self._page, self._status = W.HTML(), W.HTML()
        self._status.add_class("sd-status")
        self._status.add_class("sd-drawing")
        for name, control in self.controls.items():
            control.description = control.description or labels[name]
            if "Slider" in type(control).__name__ and control.layout.width is None:
                control.layout = W.Layout(**WIDE)
            control.observe(self._update, "value")
        align(self.controls.values())
        place = [self.controls.get(name) for name in ("row", "column")]
        pointed = all(isinstance(control, W.SelectionSlider) for control in place)
        shown = self._under(Place(), *place) if pointed else self._page
        super().__init__(*self.controls.values(), shown, self._status)
        self._update()

    def _under(self, place: Place, row: W.SelectionSlider, column: W.SelectionSlider) -> W.Box:
        """The picture under a field by which row and column are chosen together."""
        place.counts, place.at = [len(row.options), len(column.options)], [row.index, column.index]

        def moved(_change: Any) -> None:
            if not self._held:
                place.at = [row.index, column.index]

        def pointed(_change: Any) -> None:
            self._held = True
            row.index, column.index = place.at
            self._held = False
            self._update()

        row.observe(moved, "index")
        column.observe(moved, "index")
        place.observe(pointed, "at")
        box = W.Box([self._page, place])
        box.add_class("sd-place")
        return box

    @property
    def value(self) -> dict[str, Any]:
        return {name: control.value for name, control in self.controls.items()}

    def forget(self) -> None:
        """Draw each value anew when it comes again."""
        self._drawn = None
        self._cached.cache_clear()

    def _draw(self, *values: Any) -> tuple[Picture | Figure, str, str]:
        began, named = time.perf_counter(), dict(zip(self.controls, values, strict=True))
        with _LISTENING, contextlib.redirect_stdout(_Heard(sys.stdout)) as heard:
            picture = self._fn(**named)
        if callable(self._alt):
            alt = self._alt(**named)
        else:
            alt = self._alt.format(**named)
        page = img(picture, alt, self._size, pixelated=self._pixelated, packed=self.packed)
        # the median of three: the first call of a model is always slow, one hiccup is no habit
        self._seconds = [*self._seconds[-2:], time.perf_counter() - began]
        drag = statistics.median_low(self._seconds) <= self.DRAG_SECONDS
        for control in self.controls.values():
            if "Slider" in type(control).__name__ and control.continuous_update != drag:
                control.continuous_update = drag
        return picture, page, heard.text.getvalue()

    def _update(self, _change: Any = None) -> None:
        if self._held:
            return
        if self._drawn is not None and self._now() != self._drawn:
            self._page.add_class("sd-late")
            if statistics.median_low(self._seconds or [0]) > self.DRAG_SECONDS:
                self._status.value = line("Drawing …")
        # Whoever waited here while others drew reads the values afresh: what is out of date is
        # never drawn, and the last value always is.
        with self._lock:
            values = self._now()
            if values != self._drawn:
                said = self._show(values)
                self._drawn = values
                self._status.value = line(self.error, bad=True) + said
            self._page.remove_class("sd-late")

    def _now(self) -> tuple:
        return tuple(control.value for control in self.controls.values())

    def _show(self, values: tuple) -> str:
        """Put the picture of these values on the page; what the function printed, as HTML."""
        try:
            self.picture, self._page.value, said = self._cached(*values)
        except Exception as error:  # a learner's function may raise anything: the control lives on
            self.error = sentence(error)
            return ""
        self.error = ""
        return f'<pre class="sd-said">{html.escape(said)}</pre>' if said.strip() else ""


def _over(name: str, values: Iterable) -> W.Widget:
    """Buttons for named choices, a slider for numbers."""
    values = list(values)
    if values and all(isinstance(v, str) for v in values):
        buttons = W.ToggleButtons(options=values, description=name)
        buttons.style.button_width = "auto"
        return buttons
    made = slider(values, name)
    made.options = [(f"{v:.4g}" if isinstance(v, float) else str(v), v) for v in values]
    return made

"""The controls of the notebooks. Each shows itself as the last value of a cell and exposes what it shows: `.frames`, `.value`, `.picture`.

What only shows computed pictures scrubs in the browser alone, also when the kernel is gone or the page is a saved site: a Tab with its
bar hidden holds one `<img>` a page, and a browser-side link moves it with the slider. What computes runs beside the notebook's own cells
in other threads; so there is one lock a control, and no state outside it.
"""

import base64
import html
import io
import statistics
import threading
import time
import warnings
from functools import lru_cache
from pathlib import Path

import ipywidgets as W
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from sdlearn import plots

# ipywidgets writes these rules with three classes, hence the !important
_STYLE = """<style>
.sd-frames > .lm-TabBar, .sd-frames > .p-TabBar { display: none !important }
.sd-frames > .widget-tab-contents { border: none !important; padding: 0 !important; overflow: visible !important; background: none !important }
.sd-control figure { margin: 4px 0; line-height: 0 }
.sd-control img { max-width: 100%; height: auto }
.sd-control .widget-label { text-align: left }
.sd-control .widget-readout { min-width: 5em; max-width: none; width: auto; white-space: nowrap; overflow: visible; text-align: left; margin-left: 12px }
.sd-control .noUi-handle { background: #0072B2 !important; border-color: #0072B2 !important }
.sd-control .noUi-handle:focus-visible, .sd-control button:focus-visible { outline: 3px solid #E69F00 !important; outline-offset: 2px }
.sd-control .widget-toggle-buttons { display: flex; flex-wrap: wrap; width: auto }
.sd-control .widget-toggle-button.mod-active { font-weight: 700; text-decoration: underline }
.sd-mask-stage { position: relative; line-height: 0; overflow: hidden }
.sd-mask figure, .sd-mask-stage > * { margin: 0 !important }
.sd-mask-stage canvas, .sd-mask-stage .sd-mask-echo { position: absolute; left: 0; top: 0; width: 100%; height: 100%; image-rendering: pixelated; margin: 0 }
.sd-mask-stage canvas { cursor: crosshair; touch-action: none }
.sd-mask-live .sd-mask-echo { display: none }
.sd-mask-tools label { display: inline-flex; align-items: center; gap: 4px; margin: 6px 16px 0 0; line-height: 1.4 }
.sd-status p { margin: 2px 0; line-height: 1.4; white-space: normal }
</style>"""
_WIDE = {"width": "100%", "max_width": "520px"}


def setup() -> None:
    """Call it first in a notebook: names and keyboard for the controls, and no chatter from the libraries."""
    from IPython.display import display

    from sdlearn import models

    models.quiet()
    # a script inside text/html runs in JupyterLab, Colab and saved pages, and is dropped silently where scripts are not trusted
    scripts = "".join(
        (Path(__file__).parent / name).read_text(encoding="utf-8")
        for name in ("a11y.js", "mask.js")
    )
    display({"text/html": f"<script>{scripts}</script>", "text/plain": ""}, raw=True)


def _img(image, alt: str, size: int, pixelated: bool = False) -> str:
    """One picture as HTML, with fixed width and height so that nothing jumps when it is replaced."""
    if isinstance(image, Figure):
        width, height = (round(inches * plots.DPI) for inches in image.get_size_inches())
    else:
        image = plots.picture(image)
        width, height = size, round(size * image.height / image.width)
    smooth = "pixelated" if pixelated else "auto"
    return (f'<figure><img alt="{html.escape(alt, quote=True)}" width="{width}" height="{height}" style="image-rendering: {smooth}" '
            f'src="{plots.data_uri(image)}"></figure>')  # fmt: skip


def _deck(pages: list[W.Widget], start: int) -> W.Tab:
    """Pages of which the browser shows one. All HTML pages share one layout and one style: a third of the messages."""
    deck = W.Tab(children=pages)
    deck.selected_index = start
    deck.add_class("sd-frames")
    return deck


def _pages(images, alts, size: int, pixelated: bool) -> list[W.HTML]:
    first = W.HTML(_img(images[0], alts[0], size, pixelated))
    return [
        first,
        *(
            W.HTML(_img(i, a, size, pixelated), layout=first.layout, style=first.style)
            for i, a in zip(images[1:], alts[1:], strict=True)
        ),
    ]


def _slider(labels, description: str, start: int = 0) -> W.SelectionSlider:
    slider = W.SelectionSlider(
        options=[(str(label), i) for i, label in enumerate(labels)],
        index=start,
        description=description,
        style={"description_width": "initial"},
    )
    slider.layout = W.Layout(**_WIDE, display=None if len(labels) > 1 else "none")
    return slider


def _align(controls) -> None:
    """Let the names of controls that stand below each other take the same room, so that their sliders start in one line."""
    for control in controls:
        control.style.description_width = f"{max(len(c.description) for c in controls) + 1}ch"


def _close(widget: W.Widget) -> None:
    """Free a control and all its pages, in the kernel and in the browser."""
    for part in (*getattr(widget, "children", ()), *getattr(widget, "links", ())):
        _close(part)
    widget.close()


class _Control(W.VBox):
    """A box with the series' style sheet; the sheet travels with each control because some front ends show each output in a page of its own."""

    def __init__(self, *children: W.Widget):
        super().__init__(children=[W.HTML(_STYLE, layout=W.Layout(display="none")), *children])
        self.add_class("sd-control")

    def __repr__(self) -> str:  # ipywidgets would print every picture as text
        return f"{type(self).__name__}(value={self.value!r})"


class GridScrubber(_Control):
    """Two sliders over computed pictures `frames[row][column]` (PIL images, arrays or Figures). Needs no kernel to move.

    `alts[row][column]` says what each shows, with its number; `size` is the width on the page in pixels; `pixelated` keeps the squares of small
    arrays. `.value` is (row, column) and can be set; `.picture` is the frame it names."""

    def __init__(
        self,
        frames,
        row_labels,
        col_labels,
        descriptions=("row", "column"),
        alts=None,
        size: int = 256,
        pixelated: bool = False,
        start=(0, 0),
    ):
        self.frames = [list(row) for row in frames]
        if (
            not self.frames
            or len(row_labels) != len(self.frames)
            or any(len(row) != len(col_labels) or not row for row in self.frames)
        ):
            shape = [len(row) for row in self.frames]
            raise ValueError(
                f"A grid needs a picture for each of its {len(row_labels)} x {len(col_labels)} labels; got rows of {shape} pictures."
            )
        a, b = descriptions
        alts = alts or [[f"{a} {row}, {b} {col}" for col in col_labels] for row in row_labels]
        start = tuple(i % n for i, n in zip(start, (len(row_labels), len(col_labels)), strict=True))
        self.row, self.column = (
            self._choice(row_labels, a, start[0]),
            _slider(col_labels, b, start[1]),
        )
        _align((self.row, self.column))
        rows = [
            _deck(_pages(row, alt, size, pixelated), start[1])
            for row, alt in zip(self.frames, alts, strict=True)
        ]
        deck = _deck(rows, start[0])
        self.links = [
            W.jslink((self.row, "index"), (deck, "selected_index")),
            *(W.jslink((self.column, "index"), (row, "selected_index")) for row in rows),
        ]
        super().__init__(
            *(c for c, n in ((self.row, len(row_labels)), (self.column, len(col_labels))) if n > 1),
            deck,
        )

    def _choice(self, labels, description, start):
        return _slider(labels, description, start)

    @property
    def value(self) -> tuple[int, int]:
        return self.row.index, self.column.index

    @value.setter
    def value(self, value: tuple[int, int]) -> None:
        self.row.index, self.column.index = value

    @property
    def picture(self):
        return self.frames[self.row.index][self.column.index]


class FrameScrubber(_Control):
    """One slider over computed pictures (PIL images, arrays or Figures). Needs no kernel to move.

    `labels` stand beside the slider ("t = 981"); `alts` say what each picture shows, with its number. `size` is the width on the page in pixels;
    `pixelated` keeps the squares of small arrays; `start` is the frame shown first, -1 the last. `.value` is the index and can be set."""

    def __init__(
        self,
        frames,
        labels,
        alts=None,
        description: str = "t",
        size: int = 256,
        pixelated: bool = False,
        start: int = 0,
    ):
        self.frames, labels = list(frames), [str(label) for label in labels]
        if not self.frames or len(labels) != len(self.frames):
            raise ValueError(
                f"A scrubber needs at least one picture and a label for each; got {len(self.frames)} pictures and {len(labels)} labels."
            )
        alts = list(
            alts
            or (
                f"{description}: {label} (picture {i} of {len(labels)})"
                for i, label in enumerate(labels, 1)
            )
        )
        start %= len(labels)
        self.slider = _slider(labels, description, start)
        deck = _deck(_pages(self.frames, alts, size, pixelated), start)
        self.links = [W.jslink((self.slider, "index"), (deck, "selected_index"))]
        super().__init__(*([self.slider] if len(labels) > 1 else []), deck)

    @property
    def value(self) -> int:
        return self.slider.index

    @value.setter
    def value(self, value: int) -> None:
        self.slider.index = value

    @property
    def picture(self):
        return self.frames[self.slider.index]


class AttentionOverlay(GridScrubber):
    """Which part of the picture a word is attended from, at each step: a button a word, a slider over the steps.

    `overlays[word][step]` are pictures blended beforehand (`plots.overlay`). Needs no kernel to move."""

    def __init__(self, overlays, words, step_labels, alts=None, size: int = 256):
        words = [str(word) for word in words]
        words = [
            word if words.count(word) == 1 else f"{word} ({words[: i + 1].count(word)})"
            for i, word in enumerate(words)
        ]
        super().__init__(overlays, words, step_labels, ("Word", "Step"), alts, size)

    def _choice(self, labels, description, start):
        buttons = W.ToggleButtons(
            options=[(label, i) for i, label in enumerate(labels)],
            index=start,
            description=description,
        )
        buttons.style.button_width = "auto"
        return buttons


class LivePicture(_Control):
    """A picture computed from its controls: `fn(**values)` gives a PIL image, an array or a Figure.

    `controls` maps the arguments of `fn` to widgets; a list or range instead of a widget becomes a slider over its values. `alt` is a sentence with
    the names in braces ("noise at t = {t}") or a function of the values. Pictures are kept by value. While `fn` takes under 100 ms the picture
    follows the drag, else it waits for the release; if values come faster than pictures, only the latest is drawn.
    `.value` is the dict of values, `.picture` what `fn` gave, `.error` the sentence shown when it failed."""

    DRAG_SECONDS = 0.1

    def __init__(self, fn, controls: dict, alt, size: int = 256, pixelated: bool = False):
        self._fn, self._alt, self._size, self._pixelated = fn, alt, size, pixelated
        self.controls = {
            name: c if isinstance(c, W.Widget) else self._over(name, c)
            for name, c in controls.items()
        }
        self.picture, self.error, self._drawn, self._seconds = None, "", None, []
        self._lock, self._cached = threading.RLock(), lru_cache(maxsize=256)(self._draw)
        self._page, self._status = W.HTML(), W.HTML()
        self._status.add_class("sd-status")
        for name, control in self.controls.items():
            control.description = control.description or name
            if "Slider" in type(control).__name__ and control.layout.width is None:
                control.layout = W.Layout(**_WIDE)
            control.observe(self._update, "value")
        _align(self.controls.values())
        super().__init__(*self.controls.values(), self._page, self._status)
        self._update()

    @staticmethod
    def _over(name: str, values) -> W.SelectionSlider:
        slider = _slider(values := list(values), name)
        slider.options = [(f"{v:.4g}" if isinstance(v, float) else str(v), v) for v in values]
        return slider

    @property
    def value(self) -> dict:
        return {name: control.value for name, control in self.controls.items()}

    def _draw(self, *values) -> tuple:
        began, named = time.perf_counter(), dict(zip(self.controls, values, strict=True))
        picture = self._fn(**named)
        alt = self._alt(**named) if callable(self._alt) else self._alt.format(**named)
        page = _img(picture, alt, self._size, self._pixelated)
        self._seconds = [*self._seconds[-2:], time.perf_counter() - began]
        # the median of the last three: the first call of a model is always slow, and one hiccup is no habit
        drag = statistics.median_low(self._seconds) <= self.DRAG_SECONDS
        for control in self.controls.values():
            if "Slider" in type(control).__name__ and control.continuous_update != drag:
                control.continuous_update = drag
        return picture, page

    def _update(self, _change=None) -> None:
        # Whoever waited here while others drew reads the values afresh, so what is out of date is never drawn, and the last value always is.
        with self._lock:
            values = tuple(control.value for control in self.controls.values())
            if values == self._drawn:
                return
            try:
                self.picture, self._page.value = self._cached(*values)
                self.error = ""
            except (
                Exception
            ) as error:  # a learner's function may raise anything; the control must live on
                self.error = _sentence(error)
            self._drawn = values
            self._status.value = _line(self.error, bad=True)


class PromptPanel(_Control):
    """Type a prompt, press Generate, and watch the picture come out of the noise; afterwards scrub back through its steps.

    `options` go on to `sampling.sample_steps` (negative_prompt, sampler, ...). The work runs in a thread, so that Stop is heard within one step.
    `.images` holds the finished picture, `.steps` the SampleSteps, `.frames` the decoded pictures of the scrubber, `.error` the sentence shown when
    it failed; `.generate()`, `.stop()` and `.wait()` do what the buttons and patience do."""

    FRAMES = 30  # a page with more pictures than this gets heavy

    def __init__(
        self,
        pipe,
        prompt: str = "a red house in the snow at night",
        *,
        seed: int = 0,
        steps: int = 25,
        guidance: float = 5.0,
        **options,
    ):
        self.pipe, self.options = pipe, options
        self.images, self.steps, self.frames, self.error = [], [], [], ""
        style, narrow = {"description_width": "initial"}, {"width": "150px"}
        self.prompt = W.Text(
            prompt,
            description="Prompt",
            placeholder="what the picture should show",
            style=style,
            layout={"width": "100%", "max_width": "620px"},
        )
        self.seed = W.BoundedIntText(
            seed, 0, 2**31 - 1, description="Seed", style=style, layout=narrow
        )
        self.num_steps = W.BoundedIntText(
            steps, 1, 1000, description="Steps", style=style, layout=narrow
        )
        self.guidance = W.BoundedFloatText(
            guidance, min=0, max=30, step=0.5, description="Guidance", style=style, layout=narrow
        )
        self.generate_button = W.Button(description="Generate", button_style="primary")
        self.stop_button = W.Button(description="Stop", disabled=True)
        self.progress = W.IntProgress(0, 0, 1, description="Step 0", style=style, layout=_WIDE)
        self._page, self._status, self._stage = W.HTML(), W.HTML(), W.VBox()
        self._status.add_class("sd-status")
        self._thread, self._starting, self._stopping = None, threading.Lock(), threading.Event()
        self.generate_button.on_click(self.generate)
        self.stop_button.on_click(self.stop)
        row = W.HBox([self.seed, self.num_steps, self.guidance], layout={"flex_flow": "row wrap"})
        super().__init__(
            self.prompt,
            row,
            W.HBox([self.generate_button, self.stop_button]),
            self._status,
            self._stage,
        )

    @property
    def value(self) -> dict:
        return {
            "prompt": self.prompt.value,
            "seed": self.seed.value,
            "num_inference_steps": self.num_steps.value,
            "guidance_scale": self.guidance.value,
        }

    @property
    def picture(self):
        return self.frames[-1] if self.frames else None

    def generate(self, _button=None) -> None:
        """Start; does nothing while a picture is being made."""
        with self._starting:
            if self._thread and self._thread.is_alive():
                return
            value = self.value
            if not value["prompt"].strip():
                return self._say(
                    "Type what the picture should show, for example: a red house in the snow at night.",
                    bad=True,
                )
            self._stopping.clear()
            self.generate_button.disabled, self.stop_button.disabled = True, False
            self.images, self.steps, self.frames = [], [], []
            self._thread = threading.Thread(
                target=self._work, kwargs=value, daemon=True, name="sdlearn-prompt"
            )
            self._thread.start()

    def stop(self, _button=None) -> None:
        """Ask the run to end after the step that is under way."""
        self._stopping.set()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the picture is finished, stopped or failed; False if `timeout` seconds were not enough."""
        if self._thread:
            self._thread.join(timeout)
        return not (self._thread and self._thread.is_alive())

    def _say(self, text: str, bad: bool = False) -> None:
        self.error = text if bad else ""
        self._status.value = _line(text, bad)

    def _work(self, prompt: str, num_inference_steps: int, **value) -> None:
        try:
            self._run(prompt, num_inference_steps, **value)
        except Exception as error:  # nobody would see a traceback of this thread
            self._say(_sentence(error), bad=True)
        finally:
            self.generate_button.disabled, self.stop_button.disabled = False, True

    def _run(self, prompt: str, count: int, **value) -> None:
        from sdlearn import sampling
        from sdlearn.compression import decode_latents

        began = time.perf_counter()
        with warnings.catch_warnings(
            record=True
        ) as caught:  # sample_steps checks, and warns, before its first step
            warnings.simplefilter("always")
            run = sampling.sample_steps(
                self.pipe, prompt, num_inference_steps=count, **{**self.options, **value}
            )
        notes = " ".join(f"Note: {str(w.message).rstrip('.')}." for w in caught)
        self._say(f"{notes} Working …")
        old, self._stage.children = self._stage.children, (self.progress, self._page)
        for child in old:
            if child not in (self.progress, self._page):
                _close(child)
        self.progress.max, self.progress.value, self.progress.description = count, 0, "Step 0"
        shown = {round(i * count / (self.FRAMES - 1)) for i in range(self.FRAMES)} | {0, count}
        names, size = [], 256

        def show(done: int, latents) -> None:
            nonlocal size
            image = decode_latents(self.pipe, latents)[0]
            size = min(max(size, image.width), 512)
            self.frames.append(image)
            names.append(done)
            self._page.value = _img(image, f"After {done} of {count} steps: {prompt}", size)

        for step in run:
            if step.index == 0:
                show(0, step.latents)
            self.steps.append(step)
            done = step.index + 1
            stopped = self._stopping.is_set() and done < count
            if done in shown or stopped:
                show(done, step.prev_latents)
            self.progress.value, self.progress.description = done, f"Step {done}"
            if stopped:
                break
        seconds = time.perf_counter() - began
        self.images = self.frames[-1:]
        self._stage.children = (
            FrameScrubber(
                self.frames,
                [f"{n} of {count}" for n in names],
                self._alts(names, count, prompt),
                "Step",
                size,
                start=-1,
            ),
        )
        if stopped:
            self._say(f"{notes} Stopped after step {done} of {count}: this is the picture so far.")
        else:
            self._say(
                f"{notes} Done: {count} steps in {seconds:.1f} s, the pictures of the steps included. Move the slider to go back through them."
            )

    def _alts(self, names: list[int], count: int, prompt: str) -> list[str]:
        """What each frame shows; the noise left after n steps is that of the level at which step n + 1 would begin."""
        abar = self.pipe.scheduler.alphas_cumprod
        noise = {
            step.index: f", {100 * (1 - float(abar[int(step.timestep)])):.0f} % noise"
            for step in self.steps
        } | {0: ", pure noise"}
        return [f"Step {n} of {count}{noise.get(n, '')}: {prompt}" for n in names]


class MaskCanvas(_Control):
    """Draw on a picture, with the mouse or a finger, what shall be repainted; or set a rectangle by two sliders.

    A cell of the mask is a patch of `patch` pixels, for which one latent position stands. `box` (left, top, right, bottom; pixels) is masked at first, the right half
    unless told. With `repaint`, a function of (mask, prompt) that gives a picture, there are a prompt and a button, and what comes out stands beside.
    `.value` is the mask as a (rows, columns) array of truth values and can be set, `.mask` the same as a picture of the given one's size, white where it is set;
    `.picture` is what `repaint` gave, `.error` the sentence shown when it failed."""

    def __init__(
        self,
        image,
        patch: int = 8,
        box=None,
        repaint=None,
        prompt: str = "",
        size: int = 320,
        alt: str = "the picture to draw on",
    ):
        image = plots.picture(image)
        self._size, self._whole, self._repaint, self._busy = (
            size,
            image.size,
            repaint,
            threading.Lock(),
        )
        columns, rows = image.width // patch, image.height // patch
        if not columns or not rows:
            raise ValueError(
                f"The picture has {image.width} x {image.height} pixels and a cell {patch}: choose a smaller patch."
            )
        self.picture, self.error, self._turn = None, "", 0
        left, top, right, bottom = box or (image.width // 2, 0, *image.size)
        across, down = (left // patch, -(-right // patch)), (top // patch, -(-bottom // patch))
        self.across = W.IntRangeSlider(
            value=across, min=0, max=columns, description="Left to right", layout=_WIDE
        )
        self.down = W.IntRangeSlider(
            value=down, min=0, max=rows, description="Top to bottom", layout=_WIDE
        )
        self.clear_button = W.Button(description="Clear")
        self.prompt = W.Text(
            prompt,
            description="Prompt",
            placeholder="what the whole picture should show",
            layout={"width": "100%", "max_width": "620px"},
        )
        self.repaint_button = W.Button(description="Repaint", button_style="primary")
        _align((self.across, self.down, self.prompt))
        self._data, self._echo, self._page, self._status = (
            W.Textarea(layout={"display": "none"}),
            W.HTML(),
            W.HTML(),
            W.HTML(),
        )
        self._data.add_class("sd-mask-data")
        self._status.add_class("sd-status")
        stage = W.Box(
            [W.HTML(_img(image, alt, size)), self._echo],
            layout={
                "width": f"{size}px",
                "height": f"{round(size * image.height / image.width)}px",
            },
        )
        stage.add_class("sd-mask-stage")
        self._rectangle()
        for slider in (self.across, self.down):
            slider.observe(self._rectangle, "value")
        self._data.observe(self._hear, "value")
        self.clear_button.on_click(lambda _: self._set(self._bits & False))
        self.repaint_button.on_click(self.run)
        pictures = W.HBox(
            [W.VBox([stage]), self._page], layout={"flex_flow": "row wrap", "grid_gap": "12px"}
        )
        self._page.layout.margin = "0"
        asked = (
            [self.prompt, W.HBox([self.repaint_button, self.clear_button])]
            if repaint
            else [self.clear_button]
        )
        super().__init__(pictures, self.across, self.down, *asked, self._status, self._data)
        self.add_class("sd-mask")

    @property
    def value(self) -> np.ndarray:
        return self._bits.copy()

    @value.setter
    def value(self, value) -> None:
        bits = np.asarray(value, bool)
        if bits.shape != self._bits.shape:
            raise ValueError(
                f"This mask has {self._bits.shape[0]} rows and {self._bits.shape[1]} columns; got an array of shape {bits.shape}."
            )
        self._set(bits)

    @property
    def mask(self) -> Image.Image:
        return Image.fromarray(np.uint8(255) * self._bits).resize(
            self._whole, Image.Resampling.NEAREST
        )

    def _rectangle(self, _change=None) -> None:
        bits = np.zeros((self.down.max, self.across.max), bool)
        bits[slice(*self.down.value), slice(*self.across.value)] = True
        self._set(bits)

    def _hear(self, change) -> None:
        text = change["new"]
        if len(text) == self._bits.size and set(text) <= {"0", "1"}:
            self._set(np.array([c == "1" for c in text]).reshape(self._bits.shape))

    def _set(self, bits: np.ndarray) -> None:
        """Keep the mask and tell the browser, which draws it; where no script runs, the small picture does."""
        self._bits, self._turn = bits, self._turn + 1
        rows, columns = bits.shape
        chequers = np.where(np.add.outer(range(rows), range(columns)) % 2, 255, 30).astype(np.uint8)
        veil = io.BytesIO()
        Image.fromarray(np.dstack([chequers] * 3 + [np.uint8(185) * bits])).save(veil, "PNG")
        row = "".join(str(int(b)) for b in bits.ravel())
        self._echo.value = (f'<img class="sd-mask-echo" alt="" data-cells="{columns},{rows}" data-turn="{self._turn}" data-bits="{row}" '
                            f'src="data:image/png;base64,{base64.b64encode(veil.getvalue()).decode()}">')  # fmt: skip
        self._say(
            f"The mask covers {bits.mean():.0%} of the picture: {bits.sum()} of its {columns} x {rows} patches."
        )

    def _say(self, text: str, bad: bool = False) -> None:
        self.error = text if bad else ""
        self._status.value = _line(text, bad)

    def run(self, _button=None) -> None:
        """Do what the button does: call `repaint`. Does nothing while that is under way."""
        if not self._busy.acquire(blocking=False):
            return
        try:
            self.repaint_button.disabled = True
            self._say("Working …")
            began = time.perf_counter()
            self.picture = self._repaint(self.mask, self.prompt.value)
            self._page.value = _img(
                self.picture,
                f"The picture with {self._bits.mean():.0%} of it repainted: {self.prompt.value}",
                self._size,
            )
            self._say(f"Done in {time.perf_counter() - began:.1f} s.")
        except (
            Exception
        ) as error:  # a learner's function may raise anything; the control must live on
            self._say(_sentence(error), bad=True)
        finally:
            self.repaint_button.disabled = False
            self._busy.release()


def _sentence(error: Exception) -> str:
    """An exception as one sentence: our own errors are sentences already, others get their kind in front."""
    text = (str(error).strip() or "no message").splitlines()[0]
    return (
        text
        if isinstance(error, (ValueError, FileNotFoundError))
        else f"{type(error).__name__}: {text}"
    )


def _line(text: str, bad: bool = False) -> str:
    return (
        f"<p>{'<b>Not possible:</b> ' if bad else ''}{html.escape(text.strip())}</p>"
        if text
        else ""
    )

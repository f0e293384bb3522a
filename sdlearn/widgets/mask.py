"""Draw on a picture what should be repainted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import traitlets
from PIL import Image

from sdlearn import compression, editing, hub, inputs, text
from sdlearn.widgets.base import Worker, WorkerFace, esm, jpeg_uri, sentence
from sdlearn.widgets.words import said

LARGEST = 1024  # pixels of a side that go to the browser
MOST_CELLS = 128  # a side of the mask: finer cells cannot be hit with a finger


class MaskFace(WorkerFace):
    """What the browser shows and hears of a MaskCanvas; `mask.js` draws it."""

    _esm = esm("mask.js")
    src = traitlets.Unicode().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)
    columns = traitlets.Int(1).tag(sync=True)
    rows = traitlets.Int(1).tag(sync=True)
    size = traitlets.Int(320).tag(sync=True)
    high = traitlets.Int(320).tag(sync=True)
    bits = traitlets.Unicode().tag(sync=True)
    asks = traitlets.Bool(False).tag(sync=True)
    result = traitlets.Dict().tag(sync=True)


class MaskCanvas(Worker):
    """Draw on a picture, with the mouse, a finger or sliders, what should be repainted.

    `.value` is the mask as a (rows, columns) array of truth values and can be set, `.mask` the same
    as a picture of the given one's size, white where it is set; `.image` is the picture drawn on,
    `.picture` what was painted, `.error` the sentence shown when it failed.
    `.run()`, `.stop()` and `.wait()` do what the buttons and patience do.
    """

    def __init__(
        self,
        image: Any,
        *,
        pipe: Any = None,
        patch: int | None = None,
        box: tuple[int, int, int, int] | None = None,
        repaint: Callable[[Image.Image, str], Any] | None = None,
        prompt: str = "",
        size: int = 320,
        alt: str = "the picture to draw on",
        word: str = "mask",
        **options: Any,
    ):
        """Show the picture with its mask; with `pipe` or `repaint` also a prompt and a button.

        Args:
            image: any picture that `inputs.open_image` takes.
            pipe: repaint with `editing.inpaint`; the picture is brought to the model's size.
            patch: pixels of a cell of the mask; the model's (8 without one), or more where that
                would be too many cells to draw on.
            box: (left, top, right, bottom) in pixels, masked at first; the right half unless told.
            repaint: a function of (mask, prompt) that gives a picture, instead of `pipe`.
            prompt: the sentence to begin with.
            size: width on the page in pixels.
            alt: says what the picture shows.
            word: what the drawing is called on the page.
            options: go on to `editing.inpaint_steps` (seed, num_inference_steps, ...).

        Raises:
            ValueError: for a picture smaller than a cell.
        """
        image = inputs.open_image(image)
        self.image = compression.fit(image, pipe) if pipe is not None else image
        self.pipe, self._repaint, self._options = pipe, repaint, options
        patch = patch or (pipe.vae_scale_factor if pipe is not None else 8)
        bits = _cells(self.image.size, patch, box)
        self.picture, self._word = None, word
        self._starting, self._stopping = threading.Lock(), threading.Event()
        self.face = MaskFace(src=_small(self.image), alt=alt, size=size, prompt=prompt)
        self.face.rows, self.face.columns = bits.shape
        self.face.high = round(size * self.image.height / self.image.width)
        self.face.asks = pipe is not None or repaint is not None
        self.value = bits
        self._typed()
        self.face.observe(self._drawn, "bits")
        self.face.observe(self._typed, "prompt")
        self.face.on_msg(self._hear)
        super().__init__(self.face)
        self.add_class("sd-mask")

    @property
    def value(self) -> np.ndarray:
        shape = (self.face.rows, self.face.columns)
        return np.array([bit == "1" for bit in self.face.bits], bool).reshape(shape)

    @value.setter
    def value(self, value: Any) -> None:
        bits, shape = np.asarray(value, bool), (self.face.rows, self.face.columns)
        if bits.shape != shape:
            raise ValueError(
                f"This {self._word} has {shape[0]} rows and {shape[1]} columns; "
                f"got an array of shape {bits.shape}."
            )
        self._good = "".join("01"[int(bit)] for bit in bits.ravel())
        self.face.bits = self._good
        self._count()

    @property
    def mask(self) -> Image.Image:
        cells = Image.fromarray(np.uint8(255) * self.value)
        return cells.resize(self.image.size, Image.Resampling.NEAREST)

    # ------------------------------------------------------------------ what the reader does

    def _hear(self, _widget: Any, message: dict, _buffers: Any) -> None:
        for name in {"prompt", "bits"} & set(message):  # its own messages might be overtaken
            setattr(self.face, name, message[name])
        actions = {"run": self.run, "stop": self.stop}
        actions["alive"] = lambda: self.face.send({"alive": True})
        if message.get("do") in actions:
            actions[message["do"]]()

    def _drawn(self, change: Any) -> None:
        new = change["new"]
        if len(new) == self.face.rows * self.face.columns and set(new) <= {"0", "1"}:
            self._good = new
            self._count()
        else:  # what is no mask is not heard
            self.face.bits = self._good

    def _count(self) -> None:
        bits = self.value
        if not self.face.busy:
            self._say(
                f"The {self._word} covers {bits.mean():.0%} of the picture: {bits.sum()} of its "
                f"{bits.shape[1]} x {bits.shape[0]} patches."
            )

    def _typed(self, _change: Any = None) -> None:
        if self.pipe is None or not self.face.prompt.strip():
            self.face.notes = []
            return
        try:
            _, self.face.notes = said(lambda: text.check_prompt(self.pipe, self.face.prompt))
        except (TypeError, ValueError) as error:
            self.face.notes = [sentence(error)]

    # ------------------------------------------------------------------------------ the work

    def run(self) -> None:
        """Repaint what is masked. Does nothing while that is under way."""
        with self._starting:
            if self.face.busy or not self.face.asks:
                return
            self.face.busy = True
            self._stopping.clear()
            self._thread = threading.Thread(target=self._work, daemon=True, name="sdlearn-mask")
            self._thread.start()

    def stop(self) -> None:
        """Ask the run to end after the step that is under way."""
        self._stopping.set()
        if self.face.busy and self.pipe is not None:
            self._say("Stopping …")

    def _work(self) -> None:
        mask, prompt, began = self.mask, self.face.prompt, time.perf_counter()
        share = self.value.mean()
        try:
            self._say("Working …")
            if self._repaint:
                self.picture, done = self._repaint(mask, prompt), ""
            else:
                self.picture, done = self._inpaint(mask, prompt)
            alt = f"The picture with {share:.0%} of it repainted: {prompt}"
            shown = inputs.open_image(self.picture)
            self.face.result = dict(src=_small(shown), alt=alt, prompt=prompt)
            self._say(done or f"Done in {time.perf_counter() - began:.1f} s.")
        except Exception as error:  # a learner's function may raise anything: the control lives on
            self._say(sentence(error), bad=True)
        finally:
            self.face.busy = False

    def _inpaint(self, mask: Image.Image, prompt: str) -> tuple[Image.Image, str]:
        """The repainted picture, and what is to be said if it was stopped."""
        count = self._options.get(
            "num_inference_steps", hub.defaults_of(self.pipe).num_inference_steps
        )
        self.face.total, self.face.done = count, 0
        # what it warns of stands below the prompt already
        run, _ = said(
            lambda: editing.inpaint_steps(self.pipe, self.image, mask, prompt, **self._options)
        )
        step = None
        for step in run:
            self.face.done = step.index + 1
            if self._stopping.is_set() and step.index + 1 < count:
                picture = compression.decode_latents(self.pipe, step.pred_original_sample)[0]
                end = f"Stopped after step {step.index + 1} of {count}: this is the picture so far."
                return picture, end
        return compression.decode_latents(self.pipe, step.prev_latents)[0], ""


def _cells(size: tuple[int, int], patch: int, box: tuple | None) -> np.ndarray:
    """The mask of a picture of this size as (rows, columns), a box of it set.

    Raises:
        ValueError: for a picture smaller than a cell.
    """
    wide, high = size
    patch = max(patch, -(-max(size) // MOST_CELLS))
    bits = np.zeros((high // patch, wide // patch), bool)
    if not bits.size:
        raise ValueError(
            f"The picture has {wide} x {high} pixels and a cell {patch}: choose a smaller patch."
        )
    left, top, right, bottom = box or (wide // 2, 0, wide, high)
    bits[top // patch : -(-bottom // patch), left // patch : -(-right // patch)] = True
    return bits


def _small(image: Image.Image) -> str:
    """A picture as an address, at most LARGEST pixels a side."""
    image = image.copy()
    image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return jpeg_uri(image)

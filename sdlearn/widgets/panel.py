"""A prompt, and the picture that is made of it: quickly while one types, in full when asked."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import traitlets
from PIL import Image

from sdlearn import hub, plots, sampling, text
from sdlearn.compression import decode_latents, picture_size
from sdlearn.widgets import words
from sdlearn.widgets.base import Worker, WorkerFace, esm, jpeg_uri, sentence

EMPTY = "Type what the picture should show, for example: a red house in the snow at night."


class Face(WorkerFace):
    """What the browser shows and hears of a PromptPanel; `panel.js` draws it."""

    _esm = esm("panel.js")
    seed = traitlets.Int(0, min=0, max=2**31 - 1).tag(sync=True)
    steps = traitlets.Int(25, min=1, max=1000).tag(sync=True)
    guidance = traitlets.Float(5.0, min=0, max=30).tag(sync=True)
    live = traitlets.Bool(True).tag(sync=True)
    marks = traitlets.List().tag(sync=True)
    chips = traitlets.Dict().tag(sync=True)
    shown = traitlets.Dict().tag(sync=True)
    frames = traitlets.Dict().tag(sync=True)
    strip = traitlets.List().tag(sync=True)
    size = traitlets.Int(256).tag(sync=True)


class _Run(NamedTuple):
    """What one run was asked for."""

    prompt: str
    seed: int
    num_inference_steps: int
    guidance_scale: float
    sampler: str
    quick: bool

    @property
    def options(self) -> dict[str, Any]:
        names = ("seed", "num_inference_steps", "guidance_scale", "sampler")
        return {name: getattr(self, name) for name in names}


class _Cancelled(Exception):
    """The sentence has changed while a quick picture of the old one was made."""


class PromptPanel(Worker):
    """Type a prompt and watch the picture come; afterwards go back through its steps.

    While one types, a quick picture of few steps is drawn; Enter or the button makes the full one,
    with the model's own defaults. The work runs in a thread, so that Stop is heard within a step.
    `.images` holds the finished picture, `.steps` the SampleSteps, `.frames` the decoded pictures
    of the steps, `.error` the sentence shown when it failed; `.generate()`, `.quick()`, `.stop()`
    and `.wait()` do what keys, buttons and patience do.
    """

    FRAMES = 12  # decoded steps to go back through
    KEPT = 6  # results in the strip
    QUICK_STEPS, QUICK_GUIDANCE = 6, 3.0  # of "dpm++", whose pictures are right after few steps
    QUICK_SECONDS = 1.5  # where two quick pictures in a row take longer, typing draws none
    DECODING = 0.25  # the largest share of a run's time that goes into pictures on the way

    def __init__(
        self,
        pipe: Any,
        prompt: str = "a red house in the snow at night",
        *,
        seed: int = 0,
        steps: int | None = None,
        guidance: float | None = None,
        live: bool = True,
        **options: Any,
    ):
        """Show the noise that the seed starts from; the browser then asks for a quick picture.

        Args:
            pipe: from `load_pipeline`.
            prompt: the sentence to begin with.
            seed: of the start noise.
            steps: of a full picture; the model's default unless told.
            guidance: guidance_scale; the model's default unless told.
            live: whether typing draws quick pictures.
            options: go on to `sampling.sample_steps` (negative_prompt, sampler, ...).
        """
        self.pipe, self.options = pipe, options
        self.images, self.steps, self.frames = [], [], []
        best = hub.defaults_of(pipe)
        self._sampler = options.pop("sampler", best.sampler)
        self._took: list[float] = []
        self._turn, self._stopping, self._lock = 0, threading.Event(), threading.Lock()
        self._results: list[dict] = []
        self._notes = ""
        self._dice = np.random.default_rng()
        self.face = Face(
            prompt=prompt,
            seed=seed,
            steps=steps or best.num_inference_steps,
            guidance=best.guidance_scale if guidance is None else guidance,
            live=live,
            chips=words.chips(pipe),
            size=min(max(256, picture_size(pipe)), 512),
        )
        self._mark()
        self.face.observe(self._typed, "prompt")
        self.face.observe(lambda _: self._took.clear(), "live")
        self.face.on_msg(self._hear)
        self._show_noise()
        super().__init__(self.face)

    @property
    def value(self) -> dict[str, Any]:
        face = self.face
        named = dict(prompt=face.prompt, seed=face.seed, num_inference_steps=face.steps)
        return named | dict(guidance_scale=face.guidance)

    @property
    def picture(self) -> Image.Image | None:
        """The picture that was made last."""
        return self.images[-1] if self.images else None

    # ------------------------------------------------------------------ what the reader does

    def generate(self, count: int = 1) -> None:
        """Make the full picture, or `count` of them with the seeds that follow.

        Does nothing while full pictures are being made.
        """
        if not self.face.prompt.strip():
            self._say(EMPTY, bad=True)
        elif self._start(lambda turn: self._full(count), quick=False):
            self.images, self.steps, self.frames = [], [], []

    def quick(self) -> None:
        """Make a quick picture of the sentence as it is; not while full ones are being made."""
        if self.face.live and self.face.prompt.strip():
            self._start(self._sketch, quick=True)

    def stop(self) -> None:
        """Ask the run to end after the step that is under way."""
        self._stopping.set()
        if self.face.busy:
            self._say("Stopping …")

    def _hear(self, _widget: Any, message: dict, _buffers: Any) -> None:
        actions: dict[str, Callable[[], None]] = {
            "full": self.generate,
            "quick": self.quick,
            "ready": lambda: None if self._results or self.images else self.quick(),
            "four": lambda: self.generate(4),
            "stop": self.stop,
            "dice": self.roll,
            "alive": lambda: self.face.send({"alive": True}),
        }
        for name, value in message.get("values", {}).items():
            setattr(self.face, name, value)
        action = actions.get(message.get("do", ""))
        if action:
            action()

    def roll(self) -> None:
        """Another sentence of the world, and a quick picture of it."""
        self.face.prompt = words.random_prompt(self._dice)
        self.quick()

    def _typed(self, _change: Any) -> None:
        if not self.face.busy:
            self._turn += 1  # a quick picture of the old sentence is of no use any more
        self._mark()

    def _mark(self) -> None:
        try:
            self.face.marks, self.face.notes = words.marks(self.pipe, self.face.prompt)
        except (TypeError, ValueError) as error:  # text that cannot be written down
            self.face.marks, self.face.notes = [], [sentence(error)]

    # ---------------------------------------------------------------------------- the work

    def _start(self, work: Callable[[int], None], quick: bool) -> bool:
        """Begin in a thread, after a quick picture that is under way has given up."""
        with self._lock:
            if self.face.busy:
                return False
            self._turn += 1
            self._stopping.clear()
            self.face.busy = not quick
            before, turn = self._thread, self._turn
            run = dict(before=before, work=work, turn=turn, quick=quick)
            self._thread = threading.Thread(
                target=self._work, kwargs=run, daemon=True, name="sdlearn-prompt"
            )
            self._thread.start()
            return True

    def _work(self, before: Any, work: Callable, turn: int, quick: bool) -> None:
        if before:
            before.join()
        try:
            work(turn)
        except _Cancelled:
            pass
        except Exception as error:  # nobody would see a traceback of this thread
            self._say(sentence(error), bad=True)
        finally:
            if not quick:
                self.face.busy = False

    def _run(self, asked: _Run, see: Callable, turn: int | None) -> tuple[list, dict]:
        """All steps of a run, `see(step, heat)` after each; the steps and the words' heat maps.

        Raises:
            _Cancelled: if `turn` is over.
        """
        options = self.options | asked.options
        steps, total, count = [], None, 0
        run, said = words.said(lambda: sampling.sample_steps(self.pipe, asked.prompt, **options))
        # what is said below the prompt already is not said again
        self._notes = " ".join(f"Note: {one}" for one in said if one not in self.face.notes)
        while True:
            if turn is not None and turn != self._turn:
                raise _Cancelled
            with text.record_attention(self.pipe) as recorder:
                step = next(run, None)
            if step is None:
                break
            steps.append(step)
            maps = recorder.take()
            if maps:
                heat = text.average_maps(maps)[-1]  # the half that reads the prompt
                total, count = heat if total is None else total + heat, count + 1
            see(step)
            if self._stopping.is_set():
                break
        return steps, self._heat(asked.prompt, total, count)

    def _heat(self, prompt: str, total: torch.Tensor | None, count: int) -> dict:
        """Where each word was read: its name and a square of bytes, as text."""
        if total is None:
            return {}
        found, mean = [], total / count
        for word, places in words.word_places(self.pipe, prompt):
            one = mean[places].mean(0)
            one = (one - one.min()) / (one.max() - one.min()).clamp(min=1e-9)
            data = (255 * one).round().to(torch.uint8).numpy().tobytes()
            found.append({"text": word, "map": base64.b64encode(data).decode()})
        return {"side": mean.shape[-1], "words": found}

    def _sketch(self, turn: int) -> None:
        face, began = self.face, time.perf_counter()
        guidance = min(self.QUICK_GUIDANCE, face.guidance)
        asked = _Run(face.prompt, face.seed, self.QUICK_STEPS, guidance, "dpm++", quick=True)

        def see(step: sampling.SampleStep) -> None:
            if step.index == 1:  # the imagined end: recognisable long before the latents are
                image = decode_latents(self.pipe, step.pred_original_sample)[0]
                if turn == self._turn:
                    self._put(image, asked, "a quick picture, getting sharper")

        steps, heat = self._run(asked, see, turn)
        image = decode_latents(self.pipe, steps[-1].prev_latents)[0]
        if turn != self._turn:
            raise _Cancelled
        self._put(image, asked, "a quick picture; Enter makes the full one", heat)
        self._measure(time.perf_counter() - began)

    def _measure(self, seconds: float) -> None:
        """Switch drawing while typing off where it takes too long, and say so."""
        self._took = [*self._took, seconds][-2:]
        least = min(self._took)
        if len(self._took) == 2 and least > self.QUICK_SECONDS:
            self.face.live = False
            self._say(
                f"A quick picture takes {least:.1f} s here, so typing draws none any "
                "more: press Enter for the full picture."
            )

    def _full(self, count: int) -> None:
        face = self.face
        options = (face.steps, face.guidance, self._sampler)
        prompt, first = face.prompt, face.seed
        for k in range(count):
            asked = _Run(prompt, (first + k) % 2**31, *options, quick=False)
            which = f"Picture {k + 1} of {count}. " if count > 1 else ""
            if not self._one(asked, which):
                break
        if face.prompt != prompt and face.live and not self._stopping.is_set():
            face.busy = False
            self.quick()

    def _one(self, asked: _Run, which: str) -> bool:
        """Make one full picture; False if it was stopped."""
        began, count = time.perf_counter(), asked.num_inference_steps
        self._say(f"{which}Working …")
        self.face.total, self.face.done, self.face.frames = count, 0, {}
        spent = each = 0.0  # seconds in the decoder so far, and in the last decode

        def see(step: sampling.SampleStep) -> None:
            nonlocal spent, each
            self.face.done = step.index + 1
            soon = step.index >= min(2, count - 2)  # before, the imagined end is fog
            passed = time.perf_counter() - began
            last = step.index + 1 == count or self._stopping.is_set()
            if soon and not last and spent + each <= self.DECODING * passed:
                start = time.perf_counter()
                image = decode_latents(self.pipe, step.pred_original_sample)[0]
                each = time.perf_counter() - start
                spent += each
                said = f"step {step.index + 1} of {count}: the picture as this step imagines it"
                self._put(image, asked, said)

        steps, heat = self._run(asked, see, None)
        self.steps = steps
        image = decode_latents(self.pipe, steps[-1].prev_latents)[0]
        self.images.append(image)
        seconds, stopped = time.perf_counter() - began, len(steps) < count
        said = f"after {len(steps)} of {count} steps" if stopped else f"{count} steps"
        self._put(image, asked, said, heat)
        self._keep()
        self._decode_steps(image, asked)
        if stopped:
            end = f"Stopped after step {len(steps)} of {count}: this is the picture so far."
        else:
            end = f"{which}Done: {count} steps in {seconds:.1f} s. Move the step slider to go back."
        self._say(f"{end} {self._notes}".strip())
        return not stopped

    def _decode_steps(self, final: Image.Image, asked: _Run) -> None:
        """The pictures to go back through, made when the last one is on the page already."""
        count = asked.num_inference_steps
        chosen = plots.every(self.steps, self.FRAMES)
        abar, frames, labels, alts = self.pipe.scheduler.alphas_cumprod, [], [], []
        for step in chosen:
            last = step is chosen[-1]
            images = decode_latents(self.pipe, step.latents)
            noise = 1 - float(abar[min(round(step.timestep), len(abar) - 1)])
            left = f"{noise:.0%} noise" if step.index else "pure noise"
            frames.append(images[0])
            labels.append(f"{step.index} of {count}")
            alts.append(f"Step {step.index} of {count}, {left}: {asked.prompt}")
            if last:
                frames.append(final)
                labels.append(f"{step.index + 1} of {count}")
                alts.append(f"Step {step.index + 1} of {count}: {asked.prompt}")
        self.frames = frames
        sources = [jpeg_uri(frame) for frame in frames]
        self.face.frames = dict(srcs=sources, labels=labels, alts=alts)

    # ------------------------------------------------------------------------- onto the page

    def _put(self, image: Image.Image, asked: _Run, said: str, heat: dict | None = None) -> None:
        """Show a picture with its sentence. With `heat` it is a finished one."""
        seed, prompt = asked.seed, asked.prompt
        shown = dict(prompt=prompt, seed=seed, said=said, src=jpeg_uri(image), quick=asked.quick)
        shown |= dict(alt=f"{prompt} (seed {seed}, {said})", heat=heat or {}, steps=len(self.steps))
        if heat is not None:
            shown["judge"] = words.compared(self.pipe, prompt, image)
        self.face.shown = shown

    def _keep(self) -> None:
        """Put the shown picture into the strip."""
        self._results = [*self._results, dict(self.face.shown)][-self.KEPT :]
        self.face.strip = self._results

    def _show_noise(self) -> None:
        """The start noise as colors, before anything has been computed."""
        noise = sampling.start_latents(self.pipe, 1, seed=self.face.seed)[0, :3]
        image = plots.picture((noise.movedim(0, -1) / 6 + 0.5).numpy())
        said = "the noise that this seed starts from; Enter makes a picture of it"
        prompt = self.face.prompt
        shown = dict(prompt=prompt, seed=self.face.seed, said=said, src=plots.data_uri(image))
        shown |= dict(alt=f"Colored noise of seed {self.face.seed}, no picture yet", heat={})
        self.face.shown = shown | dict(quick=True, noise=True)

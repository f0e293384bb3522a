"""Measure the course on this machine: ``python run.py bench [--json] [--write] [--no-notebooks]``.

Prints each figure beside the least that is promised and what is aimed at. Quality is read from what
``python -m sdlearn.measure evaluate`` measured.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sdlearn import compression, hub, models, sampling, widgets
from sdlearn.prediction import predict_noise, x0_from_epsilon
from sdlearn.text import encode_prompt
from tools import notebooks, write_between

PROMPT = "a red house in the snow at night"
STEPS = 45
# the rows that the README's three numbers are read from
LONG = f"two pictures, {STEPS} guided DDIM steps, warm"
APART = "... largest difference of a pixel's value between the two"
SEEN = "prompts right, everything in place, pairs seen in training"
HELD_OUT = "prompts right, everything in place, held-out pairs"


class Row(NamedTuple):
    """One measured figure; ``least`` and ``aim`` are limits: from above, or from below where more
    is better."""

    what: str
    measured: float
    unit: str
    least: float | None = None
    aim: float | None = None
    more_is_better: bool = False

    @property
    def verdict(self) -> str:
        def reached(goal):
            return goal is not None and (
                self.measured >= goal if self.more_is_better else self.measured <= goal
            )

        return (
            ""
            if self.least is None
            else "aim reached"
            if reached(self.aim)
            else "reached"
            if reached(self.least)
            else "MISSED"
        )


def seconds(run: Callable[[], object], repeats: int = 5) -> float:
    """Median time of a call, after one that does not count."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def cold_start() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "sdlearn", PROMPT, "--seed", "7", "--out", folder],
            check=True,
            capture_output=True,
        )
        took = time.perf_counter() - start
        assert list(Path(folder).glob("*.png"))
    yield Row('`python -m sdlearn "..."` to PNG on disk, cold', took, "s", 12, 6)


def whole_pictures(pipe) -> Iterator[Row]:
    prompts = [PROMPT, "a yellow cat and a red tower in a meadow at sunset"]
    pictures, settings = (
        {},
        {
            "num_inference_steps": STEPS,
            "guidance_scale": hub.defaults_of(pipe).guidance_scale,
        },
    )
    library = models.build_pipeline(
        pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet, models.build_scheduler("ddim")
    )

    def ours():
        pictures["ours"] = sampling.sample(pipe, prompts, sampler="ddim", seed=7, **settings)

    def theirs():
        noise = torch.Generator().manual_seed(7)
        pictures["theirs"] = library(prompts, generator=noise, **settings).images

    ours(), theirs()
    times = [
        (seconds(ours, 1), seconds(theirs, 1)) for _ in range(3)
    ]  # by turns, so that a busy moment hits both
    a, b = (statistics.median(column) for column in zip(*times, strict=True))
    yield Row(LONG, a, "s", 4, 2)
    yield Row(
        "... against StableDiffusionPipeline, the same model, steps and seed",
        a / b,
        "x its time",
        1.0,
        0.8,
    )
    differ = [
        np.abs(np.asarray(x, int) - np.asarray(y, int)).max()
        for x, y in zip(pictures["ours"], pictures["theirs"], strict=True)
    ]
    yield Row(APART, max(differ), "of 255", 2, 0)


def parts_and_controls(pipe) -> Iterator[Row]:
    words = encode_prompt(pipe, ["", PROMPT])
    latents = sampling.start_latents(pipe, seed=7)
    alphas_cumprod = pipe.scheduler.alphas_cumprod
    yield Row(
        "one guided U-Net step",
        1000 * seconds(lambda: predict_noise(pipe, latents.repeat(2, 1, 1, 1), 500, words)),
        "ms",
    )
    yield Row("one decode", 1000 * seconds(lambda: compression.decode_latents(pipe, latents)), "ms")

    def one_step(t):
        return compression.latent_preview(
            x0_from_epsilon(latents, predict_noise(pipe, latents, t, words[1:]), alphas_cumprod[t]),
            pipe,
        )[0]

    def one_decode(t):
        return compression.decode_latents(pipe, latents * t / 1000)[0]

    for name, show in (("U-Net step", one_step), ("decode", one_decode)):
        live = widgets.LivePicture(show, {"t": range(1, 990, 90)}, "t = {t}")
        moves = iter(range(1, 11))

        def move(control=live.controls["t"], moves=moves):
            control.index = next(moves)

        what = f"LivePicture: a slider moved to the picture of one {name}"
        yield Row(what, 1000 * seconds(move), "ms", 250, 120)
    frames = [
        step.prev_latents
        for step in sampling.sample_steps(pipe, PROMPT, num_inference_steps=30, seed=7)
    ]
    pictures = compression.decode_latents(pipe, torch.cat(frames))
    yield Row(
        "FrameScrubber: 30 frames are ready (it then moves without a kernel)",
        1000 * seconds(lambda: widgets.FrameScrubber(pictures, range(30)), 3),
        "ms",
    )


def panel_answers(pipe: Any) -> Iterator[Row]:
    """PromptPanel without a browser: what the kernel takes, and the pause that panel.js waits."""
    panel = widgets.PromptPanel(pipe, PROMPT, seed=7, steps=STEPS)
    script = (Path(widgets.__file__).parent / "panel.js").read_text(encoding="utf-8")
    quiet = int(re.search(r"const QUIET = (\d+);", script)[1])

    def until(ready: Callable[[dict], bool], act: Callable[[], None]) -> float:
        """Seconds from the act to the first picture on the page that is `ready`."""
        there = threading.Event()

        def look(change: dict) -> None:
            if ready(change["new"]):
                there.set()

        panel.face.observe(look, "shown")
        start = time.perf_counter()
        act()
        if not there.wait(120):
            raise RuntimeError(f"The panel shows no picture: {panel.error or panel.face.status}")
        took = time.perf_counter() - start
        panel.face.unobserve(look, "shown")
        panel.wait()
        return took

    def stopped() -> float:
        panel.generate()
        while panel.face.done < 3:
            time.sleep(0.005)
        return until(lambda shown: shown["said"].startswith("after"), panel.stop)

    first, last = (
        statistics.median(until(ready, panel.quick) for _ in range(5))
        for ready in (lambda shown: shown["quick"], lambda shown: bool(shown["heat"]))
    )
    what = f"PromptPanel: last key to the {{}} quick picture, {quiet} ms of quiet included"
    yield Row(what.format("first"), quiet + 1000 * first, "ms", 900, 500)
    yield Row(what.format("last"), quiet + 1000 * last, "ms")
    what = "PromptPanel: Stop to the picture as far as it had come"
    yield Row(what, 1000 * statistics.median(stopped() for _ in range(5)), "ms", 300, 150)


def quality(folder: Path = hub.TINY_SD) -> Iterator[Row]:
    path = folder / "evaluation.json"
    if not path.exists():
        print("Quality is not measured yet: python -m sdlearn.measure evaluate", file=sys.stderr)
        return
    found = json.loads(path.read_text())
    yield Row(
        "autoencoder's round trip on held-out scenes",
        found["autoencoder"]["held_out"]["psnr"]["value"],
        "dB",
        33.3,
        35,
        True,
    )
    yield Row(
        SEEN,
        found["fidelity"]["seen"]["in_place"]["value"],
        "%",
        97,
        99,
        True,
    )
    yield Row(
        HELD_OUT,
        found["fidelity"]["held_out"]["in_place"]["value"],
        "%",
        93,
        97,
        True,
    )


def all_notebooks() -> Iterator[Row]:
    """Each notebook in a clean kernel, without writing it."""
    import nbformat

    total = 0.0
    for path in notebooks.find():
        name = path.relative_to(notebooks.FOLDER).with_suffix("").as_posix()
        done = notebooks.execute(nbformat.read(path, as_version=4), path.parent)
        if done.error:
            raise RuntimeError(f"{name} does not run: {done.error}")
        limit = 150 if path.name.startswith("03") else 60
        if path.parent == notebooks.FOLDER:
            total += done.seconds
        yield Row(f"notebook {name}, time", done.seconds, "s", limit, limit)
        yield Row(f"notebook {name}, memory", done.peak_mb, "MB", 1000, 700)
    yield Row("all notebooks, top to bottom", total / 60, "min", 8, 4)


def table(rows: list[Row]) -> str:
    def number(value):
        return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"

    lines = ["| what | measured | at least | aim | |", "|---|---|---|---|---|"]
    lines += [
        f"| {r.what} | **{number(r.measured)}** {r.unit} | {number(r.least)} | {number(r.aim)} "
        f"| {r.verdict} |"
        for r in rows
    ]
    return "\n".join(lines)


def machine() -> str:
    return (
        f"{date.today()}, {os.cpu_count()} cores ({platform.machine()}, "
        f"{platform.system()}), torch {torch.__version__} with {torch.get_num_threads()} threads"
    )


def write_pages(rows: list[Row], text: str, root: Path = notebooks.ROOT) -> None:
    """The table into docs/measured.md, its three numbers into the README."""
    write_between(root / "docs" / "measured.md", "bench", text)
    write_between(root / "README.md", "numbers", three_numbers(rows))


def three_numbers(rows: list[Row]) -> str:
    """What the README says of all that was measured."""
    found = {row.what: row.measured for row in rows}
    return (
        f"**{found[SEEN]:.1f} %** of 500 sentences that say where things stand come out with "
        f"everything in its place at the first try (**{found[HELD_OUT]:.1f} %** with "
        f"pairs of color and thing that training never drew). Two pictures in {STEPS} steps "
        f"take **{found[LONG]:.1f} s** on "
        f"{os.cpu_count()} cores. Our sampler and diffusers' pipeline differ by "
        f"**{found[APART]:.0f} of 255**."
    )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python run.py bench", description="Measure speed, memory and quality on this machine."
    )
    parser.add_argument("--json", action="store_true", help="write bench.json")
    parser.add_argument(
        "--write", action="store_true", help="write docs/measured.md and the README's numbers"
    )
    parser.add_argument(
        "--no-notebooks", action="store_true", help="leave out the notebooks, which take minutes"
    )
    options = parser.parse_args(argv)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > 0.5 * (os.cpu_count() or 1):
        print(
            f"This machine is busy (load {load:.1f}): what follows is slower than it would be.",
            file=sys.stderr,
        )
    rows = [*cold_start()]
    pipe = hub.load_pipeline(hub.TINY_SD)
    for measure in (
        whole_pictures(pipe),
        parts_and_controls(pipe),
        panel_answers(pipe),
        quality(),
        *([] if options.no_notebooks else [all_notebooks()]),
    ):
        for row in measure:
            rows.append(row)
            print(
                f"{row.what}: {row.measured:.4g} {row.unit}  {row.verdict}",
                file=sys.stderr,
                flush=True,
            )
    text = f"{table(rows)}\n\nMeasured {machine()}."
    print(text)
    if options.json:
        result = {
            "machine": machine(),
            "load": load,
            "rows": [{**r._asdict(), "verdict": r.verdict} for r in rows],
        }
        Path("bench.json").write_text(json.dumps(result, indent=1, default=float) + "\n")
    if options.write:
        write_pages(rows, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Bad input ends in one clear sentence: more than a thousand of them, from a seeded generator.

Each ends in a ValueError, TypeError, FileNotFoundError or MemoryError that our own code raised, of
one line; or in a warning of ours; or it is harmless and gives a finite result. A raw error of
torch, PIL or transformers, a hang or a picture of nothing is a fault. `pytest -s` shows the table.
"""

from __future__ import annotations

import io
import json
import math
import os
import random
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sdlearn import __main__ as cli
from sdlearn import (
    checks,
    compression,
    editing,
    folders,
    hub,
    noising,
    prediction,
    sampling,
    text,
    world,
)

PACKAGE = str(Path(hub.__file__).parent)
SENTENCES = (ValueError, TypeError, FileNotFoundError, MemoryError)
SLOW = 10.0  # seconds that one input may take: a hang, even on a busy machine


@dataclass
class Tally:
    """What came of the inputs, by kind."""

    outcomes: Counter = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def run(self, kind: str, what: str, call: Callable[[], object]) -> None:
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                outcome = "harmless" if finite(call()) else "FAULT not finite"
                if outcome == "harmless" and any(w.category is UserWarning for w in told):
                    outcome = "warning"
            except SENTENCES as error:
                outcome = judged(error)
            except Exception as error:
                outcome = f"FAULT {type(error).__name__}: {str(error)[:100]}"
        if time.perf_counter() - start > SLOW:
            outcome = f"FAULT took {time.perf_counter() - start:.0f} s"
        self.outcomes[kind, outcome.split()[0]] += 1
        if outcome.startswith("FAULT"):
            self.faults.append(f"{kind}: {what[:200]}: {outcome}")

    def table(self) -> str:
        kinds = sorted({kind for kind, _ in self.outcomes})
        heads = ("sentence", "warning", "harmless", "FAULT")
        rows = [[k, *(str(self.outcomes[k, h]) for h in heads)] for k in kinds]
        return "\n".join("".join(f"{c:>12}" for c in row) for row in [["kind", *heads], *rows])


def judged(error: Exception) -> str:
    """Whether a person can read it: raised by our own code, one line, not endless."""
    said = str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    if not last.filename.startswith(PACKAGE) or not last.line.startswith("raise"):
        where = f"{Path(last.filename).name}:{last.lineno}"
        return f"FAULT {type(error).__name__} raised by {where}: {said[:100]}"
    if "\n" in said or not 10 < len(said) < 1200:
        return f"FAULT no sentence: {said[:100]!r}"
    return "sentence"


def finite(result: object) -> bool:
    """Whether all numbers of a result are; pictures cannot be otherwise."""
    if torch.is_tensor(result):
        return bool(torch.isfinite(result).all())
    if isinstance(result, float):
        return not math.isnan(result)  # psnr of equal pictures is infinite
    if isinstance(result, (list, tuple)):
        return all(map(finite, result))
    return True


# ------------------------------------------------------------------------------------- the junk


def pictures(rng: random.Random) -> Any:
    """Pictures as people bring them, and things that are none."""
    size = rng.choice([(64, 64), (1, 1), (63, 65), (64, 8), (3, 200), (8, 8)])
    mode = rng.choice(["RGB", "RGBA", "L", "1", "P", "I;16", "F", "CMYK", "LA", "I", "HSV"])
    noise = np.random.default_rng(rng.randrange(99))
    kinds = [
        lambda: Image.new(mode, size),
        lambda: Image.new("RGB", (0, rng.choice([0, 8]))),
        lambda: noise.random((64, 64, rng.choice([1, 2, 3, 4, 5]))),
        lambda: noise.integers(0, 256, size).astype(rng.choice(["uint8", "int8", "int64", "f2"])),
        lambda: noise.random(rng.choice([(4,), (0, 3), (2, 2, 2, 2), (64, 64, 3, 1)])),
        lambda: noise.random((64, 64, 3)) * rng.choice([math.nan, math.inf, -1, 1e9, 1j]),
        lambda: torch.rand(rng.choice([(3, 64, 64), (64, 64), (1, 3, 64, 64), (0,)])),
        lambda: rng.choice(["nowhere.png", Path("/nowhere"), b"", b"\x89PNG\r\n", b"GIF89a"]),
        lambda: png(size)[: rng.randrange(5, 90)],
        lambda: [Image.new("RGB", (64, 64)), Image.new("RGB", (32, 64))],
        lambda: values(rng),
    ]
    return rng.choice(kinds)()


def png(size: tuple[int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, "PNG")
    return file.getvalue()


def values(rng: random.Random) -> Any:
    """What is no prompt, number, seed, tensor or pipeline."""
    made = [
        lambda: None,
        lambda: rng.choice([True, -1, 0, 1.5, 10**30, -(10**400), 2**63]),
        lambda: rng.choice([math.nan, math.inf, -math.inf, 1e30, 1 + 2j, -0.0]),
        lambda: rng.choice(["", " ", "7", "\ud800", "x" * 3000, "\0", "a\nb", "тест", "🙂" * 90]),
        lambda: rng.choice([[], (), {}, set(), [None], [[]], [""], ["a", 5], range(3), b"a"]),
        lambda: rng.choice([object(), len, int, Path("/nowhere"), lambda: 1, iter(())]),
        lambda: np.random.default_rng(0).random(rng.choice([0, 1, 3])),
        lambda: tensor(rng),
        lambda: Image.new("RGB", (64, 64)),
    ]
    return rng.choice(made)()


def tensor(rng: random.Random) -> torch.Tensor:
    shape = rng.choice([(), (0,), (1,), (4, 8, 8), (1, 4, 8, 8), (1, 3, 8, 8), (2, 4, 0, 8)])
    kind = rng.choice([torch.float32, torch.float64, torch.int64, torch.bool, torch.complex64])
    made = torch.ones(shape, dtype=kind)
    return made * math.nan if kind is torch.float32 and rng.random() < 0.5 else made


Calls = list[tuple[Callable, dict[str, Any]]]  # functions, each with arguments that are right
SHORT = {"num_inference_steps": 1, "seed": 0}
THING = world.Thing("house", "red", "left")
SCENE = world.Scene((THING,), "meadow", "day")
PICTURE = world.draw(SCENE, size=64)
MASK = PICTURE.convert("L").point(lambda v: 255 * (v > 99))
LATENTS = torch.zeros(1, 4, 8, 8)


def drawing_calls(pipe) -> Calls:
    """What samples and edits."""
    start = {"pipe": pipe, "image": PICTURE, "prompt": "a cat"}
    settings = {"negative_prompt": "", "guidance_scale": 2.0, "sampler": "ddim"}
    inner = {"latents": LATENTS, "start": 0, "eta": 0.0}
    ends = {"prompts": ("a cat", "a house"), "seeds": (1, 2), "count": 2}
    arc = {"a": LATENTS + 1, "b": torch.arange(256.0).view(1, 4, 8, 8), "t": 0.5}
    return [
        (sampling.sample, {"pipe": pipe, "prompt": "a red house"} | settings | inner | SHORT),
        (sampling.start_latents, {"pipe": pipe, "batch": 1, "seed": 0}),
        (sampling.timesteps_of, {"pipe": pipe, "sampler": "euler", "steps": 3}),
        (editing.img2img, start | {"strength": 1.0} | SHORT),
        (editing.inpaint, start | {"mask": MASK} | SHORT),
        (editing.invert, start | {"num_inference_steps": 1}),
        (editing.walk, {"pipe": pipe} | ends | {"num_inference_steps": 1, "guidance_scale": 1.0}),
        (editing.slerp, arc),
        (editing.paste_back, {"new": PICTURE, "original": PICTURE, "mask": MASK}),
        (editing.psnr_outside, {"a": PICTURE, "b": PICTURE, "mask": MASK}),
    ]


def other_calls(pipe) -> Calls:
    """The parts, the world, the exercises, the loading."""
    words = text.encode_prompt(pipe, "a red house")
    step = {"latents": LATENTS, "t": 500, "encoder_hidden_states": words}
    noise = {"x0": LATENTS, "noise": LATENTS, "t": 5}
    schedule = {"schedule": "linear", "num_train_timesteps": 9, "beta_start": 0.01}
    return [
        (compression.encode_image, {"pipe": pipe, "images": PICTURE}),
        (compression.decode_latents, {"pipe": pipe, "latents": LATENTS}),
        (compression.fit, {"image": PICTURE, "pipe": pipe}),
        (compression.psnr, {"a": PICTURE, "b": PICTURE}),
        (text.encode_prompt, {"pipe": pipe, "prompts": "a red house"}),
        (text.tokens, {"pipe": pipe, "prompt": "a red house"}),
        (prediction.predict_noise, {"pipe": pipe} | step),
        (noising.make_betas, schedule),
        (noising.add_noise, noise | {"alphas_cumprod": noising.make_alphas_cumprod()}),
        (world.Thing, {"kind": "house", "colour": "red", "position": "left"}),
        (world.Scene, {"things": (THING,), "place": "meadow", "time": "day"}),
        (world.draw, {"scene": SCENE, "size": 32, "seed": 0}),
        (world.caption, {"scene": SCENE}),
        (checks.check, {"id": "02.1", "answer": 5}),
        (hub.load_pipeline, {"model": "/nowhere", "device": "cpu", "dtype": torch.float32}),
        (hub.load_part, {"name": "vae", "folder": "/nowhere"}),
    ]


def api(rng: random.Random, functions: Calls, count: int) -> Iterator[tuple[str, Callable]]:
    """Calls in which one argument is junk, and now and then an argument too many."""
    for i in range(count):
        function, right = functions[i % len(functions)]
        name = rng.choice(list(right))
        visual = name in ("image", "images", "mask", "a", "b", "new", "original")
        junk = pictures(rng) if visual and rng.random() < 0.7 else values(rng)
        wrong = right | {name: junk}
        what = f"{function.__module__}.{function.__name__}({name}={junk!r:.80})"
        yield what, (lambda function=function, wrong=wrong: function(**wrong))


# ------------------------------------------------------------------------------------ the tests


@pytest.fixture(scope="module")
def tally():
    tally = Tally()
    yield tally
    print(f"\n{tally.table()}\n{sum(tally.outcomes.values())} inputs")


def without_faults(tally: Tally) -> None:
    faults, tally.faults = tally.faults, []
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults)


@pytest.fixture
def aside(tmp_path, monkeypatch):
    """A folder of its own, so that nothing is written beside the tests."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_calls(pipe, tally, aside, capsys):
    rng = random.Random(20260101)
    for what, call in api(rng, drawing_calls(pipe) + other_calls(pipe), 1600):
        tally.run("calls", what, call)
    without_faults(tally)


def test_pictures_and_masks(pipe, tally, aside):
    """Encoded and fitted; as masks laid on a picture."""
    rng = random.Random(7)
    whole = Image.new("RGB", (64, 64), "red")
    for _ in range(300):
        junk = pictures(rng)
        fit = lambda junk=junk: compression.encode_image(pipe, compression.fit(junk, pipe))  # noqa: E731
        tally.run("pictures", f"{junk!r:.100}", fit)
    for _ in range(300):
        junk = pictures(rng)
        paste = lambda junk=junk: editing.paste_back(whole, whole, junk)  # noqa: E731
        tally.run("masks", f"{junk!r:.100}", paste)
    without_faults(tally)


def spoiled(rng: random.Random, folder: Path) -> tuple[str, Path, bytes]:
    """Spoil one file of a folder: (what was done, the file, what it held)."""
    files = sorted(f for f in folder.rglob("*") if f.is_file() and f.name != "README.md")
    small = [f for f in files if f.name.endswith("config.json") or f.name == folders.INDEX]
    file = rng.choice(small if rng.random() < 0.7 else files)
    held = file.read_bytes()
    junk = rng.choice([None, 0, -1, 1.5, 10**9, math.nan, "x", [], {}, [0], ["a", "b"], True])
    if file in small and rng.random() < 0.8:
        content = json.loads(held)
        key = rng.choice(sorted(content))
        content[key] = junk
        file.write_text(json.dumps(content))
        return f"{file.relative_to(folder)}: {key} = {junk!r}", file, held
    place = rng.randrange(max(1, min(len(held), 4000)))
    new = rng.choice([held[:place], b"", b"\0" * 99, held[:place] + b"\xff" + held[place + 1 :]])
    file.write_bytes(new)
    return f"{file.relative_to(folder)}: {len(new)} other bytes, from {place}", file, held


def test_model_folders(pipe, tally, aside):
    """One file spoiled at a time. What still loads must be able to draw."""
    folder = aside / "model"
    pipe.save_pretrained(folder)
    rng = random.Random(11)

    def load():
        found = hub.load_pipeline(folder, device="cpu")
        return sampling.sample(found, "a cat", num_inference_steps=1, seed=0)

    for _ in range(130):
        what, file, held = spoiled(rng, folder)
        tally.run("folders", what, load)
        file.write_bytes(held)
    without_faults(tally)


def test_command_lines(model_folder, tally, aside, capsys, monkeypatch):
    """Exit code 2 and one line, or 0; argparse has sentences of its own."""
    monkeypatch.setattr(hub, "_from_hub", lambda ids, card: folders.check_folder(aside / "none"))
    rng = random.Random(13)
    junk = ["", " ", "0", "-1", "1.5", "nan", "inf", "1e30", "x", "\ud800", "a\0b", "~nouser"]
    junk += ["/dev/null", "/dev/null/x", "x" * 5000, "a/b", "../..", "--", "99999999999999999999"]
    switches = ("--images", "--steps", "--seed", "--guidance", "--sampler", "--dtype", "--model")
    right = {"--steps": "1", "--seed": "1", "--model": str(model_folder), "--out": str(aside)}

    def run(argv):
        capsys.readouterr()
        try:
            code = cli.main(argv)
        except SystemExit as stop:
            code = stop.code
        said = capsys.readouterr().err.splitlines()
        ours = [line for line in said if not line.startswith(("Note:", "denoising", "\r"))]
        if code == 2 and ours and len(ours[-1]) < 6000 and "Traceback" not in "".join(said):
            raise cli_sentence
        assert code == 0, f"exit code {code}: {ours[-3:]}"

    cli_sentence = FileNotFoundError("told on the command line, in one sentence.")
    for i in range(130):
        switch = (*switches, "--out", "--negative", "prompt")[i % 10]
        value = rng.choice(junk)
        options = right | ({switch: value} if switch != "prompt" else {})
        prompt = value if switch == "prompt" else "a cat"
        argv = [prompt, *(f"{k}={v}" for k, v in options.items())]
        start, told = time.perf_counter(), None
        try:
            run(argv)
            told = "harmless"
        except FileNotFoundError as error:
            told = "sentence" if error is cli_sentence else f"FAULT {error}"
        except BaseException as error:
            told = f"FAULT {type(error).__name__}: {str(error)[:200]}"
        if time.perf_counter() - start > SLOW:
            told = "FAULT too slow"
        tally.outcomes["commands", told.split()[0]] += 1
        if told.startswith("FAULT"):
            tally.faults.append(f"commands: {switch}={value[:60]!r}: {told}")
    without_faults(tally)


def test_there_were_a_thousand(tally):
    assert sum(tally.outcomes.values()) >= 1000 or os.environ.get("PYTEST_XDIST_WORKER")

"""One built site for all tests: the repository's pages as committed, and a page with one control of
each kind, executed here."""

import atexit
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import nbformat

from tools import site

CONTROLS = "notebooks/99_controls.ipynb"
LABELS = [f"t = {981 - 80 * i}" for i in range(12)]
TESTS = str(Path(__file__).parent)  # the notebook runs in a kernel of its own
CELLS = [
    f"""
import sys; sys.path.append({TESTS!r})
import numpy as np, ipywidgets as W
from sdlearn import plots, widgets, world
from sdlearn.chapters import ch04
from small import random_pipeline
widgets.setup()
rng = np.random.default_rng(0)
scenes = [world.draw(world.sample_scene(rng)) for _ in range(12)]
""",
    'widgets.FrameScrubber(scenes, [f"t = {981 - 80 * i}" for i in range(12)], '
    'description="Timestep", start=2)',
    'widgets.GridScrubber([scenes[:4], scenes[4:8], scenes[8:]], ["1", "5", "7.5"], [f"step '
    '{i} of 4" for i in range(1, 5)], descriptions=("Guidance", "Step"))',
    """
heat = np.zeros((3, 4, 16, 16))
for w in range(3):
    for s in range(4): heat[w, s, 4 * w : 4 * w + 6, 3 * s : 3 * s + 6] = 1
over = [[plots.overlay(scenes[0], h) for h in row] for row in heat]
widgets.AttentionOverlay(over, ["red", "house", "snow"], [f"{i} of 4" for i in range(1, 5)])
""",
    """
def noisy(t, seed):
    noise = np.random.default_rng(seed).normal(size=(128, 128, 3))
    return (1 - t) * np.asarray(scenes[1]) / 255 + t * (0.5 + 0.2 * noise)
parts = {"t": [0.0, 0.25, 0.5, 0.75, 1.0], "seed": W.IntSlider(3, 0, 99)}
widgets.LivePicture(noisy, parts, "a scene with noise level {t}, seed {seed}")
""",
    "widgets.LivePicture(lambda typed: ch04.pieces([list(typed)], [[1] * len(typed)]), "
    '{"typed": W.Text("zebra", description="Text")}, "The text {typed!r} in boxes")',
    'widgets.PromptPanel(random_pipeline(), "a red house", steps=4)',
    'widgets.MaskCanvas(scenes[3], prompt="a blue boat", repaint=lambda mask, prompt: scenes[4])',
    'print("done")',
]


@lru_cache
def folder() -> Path:
    path = Path(tempfile.mkdtemp(prefix="sdlearn-site-test-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@lru_cache
def executed():
    """The notebook of controls, after its kernel has gone."""
    root = folder() / "repository"
    shutil.copytree(
        site.ROOT,
        root,
        ignore=shutil.ignore_patterns(
            ".*",
            "runs",
            "site",
            "tests",
            "*.safetensors",
            "*.gif",
            "__pycache__",
            "*.egg-info",
            "class-kit",
            "node_modules",
        ),
    )
    cells = [
        nbformat.v4.new_markdown_cell("# 07 Controls\n\nOne of each kind."),
        *(nbformat.v4.new_code_cell(source.strip()) for source in CELLS),
    ]
    nb = nbformat.v4.new_notebook(cells=cells)
    nb.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    nbformat.write(nb, root / CONTROLS)
    return site.executed(root / CONTROLS, folder() / "cache")


@lru_cache
def built() -> tuple[Path, list[str]]:
    """The site's folder, and what was wrong with it."""
    nb = executed()
    out = folder() / "site"
    return out, site.build(
        out,
        {CONTROLS: nb},
        root=folder() / "repository",
        repository="https://example.org/me/course",
    )

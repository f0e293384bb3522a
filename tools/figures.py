"""Draw the README's pictures with the model, and film its panel: ``python run.py figures``. First
takes, seeds 0 to 7."""

from __future__ import annotations

import sys
from pathlib import Path

from sdlearn import compression, hub, plots, sampling, world
from tools import animation

IMAGES = Path(__file__).resolve().parents[1] / "images"
PROMPTS = (  # first takes
    "a red dragon and a white castle in the snow at sunset",
    "a yellow cat in the city at night",
    "a blue boat and a pink duck by the sea at sunset",
    "a blue dog on the left in a meadow by day",
    "an orange rocket in the desert at night",
    "a purple ghost and a yellow robot in the forest at night",
    "a blue cake on the right by the sea by day",
    "a green butterfly and a red mushroom in a meadow by day",
)
NEVER_DRAWN = tuple(f"{colour} {kind}" for kind, colour in world.HELD_OUT)


def labels() -> list[str]:
    """The prompts, those with a pair of color and thing that training never drew marked *."""
    return [f"{p} *" if any(pair in p for pair in NEVER_DRAWN) else p for p in PROMPTS]


def hero(pipe):
    """Eight prompts, the first picture of each."""
    pictures = sampling.sample(pipe, list(PROMPTS), seed=list(range(len(PROMPTS))))
    half = len(PROMPTS) // 2
    said = labels()
    return plots.grid(
        [pictures[:half], pictures[half:]], None, [said[:half], said[half:]], cell=1.9
    )


def filmstrip(pipe, seed: int = 0):
    """One picture on its way out of the noise."""
    steps = plots.every(
        sampling.sample_steps(pipe, PROMPTS[0], sampler="ddim", num_inference_steps=25, seed=seed),
        8,
    )
    pictures = [
        compression.decode_latents(pipe, step.latents)[0] for step in steps[:-1]
    ] + compression.decode_latents(pipe, steps[-1].prev_latents)
    return plots.filmstrip(
        pictures, [f"t = {step.timestep:.0f}" for step in steps[:-1]] + ["done"], cell=1.0
    )


def main(folder: Path = IMAGES) -> int:
    pipe = hub.load_pipeline(hub.TINY_SD)
    folder.mkdir(exist_ok=True)
    for name, draw in (("hero", hero), ("filmstrip", filmstrip)):
        path = folder / f"{name}.png"
        draw(pipe).savefig(
            path, dpi=150, facecolor="white", metadata={"Software": None}
        )  # all colours: plots.to_png would reduce them
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
    try:
        animation.panel(folder / "panel.webp")
    except RuntimeError as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

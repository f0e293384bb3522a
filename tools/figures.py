"""Draw the README's pictures with the model: ``python run.py figures``. First takes, seeds 0 to
7."""

from __future__ import annotations

import sys
from pathlib import Path

from sdlearn import compression, hub, plots, sampling

IMAGES = Path(__file__).resolve().parents[1] / "images"
PROMPTS = (
    "a red house in the snow at night",
    "a yellow cat in a meadow",
    "a blue boat and a white balloon by the sea at sunset",
    "a purple mushroom and a green tree in a meadow",
    "an orange rocket in the desert at night",
    "a pink flower and a yellow cat in a meadow at sunset",
    "a green car in the desert",
    "a white tower and a red tree in the snow",
)


def hero(pipe):
    """Eight prompts, the first picture of each."""
    pictures = sampling.sample(
        pipe, list(PROMPTS), num_inference_steps=45, seed=list(range(len(PROMPTS)))
    )
    half = len(PROMPTS) // 2
    return plots.grid(
        [pictures[:half], pictures[half:]], None, [PROMPTS[:half], PROMPTS[half:]], cell=1.9
    )


def filmstrip(pipe, seed: int = 0):
    """One picture on its way out of the noise."""
    steps = plots.every(
        sampling.sample_steps(pipe, PROMPTS[0], num_inference_steps=45, seed=seed), 8
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
    return 0


if __name__ == "__main__":
    sys.exit(main())

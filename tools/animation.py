"""Film the panel of chapter 00 in a real JupyterLab: a sentence is typed, a quick picture appears,
then the full one. Part of ``python run.py figures``."""

from __future__ import annotations

import io
import tempfile
import time
from pathlib import Path

from PIL import Image

from tools import labdrive

SENTENCE = "a red dragon and a white castle in the snow at sunset"
CELL = """from sdlearn import load_pipeline, widgets
widgets.setup()
panel = widgets.PromptPanel(load_pipeline(), "", seed=7)
panel"""
WIDTH = 640  # of the film, in pixels
MAX_BYTES = 1_000_000


class Film:
    """Screenshots of one element, each with the time for which it is seen."""

    def __init__(self, page, selector: str):
        self.page, self.part = page, page.locator(selector).first
        self.part.evaluate("(e) => e.scrollIntoView({block: 'start'})")
        self.frames: list[Image.Image] = []
        self.times: list[int] = []

    def shoot(self, milliseconds: int) -> None:
        image = Image.open(io.BytesIO(self.part.screenshot())).convert("RGB")
        if self.frames and image.tobytes() == self.frames[-1].tobytes():
            self.times[-1] += milliseconds
        else:
            self.frames.append(image)
            self.times.append(milliseconds)

    def watch(self, seconds: float, until=lambda: False) -> None:
        """Look five times a second, until something is so."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not until():
            self.shoot(200)
            self.page.wait_for_timeout(150)

    def save(self, path: Path) -> None:
        """As an animated WebP: all frames on one canvas, as high as the highest."""
        width, height = (max(getattr(f, side) for f in self.frames) for side in ("width", "height"))
        size = (WIDTH, round(height * WIDTH / width))
        sheets = [Image.new("RGB", (width, height), "white") for _ in self.frames]
        for sheet, frame in zip(sheets, self.frames, strict=True):
            sheet.paste(frame)
        first, *rest = (sheet.resize(size, Image.Resampling.LANCZOS) for sheet in sheets)
        first.save(path, save_all=True, append_images=rest, duration=self.times, loop=0, quality=70)


def panel(path: Path) -> None:
    """Film it into ``path``.

    Raises:
        RuntimeError: without a browser, or if the film is too large for a page.
    """
    if reason := labdrive.missing():
        raise RuntimeError(f"The panel cannot be filmed: {reason}.")
    with tempfile.TemporaryDirectory() as folder:
        with labdrive.lab(folder) as server, labdrive.browser() as chromium:
            page = labdrive.new_page(chromium, 1100, 1000)
            server.open_cells(page, Path(folder), [CELL])
            film = Film(page, ".jp-OutputArea-output .sd-control")
            film.shoot(800)
            box = page.get_by_label("Prompt", exact=True)
            for end in range(2, len(SENTENCE) + 2, 2):
                box.press_sequentially(SENTENCE[end - 2 : end])
                film.shoot(110)
                if end % 18 == 0:  # who types stops to think
                    film.watch(1.6)
            film.watch(2)
            box.press("Enter")
            status = page.locator(".sd-status").first
            film.watch(20, lambda: "Done" in (status.text_content() or ""))
            film.shoot(2500)
    film.save(path)
    if path.stat().st_size > MAX_BYTES:
        raise RuntimeError(f"{path.name} is larger than {MAX_BYTES / 1e6:g} MB.")

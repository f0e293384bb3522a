"""Controls over computed pictures. They need no kernel to move."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import ipywidgets as W
from matplotlib.figure import Figure

from sdlearn.plots import Picture
from sdlearn.widgets.base import Control, align, deck, in_words, pages, slider


class GridScrubber(Control):
    """Two sliders over computed pictures. `.value` is (row, column) and can be set."""

    def __init__(
        self,
        frames: Iterable[Iterable[Picture | Figure]],
        row_labels: Sequence,
        col_labels: Sequence,
        descriptions: tuple[str, str] = ("row", "column"),
        alts: Sequence[Sequence[str]] | None = None,
        *,
        size: int = 256,
        pixelated: bool = False,
        start: tuple[int, int] = (0, 0),
    ):
        """Show `frames[start[0]][start[1]]` first; a negative place counts from the end.

        Args:
            frames: `frames[row][column]`, each row as long as `col_labels`.
            row_labels: stand beside the first slider.
            col_labels: stand beside the second one.
            descriptions: what rows and columns are.
            alts: `alts[row][column]` says what each picture shows, with its number.
            size: width on the page in pixels.
            pixelated: keeps the squares of small arrays.
            start: (row, column) shown first.

        Raises:
            ValueError: if pictures and labels do not fit each other.
        """
        self.frames = [list(row) for row in frames]
        short = any(len(row) != len(col_labels) or not row for row in self.frames)
        if not self.frames or len(row_labels) != len(self.frames) or short:
            raise ValueError(
                f"A grid needs a picture for each of its {len(row_labels)} x {len(col_labels)} "
                f"labels; got rows of {[len(row) for row in self.frames]} pictures."
            )
        a, b = map(in_words, descriptions)
        alts = alts or [[f"{a} {row}, {b} {col}" for col in col_labels] for row in row_labels]
        r, c = (i % n for i, n in zip(start, (len(row_labels), len(col_labels)), strict=True))
        self.row, self.column = self._choice(row_labels, a, r), slider(col_labels, b, c)
        align((self.row, self.column))
        shown = zip(self.frames, alts, strict=True)
        rows = [deck(pages(row, alt, size, pixelated), c) for row, alt in shown]
        whole = deck(rows, r)
        self.links = [W.jslink((self.row, "index"), (whole, "selected_index"))]
        self.links += [W.jslink((self.column, "index"), (row, "selected_index")) for row in rows]
        moving = [(self.row, len(row_labels)), (self.column, len(col_labels))]
        super().__init__(*(control for control, n in moving if n > 1), whole)

    def _choice(self, labels: Sequence, description: str, start: int) -> W.Widget:
        return slider(labels, description, start)

    @property
    def value(self) -> tuple[int, int]:
        return self.row.index, self.column.index

    @value.setter
    def value(self, value: tuple[int, int]) -> None:
        self.row.index, self.column.index = value

    @property
    def picture(self) -> Picture | Figure:
        """The frame that is shown."""
        return self.frames[self.row.index][self.column.index]


class FrameScrubber(Control):
    """One slider over computed pictures. `.value` is the index and can be set."""

    def __init__(
        self,
        frames: Iterable[Picture | Figure],
        labels: Iterable,
        alts: Iterable[str] | None = None,
        description: str = "t",
        *,
        size: int = 256,
        pixelated: bool = False,
        start: int = 0,
    ):
        """Show `frames[start]` first; a negative place counts from the end.

        Args:
            frames: PIL images, arrays or Figures.
            labels: stand beside the slider ("t = 981"), one for each.
            alts: say what each picture shows, with its number.
            description: the slider's name.
            size: width on the page in pixels.
            pixelated: keeps the squares of small arrays.
            start: the frame shown first.

        Raises:
            ValueError: without a picture, or with another number of labels.
        """
        self.frames, labels = list(frames), [str(label) for label in labels]
        if not self.frames or len(labels) != len(self.frames):
            raise ValueError(
                "A scrubber needs at least one picture and a label for each; "
                f"got {len(self.frames)} pictures and {len(labels)} labels."
            )
        count, start = len(labels), start % len(labels)
        named = (
            f"{in_words(description)}: {label} (picture {i} of {count})"
            for i, label in enumerate(labels, 1)
        )
        self.slider = slider(labels, description, start)
        shown = deck(pages(self.frames, list(alts or named), size, pixelated), start)
        self.links = [W.jslink((self.slider, "index"), (shown, "selected_index"))]
        super().__init__(*([self.slider] if count > 1 else []), shown)

    @property
    def value(self) -> int:
        return self.slider.index

    @value.setter
    def value(self, value: int) -> None:
        self.slider.index = value

    @property
    def picture(self) -> Picture | Figure:
        """The frame that is shown."""
        return self.frames[self.slider.index]


class AttentionOverlay(GridScrubber):
    """Which part of the picture a word is attended from: a button a word, a slider over the steps.

    `overlays[word][step]` are pictures blended beforehand (`plots.overlay`).
    """

    def __init__(
        self,
        overlays: Iterable[Iterable[Picture]],
        words: Iterable[str],
        step_labels: Sequence,
        alts: Sequence[Sequence[str]] | None = None,
        *,
        size: int = 256,
    ):
        words, names = [str(word) for word in words], []
        for i, word in enumerate(words):
            again = f" ({words[: i + 1].count(word)})" if words.count(word) > 1 else ""
            names.append(word + again)
        super().__init__(overlays, names, step_labels, ("Word", "Step"), alts, size=size)

    def _choice(self, labels: Sequence, description: str, start: int) -> W.Widget:
        options = [(label, i) for i, label in enumerate(labels)]
        buttons = W.ToggleButtons(options=options, index=start, description=description)
        buttons.style.button_width = "auto"
        return buttons

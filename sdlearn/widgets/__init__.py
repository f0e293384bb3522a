"""The controls of the notebooks.

Each shows itself as the last value of a cell and exposes what it shows: `.frames`, `.value`,
`.picture`. What only shows computed pictures scrubs in the browser alone, also when the kernel is
gone or the page is a saved site: a Tab with its bar hidden holds one `<img>` a page, and a
browser-side link moves it with the slider. What computes runs beside the notebook's own cells in
other threads; so there is one lock a control, and no state outside it.
"""

from sdlearn.widgets.base import setup
from sdlearn.widgets.live import LivePicture
from sdlearn.widgets.mask import MaskCanvas
from sdlearn.widgets.panel import PromptPanel
from sdlearn.widgets.scrubbers import AttentionOverlay, FrameScrubber, GridScrubber

__all__ = [
    "AttentionOverlay",
    "FrameScrubber",
    "GridScrubber",
    "LivePicture",
    "MaskCanvas",
    "PromptPanel",
    "setup",
]

"""Shorter lessons for the tests: the environment variable SDLEARN_QUICK cuts training cells."""

from __future__ import annotations

import os

SHARE = 6  # a quick run takes a sixth of the steps: enough to see a loss fall


def quick_steps(steps: int, at_least: int = 20) -> int:
    """How many training steps a lesson takes: ``steps``, or a sixth of them in the fast tests.

    The tests set ``SDLEARN_QUICK=1``; ``python run.py test --all`` and readers do not.

    Raises:
        ValueError: if ``steps`` is not a positive number.
    """
    if steps < 1:
        raise ValueError(f"steps must be 1 or more; got {steps}")
    if os.environ.get("SDLEARN_QUICK", "0") in ("", "0"):
        return steps
    return max(min(steps, at_least), steps // SHARE)

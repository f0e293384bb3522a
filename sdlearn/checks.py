"""Exercise checks: `check("03.2", answer)` says right, or not yet with a hint that does not give
the answer away, or not filled in yet. It never raises because of an answer.

An exercise is a function of the answer, registered under its chapter and number; they stand in
`sdlearn.chapters`. It returns a truth value, or yields `(truth value, hint)` pairs, of which the
first false one is shown. An answer is a number, a string, a tensor, a function, or a tuple of them.

    @exercise("03.2", hint="Which of the two terms grows with t?", right="The closed form.")
    def _(answer):
        yield close(answer(0.0), 1.0), "At t = 0 there is no noise yet: what is left then?"
        yield close(answer(0.5), 0.87, rtol=0.01), "Right at the ends; look at the root again."
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from sdlearn import inputs


class Exercise(NamedTuple):
    """A test of an answer, the hint where it gives none, and what is said after a right one."""

    test: Callable[[Any], Any]
    hint: str
    right: str


class Verdict(NamedTuple):
    """What came out: `state` is "right", "wrong" or "gap"; `text` is what the learner reads."""

    state: str
    text: str


class _GapFound(Exception):
    """The learner's function has not been written yet."""


EXERCISES: dict[str, Exercise] = {}
_GAP = "not filled in yet. Put your own code in place of the three dots and run the cell again."


def exercise(id: str, hint: str, right: str = "") -> Callable[[Callable], Callable]:
    """Register a test of an answer under `id` ("chapter.number").

    `hint` is shown where the test gives none of its own, `right` after a right answer.

    Raises:
        ValueError: if the number is taken.
    """

    def register(test: Callable) -> Callable:
        if id in EXERCISES:
            raise ValueError(f"Exercise {id} is registered twice: give one of them another number.")
        EXERCISES[id] = Exercise(test, hint, right)
        return test

    return register


def close(got: Any, want: Any, rtol: float = 1e-3, atol: float = 1e-6) -> bool:
    """Whether numbers, lists, arrays or tensors have the same shape and nearly the same values.

    False for what is no number at all.
    """
    try:
        got, want = (
            np.asarray(x.detach().cpu().double() if hasattr(x, "detach") else x)
            for x in (got, want)
        )
    except (TypeError, ValueError):  # ragged lists
        return False
    alike = got.dtype.kind in "biuf" and got.shape == want.shape
    return alike and bool(np.allclose(got, want, rtol=rtol, atol=atol))


def check(id: str, answer: Any) -> None:
    """Print whether `answer` solves exercise `id` ("03.2"), or what to think about next.

    Raises:
        ValueError: if there is no such exercise.
    """
    print(verdict_of(id, answer).text)


def verdict_of(id: str, answer: Any) -> Verdict:
    """What `check` prints. Chance is seeded: the same answer always gets the same verdict.

    Raises:
        ValueError: if there is no such exercise.
    """
    found = _find(str(id))
    try:
        if _is_gap(answer):
            raise _GapFound
        hint = _first_failing(found, answer)
    # RecursionError is an Exception; exit() is not, and must not end the learner's session
    except (Exception, SystemExit) as error:
        return _failed(id, found, answer, error)
    if hint is not None:
        return Verdict("wrong", f"{id}: not yet. {hint}")
    return Verdict("right", f"{id}: right. {found.right}".rstrip())


def _find(id: str) -> Exercise:
    """The exercise of this number. Its chapter is imported when it is first asked for."""
    name = f"sdlearn.chapters.ch{id[:2]}"
    if re.match(r"\d\d\.", id) and importlib.util.find_spec(name):
        importlib.import_module(name)
    if id in EXERCISES:
        return EXERCISES[id]
    known = 'they are named by chapter and number, like "03.2".'
    if chapter := [other for other in sorted(EXERCISES) if other[:2] == id[:2]]:
        known = f"this chapter has {', '.join(chapter)}."
    raise ValueError(f"There is no exercise {inputs.shown(id)}; {known}")


def _first_failing(found: Exercise, answer: Any) -> str | None:
    """The hint of the first test that the answer does not pass; None if it passes all."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outcome = found.test(_watched(answer))
        for ok, hint in outcome if inspect.isgenerator(outcome) else [(outcome, None)]:
            if not ok:
                return hint or found.hint
    return None


def _failed(id: str, found: Exercise, answer: Any, error: BaseException) -> Verdict:
    """What the learner reads when the answer, or the test of it, has raised an error."""
    try:
        text = (str(error).strip() or "no message").splitlines()[0].rstrip(".")
    except Exception:  # an error of the learner's own whose text cannot be made
        text = "no message"
    dots = isinstance(error, TypeError) and "ellipsis" in text
    if dots or isinstance(error, _GapFound | NotImplementedError):
        return Verdict("gap", f"{id}: {_GAP}")
    what = "the answer does not have the form that is asked for:"
    if isinstance(error, SystemExit):
        return Verdict("wrong", f"{id}: not yet; your code calls exit(). Take that out.")
    if any(map(callable, _leaves(answer))):
        what = "your code stopped with"
    if isinstance(error, RecursionError):
        text = "it calls itself without end"
    kind = type(error).__name__
    return Verdict("wrong", f"{id}: not yet; {what} {kind}: {text}. {found.hint}")


def _leaves(answer: Any, depth: int = 4) -> Iterator[Any]:
    """The answer's parts: what stands in its tuples, lists and dicts, a few levels deep."""
    if depth and isinstance(answer, dict):
        answer = list(answer.values())
    if depth and isinstance(answer, list | tuple):
        for part in answer:
            yield from _leaves(part, depth - 1)
    else:
        yield answer


def _is_gap(answer: Any) -> bool:
    """Three dots or nothing, also inside a tuple; text of only dots or blanks."""
    return any(
        leaf is None or leaf is ... or (isinstance(leaf, str) and not leaf.strip(". …"))
        for leaf in _leaves(answer)
    )


def _watched(answer: Any) -> Any:
    """The same answer; functions in it report a gap when they give nothing or three dots."""
    if isinstance(answer, dict):
        return {key: _watched(value) for key, value in answer.items()}
    if type(answer) in (list, tuple):
        return type(answer)(map(_watched, answer))
    if not inspect.isfunction(answer):
        return answer

    @functools.wraps(answer)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = answer(*args, **kwargs)
        if _is_gap(given):
            raise _GapFound
        return given

    return call

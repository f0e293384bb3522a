"""Exercise checks: a gap is a gap, every solution passes, every typical wrong answer is turned
away with a hint that keeps the secret.

CASES holds one line an exercise: its solution, and wrong answers as learners give them. The
notebooks in notebooks/solutions/ hold the same solutions.
"""

import re
import shutil
import subprocess
import sys
import threading
import tomllib
from pathlib import Path
from typing import NamedTuple

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from setuptools import find_packages

from sdlearn import checks, compression, noising
from sdlearn.chapters import (  # noqa: F401
    cascade,
    ch00,
    ch01,
    ch02,
    ch03,
    ch04,
    ch05,
    ch06,
    ch07,
    ch08,
)
from sdlearn.checks import EXERCISES, check, close, exercise, verdict_of


class Case(NamedTuple):
    solution: object
    wrong: list


CASES: dict[str, Case] = {}

# --------------------------------------------------------- cases, by chapter (each appends its own)

_four = [np.random.default_rng(i).integers(0, 255, (8, 8, 3), dtype=np.uint8) for i in range(4)]
CASES |= {
    "00.1": Case(65536, [1024, 128 * 128, 3 * 1024**2, 8 * 1024, 48]),
    "00.2": Case(
        lambda pictures, steps, scale: (1 if scale in (0, 1) else 2) * pictures * steps,
        [
            lambda pictures, steps, scale: pictures * steps,
            lambda pictures, steps, scale: 2 * pictures * steps,
            lambda pictures, steps, scale: (1 if scale == 1 else 2) * pictures * steps,
            lambda pictures, steps, scale: (1 if scale <= 1 else 2) * pictures * steps,
            lambda pictures, steps, scale: (1 if scale == 1 else 2) * steps,
            lambda pictures, steps, scale: scale * pictures * steps,
        ],
    ),
    "00.3": Case(_four, [_four[:3], [_four[0]] * 4, [_four[0], _four[1], _four[0], _four[2]]]),
}

_latent = torch.arange(256.0).reshape(1, 4, 8, 8)
CASES |= {
    "01.1": Case(
        lambda channels, factor: 3 * factor**2 / channels,
        [
            lambda c, f: f**2 / c,
            lambda c, f: c / (3 * f**2),
            lambda c, f: 3 * f / c,
            lambda c, f: 48,
        ],
    ),
    "01.2": Case(
        lambda a, b: 10 * torch.log10(4 / (a - b).square().mean()),
        [
            lambda a, b, peak=peak: 10 * torch.log10(peak / (a - b).square().mean())
            for peak in (1, 2, 255**2)
        ],
    ),
    "01.3": Case(
        lambda mean, logvar, noise: mean + torch.exp(logvar / 2) * noise,
        [
            lambda m, v, n: m + v.exp() * n,
            lambda m, v, n: m + v * n,
            lambda m, v, n: m + v.exp().sqrt(),
            lambda m, v, n: n + (v / 2).exp() * m,
        ],
    ),
    "01.4": Case(
        (_latent, torch.cat([_latent[..., :4], -_latent[..., 4:]], -1)),
        [(_latent, _latent.clone()), (_latent, -_latent - 1), (_latent, _latent[..., :4])],
    ),
}

_smooth = torch.linspace(-1, 1, 32).expand(3, 3, 32, 32)
_falling = torch.linspace(1, 0.1, 100)
CASES |= {
    "03.1": Case(
        lambda abar: (1 - abar) ** 0.5,
        [
            lambda a: 1 - a,
            lambda a: a**0.5,
            lambda a: 1.0,
            lambda a: 1 / (1 - a) ** 0.5,
            lambda a: 2 * (1 - a) ** 0.5,
        ],
    ),
    "03.2": Case(353, [354, 352, 999, 500, 0]),
    "03.3": Case(
        lambda x, v, abar: (
            abar**0.5 * v + (1 - abar) ** 0.5 * x,
            abar**0.5 * x - (1 - abar) ** 0.5 * v,
        ),
        [
            lambda x, v, abar: (
                abar**0.5 * x - (1 - abar) ** 0.5 * v,
                abar**0.5 * v + (1 - abar) ** 0.5 * x,
            ),
            lambda x, v, abar: (
                abar**0.5 * v - (1 - abar) ** 0.5 * x,
                abar**0.5 * x - (1 - abar) ** 0.5 * v,
            ),
            lambda x, v, abar: (
                abar**0.5 * v + (1 - abar) ** 0.5 * x,
                abar**0.5 * x + (1 - abar) ** 0.5 * v,
            ),
            lambda x, v, abar: (abar * v + (1 - abar) * x, abar * x - (1 - abar) * v),
        ],
    ),
    "03.4": Case(
        ("a wider net learns faster", _falling, _smooth),
        [
            ("fast", _falling, _smooth),
            ("a wider net learns faster", _falling[:20], _smooth),
            ("a wider net learns faster", _falling.flip(0), _smooth),
            ("a wider net learns faster", _falling / 0 * 0, _smooth),
            ("a wider net learns faster", _falling, _smooth[0]),
            (
                "a wider net learns faster",
                _falling,
                torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(0)),
            ),
        ],
    ),
}


CASES |= {
    "02.1": Case(
        lambda x, noise, t, s: (s / t) ** 0.5 * x + (1 - s / t) ** 0.5 * noise,
        [
            lambda x, noise, t, s: s**0.5 * x + (1 - s) ** 0.5 * noise,
            lambda x, noise, t, s: (s / t) ** 0.5 * x + (1 - s) ** 0.5 * noise,
            lambda x, noise, t, s: s / t * x + (1 - s / t) * noise,
            lambda x, noise, t, s: (t / s) ** 0.5 * x + noise,
        ],
    ),
    "02.2": Case(
        lambda x, score, abar: (x + (1 - abar) * score) / abar**0.5,
        [
            lambda x, score, abar: x + (1 - abar) * score,
            lambda x, score, abar: (x - (1 - abar) * score) / abar**0.5,
            lambda x, score, abar: (x - (1 - abar) ** 0.5 * score) / abar**0.5,
            lambda x, score, abar: (x + (1 - abar) * score) / abar,
        ],
    ),
    "02.3": Case(0.068, [1.0, 0.0047, 0.5, torch.zeros(2)]),
    "02.4": Case(
        lambda u: 1 - u,
        [
            lambda u: u,
            torch.ones_like,
            lambda u: 1 - u / 2,
            lambda u: (u < 0.5).float(),
            lambda u: torch.cos(20 * u),
            lambda u: 0.5 - u / 2,
            lambda u: 1 - u[:10],
        ],
    ),
}


def _attend(q, k, v, *, axis: int = -1, late: bool = False):
    scores = q @ k.T / q.shape[-1] ** 0.5
    future = torch.ones_like(scores, dtype=torch.bool).triu(1)
    if late:
        return scores.softmax(axis).masked_fill(future, 0) @ v
    return scores.masked_fill(future, -torch.inf).softmax(axis) @ v


def _weigh(states, empty, place, weight):
    out = states.clone()
    out[place] = empty[place] + weight * (states[place] - empty[place])
    return out


def _weigh_in_place(states, empty, place, weight):
    states[place] = empty[place] + weight * (states[place] - empty[place])
    return states


def _longer(states, empty, place, weight):
    out = states.clone()
    out[place] *= weight
    return out


_two = "a red house and a blue cat by day", "a blue house and a red cat by day"
CASES |= {
    "04.1": Case(
        _attend,
        [
            lambda q, k, v: _attend(q, k, v, axis=0, late=True),
            lambda q, k, v: _attend(q, k, v, late=True),
            lambda q, k, v: _attend(q, k, v, axis=0),
            lambda q, k, v: F.scaled_dot_product_attention(q[None], k[None], v[None])[0],
            lambda q, k, v: _attend(2 * q, k, v),
            lambda q, k, v: _attend(q, k, v)[0],
        ],
    ),
    "04.2": Case(
        _weigh,
        [
            _weigh_in_place,
            _longer,
            lambda s, e, place, w: e + w * (s - e),
            lambda s, e, place, w: _weigh(s, 0 * e, place, w),
            lambda s, e, place, w: _weigh(s, e, place, w**2),
            lambda s, e, place, w: s[place],
        ],
    ),
    "04.3": Case(
        torch.tensor(2.0).log().item(),
        [
            torch.tensor(192.0).log().item(),
            torch.tensor(96.0).log().item(),
            0,
            0.5,
            1,
            2 * torch.tensor(2.0).log().item(),
            "much",
        ],
    ),
    "04.4": Case(
        (*_two, [2, 3]),
        [
            (_two[0], _two[0], [3]),
            (_two[0], "a blue house", [2]),
            (*_two, []),
            (*_two, [1, 2, 3]),
            (*_two, [0]),
            (*_two, [90]),
            (*_two, [1]),
            5,
        ],
    ),
}


def _walk(levels, order: int = 1, looks: int = 1):
    """A sampler in units of sigma: Euler, or with the slope of the step before (order 2); `levels`
    gives the sigmas."""

    def sampler(predict, x):
        abar = noising.make_alphas_cumprod()
        table = ((1 - abar) / abar).double().numpy() ** 0.5
        sigma = [*levels(table), 0.0]
        z, before = x * sigma[0], None
        for i in range(len(sigma) - 1):
            for _ in range(looks):
                eps = predict(
                    z / (sigma[i] ** 2 + 1) ** 0.5,
                    np.interp(sigma[i], table, np.arange(len(table))),
                )
            d = sigma[i + 1] - sigma[i]
            slope = (
                eps
                if before is None or order == 1
                else eps + (eps - before) * d / (2 * (sigma[i] - sigma[i - 1]))
            )
            z, before = z + d * slope, eps
        return z

    return sampler


def _even(n):
    return lambda table: np.interp(np.linspace(len(table) - 1, 0, n), np.arange(len(table)), table)


def _karras(n, low, high, rho=7):
    return torch.linspace(high ** (1 / rho), low ** (1 / rho), n) ** rho


def _heun(join=lambda here, there: (here + there) / 2, at_zero=False):
    def step(slope, z, sigma_t, sigma_s):
        here = slope(z, sigma_t)
        landed = z + (sigma_s - sigma_t) * here
        if not sigma_s and not at_zero:
            return landed
        return z + (sigma_s - sigma_t) * join(here, slope(landed, sigma_s))

    return step


CASES |= {
    "05.1": Case(
        lambda x, eps, a_t, a_s: (
            a_s**0.5 * (x - (1 - a_t) ** 0.5 * eps) / a_t**0.5 + (1 - a_s) ** 0.5 * eps
        ),
        [
            lambda x, eps, a_t, a_s: (  # as it stands in the chapter
                a_s**0.5 * (x - (1 - a_t) * eps) / a_t**0.5 + (1 - a_t) ** 0.5 * eps
            ),
            lambda x, eps, a_t, a_s: (  # only one of the two faults mended
                a_s**0.5 * (x - (1 - a_t) ** 0.5 * eps) / a_t**0.5 + (1 - a_t) ** 0.5 * eps
            ),
            lambda x, eps, a_t, a_s: (
                a_s**0.5 * (x - (1 - a_t) * eps) / a_t**0.5 + (1 - a_s) ** 0.5 * eps
            ),
            lambda x, eps, a_t, a_s: (x - (1 - a_t) ** 0.5 * eps) / a_t**0.5,
            lambda x, eps, a_t, a_s: x - eps,
        ],
    ),
    "05.2": Case(
        _heun(),
        [
            _heun(lambda here, there: here),
            _heun(lambda here, there: there),
            _heun(lambda here, there: here + there),
            _heun(at_zero=True),
            lambda slope, z, t, s: z + (s - t) * slope(z + (s - t) / 2 * slope(z, t), (s + t) / 2),
        ],
    ),
    "05.3": Case(
        _karras,
        [
            lambda n, low, high: torch.linspace(high, low, n),
            lambda n, low, high: torch.linspace(high ** (1 / 7), low ** (1 / 7), n),
            lambda n, low, high: _karras(n, high, low),
            lambda n, low, high: _karras(n, low, high, rho=3),
            lambda n, low, high: torch.linspace(high**7, low**7, n) ** (1 / 7),
        ],
    ),
    "05.4": Case(
        _walk(lambda table: _karras(12, table[0], table[-1]), order=2),
        [
            _walk(_even(3)),  # too coarse
            _walk(_even(12), order=2, looks=2),  # looks twice as often as is allowed
            lambda predict, x: predict(x, 999),  # the noise, not the picture
            lambda predict, x: x[..., :1],
        ],
    ),
}


def _step(x, eps, here, there):
    return there**0.5 * (x - (1 - here) ** 0.5 * eps) / here**0.5 + (1 - there) ** 0.5 * eps


def _enter(skip, power=0.5):
    def enter(z, noise, alphas_cumprod, timesteps, strength):
        start = skip(len(timesteps), strength)
        a = alphas_cumprod[timesteps[start]]
        return start, a**power * z + (1 - a) ** power * noise

    return enter


def _strip(mask, by):
    mask.paste(255, (mask.width - by, 0, *mask.size))


def _room(way=-1, paint=_strip):
    def make_room(picture, by):
        moved, mask = Image.new("RGB", picture.size), Image.new("L", picture.size)
        moved.paste(picture, (way * by, 0))
        paint(mask, by)
        return moved, mask

    return make_room


def _look_twice(join):
    def second_look(predict, x, t, here, there):
        first = predict(x, t)
        second = predict(_step(x, first, here, there), t)
        return join(x, first, second, lambda x, eps: _step(x, eps, here, there))

    return second_look


_before, _after, _mask = (
    Image.new("RGB", (32, 32), "green"),
    Image.new("RGB", (32, 32), "green"),
    Image.new("L", (32, 32)),
)
_mask.paste(255, (16, 0, 32, 32))
_after.paste("red", (18, 4, 30, 28))
_white = Image.new("L", (32, 32), 255)
CASES |= {
    "06.1": Case(
        _enter(lambda n, strength: n - int(n * strength)),
        [
            lambda z, noise, abar, ts, s: (  # as it stands in the chapter
                int(len(ts) * s),
                abar[ts[int(len(ts) * s)]] * z + (1 - abar[ts[int(len(ts) * s)]]) * noise,
            ),
            _enter(lambda n, strength: int(n * strength)),
            _enter(lambda n, strength: int(n * (1 - strength))),
            _enter(lambda n, strength: n - int(n * strength), 1),
            _enter(lambda n, strength: max(n - int(n * strength), 1)),
        ],
    ),
    "06.2": Case(
        _room(),
        [
            _room(way=1),
            _room(paint=lambda mask, by: mask.paste(255, (0, 0, mask.width - by, mask.height))),
            _room(paint=lambda mask, by: mask.paste(255, (0, 0, *mask.size))),
            _room(paint=lambda mask, by: None),
            lambda picture, by: (picture, Image.new("L", picture.size)),
            lambda picture, by: (picture.crop((by, 0, *picture.size)), picture),
        ],
    ),
    "06.3": Case(
        _look_twice(lambda x, first, second, step: step(x, second)),
        [
            _look_twice(lambda x, first, second, step: step(x, first)),
            _look_twice(lambda x, first, second, step: step(step(x, first), second)),
            _look_twice(lambda x, first, second, step: step(x, (first + second) / 2)),
            _look_twice(lambda x, first, second, step: second),
        ],
    ),
    "06.4": Case(
        (_before, _mask, _after),
        [
            (_before, _mask, _before),
            (_before, _white, _after),
            (_before, _mask, Image.new("RGB", (32, 32), "red")),
            (_before, _mask, _after.resize((16, 16))),
            7,
        ],
    ),
}

_first = compression.to_images(torch.linspace(-1, 1, 64).expand(1, 3, 64, 64))[0]
_little = cascade.shrink(compression.to_tensor([_first]), 16)
_small = compression.to_images(_little)[0]
_large = compression.to_images(cascade.enlarge(_little, 64).roll(1, -1))[0]
CASES |= {
    "07.1": Case(
        lambda small, noise, a, side: cascade.enlarge(
            a**0.5 * small + (1 - a) ** 0.5 * noise, side
        ),
        [
            lambda s, n, a, side: cascade.enlarge(a * s + (1 - a) * n, side),
            lambda s, n, a, side: a**0.5 * s + (1 - a) ** 0.5 * n,
            lambda s, n, a, side: (
                a**0.5 * cascade.enlarge(s, side) + (1 - a) ** 0.5 * torch.randn(1, 3, side, side)
            ),
            lambda s, n, a, side: cascade.enlarge(s + (1 - a) ** 0.5 * n, side),
            lambda s, n, a, side: cascade.enlarge(s, side),
        ],
    ),
    "07.2": Case(
        lambda abar, k: 1 / (1 + k**2 * (1 - abar) / abar),
        [
            lambda abar, k: abar / k,
            lambda abar, k: 1 / (1 + k * (1 - abar) / abar),
            lambda abar, k: 1 / (1 + k**4 * (1 - abar) / abar),
            lambda abar, k: 1 - k * (1 - abar),
            lambda abar, k: abar,
        ],
    ),
    "07.3": Case(
        (_first, _small, _large),
        [
            (_first, _large, _small),
            (_first, _small, _first),
            (_first, _small.rotate(180), _large),
            (_first, _small, _large.rotate(180)),
            (_first, _first, _large),
        ],
    ),
}


def _amounts(a):
    return a**0.5 + (1 - a) ** 0.5


def _straight_step(size, way):
    def step(x, eps, a_t, a_s):
        s_t, s_s = ((1 - a) ** 0.5 / _amounts(a) for a in (a_t, a_s))
        x0 = (x - (1 - a_t) ** 0.5 * eps) / a_t**0.5
        return size(a_s) * (x / size(a_t) + way * (s_s - s_t) * (eps - x0))

    return step


def _curvature(y, s, power=2, weighed=True):
    time = s.diff().abs() if weighed else torch.ones(len(s) - 1) / (len(s) - 1)
    v, line = y.diff(dim=0) / s.diff()[:, None, None], (y[-1] - y[0]) / (s[-1] - s[0])
    apart = (v - line).norm(dim=-1) ** power
    return (apart * time[:, None]).sum(0) / line.norm(dim=-1) ** power / time.sum()


CASES |= {
    "08.1": Case(
        lambda x, eps, a_t, a_s: (
            a_s**0.5 * (x - (1 - a_t) ** 0.5 * eps) / a_t**0.5 + (1 - a_s) ** 0.5 * eps
        ),
        [
            _straight_step(lambda a: a + (1 - a), -1),  # as it stands in the chapter
            _straight_step(_amounts, -1),  # only one of the two faults mended
            _straight_step(lambda a: a + (1 - a), 1),
            lambda x, eps, a_t, a_s: _straight_step(_amounts, 1)(x, eps, a_t, a_s) / _amounts(a_s),
            lambda x, eps, a_t, a_s: x,
        ],
    ),
    "08.2": Case(
        _curvature,
        [
            lambda y, s: _curvature(y, s).mean(),
            lambda y, s: _curvature(y, torch.linspace(1, 0, len(s))),  # as if steps were even
            lambda y, s: _curvature(y, s) * ((y[0] - y[-1]) ** 2).sum(-1),
            lambda y, s: _curvature(y, s, power=1),
            lambda y, s: _curvature(y, s, weighed=False),
            lambda y, s: 2 * _curvature(y, s),
        ],
    ),
    "08.3": Case(
        [999, 299],
        [[999, 499, 99], [499, 99], [999, 1500], [99, 999], [999, 999], [999, 10.5], []],
    ),
}


# -------------------------------------------------------------------------------- all the exercises


def test_every_exercise_has_a_case_and_every_case_an_exercise():
    assert set(CASES) == set(EXERCISES)


@pytest.mark.parametrize("id", sorted(EXERCISES))
def test_exercise(id):
    solution, wrong = CASES[id]
    assert re.fullmatch(r"0\d\.\d+", id), "an exercise is named by chapter and number"
    assert verdict_of(id, ...).state == "gap"
    assert verdict_of(id, solution).state == "right", verdict_of(id, solution).text
    assert len(wrong) >= 2, "two typical wrong answers at least"
    for answer in wrong:
        verdict = verdict_of(id, answer)
        assert verdict.state == "wrong", f"{id} accepts {answer!r}"
        assert len(verdict.text) > len(f"{id}: not yet. ") + 10, "a wrong answer gets a hint"
        if (
            isinstance(solution, (int, float))
            and not isinstance(solution, bool)
            and (solution != int(solution) or abs(solution) >= 20)
        ):
            assert not re.search(
                rf"(?<![\d.]){re.escape(f'{solution:g}')}(?![\d]|\.\d)", verdict.text
            ), "the hint gives the number away"
        assert verdict_of(id, answer) == verdict, "the same answer, the same verdict"
    if callable(solution):
        assert verdict_of(id, lambda *args, **kwargs: ...).state == "gap"
        assert verdict_of(id, lambda *args, **kwargs: None).state == "gap"


# --------------------------------------------------------------------------------------- the engine


@pytest.fixture()
def registry(monkeypatch):
    """Two exercises of our own, in a registry that is gone after the test."""
    monkeypatch.setattr(checks, "EXERCISES", {})

    @exercise("90.1", hint="Count the channels too.", right="48 times fewer numbers.")
    def _(answer):
        return close(answer, 1024)

    @exercise("90.2", hint="Think of both ends.")
    def _(answer):
        yield (
            close(answer(torch.zeros(2)), torch.ones(2)),
            "What is left where nothing is taken away?",
        )
        yield close(answer(torch.ones(2)), torch.zeros(2)), ""

    @exercise("90.3", hint="It needs a function and its name.")
    def _(answer):
        function, name = answer
        yield function(3) == 9 and name == "square", None


def test_number(registry):
    assert verdict_of("90.1", 1024) == ("right", "90.1: right. 48 times fewer numbers.")
    assert verdict_of("90.1", 256) == ("wrong", "90.1: not yet. Count the channels too.")
    assert verdict_of("90.1", torch.tensor(1024.0)).state == "right"
    assert verdict_of("90.1", float("nan")).state == "wrong"
    assert verdict_of("90.1", "many").state == "wrong"


def test_function_shows_the_first_hint_that_applies(registry):
    assert verdict_of("90.2", lambda x: 1 - x).state == "right"
    assert (
        verdict_of("90.2", lambda x: x).text
        == "90.2: not yet. What is left where nothing is taken away?"
    )
    assert verdict_of("90.2", lambda x: 1 + 0 * x).text == "90.2: not yet. Think of both ends."
    assert verdict_of("90.2", lambda x: (1 - x)[:1]).state == "wrong", (
        "broadcasting must not hide a wrong shape"
    )


def unfinished(x):
    raise NotImplementedError


def half_done(x):
    share = ...
    return x * share


@pytest.mark.parametrize(
    "gap",
    [
        ...,
        None,
        "...",
        " ",
        "…",
        lambda x: ...,
        lambda x: None,
        lambda x: (x, ...),
        unfinished,
        half_done,
    ],
)
def test_gap(registry, gap):
    verdict = verdict_of("90.2", gap)
    assert verdict.state == "gap" and "not filled in yet" in verdict.text


def test_gap_inside_a_tuple(registry):
    assert verdict_of("90.3", (lambda x: x * x, ...)).state == "gap"
    assert verdict_of("90.3", (..., "square")).state == "gap"
    assert verdict_of("90.3", (lambda x: ..., "square")).state == "gap"
    assert verdict_of("90.3", (lambda x: x * x, "square")).state == "right"


def test_an_error_of_the_learner_is_one_sentence(registry):
    def broken(x):
        raise KeyError("abar\nsecond line")

    assert verdict_of("90.2", broken).text == (
        "90.2: not yet; your code stopped with KeyError: 'abar\\nsecond line'. Think of both ends."
    )
    assert verdict_of("90.2", lambda x: x.no_such_thing).text.startswith(
        "90.2: not yet; your code stopped with AttributeError: "
    )
    assert verdict_of("90.2", lambda: 0).state == "wrong"
    assert verdict_of("90.2", 7).text.startswith(
        "90.2: not yet; the answer does not have the form that is asked for: TypeError: "
    )
    assert verdict_of("90.3", 7).state == verdict_of("90.3", [1, 2, 3]).state == "wrong"
    assert all(verdict_of("90.2", answer).text.count("\n") == 0 for answer in (broken, 7))


def test_chance_is_seeded_and_given_back(registry):
    seen = []

    def guess(x):
        seen.append(torch.rand(()).item())
        return x

    torch.manual_seed(5)
    expected = torch.rand(3)[1:]
    torch.manual_seed(5)
    torch.rand(1)
    verdict_of("90.2", guess), verdict_of("90.2", guess)
    assert seen[0] == seen[1]
    torch.testing.assert_close(torch.rand(2), expected, rtol=0, atol=0)


def test_check_prints_and_gives_nothing_back(registry, capsys):
    assert check("90.1", 1024) is None and check("90.1", ...) is None
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("90.1: right.") and printed[1].startswith(
        "90.1: not filled in yet."
    )


def test_verdict_in_another_thread(registry):
    verdicts = []
    thread = threading.Thread(target=lambda: verdicts.append(verdict_of("90.2", lambda x: 1 - x)))
    thread.start()
    thread.join()
    assert verdicts == [verdict_of("90.2", lambda x: 1 - x)]


def test_no_such_exercise(registry):
    with pytest.raises(ValueError, match=r"no exercise '90.9'; this chapter has 90.1, 90.2, 90.3"):
        check("90.9", 1)
    with pytest.raises(ValueError, match="named by chapter and number"):
        check("first", 1)
    with pytest.raises(ValueError, match=r"90.1 is registered twice"):
        exercise("90.1", hint="")(print)


def test_close():
    assert (
        close([1.0, 2.0], torch.tensor([1.0, 2.0]))
        and close(3, 3.001)
        and close(torch.ones(2, requires_grad=True), [1, 1])
    )
    assert (
        not close([1.0], 1.0)
        and not close("1", 1)
        and not close(..., 1)
        and not close(None, 1)
        and not close([[1], [2, 3]], 1)
        and not close(1.01, 1)
    )


# ------------------------------------------------------------------------ what answers can do to us


def without_end(x):
    return without_end(x)


class Mute(Exception):
    def __str__(self):
        raise ValueError("no words")


def mute(x):
    raise Mute


@pytest.mark.parametrize(
    "answer, word",
    [
        (without_end, "without end"),
        (lambda x: exit(), r"exit\(\)"),
        (mute, "Mute: no message"),
        (lambda x: quit(3), r"exit\(\)"),
    ],
)
def test_no_answer_ends_the_session(registry, answer, word):
    """Endless recursion, exit() and an error that cannot be printed are wrong answers, no more."""
    verdict = verdict_of("90.2", answer)
    assert verdict.state == "wrong" and re.search(word, verdict.text)


def test_a_list_that_holds_itself(registry):
    endless = [1]
    endless.append(endless)
    assert verdict_of("90.1", endless).state == verdict_of("90.3", endless).state == "wrong"


def test_an_interrupt_is_the_learners(registry):
    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verdict_of("90.2", interrupted)


def test_a_chapter_is_found_by_its_number_alone():
    code = 'from sdlearn.checks import check; check("03.2", 499); check("05.2", ...)'
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "03.2: not yet" in done.stdout and "05.2: not filled in" in done.stdout


def test_every_package_is_installed():
    """A wheel holds all packages, so that a solution finds its chapter without the repository."""
    root = Path(__file__).resolve().parents[1]
    told = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"]
    listed = find_packages(root, include=told["packages"]["find"]["include"])
    paths = [*root.glob("sdlearn/**/*.py"), *root.glob("sdlearn/**/*.js")]
    assert set(listed) == {".".join(path.parent.relative_to(root).parts) for path in paths}
    assert {"*.js", "*.css"} <= set(told["package-data"]["*"]), "what the controls are drawn by"


def test_solutions_need_nothing_of_the_repository(tmp_path):
    """The cells of solution 03 up to its training, where only the package was copied to."""
    root = Path(__file__).resolve().parents[1]
    shutil.copytree(
        root / "sdlearn", tmp_path / "sdlearn", ignore=shutil.ignore_patterns("tiny_sd", "*.pyc")
    )
    path = root / "notebooks" / "solutions" / "03_unet_noise_prediction.ipynb"
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    code = "\n".join(cells[:-2]) + "\nprint(len(x_train), sdlearn.__file__)"
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-c",
            f"import sys; sys.path.insert(0, '.'); import sdlearn\n{code}",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"900 {tmp_path}" in done.stdout

"""Exercise checks: `check("03.2", answer)` says right, or not yet with a hint that does not give the answer away, or not filled in yet. It never raises.

An exercise is a function of the answer, registered under its chapter and number. It returns a truth value, or yields
`(truth value, hint)` pairs, of which the first false one is shown. An answer is a number, a string, a tensor, a function, or a tuple of them.

    @exercise("03.2", hint="Which of the two terms grows with t?", right="That is the closed form.")
    def _(answer):
        yield close(answer(0.0), 1.0), "At t = 0 there is no noise yet: what is left then?"
        yield close(answer(0.5), 0.87, rtol=0.01), "Right at the ends; look at the square root again."
"""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Exercise(NamedTuple):
    test: Callable
    hint: str
    right: str


class Verdict(NamedTuple):
    """What came out: `state` is "right", "wrong" or "gap"; `text` is what the learner reads."""

    state: str
    text: str


class _GapFound(Exception):
    """The learner's function has not been written yet."""


EXERCISES: dict[str, Exercise] = {}


def exercise(id: str, hint: str, right: str = ""):
    """Register a test of an answer under `id` ("chapter.number"). `hint` is shown where the test gives none of its own, `right` after a right answer."""

    def register(test: Callable) -> Callable:
        if id in EXERCISES:
            raise ValueError(f"Exercise {id} is registered twice: give one of them another number.")
        EXERCISES[id] = Exercise(test, hint, right)
        return test

    return register


def close(got, want, rtol: float = 1e-3, atol: float = 1e-6) -> bool:
    """Whether two numbers, lists, arrays or tensors have the same shape and nearly the same values. False for what is no number at all."""
    try:
        got, want = (
            np.asarray(x.detach().cpu().double() if hasattr(x, "detach") else x)
            for x in (got, want)
        )
    except (TypeError, ValueError):  # ragged lists
        return False
    return (
        got.dtype.kind in "biuf"
        and got.shape == want.shape
        and bool(np.allclose(got, want, rtol=rtol, atol=atol))
    )


def check(id: str, answer) -> None:
    """Print whether `answer` solves exercise `id` ("03.2"), or what to think about next."""
    print(judge(id, answer).text)


def judge(id: str, answer) -> Verdict:
    """What `check` prints, as a Verdict. Chance is seeded, so the same answer always gets the same verdict.

    Raises:
        ValueError: if there is no such exercise.
    """
    import torch

    if id not in EXERCISES:
        chapter = [known for known in sorted(EXERCISES) if known[:2] == str(id)[:2]]
        raise ValueError(
            f"There is no exercise {id!r}; "
            + (
                f"this chapter has {', '.join(chapter)}."
                if chapter
                else 'they are named by chapter and number, like "03.2".'
            )
        )
    found = EXERCISES[id]
    try:
        if _is_gap(answer):
            raise _GapFound
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            outcome = found.test(_watched(answer))
            for ok, hint in outcome if inspect.isgenerator(outcome) else [(outcome, found.hint)]:
                if not ok:
                    return Verdict("wrong", f"{id}: not yet. {hint or found.hint}")
    except Exception as error:
        text = (str(error).strip() or "no message").splitlines()[0]
        if isinstance(error, (_GapFound, NotImplementedError)) or (
            isinstance(error, TypeError) and "ellipsis" in text
        ):
            return Verdict(
                "gap",
                f"{id}: not filled in yet. Put your own code in place of the three dots and run the cell again.",
            )
        what = (
            "your code stopped with"
            if _holds_code(answer)
            else "the answer does not have the form that is asked for:"
        )
        return Verdict(
            "wrong",
            f"{id}: not yet; {what} {type(error).__name__}: {text.rstrip('.')}. {found.hint}",
        )
    return Verdict("right", f"{id}: right. {found.right}".rstrip())


def _parts(answer) -> list:
    return (
        list(answer.values())
        if isinstance(answer, dict)
        else list(answer)
        if isinstance(answer, (list, tuple))
        else []
    )


def _is_gap(answer) -> bool:
    """Three dots or nothing, also inside a tuple; text of only dots or blanks."""
    return (
        answer is None
        or answer is ...
        or (isinstance(answer, str) and not answer.strip(". …"))
        or any(map(_is_gap, _parts(answer)))
    )


def _holds_code(answer) -> bool:
    return callable(answer) or any(map(_holds_code, _parts(answer)))


def _watched(answer):
    """The same answer; functions in it report a gap when they give back nothing or three dots."""
    if isinstance(answer, dict):
        return {key: _watched(value) for key, value in answer.items()}
    if type(answer) in (list, tuple):
        return type(answer)(map(_watched, answer))
    if not inspect.isfunction(answer):
        return answer

    @functools.wraps(answer)
    def call(*args, **kwargs):
        given = answer(*args, **kwargs)
        if _is_gap(given):
            raise _GapFound
        return given

    return call


# ------------------------------------------------------------------------------------------ the exercises, by chapter

# 00 First image


@exercise(
    "00.1",
    hint="Multiply each shape out, then divide: larger by smaller.",
    right="The loop never touches most of the numbers you see.",
)
def _(answer):
    yield (
        not close(answer, 1 / 48),
        "That is how many canvas numbers there are for one of the picture: turn it round.",
    )
    yield (
        not close(answer, 64),
        "That counts places. How many numbers has a place of the picture, and how many a place of the canvas?",
    )
    yield close(answer, 48), None


@exercise(
    "00.2",
    hint="Count the looks for one picture in one step first.",
    right="Guidance doubles the work.",
)
def _(answer):
    yield (
        not close(answer(1, 25), 25),
        "At each step the canvas is seen with your sentence and also without it.",
    )
    yield (
        close(answer(1, 25), 50) and close(answer(2, 45), 180),
        "Two sentences, each picture, each step.",
    )


@exercise(
    "00.3",
    hint="Call sample with your sentence four times in a list, and a list of four seeds.",
    right="What you did not say, the seed decided.",
)
def _(answer):
    pictures = [np.asarray(picture, dtype=float) for picture in answer]
    yield (
        len(pictures) == 4 and all(p.ndim == 3 for p in pictures),
        "Four pictures in one list, please.",
    )
    yield (
        all(np.abs(a - b).mean() > 0.5 for i, a in enumerate(pictures) for b in pictures[:i]),
        "Two of them are the same picture: did they get different seeds?",
    )


# 01 Latent compression


@exercise(
    "01.1",
    hint="How many numbers does a patch hold, and how many does it become?",
    right="The side of the picture does not matter.",
)
def _(answer):
    yield answer(4, 8) > 1, "Numbers in BY numbers out: which is the larger one?"
    yield (
        close(answer(4, 16) / answer(4, 8), 4),
        "A patch twice as wide holds how many times as many pixels?",
    )
    yield (
        close(answer(4, 8) / answer(8, 8), 2),
        "More channels keep more numbers: the ratio must fall.",
    )
    yield close(answer(4, 8), 3 * 64 / 4), "How many numbers does ONE pixel hold?"


@exercise(
    "01.2",
    hint="What is the largest error that two numbers from -1 to 1 can have?",
    right="255 is the distance from black to white; so is your number.",
)
def _(answer):
    import torch

    a, error = torch.rand(2, 3, 8, 8) * 1.8 - 0.9, 0.1 * torch.rand(2, 3, 8, 8)
    got = answer(a, a + error)
    want = 10 * torch.log10(4 / error.square().mean())
    yield (
        not close(got, want - 10 * torch.log10(torch.tensor(4.0))),
        "That is right for pictures from 0 to 1. How far apart are black and white here?",
    )
    yield (
        not close(got, want - 10 * torch.log10(torch.tensor(2.0))),
        "Nearly: look at the formula, is the peak squared?",
    )
    yield close(got, want), None


@exercise(
    "01.3",
    hint="How does one get from the logarithm of a variance to a standard deviation?",
    right="Gradients flow through mean and standard deviation.",
)
def _(answer):
    import torch

    mean, logvar, noise = torch.randn(3, 1, 4, 8, 8)
    yield close(answer(mean, logvar, 0 * noise), mean), "Without noise, the mean must come out."
    yield (
        close(answer(mean, 0 * logvar, noise), mean + noise),
        "Where the logarithm of the variance is 0, the standard deviation is 1.",
    )
    yield (
        not close(answer(mean, logvar, noise), mean + logvar.exp() * noise),
        "You stretch by the variance; its root is wanted.",
    )
    yield close(answer(mean, logvar, noise), mean + (logvar / 2).exp() * noise), None


@exercise(
    "01.4",
    hint="Begin with first.clone() and assign to a part of it.",
    right="How do the seams look: harder or softer than a cut with scissors?",
)
def _(answer):
    first, mine = answer
    yield (
        tuple(mine.shape) == tuple(first.shape),
        f"The latent must keep its shape, {tuple(first.shape)}.",
    )
    yield bool(mine.isfinite().all()), "Some of its numbers are infinite or not a number."
    changed = ((mine - first).abs().amax(1) > 1e-6).float().mean().item()
    yield changed > 0.02, "Nearly nothing is changed yet: change a part that one can see."
    yield changed < 0.98, "Nothing of the first scene is left: keep a part of it."


# 03 U-Net noise prediction


@exercise(
    "03.1",
    hint="The mean is 1 - 2 c sqrt(1 - abar) + c^2: where is its slope 0?",
    right="What is left of the loss is abar: the more noise, the less there is to do.",
)
def _(answer):
    import torch

    abar = torch.tensor([0.1, 0.36, 0.5, 0.75, 0.99])
    got = [float(answer(a)) for a in abar]
    yield (
        not close(got, 1 - abar),
        "That is the noise's share of the variance. How is the input correlated with the noise?",
    )
    yield not close(got, abar**0.5), "That is the picture's factor in x_t; which one has the noise?"
    yield (
        got[0] > got[-1],
        "Near abar = 0 the input IS the noise, near 1 it has nearly none: how much of it should be handed back?",
    )
    yield close(got, (1 - abar) ** 0.5), None


@exercise(
    "03.2",
    hint="Where does the factor (1 - abar) / abar pass 1?",
    right="From there on the picture is harder to name than the noise.",
)
def _(answer):
    from sdlearn.noising import make_alphas_cumprod

    last = int((make_alphas_cumprod() > 0.5).sum()) - 1
    yield (
        not close(answer, last + 1),
        "There the picture's error is the larger one for the first time; one step earlier.",
    )
    yield close(answer, last), None


@exercise(
    "03.3",
    hint="Section 11 has both formulas; which needs the plus?",
    right="Any sampler made for noise can now run on such a network.",
)
def _(answer):
    import torch

    noise, x0 = torch.randn(2, 2, 4, 8, 8)
    for abar in torch.tensor([0.9, 0.3]):
        a, s = abar**0.5, (1 - abar) ** 0.5
        noise_pred, x0_pred = answer(a * x0 + s * noise, a * noise - s * x0, abar)
        yield (
            not (close(noise_pred, x0, 1e-3, 1e-4) and close(x0_pred, noise, 1e-3, 1e-4)),
            "Both are right; give the noise first, then the picture.",
        )
        yield (
            close(x0_pred, x0, 1e-3, 1e-4),
            "The noise or the picture: look at the picture again, its signs and which root stands where.",
        )
        yield close(noise_pred, noise, 1e-3, 1e-4), "The picture is right, the noise not yet."


@exercise(
    "03.4",
    hint="Hand in (a sentence, the loss of each step, a few pictures).",
    right="It learnt. Was your prediction right? If not, what did it leave out?",
)
def _(answer):
    import torch

    expected, losses, pictures = answer
    losses = torch.as_tensor(losses).detach().float().flatten()
    yield len(str(expected).split()) >= 4, "Say in a sentence what you expected, before the run."
    yield len(losses) >= 50, f"{len(losses)} steps are too few to see anything; train at least 50."
    yield (
        bool(losses.isfinite().all()),
        "The loss became infinite: the learning rate is probably too high.",
    )
    tenth = len(losses) // 10
    yield (
        losses[-tenth:].mean() < 0.6 * losses[:tenth].mean(),
        "The loss hardly fell: does the optimizer step, and is the learning rate large enough?",
    )
    yield (
        pictures.ndim == 4 and pictures.shape[1] == 3 and bool(pictures.isfinite().all()),
        "The pictures should be a tensor (n, 3, 16, 16) of finite numbers, from ddim.",
    )
    rough = (pictures - pictures.roll(1, -1)).square().mean() / (2 * pictures.var())
    yield (
        rough < 0.7,
        "The pictures are still noise: neighbouring pixels have nothing to do with each other. Train longer, or draw with the running mean.",
    )


# 02 Forward noising


@exercise(
    "02.1",
    hint="What does the second step do to the noise of the first, before it adds its own?",
    right="It is 1 minus the product of what the steps leave.",
)
def _(answer):
    yield not close(answer, 0.3), "The second step also turns the first one's noise down."
    yield not close(answer, 0.72), "That is the share of the picture."
    yield close(answer, 0.28), None


@exercise(
    "02.2",
    hint="First the SNR of every timestep; then, where does it become true that it is smaller?",
    right="The same line finds where any two schedules agree.",
)
def _(answer):
    from sdlearn.noising import make_alphas_cumprod, snr

    for schedule, wanted in (("scaled_linear", 1.0), ("cosine", 0.25), ("scaled_linear", 9.0)):
        abar = make_alphas_cumprod(schedule)
        got, want = int(answer(wanted, abar)), int((snr(abar) < wanted).sum().neg() + len(abar))
        yield got != want - 1, "One too early: there the SNR is not below yet."
        yield (
            got != int((abar >= wanted).sum()),
            "Alpha-bar is the share of the picture alone; the SNR compares it with the noise.",
        )
        yield got == want, None


@exercise(
    "02.3",
    hint="Solve the closed form for the picture: what has to go, and what stands in front of it?",
    right="A perfect guess of the noise is a perfect picture.",
)
def _(answer):
    import torch

    x0, noise = torch.randn(2, 2, 4, 8, 8)
    for abar in (0.5, 0.9, 0.05):
        x_t = abar**0.5 * x0 + (1 - abar) ** 0.5 * noise
        got = answer(x_t, noise, abar)
        yield (
            not close(got, abar**0.5 * x0, 1e-3, 1e-4),
            "The noise is out, but the picture is still turned down.",
        )
        yield not close(got, x_t - noise), "How much of that noise was put in?"
        yield close(got, x0, 1e-3, 1e-4), None


@exercise(
    "02.4",
    hint="Try the ends: what does your function give at u = 0, and at u = 1?",
    right="Compare it with the others below: are its steps where they are needed?",
)
def _(answer):
    import torch

    abar = torch.as_tensor(answer(torch.linspace(0, 1, 1000))).float()
    yield tuple(abar.shape) == (1000,), "One alpha-bar for each u, please."
    yield (
        bool(abar.isfinite().all()) and 0 <= abar.min() <= abar.max() <= 1,
        "Alpha-bar is a share: it must stay between 0 and 1.",
    )
    yield (
        bool((abar.diff() <= 1e-6).all()),
        "Somewhere it rises: noise cannot leave the picture on the way forward.",
    )
    yield abar[0] >= 0.98, "The first step already takes away too much: start close to 1."
    yield abar[-1] <= 0.005, "Too much of the picture is left at the end."
    yield (
        ((abar > 0.1) & (abar < 0.9)).float().mean() > 0.1,
        "It falls off a cliff: hardly a step lies between nearly clean and nearly gone.",
    )


@exercise(
    "04.1",
    hint="Walk once from left to right; compare the last piece kept with the next one.",
    right="Repeated until no pair is on the list, this is byte-pair encoding.",
)
def _(answer):
    yield (
        list(answer(["s", "n", "o", "w"], ("n", "o"))) == ["s", "no", "w"],
        "One pair in the middle: the pieces before and after it stay as they are.",
    )
    yield (
        list(answer(["a", "b", "a", "b"], ("a", "b"))) == ["ab", "ab"],
        "Every occurrence is glued, not only the first.",
    )
    yield list(answer(["a", "b"], ("b", "a"))) == ["a", "b"], "The order within the pair counts."
    yield (
        list(answer(["a", "a", "a"], ("a", "a"))) == ["aa", "a"],
        "Three equal pieces in a row: no piece can be used twice.",
    )
    yield list(answer(["a"], ("a", "b"))) == ["a"], "A single piece has no neighbour: it stays."


@exercise(
    "04.2",
    hint="torch.ones(n, n), cut along its diagonal.",
    right="Training sees every prefix of a sentence at once, and none of them can cheat.",
)
def _(answer):
    import torch

    got, n = answer(5), torch.arange(5)
    yield tuple(got.shape) == (5, 5), "The mask has a row and a column for each of the n tokens."
    yield (
        close(got.diagonal(), torch.ones(5)),
        "May a token look at itself? What would the first one look at otherwise?",
    )
    yield (
        not bool(got[0, -1]),
        "Row i is the token that looks, column j the one that is looked at: the first token must not see the last.",
    )
    yield close(got, n[:, None] >= n), "The last token has read the whole sentence."
    yield got.dtype == torch.bool, "The values are right; make them True and False."


@exercise(
    "04.3",
    hint="Who knows nothing finds all candidates equally likely; what does the log make of that?",
    right="More rivals, a harder game: CLIP likes large batches.",
)
def _(answer):
    import math

    yield (
        not close(answer, 192),
        "That is the number of candidates; the loss is the negative logarithm of a probability.",
    )
    yield not close(answer, 2 * math.log(192)), "Rows and columns are averaged, not added."
    yield (
        not close(answer, math.log2(192)),
        "Right with bits; log_softmax uses the natural logarithm.",
    )
    yield close(answer, math.log(192)), None


@exercise(
    "04.4",
    hint="Average the heads away, pick a column, fold it into a square.",
    right="Average that over layers and steps too, and you have text.average_maps.",
)
def _(answer):
    import torch

    listens = torch.rand(4, 36, 9).softmax(-1)
    got, want = answer(listens, 3), listens.mean(0)[:, 3].view(6, 6)
    yield tuple(got.shape) == (6, 6), "36 pixels are a square of 6 x 6, one number each."
    yield (
        not close(got, listens.sum(0)[:, 3].view(6, 6)),
        "Nearly: the heads are averaged, so that each pixel's shares still sum to 1.",
    )
    yield not close(got, want.T), "Rows and columns are swapped: pixels are counted row by row."
    yield (
        close(got, want),
        "One token's share in each pixel, averaged over the heads, and nothing else.",
    )


@exercise(
    "04.5",
    hint="Swap one word of the world for another of the same kind.",
    right="Count the pixels below, and compare with your other tries.",
)
def _(answer):
    from sdlearn import world

    before, after = (str(prompt).lower().split() for prompt in answer)
    yield before != after, "The two prompts are the same: swap a word."
    yield (
        len(before) == len(after),
        "Swap one word for one other: both prompts need the same number of words.",
    )
    swapped = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
    yield (
        len(swapped) == 1,
        f"{len(swapped)} words differ; change only one, or you cannot tell which of them did it.",
    )
    pair = {word.strip(",.") for word in swapped[0]}
    yield (
        any(
            pair <= set(words)
            for words in (world.KINDS, world.COLOURS, world.PLACES, world.TIMES, world.POSITIONS)
        ),
        (
            "Swap within one list, a colour for a colour or a place for a place: world.KINDS, COLOURS, PLACES, TIMES and POSITIONS hold the words the model knows."
        ),
    )


# 05 Full sampling


@exercise(
    "05.1",
    hint="Guidance walks from one prediction towards another, and beyond it.",
    right="That is all a negative prompt is: another place to walk away from.",
)
def _(answer):
    import torch

    unwanted, told = torch.randn(2, 1, 4, 8, 8)
    yield (
        close(answer(unwanted, told, 0.0), unwanted),
        "At scale 0 the prompt counts for nothing: what is left?",
    )
    yield (
        close(answer(unwanted, told, 1.0), told, atol=1e-5),
        "At scale 1 the prediction with the prompt must come out, as it is.",
    )
    yield (
        close(answer(unwanted, told, 5.0), 5 * told - 4 * unwanted, atol=1e-4),
        "Right at 0 and 1, but the way must be one straight line, also beyond 1.",
    )


@exercise(
    "05.2",
    hint="Two lines: the picture that the network imagines, then chapter 02's closed form with it.",
    right="Repeat it from level to level, and a picture is drawn.",
)
def _(answer):
    import torch

    x0, eps = torch.randn(2, 1, 4, 8, 8)
    a_t, a_s = torch.tensor(0.3), torch.tensor(0.6)
    x_t = a_t**0.5 * x0 + (1 - a_t) ** 0.5 * eps
    got = answer(x_t, eps, a_t, a_s)
    yield (
        not close(got, x0, atol=1e-4),
        "That is the imagined picture itself; a step goes only as far as the next level.",
    )
    yield (
        close(answer(x_t, eps, a_t, a_t), x_t, atol=1e-4),
        "A step from a level to the same level must change nothing.",
    )
    yield (
        close(answer(x_t, eps, a_t, torch.tensor(1.0)), x0, atol=1e-4),
        "A step to the level without noise must arrive at the imagined picture.",
    )
    yield (
        close(got, a_s**0.5 * x0 + (1 - a_s) ** 0.5 * eps, atol=1e-4),
        "Right at both ends; but how much picture and how much noise belong to level a_s?",
    )


@exercise(
    "05.3",
    hint="Even steps in the rho-th root, from the largest down to the smallest; then the rho-th power of it all.",
    right="Most steps now go where little noise is left and the details are made.",
)
def _(answer):
    import torch

    got = torch.as_tensor(answer(9, 0.03, 14.6))
    yield tuple(got.shape) == (9,), "n levels are wanted, a tensor of shape (n,)."
    yield (
        bool((got.diff() < 0).all()),
        "Sampling goes from much noise to little: the levels must fall.",
    )
    yield close(got[[0, -1]], [14.6, 0.03]), "The first level is sigma_max, the last is sigma_min."
    yield (
        not close(got, torch.linspace(14.6, 0.03, 9)),
        "These steps are even; take the root of both ends first.",
    )
    root = torch.linspace(14.6 ** (1 / 7), 0.03 ** (1 / 7), 9)
    yield not close(got, root), "Nearly: the levels are still the roots."
    yield (
        close(got, root**7, rtol=1e-3),
        "The ends are right, the levels between them are not: rho is 7.",
    )


@exercise(
    "05.4",
    hint="Keep the slope of the step before, or choose better levels, or look twice and average.",
    right="Nearer than twelve steps of DDIM. See its picture below.",
)
def _(answer):
    import torch

    from sdlearn import noising, sampling

    # a world whose noise and whose paths are known exactly: numbers of spread 1/2 around 0 (see tests/test_sampling.py)
    abar, spread, looks = noising.make_alphas_cumprod(), 0.5, []
    sigmas = ((1 - abar) / abar).double().numpy() ** 0.5

    def predict(x, t, *_):
        looks.append(t)
        sigma = float(np.interp(float(t), np.arange(len(sigmas)), sigmas))
        return x * (sigma**2 + 1) ** 0.5 * sigma / (spread**2 + sigma**2)

    x = torch.linspace(-2, 2, 9).reshape(1, 1, 3, 3)
    end = x * (sigmas[-1] ** 2 + 1) ** 0.5 * spread / (spread**2 + sigmas[-1] ** 2) ** 0.5
    ddim = [u.prev_latents for u in sampling.ddim(predict, x, abar, 12, 0, None)][-1]
    looks.clear()
    got = answer(predict, x.clone())
    yield (
        tuple(got.shape) == tuple(x.shape) and bool(got.isfinite().all()),
        "Give back the finished latents: the shape of x, every number finite.",
    )
    yield 0 < len(looks) <= 12, f"It looked {len(looks)} times at the network; 12 are allowed."
    mine, theirs = ((y - end).abs().max().item() / end.max().item() for y in (got, ddim))
    yield (
        mine < theirs,
        f"It runs; its error is {mine:.0%} where twelve steps of DDIM have {theirs:.0%}.",
    )


# 06 Editing


@exercise(
    "06.1",
    hint="How many steps are run? The others are skipped.",
    right="The more is skipped, the more of the picture is left.",
)
def _(answer):
    yield answer(1.0, 25) == 0, "Strength 1 runs all the steps: how many are skipped?"
    yield (
        answer(0.2, 25) != 5,
        "That is how many steps are run; the loop begins with the noisiest, and those are the ones to skip.",
    )
    yield (
        answer(0.2, 25) == 20 and answer(0.6, 50) == 20,
        "Run the given share of the steps, skip the rest.",
    )
    yield (
        answer(0.5, 25) == 13 and answer(0.79, 10) == 3 and isinstance(answer(0.5, 25), int),
        "Whole steps only: what is left over of a step is not run.",
    )


@exercise(
    "06.2",
    hint="Two products and a sum: which part is kept where the mask is 0?",
    right="Three lines of code, and a model that was never trained for it can repaint.",
)
def _(answer):
    import torch

    imagined, known = torch.randn(2, 1, 4, 8, 8)
    mask = (torch.rand(1, 1, 8, 8) < 0.5).float()
    want = mask * imagined + (1 - mask) * known
    got = answer(imagined, known, mask)
    yield (
        not close(got, mask * known + (1 - mask) * imagined),
        "The other way round: white, 1, is what shall be repainted.",
    )
    yield (
        close(answer(imagined, known, torch.ones_like(mask)), imagined),
        "Where the mask is 1 everywhere, only what was imagined must be left.",
    )
    yield (
        close(got, want),
        "Where the mask is 0, the picture's own noised latents must stand, unchanged.",
    )


@exercise(
    "06.3",
    hint="Imagine the clean picture from the level where you are, then add the same noise for the level where you go.",
    right="DDIM does not mind which way it goes.",
)
def _(answer):
    import torch

    x0, eps = torch.randn(2, 1, 4, 8, 8)
    here, there = torch.tensor(0.8), torch.tensor(0.5)
    x = here**0.5 * x0 + (1 - here) ** 0.5 * eps
    got = answer(x, eps, here, there)
    yield (
        not close(got, there**0.5 * x + (1 - there) ** 0.5 * eps),
        "That takes x for a clean picture, but it carries noise already: take that away first.",
    )
    yield (
        not close(got, x),
        "Nothing has changed: the noise in x is that of the level where you are, not of the one where you go.",
    )
    yield (
        close(answer(x, eps, here, here), x),
        "Going nowhere (both levels equal) must change nothing.",
    )
    yield close(got, there**0.5 * x0 + (1 - there) ** 0.5 * eps), None


@exercise(
    "06.4",
    hint="Give (picture before, mask, picture after), all PIL images of one size.",
    right="What the words could not do is as telling as what they could.",
)
def _(answer):
    before, mask, after = (np.asarray(image.convert("RGB"), dtype=float) for image in answer)
    yield before.shape == mask.shape == after.shape, "All three need the same size."
    light = mask[..., 0] > 127
    yield (
        0.01 < light.mean() < 0.99,
        "The mask must leave a part of the picture alone and free another.",
    )
    change = np.abs(after - before).mean(2)
    yield (
        change[light].mean() > 3,
        "Inside the mask nearly nothing has changed: ask for something that was not there.",
    )
    yield (
        change[~light].mean() < 20,
        "Outside the mask the picture is another one: it should have been kept.",
    )

"""Chapter 02: each displayed formula, its tolerance stated; the functions the notebook defines are
tested as they stand in it."""

import json
import math
from pathlib import Path

import pytest
import torch

from sdlearn import models, noising
from sdlearn.chapters import ch02
from sdlearn.noising import (
    Schedule,
    add_noise,
    make_alphas_cumprod,
    make_betas,
    rescale_zero_terminal_snr,
    snr,
)

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "02_forward_noising.ipynb"
SCHEDULES = {
    "linear": "linear",
    "scaled_linear": "scaled_linear",
    "cosine": "squaredcos_cap_v2",
}  # ours: diffusers' name


def noise_like(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def from_notebook(name: str, **given):
    """A function as the learner reads it, cut out of the notebook's cell that defines it; `given`
    are the names it takes from other cells."""
    cells = [
        "".join(c["source"])
        for c in json.loads(NOTEBOOK.read_text())["cells"]
        if c["cell_type"] == "code"
    ]
    found = [c for c in cells if f"def {name}(" in c]
    assert len(found) == 1, f"{name} is defined in {len(found)} cells"
    lines = found[0].splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(f"def {name}("))
    end = next(
        (
            i
            for i in range(first + 1, len(lines))
            if lines[i] and not lines[i].startswith((" ", ")"))
        ),
        len(lines),
    )
    scope = {"torch": torch, "noising": noising, **given}
    exec("\n".join(lines[first:end]), scope)
    return scope[name]


# ----------------------------------------------------------------------------------- Gaussian noise


def test_sum_of_two_noises_is_noise_whose_variance_adds():
    """std(a e1 + b e2) = sqrt(a^2 + b^2); 400,000 numbers: the standard error is 0.1 %, 0.5 % is
    allowed. And it is Gaussian: 68.27 % within one std."""
    for a, b in ((0.6, 0.8), (1.0, 1.0), (0.1, 2.0)):
        both = a * noise_like(400_000, seed=1) + b * noise_like(400_000, seed=2)
        std = math.hypot(a, b)
        assert both.std().item() == pytest.approx(std, rel=5e-3)
        assert (both.abs() < std).float().mean().item() == pytest.approx(0.6827, abs=5e-3)


def test_noise_lives_on_a_shell():
    """|e| = sqrt(n) give or take sqrt(1/2), whatever n: five standard deviations are allowed."""
    for n in (1024, 49_152):
        lengths = torch.stack([noise_like(n, seed=s).norm() for s in range(50)])
        assert (lengths - n**0.5).abs().max() < 5 * 0.5**0.5
        assert lengths.std().item() == pytest.approx(0.5**0.5, rel=0.4)


# ----------------------------------------------------------------------------- one step, many steps


def test_one_step_keeps_the_variance():
    """sqrt(1 - beta) x + sqrt(beta) e: variance 1 stays 1 (standard error 0.0022 at 400,000
    numbers, 0.01 allowed); the mean shrinks by sqrt(1 - beta)."""
    one_step = from_notebook("one_step")
    for beta in (0.0, 0.00085, 0.012, 0.5, 1.0):
        x = 0.5 + noise_like(400_000, seed=3)
        after = one_step(x, beta, noise_like(400_000, seed=4))
        assert after.var().item() == pytest.approx(1, abs=0.01)
        assert after.mean().item() == pytest.approx(0.5 * math.sqrt(1 - beta), abs=0.01)
    x, e = noise_like(8, seed=5), noise_like(8, seed=6)
    assert torch.equal(one_step(x, 0.0, e), x) and torch.equal(one_step(x, 1.0, e), e)


def test_two_steps_are_one():
    """The bracket of the proof: alpha_2 beta_1 + beta_2 = 1 - alpha_1 alpha_2, for all pairs of
    neighbours; float64, 1e-15."""
    betas = make_betas().double()
    a, b = 1 - betas[:-1], 1 - betas[1:]
    torch.testing.assert_close(b * betas[:-1] + betas[1:], 1 - a * b, rtol=0, atol=1e-15)


def test_closed_form_equals_a_simulation_of_single_steps():
    """20,000 numbers walked through all 1000 steps one by one: mean sqrt(abar) x0 and variance 1 -
    abar at every step.

    Standard errors: mean sqrt(var / N) <= 0.0071, variance var sqrt(2 / N) <= 0.01; five of them
    are allowed.
    """
    one_step, (count, start) = from_notebook("one_step"), (20_000, 0.8)
    generator = torch.Generator().manual_seed(0)
    for schedule in SCHEDULES:
        betas, abar = make_betas(schedule), make_alphas_cumprod(schedule)
        x = torch.full((count,), start)
        for t, beta in enumerate(betas):
            x = one_step(x, beta, torch.randn(count, generator=generator))
            variance = 1 - abar[t].item()
            assert x.mean().item() == pytest.approx(
                abar[t].item() ** 0.5 * start, abs=5 * (variance / count) ** 0.5
            )
            assert x.var().item() == pytest.approx(variance, abs=5 * variance * (2 / count) ** 0.5)


def test_closed_form_has_the_same_mean_and_variance():
    x = add_noise(torch.full((1, 200_000), 0.8), noise_like(1, 200_000), 400, make_alphas_cumprod())
    abar = make_alphas_cumprod()[400].item()
    assert x.mean().item() == pytest.approx(abar**0.5 * 0.8, abs=0.01)
    assert x.var().item() == pytest.approx(1 - abar, rel=0.01)


def test_without_shrinking_the_variance_grows_to_the_sum_of_betas():
    """x + sqrt(beta) e, 1000 times: variance 1 + sum(beta); 20,000 numbers, standard error 1 %, 4 %
    allowed."""
    generator, x = torch.Generator().manual_seed(0), noise_like(20_000, seed=1)
    for beta in make_betas():
        x = x + beta**0.5 * torch.randn(x.shape, generator=generator)
    assert x.var().item() == pytest.approx(1 + make_betas().sum().item(), rel=0.04)


# ------------------------------------------------------------------------------- equal to diffusers


@pytest.mark.parametrize("ours, theirs", SCHEDULES.items())
def test_schedules_equal_diffusers(ours, theirs):
    scheduler = models.build_scheduler(beta_schedule=theirs)
    assert torch.equal(make_alphas_cumprod(ours), scheduler.alphas_cumprod)
    assert torch.equal(make_betas(ours), scheduler.betas)


def test_cosine_schedule_is_the_papers_formula():
    """abar_t = f(t) / f(0), f(u) = cos^2((u + s) / (1 + s) pi / 2): 1e-5 wherever the cap of 0.999
    on beta does not bite."""
    u = torch.arange(1, 1000, dtype=torch.float64) / 1000
    f = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    torch.testing.assert_close(
        make_alphas_cumprod("cosine")[:-1].double(),
        f / math.cos(0.008 / 1.008 * math.pi / 2) ** 2,
        rtol=0,
        atol=1e-5,
    )


def test_add_noise_equals_diffusers():
    scheduler, abar = models.build_scheduler(), make_alphas_cumprod()
    x0, noise = noise_like(5, 4, 8, 8, seed=1), noise_like(5, 4, 8, 8, seed=2)
    t = torch.tensor([0, 1, 500, 998, 999])
    assert torch.equal(add_noise(x0, noise, t, abar), scheduler.add_noise(x0, noise, t))
    for i, one in enumerate(t.tolist()):
        assert torch.equal(add_noise(x0, noise, one, abar)[i], scheduler.add_noise(x0, noise, t)[i])


def test_the_notebooks_own_closed_form_equals_ours():
    noised, abar = from_notebook("noised"), make_alphas_cumprod()
    x0, noise = noise_like(2, 4, 8, 8, seed=1), noise_like(2, 4, 8, 8, seed=2)
    for t in (0, 37, 999):
        assert torch.equal(noised(x0, noise, abar[t]), add_noise(x0, noise, t, abar))


def test_alphas_cumprod_falls_from_nearly_one():
    for schedule in SCHEDULES:
        abar = make_alphas_cumprod(schedule)
        assert abar.shape == (1000,) and abar.dtype == torch.float32
        assert abar[0] > 0.999 and (abar.diff() < 0).all() and 0 < abar[-1] < 0.01


# --------------------------------------------------------------------------------- signal and noise


def test_snr_is_the_ratio_of_two_measured_variances():
    """var(sqrt(abar) x0) / var(sqrt(1 - abar) e) for x0 of variance 1: 400,000 numbers, standard
    error 0.3 %, 1.5 % allowed."""
    abar = make_alphas_cumprod()
    x0, noise = noise_like(1, 400_000, seed=1), noise_like(1, 400_000, seed=2)
    for t in (0, 250, 999):
        signal, rest = add_noise(x0, 0 * noise, t, abar), add_noise(0 * x0, noise, t, abar)
        assert snr(abar)[t].item() == pytest.approx((signal.var() / rest.var()).item(), rel=0.015)
    at = int((snr(abar) < 1).nonzero()[0])
    assert snr(abar)[at] < 1 <= snr(abar)[at - 1] and abar[at] < 0.5 <= abar[at - 1]


def test_averaging_n_equal_numbers_multiplies_the_snr_by_n():
    """Blocks of 8 x 8 equal pixels: the noise's variance in a block's mean is (1 - abar) / 64;
    4,096 blocks, standard error 2 %, 8 % allowed."""
    abar = make_alphas_cumprod()
    means = torch.nn.functional.avg_pool2d(
        add_noise(torch.zeros(1, 1, 512, 512), noise_like(1, 1, 512, 512), 600, abar), 8
    )
    assert means.var().item() == pytest.approx((1 - abar[600].item()) / 64, rel=0.08)


# ------------------------------------------------------------------------------ the ideal detective


def test_posterior_is_bayes_rule():
    """Against the Gaussian densities of torch.distributions, float64, 1e-9; and each row sums to
    1."""
    posterior, abar = from_notebook("posterior"), 0.05
    gallery = noise_like(7, 30, seed=1).double()
    x_t = abar**0.5 * gallery[[2, 5]] + (1 - abar) ** 0.5 * noise_like(2, 30, seed=2).double()
    found = posterior(x_t, gallery, abar)
    density = (
        torch.distributions.Normal(abar**0.5 * gallery, (1 - abar) ** 0.5)
        .log_prob(x_t[:, None])
        .sum(-1)
    )
    torch.testing.assert_close(found, density.softmax(1), rtol=0, atol=1e-9)
    torch.testing.assert_close(found.sum(1), torch.ones(2, dtype=torch.float64))


def test_posterior_tells_the_truth():
    """Of the times it says 70-80 %, it is right 70-80 % of the time: a calibrated answer (12,000
    questions, at least 1,000 a bin: standard error 0.013, 0.05 allowed)."""
    posterior, abar = from_notebook("posterior"), 0.05
    gallery = noise_like(6, 40, seed=1)
    truth = torch.arange(6).repeat(2000)
    weights = posterior(
        abar**0.5 * gallery[truth] + (1 - abar) ** 0.5 * noise_like(12_000, 40, seed=2),
        gallery,
        abar,
    )
    sure, guess = weights.max(1)
    for low in (0.3, 0.5, 0.7, 0.9):
        inside = (sure >= low) & (sure < low + 0.1)
        assert inside.sum() > 1000
        assert (guess == truth)[inside].float().mean().item() == pytest.approx(
            sure[inside].mean().item(), abs=0.05
        )


def test_posterior_knows_nothing_where_nothing_is_left():
    posterior, gallery = from_notebook("posterior"), noise_like(5, 20)
    torch.testing.assert_close(
        posterior(noise_like(3, 20, seed=1), gallery, 0.0), torch.full((3, 5), 0.2)
    )


def test_beliefs_are_sums_of_the_posterior():
    """How sure of an answer = the sum over the scenes that give it; so each question's answers sum
    to 1, 1e-6."""
    facts = [("day", "snow"), ("day", "sea"), ("night", "snow"), ("night", "sea")]
    shares = ch02.answers(torch.tensor([0.1, 0.2, 0.3, 0.4]), facts, ["time", "place"])
    assert {q: {a: round(v, 6) for a, v in given.items()} for q, given in shares.items()} == {
        "time": {"day": 0.3, "night": 0.7},
        "place": {"snow": 0.4, "sea": 0.6},
    }


def test_recognition_is_certain_without_noise_and_chance_without_picture():
    """16 scenes of two questions (2 and 8 answers), 15 noises each: all right at the first
    timestep, exactly 1/16, 1/2 and 1/8 where alpha-bar is 0."""
    facts = [(i % 2, i // 2) for i in range(16)]
    agree = {
        q: torch.tensor([[float(a[i] == b[i]) for b in facts] for a in facts])
        for i, q in enumerate(("two", "eight"))
    }
    abar, posterior = make_alphas_cumprod(), from_notebook("posterior")
    recognised = from_notebook(
        "recognised",
        T=1000,
        alphas_cumprod=abar,
        posterior=posterior,
        agree=agree,
        gaussian=lambda shape, seed: noise_like(*shape, seed=seed),
    )
    gallery = noise_like(16, 4, 8, 8, seed=9)
    assert recognised(gallery, 0) == {"whole scene": 1, "two": 1, "eight": 1}
    assert recognised(gallery, 999, rescale_zero_terminal_snr(abar)) == {
        "whole scene": 1 / 16,
        "two": 1 / 2,
        "eight": 1 / 8,
    }
    between = recognised(gallery, 950)
    assert 1 / 16 < between["whole scene"] < between["two"] < 1


def test_an_answer_is_weighed_over_all_scenes_that_give_it():
    """Scene 0 is the likeliest with 0.4, but scenes 1 and 2 agree on the other answer with 0.6
    together: that one is the guess."""
    agree = {"two": torch.tensor([[1.0, 0, 0], [0, 1, 1], [0, 1, 1]])}
    weights = torch.tensor([[0.4, 0.3, 0.3]]).repeat(3, 1)
    given = {
        "posterior": lambda *_: weights,
        "agree": agree,
        "gaussian": lambda shape, seed: noise_like(*shape),
    }
    recognised = from_notebook("recognised", T=1000, alphas_cumprod=make_alphas_cumprod(), **given)
    found = recognised(torch.zeros(3, 1, 2, 2), 500, noises=1)
    assert found["whole scene"] == pytest.approx(1 / 3) and found["two"] == pytest.approx(2 / 3)


# ----------------------------------------------------------------------------- arrows and ways back


def test_the_score_is_the_average_noise_turned_round():
    """grad log p_t = -E[noise | x_t] / sqrt(1 - abar): the notebook's detective against the
    gradient that autograd takes of the log density of noised points, float64, 1e-9."""
    abar, points = make_alphas_cumprod().double(), noise_like(9, 2, seed=1).double()
    posterior = from_notebook("posterior")
    given = dict(alphas_cumprod=abar, posterior=posterior, points=points)
    detective = from_notebook("detective", **given)
    for t in (50, 400, 900):
        x = noise_like(30, 2, seed=t).double().requires_grad_()
        bells = torch.distributions.Normal(abar[t] ** 0.5 * points, (1 - abar[t]) ** 0.5)
        log_density = bells.log_prob(x[:, None]).sum(-1).logsumexp(1)
        (gradient,) = torch.autograd.grad(log_density.sum(), x)
        mean = posterior(x.detach(), points, abar[t]) @ points
        average_noise = (x.detach() - abar[t] ** 0.5 * mean) / (1 - abar[t]) ** 0.5
        torch.testing.assert_close(
            gradient, -average_noise / (1 - abar[t]) ** 0.5, rtol=0, atol=1e-9
        )
        torch.testing.assert_close(gradient, detective(x.detach(), t), rtol=0, atol=1e-9)


@pytest.mark.parametrize("chance", [False, True])
def test_both_ways_back_end_at_the_data(chance):
    """With the exact score of a bell, mean 0.7 and standard deviation 0.4: 20,000 points end there,
    within 0.02 (standard errors 0.003, the rest is the last step's size)."""
    abar, betas, (mean, std) = make_alphas_cumprod(), make_betas(), (0.7, 0.4)

    def score(x, t):
        variance = abar[t] * std**2 + 1 - abar[t]
        return -(x - abar[t] ** 0.5 * mean) / variance

    back = from_notebook("back", T=1000, betas=betas)
    start = abar[-1] ** 0.5 * mean + (abar[-1] * std**2 + 1 - abar[-1]) ** 0.5 * noise_like(20_000)
    *_, end = back(start, score, chance)
    assert end.mean().item() == pytest.approx(mean, abs=0.02)
    assert end.std().item() == pytest.approx(std, abs=0.02)


def test_the_loss_of_the_notebook_is_least_at_the_average_noise():
    """A network that answers with the detective's noise has a smaller loss than one that says 0,
    and than one whose answer is scaled by 0.9 or 1.1."""
    abar, points = make_alphas_cumprod(), noise_like(200, 2, seed=1)
    posterior = from_notebook("posterior")

    def answering(scale):
        def net(x, time):
            a = abar[(time * 1000).round().long()][:, None]
            weights = torch.cat([posterior(x[i, None], points, a[i]) for i in range(len(x))])
            return scale * (x - a**0.5 * (weights @ points)) / (1 - a) ** 0.5

        return net

    given = dict(points=points, T=1000, alphas_cumprod=abar)
    losses = {}
    for scale in (0, 0.9, 1, 1.1):
        torch.manual_seed(0)
        losses[scale] = from_notebook("loss", net=answering(scale), **given)(2000).item()
    assert losses[1] < min(losses[0.9], losses[1.1]) and losses[0] == pytest.approx(1, abs=0.1)


def test_small_world_holds_every_scene_once():
    facts, pictures = ch02.small_world(["snow", "sea"], ["red"], ["cat", "duck"])
    assert len(facts) == len(set(facts)) == len(pictures) == 12
    assert facts[0][1:] == ("snow", "red", "cat") and {fact[1] for fact in facts} == {"snow", "sea"}
    assert len({picture.tobytes() for picture in pictures}) == 12


def test_moved_compares_scenes_that_differ_in_one_fact():
    """Four scenes in a plane: time moves them by 3, place by 4; pairs that differ in both, 5 apart,
    are left out."""
    facts = [("day", "sea"), ("day", "snow"), ("night", "sea"), ("night", "snow")]
    agree = ch02.agreement(facts, ["time", "place"])
    worlds = [torch.tensor([[0.0, 0], [0, 4], [3, 0], [3, 4]])]
    assert ch02.moved(worlds, agree, "time").tolist() == pytest.approx([3])
    assert ch02.moved(worlds, agree, "place").tolist() == pytest.approx([4])
    along = ch02.from_to(worlds[0][:2], worlds[0][2:])
    torch.testing.assert_close(along, torch.tensor([1.0, 0.0]))


def test_deciding_share_counts_the_steps_between_lost_and_sure():
    """Recognised 90 % at abar 0.5 and 20 % at abar 0.1: of a schedule that falls evenly from 1 to 0
    two fifths lie between; a pure end does not disturb."""
    abar = torch.linspace(1, 0, 1001)[1:]
    share = ch02.deciding_share(abar, torch.tensor([0.5, 0.1]), [0.9, 0.2])
    assert share == pytest.approx(0.4, abs=2e-3)


# -------------------------------------------------------------------------- the end of the schedule


def test_rescaled_schedule_ends_in_pure_noise():
    for schedule in SCHEDULES:
        abar = make_alphas_cumprod(schedule)
        new = rescale_zero_terminal_snr(abar)
        assert new[-1] == 0 and snr(new)[-1] == 0
        assert new[0].item() == pytest.approx(abar[0].item(), abs=1e-6)
        assert (new.diff() < 0).all() and (new <= abar + 1e-7).all()
        noise = noise_like(1, 4, 8, 8)
        assert torch.equal(add_noise(torch.full_like(noise, 9.0), noise, len(abar) - 1, new), noise)


def test_rescaled_schedule_equals_diffusers():
    """diffusers goes back through betas, which rounds: 1e-6."""
    theirs = models.build_scheduler(rescale_betas_zero_snr=True).alphas_cumprod
    torch.testing.assert_close(
        rescale_zero_terminal_snr(make_alphas_cumprod()), theirs, rtol=0, atol=1e-6
    )


# ---------------------------------------------------------------------------------- the schedule


@pytest.mark.parametrize("steps", [1, 2, 7, 25, 333, 500, 501, 999, 1000])
@pytest.mark.parametrize("spacing", ["leading", "linspace", "linspace_open", "trailing"])
def test_timesteps_of_each_spacing_equal_diffusers(spacing, steps):
    """As its schedulers place them: "linspace" is Euler's, "linspace_open" DPM-Solver's. (Left out
    is what goes wrong there: "leading" of all steps begins beyond the schedule, at 1000; one step
    of "linspace" at the clean picture; all of DPM-Solver's hold one twice.)"""
    if (spacing, steps) in {("leading", 1000), ("linspace", 1), ("linspace_open", 1000)}:
        assert Schedule.named().timesteps(spacing, steps)[0] == 999
        return
    sampler = {"linspace": "euler", "linspace_open": "dpm++"}.get(spacing, "ddim")
    scheduler = models.build_scheduler(sampler)
    scheduler.register_to_config(timestep_spacing=spacing.removesuffix("_open"))
    scheduler.set_timesteps(steps)
    ours = Schedule.named().timesteps(spacing, steps)
    assert ours == pytest.approx(scheduler.timesteps.tolist(), rel=1e-6)
    assert len(set(ours)) == steps and ours == sorted(ours, reverse=True)


def test_sigmas_and_betas_are_the_same_schedule_in_other_units(pipe):
    """sigma = sqrt((1 - abar) / abar), with diffusers' Euler to 1e-5; betas those it was made of,
    1e-6; and a pipeline's schedule is the one of its scheduler."""
    schedule = Schedule.of(pipe)
    assert torch.equal(schedule.alphas_cumprod, pipe.scheduler.alphas_cumprod)
    assert schedule.num_train_timesteps == 1000 and schedule.prediction_type == "epsilon"
    torch.testing.assert_close(schedule.betas, make_betas(), rtol=0, atol=1e-6)
    euler = models.build_scheduler("euler")
    euler.set_timesteps(1000)
    torch.testing.assert_close(schedule.sigmas.flip(0), euler.sigmas[:-1], rtol=1e-5, atol=1e-5)
    halfway = schedule.sigma_at([3.5]).item()
    assert schedule.sigmas[3] < halfway < schedule.sigmas[4]


# -------------------------------------------------------------------------------------- mistakes

X = torch.zeros(2, 4, 8, 8)
MISTAKES = {
    "whole numbers": (
        lambda: add_noise(X.to(torch.uint8), X, 5, make_alphas_cumprod()),
        "which no share of noise fits into",
    ),
    "steps": (lambda: Schedule.named().timesteps("leading", 0), "whole number from 1 to 1000"),
    "spacing": (
        lambda: Schedule.named().timesteps("even", 5),
        "Unknown spacing 'even': choose leading, linspace, linspace_open, trailing or lcm.",
    ),
    "shares": (lambda: Schedule(torch.full((9,), math.nan)), "shares from 0 to 1"),
    "prediction": (
        lambda: Schedule(make_alphas_cumprod(), "sample"),
        "This model predicts 'sample'",
    ),
    "schedule": (
        lambda: make_betas("quadratic"),
        "Unknown schedule 'quadratic': choose linear, scaled_linear or cosine.",
    ),
    "no steps": (lambda: make_betas(num_train_timesteps=0), "at least one step"),
    "beta": (
        lambda: make_betas(beta_end=1.2),
        "0 < beta_start <= beta_end < 1; got 1000 steps, 0.00085 and 1.2.",
    ),
    "too late": (
        lambda: add_noise(X, X, 1000, make_alphas_cumprod()),
        "run from 0 to 999; got 1000",
    ),
    "too early": (
        lambda: add_noise(X, X, torch.tensor([0, -1]), make_alphas_cumprod()),
        "run from 0 to 999; got -1",
    ),
    "between": (lambda: add_noise(X, X, 500.5, make_alphas_cumprod()), "whole numbers"),
    "shape": (lambda: add_noise(X, X[:, :1], 5, make_alphas_cumprod()), "its own noise"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_clear_sentence(name):
    mistake, says = MISTAKES[name]
    with pytest.raises(ValueError) as caught:
        mistake()
    message = str(caught.value)
    assert says in message and message.endswith(".") and "\n" not in message and len(message) < 170


def test_nothing_global_is_touched():
    x0, noise, abar = noise_like(1, 4, 8, 8), noise_like(1, 4, 8, 8, seed=1), make_alphas_cumprod()
    kept, state = (x0.clone(), noise.clone(), abar.clone()), torch.get_rng_state()
    add_noise(x0, noise, 5, abar), rescale_zero_terminal_snr(abar), snr(abar)
    assert all(map(torch.equal, kept, (x0, noise, abar))) and torch.equal(
        state, torch.get_rng_state()
    )
    assert noising.add_noise(x0.half(), noise.half(), 5, abar).dtype == torch.float16

"""Samplers, guidance and the whole loop: each against diffusers' own scheduler or pipeline, each
formula against what it claims."""

import itertools
import threading
import warnings

import numpy as np
import pytest
import torch
from cells import part

from sdlearn import hub, models, sampling
from sdlearn.compression import decode_latents
from sdlearn.noising import Schedule, add_noise
from sdlearn.text import encode_prompt

SCHEDULE = Schedule.named()
ABAR = SCHEDULE.alphas_cumprod
SAMPLERS = list(sampling.SAMPLERS)
PROMPT = "a red house in the snow at night"

# without the trained tokenizer every word is unknown: those warnings are tested below, where they
# belong
pytestmark = pytest.mark.filterwarnings("ignore:This model has never seen")


class Moons:
    """Stands in for chapters.field where a cell asks for its points."""

    def __init__(self, points):
        self.points = points

    def cloud(self, *_):
        return self.points, torch.arange(len(self.points)) % 2


def gauss(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fresh(shape, seed=1):
    """What a sampler asks for new noise."""
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator)


def network(x, t):
    """A cheap stand-in for a U-Net: nonlinear, and it depends on the timestep."""
    return torch.tanh(1.3 * x) * (0.4 + 0.6 * t / 1000) + 0.1 * x.roll(1, -1)


def run(sampler, x, steps, predict=network, seed=1, start=0, **options):
    """All updates of one of our samplers."""
    timesteps = SCHEDULE.timesteps(sampling.SPACINGS[sampler], steps)[start:]
    if sampler in ("ddim", "ddpm"):
        options["noise"] = fresh(x.shape, seed)
    return list(sampling.SAMPLERS[sampler](predict, x, SCHEDULE, timesteps, **options))


def run_diffusers(sampler, x, steps, predict=network, seed=1, **options):
    """The same loop with diffusers' scheduler: (timesteps, latents after each step in its own
    scaling)."""
    scheduler = models.build_scheduler(sampler)
    scheduler.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    options |= {} if sampler == "dpm++" else {"generator": generator}
    x, latents = x * scheduler.init_noise_sigma, []
    for t in scheduler.timesteps:
        x = scheduler.step(
            predict(scheduler.scale_model_input(x, t), t.item()), t, x, **options
        ).prev_sample
        latents.append(x)
    return scheduler.timesteps.tolist(), latents


# ------------------------------------------------------------------------- one step and whole loops


@pytest.mark.parametrize("steps", [2, 7, 25, 45])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_each_sampler_equals_diffusers(sampler, steps):
    """Same timesteps, same final latents; tolerance 1e-5 (2e-5 for the two that count in sigma),
    measured 0 to 7e-6."""
    x = gauss(3, 4, 8, 8)
    ours, (timesteps, theirs) = run(sampler, x, steps), run_diffusers(sampler, x, steps)
    assert [u.timestep for u in ours] == pytest.approx(timesteps)
    torch.testing.assert_close(
        ours[-1].prev_latents,
        theirs[-1],
        atol=2e-5 if sampler in ("euler", "dpm++") else 1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("steps", [1, 2, 4, 8, 50])
def test_lcm_equals_diffusers(steps):
    """The same timesteps, and every step of diffusers' LCMScheduler; tolerance 1e-5. With one
    generator for both, so that fresh noise is the same."""
    x, scheduler = gauss(2, 4, 8, 8), models.build_scheduler("lcm")
    scheduler.set_timesteps(steps)
    timesteps = SCHEDULE.timesteps("lcm", steps)
    assert timesteps == scheduler.timesteps.tolist()
    ours = sampling.lcm(network, x, SCHEDULE, timesteps, noise=fresh(x.shape))
    generator = torch.Generator().manual_seed(1)
    for update, t in zip(ours, scheduler.timesteps, strict=True):
        out = scheduler.step(network(x, t.item()), t, x, generator=generator)
        torch.testing.assert_close(update.pred_original_sample, out.denoised, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(update.prev_latents, out.prev_sample, atol=1e-5, rtol=1e-5)
        x = out.prev_sample


def test_a_consistency_function_keeps_what_is_clean():
    """c_skip and c_out at t = 0 are 1 and 0; elsewhere as diffusers has them."""
    assert sampling.boundary(0) == (1, 0)
    for t in (1, 19, 500, 999):
        theirs = models.build_scheduler("lcm").get_scalings_for_boundary_condition_discrete(t)
        assert sampling.boundary(t) == pytest.approx(theirs)


def test_a_few_step_model_takes_no_more_steps_than_it_was_taught():
    with pytest.raises(ValueError, match=r"from 1 to 50; got 51\. 4 is"):
        SCHEDULE.timesteps("lcm", 51)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_each_step_equals_diffusers(sampler):
    """DDIM and DDPM keep their latents in diffusers' own scaling, so every single step can be
    compared."""
    x = gauss(2, 4, 8, 8)
    for ours, theirs in zip(run(sampler, x, 10), run_diffusers(sampler, x, 10)[1], strict=True):
        torch.testing.assert_close(ours.prev_latents, theirs, atol=1e-5, rtol=1e-5)


def test_euler_and_dpm_steps_equal_diffusers():
    """Euler's latents are scaled back by sqrt(sigma^2 + 1), so that every sampler reports unit
    variance."""
    x = gauss(2, 4, 8, 8)
    scheduler = models.build_scheduler("euler")
    scheduler.set_timesteps(10)
    for ours, theirs, sigma in zip(
        run("euler", x, 10), run_diffusers("euler", x, 10)[1], scheduler.sigmas[1:], strict=True
    ):
        torch.testing.assert_close(
            ours.prev_latents, theirs / (sigma**2 + 1) ** 0.5, atol=1e-5, rtol=1e-5
        )
    for ours, theirs in zip(run("dpm++", x, 10), run_diffusers("dpm++", x, 10)[1], strict=True):
        torch.testing.assert_close(ours.prev_latents, theirs, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddim_with_fresh_noise_equals_diffusers(eta):
    x = gauss(2, 4, 8, 8)
    torch.testing.assert_close(
        run("ddim", x, 10, eta=eta)[-1].prev_latents,
        run_diffusers("ddim", x, 10, eta=eta)[1][-1],
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("steps", [1, 501, 999, 1000])
def test_fewest_and_most_steps_stay_finite(sampler, steps):
    updates = run(sampler, gauss(1, 4, 4, 4), steps)
    timesteps = [u.timestep for u in updates]
    assert len(updates) == steps
    assert max(timesteps) <= 999 and min(timesteps) >= 0
    assert all(a > b for a, b in itertools.pairwise(timesteps)), "no timestep may come twice"
    assert all(torch.isfinite(u.prev_latents).all() for u in updates)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_perfect_prediction_arrives_at_the_picture(sampler):
    """If the noise is predicted exactly, every sampler ends at x0 (ddim keeps the noise of the
    schedule's first level, 3 % of it)."""
    x0 = gauss(1, 4, 4, 4, seed=3)

    def exact(x, t):
        i = int(t)
        abar = ABAR[i] + (t - i) * (ABAR[min(i + 1, 999)] - ABAR[i])
        return (x - abar**0.5 * x0) / (1 - abar) ** 0.5

    final = run(sampler, gauss(1, 4, 4, 4), 20, exact)[-1]
    torch.testing.assert_close(final.pred_original_sample, x0, atol=0.15, rtol=0)
    assert (final.prev_latents - x0).std() < 0.06


# ---------------------------------------------------------------------------- the formulas, by name


@pytest.mark.parametrize(("steps", "index"), [(25, 4), (50, 34), (999, 940)])
def test_posterior_mean_and_variance_by_simulation(steps, index):
    """q(x_prev | x_t, x0), which a DDPM step draws from, against a million simulated forward steps;
    tolerance 1 % of its own spread."""
    timesteps, stride = SCHEDULE.timesteps("leading", steps)[index:], 1000 // steps
    t = timesteps[0]
    abar, abar_prev, x0, n = ABAR[t].double(), ABAR[t - stride].double(), 0.7, 1_000_000
    alpha = abar / abar_prev
    g = torch.Generator().manual_seed(0)
    x_prev = abar_prev**0.5 * x0 + (1 - abar_prev) ** 0.5 * torch.randn(
        n, generator=g, dtype=torch.float64
    )
    x_t = alpha**0.5 * x_prev + (1 - alpha) ** 0.5 * torch.randn(
        n, generator=g, dtype=torch.float64
    )
    slope = (
        torch.cov(torch.stack([x_prev, x_t]))[0, 1] / x_t.var()
    )  # Gaussians: the mean of x_prev given x_t is a straight line in x_t

    def simulated(x):
        return x_prev.mean() + slope * (x - x_t.mean())

    spread = (x_prev - simulated(x_t)).std()
    x = torch.tensor([[-1.0, 0.0, 1.5]], dtype=torch.float64)

    def step(noise):  # with the noise that belongs to this x0
        return next(
            sampling.ddpm(
                lambda x, _: (x - abar**0.5 * x0) / (1 - abar) ** 0.5,
                x,
                Schedule(ABAR.double()),
                timesteps,
                noise=lambda: torch.full_like(x, noise),
            )
        ).prev_latents

    assert (step(0.0) - simulated(x)).abs().max() < 0.01 * spread
    assert ((step(1.0) - step(0.0)) / spread - 1).abs().max() < 0.01


@pytest.mark.parametrize(("a_t", "a_s"), [(0.2, 0.3), (0.5, 0.51), (0.04, 0.9)])
def test_posterior_by_precisions_equals_the_multiplied_form(a_t, a_s):
    """Chapter 05, section 1: 1 / v = alpha / (1 - alpha) + 1 / (1 - a_s), and the mean weighted by
    it, against Ho et al.'s eq. 7; 1e-12."""
    alpha, x_t, x0 = a_t / a_s, 0.3, -1.2
    behind, ahead = alpha / (1 - alpha), 1 / (1 - a_s)
    mean = (behind * x_t / alpha**0.5 + ahead * a_s**0.5 * x0) / (behind + ahead)
    assert mean == pytest.approx(
        (alpha**0.5 * (1 - a_s) * x_t + a_s**0.5 * (1 - alpha) * x0) / (1 - a_t), abs=1e-12
    )
    assert 1 / (behind + ahead) == pytest.approx((1 - alpha) * (1 - a_s) / (1 - a_t), abs=1e-12)


def test_the_perfect_guess_in_a_world_of_two_pictures():
    """x0 is -1 or 1: by Bayes' rule its mean is tanh(sqrt(abar) x / (1 - abar)); 1e-12. DDIM with
    it never changes sides and ends at the two pictures; DDPM does change."""
    x, a = torch.linspace(-3, 3, 13, dtype=torch.float64), 0.3
    likely = [torch.exp(-((x - a**0.5 * x0) ** 2) / (2 * (1 - a))) for x0 in (1, -1)]
    torch.testing.assert_close(
        (likely[0] - likely[1]) / (likely[0] + likely[1]),
        torch.tanh(a**0.5 * x / (1 - a)),
        atol=1e-12,
        rtol=0,
    )

    def exact(x, t):
        x0 = torch.tanh(ABAR[t] ** 0.5 * x / (1 - ABAR[t]))
        return (x - ABAR[t] ** 0.5 * x0) / (1 - ABAR[t]) ** 0.5

    start = gauss(1000)
    ends = {name: run(name, start, 50, exact)[-1].prev_latents for name in ("ddim", "ddpm")}
    assert all((end.abs() - 1).abs().max() < 0.15 for end in ends.values())
    assert torch.equal(ends["ddim"] > 0, start > 0)
    assert ((ends["ddpm"] > 0) != (start > 0)).float().mean() > 0.3 and 0.4 < (
        ends["ddpm"] > 0
    ).float().mean() < 0.6


def test_chapter_05s_own_samplers_are_the_packages():
    """Sections 3 and 4, the reader's cells: DDPM, DDIM, Euler and DPM-Solver++ against the package,
    which equals diffusers; 1e-5 of the largest number."""
    cells = part("05", "c022", "c031", "c036", torch=torch, abar=ABAR, schedule=SCHEDULE)
    x, ours = gauss(2, 4, 8, 8), (cells.ddim, cells.ddpm, cells.euler, cells.dpm_solver)
    for name, own in zip(SAMPLERS, ours, strict=True):
        timesteps = SCHEDULE.timesteps(sampling.SPACINGS[name], 8)
        given = [fresh(x.shape)] if name == "ddpm" else []
        *_, (got, imagined) = own(network, x, timesteps, *given)
        last = run(name, x, 8)[-1]
        scale = last.prev_latents.abs().max()
        assert (got - last.prev_latents).abs().max() < 1e-5 * scale, name
        assert (imagined - last.pred_original_sample).abs().max() < 1e-5 * scale, name


def test_the_score_is_the_noise_turned_round():
    """Chapter 05, section 2: grad log p_t(x) = -eps / sqrt(1 - abar), with the perfect network of
    the reader's cell against the gradient of the density; and Bayes' rule for guidance in section
    6: eps_c - eps_0 is proportional to -grad log p(c | x); 1e-8."""
    points = gauss(50, 2).double()
    cells = part("05", "s201", torch=torch, abar=ABAR.double(), field=Moons(points))
    x, t = gauss(20, 2, seed=1).double().requires_grad_(), 500
    a = ABAR.double()[t]

    def log_density(known):
        apart = ((x[:, None] - a**0.5 * known) ** 2).sum(-1)
        return (-apart / (2 * (1 - a))).logsumexp(1) - np.log(len(points))

    one, every = points[:20], log_density(points)
    score = torch.autograd.grad(every.sum(), x, retain_graph=True)[0]
    eps = cells.perfect(x, t)
    torch.testing.assert_close(score, -eps / (1 - a) ** 0.5, atol=1e-8, rtol=0)
    guessed = torch.autograd.grad((log_density(one) - every).sum(), x)[0]  # log p(c | x)
    told = cells.perfect(x, t, one)
    torch.testing.assert_close(guessed, -(told - eps) / (1 - a) ** 0.5, atol=1e-8, rtol=0)


def test_ddim_step_formula():
    """x_prev = sqrt(abar_prev) x0 + sqrt(1 - abar_prev) eps: the closed form of the forward process
    with the same x0 and the same noise; 1e-6."""
    x0, eps = gauss(1, 4, 4, 4), gauss(1, 4, 4, 4, seed=1)
    timesteps = SCHEDULE.timesteps("leading", 20)[4:]
    t, noisy = timesteps[0], add_noise(x0, eps, timesteps[0], ABAR)
    update = next(sampling.ddim(lambda *_: eps, noisy, SCHEDULE, timesteps))
    torch.testing.assert_close(update.pred_original_sample, x0, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        update.prev_latents, add_noise(x0, eps, t - 50, ABAR), atol=1e-5, rtol=1e-5
    )


def test_ddim_and_euler_are_one_step():
    """DDIM between two levels equals x + (sigma_next - sigma) eps in units of x / sqrt(abar);
    1e-5."""
    x, eps = gauss(1, 4, 4, 4), gauss(1, 4, 4, 4, seed=1)
    update = next(sampling.ddim(lambda *_: eps, x, SCHEDULE, SCHEDULE.timesteps("leading", 10)[3:]))
    abar, abar_prev = ABAR[update.timestep], ABAR[update.timestep - 100]
    sigma, sigma_prev = (((1 - a) / a) ** 0.5 for a in (abar, abar_prev))
    euler = (x / abar**0.5 + (sigma_prev - sigma) * eps) * abar_prev**0.5
    torch.testing.assert_close(update.prev_latents, euler, atol=1e-5, rtol=1e-5)


def test_dpm_solver_of_first_order_is_ddim():
    """sigma'/sigma x - alpha' (e^-h - 1) x0 is DDIM's step, written with h = the rise of log(alpha
    / sigma); 1e-5."""
    x, eps = gauss(1, 4, 4, 4), gauss(1, 4, 4, 4, seed=1)
    # the first step has no older picture to lean on
    ten = SCHEDULE.timesteps("linspace_open", 10)
    first = next(sampling.dpm_solver(lambda *_: eps, x, SCHEDULE, ten))
    t, t_next = 999, int(np.linspace(0, 999, 11).round()[::-1][1])
    x0 = (x - (1 - ABAR[t]) ** 0.5 * eps) / ABAR[t] ** 0.5
    torch.testing.assert_close(
        first.prev_latents, add_noise(x0, eps, t_next, ABAR), atol=1e-4, rtol=1e-4
    )


def test_order_of_convergence():
    """Steps a third as long: a third of Euler's error, a ninth of DPM-Solver++(2M)'s. On Gaussian
    data of spread 0.5, where noise and path are known exactly."""
    spread, t = 0.5, 270  # 999 = 27 x 37, so t = 270 stands on the grid of 37 steps and of 111
    sigmas = ((1 - ABAR.double()) / ABAR.double()) ** 0.5

    def exact_noise(x, t):
        sigma = np.interp(t, np.arange(1000), sigmas.numpy())
        return (
            x * (sigma**2 + 1) ** 0.5 * sigma / (spread**2 + sigma**2)
        )  # E[noise | z], z = x0 + sigma noise

    def error(sampler, steps):
        update = next(
            u
            for u in run(sampler, torch.ones(1, 1, 1, 1, dtype=torch.float64), steps, exact_noise)
            if round(u.timestep, 2) == t
        )
        z = update.latents.item() * (sigmas[t] ** 2 + 1) ** 0.5
        z_start = sigmas[-1] if sampler == "euler" else (sigmas[-1] ** 2 + 1) ** 0.5
        exact = (
            z_start * ((spread**2 + sigmas[t] ** 2) / (spread**2 + sigmas[-1] ** 2)) ** 0.5
        )  # z over its spread stays the same all the way down
        return abs(z - exact).item()

    euler, dpm = error("euler", 38) / error("euler", 112), error("dpm++", 37) / error("dpm++", 111)
    assert 2.5 < euler < 3.5, f"Euler is of first order: 3 expected, {euler:.2f} measured"
    assert 7 < dpm < 12, f"DPM-Solver++(2M) is of second order: 9 expected, {dpm:.2f} measured"
    assert error("dpm++", 37) < error("euler", 38) / 3


def test_guidance_formula():
    """0 is the unconditional prediction, 1 the one with the prompt (1e-6), between them a straight
    line, beyond 1 the same line."""
    uncond, text = gauss(2, 4, 8, 8), gauss(2, 4, 8, 8, seed=1)
    assert torch.equal(sampling.guide(uncond, text, 0.0), uncond)
    torch.testing.assert_close(sampling.guide(uncond, text, 1.0), text, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        sampling.guide(uncond, text, 0.5), (uncond + text) / 2, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        sampling.guide(uncond, text, 7.0), 7 * text - 6 * uncond, atol=1e-5, rtol=0
    )


# -------------------------------------------------------------------- the whole loop, and pipelines


def pipeline_latents(pipe, sampler, prompt, **options):
    reference = models.build_pipeline(
        pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet, models.build_scheduler(sampler)
    )
    generator = torch.Generator().manual_seed(options.pop("seed"))
    return reference(prompt, generator=generator, output_type="latent", **options).images


def latents_of(pipe, prompt, **options):
    return list(sampling.sample_steps(pipe, prompt, **options))[-1].prev_latents


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("guidance_scale", [1.0, 1.5, 7.0])
def test_whole_loop_equals_the_pipeline(pipe, sampler, guidance_scale):
    """Prompt to latents, both from the same seed; 1e-5 of the scale of the latents. (At scale 1 the
    pipeline runs the U-Net once, so sums are rounded differently.)"""
    options = dict(num_inference_steps=6, guidance_scale=guidance_scale, seed=5)
    ours, theirs = (
        latents_of(pipe, PROMPT, sampler=sampler, **options),
        pipeline_latents(pipe, sampler, PROMPT, **options),
    )
    torch.testing.assert_close(
        ours, theirs, atol=1e-5 * max(1.0, theirs.abs().max().item()) * 2, rtol=1e-5
    )


def test_what_is_not_said_is_the_models_own(pipe, monkeypatch):
    """guidance, sampler and steps come from hub.defaults_of, and what is said goes first."""
    monkeypatch.setattr(pipe, "defaults", hub.Defaults(3.0, "euler", 4))
    said = dict(guidance_scale=3.0, sampler="euler", num_inference_steps=4)
    assert torch.equal(latents_of(pipe, PROMPT, seed=1), latents_of(pipe, PROMPT, seed=1, **said))
    assert len(list(sampling.sample_steps(pipe, PROMPT, num_inference_steps=2))) == 2


def test_guidance_zero_ignores_the_prompt(pipe):
    with pytest.warns(UserWarning, match="guidance_scale 0 ignores the prompt"):
        ours = latents_of(pipe, PROMPT, guidance_scale=0, num_inference_steps=5, seed=5)
    theirs = pipeline_latents(pipe, "ddim", "", guidance_scale=1.0, num_inference_steps=5, seed=5)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_negative_prompts_equal_the_pipeline(pipe):
    options = dict(num_inference_steps=5, guidance_scale=4.0, seed=2, negative_prompt="a blue tree")
    ours, theirs = (
        latents_of(pipe, PROMPT, **options),
        pipeline_latents(pipe, "ddim", PROMPT, **options),
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(
        ours, latents_of(pipe, PROMPT, **{**options, "negative_prompt": ""}), atol=1e-3
    )


def test_negative_prompt_takes_the_place_of_the_empty_one(pipe):
    x = sampling.start_latents(pipe, 1, seed=0)
    step = next(sampling.sample_steps(pipe, PROMPT, negative_prompt="a blue tree", latents=x))
    swapped = next(sampling.sample_steps(pipe, "a blue tree", negative_prompt=PROMPT, latents=x))
    torch.testing.assert_close(step.noise_pred_uncond, swapped.noise_pred_text, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        step.noise_pred,
        sampling.guide(step.noise_pred_uncond, step.noise_pred_text, 5.0),
        atol=0,
        rtol=0,
    )


def test_batches_equal_the_pipeline_and_single_pictures(pipe):
    prompts = [PROMPT, "a yellow cat", "a boat by the sea"]
    options = dict(num_inference_steps=4, guidance_scale=3.0)
    ours = latents_of(pipe, prompts, seed=9, **options)
    torch.testing.assert_close(
        ours, pipeline_latents(pipe, "ddim", prompts, seed=9, **options), atol=1e-5, rtol=1e-5
    )
    each = latents_of(pipe, prompts, seed=[1, 2, 3], negative_prompt=["", "a tree", ""], **options)
    alone = latents_of(pipe, prompts[1], seed=2, negative_prompt="a tree", **options)
    torch.testing.assert_close(each[1:2], alone, atol=1e-5, rtol=1e-5)


@pytest.fixture
def few(pipe, monkeypatch):
    """The minute pipeline as one that was taught to take few steps."""
    monkeypatch.setattr(pipe, "defaults", hub.FEW_STEPS)
    return pipe


def test_a_few_step_model_equals_the_pipeline_and_runs_once_per_step(few, monkeypatch):
    """Against StableDiffusionPipeline with LCMScheduler at guidance 1; 2e-5 of the latents'
    scale. Each look of the U-Net sees one picture, not two."""
    seen, predict = [], sampling.predict_noise
    monkeypatch.setattr(
        sampling,
        "predict_noise",
        lambda pipe, x, *rest: seen.append(len(x)) or predict(pipe, x, *rest),
    )
    ours = latents_of(few, PROMPT, seed=5)
    theirs = pipeline_latents(few, "lcm", PROMPT, num_inference_steps=4, guidance_scale=1.0, seed=5)
    torch.testing.assert_close(ours, theirs, atol=2e-5 * max(1.0, theirs.abs().max().item()),
                               rtol=1e-5)  # fmt: skip
    assert seen == [1] * 4


@pytest.mark.parametrize("asked", [{"guidance_scale": 2}, {"negative_prompt": "a cat"}])
def test_a_few_step_model_refuses_guidance_in_a_sentence(few, asked):
    with pytest.raises(ValueError, match="learned its guidance: it runs once per step"):
        sampling.sample_steps(few, PROMPT, **asked)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_picture_of_a_list_of_seeds_can_be_repeated_alone(pipe, sampler):
    """Also where fresh noise is added on the way."""
    options = dict(num_inference_steps=3, sampler=sampler)
    both = latents_of(pipe, [PROMPT, PROMPT], seed=[4, 11], **options)
    torch.testing.assert_close(
        both[1:], latents_of(pipe, PROMPT, seed=11, **options), atol=1e-4, rtol=1e-4
    )


def test_seeds(pipe):
    options = dict(num_inference_steps=2)
    a, b, c = (latents_of(pipe, PROMPT, seed=s, **options) for s in (1, 1, 2))
    assert torch.equal(a, b) and not torch.allclose(a, c, atol=0.1)
    assert not torch.equal(
        latents_of(pipe, PROMPT, **options), latents_of(pipe, PROMPT, **options)
    ), "without a seed each run differs"
    assert torch.equal(
        a, latents_of(pipe, PROMPT, generator=torch.Generator().manual_seed(1), **options)
    )
    assert torch.equal(
        a, latents_of(pipe, PROMPT, latents=sampling.start_latents(pipe, 1, seed=1), **options)
    )
    assert torch.equal(
        a, latents_of(pipe, PROMPT, seed=np.int64(1), num_inference_steps=np.int64(2))
    )


def test_start_latents_are_the_pipelines(pipe):
    prepared = pipe.prepare_latents(
        2,
        pipe.unet.config.in_channels,
        64,
        64,
        torch.float32,
        torch.device("cpu"),
        torch.Generator().manual_seed(3),
    )
    assert torch.equal(sampling.start_latents(pipe, 2, seed=3), prepared)


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_start_goes_on_where_a_run_stood(pipe, sampler):
    options = dict(num_inference_steps=6, sampler=sampler)
    steps = list(sampling.sample_steps(pipe, PROMPT, seed=1, **options))
    late = list(
        sampling.sample_steps(pipe, PROMPT, latents=steps[2].prev_latents, start=3, **options)
    )
    assert [s.index for s in late] == [3, 4, 5] and [s.timestep for s in late] == [
        s.timestep for s in steps[3:]
    ]
    torch.testing.assert_close(late[-1].prev_latents, steps[-1].prev_latents, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_prev_latents_set_on_the_way_are_what_the_next_step_sees(pipe, sampler):
    options = dict(num_inference_steps=4, seed=1, sampler=sampler)

    def run(change):
        steps = []
        for step in sampling.sample_steps(pipe, PROMPT, **options):
            change(step)
            steps.append(step)
        return steps

    def half(step):
        if step.index == 1:
            step.prev_latents = step.prev_latents / 2

    def same(step):
        step.prev_latents = step.prev_latents.clone()

    halved, plain = run(half), run(lambda step: None)
    assert torch.equal(halved[0].prev_latents, plain[0].prev_latents)
    assert torch.equal(halved[1].prev_latents, plain[1].prev_latents / 2)
    torch.testing.assert_close(halved[2].latents, halved[1].prev_latents, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(halved[-1].prev_latents, plain[-1].prev_latents, atol=1e-3)
    torch.testing.assert_close(
        run(same)[-1].prev_latents, plain[-1].prev_latents, atol=1e-4, rtol=1e-4
    )


def test_prev_latents_set_in_the_last_step_reach_the_picture(pipe):
    def zeroed():
        for step in sampling.sample_steps(pipe, PROMPT, num_inference_steps=2, seed=1):
            step.prev_latents = torch.zeros_like(step.prev_latents)
            yield step

    black = decode_latents(pipe, torch.zeros_like(sampling.start_latents(pipe)))[0]
    assert sampling.last_picture(pipe, zeroed())[0].tobytes() == black.tobytes()


def test_sample_gives_the_pipelines_pictures(pipe):
    ours = sampling.sample(pipe, [PROMPT, PROMPT], num_inference_steps=3, seed=4)
    theirs = pipe(
        [PROMPT, PROMPT],
        num_inference_steps=3,
        guidance_scale=5.0,
        generator=torch.Generator().manual_seed(4),
    ).images
    for a, b in zip(ours, theirs, strict=True):
        assert a.size == b.size == (64, 64)
        assert (
            np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1
        )  # a grey value apart at most, by rounding


def test_steps_carry_what_the_chapters_show(pipe):
    steps = list(sampling.sample_steps(pipe, PROMPT, num_inference_steps=3, seed=0))
    assert [s.index for s in steps] == [0, 1, 2]
    for s in steps:
        for name in (
            "latents",
            "noise_pred_uncond",
            "noise_pred_text",
            "noise_pred",
            "pred_original_sample",
            "prev_latents",
        ):
            tensor = getattr(s, name)
            assert (
                tensor.shape == (1, 4, 8, 8)
                and tensor.dtype == torch.float32
                and not tensor.requires_grad
            ), name
    assert torch.equal(steps[1].latents, steps[0].prev_latents)


def test_works_in_another_thread_with_gradients_on(pipe):
    """Widget callbacks run in threads, where a cell's no_grad does not reach."""
    got, failed = [], []

    def work():
        try:
            got.append(latents_of(pipe, PROMPT, num_inference_steps=2, seed=1).numpy())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed
    np.testing.assert_allclose(
        got[0], latents_of(pipe, PROMPT, num_inference_steps=2, seed=1).numpy(), atol=1e-5
    )


def test_may_be_stopped_half_way(pipe):
    steps = sampling.sample_steps(pipe, PROMPT, num_inference_steps=10, seed=1)
    first = next(steps)
    steps.close()
    assert torch.equal(
        first.latents,
        next(sampling.sample_steps(pipe, PROMPT, num_inference_steps=10, seed=1)).latents,
    )


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_velocity_models_are_sampled_too(pipe, sampler):
    """A pipeline whose scheduler says v_prediction: equal to diffusers' scheduler told the same,
    also where "euler" stands between two timesteps."""
    scheduler = models.build_scheduler(sampler, prediction_type="v_prediction")
    velocity = models.build_pipeline(
        pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet, scheduler
    )
    options = dict(num_inference_steps=5, guidance_scale=5.0)
    ours = latents_of(velocity, PROMPT, sampler=sampler, seed=3, **options)
    theirs = velocity(
        PROMPT, generator=torch.Generator().manual_seed(3), output_type="latent", **options
    ).images
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


# ---------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"num_inference_steps": 0}, "whole number from 1 to 1000; got 0"),
        ({"num_inference_steps": -3}, "whole number from 1 to 1000"),
        ({"num_inference_steps": 1_000_000}, "whole number from 1 to 1000; got 1000000"),
        ({"num_inference_steps": 2.5}, "whole number"),
        ({"num_inference_steps": True}, "whole number"),
        ({"sampler": "plms"}, "Unknown sampler 'plms': choose one of ddim, ddpm, euler, dpm++"),
        ({"guidance_scale": float("nan")}, "guidance_scale must be a finite number"),
        ({"guidance_scale": float("inf")}, "guidance_scale must be a finite number"),
        ({"seed": [1, 2]}, "2 seeds for 1 pictures"),
        ({"seed": []}, "0 seeds for 1 pictures"),
        ({"negative_prompt": ["a", "b"]}, "2 negative prompts for 1 prompts"),
        (
            {"latents": torch.zeros(2, 4, 8, 8)},
            r"latents must be one for each prompt, shape \(1, 4, height, width\)",
        ),
        ({"latents": torch.zeros(1, 3, 8, 8)}, "latents must be one for each prompt"),
        ({"latents": torch.zeros(4, 8, 8)}, "latents must be one for each prompt"),
        ({"start": 25}, "start must be from 0 to 24"),
        ({"start": -1}, "start must be from 0 to 24"),
        ({"start": 5}, "give latents that carry the noise of that step"),
        ({"eta": 2.0}, "eta mixes fresh noise"),
        ({"eta": 0.5, "sampler": "euler"}, "eta mixes fresh noise into the sampler 'ddim'"),
    ],
)
def test_bad_options_get_one_sentence_before_the_first_step(pipe, options, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        sampling.sample_steps(pipe, PROMPT, **options)  # not iterated: refused at once
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("prompt", [None, 7, ["a cat", 3]])
def test_a_prompt_that_is_no_text(pipe, prompt):
    with pytest.raises(TypeError, match="A prompt is a string"):
        sampling.sample_steps(pipe, prompt)


def test_no_prompt_at_all(pipe):
    with pytest.raises(ValueError, match="No prompt"):
        sampling.sample_steps(pipe, [])


@pytest.mark.parametrize("prompt", ["", "   "])
def test_an_empty_prompt_warns_and_makes_a_picture(pipe, prompt):
    with pytest.warns(UserWarning, match="prompt is empty"):
        steps = sampling.sample_steps(pipe, prompt, num_inference_steps=1, seed=0)
    assert torch.isfinite(next(steps).prev_latents).all()


def test_an_empty_prompt_is_a_choice_where_a_picture_is_given(pipe):
    """To repaint a hole or to go on from latents, no prompt says: nothing new."""
    latents = sampling.start_latents(pipe, 1, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampling.sample_steps(pipe, "", negative_prompt=" ", latents=latents)


def test_an_unknown_word_warns(pipe):
    with pytest.warns(UserWarning, match="never seen the word.*'zeppelin'"):
        sampling.sample_steps(pipe, "a zeppelin")
    with pytest.warns(UserWarning, match="'zeppelin'"):
        sampling.sample_steps(pipe, "a cat", negative_prompt="a zeppelin")


def test_a_prompt_of_ten_thousand_characters_warns_and_equals_its_beginning(pipe):
    long = ("red house " * 1000)[:10_000]
    with pytest.warns(UserWarning, match="the model reads 75: the rest is not seen"):
        steps = sampling.sample_steps(pipe, long, num_inference_steps=1, seed=0)
    assert torch.isfinite(next(steps).prev_latents).all()
    assert torch.equal(encode_prompt(pipe, long), encode_prompt(pipe, long[:3000]))


def test_good_input_is_silent(pipe):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="This model has never seen")
        list(
            sampling.sample_steps(pipe, PROMPT, num_inference_steps=2, seed=0, negative_prompt=None)
        )

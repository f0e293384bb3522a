"""The few-step model: its distillation, its LoRA, and what refuses to fit."""

import copy
import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cells import part

from sdlearn import hub, models, noising, sampling
from sdlearn.chapters import ch08, field
from sdlearn.training import __main__ as command
from sdlearn.training import few_steps

ABAR = noising.make_alphas_cumprod()


def answers(guess):
    """A network that says ``guess(x, t)``."""
    return lambda x, t, encoder_hidden_states: SimpleNamespace(sample=guess(x, t))


def paths(guidance: float = 1.0, jump: int = 100) -> few_steps.Paths:
    return few_steps.Paths(ABAR, guidance, jump, torch.zeros(1, 77, 8))


def exact(x0):
    """The noise, where every path leads to ``x0``."""

    def noise(x, t):
        abar = ABAR[t].view(-1, 1, 1, 1)
        return (x - abar**0.5 * x0) / (1 - abar) ** 0.5

    return noise


def start(t, seed: int = 0) -> few_steps.Start:
    torch.manual_seed(seed)
    t = torch.tensor(t)
    return few_steps.Start(torch.zeros(len(t), 77).long(), torch.randn(len(t), 4, 8, 8), t)


# ------------------------------------------------------------------------------- the distillation


def test_the_step_of_the_teacher_is_a_guided_ddim_step():
    """Against diffusers' DDIMScheduler from 999, 499 and 119 to 100 timesteps less, guidance 2;
    1e-5. Below the first jump it ends at t = 0."""
    torch.manual_seed(0)
    here = start([999, 499, 119, 19])

    def teacher(x, t):
        return torch.tanh(x) * (1 + t.view(-1, 1, 1, 1) / 1000)

    def guided(x, t, encoder_hidden_states):
        half = (encoder_hidden_states[:, 0, 0] > 0).view(-1, 1, 1, 1)
        return SimpleNamespace(sample=teacher(x, t) + torch.where(half, 0.1, 0.0))

    states = torch.ones(4, 77, 8)
    got, t = paths(2.0).step_of_teacher(guided, here.latents, here.t, states)
    assert t.tolist() == [899, 399, 19, 0]
    scheduler = models.build_scheduler("ddim", steps_offset=0)
    scheduler.set_timesteps(10)  # strides of 100
    for k in range(3):
        x = here.latents[k : k + 1]
        eps = teacher(x, here.t[k]) + 2 * 0.1
        wanted = scheduler.step(eps, here.t[k].item(), x).prev_sample
        torch.testing.assert_close(got[k : k + 1], wanted, atol=1e-5, rtol=1e-5)


def test_the_consistency_function_is_what_diffusers_scheduler_calls_denoised():
    """And at t = 0 the latents as they are, whatever the network says."""
    here = start([999, 499, 19, 0])
    network = lambda x, t: torch.tanh(x) + t.view(-1, 1, 1, 1) / 1000  # noqa: E731
    got = paths().clean(answers(network), here.latents, here.t, None)
    assert torch.equal(got[3], here.latents[3])
    for k in range(3):
        x, t = here.latents[k : k + 1], here.t[k]
        scheduler = models.build_scheduler("lcm")
        scheduler.set_timesteps(timesteps=[t.item()])
        wanted = scheduler.step(network(x, t), t, x).denoised
        torch.testing.assert_close(got[k : k + 1], wanted, atol=1e-5, rtol=1e-5)


def test_who_always_says_the_end_of_the_path_has_no_loss():
    """A teacher whose paths all lead to x0 and a student that says x0: 0, but for the 3 % of noise
    that the schedule has at t = 0. Another x0 for the student: from two places it says the same,
    so 0 too, except where the further place is t = 0."""
    torch.manual_seed(0)
    x0, wrong, noise = torch.randn(3, 1, 4, 8, 8)
    states, losses = torch.zeros(1, 77, 8), {}
    for t in (999, 499, 19):
        at = torch.tensor([t])
        here = few_steps.Start(torch.zeros(1, 77), noising.add_noise(x0, noise, at, ABAR), at)
        for name, said in (("right", x0), ("wrong", wrong)):
            losses[name, t] = few_steps.consistency_loss(
                answers(exact(said)), answers(exact(x0)), here, states, paths()
            ).item()
    assert losses["right", 999] < 1e-3 and losses["right", 499] < 1e-3
    assert losses["right", 19] < (1 - ABAR[0]) ** 0.5 < 0.03
    assert losses["wrong", 999] < 1e-3 and losses["wrong", 499] < 1e-3
    assert losses["wrong", 19] > 0.5, "here the teacher's picture comes in"


def test_starts_are_where_the_sampler_goes_and_a_share_is_pure_noise():
    count = 400
    latents = torch.zeros(count, 2, 4, 8, 8)
    latents[:, 0] = 5.0  # no noise is that far from 0
    table = few_steps.Starts(latents, torch.arange(9).view(1, 9, 1).expand(count, 9, 77))
    settings = few_steps.FewStepsSettings(batch=2000, from_noise=0.25)
    run = SimpleNamespace(device=torch.device("cpu"),
                          generator=lambda rng: torch.Generator().manual_seed(0))  # fmt: skip
    got = table.pick(settings, ABAR, run, np.random.default_rng(0))
    visited = {t for steps in (1, 2, 4, 50)
               for t in noising.Schedule.named().timesteps("lcm", steps)}  # fmt: skip
    assert set(got.t.tolist()) == visited
    last = got.t == 999
    assert last.float().mean().item() == pytest.approx(0.25 + 0.75 / 50, abs=0.04)
    assert got.latents[last].mean().abs() < 0.01, "no trace of a picture"
    middle = got.t == 499
    wanted = 5 * ABAR[499] ** 0.5
    assert got.latents[middle].mean().item() == pytest.approx(wanted.item(), abs=0.05)
    assert set(got.ids[:, 0].tolist()) == set(range(7)), "any wording"


def test_a_short_training_writes_a_lora_that_loads_and_goes_on(tmp_path, monkeypatch):
    """A second of the real loop: a LoRA of at most 3 MB, which changes what the model says."""
    monkeypatch.setattr(few_steps, "shares_right", lambda *_: {1: 0.0})
    settings = few_steps.FewStepsSettings(
        minutes=0.02, pictures=8, batch=2, device="cpu", bf16=False, judged=2,
        work=str(tmp_path / "runs"), out=str(tmp_path / "out"))  # fmt: skip
    few_steps.train_few_steps(settings)
    file = tmp_path / "out" / hub.LORA_FILE
    assert 1e6 < file.stat().st_size < 3e6
    pipe, base = hub.load_pipeline(tmp_path / "out"), hub.load_pipeline(hub.TINY_SD)
    assert hub.defaults_of(pipe) == hub.FEW_STEPS and hub.is_few_step(pipe)
    assert not hub.is_few_step(base)
    names = [name for name, _ in pipe.unet.named_parameters()]
    assert names == [name for name, _ in base.unet.named_parameters()], "a plain U-Net again"
    moved = [name for name, w in pipe.unet.named_parameters()
             if not torch.equal(w, base.unet.get_parameter(name))]  # fmt: skip
    assert moved and all(w.isfinite().all() for w in pipe.unet.parameters())
    state = torch.load(tmp_path / "runs/few-steps/checkpoint.pt", weights_only=True)
    few_steps.train_few_steps(replace(settings, resume=True, minutes=state["elapsed"] / 60 + 0.02))
    later = torch.load(tmp_path / "runs/few-steps/checkpoint.pt", weights_only=True)
    assert later["step"] > state["step"]


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--start-from", str(hub.TINY_SD)], "learns from --teacher"),
        (["--jump", "1000"], "--jump is 1 to 999 timesteps; it is 1000"),
        (["--from-noise", "1.5"], "--from-noise is a share between 0 and 1"),
        (["--teacher", "/no/such/model"], "give a folder that exists"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(argv, words, tmp_path, capsys):
    told = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "runs")]
    assert command.main(["few-steps", *told, *argv]) == 1
    assert words in capsys.readouterr().err


# ---------------------------------------------------------------------------------------- the LoRA


@pytest.fixture
def lora(pipe, tmp_path):
    """(a LoRA of the minute pipeline, in its folder; the U-Net that it comes from)."""
    unet = copy.deepcopy(pipe.unet)
    models.add_lora(unet, 2)
    torch.manual_seed(0)
    for name, weight in unet.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    hub.save_lora(tmp_path, unet)
    hub.write_defaults(tmp_path, hub.FEW_STEPS)
    return tmp_path, unet


def says(unet):
    torch.manual_seed(1)
    x, states = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 32)
    with torch.inference_mode():
        return unet(x, 500, encoder_hidden_states=states).sample


def test_a_new_lora_changes_nothing_and_only_it_learns(pipe):
    unet = copy.deepcopy(pipe.unet)
    models.add_lora(unet, 2)
    torch.testing.assert_close(says(unet), says(pipe.unet), atol=1e-6, rtol=1e-6)
    learns = {name for name, weight in unet.named_parameters() if weight.requires_grad}
    assert learns and all("lora_" in name for name in learns)


def test_a_lora_is_added_for_good_and_brings_its_defaults(pipe, lora):
    """The sum in the pipeline says what the U-Net with its LoRA beside it says, 1e-3 (it is kept
    in half precision); so does the library's own loading."""
    folder, unet = lora
    parts = pipe.vae, pipe.text_encoder, pipe.tokenizer
    ours, theirs = (models.build_pipeline(*parts, copy.deepcopy(pipe.unet)) for _ in range(2))
    assert hub.add_lora_to(ours, folder) is ours
    theirs.load_lora_weights(folder)
    assert (says(unet) - says(pipe.unet)).abs().max() > 0.05
    for other in (ours, theirs):
        torch.testing.assert_close(says(other.unet), says(unet), atol=1e-3, rtol=1e-3)
    assert hub.defaults_of(ours) == hub.FEW_STEPS


def test_a_lora_of_another_base_is_refused_in_a_sentence(lora):
    with pytest.raises(ValueError, match="is a LoRA of another model"):
        hub.load_pipeline(lora[0])  # it would be put on Tiny SD


def test_damaged_and_missing_loras_are_refused_in_a_sentence(pipe, lora, tmp_path):
    folder, unet = lora
    with pytest.raises(ValueError, match="There is no LoRA that can be read at"):
        hub.add_lora_to(pipe, tmp_path / "empty")
    next(w for n, w in unet.named_parameters() if "lora_B" in n).data.fill_(float("nan"))
    hub.save_lora(folder, unet)
    with pytest.raises(ValueError, match="numbers that are not finite"):
        hub.add_lora_to(pipe, folder)
    file = folder / hub.LORA_FILE
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="no LoRA that can be read"):
        hub.add_lora_to(pipe, folder)
    file.write_bytes(b"")
    with pytest.raises(ValueError, match="no LoRA that can be read"):
        hub.load_pipeline(folder)


def test_the_short_name():
    assert hub.resolve("tiny-few") == (hub.TINY_FEW, ())
    card = json.loads((hub.TINY_FEW / "defaults.json").read_text(encoding="utf-8"))
    assert hub.Defaults(**card) == hub.FEW_STEPS
    assert (hub.TINY_FEW / hub.LORA_FILE).stat().st_size < 3e6


# ------------------------------------------------------------------------- the chapter's own cells


def network(x, t):
    """A cheap stand-in for a U-Net."""
    return torch.tanh(1.3 * x) * (0.4 + 0.6 * t / 1000) + 0.1 * x.roll(1, -1)


def cells(*ids, **given):
    return part("08", *ids, torch=torch, abar=ABAR, **given)


def test_straight_coordinates_are_shares_of_picture_and_noise():
    """y = x_t / (sqrt(abar) + sqrt(1 - abar)) = (1 - s) x0 + s eps, 1e-6, with diffusers' x_t."""
    k, (x0, noise) = cells("k011"), torch.randn(2, 1, 4, 8, 8)
    for t in (0, 354, 999):
        x = models.build_scheduler("ddim").add_noise(x0, noise, torch.tensor([t]))
        y, s = x / sum(k.amounts(t)), k.share(t)
        torch.testing.assert_close(y, (1 - s) * x0 + s * noise, atol=1e-6, rtol=1e-5)
        ratio = ((1 - s) / s) ** 2
        assert ratio.item() == pytest.approx(noising.snr(ABAR)[t].item(), rel=1e-4)


@pytest.mark.parametrize("steps", [1, 3, 10, 45])
def test_the_straight_sampler_is_ddim_on_matched_times(steps):
    """Every stop but the last, which has no noise left where DDIM keeps the schedule's first
    level, and every imagined picture: 1e-4 of the largest number."""
    k, schedule = cells("k011", "k031"), noising.Schedule.named()
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    timesteps = schedule.timesteps("trailing", steps)
    ours = list(k.straight_steps(network, x, timesteps))
    theirs = list(sampling.ddim(network, x, schedule, timesteps))
    for i, ((y, x0, _), step) in enumerate(zip(ours, theirs, strict=True)):
        scale = step.pred_original_sample.abs().max()
        assert (x0 - step.pred_original_sample).abs().max() < 1e-4 * scale
        if i < steps - 1:
            back = y * sum(k.amounts(timesteps[i + 1]))
            assert (back - step.prev_latents).abs().max() < 1e-4 * step.prev_latents.abs().max()
    assert (y - x0).abs().max() < 1e-4 * scale, "the last step ends at the imagined picture"


def test_the_straight_sampler_is_diffusers_flow_matching_step_by_step():
    """FlowMatchEulerDiscreteScheduler, handed the same shares and velocities; 1e-5."""
    from diffusers import FlowMatchEulerDiscreteScheduler

    k, timesteps = cells("k011", "k031"), noising.Schedule.named().timesteps("trailing", 7)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(sigmas=[k.share(t).item() for t in timesteps])
    y = x / sum(k.amounts(timesteps[0]))
    steps = k.straight_steps(network, x, timesteps)
    for (got, x0, eps), t in zip(steps, scheduler.timesteps, strict=True):
        y = scheduler.step(eps - x0, t, y).prev_sample
        torch.testing.assert_close(got, y, atol=1e-5, rtol=1e-5)


def test_the_few_lines_of_the_chapter_are_the_package_s_lcm():
    """Latents and imagined pictures after each step; 1e-5."""
    k, schedule = cells("k041"), noising.Schedule.named()
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for count in (1, 2, 4):
        one, two = (torch.Generator().manual_seed(1) for _ in range(2))
        timesteps = schedule.timesteps("lcm", count)
        ours = k.few_steps(network, x, timesteps, lambda g=one: torch.randn(x.shape, generator=g))
        theirs = sampling.lcm(
            network, x, schedule, timesteps, noise=lambda g=two: torch.randn(x.shape, generator=g)
        )
        for (got, x0), step in zip(ours, theirs, strict=True):
            torch.testing.assert_close(got, step.prev_latents, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(x0, step.pred_original_sample, atol=1e-5, rtol=1e-5)


def test_the_velocity_of_a_line_is_noise_minus_picture():
    """The loss of the chapter is 0 for a network that says it, and the derivative of y_s is it."""
    given = dict(field=field, quick_steps=lambda steps: 1)
    x0, noise = torch.randn(2, 64, 2)
    k = cells("k021a", **given)
    assert k.flow_loss(lambda y, s: noise - x0, x0, noise) == 0
    assert k.flow_loss(lambda y, s: x0 - noise, x0, noise) > 1
    line = lambda s: (1 - s) * x0 + s * noise  # noqa: E731
    torch.testing.assert_close((line(0.6) - line(0.4)) / 0.2, noise - x0, atol=1e-5, rtol=1e-4)


def test_figures_of_the_chapter_say_what_they_show():
    """A straight road is nowhere beside its line; a right angle is half of its line beside it."""
    line = torch.linspace(0, 1, 5)[:, None, None] * torch.ones(1, 2, 3)
    assert np.allclose(ch08.beside_chord(line)[1], 0, atol=1e-6)
    corner = torch.tensor([[[0.0, 0.0]], [[1.0, 0.0]], [[1.0, 1.0]]])
    along, beside = ch08.beside_chord(corner)
    assert np.allclose(along[:, 0], [0, 0.5, 1]) and np.allclose(
        beside[:, 0], [0, 0.5, 0], atol=1e-6
    )
    assert "bent: at most 50% beside it" in ch08.bends({"bent": corner}).alt

    def row(model, sampler, steps, share):
        shares = {split: {"in_place": {"value": share}} for split in ("seen", "held_out")}
        return dict(model=model, sampler=sampler, num_inference_steps=steps, looks=steps, **shares)

    rows = [
        row("few", "lcm", 4, 95.0),
        row("few", "lcm", 1, 90.0),
        row("teacher", "dpm++", 2, 80.0),
    ]
    found = ch08.by_way(rows, "seen")
    assert found["taught to take few steps"] == {1: (1, 90.0), 4: (4, 95.0)}
    said = ch08.looks({"rows": rows, "settings": {"prompts": 9}}).alt
    assert "Percent of 9 prompts" in said and "the teacher, guided: 80 at 2" in said
    assert ch08.read_few_steps("/no/such/file") is None

"""The few-step model: its distillation, its LoRA, and what refuses to fit."""

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sdlearn import hub, models, noising
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

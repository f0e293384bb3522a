"""Chapter 03: each displayed formula, the code that stands in the notebook, and the tools that
measure a U-Net.

What stands in the notebook is taken from there by its cell's id, so what is proved is what the
reader sees.
"""

import ast
import copy
import inspect
import math
import threading
import time
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cells import FOLDER, part

from sdlearn import compression, models, plots, prediction
from sdlearn.chapters import ch03
from sdlearn.noising import add_noise, make_alphas_cumprod, make_betas

ABAR = make_alphas_cumprod()
T = len(ABAR)
LEVELS = (0, 1, 250, 500, 998, 999)
NAME = "03_unet_noise_prediction"


def page(*ids: str) -> dict:
    """What is defined after running these cells of the chapter, and nothing else of it."""
    return part(NAME, "imports", *ids).__dict__


@pytest.fixture()
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(
        2, 3, 4, 8, 8, generator=generator, dtype=torch.float64
    )  # clean latents, noise


def predictor(pipe, batch: int = 2):
    words = torch.randn(
        batch,
        pipe.tokenizer.model_max_length,
        pipe.unet.config.cross_attention_dim,
        generator=torch.Generator().manual_seed(1),
    )
    return lambda latents, t: prediction.predict_noise(pipe, latents, t, words)


# ----------------------------------------------------------------------------------------- formulas


@pytest.mark.parametrize("t", LEVELS)
def test_x0_from_epsilon_and_back(pair, t):
    """x0 = (x_t - sqrt(1 - abar) eps) / sqrt(abar), in double precision to 1e-12; the true noise
    gives back the true picture."""
    x0, noise = pair
    abar = ABAR[t].double()
    noisy = add_noise(x0, noise, t, ABAR.double())
    torch.testing.assert_close(
        prediction.x0_from_epsilon(noisy, noise, abar), x0, rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("t", LEVELS)
def test_velocity_turns_picture_and_noise(pair, t):
    """v = sqrt(abar) eps - sqrt(1 - abar) x0 and both ways back, 1e-12; (x_t, v) is (x0, eps)
    turned, so lengths are kept."""
    x0, noise = pair
    abar = ABAR[t].double()
    noisy, v = add_noise(x0, noise, t, ABAR.double()), prediction.v_from(x0, noise, abar)
    torch.testing.assert_close(prediction.epsilon_from_v(noisy, v, abar), noise, rtol=0, atol=1e-12)
    x0_again = prediction.x0_from_epsilon(noisy, prediction.epsilon_from_v(noisy, v, abar), abar)
    torch.testing.assert_close(x0_again, x0, rtol=0, atol=1e-9)
    torch.testing.assert_close(noisy**2 + v**2, x0**2 + noise**2)


@pytest.mark.parametrize("t", LEVELS)
def test_velocity_equals_diffusers(pair, t):
    x0, noise = (x.float() for x in pair)
    theirs = models.build_scheduler(prediction_type="v_prediction").get_velocity(
        x0, noise, torch.tensor([t])
    )
    torch.testing.assert_close(prediction.v_from(x0, noise, ABAR[t]), theirs, rtol=0, atol=1e-6)


def test_x0_equals_the_schedulers(pair):
    """diffusers' own pred_original_sample, for both things a network may predict."""
    x0, noise = (x.float() for x in pair)
    t = 500
    noisy = add_noise(x0, noise, t, ABAR)
    output = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2))
    ours = {
        "epsilon": prediction.x0_from_epsilon(noisy, output, ABAR[t]),
        "v_prediction": prediction.x0_from_epsilon(
            noisy, prediction.epsilon_from_v(noisy, output, ABAR[t]), ABAR[t]
        ),
    }
    for kind, mine in ours.items():
        scheduler = models.build_scheduler(prediction_type=kind)
        scheduler.set_timesteps(10)
        torch.testing.assert_close(
            mine, scheduler.step(output, t, noisy).pred_original_sample, rtol=0, atol=1e-5
        )


@pytest.mark.parametrize("t", LEVELS)
def test_one_error_three_exams(pair, t):
    """|d eps|^2 = abar |dv|^2, |d x0|^2 = (1 - abar) |dv|^2, so |d x0|^2 = (1 - abar) / abar |d
    eps|^2, and the first two sum to |dv|^2; relative 1e-9."""
    x0, noise = pair
    abar = ABAR[t].double()
    noisy = add_noise(x0, noise, t, ABAR.double())
    noise_pred = noise + 0.1 * torch.randn(
        noise.shape, generator=torch.Generator().manual_seed(3), dtype=noise.dtype
    )
    x0_pred = prediction.x0_from_epsilon(noisy, noise_pred, abar)
    e, p = F.mse_loss(noise_pred, noise), F.mse_loss(x0_pred, x0)
    v = F.mse_loss(prediction.v_from(x0_pred, noise_pred, abar), prediction.v_from(x0, noise, abar))
    torch.testing.assert_close(p, (1 - abar) / abar * e, rtol=1e-9, atol=0)
    torch.testing.assert_close(e, abar * v, rtol=1e-9, atol=0)
    torch.testing.assert_close(p, (1 - abar) * v, rtol=1e-9, atol=0)
    torch.testing.assert_close(e + p, v, rtol=1e-9, atol=0)


def test_lazy_losses():
    """What answers without weights cost: 1 for "no noise", abar x0^2 + (1 - sqrt(1 - abar))^2 for
    the input, abar for its best multiple; 1 % over 400,000 numbers."""
    x0, noise = torch.randn(2, 400_000, generator=torch.Generator().manual_seed(0)) * torch.tensor(
        [[1.0], [1.0]]
    )
    for t in (5, 300, 700):
        abar, noisy = ABAR[t], add_noise(x0[None], noise[None], t, ABAR)[0]
        assert F.mse_loss(torch.zeros_like(noise), noise) == pytest.approx(1, rel=0.01)
        assert F.mse_loss(noisy, noise) == pytest.approx(
            (abar * x0.square().mean() + (1 - (1 - abar) ** 0.5) ** 2).item(), rel=0.01
        )
        best = {c: F.mse_loss(c * (1 - abar) ** 0.5 * noisy, noise).item() for c in (0.9, 1.0, 1.1)}
        assert best[1.0] == pytest.approx(abar.item(), rel=0.01) and best[1.0] == min(best.values())


def test_the_mean_is_the_best_single_answer():
    """E|x - mu|^2 <= E|x - z|^2 for every z, and for two independent ones of a crowd E|x - y|^2 = 2
    E|x - mu|^2; in double precision, 1e-9."""
    crowd = (
        torch.randn(30, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64) ** 3
    )
    spread = (crowd - crowd.mean(0)).square().sum(1).mean()
    for z in (*crowd[:5], crowd.median(0).values, torch.zeros(50)):
        assert (crowd - z).square().sum(1).mean() > spread
    pairs = (
        torch.cdist(crowd, crowd).square().mean()
    )  # each with each, itself among them: two independent draws
    torch.testing.assert_close(pairs, 2 * spread, rtol=1e-9, atol=0)


# ------------------------------------------------------------- the code that stands in the notebook


@pytest.mark.parametrize("dim", [32, 64, 320])
def test_timestep_embedding_equals_diffusers(dim):
    embed, t = page("timestep-embedding")["timestep_embedding"], torch.arange(T)
    unet = models.build_unet(block_out_channels=(dim, dim, dim), norm_num_groups=16)
    assert torch.equal(embed(t, dim), unet.time_proj(t))
    assert torch.equal(embed(500, dim), embed(t, dim)[500:501])


def test_timestep_embedding_formula():
    """Each number by itself, with math: cos and sin of t 10000^(-j / (d / 2)), to 1e-4 (single
    precision at angles up to 1000)."""
    emb = page("timestep-embedding")["timestep_embedding"](torch.tensor([0, 1, 999]), 16)
    want = [
        [f(t * 10000 ** (-j / 8)) for f in (math.cos, math.sin) for j in range(8)]
        for t in (0, 1, 999)
    ]
    torch.testing.assert_close(emb, torch.tensor(want), rtol=0, atol=1e-4)


def test_epsilon_loss_is_the_mean_square_of_the_noise_error():
    """The six lines against the formula written out, with the same chance; the labels are passed
    on, and gradients flow to the network only."""
    epsilon_loss, x0 = page("epsilon-loss")["epsilon_loss"], torch.randn(5, 3, 8, 8)
    weight, heard = torch.tensor(0.5, requires_grad=True), []

    def net(noisy, t, label):
        heard.append((noisy, t, label))
        return weight * noisy

    torch.manual_seed(7)
    loss, t = epsilon_loss(net, x0, ABAR, "label")
    torch.manual_seed(7)
    t_again, noise = torch.randint(T, (5,)), torch.randn(5, 3, 8, 8)
    abar = ABAR[t_again].reshape(5, 1, 1, 1)
    noisy = abar**0.5 * x0 + (1 - abar) ** 0.5 * noise
    assert torch.equal(t, t_again) and heard[0][2] == "label" and torch.equal(heard[0][1], t)
    torch.testing.assert_close(loss, ((noise - 0.5 * noisy) ** 2).mean((1, 2, 3)))
    loss.mean().backward()
    assert weight.grad is not None and loss.shape == (5,)


@pytest.mark.parametrize("steps", [1, 2, 10, 25, 50])
def test_ddim_loop_equals_diffusers(steps):
    """The notebook's loop against DDIMScheduler with trailing timesteps: relative 1e-5."""
    ddim, start = (
        page("ddim")["ddim"],
        torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
    )

    def net(x, t):
        return torch.tanh(x + float(t) / T)

    scheduler = models.build_scheduler(
        trained_betas=make_betas().numpy(), timestep_spacing="trailing", set_alpha_to_one=True
    )
    scheduler.set_timesteps(steps)
    x, asked = start, []
    for t in scheduler.timesteps:
        x = scheduler.step(net(x, t), t, x).prev_sample
    mine = ddim(lambda x, t: asked.append(t) or net(x, t), start, steps, ABAR)
    assert asked == scheduler.timesteps.tolist()
    torch.testing.assert_close(mine, x, rtol=1e-5, atol=1e-5 * x.abs().max().item())


def test_small_unet_learns():
    """It starts as the best multiple of its input, whose loss is abar where pictures have variance
    1, and eighty narrow steps take a third off; time and kind are heard."""
    names = page("timestep-embedding", "epsilon-loss", "block", "small-unet", "train")
    torch.manual_seed(0)
    net = names["SmallUNet"](8, 2, ABAR)
    noisy, t, kind = (
        torch.randn(4, 3, 16, 16),
        torch.tensor([0, 10, 500, 999]),
        torch.tensor([0, 1, 0, 1]),
    )
    assert (
        net(noisy, t, kind) - (1 - ABAR[t].reshape(-1, 1, 1, 1)) ** 0.5 * noisy
    ).abs().max() < 0.5
    data = torch.linspace(-1, 1, 16).expand(2, 3, 16, 16), torch.tensor([0, 1])
    run = list(names["train"](net, data, ABAR, 80, rate=4e-3, batch=8))
    losses = torch.stack([loss.mean() for _, loss, _ in run])
    assert len(run) == 80 and losses[-20:].mean() < 0.67 * losses[:10].mean()
    mean, out = run[-1][0], net(noisy, t, kind)
    assert (mean(noisy, t, kind) - out).abs().max() > 1e-4, (
        "the running mean is a network of its own"
    )
    assert (net(noisy, t.flip(0), kind) - out).abs().max() > 1e-4 and (
        net(noisy, t, 1 - kind) - out
    ).abs().max() > 1e-5, "time and kind are heard"


def test_training_repeats():
    names = page("timestep-embedding", "epsilon-loss", "block", "small-unet", "train")
    data = torch.zeros(2, 3, 16, 16), torch.tensor([0, 1])

    def run():
        torch.manual_seed(0)
        net = names["SmallUNet"](8, 2, ABAR)
        return [loss.mean().item() for _, loss, _ in names["train"](net, data, ABAR, 3, batch=2)]

    assert run() == run() and len(run()) == 3


@pytest.mark.parametrize("after", [0, 1, 5])
def test_an_interrupt_keeps_what_was_learned(after, capsys):
    """The chapter's training cell, stopped by the reader: it says where, without a traceback, and
    the last snapshot is the network of that step."""
    shown, ema = [], ch03.SmallUNet(8, 6, ABAR)

    def stopped(net, data, alphas_cumprod, steps):
        for _ in range(after):
            yield ema, torch.rand(4) + 0.1, torch.randint(T, (4,))
        raise KeyboardInterrupt

    space = dict(plots=SimpleNamespace(live=lambda: shown.append), KINDS=ch03.KINDS, net=ema,
                 x_train=None, kind_train=None, small_abar=ABAR, STEPS=800, ch03=ch03)  # fmt: skip
    left = part(NAME, "training", torch=torch, time=time, copy=copy, train=stopped, **space)
    assert f"Stopped after step {after} of 800; what was learned" in capsys.readouterr().out
    assert list(left.snapshots) == ([0, after] if after else [0])
    assert left.snapshots[after] is ema or not after
    assert len(shown) == (after > 0)
    if after:
        assert shown[-1].alt.startswith(f"{after} training steps") and "house, cat" in shown[-1].alt


def test_lesson_and_solutions_share_one_code():
    """What the solutions take from the package is what the chapter shows, but for the types."""
    path = next(FOLDER.glob(f"{NAME}.ipynb"))
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    shown = {
        node.name: bare(node)
        for code in cells
        for node in ast.parse(code).body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef))
    }
    lesson = [ch03.timestep_embedding, ch03.epsilon_loss, ch03.Block, ch03.SmallUNet]
    for thing in [*lesson, ch03.close_up, ch03.train]:
        code = bare(ast.parse(inspect.getsource(thing)).body[0])
        assert code == shown[thing.__name__], f"{thing.__name__} differs from the chapter's"


def bare(tree) -> str:
    """Code without types."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        if isinstance(node, ast.arg):
            node.annotation = None
    return ast.unparse(tree)


def test_a_sketch_is_the_chapters_ddim():
    """Same network, same noise, same steps: to the last byte of the picture."""
    ddim, net = page("ddim")["ddim"], ch03.SmallUNet(8, 6, ABAR)
    noise = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    kinds = torch.tensor([0, 2])
    want = ddim(lambda x, t: net(x, torch.full((2,), t), kinds), noise, 12, ABAR)
    for a, b in zip(ch03.sketch(net, ABAR, kinds=[0, 2]), compression.to_images(want), strict=True):
        assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 1


# ------------------------------------------------------------------------------ the measuring tools


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_predict_noise_is_noise_whatever_the_network_predicts(pipe, kind):
    """A network that answers with the velocity is converted: 1e-5."""
    words = torch.randn(2, pipe.tokenizer.model_max_length, pipe.unet.config.cross_attention_dim)
    latents = torch.randn(2, 4, 8, 8)
    with torch.inference_mode():
        raw = pipe.unet(latents, 700, encoder_hidden_states=words).sample
    before = pipe.scheduler
    pipe.scheduler = models.build_scheduler(prediction_type=kind)
    try:
        got = prediction.predict_noise(pipe, latents, 700, words)
    finally:
        pipe.scheduler = before
    want = raw if kind == "epsilon" else ABAR[700] ** 0.5 * raw + (1 - ABAR[700]) ** 0.5 * latents
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)
    assert got.dtype == torch.float32 and not got.requires_grad


def test_predict_noise_in_another_thread(pipe):
    """Grad mode is per thread: a control's callback must get plain numbers too."""
    predict, latents, got = predictor(pipe), torch.randn(2, 4, 8, 8), []
    thread = threading.Thread(target=lambda: got.append(predict(latents, 5)))
    thread.start()
    thread.join()
    assert not got[0].requires_grad and torch.equal(got[0], predict(latents, 5))


def test_loss_by_timestep():
    """Against the formula; repeatable, and a perfect network has none."""
    x0 = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    got = ch03.loss_by_timestep(lambda x, t: x, x0, LEVELS, ABAR)
    torch.testing.assert_close(
        got, torch.stack([F.mse_loss(add_noise(x0, noise, t, ABAR), noise) for t in LEVELS])
    )
    assert torch.equal(got, ch03.loss_by_timestep(lambda x, t: x, x0, LEVELS, ABAR))
    assert not torch.equal(got, ch03.loss_by_timestep(lambda x, t: x, x0, LEVELS, ABAR, seed=1))
    perfect = ch03.loss_by_timestep(
        lambda x, t: (x - ABAR[t] ** 0.5 * x0) / (1 - ABAR[t]) ** 0.5, x0, LEVELS, ABAR
    )
    assert perfect.max() < 1e-4
    with pytest.raises(ValueError, match="run from 0 to 999"):
        ch03.loss_by_timestep(lambda x, t: x, x0, [1000], ABAR)


def test_skip_cut_zeroes_one_skip_and_heals(pipe):
    """Cutting changes the answer, each skip differently; afterwards, and with None, it is the old
    answer to the bit, also when something went wrong."""
    predict, latents = (
        predictor(pipe),
        torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
    )
    whole, count = predict(latents, 500), ch03.skip_count(pipe.unet)
    down = 1 + sum(len(b.resnets) + len(b.downsamplers or []) for b in pipe.unet.down_blocks)
    assert count == down, "every tensor on the way down has a partner"
    answers = []
    for index in range(count):
        with ch03.skip_cut(pipe.unet, index):
            answers.append(predict(latents, 500))
    assert all(
        (a - b).abs().max() > 1e-4
        for i, a in enumerate([whole, *answers])
        for b in [whole, *answers][:i]
    )
    with pytest.raises(RuntimeError), ch03.skip_cut(pipe.unet, 0):
        raise RuntimeError
    with ch03.skip_cut(pipe.unet, None):
        assert torch.equal(predict(latents, 500), whole)
    assert torch.equal(predict(latents, 500), whole)


def test_skip_cut_is_what_it_says(pipe):
    """Skip 0 is the first convolution's output: silencing that output for the last up block alone
    gives the same numbers."""
    predict, latents = (
        predictor(pipe),
        torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)),
    )
    channels, resnet = pipe.unet.conv_in.out_channels, pipe.unet.up_blocks[-1].resnets[-1]

    def silence(module, args):
        x = args[0].clone()
        x[:, -channels:] = 0
        return (x, *args[1:])

    handle = resnet.register_forward_pre_hook(silence)
    want = predict(latents, 300)
    handle.remove()
    with ch03.skip_cut(pipe.unet, 0):
        assert torch.equal(predict(latents, 300), want)


def test_no_other_thread_runs_the_cut_unet(pipe):
    """A prediction that waits for a thread of its own while skips are cut and healed again and
    again is always the whole U-Net's."""
    predict, latents = predictor(pipe), torch.randn(2, 4, 8, 8)
    whole, seen, stop = predict(latents, 500), [], threading.Event()

    def look():
        while not stop.is_set():
            seen.append(predict(latents, 500))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        for _ in range(30):
            with ch03.skip_cut(pipe.unet, 0):
                assert not torch.equal(predict(latents, 500), whole)
    finally:
        stop.set()
        thread.join()
    assert seen and all(torch.allclose(one, whole, atol=1e-6) for one in seen)


@pytest.mark.parametrize("index", [-1, 6, 100])
def test_skip_cut_refuses_what_is_not_there(pipe, index):
    with (
        pytest.raises(ValueError, match="skip connections 0 to 5"),
        ch03.skip_cut(pipe.unet, index),
    ):
        pass


# ---------------------------------------------------------------------------- the chapter's figures


def test_u_has_a_partner_for_every_skip():
    shapes = [
        (8, 16, 16),
        (8, 16, 16),
        (8, 8, 8),
        (16, 8, 8),
        (16, 8, 8),
        (8, 8, 8),
        (8, 16, 16),
        (4, 16, 16),
    ]
    texts = [t.get_text() for t in ch03.u_shape(shapes, 3).axes[0].texts]
    assert [f"skip {k}" for k in range(3)] == [t for t in texts if t.startswith("skip")]
    assert [t for t in texts if "×" in t] == [" × ".join(map(str, s)) for s in shapes]
    with pytest.raises(ValueError, match="4 skip connections need 10 tensors"):
        ch03.u_shape(shapes, 4)


@pytest.mark.parametrize("steps", [1, 9, 200])
def test_training_figure_shows_what_was_measured(steps):
    """From the first step on; the curve's end is the mean of the last twenty, the bins are the
    means by timestep."""
    losses, t = torch.rand(steps, 4) + 0.1, torch.randint(T, (steps, 4))
    curve, by_t = ch03.training(losses, t, T).axes
    assert curve.lines[1].get_ydata()[-1] == pytest.approx(losses[-20:].mean().item(), rel=1e-5)
    if steps > 19:  # and its start the mean of the first twenty, not of fewer
        first = curve.lines[1].get_xydata()[0]
        assert first == pytest.approx((19, losses[:20].mean().item()), rel=1e-5)
    part = max(1, steps // 10)
    lowest = losses[-part:][t[-part:] < T / 10]
    if len(lowest):
        assert by_t.lines[1].get_ydata()[0] == pytest.approx(lowest.mean().item(), rel=1e-5)


def test_views_keep_the_right_angle():
    levels = {"start": 1.0, "middle": 0.4, "end": 0.0}
    for ax, abar in zip(ch03.views(levels).axes, levels.values(), strict=True):
        x0, noise, x_t, v = (t.xy for t in ax.texts if hasattr(t, "xy"))
        assert x0 == pytest.approx((1, 0), abs=1e-6) and noise == pytest.approx((0, 1), abs=1e-6)
        assert x_t == pytest.approx(
            (abar**0.5, (1 - abar) ** 0.5), abs=1e-6
        ) and v == pytest.approx((-x_t[1], x_t[0]), abs=1e-6)


def test_live_picture_is_replaced(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "IPython.display.display",
        lambda data, **options: calls.append(
            (data["text/plain"], options["display_id"], options["update"])
        ),
    )
    one, other = plots.live(), plots.live()
    for draw, alt in ((one, "after 1 step"), (one, "after 2 steps"), (other, "another place")):
        draw(ch03.views({"half": 0.5}), alt)
    (first, a, new), (second, b, replaced), (_, c, fresh) = calls
    assert (
        (first, second) == ("after 1 step", "after 2 steps")
        and a == b != c
        and (new, replaced, fresh) == (False, True, False)
    )

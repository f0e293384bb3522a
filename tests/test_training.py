"""The trainers: their formulas, and that a killed training goes on where it was."""

import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sdlearn import hub, models, noising, world
from sdlearn.training import clip, common, data, evaluate, judge, tokenizer, unet, vae


def test_kl_term_equals_diffusers():
    """0.5 (mean^2 + var - 1 - log var) per latent value against DiagonalGaussianDistribution.kl (summed over values), tolerance 1e-5 relative."""
    torch.manual_seed(0)
    model = models.build_vae(block_out_channels=(8, 8, 8, 8))
    x = torch.randn(2, 3, 32, 32)
    settings = vae.VAESettings(square_weight=0.0, edge_weight=0.0, kl_weight=1.0)
    torch.manual_seed(1)
    with_kl, _ = vae.loss_terms(vae.RoundTrip(model), x, settings)
    torch.manual_seed(1)
    without, _ = vae.loss_terms(
        vae.RoundTrip(model), x, vae.VAESettings(square_weight=0.0, edge_weight=0.0, kl_weight=0.0)
    )
    posterior = model.encode(x).latent_dist
    wanted = posterior.kl().sum() / posterior.mean.numel()
    assert torch.allclose(with_kl - without, wanted, rtol=1e-4)


def test_balanced_channels_have_mean_zero_and_equal_deviation_and_decode_the_same():
    """Latents: |mean| < 1e-4 and equal standard deviations to 1e-4; pictures unchanged to 1e-4."""
    torch.manual_seed(0)
    model = models.build_vae(block_out_channels=(8, 8, 8, 8)).eval()
    pixels = np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), dtype=np.uint8)
    before = vae.measure(model, pixels)
    vae.balance(model, before["mean"], before["std"])
    after = vae.measure(model, pixels)
    assert (
        max(abs(m) for m in after["mean"]) < 1e-4 and max(after["std"]) - min(after["std"]) < 1e-4
    )
    assert after["psnr"] == pytest.approx(before["psnr"], abs=1e-3)


def test_noise_loss_weights_by_clamped_snr():
    """A network that predicts zero has squared error |noise|^2; each picture counts min(snr, gamma) / snr (Hang et al. 2023), tolerance 1e-5."""

    class Zero(torch.nn.Module):
        def forward(self, x, t, encoder_hidden_states):
            return type("Out", (), {"sample": torch.zeros_like(x)})

    alphas_cumprod = noising.make_alphas_cumprod()
    noise, t = torch.randn(3, 4, 8, 8), torch.tensor([0, 400, 999])
    loss, error = unet.noise_loss(
        Zero(), torch.randn(3, 4, 8, 8), noise, t, None, alphas_cumprod, 5.0
    )
    weights = torch.tensor([min(5.0, s) / s for s in noising.snr(alphas_cumprod)[t].tolist()])
    assert torch.allclose(error, noise.square().mean((1, 2, 3)))
    assert torch.allclose(loss, (weights * error).mean(), rtol=1e-5)
    assert weights[0] < 0.02 and weights[2] == 1


def test_noisy_one_is_the_loss_of_v():
    """With ``noisy`` 1 and no clamp felt, the squared error of v (Salimans and Ho 2022) by diffusers' get_velocity, tolerance 1e-4 relative."""

    class Guess(torch.nn.Module):
        def forward(self, x, t, encoder_hidden_states):
            return type("Out", (), {"sample": guess})

    torch.manual_seed(0)
    latents, noise, guess = torch.randn(3, 3, 4, 8, 8)
    alphas_cumprod, t = noising.make_alphas_cumprod(), torch.tensor([300, 600, 900])
    a = alphas_cumprod[t].view(-1, 1, 1, 1)
    scheduler = models.build_scheduler("ddpm")
    imagined = (scheduler.add_noise(latents, noise, t) - (1 - a).sqrt() * guess) / a.sqrt()
    wanted = (
        (scheduler.get_velocity(imagined, guess, t) - scheduler.get_velocity(latents, noise, t))
        .square()
        .mean()
    )
    loss, _ = unet.noise_loss(Guess(), latents, noise, t, None, alphas_cumprod, 5.0, noisy=1.0)
    assert noising.snr(alphas_cumprod)[t].max() < 5 and torch.allclose(loss, wanted, rtol=1e-4)


def test_from_wrong_latents_the_true_ones_are_asked_for():
    """Taking the target away from x_t of the shown latents, (x_t - sqrt(1 - abar) eps) / sqrt(abar), gives the true ones; x_t by diffusers' add_noise, tolerance 1e-3."""

    class Perfect(torch.nn.Module):
        def forward(self, x, t, encoder_hidden_states):
            a = alphas_cumprod[t].view(-1, 1, 1, 1)
            assert torch.allclose(
                x, models.build_scheduler("ddpm").add_noise(shown, noise, t), atol=1e-5
            )
            return type("Out", (), {"sample": (x - a.sqrt() * latents) / (1 - a).sqrt()})

    torch.manual_seed(0)
    latents, shown, noise = torch.randn(3, 3, 4, 8, 8)
    alphas_cumprod, t = noising.make_alphas_cumprod(), torch.tensor([350, 600, 999])
    _, error = unet.noise_loss(Perfect(), latents, noise, t, None, alphas_cumprod, 5.0, shown=shown)
    assert error.max() < 1e-6
    _, error = unet.noise_loss(Perfect(), shown, noise, t, None, alphas_cumprod, 5.0, shown=shown)
    assert error.min() > 1e-3, "whoever answers with other latents is wrong"


def test_a_short_u_net_training_writes_a_model_and_a_wrong_log_line(tmp_path):
    """Three seconds of the real loop, wrong latents included, from shipped weights: other weights come out, the log tells the error of true and wrong latents apart."""
    shipped, out = hub.TINY_SD, tmp_path / "out"
    shutil.copytree(shipped, out)
    unet.train(
        unet.UNetSettings(
            minutes=0.05,
            pictures=12,
            batch=8,
            work=str(tmp_path / "runs"),
            out=str(out),
            start_from=str(shipped),
            device="cpu",
            wrong=0.9,
        )
    )
    before, after = (hub.load_part("unet", folder).conv_in.weight for folder in (shipped, out))
    assert not torch.equal(before, after) and torch.isfinite(after).all()
    rows = [
        json.loads(line)
        for line in (tmp_path / "runs" / "unet" / "log.jsonl").read_text().splitlines()
    ]
    assert rows[0]["settings"]["wrong"] == 0.9 and {"loss", "error", "wrong"} <= set(rows[1])
    assert sorted(p.name.split("_")[1] for p in (tmp_path / "runs").glob("latents_*.npy")) == [
        "altered",
        "mirrored",
        "train",
    ]


def test_hearing_is_the_error_of_the_imagined_latents(monkeypatch):
    """Noise told exactly for a picture's own caption and 0.1 too high for any other: errors 0 and 0.1^2 (1 - abar) / abar, tolerance 1e-3 relative."""
    pipe = hub.load_pipeline()
    numbered = [(i, data.scene("seen", i)) for i in range(30_000, 30_040)]
    own = [world.caption(s) for _, s in numbered if len(s.things) == 2][:10]
    noise = torch.randn(10, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(
        unet.text,
        "encode_prompt",
        lambda pipe, said: torch.tensor([a != b for a, b in zip(said, own, strict=True)]).float(),
    )
    monkeypatch.setattr(
        unet, "predict_noise", lambda pipe, x, t, states: noise + 0.1 * states.view(-1, 1, 1, 1)
    )
    abar = noising.make_alphas_cumprod()[600].item()
    errors = unet.hearing(pipe, count=10, t=600)
    assert errors["own"] < 1e-9
    assert errors["colours"] == pytest.approx(0.01 * (1 - abar) / abar, rel=1e-3) and errors[
        "sides"
    ] == pytest.approx(0.01 * (1 - abar) / abar, rel=1e-3)


def test_wrong_latents_are_halves_of_the_twins():
    twins = torch.arange(3.0).view(3, 1, 1, 1, 1).expand(3, 400, 4, 16, 16)
    true = np.zeros(400, dtype=int)
    wrong = unet.mixed(twins, true, np.random.default_rng(0))
    assert wrong.shape == (400, 4, 16, 16)
    left, right = wrong[:, 0, 0, 0], wrong[:, 0, 0, 15]
    assert torch.equal(
        wrong[..., :8], left.view(-1, 1, 1, 1).expand(400, 4, 16, 8)
    ) and torch.equal(wrong[..., 8:], right.view(-1, 1, 1, 1).expand(400, 4, 16, 8))
    pairs = {
        (a, b)
        for a, b in zip(left.tolist(), right.tolist(), strict=True)
        if a in (0, 1, 2) and b in (0, 1, 2)
    }
    assert len(pairs) == 9, "each half of its own"
    between = (
        torch.tensor(
            [a % 1 > 0 or b % 1 > 0 for a, b in zip(left.tolist(), right.tolist(), strict=True)]
        )
        .float()
        .mean()
    )
    assert between == pytest.approx(0.5 * 8 / 9, abs=0.1), (
        "half go part of the way back, unless both halves are true"
    )


def test_altered_scenes_have_other_colours_or_another_kind_and_no_held_out_pair():
    exchanged = 0
    for i in range(300):
        scene, twin = data.scene("train", i), data.scene("altered", i)
        assert (
            not twin.held_out
            and twin != scene
            and (twin.place, twin.time) == (scene.place, scene.time)
        )
        assert [t.position for t in twin.things] == [t.position for t in scene.things]
        colours, kinds = (
            [
                sum(
                    getattr(a, part) != getattr(b, part)
                    for a, b in zip(scene.things, twin.things, strict=True)
                )
            ]
            for part in ("colour", "kind")
        )
        if len(scene.things) == 1:
            assert colours[0] + kinds[0] == 1
        else:
            assert (colours, kinds) == ([2], [0])
            exchanged += [t.colour for t in twin.things] == [t.colour for t in scene.things][::-1]
    assert exchanged > 70
    assert data.scene("altered", 5) == data.scene("altered", 5)


def test_telling_says_colours_and_sides():
    for i in range(50):
        scene = data.scene("train", i)
        said = data.telling(scene, np.random.default_rng(i))
        assert all(f"{t.colour} {t.kind}" in said for t in scene.things) and any(
            t.position in said.split() for t in scene.things
        )


def test_bfloat16_only_where_the_machine_has_it(monkeypatch):
    for capabilities, wanted in (
        ({"avx2": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({}, False),
    ):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda c=capabilities: c)
        assert bool(common.fast_bf16(torch.device("cpu"))) is wanted
    assert common.fast_bf16(torch.device("cuda")) and not common.fast_bf16(torch.device("mps"))


def test_two_things_is_their_share_of_the_picks():
    scenes = [data.scene("train", i) for i in range(400)]
    two = np.array([len(scene.things) == 2 for scene in scenes])
    assert 0 < two.sum() < 400
    for share in (0.2, 0.65):
        chances = unet.picking(scenes, share)
        picked = np.random.default_rng(0).choice(two, 20_000, p=chances)
        assert picked.mean() == pytest.approx(share, abs=0.015)  # 4 standard errors
    assert unet.picking([s for s, t in zip(scenes, two, strict=True) if t], 0.65) == pytest.approx(
        1 / two.sum()
    )
    for share in (0.0, 60.0):
        with pytest.raises(ValueError, match="between 0 and 1"):
            unet.picking(scenes, share)


def test_hold_wants_a_model_to_hold_on_to():
    with pytest.raises(ValueError, match="--start-from"):
        clip.train(clip.CLIPSettings(hold=1.0))


def test_drift_is_the_share_of_the_variance_that_moved():
    """0 for the same text tower; for one whose every state is moved by d, d^2 over the variance of the states, tolerance 1e-4. What the two of a pair do not share is free."""
    torch.manual_seed(0)
    tower = hub.load_part("clip").text_model
    ids = torch.randint(3, 400, (3, 77)).expand(2, 3, 77)
    with torch.no_grad():
        assert clip.drift(tower, tower, ids) == 0
        variance = tower(ids[0]).last_hidden_state.var(dim=(0, 1)).mean()
        moved = copy.deepcopy(tower)
        moved.final_layer_norm.bias += 0.3
        assert clip.drift(moved, tower, ids).item() == pytest.approx(
            0.09 / variance.item(), rel=1e-4
        )

        class Apart(torch.nn.Module):  # moves the first of each pair up and the second down
            def forward(self, ids):
                states = tower(ids).last_hidden_state
                return type(
                    "Out",
                    (),
                    {
                        "last_hidden_state": states
                        + 0.3
                        * (1 - 2 * (torch.arange(len(states)) >= len(states) // 2).float()).view(
                            -1, 1, 1
                        )
                    },
                )

        assert clip.drift(Apart(), tower, ids) < 1e-10


def test_loudness_is_the_distance_that_words_make():
    """0 where words change nothing; where each state is its token's number, the distance of the numbers of two captions over their deviation, tolerance 1e-5."""
    tokenizer = hub.load_tokenizer()

    class Tower:
        device = "cpu"

        def __init__(self, read):
            self.text_model = lambda ids: type(
                "Out", (), {"last_hidden_state": read(ids)[..., None].float()}
            )

    deaf = clip.loudness(
        Tower(lambda ids: torch.arange(77).expand(ids.shape)), tokenizer, "seen", 12
    )
    assert deaf == {"sides": 0, "colours": 0}
    scenes = [s for s in (data.scene("seen", i) for i in range(48)) if len(s.things) == 2][:12]
    told, mirrored = (
        tokenizer(
            [world.caption(f(s)) for s in scenes], padding="max_length", return_tensors="pt"
        ).input_ids.float()
        for f in (lambda s: s, data.mirror)
    )
    wanted = ((told - mirrored).square().mean() / told.var()).sqrt().item()
    heard = clip.loudness(Tower(lambda ids: ids), tokenizer, "seen", 12)
    assert heard["sides"] == pytest.approx(wanted, rel=1e-5) and heard["colours"] > 0


def test_mirrored_scenes_exchange_left_and_right_and_nothing_else():
    for i in range(20):
        scene, twin = data.scene("train", i), data.scene("mirrored", i)
        assert data.mirror(twin) == scene and (twin.place, twin.time) == (scene.place, scene.time)
        assert [(t.kind, t.colour) for t in twin.things] == [
            (t.kind, t.colour) for t in scene.things
        ]
        assert (twin == scene) == all(t.position == "middle" for t in scene.things)


def test_sides_tells_who_reads_them(monkeypatch):
    """A caption whose features are those of its own picture is always nearer to it, one with those of the mirrored picture never."""

    class Words:
        def __call__(self, captions, **options):
            return type("Out", (), {"input_ids": torch.zeros(len(captions), 1, dtype=torch.long)})

    def told(whose: int) -> list[bool]:
        def features(model, ids, pixels):
            image = torch.nn.functional.normalize(pixels.flatten(1), dim=1)
            return image[whose::2], image

        monkeypatch.setattr(clip, "features", features)
        return clip.sides(type("Model", (), {"device": "cpu"}), Words(), "seen", 10)

    assert told(0) == [True] * 10 and told(1) == [False] * 10


def test_contrastive_loss_is_lowest_for_the_right_pairs():
    from sdlearn.training.clip import contrastive_loss

    features = torch.nn.functional.normalize(torch.randn(8, 16), dim=-1)
    scale = torch.tensor(3.0)
    right = contrastive_loss(features, features, scale)
    assert right < contrastive_loss(features, features.roll(1, 0), scale)
    logits = scale.exp() * features @ features.T
    by_hand = -(logits.log_softmax(0).diag() + logits.log_softmax(1).diag()).mean() / 2
    assert torch.allclose(right, by_hand, atol=1e-5)


def test_learning_rate_warms_up_stays_and_falls():
    rates = [common.learning_rate(p, 1.0, flat=0.6) for p in np.linspace(0, 1, 101)]
    assert rates[0] < 0.1 and rates[10] == rates[60] == 1 and abs(rates[-1] - 0.01) < 1e-6
    assert all(a >= b for a, b in zip(rates[60:], rates[61:], strict=False))


def test_splits_keep_held_out_pairs_out_of_training():
    assert not any(
        data.scene("train", i).held_out or data.scene("seen", i).held_out for i in range(2000)
    )
    assert all(data.scene("held_out", i).held_out for i in range(500))
    assert data.scene("train", 7) == data.scene("train", 7) != data.scene("seen", 7)
    assert np.array_equal(data.picture("train", 3), data.picture("train", 3))


def test_tokenizer_learns_whole_words():
    merges = tokenizer.merges_of(["a red house in the snow"] * 50 + ["a blue house"] * 50, 500)
    vocab, _ = models.byte_vocabulary()
    vocab = {t: i for i, t in enumerate([*vocab, *("".join(m) for m in merges)])}
    made = models.build_tokenizer(vocab, merges)
    assert len(made("red house snow blue", add_special_tokens=False).input_ids) == 4
    assert len(made("zebra", add_special_tokens=False).input_ids) > 1


def test_frechet_distance_of_known_gaussians():
    """Two Gaussians with means 0 and m, covariances I and s^2 I: |m|^2 + D (1 - s)^2; sampled, so within 3 %."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((40_000, 6)), 2.0 * rng.standard_normal((40_000, 6)) + 1.5
    assert evaluate.frechet_distance(a, b) == pytest.approx(6 * 1.5**2 + 6 * (1 - 2) ** 2, rel=0.03)
    assert evaluate.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_share_is_a_wilson_interval():
    """Wilson 1927 for 8 of 10: 49.0 to 94.3 percent."""
    s = evaluate.share([True] * 8 + [False] * 2)
    assert (round(s["value"]), round(s["low"], 1), round(s["high"], 1)) == (80, 49.0, 94.3)


def test_card_tells_every_run_that_made_the_weights(tmp_path):
    """A run that went on from shipped weights is added to those before it, once; a run from nothing takes their place."""

    def facts(before, steps, **also):
        (tmp_path / "vae").mkdir(exist_ok=True)
        rows = [
            {"settings": {"batch": 16, "lr": 1e-3, "seed": 0, **also}, "hardware": "an abacus"},
            {"step": steps, "seconds": 120.0},
        ]
        (tmp_path / "vae" / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        return evaluate.training_facts(tmp_path, before)

    fresh = facts(None, 100)
    assert fresh["vae"] == [
        {
            "minutes": 2.0,
            "steps": 100,
            "hardware": "an abacus",
            "settings": {"batch": 16, "lr": 1e-3, "seed": 0},
        }
    ]
    further = facts(fresh, 200, start_from="shipped")
    assert (
        [r["steps"] for r in further["vae"]]
        == [r["steps"] for r in facts(further, 200, start_from="shipped")["vae"]]
        == [100, 200]
    )
    assert [r["steps"] for r in facts(further, 300)["vae"]] == [300]


def test_judge_says_same_only_for_what_was_named():
    red, blue = world.Thing("house", "red", "left"), world.Thing("cat", "blue", "right")
    scene = world.Scene((red, blue), "snow", "night")
    moved = world.Scene(
        (world.Thing("cat", "blue", "left"), world.Thing("house", "red", "right")), "snow", "night"
    )
    swapped = world.Scene(
        (world.Thing("house", "blue", "left"), world.Thing("cat", "red", "right")), "snow", "night"
    )
    assert (
        judge.same(scene, scene, positions=True)
        and judge.same(scene, moved)
        and not judge.same(scene, moved, positions=True)
    )
    assert (
        not judge.same(scene, swapped)
        and not judge.same(scene, None)
        and not judge.same(scene, world.Scene((red, blue), "snow", "day"))
    )
    wanted = judge.targets([scene])
    assert wanted["kind"].tolist() == [
        [world.KINDS.index("house"), len(world.KINDS), world.KINDS.index("cat")]
    ]


def start_training(work: Path, out: Path, *more: str) -> subprocess.Popen:
    small = [
        "--pictures",
        "64",
        "--test-pictures",
        "8",
        "--batch",
        "2",
        "--crop",
        "32",
        "--save-every",
        "0.5",
        "--no-bf16",
    ]
    command = [
        sys.executable,
        "-m",
        "sdlearn.training",
        "vae",
        "--work",
        str(work),
        "--out",
        str(out),
        *small,
        *more,
    ]
    return subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_kill_nine_loses_nothing_but_the_last_seconds(tmp_path):
    """Killed with SIGKILL after its first checkpoint, a training resumes at that checkpoint's step and finishes; the model is written at the end."""
    log = tmp_path / "work" / "vae" / "log.jsonl"
    process = start_training(tmp_path / "work", tmp_path / "out", "--minutes", "10")
    deadline = time.monotonic() + 120
    while not (log.exists() and (tmp_path / "work" / "vae" / "checkpoint.pt").exists()):
        assert process.poll() is None and time.monotonic() < deadline, (
            process.stderr.read().decode()[-2000:]
        )
        time.sleep(0.2)
    time.sleep(1.5)
    os.kill(process.pid, signal.SIGKILL) if hasattr(signal, "SIGKILL") else process.kill()
    process.wait()
    killed = torch.load(tmp_path / "work" / "vae" / "checkpoint.pt", weights_only=True)
    assert killed["step"] > 0 and not (tmp_path / "out" / "vae").exists()
    minutes = str((killed["elapsed"] + 3) / 60)
    process = start_training(tmp_path / "work", tmp_path / "out", "--minutes", minutes, "--resume")
    assert process.wait(timeout=120) == 0, process.stderr.read().decode()[-2000:]
    resumed = torch.load(tmp_path / "work" / "vae" / "checkpoint.pt", weights_only=True)
    assert resumed["step"] > killed["step"] and resumed["elapsed"] > killed["elapsed"]
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [r["step"] for r in rows[1:]] == sorted({r["step"] for r in rows[1:]})
    assert hub.load_part("vae", tmp_path / "out").config.scaling_factor > 0

"""Chapter 07's race: more noise for larger pictures, the samplers of the cascade, training."""

import json
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sdlearn import hub, models, noising, prediction
from sdlearn.chapters import cascade, ch07
from sdlearn.measure import race as measured
from sdlearn.training import __main__ as command
from sdlearn.training import data, race

TINY = dict(block_out_channels=(8, 8), norm_num_groups=4, attention_head_dim=1)
BLOCKS = dict(
    down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
    up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
)


@pytest.fixture
def tiny_race(monkeypatch):
    """The race with networks of a few thousand parameters."""
    plain = dict(down_block_types=("DownBlock2D",) * 2, up_block_types=("UpBlock2D",) * 2)
    changed = {
        name: {**unet, **TINY, **(plain if name == "upscale" else BLOCKS)}
        for name, unet in cascade.RACE_UNETS.items()
    }
    monkeypatch.setattr(cascade, "RACE_UNETS", changed)


def settings_for(folder, **changes) -> race.RaceSettings:
    told = dict(minutes=0.01, pictures=8, batch=2, marks=2, device="cpu", bf16=False)
    folders = dict(work=str(folder / "runs"), out=str(folder / "out"))
    return race.RaceSettings(**told | folders | changes)


# --------------------------------------------------------------------------------------- formulas


def test_shifted_noise_is_factor_times_the_noise_over_signal():
    """Hoogeboom et al. 2023: sqrt((1 - abar) / abar) times the factor, relative 1e-4."""
    abar = noising.make_alphas_cumprod()
    shifted = cascade.shift_noise(abar, 8)
    before, after = (((1 - a.double()) / a.double()) ** 0.5 for a in (abar, shifted))
    assert torch.allclose(after, 8 * before, rtol=1e-4)
    assert torch.equal(cascade.shift_noise(abar, 1), abar)
    with pytest.raises(ValueError, match="factor must be above 0"):
        cascade.shift_noise(abar, 0)


def test_the_mean_of_many_pixels_has_a_factor_less_noise():
    """Why the shift: a picture of 8 times the side, shrunk, is as noisy as one that was small and
    had the schedule of Tiny SD (2 % of the deviation)."""
    abar, factor, t = noising.make_alphas_cumprod(), 8, 500
    noise = torch.randn(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    a = cascade.shift_noise(abar, factor)[t]
    shrunk = cascade.shrink((1 - a) ** 0.5 * noise, 128 // factor) / a**0.5
    wanted = ((1 - abar[t]) / abar[t]) ** 0.5
    assert shrunk.std().item() == pytest.approx(wanted.item(), rel=0.02)


def test_imagined_pixels_stay_between_black_and_white():
    """x = sqrt(abar) clip(x0) + sqrt(1 - abar) noise, solved for the noise."""
    abar = torch.tensor(0.3)
    x0 = torch.tensor([-1.5, -0.5, 0.0, 0.7, 3.0])
    x = torch.randn(5, generator=torch.Generator().manual_seed(0))
    back = prediction.x0_from_epsilon(x, cascade.noise_of(x, x0, abar), abar)
    assert torch.allclose(back, x0.clamp(-1, 1), atol=1e-5)


def test_the_small_picture_gets_the_noise_of_diffusers_low_res_scheduler():
    """StableDiffusionUpscalePipeline noises it by its low_res_scheduler, a DDPMScheduler, and then
    enlarges: equal to 1e-6, here on Tiny SD's schedule."""
    small, noise = torch.randn(2, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    level = torch.tensor([0, 300])
    theirs = models.build_scheduler("ddpm").add_noise(small, noise, level)
    wanted = torch.nn.functional.interpolate(theirs, scale_factor=4, mode="bilinear")
    ours = cascade.noisy_and_enlarged(small, noise, level, 32)
    assert torch.allclose(ours, wanted, atol=1e-6)


@pytest.mark.parametrize("velocity", [True, False])
def test_the_error_is_that_of_what_is_predicted(velocity):
    """diffusers' get_velocity, or what a clean picture has beyond the enlarged one, off by 0.5:
    the error is 0.25, tolerance 1e-4."""
    generator = torch.Generator().manual_seed(0)
    clean, noise, beside = torch.randn(3, 2, 3, 8, 8, generator=generator)
    abars, t = noising.make_alphas_cumprod(), torch.tensor([10, 900])
    wanted = models.build_scheduler().get_velocity(clean, noise, t) if velocity else clean
    read = {}

    def answers(x, t, encoder_hidden_states, class_labels):
        read.update(x=x, states=encoder_hidden_states, level=class_labels)
        return SimpleNamespace(sample=wanted - beside + 0.5)

    lesson = race.Lesson(clean, None, beside, torch.tensor([3, 4]))
    error = race.error_of_prediction(
        answers, lesson, None, t, noise=noise, alphas_cumprod=abars, velocity=velocity
    )
    assert torch.allclose(error, torch.full((2,), 0.25), atol=1e-4)
    assert read["x"].shape == (2, 6, 8, 8) and torch.equal(read["x"][:, 3:], beside)
    assert read["level"].tolist() == [3, 4] and read["states"] is None


def test_crops_lie_where_their_small_picture_lies(monkeypatch):
    """A ramp, enlarged, is the ramp again: at the same place in both, tolerance 0.03."""
    monkeypatch.setattr(cascade, "MOST_NOISE", 0)
    monkeypatch.setattr(noising, "make_alphas_cumprod", lambda: torch.ones(1000))
    ramp = torch.arange(128, dtype=torch.uint8)
    picture = torch.stack([ramp[:, None].expand(128, 128), ramp.expand(128, 128)], -1)
    picture = torch.cat([picture, picture[..., :1]], -1)[None]
    told = race.Told(picture, torch.zeros(1, 9, 77), torch.zeros(77), None)
    settings = race.RaceSettings(batch=6, crop=32)
    picks, generator = torch.zeros(6, dtype=torch.long), torch.Generator().manual_seed(0)
    lesson = race.crops_of(told, picks, settings, np.random.default_rng(1), generator)
    assert lesson.clean.shape == lesson.beside.shape == (6, 3, 32, 32)
    inner = (lesson.clean - lesson.beside)[..., 2:-2, 2:-2]
    assert inner.abs().max() < 0.03
    assert len(lesson.clean[:, 0, 0, 0].unique()) > 1


# -------------------------------------------------------------------------------- train and sample


def test_the_clock_counts_the_processor_and_not_the_wall(tmp_path):
    """Waiting half a second before and after the first step is not training."""
    settings = settings_for(tmp_path, minutes=10.0)
    run = race.CoreTime("waits", settings, torch.nn.Linear(1, 1))
    began = time.process_time()
    for step, _ in run:
        time.sleep(0.5)
        if step == 1:
            break
    assert 0 <= run.elapsed <= time.process_time() - began < 0.5


def test_a_race_trains_goes_on_and_paints(tmp_path, tiny_race):
    settings = settings_for(tmp_path)
    race.train_race(settings)
    out = tmp_path / "out"
    for name in race.SHARES:
        facts = json.loads((out / name / "training.json").read_text())
        assert facts["minutes"] >= settings.minutes * race.SHARES[name] * 0.9
        assert str(tmp_path) not in json.dumps(facts), "no path of this machine"
        assert (out / "mark_2" / name).is_dir()
    found, pipe = cascade.load_race(out), hub.load_pipeline(hub.TINY_SD)
    for name, net in found._asdict().items():
        wanted = cascade.schedule_of(name)
        assert torch.allclose(net.scheduler.alphas_cumprod, wanted, rtol=1e-3, atol=1e-6)
        assert net.scheduler.config.prediction_type == "sample"
    small, large = cascade.by_cascade(found, pipe, ["a red cat", "a boat"], seed=[1, 2])
    again = cascade.by_cascade(found, pipe, "a boat", seed=[2])[0][0]
    assert small[0].size == (32, 32) and large[1].size == (128, 128) and len(large) == 2
    apart = np.abs(np.asarray(again, int) - np.asarray(small[1], int)).max()
    assert apart <= 1, "a picture of a batch can be repeated alone"
    pixels = cascade.in_pixels(found, pipe, "a red cat", steps=2, seed=0)
    assert pixels[0].size == (128, 128)
    race.train_race(replace(settings, resume=True, minutes=0.05, only="small"))
    assert json.loads((out / "small" / "training.json").read_text())["minutes"] > 0.025


def test_a_race_is_judged(tmp_path, tiny_race, monkeypatch):
    """Both comparisons, the pictures that are kept, and the card, of networks that know nothing."""
    monkeypatch.setattr(measured, "memory_of", lambda *_: 1.0)  # a fresh process has full networks
    deaf = {**cascade.RACE_UNETS["upscale"], **dict(in_channels=3, class_embed_type=None)}
    monkeypatch.setitem(cascade.RACE_UNETS, "pixels", deaf)  # attention at a side of 64 is slow
    race.train_race(settings_for(tmp_path))
    out = tmp_path / "out"
    told = measured.RaceMeasurement(race=str(out), out=str(out), prompts=4, batch=4)
    found = measured.measure_race(told)
    assert found == json.loads((out / "race.json").read_text()) == ch07.read_race(out / "race.json")
    for way in cascade.WAYS:
        early, late = found["equal_time"][way]
        assert 0 < early["minutes"] <= late["minutes"] < 1
        assert found["shipped"][way]["operations"] > 1e6 and found["shipped"][way]["seconds"] > 0
    assert (
        found["shipped"]["latents"]["in_place"]["value"]
        > found["shipped"]["pixels"]["in_place"]["value"]
    )
    rows = ch07.read_sheet(out / "equal_time.webp")
    assert [len(row) for row in rows] == [4, 4, 4] and rows[0][0].size == (128, 128)
    card = (out / "README.md").read_text()
    assert "| small | 0 |" in card and str(tmp_path) not in card
    for value, words in ((dict(part="all"), "--part is"), (dict(race="none"), "no race at none")):
        with pytest.raises(ValueError, match=words):
            replace(told, **value).check()


def test_words_reach_the_pixels(tiny_race):
    """At guidance 1 the prompt's prediction alone counts; at 0 the prompt counts for nothing."""
    torch.manual_seed(0)
    unet = models.build_unet(**cascade.RACE_UNETS["small"]).eval()
    net = cascade.Denoiser(unet, models.build_scheduler())
    pipe = hub.load_pipeline(hub.TINY_SD)

    def paint(prompt, scale):
        steps = cascade.pixel_steps(net, pipe, prompt, steps=2, guidance_scale=scale, seed=0)
        return [step.prev_latents for step in steps][-1]

    assert torch.allclose(paint("a red cat", 0), paint("a boat", 0))
    assert not torch.allclose(paint("a red cat", 1), paint("a boat", 1))


# -------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--only", "pixels,sound"], "--only takes some of latents,pixels,small,upscale"),
        (["--crop", "30"], "--crop must be a multiple of 4"),
        (["--start-from", "x"], "The race starts from nothing"),
        (["--drop-caption", "2"], "--drop-caption is a share"),
    ],
)
def test_what_cannot_be_trained_is_said_in_a_sentence(argv, words, tmp_path, capsys):
    told = ["--out", str(tmp_path / "out"), "--work", str(tmp_path / "runs")]
    assert command.main(["race", *told, *argv]) == 1
    assert words in capsys.readouterr().err


def test_the_cascade_refuses_other_sizes_and_levels():
    unet = SimpleNamespace(config=SimpleNamespace(sample_size=128))
    net = cascade.Denoiser(unet, models.build_scheduler())
    for small, level, words in (
        (torch.zeros(1, 3, 64, 64), 0, "enlarges pictures of 32 x 32 pixels"),
        (torch.zeros(3, 32, 32), 0, "enlarges pictures of 32 x 32 pixels"),
        (torch.zeros(1, 3, 32, 32), 101, "noise_level must be a whole number from 0 to 100"),
    ):
        with pytest.raises(ValueError, match=words):
            next(cascade.upscale_steps(net, small, noise_level=level))
    with pytest.raises(TypeError, match="small must be a tensor"):
        next(cascade.upscale_steps(net, "picture"))


def test_a_race_that_is_none_is_refused_in_a_sentence(tmp_path, tiny_race):
    with pytest.raises(FileNotFoundError, match="training race` makes one"):
        cascade.load_race(tmp_path / "nowhere")
    for name in cascade.Race._fields:
        race.keep(tmp_path, name, race.build("upscale"), {})
    with pytest.raises(ValueError, match="pixels reads 6 channels instead of 3"):
        cascade.load_race(tmp_path)


def test_weights_that_are_not_finite_are_not_written(tmp_path, tiny_race):
    unet = race.build("small")
    with torch.no_grad():
        next(unet.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="small was not written"):
        race.keep(tmp_path, "small", unet, {})
    assert not (tmp_path / "small").exists()


def test_all_networks_of_the_race_fit_into_20_megabytes():
    nets = [race.build(name) for name in cascade.RACE_UNETS]
    assert sum(p.numel() for net in nets for p in net.parameters()) * 2 < 20e6


def test_captions_are_dropped_now_and_then():
    told = race.Told(None, torch.ones(4, 9, 77), torch.zeros(77), None)
    picks = torch.arange(4).repeat(250)
    settings = race.RaceSettings(drop_caption=0.1)
    ids = race.captions_of(told, picks, settings, np.random.default_rng(0))
    assert 0.06 < (ids.sum(1) == 0).float().mean() < 0.14
    assert data.TOKENS == ids.shape[1]

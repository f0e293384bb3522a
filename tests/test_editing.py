"""Chapter 06: image to image and inpainting equal diffusers' pipelines, inversion its inverse
scheduler, each formula what it claims."""

import itertools
import math
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from sdlearn import compression, editing, models, sampling, text, world
from sdlearn.chapters import ch06
from sdlearn.judge import load_judge
from sdlearn.noising import Schedule, add_noise
from sdlearn.prediction import x0_from_epsilon

SCHEDULE = Schedule.named()
ABAR = SCHEDULE.alphas_cumprod
PROMPT, OTHER = "a green house on the left by day", "a blue house on the left by day"

# without the trained tokenizer every word is unknown: test_sampling.py tests those warnings
pytestmark = pytest.mark.filterwarnings("ignore:This model has never seen")


def gauss(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def scene(seed=0, size=64):
    return world.draw(world.sample_scene(np.random.default_rng(seed)), size, seed=seed)


def right_half(size=64, low=0):
    mask = Image.new("L", (size, size), low)
    mask.paste(255, (size // 2, 8, size, size - 8))
    return mask


def last(steps):
    return list(steps)[-1].prev_latents


def pipeline_latents(kind, pipe, sampler, seed, **options):
    reference = models.as_pipeline(kind, pipe, sampler)
    return reference(
        PROMPT, generator=torch.Generator().manual_seed(seed), output_type="latent", **options
    ).images


def close(ours, theirs, tolerance=1e-5):
    torch.testing.assert_close(
        ours, theirs, rtol=0, atol=tolerance * max(1.0, theirs.abs().max().item())
    )


# ----------------------------------------------------------------------------------- image to image


@pytest.mark.parametrize("steps", [1, 7, 25, 50])
def test_entry_formula(pipe, steps):
    """N - int(N s) steps are skipped: as diffusers does, for every strength in hundredths."""
    reference = models.as_pipeline("img2img", pipe)
    reference.scheduler.set_timesteps(steps)
    for strength in (i / 100 for i in range(101)):
        if int(steps * strength) < 1:
            with pytest.raises(ValueError, match=r"strength must be from .* to 1"):
                editing.skipped_steps(strength, steps)
        else:
            timesteps, left = reference.get_timesteps(steps, strength, "cpu")
            start = editing.skipped_steps(strength, steps)
            assert start == steps - left
            assert sampling.timesteps_of(pipe, "ddim", steps)[start:] == timesteps.tolist()


@pytest.mark.parametrize("strength", [0.2, 0.6, 1.0])
@pytest.mark.parametrize("sampler", list(sampling.SAMPLERS))
def test_img2img_equals_the_pipeline(pipe, sampler, strength):
    """Picture, prompt and seed to latents; 1e-5 of the latents' scale (2e-5 for "dpm++", whose last
    steps add what differs)."""
    options = {"num_inference_steps": 8, "guidance_scale": 4.0, "strength": strength}
    ours = last(editing.img2img_steps(pipe, scene(), PROMPT, sampler=sampler, seed=3, **options))
    close(ours, pipeline_latents("img2img", pipe, sampler, 3, image=scene(), **options), 2e-5)


def test_img2img_gives_the_pipelines_pictures(pipe):
    options = {"num_inference_steps": 4, "strength": 0.5, "guidance_scale": 5.0}
    ours = editing.img2img(pipe, scene(), PROMPT, seed=3, **options)
    theirs = models.as_pipeline("img2img", pipe)(
        PROMPT, image=scene(), generator=torch.Generator().manual_seed(3), **options
    ).images
    assert [p.size for p in ours] == [(64, 64)] and np.abs(
        np.asarray(ours[0], int) - np.asarray(theirs[0], int)
    ).max() <= 1


def test_img2img_starts_at_the_noise_of_its_first_step(pipe):
    """sqrt(abar) z + sqrt(1 - abar) noise of the timestep of entry, 1e-6: latents drawn first, then
    the noise, from one generator."""
    generator = torch.Generator().manual_seed(3)
    mean, std = compression.posterior(pipe, scene())
    z = mean + std * torch.randn(mean.shape, generator=generator)
    noise = torch.randn(mean.shape, generator=generator)
    first = next(
        editing.img2img_steps(pipe, scene(), PROMPT, strength=0.5, num_inference_steps=10, seed=3)
    )
    assert first.index == 5 and first.timestep == SCHEDULE.timesteps("leading", 10)[5]
    torch.testing.assert_close(
        first.latents, add_noise(z, noise, int(first.timestep), ABAR), atol=1e-6, rtol=0
    )


def test_posterior_is_the_librarys(pipe):
    mean, std = compression.posterior(pipe, [scene(0), scene(1)])
    with torch.inference_mode():
        curve = pipe.vae.encode(compression.to_tensor([scene(0), scene(1)])).latent_dist
    factor = pipe.vae.config.scaling_factor
    assert (
        torch.equal(mean, curve.mean * factor)
        and torch.equal(std, curve.std * factor)
        and std.min() > 0
    )


def test_batches_can_be_repeated_one_by_one(pipe):
    options = {"num_inference_steps": 4, "strength": 0.5}
    both = last(
        editing.img2img_steps(pipe, [scene(0), scene(1)], [PROMPT, OTHER], seed=[5, 6], **options)
    )
    close(both[1:], last(editing.img2img_steps(pipe, scene(1), OTHER, seed=[6], **options)))
    one = last(editing.img2img_steps(pipe, scene(1), [PROMPT, OTHER], seed=[5, 6], **options))
    close(one[1:], both[1:])


# --------------------------------------------------------------------------------------- inpainting


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("sampler", ["ddim", "euler", "dpm++"])
def test_inpaint_equals_the_pipeline(pipe, sampler, strength):
    """The 4-channel blend; 2e-5 of the latents' scale. (With "ddpm" the pipeline draws once more,
    for models of 9 channels, so its noise differs.)"""
    options = {"num_inference_steps": 8, "guidance_scale": 4.0, "strength": strength}
    ours = last(
        editing.inpaint_steps(
            pipe, scene(), right_half(), PROMPT, sampler=sampler, seed=3, **options
        )
    )
    close(
        ours,
        pipeline_latents(
            "inpaint", pipe, sampler, 3, image=scene(), mask_image=right_half(), **options
        ),
        2e-5,
    )


def test_inpaint_gives_the_pipelines_pictures(pipe):
    options = {"num_inference_steps": 4, "guidance_scale": 5.0}
    ours = editing.inpaint(pipe, scene(), right_half(), PROMPT, seed=3, **options)[0]
    theirs = models.as_pipeline("inpaint", pipe)(
        PROMPT,
        image=scene(),
        mask_image=right_half(),
        strength=1.0,
        generator=torch.Generator().manual_seed(3),
        **options,
    ).images[0]
    assert np.abs(np.asarray(ours, int) - np.asarray(theirs, int)).max() <= 1


@pytest.mark.parametrize("sampler", list(sampling.SAMPLERS))
def test_blend_formula(pipe, sampler):
    """m x + (1 - m) q(z, t): outside the mask each step carries the picture's latents with the next
    step's noise, and none after the last; inside, what was imagined."""
    steps = list(
        editing.inpaint_steps(
            pipe, scene(), right_half(), PROMPT, sampler=sampler, num_inference_steps=5, seed=3
        )
    )
    mean, std = compression.posterior(pipe, scene())
    generator = torch.Generator().manual_seed(3)
    z = mean + std * torch.randn(mean.shape, generator=generator)
    noise = torch.randn(mean.shape, generator=generator)
    inside = editing.latent_mask(right_half(), z, (64, 64)).bool().expand_as(z)
    assert 0 < inside.float().mean() < 1
    for step, after in itertools.pairwise(steps):
        known = SCHEDULE.add_noise(z, noise, after.timestep)
        torch.testing.assert_close(step.prev_latents[~inside], known[~inside], rtol=0, atol=1e-5)
        assert (step.prev_latents - known)[inside].abs().max() > 1e-3
    torch.testing.assert_close(steps[-1].prev_latents[~inside], z[~inside], rtol=0, atol=1e-6)


def test_noise_between_two_timesteps():
    """For "euler": the level whose noise-to-signal ratio lies between its neighbours', in the same
    closed form."""
    x0, noise = gauss(1, 4, 8, 8), gauss(1, 4, 8, 8, seed=1)
    sigma = ((1 - ABAR) / ABAR) ** 0.5
    between = (0.25 * sigma[500] + 0.75 * sigma[501]).item()
    want = (x0 + between * noise) / (1 + between**2) ** 0.5
    torch.testing.assert_close(SCHEDULE.add_noise(x0, noise, 500.75), want, atol=1e-5, rtol=0)
    assert torch.equal(SCHEDULE.add_noise(x0, noise, 500.0), add_noise(x0, noise, 500, ABAR))
    assert SCHEDULE.abar_at(500.75) == pytest.approx(1 / (1 + between**2), rel=1e-6)


def test_latent_mask_takes_the_first_pixel_of_each_patch():
    """Nearest, as diffusers does; 127 is dark and 128 light."""
    pixels = np.zeros((64, 64), np.uint8)
    pixels[8, 16], pixels[24, 24], pixels[41, 40] = (
        128,
        127,
        255,
    )  # row 1, column 2; too dark; not the first pixel of its patch
    small = editing.latent_mask(Image.fromarray(pixels), torch.zeros(1, 4, 8, 8), (64, 64))
    assert small.shape == (1, 1, 8, 8) and small.nonzero().tolist() == [[0, 0, 1, 2]]


def test_paste_back_restores_every_pixel_outside(pipe):
    old, mask = scene(), right_half(low=100)  # a grey that still means "keep"
    pasted = np.asarray(
        editing.inpaint(pipe, old, mask, PROMPT, paste=True, num_inference_steps=2, seed=1)[0]
    )
    plain = np.asarray(editing.inpaint(pipe, old, mask, PROMPT, num_inference_steps=2, seed=1)[0])
    light = np.asarray(mask) > 127
    assert np.array_equal(pasted[~light], np.asarray(old)[~light]) and np.array_equal(
        pasted[light], plain[light]
    )
    assert not np.array_equal(plain[~light], np.asarray(old)[~light])


def test_inpaint_batches(pipe):
    options = {"num_inference_steps": 3}
    both = editing.inpaint(
        pipe,
        [scene(0), scene(1)],
        right_half(),
        [PROMPT, OTHER],
        paste=True,
        seed=[5, 6],
        **options,
    )
    alone = editing.inpaint(pipe, scene(1), right_half(), OTHER, paste=True, seed=[6], **options)[0]
    assert np.abs(np.asarray(both[1], int) - np.asarray(alone, int)).max() <= 1
    assert (
        len(
            editing.inpaint(
                pipe, scene(1), right_half(), [PROMPT, OTHER], paste=True, seed=1, **options
            )
        )
        == 2
    )


# ---------------------------------------------------------------------------------------- inversion


@pytest.mark.parametrize("steps", [4, 30, 50])
def test_inversion_equals_the_inverse_scheduler(pipe, steps):
    """diffusers' DDIMInverseScheduler, guidance 1; 1e-5 of the scale."""
    from diffusers import DDIMInverseScheduler

    scheduler = DDIMInverseScheduler.from_config(models.build_scheduler().config)
    scheduler.set_timesteps(steps)
    x, states = compression.encode_image(pipe, scene()), text.encode_prompt(pipe, PROMPT)
    for t in scheduler.timesteps:
        with torch.inference_mode():
            x = scheduler.step(
                pipe.unet(x, t, encoder_hidden_states=states).sample, t, x
            ).prev_sample
    close(editing.invert(pipe, scene(), PROMPT, num_inference_steps=steps), x)


def test_inversion_step_formula(pipe, monkeypatch):
    """A step back, then DDIM's step forth with the same noise prediction, is nothing at all;
    1e-5."""
    eps = gauss(1, 4, 8, 8, seed=1)
    monkeypatch.setattr(editing, "predict_noise", lambda pipe, x, t, states: eps)
    path = list(editing.invert_steps(pipe, scene(), PROMPT, num_inference_steps=20))
    assert len(path) == 21 and torch.equal(path[0], compression.encode_image(pipe, scene()))
    forth = list(
        sampling.ddim(lambda x, t: eps, path[-1], SCHEDULE, SCHEDULE.timesteps("leading", 20))
    )
    for update, level in zip(forth, path[-2::-1], strict=True):
        torch.testing.assert_close(update.prev_latents, level, atol=1e-5, rtol=1e-5)


def test_replay_comes_closer_with_more_steps(pipe, monkeypatch):
    """A quarter of the step, less than half of the error, on Gaussian data of spread 0.5, whose
    noise is known exactly: the U-Net is asked one level too early."""

    def exact_noise(pipe, x, t, states):
        return x * (1 - ABAR[t]) ** 0.5 / (0.25 * ABAR[t] + 1 - ABAR[t])

    monkeypatch.setattr(editing, "predict_noise", exact_noise)
    z, errors = compression.encode_image(pipe, scene()), []
    for steps in (5, 20, 80):
        noise = editing.invert(pipe, scene(), PROMPT, num_inference_steps=steps)
        back = list(
            sampling.ddim(
                lambda x, t: exact_noise(None, x, t, None),
                noise,
                SCHEDULE,
                SCHEDULE.timesteps("leading", steps),
            )
        )[-1].prev_latents
        errors.append((back - z).square().mean().sqrt().item())
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_inverts_batches(pipe):
    both = editing.invert(pipe, [scene(0), scene(1)], [PROMPT, OTHER], num_inference_steps=3)
    close(both[1:], editing.invert(pipe, scene(1), OTHER, num_inference_steps=3))


# -------------------------------------------------------------------------------- prompt to prompt


def test_shared_words(pipe):
    place, kept = editing.shared_words(pipe, PROMPT, OTHER)
    assert torch.equal(place, torch.arange(77)) and kept.all(), (
        "one word for one word: it looks from where the old one did"
    )
    short, long = "a house by day", "a blue house by day"
    place, kept = editing.shared_words(pipe, short, long)
    ids = pipe.tokenizer([short, long], padding="max_length").input_ids
    blue = pipe.tokenizer.convert_ids_to_tokens(ids[1]).index("blue</w>")
    assert not kept[blue] and kept[:blue].all() and kept[blue + 1 : -1].all()
    assert [ids[0][p] for p, k in zip(place, kept, strict=True) if k] == [
        i for i, k in zip(ids[1], kept, strict=True) if k
    ]


def test_kept_attention_formula():
    """A shared word's column comes from the old prompt (Hertz et al. 2022), a new word keeps its
    own, and the halves without prompt are left alone."""
    weights = torch.rand(8, 3, 5, 4).softmax(
        -1
    )  # two pairs: [without x 4, old, old, new, new], 3 heads, 5 pixels, 4 tokens
    place = torch.tensor([[0, 1, 2, 3], [0, 2, 9, 3]]) % 4
    kept = torch.tensor([[True, True, False, True], [True, True, False, False]])
    keeper = editing.KeepAttention(list(zip(place, kept, strict=True)))
    got = keeper.look(weights.clone())
    assert torch.equal(got[:6], weights[:6])
    assert torch.equal(got[6][..., [0, 1, 3]], weights[4][..., [0, 1, 3]]) and torch.equal(
        got[6][..., 2], weights[6][..., 2]
    )
    assert torch.equal(got[7][..., :2], weights[5][..., [0, 2]]) and torch.equal(
        got[7][..., 2:], weights[7][..., 2:]
    )
    keeper.on = False
    assert torch.equal(keeper.look(weights), weights)


def test_nothing_kept_is_plain_sampling(pipe):
    """keep = 0: two pictures from the same noise, 1e-4 (plain products against the fused kernel);
    keep > 0 is another second picture and the same first."""
    options = {"num_inference_steps": 4, "guidance_scale": 3.0}
    start = sampling.start_latents(pipe, 1, seed=2)
    plain = sampling.sample(pipe, [PROMPT, OTHER], latents=torch.cat([start, start]), **options)
    before, after = editing.prompt_to_prompt(pipe, PROMPT, OTHER, keep=0, seed=2, **options)
    kept_before, kept_after = editing.prompt_to_prompt(
        pipe, PROMPT, OTHER, keep=1, seed=2, **options
    )
    for ours, theirs in ((before, plain[:1]), (after, plain[1:]), (kept_before, plain[:1])):
        assert np.abs(np.asarray(ours[0], int) - np.asarray(theirs[0], int)).max() <= 2
    assert not np.array_equal(np.asarray(kept_after[0]), np.asarray(after[0]))


def test_the_same_words_told_twice_are_the_same_picture(pipe):
    before, after = editing.prompt_to_prompt(
        pipe, PROMPT, PROMPT, keep=0.5, seed=2, num_inference_steps=4
    )
    assert np.abs(np.asarray(before[0], int) - np.asarray(after[0], int)).max() <= 1


def test_a_retold_picture_is_held_on_its_path(pipe):
    """The old prompt's picture of one that exists ends at the autoencoder's copy of it, at any
    guidance; the processors are put back."""
    processors = pipe.unet.attn_processors
    path = list(editing.invert_steps(pipe, scene(), PROMPT, num_inference_steps=4))
    before, after = editing.prompt_to_prompt(
        pipe, PROMPT, OTHER, path=path, num_inference_steps=4, guidance_scale=7.0
    )
    latents = compression.encode_image(pipe, scene())
    copy = compression.decode_latents(pipe, torch.cat([latents, latents]))[
        0
    ]  # two at once, as the two prompts are: some processors round one alone otherwise
    assert np.array_equal(np.asarray(before[0]), np.asarray(copy)) and not np.array_equal(
        np.asarray(after[0]), np.asarray(copy)
    )
    assert pipe.unet.attn_processors == processors


def test_prompt_to_prompt_takes_batches(pipe):
    path = list(
        editing.invert_steps(pipe, [scene(0), scene(1)], [PROMPT, OTHER], num_inference_steps=3)
    )
    _, both = editing.prompt_to_prompt(
        pipe, [PROMPT, OTHER], [OTHER, PROMPT], path=path, num_inference_steps=3
    )
    _, alone = editing.prompt_to_prompt(
        pipe, OTHER, PROMPT, path=[p[1:] for p in path], num_inference_steps=3
    )
    assert np.abs(np.asarray(both[1], int) - np.asarray(alone[0], int)).max() <= 2


# -------------------------------------------------------------------------------------------- walks


def test_slerp_formula():
    """sin((1 - t) w) a / sin w + sin(t w) b / sin w: on a circle it is the point at the angle t w;
    ends and length are exact to 1e-6."""
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    for t in (0, 0.25, 0.5, 1):
        want = torch.tensor([[math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)]])
        torch.testing.assert_close(editing.slerp(a, b, t), want, atol=1e-6, rtol=0)
    x, y = gauss(2, 4, 16, 16), gauss(2, 4, 16, 16, seed=1)
    torch.testing.assert_close(editing.slerp(x, y, 0.0), x, atol=1e-6, rtol=0)
    torch.testing.assert_close(editing.slerp(x, y, 1.0), y, atol=1e-6, rtol=0)
    each = torch.cat([editing.slerp(x[i : i + 1], y[i : i + 1], 0.3) for i in range(2)])
    (
        torch.testing.assert_close(editing.slerp(x, y, 0.3), each),
        "each picture of a batch has its own arc",
    )


def test_slerp_keeps_the_length_that_a_straight_line_loses():
    """Halfway between two noises of 1024 numbers: 1 / sqrt(2) of the length on the line, within 5
    %; all of it on the arc, within 5 %."""
    for seed in range(20):
        a, b = gauss(1, 4, 16, 16, seed=seed), gauss(1, 4, 16, 16, seed=seed + 100)
        length = (a.norm() + b.norm()) / 2
        assert torch.lerp(a, b, 0.5).norm() / length == pytest.approx(0.5**0.5, rel=0.05)
        assert editing.slerp(a, b, 0.5).norm() / length == pytest.approx(1, rel=0.05)


def test_slerp_of_parallel_vectors_is_the_straight_line():
    a = gauss(1, 4, 8, 8)
    torch.testing.assert_close(editing.slerp(a, 2 * a, 0.5), 1.5 * a)
    torch.testing.assert_close(editing.slerp(a, a, 0.3), a)


def test_a_walk_ends_where_sample_would(pipe):
    options = {"num_inference_steps": 3, "guidance_scale": 4.0}
    frames = editing.walk(pipe, (PROMPT, OTHER), (1, 2), 4, **options)
    ends = [
        sampling.sample(pipe, prompt, seed=seed, **options)[0]
        for prompt, seed in ((PROMPT, 1), (OTHER, 2))
    ]
    assert len(frames) == 4
    for frame, end in zip((frames[0], frames[-1]), ends, strict=True):
        assert np.abs(np.asarray(frame, int) - np.asarray(end, int)).max() <= 2


def test_gif_runs_there_and_back(tmp_path):
    frames = [Image.new("RGB", (16, 16), (20 * i, 0, 255 - 20 * i)) for i in range(5)]
    path = editing.save_gif(frames, tmp_path / "walk.gif", seconds=0.2)
    with Image.open(path) as gif:
        assert (gif.format, gif.n_frames, gif.info["loop"], gif.info["duration"], gif.size) == (
            "GIF",
            8,
            0,
            200,
            (16, 16),
        )
        seen = []
        for i in range(8):
            gif.seek(i)
            seen.append(gif.convert("RGB").getpixel((8, 8))[0])
    assert seen == pytest.approx([0, 20, 40, 60, 80, 60, 40, 20], abs=2)
    with Image.open(editing.save_gif(frames, tmp_path / "once.gif", back=False)) as gif:
        assert gif.n_frames == 5


def test_psnr_outside_a_mask():
    a, b = scene(0), scene(1)
    mask = right_half()
    light = np.asarray(mask) > 127
    error = np.square(np.asarray(a, float)[~light] - np.asarray(b, float)[~light]).mean()
    assert editing.psnr_outside(a, b, mask) == pytest.approx(10 * math.log10(255**2 / error))
    assert editing.psnr_outside(a, editing.paste_back(b, a, mask), mask) == math.inf


# ---------------------------------------------------------------------------------------- all of it


def test_works_in_another_thread_with_gradients_on(pipe):
    """Widget callbacks run in threads, where a cell's no_grad does not reach."""
    done, failed = [], []

    def work():
        try:
            options = {"num_inference_steps": 2}
            editing.img2img(pipe, scene(), PROMPT, seed=1, **options)
            editing.inpaint(pipe, scene(), right_half(), PROMPT, seed=1, **options)
            path = list(editing.invert_steps(pipe, scene(), PROMPT, **options))
            editing.prompt_to_prompt(pipe, PROMPT, OTHER, path=path, **options)
            editing.walk(pipe, (PROMPT, OTHER), (1, 2), 2, **options)
            done.append(path[-1].numpy())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failed and done


def test_x0_of_an_inverted_path_is_the_picture(pipe):
    """Each latent of the path with the noise the U-Net sees there gives back the level before it:
    the path is made of pictures with noise, not of noise alone."""
    path = list(editing.invert_steps(pipe, scene(), PROMPT, num_inference_steps=50))
    z, step = (
        path[0],
        next(
            sampling.sample_steps(
                pipe, PROMPT, latents=path[1], start=49, num_inference_steps=50, guidance_scale=1.0
            )
        ),
    )
    assert (x0_from_epsilon(path[1], step.noise_pred, ABAR[1]) - z).square().mean().sqrt() < 0.05


@pytest.mark.parametrize(
    ("act", "sentence"),
    [
        (
            lambda pipe: editing.img2img(pipe, scene(), PROMPT, strength=1.2),
            r"strength must be from 0.04 \(one of 25 steps\) to 1 \(all of them\); got 1.2",
        ),
        (
            lambda pipe: editing.img2img(pipe, scene(), PROMPT, strength=0.01),
            "strength must be from 0.04",
        ),
        (
            lambda pipe: editing.img2img(pipe, scene(), PROMPT, num_inference_steps=0),
            "whole number from 1 to 1000; got 0",
        ),
        (
            lambda pipe: editing.img2img(pipe, scene(), PROMPT, sampler="plms"),
            "Unknown sampler 'plms'",
        ),
        (
            lambda pipe: editing.img2img(pipe, scene(size=60), PROMPT),
            r"multiples of 8 .*; this one is 60 x 60: use compression.fit",
        ),
        (
            lambda pipe: editing.img2img(pipe, [scene(0), scene(1)], PROMPT),
            "2 pictures for 1 prompts: give one picture for all, or one for each",
        ),
        (
            lambda pipe: editing.img2img(pipe, scene(), PROMPT, seed=[1, 2]),
            "2 seeds for 1 pictures",
        ),
        (
            lambda pipe: editing.inpaint(pipe, scene(), right_half(32), PROMPT),
            r"The mask is 32 x 32 and the picture 64 x 64: they must lie on each other",
        ),
        (
            lambda pipe: editing.inpaint(pipe, scene(), Image.new("L", (64, 64)), PROMPT),
            "leaves nothing to repaint",
        ),
        (
            lambda pipe: editing.invert(pipe, scene(), PROMPT, num_inference_steps=0),
            "whole number from 1 to 1000; got 0",
        ),
        (
            lambda pipe: editing.prompt_to_prompt(pipe, [PROMPT], [OTHER, OTHER]),
            "1 prompts and 2 new ones",
        ),
        (
            lambda pipe: editing.prompt_to_prompt(
                pipe, PROMPT, OTHER, path=[torch.zeros(1, 4, 8, 8)] * 4
            ),
            "The path has 3 steps and the sampling 25",
        ),
        (lambda pipe: editing.save_gif([], "none.gif"), "at least one picture"),
    ],
)
def test_bad_input_gets_one_sentence(pipe, act, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        act(pipe)
    assert "\n" not in str(caught.value)


def test_a_figure_is_told_by_what_the_judge_sees_neighbors_alike_once():
    red, blue = (
        world.Scene((world.Thing("house", c, "left"),), "snow", "day") for c in ("red", "blue")
    )
    row = [world.draw(s, 128, seed=1) for s in (red, red, blue, red)]
    told = ch06.told(load_judge(), {"strength": row}, [0.1, 0.2, 0.3, 0.4])
    one, other = (
        "a red house on the left, in the snow, by day",
        "a blue house on the left, in the snow, by day",
    )
    said = f"strength (0.1, 0.2): {one}; strength (0.3): {other}; strength (0.4): {one}"
    assert told == f"The judge sees: {said}."

"""What people hand in: every kind of picture, mask, pipeline, number, seed and keyword ends as what
was meant, or in one sentence that says what to do."""

import io
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from sdlearn import compression, editing, inputs, models, sampling, world

pytestmark = pytest.mark.filterwarnings("ignore:This model")

SCENE = world.draw(world.sample_scene(np.random.default_rng(0)), 64, seed=0)
ORANGE = (250, 140, 40)


def plain(color=ORANGE, size=(16, 8)):
    return Image.new("RGB", size, color)


def far(a, b) -> int:
    """Largest difference of two pictures, in gray values."""
    return np.abs(np.asarray(a, int) - np.asarray(b, int)).max()


def file_of(image, kind="PNG", **options) -> bytes:
    held = io.BytesIO()
    image.save(held, kind, **options)
    return held.getvalue()


# ------------------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "P", "RGB", "RGBA", "RGBX", "CMYK",
                                  "YCbCr", "LAB", "HSV", "I", "F", "I;16"])  # fmt: skip
def test_every_mode_of_pil_becomes_rgb(mode):
    """White stays white, black black, in each mode that PIL can make of them."""
    for level in (0, 255):
        image = Image.new("L", (8, 8), level)
        if mode == "La":
            image = image.convert("LA").convert("La")
        elif mode == "I;16":
            image = Image.fromarray(np.full((8, 8), 257 * level, np.uint16))
        elif mode in ("LAB", "HSV", "CMYK", "YCbCr", "RGBX"):
            image = image.convert("RGB").convert(mode) if mode != "LAB" else Image.new(
                "LAB", (8, 8), (level, 128, 128)
            )  # fmt: skip
        else:
            image = image.convert(mode)
        assert image.mode == mode
        got = inputs.open_image(image)
        assert got.mode == "RGB" and far(got, plain((level,) * 3, (8, 8))) <= 2


def test_a_path_bytes_and_arrays_are_pictures_too(tmp_path):
    path = tmp_path / "picture.png"
    SCENE.save(path)
    pixels = np.asarray(SCENE)
    sources = [path, str(path), path.read_bytes(), bytearray(path.read_bytes()), pixels,
               pixels / 255, (pixels / 255).astype(np.float32), pixels.astype(np.int64),
               pixels.astype(np.uint16) * 257]  # fmt: skip
    for source in sources:
        assert far(inputs.open_image(source), SCENE) == 0
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert far(inputs.open_image(gray[..., None]), inputs.open_image(gray)) == 0
    assert far(inputs.open_image(gray > 31), inputs.open_image(255 * np.uint8(gray > 31))) == 0


def test_a_phones_photo_stands_upright():
    """EXIF orientation 6: the camera was turned, the sensor's rows are the picture's columns."""
    sideways = SCENE.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = inputs.open_image(file_of(sideways, "PNG", exif=exif))
    assert far(upright, SCENE) == 0


def test_what_is_transparent_is_laid_on_white():
    """Hidden colors stay hidden, half a veil is half of each, also from a palette."""
    veil = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    assert far(inputs.open_image(veil), plain((255, 255, 255), (8, 8))) == 0
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert far(inputs.open_image(half), plain((127, 127, 127), (8, 8))) <= 1
    palette = plain(size=(8, 8)).quantize(4)
    palette.info["transparency"] = palette.getpixel((0, 0))
    assert far(inputs.open_image(palette), plain((255, 255, 255), (8, 8))) == 0


def test_16_bits_and_fractions_are_scaled_and_not_clipped():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    want = np.arange(256).reshape(16, 16)
    for source in (ramp, Image.fromarray(ramp), file_of(Image.fromarray(ramp)), ramp / 65535,
                   Image.fromarray((ramp / 65535).astype(np.float32)),
                   Image.fromarray(ramp.astype(np.int32))):  # fmt: skip
        assert np.abs(np.asarray(inputs.open_image(source))[..., 0].astype(int) - want).max() <= 1


BAD_PICTURES = {
    "no file": (lambda tmp: tmp / "none.png", FileNotFoundError, "There is no picture at"),
    "a folder": (lambda tmp: tmp, ValueError, "No picture could be read from"),
    "text": (lambda tmp: b"hello", ValueError, "No picture could be read from the 5 bytes given"),
    "cut off": (lambda tmp: file_of(SCENE)[:900], ValueError, "damaged"),
    "tensor": (lambda tmp: torch.zeros(3, 8, 8), TypeError, r"compression.to_images\(tensor\)"),
    "None": (lambda tmp: None, TypeError, "A picture is needed; got NoneType"),
    "number": (lambda tmp: 3.5, TypeError, "A picture is needed; got float"),
    "channels first": (lambda tmp: np.zeros((3, 8, 8)), ValueError, r"shape \(3, 8, 8\)"),
    "no pixels": (lambda tmp: np.zeros((0, 8, 3)), ValueError, "no pixels"),
    "0 x 0": (lambda tmp: Image.new("RGB", (0, 0)), ValueError, "0 x 0 pixels"),
    "nan": (lambda tmp: np.full((8, 8), np.nan), ValueError, "fractions from 0 to 1; these run"),
    "below 0": (lambda tmp: np.full((8, 8, 3), -1.0), ValueError, "these run from -1 to -1"),
    "words": (lambda tmp: np.full((8, 8), "a"), TypeError, "A picture holds numbers"),
    "vast": (lambda tmp: Image.new("1", (20_000, 20_000)), ValueError, "20000 x 20000 pixels"),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_what_is_no_picture_gets_one_sentence(name, tmp_path):
    make, kind, sentence = BAD_PICTURES[name]
    with pytest.raises(kind, match=sentence) as caught:
        inputs.open_image(make(tmp_path))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_every_function_takes_every_kind_of_picture(pipe, tmp_path):
    path = tmp_path / "picture.png"
    SCENE.save(path)
    want = compression.encode_image(pipe, SCENE)
    for source in (path, str(path), path.read_bytes(), np.asarray(SCENE), SCENE.convert("RGBA")):
        assert torch.equal(compression.encode_image(pipe, source), want)
        assert compression.psnr(source, SCENE) == float("inf")
        assert compression.fit(source, pipe).size == (64, 64)
        assert editing.img2img(pipe, source, "a house", num_inference_steps=2)[0].size == (64, 64)
    assert compression.jpeg(path, 4000)[1] <= 4000


def test_a_photo_without_fit_is_refused_before_any_work(pipe):
    """4032 x 3024: its sides are multiples of 8, and the encoder would take minutes."""
    photo = Image.new("RGB", (4032, 3024))
    for act in (
        lambda: compression.encode_image(pipe, photo),
        lambda: editing.img2img(pipe, photo, "a house"),
        lambda: editing.invert(pipe, photo, "a house"),
    ):
        with pytest.raises(ValueError, match=r"this one is 4032 x 3024: use compression\.fit"):
            act()
    assert compression.fit(photo, pipe).size == (64, 64)


def test_pictures_of_two_sizes_get_a_sentence(pipe):
    with pytest.raises(ValueError, match=r"64 x 64.*use compression\.fit"):
        compression.encode_image(pipe, [SCENE, SCENE.resize((128, 128))])
    with pytest.raises(ValueError, match="No picture"):
        compression.encode_image(pipe, [])


# ---------------------------------------------------------------------------------------- masks


def test_masks_of_every_kind_mean_the_same(tmp_path):
    bits = np.zeros((64, 64), bool)
    bits[16:48, 8:40] = True
    gray = np.uint8(255) * bits
    clear = np.zeros((64, 64, 4), np.uint8)
    clear[bits] = 255  # white painted on an empty layer
    photo = np.dstack([np.asarray(SCENE), 255 - gray])  # a hole erased in a picture
    black = np.dstack([np.zeros((64, 64, 3), np.uint8), 255 - gray])  # and in a black sheet
    path = tmp_path / "mask.png"
    Image.fromarray(gray).save(path)
    for source in (bits, gray, bits.astype(np.uint8), bits.astype(float), clear, photo, black,
                   gray.astype(np.uint16) * 257, path, path.read_bytes(),
                   Image.fromarray(gray).convert("1"),
                   Image.fromarray(gray).convert("RGB")):  # fmt: skip
        assert np.array_equal(np.asarray(inputs.open_mask(source)) > 127, bits)
    assert not np.asarray(inputs.open_mask(np.zeros((8, 8, 4), np.uint8))).any()


def test_a_fitted_mask_lies_on_the_fitted_picture(pipe):
    """A photo 160 x 96 and its mask, both cropped: the masked square stays on the blue one."""
    photo = Image.new("RGB", (160, 96), (255, 255, 255))
    mask = Image.new("L", photo.size)
    photo.paste((0, 0, 255), (80, 16, 112, 64))
    mask.paste(255, (80, 16, 112, 64))
    fitted = np.asarray(compression.fit(photo, pipe))
    light = np.asarray(compression.fit(mask, pipe, mask=True)) > 127
    blue = fitted[..., 0] < 128
    assert (light & blue).sum() > 0.9 * (light | blue).sum()
    with pytest.raises(ValueError, match=r"must lie on each other.*fit\(mask, pipe, mask=True\)"):
        editing.inpaint(pipe, compression.fit(photo, pipe), mask, "a house")


def test_masks_that_leave_nothing_get_a_sentence(pipe):
    full = Image.new("L", (64, 64), 255)
    with pytest.raises(ValueError, match="nothing outside to compare"):
        editing.psnr_outside(SCENE, SCENE, full)
    with pytest.raises(ValueError, match="leaves nothing to repaint"):
        editing.inpaint(pipe, SCENE, np.zeros((64, 64), bool), "a house")


def test_inpaint_gives_one_picture_a_prompt(pipe):
    mask = Image.new("L", (64, 64))
    mask.paste(255, (0, 0, 32, 64))
    for paste in (False, True):
        prompts = ["a house", "a cat"]
        made = editing.inpaint(pipe, [SCENE], mask, prompts, paste=paste, num_inference_steps=2)
        assert len(made) == 2


# --------------------------------------------------------------- numbers, seeds, words, keywords


@pytest.mark.parametrize("seed", [1.5, "7", True, -1, 2**64, [1.5], float("nan")])
def test_what_is_no_seed_is_refused(pipe, seed):
    with pytest.raises(ValueError, match="seed must be a whole number from 0 to"):
        sampling.sample_steps(pipe, "a house", seed=seed)


KEYWORDS = {
    "height": "the model's own size",
    "num_images_per_prompt": r"\[prompt\] \* 4",
    "torch_dtype": r"load_pipeline\(dtype=",
    "steps": "num_inference_steps",
    "cfg_scale": "guidance_scale",
    "scheduler": "sampler",
    "callback_on_step_end": "go through the steps yourself",
    "image": "editing.img2img",
    "gidance_scale": "did you mean guidance_scale?",
    "colour": "it knows pipe, prompt, negative_prompt",
}


@pytest.mark.parametrize("name", KEYWORDS)
def test_other_libraries_keywords_get_ours(pipe, name):
    for act in (sampling.sample_steps, sampling.sample):
        with pytest.raises(TypeError, match=f"sample_steps has no {name}: .*{KEYWORDS[name]}"):
            act(pipe, "a house", **{name: 3})
    if name != "image":
        with pytest.raises(TypeError, match=f"has no {name}"):
            editing.img2img(pipe, SCENE, "a house", **{name: 3})
    for act in (editing.invert, editing.invert_steps, editing.walk, editing.slerp):
        if name != "image":
            with pytest.raises(TypeError, match=f"{act.__name__} has no {name}: "):
                act(pipe, **{name: 3})


def test_what_a_function_sets_itself_is_refused(pipe):
    latents = sampling.start_latents(pipe)
    with pytest.raises(TypeError, match="sets latents itself: leave it out"):
        editing.img2img(pipe, SCENE, "a house", latents=latents)
    with pytest.raises(TypeError, match="sets latents itself"):
        editing.prompt_to_prompt(pipe, "a house", "a cat", latents=latents)


@pytest.mark.parametrize("wrong", [None, "a house", 3, SimpleNamespace(unet=1, vae=2)])
def test_what_is_no_pipeline_gets_a_sentence(wrong):
    for act in (
        lambda: sampling.sample(wrong, "a house"),
        lambda: sampling.start_latents(wrong),
        lambda: compression.fit(SCENE, wrong),
        lambda: compression.encode_image(wrong, SCENE),
        lambda: compression.decode_latents(wrong, torch.zeros(1, 4, 8, 8)),
        lambda: editing.invert(wrong, SCENE, "a house"),
        lambda: editing.walk(wrong, ("a", "b"), (1, 2)),
    ):
        with pytest.raises(TypeError, match=r"A pipeline is needed here.*load_pipeline\(\)"):
            act()


BAD_CALLS = {
    "walk, one prompt": (lambda p: editing.walk(p, ("a",), (1, 2)), "give two prompts"),
    "walk, words": (lambda p: editing.walk(p, "ab cd", (1, 2)), "give two prompts; got 'ab cd'"),
    "walk, a seed": (lambda p: editing.walk(p, ("a", "b"), (1, None)), "seed must be a whole"),
    "walk, none": (lambda p: editing.walk(p, ("a", "b"), (1, 2), 0), "count must be a whole"),
    "walk, steps": (
        lambda p: editing.walk(p, ("a", "b"), (1, 2), num_inference_steps=0),
        "whole number from 1 to 1000; got 0",
    ),
    "invert": (lambda p: editing.invert(p, [SCENE] * 3, ["a"] * 2), "3 pictures for 2 prompts"),
    "keep": (lambda p: editing.prompt_to_prompt(p, "a", "b", keep=2), "keep must be from 0 to 1"),
    "strength": (lambda p: editing.img2img(p, SCENE, "a", strength="0.6"), "finite number"),
    "guidance": (lambda p: sampling.sample(p, "a", guidance_scale="5"), "finite number; got '5'"),
    "guidance, vast": (lambda p: sampling.sample(p, "a", guidance_scale=1e30), "from -1000 to"),
    "latents, nan": (
        lambda p: sampling.sample(p, "a", latents=torch.full((1, 4, 8, 8), torch.nan)),
        "latents hold nan or inf",
    ),
    "decode, shape": (
        lambda p: compression.decode_latents(p, torch.zeros(4, 8, 8)),
        r"Latents are a tensor \(pictures, 4, height, width\); got \(4, 8, 8\)",
    ),
    "slerp": (
        lambda p: editing.slerp(torch.ones(1, 9), -torch.ones(1, 9), 0.5),
        "exactly away from each other",
    ),
    "slerp, shapes": (lambda p: editing.slerp(torch.ones(1, 9), torch.ones(1, 8), 0), "one shape"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_calls_get_one_sentence(pipe, name):
    act, sentence = BAD_CALLS[name]
    with pytest.raises(ValueError, match=sentence) as caught:
        act(pipe)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------- nothing goes silently


def test_numbers_that_are_not_finite_are_no_picture(pipe):
    hole = torch.zeros(1, 4, 8, 8)
    hole[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match=r"The tensor of latents holds nan.*dtype=torch\.float32"):
        compression.decode_latents(pipe, hole)
    broken = models.build_vae(block_out_channels=(8, 8, 16, 16)).eval()
    sick = SimpleNamespace(**pipe.components, device=pipe.device, vae_scale_factor=8)
    sick.vae = broken
    with torch.no_grad():
        broken.decoder.conv_out.bias[0] = torch.inf
        broken.encoder.conv_out.bias[0] = torch.nan
    with pytest.raises(ValueError, match="What the decoder painted holds nan"):
        compression.decode_latents(sick, torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="What the encoder made of the picture holds nan"):
        compression.encode_image(sick, SCENE)


@pytest.mark.parametrize("factor", [0, float("nan"), None, -1])
def test_a_damaged_scaling_factor_is_named(pipe, factor):
    config = SimpleNamespace(scaling_factor=factor, latent_channels=4)
    sick = SimpleNamespace(**pipe.components, device=pipe.device, vae_scale_factor=8)
    sick.vae = SimpleNamespace(config=config, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"scaling_factor is .* must be a number above 0"):
        compression.decode_latents(sick, torch.zeros(1, 4, 8, 8))


def with_scheduler(pipe, scheduler):
    parts = (pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet)
    return models.build_pipeline(*parts, scheduler)


def test_a_scheduler_put_on_the_pipe_is_not_ignored_silently(pipe):
    euler = with_scheduler(pipe, models.build_scheduler("euler"))
    options = {"guidance_scale": 3, "num_inference_steps": 1}
    with pytest.warns(UserWarning, match='EulerDiscreteScheduler.*sampler="euler"'):
        sampling.sample_steps(euler, "a house", sampler="ddim", **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="This model")
        sampling.sample_steps(euler, "a house", sampler="euler", **options)
        sampling.sample_steps(pipe, "a house", sampler="dpm++", **options)


@pytest.mark.parametrize("kind", ["sample", "flow_prediction"])
def test_models_that_predict_something_else_are_refused(pipe, kind):
    scheduler = models.build_scheduler("ddim", prediction_type="sample")
    scheduler.register_to_config(prediction_type=kind)
    with pytest.raises(ValueError, match=f"predicts {kind!r}.*load another model"):
        sampling.sample(with_scheduler(pipe, scheduler), "a house")


def test_a_negative_prompt_that_cannot_act_warns(pipe):
    with pytest.warns(UserWarning, match="At guidance_scale 1 the negative prompt cannot act"):
        sampling.sample_steps(pipe, "a house", negative_prompt="a cat", guidance_scale=1)

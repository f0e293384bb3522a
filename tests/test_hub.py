"""Finding, loading, saving and refusing models. Nothing here may reach the network: the sockets are
blocked."""

import json
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small import random_pipeline

from sdlearn import hub, models, sampling, text, world
from sdlearn.training.tokenizer import merges_of

PARTS = ("vae", "unet", "text_encoder")


def weights(folder: Path, part: str) -> Path:
    return next((folder / part).glob("*.safetensors"))


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy of the model folder that a test may spoil."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


# --------------------------------------------------------------------------------- where a model is


def test_resolve_order(tmp_path, monkeypatch):
    """The argument, then SDLEARN_MODEL, then Tiny SD."""
    asked, named = tmp_path / "asked", tmp_path / "named"
    asked.mkdir(), named.mkdir()
    assert hub.resolve() == (hub.TINY_SD, ()) or not hub.TINY_SD.is_dir()
    monkeypatch.setenv("SDLEARN_MODEL", str(named))
    assert hub.resolve() == (named, ())
    assert hub.resolve(asked) == (asked, ())
    monkeypatch.setenv("SDLEARN_MODEL", "")
    assert hub.resolve(str(asked)) == (asked, ())


def test_resolve_short_names_and_hub_ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert hub.resolve("sd15") == (None, hub.MODELS["sd15"].hub_ids)
    assert hub.resolve("somebody/some-model") == (None, ("somebody/some-model",))
    if hub.TINY_SD.is_dir():
        assert hub.resolve("tiny") == hub.resolve("tiny_sd") == (hub.TINY_SD, ())
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert hub.resolve("owner/name") == (Path("owner/name"), ()), (
        "a folder that exists comes before a hub id"
    )


@pytest.mark.parametrize(
    "name",
    ["no-such-model", "/no/such/folder", "./missing/folder", "a/b/c", "~/no-such-folder-of-mine"],
)
def test_an_unknown_model_gets_one_sentence(name):
    with pytest.raises(
        FileNotFoundError, match="give a folder that exists, a short name"
    ) as caught:
        hub.load_pipeline(name)
    assert "\n" not in str(caught.value)


def test_every_model_of_the_table_is_described():
    for name, model in hub.MODELS.items():
        assert model.hub_ids and all(i.count("/") == 1 for i in model.hub_ids), name
        assert (
            model.about
            and model.licence
            and 0 < model.download_gb < 20
            and 0 < model.memory_gb < 40
        ), name
        assert len(model.revisions) == len(model.hub_ids) and all(
            re.fullmatch("[0-9a-f]{40}", r) for r in model.revisions
        ), name
        assert sum(model.parts_gb) <= model.download_gb + 0.05 and model.memory_gb > sum(
            model.parts_gb
        ), name


def test_the_command_line_names_every_model():
    from sdlearn.__main__ import parser

    assert all(name in " ".join(parser().format_help().split()) for name in ("tiny", *hub.MODELS))


def test_a_hub_id_without_network_gets_one_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"could not be loaded from the hub or its cache.*local folder"
    ) as caught:
        hub.load_pipeline("nobody/nothing-of-this-name")
    assert "nobody/nothing-of-this-name" in str(caught.value) and "\n" not in str(caught.value)


# --------------------------------------------------------------------------------- loading a folder


def test_a_saved_pipeline_loads_and_makes_the_same_picture(pipe, model_folder, tmp_path):
    """The same latents; of pixels the last of 255 levels may round otherwise, as the loaded
    autoencoder's weights lie in another order in memory. Saved again, it stays what it is."""
    loaded = hub.load_pipeline(model_folder)
    assert (
        loaded.device.type == "cpu"
        or torch.cuda.is_available()
        or torch.backends.mps.is_available()
    )
    loaded = loaded.to("cpu", torch.float32)
    assert not any(p.training for p in (loaded.unet, loaded.vae, loaded.text_encoder))
    options = dict(num_inference_steps=2, seed=3, guidance_scale=5.0, sampler="ddim")
    a, b = (list(sampling.sample_steps(p, "a red house", **options))[-1] for p in (pipe, loaded))
    assert torch.equal(a.prev_latents, b.prev_latents)
    pictures = [sampling.sample(p, "a red house", **options)[0] for p in (pipe, loaded)]
    a, b = (np.asarray(picture, int) for picture in pictures)
    assert np.abs(a - b).max() <= 1
    loaded.save_pretrained(tmp_path / "again")
    again = sampling.sample(hub.load_pipeline(tmp_path / "again"), "a red house", **options)[0]
    assert again.tobytes() == pictures[1].tobytes()


def test_environment_variable_chooses_the_model(model_folder, monkeypatch):
    monkeypatch.setenv("SDLEARN_MODEL", str(model_folder))
    pipe = hub.load_pipeline(device="cpu", dtype=torch.float32)
    assert tuple(pipe.unet.config.block_out_channels) == tuple(
        random_pipeline().unet.config.block_out_channels
    )


def test_half_precision_on_disk_loads_as_one_precision(model_folder, tmp_path):
    """diffusers would load float32 and transformers float16, and the two do not mix."""
    half = Path(shutil.copytree(model_folder, tmp_path / "half"))
    for part in PARTS:
        path = weights(half, part)
        save_file(
            {k: v.half() if v.is_floating_point() else v for k, v in load_file(path).items()},
            path,
            metadata={"format": "pt"},
        )
    pipe = hub.load_pipeline(half, device="cpu")
    assert {p.dtype for p in (pipe.unet, pipe.vae, pipe.text_encoder)} == {torch.float32}
    assert len(sampling.sample(pipe, "a red house", num_inference_steps=1, seed=0)) == 1


def test_precision_can_be_chosen(model_folder):
    pipe = hub.load_pipeline(model_folder, device="cpu", dtype=torch.bfloat16)
    assert {p.dtype for p in (pipe.unet, pipe.vae, pipe.text_encoder)} == {torch.bfloat16}
    step = next(sampling.sample_steps(pipe, "a red house", num_inference_steps=1, seed=0))
    assert step.prev_latents.dtype == torch.float32, (
        "latents stay in float32, whatever the U-Net counts in"
    )


@pytest.mark.parametrize("part", PARTS)
def test_parts_are_loaded_alone(model_folder, part):
    loaded = hub.load_part(part, model_folder)
    stored = load_file(weights(model_folder, part))
    state = loaded.state_dict()
    matched = [k for k in stored if k in state or k.removeprefix("text_model.") in state]
    assert len(matched) == len(stored) and loaded.dtype == torch.float32 and not loaded.training
    for key in matched[:5]:
        assert torch.equal(
            stored[key].float(), state[key if key in state else key.removeprefix("text_model.")]
        )


def test_a_part_that_is_not_there(model_folder):
    with pytest.raises(FileNotFoundError, match="has no part 'clip'"):
        hub.load_part("clip", model_folder)


def test_tokenizer_is_loaded_alone(pipe, model_folder):
    assert (
        hub.load_tokenizer(model_folder)("a red house").input_ids
        == pipe.tokenizer("a red house").input_ids
    )


def test_parts_are_saved_and_loaded(pipe, tmp_path):
    """`save` writes parts one by one, in half precision; together they are a pipeline, also for
    transformers 4, which needs the prefix on the text tower's keys."""
    small = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "projection_dim": 32,
    }
    clip = models.build_clip(pipe.tokenizer, text=small, vision={**small, "image_size": 32}).eval()
    hub.save(tmp_path, vae=pipe.vae)
    with pytest.raises(FileNotFoundError, match="incomplete"):
        hub.load_pipeline(tmp_path)
    hub.save(tmp_path, unet=pipe.unet, clip=clip)
    pipe.tokenizer.save_pretrained(tmp_path / "tokenizer")
    for part in (*PARTS, "clip"):
        assert {v.dtype for v in load_file(weights(tmp_path, part)).values()} <= {
            torch.float16,
            torch.int64,
        }, part
    assert all(k.startswith("text_model.") for k in load_file(weights(tmp_path, "text_encoder")))
    assert next(pipe.unet.parameters()).dtype == torch.float32, (
        "saving must not change the part that is saved"
    )

    loaded = hub.load_pipeline(tmp_path, device="cpu")
    assert torch.equal(loaded.unet.conv_in.weight, pipe.unet.conv_in.weight.half().float())
    ids = pipe.tokenizer("a red house", padding="max_length", return_tensors="pt").input_ids
    with torch.inference_mode():
        both = loaded.text_encoder(ids)[0], hub.load_part("clip", tmp_path).text_model(ids)[0]
    torch.testing.assert_close(*both, atol=1e-5, rtol=1e-5)
    assert dict(loaded.scheduler.config).items() >= models.SCHEDULE.items()
    assert len(sampling.sample(loaded, "a red house", num_inference_steps=1, seed=0)) == 1


# -------------------------------------------------------------------------------- refusing a folder


def refused(folder, error, sentence):
    with pytest.raises(error, match=sentence) as caught:
        hub.load_pipeline(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_model(tmp_path):
    refused(tmp_path, FileNotFoundError, r"is not a diffusers model: it has no model_index\.json")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_without_weights(folder, part):
    weights(folder, part).unlink()
    refused(folder, FileNotFoundError, rf"{part} has no weights .* incomplete; fetch it again")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_missing_altogether(folder, part):
    shutil.rmtree(folder / part)
    refused(folder, FileNotFoundError, "has no weights")


@pytest.mark.parametrize("damage", ["cut", "empty", "overwritten", "page"])
def test_damaged_weights(folder, damage):
    path = weights(folder, "unet")
    data = path.read_bytes()
    damaged = {
        "cut": data[: len(data) // 2],
        "empty": b"",
        "overwritten": b"\0" * len(data),
        "page": b"<!DOCTYPE html><title>404</title>",
    }[damage]
    path.write_bytes(damaged)
    refused(folder, ValueError, "is damaged .* fetch it again")


class Bomb:
    """What a hostile pickle does: it runs code as it is opened."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


@pytest.mark.parametrize("name", ["diffusion_pytorch_model.bin", "model.ckpt", "weights.pt"])
def test_a_pickle_is_refused_unopened(folder, tmp_path, name):
    trace = tmp_path / "opened"
    weights(folder, "unet").unlink()
    (folder / "unet" / name).write_bytes(pickle.dumps(Bomb(str(trace))))
    refused(
        folder,
        ValueError,
        "a pickle, which can run any code when opened: get the safetensors version",
    )
    assert not trace.exists()


def test_a_pickle_beside_safetensors_is_left_alone(folder, tmp_path):
    trace = tmp_path / "opened"
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Bomb(str(trace))))
    hub.load_pipeline(folder, device="cpu")
    assert not trace.exists()


@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer_config.json",
    ],
)
def test_a_broken_configuration(folder, name):
    (folder / name).write_text("{ not json")
    refused(folder, ValueError, "json is damaged .* fetch it again")


@pytest.mark.parametrize("part", ["tokenizer", "scheduler"])
def test_a_part_without_weights_that_is_missing(folder, part):
    shutil.rmtree(folder / part)
    refused(folder, FileNotFoundError, f"{part} is missing or empty")


@pytest.mark.parametrize("part", PARTS)
def test_weights_that_lack_a_tensor_are_not_filled_with_random_numbers(folder, part):
    path = weights(folder, part)
    tensors = load_file(path)
    tensors.pop(next(k for k in tensors if k.endswith("weight")))
    save_file(tensors, path, metadata={"format": "pt"})
    refused(folder, ValueError, rf"lacks 1 of its weights \({part}/")


def test_weights_of_another_model(folder):
    config = json.loads((folder / "unet" / "config.json").read_text())
    (folder / "unet" / "config.json").write_text(
        json.dumps(config | {"block_out_channels": [32, 32, 32]})
    )
    refused(folder, ValueError, "its files do not fit together")


def test_a_model_of_another_picture_book_world_is_told_apart(pipe, tmp_path, capsys):
    """The first edition's Tiny SD had half of these things: it loads, and one sentence says so."""
    base, _ = models.byte_vocabulary()
    merges = merges_of([" ".join([*world.KINDS[:10], *world.COLOURS])], 500)
    pieces = dict.fromkeys([*base, *map("".join, merges)])
    tokenizer = models.build_tokenizer({piece: i for i, piece in enumerate(pieces)}, merges)
    assert len(tokenizer) <= pipe.text_encoder.config.vocab_size
    other = models.build_pipeline(pipe.vae, pipe.text_encoder, tokenizer, pipe.unet)
    other.save_pretrained(tmp_path / "first")
    loaded = hub.load_pipeline(tmp_path / "first", device="cpu")
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "was trained on another picture-book world: " in said
    assert world.KINDS[10] in said and "'tiny'" in said
    assert text.unknown_words(loaded, f"a {world.COLOURS[0]} {world.KINDS[0]}") == []
    assert text.unknown_words(loaded, f"a {world.KINDS[10]}") == [world.KINDS[10]]
    hub.load_pipeline(hub.TINY_SD)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("torch_dtype", "it is called dtype"),
        ("safety_checker", "none is loaded"),
        ("trust_remote_code", "never run"),
        ("scheduler", "when sampling"),
        ("devise", "did you mean device"),
        ("banana", "it knows model, device, dtype"),
    ],
)
def test_loading_with_other_libraries_keywords_gets_a_sentence(name, hint):
    with pytest.raises(TypeError, match=f"load_pipeline has no {name}: .*{hint}"):
        hub.load_pipeline("tiny", **{name: None})


# ---------------------------------------------------------------------- how a model is best sampled


def test_defaults_come_with_the_model(pipe, folder, monkeypatch):
    """Beside the weights, or from the table; what says nothing is sampled as Stable Diffusion
    is."""
    assert hub.defaults_of(hub.load_pipeline(folder, device="cpu")) == hub.STABLE_DIFFUSION
    own = hub.Defaults(2.0, "dpm++", 5)
    hub.write_defaults(folder, own)
    assert hub.defaults_of(hub.load_pipeline(folder, device="cpu")) == own
    assert hub.MODELS["sd-turbo"].defaults == hub.Defaults(1.0, "euler", 1)
    assert hub.read_defaults(hub.TINY_SD) != hub.STABLE_DIFFUSION
    other = models.build_pipeline(pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet)
    assert hub.defaults_of(other) == hub.STABLE_DIFFUSION


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"guidance_scale": 5}',
        '{"guidance_scale": NaN, "sampler": "ddim", "num_inference_steps": 25}',
        '{"guidance_scale": 5, "sampler": "magic", "num_inference_steps": 25}',
        '{"guidance_scale": 5, "sampler": "ddim", "num_inference_steps": 0}',
        '{"guidance_scale": 5, "sampler": "ddim", "num_inference_steps": 2.5}',
        '{"guidance_scale": "5", "sampler": [], "num_inference_steps": 2}',
        "[" * 100_000,
    ],
)
def test_defaults_that_make_no_sense(folder, text):
    (folder / "defaults.json").write_text(text)
    refused(folder, ValueError, r"defaults\.json must hold a guidance_scale")


# ------------------------------------------------------------------------------------ what is built


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "euler", "dpm++"])
def test_schedulers_follow_stable_diffusion(sampler):
    scheduler = models.build_scheduler(sampler)
    assert (
        scheduler.config.beta_schedule,
        scheduler.config.beta_start,
        scheduler.config.beta_end,
    ) == ("scaled_linear", 0.00085, 0.012)
    assert (
        scheduler.config.num_train_timesteps == 1000
        and scheduler.config.prediction_type == "epsilon"
    )
    assert (
        models.build_scheduler(sampler, prediction_type="v_prediction").config.prediction_type
        == "v_prediction"
    )


def test_random_pipeline_is_the_same_each_time_and_leaves_the_seed_alone():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    a, b = random_pipeline(seed=1), random_pipeline(seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    pairs = zip(a.unet.parameters(), b.unet.parameters(), strict=True)
    assert all(torch.equal(x, y) for x, y in pairs)
    assert not torch.equal(
        next(a.unet.parameters()), next(random_pipeline(seed=2).unet.parameters())
    )


def test_tiny_sd_has_the_shape_it_claims():
    """The configuration alone, without trained weights: 48 numbers in, 1 number out; 77 tokens;
    Stable Diffusion's schedule."""
    vae, unet = models.build_vae(), models.build_unet()
    factor = 2 ** (len(vae.config.block_out_channels) - 1)
    side = vae.config.sample_size // factor
    assert side == unet.config.sample_size and unet.config.in_channels == vae.config.latent_channels
    assert vae.config.sample_size**2 * 3 / (side**2 * vae.config.latent_channels) == 48
    assert (
        unet.config.cross_attention_dim == models.TINY_TEXT["hidden_size"]
        and models.TINY_TEXT["max_position_embeddings"] == 77
    )
    x = torch.zeros(1, unet.config.in_channels, side, side)
    assert (
        unet(
            x, 1, encoder_hidden_states=torch.zeros(1, 77, unet.config.cross_attention_dim)
        ).sample.shape
        == x.shape
    )


def test_versions_name_what_is_installed():
    found = hub.versions()
    assert found["torch"] == torch.__version__ and "missing" not in (
        found["diffusers"],
        found["transformers"],
    )


def test_import_is_light():
    """`import sdlearn` loads neither diffusers nor transformers nor the training code; its names
    arrive when they are asked for."""
    code = """import sys, sdlearn
heavy = ('torch', 'diffusers', 'transformers', 'sdlearn.training')
print(sorted(m for m in heavy if m in sys.modules))
from sdlearn import load_pipeline, sample, sample_steps
print('diffusers' in sys.modules or 'transformers' in sys.modules)"""
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert out == ["[]", "False"]


def test_only_hub_and_models_touch_diffusers_and_transformers():
    package = Path(hub.__file__).parent
    imports = re.compile(r"^\s*(import|from) (diffusers|transformers)\b", re.MULTILINE)
    assert [
        p.name
        for p in sorted(package.glob("*.py"))
        if imports.search(p.read_text(encoding="utf-8"))
    ] == ["hub.py", "models.py"]


@pytest.mark.skipif(
    not (hub.TINY_SD / "model_index.json").exists(),
    reason="Tiny SD is not trained yet: python -m sdlearn.training all",
)
def test_tiny_sd_is_an_ordinary_pipeline_folder():
    index = json.loads((hub.TINY_SD / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    files = [f for f in hub.TINY_SD.rglob("*") if f.is_file() and not f.name.startswith("judge")]
    assert sum(f.stat().st_size for f in files) < 30e6, "without the judge, who is no part of it"
    pipe = hub.load_pipeline()
    assert pipe.unet.dtype == pipe.vae.dtype == pipe.text_encoder.dtype == torch.float32
    picture = sampling.sample(
        pipe, "a red house in the snow at night", num_inference_steps=1, seed=0
    )[0]
    assert picture.size == (pipe.vae.config.sample_size,) * 2

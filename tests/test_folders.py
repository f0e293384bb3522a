"""Model folders from anywhere: nothing runs, nothing hangs, each fault has its sentence."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from sdlearn import folders, hub


@pytest.fixture
def folder(model_folder, tmp_path):
    """A copy of the model folder that a test may spoil."""
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


def refused(folder, sentence, error=ValueError):
    with pytest.raises(error, match=sentence) as caught:
        folders.check_folder(folder)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 600, said


def change(path: Path, **settings):
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_what_is_right_passes(folder):
    folders.check_folder(folder)
    folders.check_folder(hub.TINY_SD)


@pytest.mark.parametrize("place", [".", "unet", "text_encoder", "tokenizer", "scheduler", "vae"])
def test_a_program_beside_the_weights(folder, place):
    """diffusers 0.35 to 0.37 imported it."""
    trace = folder / "trace"
    (folder / place / "modeling.PY").write_text(f"open({str(trace)!r}, 'w')")
    refused(folder, "is a program that comes with the model")
    assert not trace.exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"_class_name": ["evil", "Pipeline"]},
        {"_class_name": None},
        {"_class_name": {"a": 1}},
        {"_class_name": 5},
        {"unet": ["evil", "Net"]},
        {"unet": ["diffusers"]},
        {"unet": []},
        {"unet": ["diffusers", ["UNet2DConditionModel"]]},
        {"unet": ["diffusers", {}]},
        {"extra": ["os", "system"]},
        {"safety_checker": ["evil", "Checker"]},
    ],
)
def test_classes_that_are_no_names_of_ours(folder, settings):
    change(folder / "model_index.json", **settings)
    refused(folder, "asks to run code that comes with the model")


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"unet": ["diffusers", "StableDiffusionPipeline"]}, "unet: StableDiffusionPipeline"),
        ({"unet": ["diffusers", "UNet2DModel"]}, "unet: UNet2DModel"),
        ({"vae": ["transformers", "AutoModel"]}, "vae: AutoModel"),
        ({"text_encoder": ["transformers", "T5EncoderModel"]}, "text_encoder: T5EncoderModel"),
        ({"helper": ["diffusers", "AutoPipelineForText2Image"]}, "helper: AutoPipeline"),
        ({"_class_name": "FluxPipeline"}, "a FluxPipeline"),
        (
            {
                "_class_name": "StableDiffusionXLPipeline",
                "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            },
            "StableDiffusionXLPipeline (two text encoders)",
        ),
        (
            {
                "_class_name": "StableDiffusion3Pipeline",
                "transformer": ["diffusers", "SD3Transformer2DModel"],
                "text_encoder_3": ["transformers", "T5EncoderModel"],
            },
            "(three text encoders and a transformer in place of the U-Net)",
        ),
    ],
)
def test_models_of_another_family_are_recognised(folder, settings, word):
    change(folder / "model_index.json", **settings)
    with pytest.raises(ValueError, match="another kind of model") as caught:
        folders.check_folder(folder)
    assert word in str(caught.value) and "load 'tiny', 'sd15'" in str(caught.value)


@pytest.mark.parametrize("text", ["[]", '"a"', "null", "5", "[" * 100_000, "{", "\x00", ""])
@pytest.mark.parametrize(
    "name", ["model_index.json", "unet/config.json", "scheduler/scheduler_config.json"]
)
def test_jsons_that_are_no_tables(folder, name, text):
    (folder / name).write_text(text)
    refused(folder, "is damaged")


@pytest.mark.parametrize(
    ("name", "settings", "word"),
    [
        *(
            ("unet/config.json", {"sample_size": value}, "sample_size")
            for value in (None, "64", 0, -8, 1.5, True, [], [8, None], {}, 10**9)
        ),
        ("unet/config.json", {"norm_num_groups": 0}, "norm_num_groups"),
        ("unet/config.json", {"layers_per_block": 100_000}, "layers_per_block"),
        ("unet/config.json", {"block_out_channels": [16] * 1000}, "block_out_channels"),
        ("unet/config.json", {"auto_map": {"AutoModel": "evil.Net"}}, "asks to run code"),
        ("unet/config.json", {"_class_name": ["evil", "Net"]}, "says _class_name"),
        ("unet/config.json", {"quantization_config": {}}, "format of its own"),
        ("text_encoder/config.json", {"num_hidden_layers": 100_000}, "num_hidden_layers"),
        ("text_encoder/config.json", {"model_type": "t5"}, "model_type"),
        ("tokenizer/tokenizer_config.json", {"tokenizer_class": "Evil"}, "tokenizer_class"),
        *(
            ("vae/config.json", {"scaling_factor": value}, "scaling_factor")
            for value in (0, -1, float("nan"), float("inf"), None, "0.18", 1e300)
        ),
        *(
            ("scheduler/scheduler_config.json", settings, word)
            for settings, word in (
                ({"num_train_timesteps": 10**9}, "num_train_timesteps"),
                ({"beta_start": -1}, "betas"),
                ({"beta_start": float("nan")}, "beta_start"),
                ({"beta_end": 1.5}, "betas"),
                ({"beta_start": 0.5, "beta_end": 0.1}, "beta_start"),
                ({"beta_start": "small"}, "betas"),
                ({"trained_betas": [2.0]}, "betas"),
                ({"trained_betas": {}}, "betas"),
                ({"beta_schedule": "magic"}, "beta_schedule"),
                ({"beta_schedule": []}, "beta_schedule"),
                ({"prediction_type": "sample"}, "prediction_type"),
                ({"prediction_type": "flow_prediction"}, "prediction_type"),
                ({"prediction_type": ["epsilon"]}, "prediction_type"),
                ({"_class_name": "EvilScheduler"}, "_class_name"),
            )
        ),
    ],
)
def test_settings_beyond_sense(folder, name, settings, word):
    change(folder / name, **settings)
    refused(folder, word)


@pytest.mark.skipif(os.name == "nt", reason="pipes and device files")
@pytest.mark.parametrize(
    "name",
    [
        "model_index.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "tokenizer/tokenizer.json",
        "vae/extra",
    ],
)
@pytest.mark.parametrize("kind", ["fifo", "zero", "loop", "nowhere"])
def test_files_that_are_none(folder, name, kind):
    path = folder / name
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to({"zero": "/dev/zero", "loop": path.name, "nowhere": "/nowhere"}[kind])
    refused(folder, "damaged")


def test_a_file_without_end(folder):
    with (folder / "unet" / "config.json").open("wb") as file:
        file.truncate(10**9)
    refused(folder, "too large to be what its name says")


def test_a_folder_that_may_not_be_read(folder, monkeypatch):
    """Not damaged: nobody should delete it."""
    real = Path.read_text

    def read_text(path, *args, **kwargs):
        if path.parent.name == "unet":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_text)
    refused(folder, "cannot be read .Permission denied.: see to its rights")


@pytest.mark.parametrize("name", ["unet/config.json", "scheduler/scheduler_config.json"])
def test_a_configuration_that_is_missing(folder, name):
    (folder / name).unlink()
    refused(folder, "incomplete; fetch it again", FileNotFoundError)


# ------------------------------------------------------------------------ parts that do not fit


@pytest.mark.parametrize(
    ("name", "settings", "word"),
    [
        ("tokenizer/tokenizer_config.json", {"model_max_length": 10**30}, "places"),
        ("unet/config.json", {"norm_num_groups": 7}, "do not fit together"),
        ("unet/config.json", {"cross_attention_dim": 48}, "do not fit together"),
        ("vae/config.json", {"latent_channels": 8}, "do not fit together"),
        ("text_encoder/config.json", {"vocab_size": 5}, "do not fit together"),
    ],
)
def test_parts_of_different_models(folder, name, settings, word):
    change(folder / name, **settings)
    with pytest.raises(ValueError, match=word) as caught:
        hub.load_pipeline(folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_vocabulary_larger_than_the_embedding(folder):
    """A tokenizer of another world than the text encoder's: old files beside new ones."""
    path = folder / "tokenizer" / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    vocab = content["model"]["vocab"]
    vocab |= {f"word{i}</w>": len(vocab) + i for i in range(50)}
    path.write_text(json.dumps(content), encoding="utf-8")
    (folder / "tokenizer" / "vocab.json").unlink(missing_ok=True)
    with pytest.raises(ValueError, match="belong to different models: take all from one"):
        hub.load_pipeline(folder, device="cpu")


@pytest.mark.parametrize("bad", ["nan", "inf"])
@pytest.mark.parametrize("part", folders.WEIGHTS)
def test_weights_that_are_no_numbers(folder, part, bad):
    from safetensors.torch import load_file, save_file

    (path,) = (folder / part).glob("*.safetensors")
    tensors = load_file(path)
    key = next(k for k, v in tensors.items() if v.ndim > 1 and v.is_floating_point())
    tensors[key].view(-1)[3] = float(bad)
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"holds numbers that are not finite .*dtype"):
        hub.load_pipeline(folder, device="cpu")


# ----------------------------------------------------------------------------- names and devices


@pytest.mark.parametrize(
    ("model", "error", "word"),
    [
        (5, TypeError, "a folder or a name, not int"),
        (["tiny"], TypeError, "not list"),
        ("~nouser/model", FileNotFoundError, "No model at"),
        ("a\0b", FileNotFoundError, "No model at"),
        ("\ud800/x", FileNotFoundError, "No model at"),
        ("x" * 5000, FileNotFoundError, "No model at"),
        ("here/mistyped", FileNotFoundError, "no 'here/mistyped' in it"),
        (Path("owner/name"), FileNotFoundError, "No model at"),
        ("weights.safetensors", FileNotFoundError, "is a single file"),
        ("https://huggingface.co/a/b", FileNotFoundError, "No model at"),
        ("../..", FileNotFoundError, "diffusers model"),
    ],
)
def test_names_that_are_no_models(tmp_path, monkeypatch, model, error, word):
    place = tmp_path / "one" / "two"
    (place / "here").mkdir(parents=True)
    (place / "weights.safetensors").touch()
    monkeypatch.chdir(place)
    with pytest.raises(error, match=word) as caught:
        hub.load_pipeline(model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"device": "meta"}, ValueError, "no device 'meta'"),
        ({"device": "banana"}, ValueError, "Unknown device 'banana'"),
        ({"device": 1.5}, ValueError, "Unknown device"),
        ({"dtype": "float16"}, TypeError, "dtype must be one of torch"),
        ({"dtype": torch.float64}, TypeError, "dtype must be one of torch"),
        ({"dtype": torch.int8}, TypeError, "dtype must be one of torch"),
    ],
)
def test_devices_and_precisions_that_are_none(model_folder, options, error, word):
    with pytest.raises(error, match=word):
        hub.load_pipeline(model_folder, **options)


def test_a_tokenizer_that_is_missing_is_not_asked_of_the_hub(folder, monkeypatch):
    shutil.rmtree(folder / "tokenizer")
    monkeypatch.chdir(folder.parent)
    with pytest.raises(FileNotFoundError, match="this model has no tokenizer"):
        hub.load_tokenizer("model")

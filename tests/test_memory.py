"""What is done where memory is short: the decision, its arithmetic, and that pictures stay."""

import re
import sys
from dataclasses import replace

import fake_sd
import numpy as np
import pytest
import torch
from small import random_pipeline

from sdlearn import hub, memory, sampling
from sdlearn.chapters import costs

SD15 = hub.MODELS["sd15"]
ORDER = ["whole", *memory.MEASURES, "tiny"]


def names(free_gb, device, model=SD15, dtype=None):
    return [m.name for m in memory.ladder(free_gb, device, model, dtype)]


@pytest.mark.parametrize(
    ("machine", "device", "free_gb", "taken"),
    [
        ("24 GB card", "cuda", 23.5, ["whole"]),
        ("8 GB card", "cuda", 7.2, ["whole"]),
        ("4 GB card", "cuda", 3.4, ["whole"]),
        ("4 GB card with a desktop on it", "cuda", 3.0, ["tiling"]),
        ("3 GB card", "cuda", 2.6, ["tiling", "offload"]),
        ("2 GB card", "cuda", 1.7, ["tiling", "offload", "tiny"]),
        ("64 GB Mac", "mps", 48.0, ["whole"]),
        ("16 GB Mac", "mps", 6.0, ["half"]),
        ("8 GB Mac, busy", "mps", 3.5, ["half", "slicing"]),
        ("8 GB Mac, very busy", "mps", 3.0, ["half", "slicing", "tiling"]),
        ("8 GB Mac, full", "mps", 2.0, ["half", "slicing", "tiling", "tiny"]),
        ("laptop with 16 GB", "cpu", 9.0, ["whole"]),
        ("laptop with 8 GB", "cpu", 5.4, ["tiling"]),
        ("laptop with 4 GB", "cpu", 2.5, ["tiling", "tiny"]),
    ],
)
def test_ladder_on_simulated_machines(machine, device, free_gb, taken):
    measures = memory.ladder(free_gb, device, SD15)
    assert [m.name for m in measures] == taken, machine
    assert all(
        f"{free_gb:.1f} GB are free" in m.reason and re.search(r"\d\.\d GB", m.reason)
        for m in measures
    )


@pytest.mark.parametrize("device", ["cuda", "mps", "cpu"])
@pytest.mark.parametrize("model", hub.MODELS.values(), ids=hub.MODELS)
def test_less_memory_never_takes_fewer_measures(device, model):
    before = []
    for gb in np.arange(40, 0, -0.1):
        taken = names(float(gb), device, model)
        assert taken == sorted(taken, key=ORDER.index)
        assert taken == ["whole"] or "whole" not in taken
        assert set(before) - {"whole"} <= set(taken), (gb, before, taken)
        before = taken
    assert before[-1] == "tiny"


def test_what_was_asked_for_is_not_overruled():
    assert names(4.0, "cuda") == ["whole"]
    assert "offload" in names(4.5, "cuda", dtype=torch.float32), "twice the memory"
    assert "half" not in names(5.0, "mps", dtype=torch.float32)


def test_larger_pictures_need_more():
    assert names(3.4, "cuda", replace(SD15, side=128))[0] == "tiling"


def test_the_arithmetic_is_what_a_gpu_measured():
    """Two pictures at once: never less than CUDA's allocator saw, and at most a third more."""
    measured = {m["measure"]: m["peak_gb"] for m in costs.committed()["measures"]}
    need = memory._Need(sum(SD15.parts_gb), 2, 0, memory.DECODE_GB)
    smaller = {
        "half precision, both pictures at once": {},
        "the decoder paints in tiles": {"decoder": memory.TILED_GB},
        "only the working part on the GPU": {"weights": max(SD15.parts_gb)},
    }
    for what, change in smaller.items():
        counted = memory._gb(SD15, need._replace(**change), pictures=2)
        assert measured[what] <= counted <= 1.33 * measured[what], what


def test_attention_matrix_allowance():
    """Scores and weights of 8 heads between 64 x 64 pixels in half precision."""
    assert memory.MATRIX_GB == round(2 * 8 * (64 * 64) ** 2 * 2 / 1e9, 2)


def test_free_memory_is_read(monkeypatch):
    assert 0 < memory.free("cpu") < 10_000
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert 0 < memory.free("cpu") < 10_000


@pytest.mark.parametrize("last", ["whole", "tiling"])
def test_measures_leave_the_picture_as_it_is(tmp_path, monkeypatch, capsys, last):
    """On a CPU: the same pictures but for the seams of tiles; what is done is printed."""
    folder = fake_sd.folder(tmp_path / "shrunken")
    options = dict(num_inference_steps=2, seed=4)
    prompts = ["a red house", "a cat"]
    want = sampling.sample(hub.load_pipeline(folder, device="cpu"), prompts, **options)
    capsys.readouterr()
    size = hub.measure_size(folder)
    gb = next(g for g in np.arange(1, 0, -0.0005).tolist() if names(g, "cpu", size)[-1] == last)
    monkeypatch.setattr(memory, "free", lambda device: gb)
    got = sampling.sample(hub.load_pipeline(folder, device="cpu"), prompts, **options)
    said = capsys.readouterr().out
    assert len(said.splitlines()) == (last == "tiling")
    far = [
        np.abs(np.asarray(a, int) - np.asarray(b, int)).mean()
        for a, b in zip(got, want, strict=True)
    ]
    assert max(far) <= (16 if last == "tiling" else 0), (
        "each tile is normalised by itself, which random weights show more than trained ones"
    )


def test_tiles_are_smaller_than_a_picture():
    pipe = random_pipeline()
    seen = []
    pipe.vae.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-1]))
    memory.settle(pipe, "cpu", [memory.Measure("tiling", "")])
    picture = sampling.sample(pipe, "a cat", num_inference_steps=1, seed=0)[0]
    assert picture.size == (64, 64) and len(seen) > 1 and max(seen) == 4


def test_attention_slices_change_nothing():
    options = dict(num_inference_steps=1, seed=0)
    want = sampling.sample(random_pipeline(), "a cat", **options)[0]
    pipe = memory.settle(random_pipeline(), "cpu", [memory.Measure("slicing", "")])
    got = sampling.sample(pipe, "a cat", **options)[0]
    assert np.abs(np.asarray(got, int) - np.asarray(want, int)).max() <= 1


def test_an_offloaded_autoencoder_is_handed_its_input(monkeypatch):
    """Latents that wait elsewhere come to where the weights are; accelerate moves these alone."""
    pipe = random_pipeline()
    monkeypatch.setattr(pipe, "enable_model_cpu_offload", lambda device: None)
    memory.settle(pipe, "cpu", [memory.Measure("offload", "")])
    pipe.vae.to("meta")
    assert pipe.vae.decode(torch.zeros(1, 4, 8, 8)).sample.shape == (1, 3, 64, 64)
    assert pipe.vae.encode(torch.zeros(1, 3, 64, 64)).latent_dist.mean.device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_offload_on_a_gpu():
    options = dict(num_inference_steps=2, seed=0)
    want = sampling.sample(random_pipeline(), ["a cat", "a boat"], **options)
    pipe = memory.settle(random_pipeline(), "cuda", [memory.Measure("offload", "")])
    got = sampling.sample(pipe, ["a cat", "a boat"], **options)
    for a, b in zip(got, want, strict=True):
        assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 2

"""Counting what a picture costs: the counter against arithmetic done by hand, the networks against
their published sizes."""

import json
import tomllib
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sdlearn import models
from sdlearn.chapters import costs


def test_operations_of_a_convolution_and_a_matrix():
    """Two operations for each multiplication with its addition: 2 x outputs x inputs of each,
    exactly."""
    conv, x = (
        nn.Conv2d(8, 16, 3, padding=1, device="meta"),
        torch.empty(2, 8, 20, 20, device="meta"),
    )
    assert costs.count(conv, lambda: conv(x)).operations == 2 * (2 * 16 * 20 * 20) * (8 * 9)
    linear, y = nn.Linear(30, 50, device="meta"), torch.empty(7, 30, device="meta")
    assert costs.count(linear, lambda: linear(y)).operations == 2 * 7 * 30 * 50


def test_weights_are_bytes():
    linear = nn.Linear(30, 50, device="meta", dtype=torch.float16)
    assert costs.count(linear, lambda: None).weights == 2 * (30 * 50 + 50)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_attention_is_counted(device):
    """Scores and the weighted sum: 2 x heads x pixels^2 x channels operations each; a CPU, which
    computes both in one piece, counts what the meta device counts."""
    q = torch.zeros(1, 2, 300, 16, device=device)
    found = costs.count(nn.Identity(), lambda: F.scaled_dot_product_attention(q, q, q))
    assert found.operations == 2 * (2 * 2 * 300 * 300 * 16)


@pytest.mark.slow
def test_the_networks_have_their_published_sizes():
    """Stable Diffusion 1.5: 859,520,964 and 49,490,199 parameters; ADM's are written a little
    differently in diffusers: 554 M and 559 M within 8 %."""
    size = {
        name: sum(p.numel() for p in costs.network(name).parameters())
        for name in ("SD 1.5", "SD 1.5 decoder", "ADM 256", "ADM 512")
    }
    assert size["SD 1.5"] == 859_520_964
    assert (
        size["SD 1.5 decoder"] == 49_490_179 + 20
    )  # the decoder and the 1 x 1 convolution before it
    assert size["ADM 256"] == pytest.approx(554e6, rel=0.08) and size["ADM 512"] == pytest.approx(
        559e6, rel=0.08
    )


def test_every_way_is_wired():
    """Each stage accepts what it is given; super-resolution reads a picture of a quarter of the
    side, latents are an eighth."""
    for side, ways in costs.WAYS.items():
        assert list(ways) == ["pixels", "small + super-resolution", "latents"]
        assert ways["pixels"][0].side == side and ways["small + super-resolution"][-1].side == side
        assert ways["small + super-resolution"][0].side * 4 == side
        assert ways["latents"][0].side * 8 == ways["latents"][1].side * 8 == side
        assert ways["latents"][1].looks == costs.ONCE


def test_counting_needs_no_memory_of_the_networks():
    assert next(costs.network("SD 1.5").parameters()).device.type == "meta"


def test_an_unknown_network_gets_a_sentence():
    with pytest.raises(ValueError, match="Unknown network 'ADM 2048': choose one of ADM 128, "):
        costs.network("ADM 2048")


def test_the_counted_network_is_the_one_that_runs():
    """Operations on the meta device equal those of a real run (attention computed plainly there, so
    on a net without it); shapes agree too."""
    real, counted = costs.network("small 32", "cpu", torch.float32), costs.network("small 32")
    assert [p.shape for p in real.parameters()] == [p.shape for p in counted.parameters()]
    with torch.inference_mode():
        assert costs.look(real, 32)().sample.shape == (1, 6, 32, 32)
    decoder = costs.network("Tiny SD decoder", "cpu", torch.float32)
    with torch.inference_mode():
        assert costs.look(decoder, 4)().sample.shape == (1, 3, 32, 32)


def test_measure_times_a_picture():
    took = costs.measure(128, "latents", steps=3)
    assert took["seconds"] > 0 and took["peak_gb"] is None
    assert (took["way"], took["side"], took["steps"]) == ("latents", 128, 3)


def test_committed_measurements(tmp_path):
    assert costs.committed(tmp_path / "none.json") is None
    (tmp_path / "bench.json").write_text(json.dumps({"device": "a GPU", "ways": []}))
    assert costs.committed(tmp_path / "bench.json") == {"device": "a GPU", "ways": []}
    found = costs.committed()  # what the package carries must have what chapter 05 shows
    assert {"device", "date", "sd15", "ways"} <= set(found)
    assert {"seconds", "seconds_per_step", "peak_gb"} <= set(found["sd15"])
    assert all({"way", "side", "seconds", "peak_gb"} <= set(row) for row in found["ways"])


def test_an_installed_package_carries_its_data():
    """Every file of the package that is not code is named in pyproject's package-data."""
    package = Path(models.__file__).parent
    patterns = tomllib.loads((package.parent / "pyproject.toml").read_text())["tool"]["setuptools"]
    named = {
        f
        for name, globs in patterns["package-data"].items()
        for glob in globs
        for f in (package if name == "*" else package.parent / name.replace(".", "/")).glob(glob)
    }
    needed = [costs.BENCH_GPU, *(f for f in (package / "tiny_sd").rglob("*") if f.is_file())]
    assert set(needed) <= named and (package / "tiny_sd" / "defaults.json") in needed


def test_published_configuration_equals_hubs():
    assert models.SD15_UNET["sample_size"] * 8 == models.SD15_VAE["sample_size"]

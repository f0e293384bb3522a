"""The GPU benchmark's own code, run on a CPU with a tiny pipeline: what it measures there is not a
GPU's, but every line but CUDA's counters is the same."""

import json
import subprocess
import sys

import pytest
import torch
from small import random_pipeline

from sdlearn import hub, models
from sdlearn.chapters import costs
from tools import bench_gpu


@pytest.fixture(scope="module")
def found():
    return bench_gpu.measure(random_pipeline, "cpu", steps=2, sides=(), train=(2, 1))


def test_every_measure_is_measured(found):
    assert [r["measure"] for r in found["measures"]] == list(bench_gpu.MEASURES)
    assert all(
        r["seconds"] > 0
        and r["seconds_per_step"] == pytest.approx(r["seconds"] / 2)
        and r["peak_gb"] is None
        for r in found["measures"]
    )
    assert found["training"]["pictures_per_second"] > 0


def test_measures_are_those_of_the_ladder():
    from sdlearn import memory

    known = {
        r.name
        for device in ("cuda", "mps")
        for gb in (24.0, 3.0, 1.0)
        for r in memory.ladder(gb, device, hub.MODELS["sd15"])
    }
    assert {name for names in bench_gpu.MEASURES.values() for name in names} == known - {
        "tiny",
        "half",
    }


def test_chapter_05_can_read_it(found, tmp_path):
    path = tmp_path / "bench_gpu.json"
    path.write_text(json.dumps({"device": "x", "date": "y", **found}))
    bench = costs.committed(path)
    assert set(bench["sd15"]) == {"seconds", "seconds_per_step", "peak_gb"} and bench["ways"] == []


def test_table(found):
    rows = [{**r, "peak_gb": 2.5} for r in found["measures"]]
    ways = [{"way": "latents", "side": 512, "steps": 25, "seconds": 1.5, "peak_gb": 3.0}]
    text = bench_gpu.table(
        {
            **found,
            "measures": rows,
            "ways": ways,
            "device": "Some GPU",
            "date": "2026-01-01",
            "torch": "2",
        }
    )
    assert (
        "Some GPU, 2026-01-01" in text
        and text.count("2.50 GB") == len(rows)
        and "| latents | 512 px | 1.50 s | 3.00 GB |" in text
    )


def test_what_does_not_fit_is_left_out(monkeypatch, capsys):
    """No row is invented for a measure that ran out of memory."""
    real = bench_gpu.two_pictures

    def two_pictures(pipe, device, steps):
        if pipe.vae.use_tiling:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return real(pipe, device, steps)

    monkeypatch.setattr(bench_gpu, "two_pictures", two_pictures)
    monkeypatch.setattr(bench_gpu, "MEASURES", {"whole": ["whole"], "tiles": ["tiling"]})
    found = bench_gpu.measure(random_pipeline, "cpu", steps=1, sides=(), train=(2, 1))
    assert [r["measure"] for r in found["measures"]] == [
        "whole"
    ] and "tiles: not enough memory" in capsys.readouterr().err


def test_when_nothing_fits_nothing_is_written(monkeypatch, tmp_path, capsys):
    def full(*args):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(bench_gpu, "two_pictures", full)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "A small GPU")
    monkeypatch.setattr(bench_gpu, "_fresh", lambda device: False)
    monkeypatch.setattr(models, "random_sd15", lambda *args: random_pipeline())
    monkeypatch.setattr(bench_gpu.memory, "settle", lambda pipe, *args: pipe)
    assert bench_gpu.main(tmp_path / "bench_gpu.json") == 1
    assert "Nothing fits" in capsys.readouterr().err and not (tmp_path / "bench_gpu.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")
def test_without_cuda_one_sentence_and_no_file(tmp_path, capsys):
    assert bench_gpu.main(tmp_path / "bench_gpu.json") == 1
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and "needs a CUDA GPU" in said.err and said.out == ""
    assert not (tmp_path / "bench_gpu.json").exists()
    done = subprocess.run([sys.executable, "-m", "tools.bench_gpu"], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr

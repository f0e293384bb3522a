"""How many learners one server holds: the arithmetic, the page, and that kernels are measured."""

import time

import psutil
import pytest

from tools import load, write_between

# on two cores: 8 core-seconds to the first picture, 2 to the next, half a GB with the server
TEN = load.Load(10, (30.0,) * 9 + (40.0,), (8.0,) * 9 + (10.0,), (400.0,) * 10)


def test_report_follows_from_what_was_measured():
    one = load.Load(1, (9.0,), (2.0,), (450.0,))
    text = load.report([one, TEN], 100.0, 2)
    for said in (
        "| 1 | 450 MB | 9.0 s | 9.0 s | 2.0 s | 2.0 s |",
        "| 10 | 400 MB | 30.0 s | 40.0 s | 8.0 s | 10.0 s |",
        "2 × 10.0 / 10 = 2.0 core-seconds",
        "10 × cores / (0.2 × 2.0)",
        "| 4 GB, 2 cores | 5 | 50 | 20 s |",  # 2.5 GB are free; 20 core-seconds are ten pictures
        "| 64 GB, 16 cores | 125 | 400 | 62 s |",
    ):
        assert said in text
    widths = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert widths == [7] * 4 + [5] * 8


def test_written_between_the_markers(tmp_path, monkeypatch):
    page = tmp_path / "teaching.md"
    page.write_text("a\n<!-- load:start -->\nformer\n<!-- load:end -->\nb\n", encoding="utf-8")
    monkeypatch.setattr(load, "measure", lambda n, cells: TEN._replace(kernels=n))
    monkeypatch.setattr(load, "server_mb", lambda: 100.0)
    assert load.main(page) == 0
    text = page.read_text(encoding="utf-8")
    assert text.startswith("a\n<!-- load:start -->\n| kernels") and "former" not in text
    assert text.endswith("<!-- load:end -->\nb\n") and "Measured 20" in text
    with pytest.raises(ValueError, match="no markers"):
        write_between(page, "other", "x")


def test_the_page_has_a_place_for_it_and_the_cells_are_the_notebooks_own():
    assert "<!-- load:start -->" in load.PAGE.read_text(encoding="utf-8")
    first, picture = load.lesson()
    assert "load_pipeline()" in first and "sample(pipe" in picture


@pytest.mark.slow
@pytest.mark.notebooks
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_kernels_are_started_together_and_weighed():
    """Two kernels that hold 60 MB each and wait half a second: that is what is found."""
    start = time.perf_counter()
    found = load.measure(2, ["held = b'x' * 60_000_000", "import time; time.sleep(0.5)"])
    took = time.perf_counter() - start
    assert all(0.5 <= t <= took for t in (*found.first, *found.again))
    assert sum(found.first) + sum(found.again) > took, "they ran side by side"
    assert all(75 < mb < 400 for mb in found.memory), "60 MB and an interpreter"
    assert not psutil.Process().children(recursive=True), "none is left over"


@pytest.mark.slow
@pytest.mark.notebooks
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_cell_that_fails_is_no_measurement():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        load.measure(1, ["1 / 0"])

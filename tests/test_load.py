"""How many learners one server holds: the arithmetic on numbers made up here, the page, and that kernels are really measured."""

import re
import time

import psutil
import pytest

from tools import load, write_between

TEN = load.Load(
    10, first=(30.0,) * 9 + (40.0,), again=(8.0,) * 9 + (10.0,), memory=(400.0,) * 10
)  # on two cores: 8 core-seconds to the first picture, 2 to the next


def limits(gb, cores, at_once=0.2, wait=10.0):
    return load.limits(TEN, 100.0, gb, cores, measured_cores=2, at_once=at_once, wait=wait)


def test_memory_or_waiting_whichever_ends_first():
    assert limits(4, 16).by_memory == 5, "2.5 GB of 4 are free for learners of half a GB each"
    assert limits(64, 2).by_waiting == 50, (
        "10 s of 2 cores are 20 core-seconds, ten pictures, and one in five presses"
    )
    assert limits(4, 16).learners == 5 and limits(64, 2).learners == 50
    assert limits(1, 2).learners == 0, "a server smaller than its own system holds nobody"


def test_waiting_grows_with_what_it_is_made_of():
    assert (
        limits(64, 4).by_waiting
        == 2 * limits(64, 2).by_waiting
        == limits(64, 2, wait=20).by_waiting
    )
    assert limits(64, 2, at_once=1).by_waiting == 10
    assert limits(64, 2).opening == 50 * 8 / 2, "all open the notebook at once: 8 core-seconds each"


def test_report_shows_the_arithmetic_that_it_uses():
    one = load.Load(1, first=(9.0,), again=(2.0,), memory=(450.0,))
    text = load.report([one, TEN], 100.0, cores=2, at_once=0.2, wait=10.0)
    assert (
        "2 × 10.0 / 10 = 2.0 core-seconds" in text
        and "500 MB together" in text
        and "10 × cores / (0.2 × 2.0)" in text
    )
    assert (
        "| 1 | 450 MB | 0.5 GB | 9.0 s | 9.0 s | 2.0 s | 2.0 s |" in text
        and "| 10 | 400 MB | 4.0 GB | 30.0 s | 40.0 s | 8.0 s | 10.0 s |" in text
    )
    for gb, cores in load.SERVERS:
        of = limits(gb, cores)
        assert (
            f"| {gb} GB, {cores} cores | {of.by_memory} | {of.by_waiting} | **{of.learners}** | {of.opening:.0f} s |"
            in text
        )
    widths = [line.count("|") for line in text.splitlines() if line.startswith("|")]
    assert widths[:4] == [8] * 4 and set(widths[4:]) == {6}, (
        "each row has as many columns as its head"
    )


@pytest.mark.parametrize("wrong", ["0", "1.5", "-1"])
def test_share_that_is_none(wrong, capsys):
    with pytest.raises(SystemExit):
        load.main(["--at-once", wrong])
    assert "at most 1" in capsys.readouterr().err


def test_written_between_the_markers(tmp_path, monkeypatch, capsys):
    page = tmp_path / "teaching.md"
    page.write_text("a\n<!-- load:start -->\nformer\n<!-- load:end -->\nb\n", encoding="utf-8")
    asked = []
    monkeypatch.setattr(
        load,
        "measure",
        lambda n, cells, threads: asked.append((n, threads)) or TEN._replace(kernels=n),
    )
    monkeypatch.setattr(load, "server_mb", lambda: 100.0)
    assert load.main(["--kernels", "1", "10"], page) == 0
    assert asked == [(1, 1), (10, 1)] and "former" in page.read_text(encoding="utf-8"), (
        "only --markdown writes"
    )
    assert load.main(["--kernels", "10", "--markdown"], page) == 0
    text = page.read_text(encoding="utf-8")
    assert (
        text.startswith("a\n<!-- load:start -->\n| kernels")
        and text.endswith("<!-- load:end -->\nb\n")
        and "former" not in text
    )
    assert re.search(
        r"Measured 20\d\d-\d\d-\d\d by `python run.py load` on \d+ cores.*, OMP_NUM_THREADS=1\.",
        text,
    )
    with pytest.raises(ValueError, match="no markers"):
        write_between(page, "other", "x")


def test_the_page_has_a_place_for_it():
    assert "<!-- load:start -->" in load.PAGE.read_text(encoding="utf-8")


def test_learners_cells_are_the_notebooks_own():
    first, picture = load.lesson()
    assert "load_pipeline()" in first and "sample(pipe" in picture


@pytest.mark.notebooks
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_kernels_are_started_together_and_weighed():
    """Two kernels that hold 60 MB each and wait half a second: that is what is found."""
    start = time.perf_counter()
    found = load.measure(2, ["held = b'x' * 60_000_000", "import time; time.sleep(0.5)"])
    took = time.perf_counter() - start
    assert (
        found.kernels == 2
        and all(0.5 <= t <= took for t in found.first)
        and all(0.5 <= t <= took for t in found.again)
    )
    assert sum(found.first) + sum(found.again) > took, "they ran side by side"
    assert all(75 < mb < 400 for mb in found.memory), "60 MB and an interpreter"
    assert not psutil.Process().children(recursive=True), "none is left over"


@pytest.mark.notebooks
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_cell_that_fails_is_no_measurement():
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        load.measure(1, ["1 / 0"])

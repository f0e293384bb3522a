"""The measuring command: its verdicts, its table, and that it measures what it says, on the tiny
random pipeline."""

import json
import math

import pytest
from PIL import Image

from sdlearn.text import unknown_words
from tools import animation, bench, figures


@pytest.mark.parametrize(
    ("measured", "more", "verdict"),
    [
        (5.0, False, "aim reached"),
        (8.0, False, "reached"),
        (20.0, False, "MISSED"),
        (20.0, True, "aim reached"),
        (8.0, True, "MISSED"),
    ],
)
def test_verdict(measured, more, verdict):
    least, aim = (9, 20) if more else (10, 5)
    assert bench.Row("x", measured, "s", least, aim, more).verdict == verdict
    assert bench.Row("x", measured, "s").verdict == ""


def page(name: str) -> str:
    return f"before\n<!-- {name}:start -->\nold\n<!-- {name}:end -->\nafter\n"


def test_table_and_pages(tmp_path):
    (tmp_path / "docs").mkdir()
    readme, measured = tmp_path / "README.md", tmp_path / "docs" / "measured.md"
    readme.write_text(page("numbers"))
    measured.write_text(page("bench"))
    text = bench.table([bench.Row("a", 1.234, "s", 2, 1), bench.Row("b", 512.3, "MB")])
    assert text.splitlines()[2:] == [
        "| a | **1.23** s | 2 | 1 | reached |",
        "| b | **512** MB |  |  |  |",
    ]
    known = {bench.SEEN: 98.76, bench.HELD_OUT: 80.0, bench.LONG: 2.34, bench.APART: 0.0}
    bench.write_pages([bench.Row(what, value, "") for what, value in known.items()], text, tmp_path)
    assert measured.read_text() == page("bench").replace("old", text)
    assert all(number in readme.read_text() for number in ("98.8 %", "80.0 %", "2.3 s", "0 of 255"))
    measured.write_text("no markers")
    with pytest.raises(ValueError, match="markers"):
        bench.write_pages([], text, tmp_path)


@pytest.mark.slow
def test_pictures_equal_the_library_and_every_part_is_timed(pipe, monkeypatch):
    monkeypatch.setattr(bench, "STEPS", 2)
    rows = [*bench.whole_pictures(pipe), *bench.parts_and_controls(pipe)]
    monkeypatch.setattr(bench, "STEPS", 200)  # or it would have ended before it is stopped
    rows += bench.panel_answers(pipe)
    assert all(math.isfinite(r.measured) for r in rows)
    difference = next(r for r in rows if "difference" in r.what)
    assert difference.measured <= 1, "our loop and the library's, from one seed, in levels of 255"
    assert all(r.measured > 0 for r in rows if r is not difference)


def test_quality_is_read_and_never_invented(tmp_path, capsys):
    assert list(bench.quality(tmp_path)) == [] and "not measured yet" in capsys.readouterr().err
    fidelity = {"seen": {"in_place": {"value": 97.0}}, "held_out": {"in_place": {"value": 70.0}}}
    (tmp_path / "evaluation.json").write_text(
        json.dumps({"autoencoder": {"held_out": {"psnr": {"value": 34.5}}}, "fidelity": fidelity})
    )
    assert [r.verdict for r in bench.quality(tmp_path)] == ["reached", "reached", "MISSED"]


def test_readme_pictures(pipe, monkeypatch, tmp_path):
    """Drawn from words the model knows, both wide enough for a page."""
    assert [unknown_words(pipe, p) for p in figures.PROMPTS] == [[]] * len(figures.PROMPTS)
    monkeypatch.setattr(figures.hub, "load_pipeline", lambda model: pipe)
    monkeypatch.setattr(animation.labdrive, "missing", lambda: "no Chromium")
    assert figures.main(tmp_path) == 1  # the still pictures are there, the film is not
    for name in ("hero.png", "filmstrip.png"):
        picture = Image.open(tmp_path / name).convert("RGB")
        assert picture.width > 600 and len(picture.getcolors(10**6)) > 300


def test_the_film_is_small_and_moves():
    with Image.open(figures.IMAGES / "panel.webp") as film:
        assert film.n_frames > 20 and film.width == animation.WIDTH
    assert (figures.IMAGES / "panel.webp").stat().st_size < animation.MAX_BYTES

"""The measurements: their formulas, what they write and where."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sdlearn import hub, world
from sdlearn.judge import Judge
from sdlearn.measure import __main__ as command
from sdlearn.measure import card, edits, evaluate, grid, results
from sdlearn.measure.pages import write_between


def test_frechet_distance_of_known_gaussians():
    """Two Gaussians with means 0 and m, covariances I and s^2 I: |m|^2 + D (1 - s)^2; sampled, so
    within 3 %."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((40_000, 6)), 2.0 * rng.standard_normal((40_000, 6)) + 1.5
    assert results.frechet_distance(a, b) == pytest.approx(6 * 1.5**2 + 6 * (1 - 2) ** 2, rel=0.03)
    assert results.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)


def test_share_is_a_wilson_interval():
    """Wilson 1927 for 8 of 10: 49.0 to 94.3 percent."""
    s = results.share([True] * 8 + [False] * 2)
    assert (round(s["value"]), round(s["low"], 1), round(s["high"], 1)) == (80, 49.0, 94.3)


def test_card_tells_every_run_that_made_the_weights(tmp_path):
    """A run that went on from other weights is added to those before it, once; a run from nothing
    takes their place."""

    def facts(before, steps, **also):
        (tmp_path / "vae").mkdir(exist_ok=True)
        rows = [
            {"settings": {"batch": 16, "lr": 1e-3, "seed": 0, **also}, "hardware": "an abacus"},
            {"step": steps, "seconds": 120.0},
        ]
        (tmp_path / "vae" / "log.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        return card.facts_of_training(tmp_path, before)

    fresh = facts(None, 100)
    settings = {"batch": 16, "lr": 1e-3, "seed": 0}
    run = {"minutes": 2.0, "steps": 100, "hardware": "an abacus", "settings": settings}
    assert fresh["vae"] == [run]
    further = facts(fresh, 200, start_from="shipped")
    again = facts(further, 200, start_from="shipped")
    assert [r["steps"] for r in further["vae"]] == [r["steps"] for r in again["vae"]] == [100, 200]
    assert [r["steps"] for r in facts(further, 300)["vae"]] == [300]


def entry(value: float = 90.0) -> dict:
    return {"value": value, "low": value - 1, "high": value + 1, "n": 10}


def example() -> dict:
    groups: dict = {}
    for _, key, group, _, _ in evaluate.ROWS:
        for split in ("seen", "held_out"):
            groups.setdefault(group, {}).setdefault(split, {})[key] = entry()
    told = {"scenes": 20, "prompts": 10, "among": 192, "guidance_scale": 2.0}
    told |= {"sampler": "ddim", "num_inference_steps": 25}
    run = {"minutes": 3.0, "steps": 1234, "hardware": "an abacus"}
    facts = {"unet": [run | {"settings": {"batch": 8, "lr": 1e-3, "seed": 0}}]}
    return groups | {
        "settings": told,
        "measured": {"hardware": "an abacus"},
        "training": facts,
    }


def test_the_card_is_filled_and_reads_as_a_card():
    result = example()
    table = evaluate.format_table(result)
    text = card.model_card(result, table, hub.TINY_SD)
    head, body = text.removeprefix("---\n").split("\n---\n", 1)
    assert "license: mit" in head and "pipeline_tag: text-to-image" in head
    assert table in body and "{{" not in text and "None" not in text
    assert "| unet | 3.0 | 1,234 | 8 | 0.001 | 0 | an abacus |" in body
    assert f"{len(world.KINDS)} things" in body and "(ddim, 25 steps,\nguidance 2)" in body
    lines = body.splitlines()
    for i, line in enumerate(lines):  # no table is torn by an empty line
        if line.startswith("|---"):
            assert lines[i - 1].startswith("|") and lines[i + 1].startswith("|")
    assert all(kind in card.words_of_captions(hub.TINY_SD) for kind in world.KINDS)


def test_pages_are_written_between_markers(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- x:start -->\nold\n<!-- x:end -->\nb\n")
    write_between(page, "x", "new \\1")
    assert page.read_text() == "a\n<!-- x:start -->\nnew \\1\n<!-- x:end -->\nb\n"
    with pytest.raises(ValueError, match="no markers"):
        write_between(page, "y", "new")


def test_nothing_is_written_into_the_package_by_default():
    for module, name in ((evaluate, "Evaluate"), (grid, "Grid"), (edits, "Edits")):
        settings = getattr(module, f"{name}Settings")()
        assert hub.TINY_SD.parent.name not in settings.out and settings.model == str(hub.TINY_SD)
        assert getattr(settings, "readme", None) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "--prompts", "0"], "--prompts must be at least 1"),
        (["grid", "--batch", "-3"], "--batch must be at least 1"),
        (["evaluate", "--readme", "file"], "file has no markers"),
        (["evaluate", "--among", "2000"], "--retrieved >= --among"),
        (["edits", "--model", "nowhere"], "no model folder at nowhere"),
        (["edits", "--out", "file"], "Nothing can be written into file"),
    ],
)
def test_a_bad_measurement_gets_a_sentence(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert command.main(words) == 1
    assert said in capsys.readouterr().err


def test_the_grid_goes_on_where_it_was(pipe, tmp_path, monkeypatch):
    monkeypatch.setattr(grid.hub, "load_pipeline", lambda model: pipe)
    monkeypatch.setattr(grid, "load_judge", lambda model: Judge().eval())
    monkeypatch.setattr(grid, "GUIDANCE", (1.0, 2.0))
    monkeypatch.setattr(grid, "STEPS", (1, 2))
    monkeypatch.setattr(grid.sampling, "SAMPLERS", {"ddim": None})
    made = []

    def draw(pipe, scenes, **options):
        made.append(options)
        return [Image.new("RGB", (128, 128))] * len(scenes)

    monkeypatch.setattr(grid, "draw_prompts", draw)
    settings = grid.GridSettings(out=str(tmp_path), prompts=3)
    result = grid.measure_grid(settings)
    assert len(result["rows"]) == 4 and len(made) == 8
    path = tmp_path / "grid.json"
    kept = json.loads(path.read_text())
    assert kept["rows"] == result["rows"] and kept["rows"][0]["seen"]["in_place"]["n"] == 3
    path.write_text(json.dumps(kept | {"rows": kept["rows"][:3]}))
    settings.resume = True
    assert [r["num_inference_steps"] for r in grid.measure_grid(settings)["rows"]] == [1, 2, 1, 2]
    assert len(made) == 10, "only what was missing"
    settings.prompts = 4
    with pytest.raises(ValueError, match="other settings"):
        grid.measure_grid(settings)
    assert grid.format_grid(kept["rows"], "seen").count("\n") == 2


def test_prompts_are_drawn_with_the_models_defaults(pipe, monkeypatch):
    asked = []

    def sample(pipe, prompts, **options):
        asked.append(options)
        return prompts

    monkeypatch.setattr(evaluate.sampling, "sample", sample)
    scenes = [world.sample_scene(np.random.default_rng(i)) for i in range(5)]
    made = evaluate.draw_prompts(pipe, scenes, batch=2, guidance_scale=3.5)
    assert made == [world.caption(s) for s in scenes]
    assert [one["seed"] for one in asked] == [[0, 1], [2, 3], [4]]
    wanted = hub.defaults_of(pipe)._asdict() | {"guidance_scale": 3.5}
    assert all(one == wanted | {"seed": one["seed"]} for one in asked)


# ------------------------------------------------------------------------------------- editing


def test_measured_edits_are_what_they_say():
    """The mask frees the side of the second thing and no pixel of the first; a new colour is
    another one, and one that training drew."""
    for i in range(40):
        two = world.sample_scene(np.random.default_rng(i), things=2)
        one, other = edits.fewer(two), edits.recolored(two, np.random.default_rng(i))
        light = np.asarray(edits.side_mask(two.things[1].position)) > 0
        before, after = (np.asarray(world.draw(s, seed=i), int) for s in (two, other))
        changed = (before != after).any(-1)
        assert changed.any() and not changed[~light].any(), "it lies inside the mask"
        assert one.things == two.things[:1] and not other.held_out
        assert other.things[0] == two.things[0]
        assert other.things[1].colour != two.things[1].colour
        assert other.things[1].kind == two.things[1].kind


def test_a_switched_prompt_asks_for_one_change():
    for i in range(40):
        scene = world.sample_scene(np.random.default_rng(i), things=1)
        goals = edits.one_change(scene, np.random.default_rng(i))
        before, old = scene.things[0], (scene.place, scene.time)
        for what, goal in goals.items():
            after = goal.things[0]
            changed = {
                "color": after.colour != before.colour,
                "place": goal.place != old[0],
                "time": goal.time != old[1],
                "kind": after.kind != before.kind,
            }
            assert [name for name, new in changed.items() if new] == [what]
            assert after.position == before.position and (
                what in ("place", "time") or not goal.held_out
            )


def test_measured_edits_count_every_scene(pipe):
    settings = edits.EditsSettings(steps=1, batch=2, guidance_scale=2.0)
    scenes = [world.sample_scene(np.random.default_rng(i), things=2) for i in range(3)]
    torch.manual_seed(0)
    result = edits.judge_edits(pipe, Judge().eval(), settings, scenes)
    switched = result.pop("switched")
    assert {entry["n"] for part in result.values() for entry in part.values()} == {3}
    assert {entry["n"] for row in switched.values() for entry in row.values()} == {3}
    assert list(switched) == ["0", "4", "8", "12", "16"]
    assert all(list(row) == ["color", "place", "time", "kind"] for row in switched.values())
    assert set(result["right"]) >= {"drawn", "add", "erase", "retold"}
    assert all(0 <= e["low"] <= e["value"] <= e["high"] <= 100 for e in result["right"].values())
    copies = result["psnr_outside"]["autoencoder"]["value"]
    assert result["psnr_outside"]["add"]["value"] == pytest.approx(copies, abs=3)

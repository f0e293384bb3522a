"""The panel that draws while one types, without a browser: what it makes, says, keeps and stops."""

import base64
import io
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from sdlearn import hub, sampling, world
from sdlearn.widgets import PromptPanel, words
from sdlearn.widgets import panel as module


@pytest.fixture()
def panel(pipe):
    return PromptPanel(pipe, "a red house", seed=3, steps=5)


def run(panel: PromptPanel, act=None) -> PromptPanel:
    (act or panel.generate)()
    assert panel.wait(120), "the run hangs"
    assert not panel.face.busy
    return panel


def hear(panel: PromptPanel, what: str) -> None:
    """What the browser sends when a key or a button is pressed."""
    panel._hear(panel.face, {"do": what}, [])


def in_thread(act):
    thread = threading.Thread(target=act)
    thread.start()
    thread.join(120)


def pixels(shown: dict) -> np.ndarray:
    data = base64.b64decode(shown["src"].split(",")[1])
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float)


# -------------------------------------------------------------------------------- the full picture


@pytest.mark.parametrize(
    "steps, guidance, seed",
    [(5, 5.0, 3), (1, 1.0, 0), (7, 30.0, 2**31 - 1)],
    ids=["default", "least", "largest"],
)
@pytest.mark.parametrize("where", [lambda act: act(), in_thread])
def test_the_panel_is_the_plain_loop(pipe, panel, steps, guidance, seed, where):
    def act():
        panel.face.steps, panel.face.guidance, panel.face.seed = steps, guidance, seed
        run(panel, lambda: hear(panel, "full"))

    where(act)
    (expected,) = sampling.sample(
        pipe,
        "a red house",
        num_inference_steps=steps,
        guidance_scale=guidance,
        seed=seed,
        sampler=hub.defaults_of(pipe).sampler,
    )
    # attention is recorded on the way, by plain products instead of the fused kernel
    assert np.abs(np.asarray(panel.images[0], int) - np.asarray(expected, int)).max() <= 1
    assert panel.error == "" and panel.picture is panel.images[0] is panel.frames[-1]
    assert [step.index for step in panel.steps] == list(range(steps))
    assert panel.face.done == panel.face.total == steps
    assert f"Done: {steps} steps" in panel.face.status


def test_it_starts_with_the_models_own_defaults(pipe):
    best, face = hub.defaults_of(pipe), PromptPanel(pipe).face
    assert (face.steps, face.guidance) == (best.num_inference_steps, best.guidance_scale)


def test_the_picture_carries_its_sentence_and_its_steps(panel):
    shown = run(panel).face.shown
    assert (shown["prompt"], shown["seed"], shown["said"]) == ("a red house", 3, "5 steps")
    assert "a red house (seed 3" in shown["alt"]
    assert np.abs(pixels(shown) - np.asarray(panel.images[0], float)).mean() < 8
    frames = panel.face.frames
    assert frames["labels"] == [f"{n} of 5" for n in range(6)] and len(frames["srcs"]) == 6
    assert "Step 0 of 5, pure noise: a red house" in frames["alts"][0]
    panel.face.steps = 45
    assert len(run(panel).frames) == PromptPanel.FRAMES + 1 and len(panel.steps) == 45


def test_a_result_is_never_mixed_with_a_new_sentence(pipe, panel):
    """What is typed during a run gives a picture of its own, after it."""
    seen = []
    panel.face.observe(lambda change: seen.append(change["new"]["prompt"]), "shown")
    panel.face.observe(
        lambda change: setattr(panel.face, "prompt", "a blue cat") if change["new"] == 2 else None,
        "done",
    )
    run(panel)
    assert seen[0] == "a red house" and seen[-1] == "a blue cat"
    assert seen == sorted(seen, reverse=True), "one after the other"
    assert [one["prompt"] for one in panel.face.strip] == ["a red house"]


def slowed(monkeypatch, panel, at: int):
    """Let the run wait at a step until the event it gives is set."""
    entered, go, steps = threading.Event(), threading.Event(), sampling.sample_steps

    def slow(*args, **kwargs):
        for step in steps(*args, **kwargs):
            if step.index == at:
                entered.set()
                assert go.wait(60)
            yield step

    monkeypatch.setattr(module.sampling, "sample_steps", slow)
    return entered, go


def test_stop_is_heard_within_a_step(pipe, panel, monkeypatch):
    panel.face.steps = 40
    entered, go = slowed(monkeypatch, panel, 3)
    hear(panel, "full")
    assert entered.wait(60) and panel.face.busy
    hear(panel, "full")  # one picture at a time
    hear(panel, "stop")
    assert panel.face.status == "Stopping …", "and it says at once that it was heard"
    go.set()
    assert panel.wait(120) and len(panel.steps) == 4 and len(panel.images) == 1
    assert "Stopped after step 4 of 40" in panel.face.status and panel.error == ""
    panel.face.steps = 3
    assert len(run(panel).steps) == 3, "the next run starts afresh"


def test_decoding_takes_a_quarter_of_a_run_at_most(pipe, monkeypatch):
    """A clock that each step and each decode moves on by their cost."""
    clock, spent = [0.0], []
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    decode, steps = module.decode_latents, sampling.sample_steps

    def costly(*args):
        spent.append(0.5)
        clock[0] += 0.5
        return decode(*args)

    def ticking(*args, **kwargs):
        for step in steps(*args, **kwargs):
            clock[0] += 0.4
            yield step

    monkeypatch.setattr(module, "decode_latents", costly)
    monkeypatch.setattr(module.sampling, "sample_steps", ticking)
    panel, on_the_way = PromptPanel(pipe, "a cat", steps=20), []
    monkeypatch.setattr(panel, "_decode_steps", lambda *_: on_the_way.append(sum(spent) - 0.5))
    run(panel)
    assert 0 < on_the_way[0] <= 0.25 * clock[0]


@pytest.mark.parametrize("prompt", ["", "   "])
def test_it_asks_for_a_sentence(panel, prompt):
    panel.face.prompt = prompt
    run(panel)
    assert panel.error.startswith("Type what the picture should show") and panel.images == []
    panel.face.prompt = "a cat"
    assert run(panel).error == "" and len(panel.images) == 1


def test_errors_and_warnings_are_sentences(pipe, monkeypatch):
    wrong = run(PromptPanel(pipe, "a cat", steps=2, sampler="magic"))
    assert "magic" in wrong.error and wrong.face.bad
    weak = run(PromptPanel(pipe, "a cat", steps=2, guidance=0))
    assert "Note: guidance_scale 0 ignores the prompt" in weak.face.status
    new = PromptPanel(pipe, "a qzxv", steps=2)
    assert any("qzxv" in note for note in new.face.notes)
    assert "qzxv" not in run(new).face.status, "said once"

    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(module.sampling, "sample_steps", broken)
    assert run(PromptPanel(pipe, "a cat")).error == "ZeroDivisionError: no message"


# ------------------------------------------------------------------------------- the quick picture


def test_it_is_never_empty(panel):
    shown = panel.face.shown
    assert shown["noise"] and shown["prompt"] == "a red house" and pixels(shown).std() > 20
    run(panel, lambda: hear(panel, "ready"))
    assert panel.face.shown["said"].startswith("a quick picture")
    before = panel.face.shown
    run(run(panel), lambda: hear(panel, "ready"))
    assert panel.face.shown is not before and not panel.face.shown["quick"], "no step back"


def test_a_key_cancels_the_quick_picture_of_the_old_sentence(panel, monkeypatch):
    seen, steps = [], sampling.sample_steps

    def typed_into(*args, **kwargs):
        for step in steps(*args, **kwargs):
            if step.index == 2:  # by the run's own thread: it holds the lock that a key waits for
                panel.face.prompt = "a blue boat"
            yield step

    monkeypatch.setattr(module.sampling, "sample_steps", typed_into)
    panel.face.observe(lambda change: seen.append(change["new"]["prompt"]), "shown")
    hear(panel, "quick")
    assert panel.wait(60) and seen == ["a red house"], "its first glimpse, and no more"
    assert panel.error == ""
    run(panel, lambda: hear(panel, "quick"))
    assert set(seen[1:]) == {"a blue boat"} and panel.face.strip == []


def test_enter_does_not_wait_for_a_quick_picture(panel, monkeypatch):
    entered, go = slowed(monkeypatch, panel, 1)
    hear(panel, "quick")
    assert entered.wait(60)
    hear(panel, "full")
    go.set()
    assert panel.wait(120) and len(panel.steps) == 5 and not panel.face.shown["quick"]


def test_where_quick_is_slow_it_says_so_and_stops(panel, monkeypatch):
    monkeypatch.setattr(PromptPanel, "QUICK_SECONDS", 0.0)
    for _ in range(2):
        run(panel, panel.quick)
    assert not panel.face.live and "typing draws none any more" in panel.face.status
    before = panel.face.shown
    run(panel, panel.quick)
    assert panel.face.shown is before
    monkeypatch.undo()
    panel.face.live = True
    run(panel, panel.quick)
    assert panel.face.live, "and can be told to try again"


# --------------------------------------------------------------------------------- what it says


def test_where_a_word_was_read_comes_from_the_same_run(pipe, panel):
    panel.face.prompt = "a red house in the snow"
    heat = run(panel).face.shown["heat"]
    assert [word["text"] for word in heat["words"]] == "a red house in the snow".split()
    for word in heat["words"]:
        values = np.frombuffer(base64.b64decode(word["map"]), np.uint8)
        assert values.size == heat["side"] ** 2 and values.min() == 0 and values.max() == 255


@pytest.mark.parametrize("prompt", ["a red house, a blue car and a green tree", "A Cat.", "", "…"])
def test_every_word_is_marked(pipe, prompt):
    marks, _ = words.marks(pipe, prompt)
    assert [m["text"] for m in marks] == prompt.replace(",", "").replace(".", "").replace(
        "…", ""
    ).split()
    assert all(m["kind"] == "known" for m in marks) or "tree" in prompt


def test_habits_that_do_not_work_are_told(pipe):
    marks, notes = words.marks(pipe, "not two cats and a (hous:1.4)")
    kinds = {m["text"]: (m["kind"], m["take"]) for m in marks}
    assert kinds["not"][0] == kinds["two"][0] == "habit"
    assert kinds["cats"] == ("habit", "cat") and kinds["hous"] == ("unknown", "house")
    assert len(notes) == 5, "one sentence a kind, for the weight too"


def test_chips_and_dice_follow_the_world(pipe):
    made = words.chips(pipe)
    assert made["Things"] == list(world.KINDS) and made["Colors"] == list(world.COLOURS)
    rng = np.random.default_rng(0)
    for _ in range(20):
        prompt = words.random_prompt(rng)
        assert words.marks(pipe, prompt)[1] == [], prompt


def test_the_last_six_are_kept_and_four_seeds_are_four_results(panel):
    run(panel, lambda: hear(panel, "four"))
    assert [one["seed"] for one in panel.face.strip] == [3, 4, 5, 6] and len(panel.images) == 4
    for seed in (10, 11, 12):
        panel.face.seed = seed
        run(panel)
    assert [one["seed"] for one in panel.face.strip] == [4, 5, 6, 10, 11, 12]
    assert all(one["src"].startswith("data:image/jpeg") for one in panel.face.strip)


def test_dice_rolls_another_sentence(panel):
    run(panel, lambda: hear(panel, "dice"))
    assert panel.face.prompt != "a red house" and panel.face.shown["prompt"] == panel.face.prompt


def test_no_state_is_shared(pipe):
    first, second = PromptPanel(pipe, "a cat", steps=2), PromptPanel(pipe, "a cat", steps=2)
    run(first)
    assert first.frames and not second.frames and not second.steps and not second.face.strip
    assert len(repr(first)) < 200 and repr(first).startswith("PromptPanel(value=")


def test_a_message_it_does_not_know_is_passed_over(panel):
    panel._hear(panel.face, {"do": "explode"}, [])
    panel._hear(panel.face, {}, [])
    assert panel.error == "" and torch.is_grad_enabled()

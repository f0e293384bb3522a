"""The controls without a browser: at their least, largest and default value, after a rapid sweep, and from another thread.

A browser-side link is not followed here (tests/browser does that); here its two ends and the pages it switches are checked.
"""

import html
import itertools
import threading
import warnings

import ipywidgets as W
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from sdlearn import plots, sampling, widgets
from sdlearn.widgets import (
    AttentionOverlay,
    FrameScrubber,
    GridScrubber,
    LivePicture,
    MaskCanvas,
    PromptPanel,
)


def shade(level: int, size: int = 8) -> Image.Image:
    return Image.new("RGB", (size, size), (level, 255 - level, 40))


FRAMES = [shade(10 * i) for i in range(12)]
LABELS = [f"t = {981 - 80 * i}" for i in range(12)]
GRID = [[shade(60 * r + 10 * c) for c in range(4)] for r in range(3)]


def grid_scrubber():
    return GridScrubber(
        GRID, ["g = 1", "g = 5", "g = 9"], list("abcd"), descriptions=("guidance", "step")
    )


def attention_overlay():
    return AttentionOverlay(GRID, ["a", "red", "a"], list("abcd"))


def live_picture():
    return LivePicture(
        lambda t, fine: shade(20 * t, 16 if fine else 8),
        {"t": range(12), "fine": W.Checkbox(False)},
        "noise at t = {t}",
    )


def in_thread(act):
    """Do it as a widget callback does in JupyterLab, in a thread of its own; what it raises is raised here."""
    problems = []

    def run():
        try:
            act()
        except BaseException as problem:
            problems.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "the control hangs"
    if problems:
        raise problems[0]


def deck_of(control) -> W.Tab:
    return next(child for child in control.children if isinstance(child, W.Tab))


def assert_linked(control: W.Widget, source: W.Widget, deck: W.Tab):
    """There is a browser-side link from the slider's index to the page shown, and both ends agree now."""
    assert any(
        link.source == (source, "index") and link.target == (deck, "selected_index")
        for link in control.links
    )
    assert deck.selected_index == source.index and "sd-frames" in deck._dom_classes


# ---------------------------------------------------------------------------------------------------- frames, one axis


@pytest.mark.parametrize("value", [0, 11, 5])
@pytest.mark.parametrize("where", [lambda act: act(), in_thread])
def test_frame_scrubber_at(value, where):
    control = FrameScrubber(FRAMES, LABELS)
    assert control.value == 0 and control.picture is FRAMES[0], "the default"
    where(lambda: setattr(control, "value", value))
    assert (
        control.value == value
        and control.picture is FRAMES[value]
        and control.slider.label == LABELS[value]
    )


def test_frame_scrubber_pages():
    alts = [f'step {i} of 12, "{8 * i} % noise" < all' for i in range(12)]
    control = FrameScrubber(
        FRAMES, LABELS, alts, description="t", size=200, pixelated=True, start=-1
    )
    deck = deck_of(control)
    assert control.value == 11
    assert_linked(control, control.slider, deck)
    for i, page in enumerate(deck.children):
        assert (
            plots.data_uri(FRAMES[i]) in page.value
            and f'alt="{html.escape(alts[i])}"' in page.value
        )
        assert 'width="200" height="200"' in page.value and "pixelated" in page.value
    assert len({page.layout.model_id for page in deck.children}) == 1, "one layout for all pages"


def test_frame_scrubber_after_a_rapid_sweep():
    control = FrameScrubber(FRAMES, LABELS)
    in_thread(lambda: [setattr(control, "value", i) for i in [*range(12), *range(11, -1, -1), 7]])
    assert control.value == 7 and control.picture is FRAMES[7]


def test_frame_scrubber_states_the_number_unless_told_otherwise():
    assert (
        'alt="t: t = 901 (picture 2 of 12)"'
        in deck_of(FrameScrubber(FRAMES, LABELS)).children[1].value
    )


def test_frame_scrubber_takes_figures_arrays_and_wide_pictures():
    figure, _ = plots.figure(size=(3, 2))
    pages = deck_of(
        FrameScrubber([figure, np.zeros((4, 4)), Image.new("RGB", (20, 10))], list("abc"))
    ).children
    sizes = [page.value.split('width="')[1].split('" style')[0] for page in pages]
    assert sizes == ['300" height="200', '256" height="256', '256" height="128']


def test_one_frame_needs_no_slider():
    control = FrameScrubber(
        FRAMES[:1], LABELS[:1]
    )  # a slider whose ends are equal breaks in the browser
    assert control.slider not in control.children and control.picture is FRAMES[0]


@pytest.mark.parametrize("frames, labels", [([], []), (FRAMES, LABELS[:-1])])
def test_frame_scrubber_says_what_is_missing(frames, labels):
    with pytest.raises(ValueError, match="at least one picture and a label for each"):
        FrameScrubber(frames, labels)


# --------------------------------------------------------------------------------------------------- frames, two axes


@pytest.mark.parametrize("make", [grid_scrubber, attention_overlay])
@pytest.mark.parametrize("value", [(0, 0), (2, 3), (1, 2), (0, 3)])
@pytest.mark.parametrize("where", [lambda act: act(), in_thread])
def test_grid_at(make, value, where):
    control = make()
    assert control.value == (0, 0) and control.picture is GRID[0][0], "the default"
    where(lambda: setattr(control, "value", value))
    assert control.value == value and control.picture is GRID[value[0]][value[1]]


@pytest.mark.parametrize("make", [grid_scrubber, attention_overlay])
def test_grid_pages(make):
    control = make()
    deck = deck_of(control)
    assert_linked(control, control.row, deck)
    for row, inner in zip(GRID, deck.children, strict=True):
        assert_linked(control, control.column, inner)
        for frame, page in zip(row, inner.children, strict=True):
            assert plots.data_uri(frame) in page.value


@pytest.mark.parametrize("make", [grid_scrubber, attention_overlay])
def test_grid_after_a_rapid_sweep(make):
    control = make()
    in_thread(
        lambda: [
            setattr(control, "value", v) for v in [*itertools.product(range(3), range(4)), (1, 3)]
        ]
    )
    assert control.value == (1, 3) and control.picture is GRID[1][3]


def test_grid_alts_name_both_numbers():
    assert 'alt="guidance g = 5, step c"' in deck_of(grid_scrubber()).children[1].children[2].value


def test_words_that_repeat_can_be_told_apart():
    assert [label for label, _ in attention_overlay().row.options] == ["a (1)", "red", "a (2)"]


def test_grid_of_one_row_shows_one_slider():
    control = GridScrubber(GRID[:1], ["only"], list("abcd"))
    assert control.row not in control.children and control.column in control.children


@pytest.mark.parametrize(
    "frames, rows", [([], []), (GRID, ["a", "b"]), ([GRID[0], GRID[1][:2]], ["a", "b"])]
)
def test_grid_says_what_is_missing(frames, rows):
    with pytest.raises(ValueError, match="a picture for each of its"):
        GridScrubber(frames, rows, list("abcd"))


# ------------------------------------------------------------------------------------------------------- live pictures


@pytest.mark.parametrize("t", [0, 11, 5])
@pytest.mark.parametrize("where", [lambda act: act(), in_thread])
def test_live_picture_at(t, where):
    control = live_picture()
    assert control.value == {"t": 0, "fine": False} and control.picture == shade(0), "the default"
    where(
        lambda: (
            setattr(control.controls["t"], "value", t),
            setattr(control.controls["fine"], "value", True),
        )
    )
    assert control.value == {"t": t, "fine": True} and control.picture == shade(20 * t, 16)
    assert (
        plots.data_uri(shade(20 * t, 16)) in control._page.value
        and f'alt="noise at t = {t}"' in control._page.value
    )


def test_live_picture_after_a_rapid_sweep():
    control = live_picture()
    in_thread(
        lambda: [
            setattr(control.controls["t"], "value", t) for t in [*range(12), *range(11, -1, -1), 7]
        ]
    )
    assert control.picture == shade(140) and plots.data_uri(shade(140)) in control._page.value


def test_live_picture_is_cached_by_value():
    calls = []
    control = LivePicture(lambda t: calls.append(t) or shade(t), {"t": range(5)}, "{t}")
    for t in (1, 2, 1, 0, 2):
        control.controls["t"].value = t
    assert calls == [0, 1, 2] and control.picture == shade(2)


def test_live_picture_draws_only_the_latest_of_what_waited():
    calls, busy, go = [], threading.Event(), threading.Event()

    def slow(t):
        calls.append(t)
        if t == 1:
            busy.set()
            assert go.wait(30)
        return shade(t)

    control = LivePicture(slow, {"t": W.IntSlider(0, 0, 20)}, "{t}")
    slider, threads = control.controls["t"], []
    for t in range(1, 10):
        threads.append(threading.Thread(target=lambda t=t: setattr(slider, "value", t)))
        threads[-1].start()
        assert busy.wait(30)
        while (
            slider.value != t
        ):  # the value is there before its picture: the drawing waits for the lock
            threads[-1].join(0.01)
    go.set()
    for thread in threads:
        thread.join(30)
    assert calls == [0, 1, 9] and control.picture == shade(9)


def test_live_picture_follows_the_drag_only_while_it_is_quick(monkeypatch):
    clock = {"now": 0.0, "cost": 0.3}
    monkeypatch.setattr(widgets.time, "perf_counter", lambda: clock["now"])

    def picture(t, kind):
        clock["now"] += clock["cost"]
        return shade(t)

    control = LivePicture(
        picture, {"t": W.IntSlider(0, 0, 99), "kind": W.Text("x", continuous_update=False)}, "{t}"
    )
    slider, seen = control.controls["t"], []
    seen.append(slider.continuous_update)
    for t, cost in enumerate([0.05, 0.05, 0.3, 0.3, 0.3], 1):
        clock["cost"] = cost
        slider.value = t
        seen.append(slider.continuous_update)
    assert seen == [False, True, True, True, False, False]
    assert control.controls["kind"].continuous_update is False, (
        "text waits for Enter, however quick the picture is"
    )


def test_live_picture_lives_on_after_an_error():
    def fragile(t):
        if t == 2:
            raise ValueError("t must not be <2>.")
        if t == 3:
            raise ZeroDivisionError
        return shade(t)

    control = LivePicture(fragile, {"t": range(5)}, "{t}")
    slider = control.controls["t"]
    slider.value = 2
    assert (
        control.error == "t must not be <2>."
        and "&lt;2&gt;" in control._status.value
        and control.picture == shade(0)
    )
    slider.value = 3
    assert control.error == "ZeroDivisionError: no message"
    slider.value = 4
    assert control.error == "" == control._status.value and control.picture == shade(4)


def test_live_picture_takes_figures_and_an_alt_function():
    control = LivePicture(
        lambda t: plots.lines([0, 1], {"y": [0, t]}, xlabel="x", ylabel="y"),
        {"t": [0.5, 1.25]},
        lambda t: f"slope {t:.2f}",
    )
    assert (
        isinstance(control.picture, Figure)
        and 'alt="slope 0.50"' in control._page.value
        and 'width="700"' in control._page.value
    )
    assert control.controls["t"].description == "t" and [
        label for label, _ in control.controls["t"].options
    ] == ["0.5", "1.25"]


# --------------------------------------------------------------------------------------------------------- the prompt


@pytest.fixture()
def panel(pipe):
    return PromptPanel(pipe, "a red house", seed=3, steps=5)


def run(panel: PromptPanel):
    panel.generate_button.click()
    assert panel.wait(120), "the run hangs"
    assert not panel.generate_button.disabled and panel.stop_button.disabled
    return panel


@pytest.mark.parametrize(
    "steps, guidance, seed",
    [(5, 5.0, 3), (1, 0.0, 0), (7, 30.0, 2**31 - 1)],
    ids=["default", "least", "largest"],
)
@pytest.mark.parametrize("where", [lambda act: act(), in_thread])
def test_prompt_panel(pipe, panel, steps, guidance, seed, where):
    def act():
        panel.num_steps.value, panel.guidance.value, panel.seed.value = steps, guidance, seed
        run(panel)

    where(act)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # guidance 0 is worth a warning, which the status line shows
        (expected,) = sampling.sample(
            pipe, "a red house", num_inference_steps=steps, guidance_scale=guidance, seed=seed
        )
    assert ("Note: guidance_scale 0 ignores the prompt" in panel._status.value) == (guidance == 0)
    assert panel.error == "" and np.array_equal(
        np.asarray(panel.images[0]), np.asarray(expected)
    ), "the panel is the plain loop"
    assert [step.index for step in panel.steps] == list(range(steps)) and len(
        panel.frames
    ) == steps + 1
    assert (
        panel.progress.value == panel.progress.max == steps
        and f"Done: {steps} steps" in panel._status.value
    )


def test_prompt_panel_ends_in_a_scrubber(panel):
    (scrubber,) = run(panel)._stage.children
    assert (
        isinstance(scrubber, FrameScrubber)
        and scrubber.value == 5
        and scrubber.picture is panel.images[0] is panel.picture
    )
    first, last = (deck_of(scrubber).children[i].value for i in (0, -1))
    assert (
        'alt="Step 0 of 5, pure noise: a red house"' in first
        and 'alt="Step 5 of 5: a red house"' in last
    )
    assert (
        "Step 3 of 5, " in deck_of(scrubber).children[3].value
        and "% noise" in deck_of(scrubber).children[3].value
    )


def at_each_step(monkeypatch, act):
    """Have ``act(step)`` called in the thread that samples, before the panel sees the step."""
    from sdlearn import sampling

    plain = sampling.sample_steps

    def sample_steps(*args, **options):
        steps = plain(*args, **options)
        return (act(step) or step for step in steps)

    monkeypatch.setattr(sampling, "sample_steps", sample_steps)


def test_prompt_panel_stops_within_one_step(pipe, monkeypatch):
    panel = PromptPanel(pipe, "a red house", steps=40)
    # pressed while step 3 is computed
    at_each_step(monkeypatch, lambda step: panel.stop() if step.index == 3 else None)
    run(panel)
    assert (
        len(panel.steps) == 4
        and "Stopped after step 4 of 40" in panel._status.value
        and panel.error == ""
    )
    assert panel._stage.children[0].picture is panel.images[0] is panel.frames[-1]
    panel.num_steps.value = 3
    assert len(run(panel).steps) == 3, "and the next run starts afresh"


@pytest.mark.parametrize("prompt", ["", "   "])
def test_prompt_panel_asks_for_a_prompt(panel, prompt):
    panel.prompt.value = prompt
    run(panel)
    assert panel.error.startswith("Type what the picture should show") and panel.images == []
    panel.prompt.value = "a cat"
    assert run(panel).error == "" and len(panel.images) == 1


def test_prompt_panel_shows_errors_and_warnings_as_sentences(pipe, monkeypatch):
    wrong = run(PromptPanel(pipe, "a cat", steps=2, sampler="magic"))
    assert wrong.error.startswith(
        "Unknown sampler 'magic': choose one of"
    ) and wrong.error in html.unescape(wrong._status.value)
    new_word = run(PromptPanel(pipe, "a qzxv", steps=2))
    assert (
        new_word.error == ""
        and "Note: This model has never seen the word" in new_word._status.value
        and "'qzxv'" in html.unescape(new_word._status.value)
    )
    at_each_step(monkeypatch, lambda step: 1 / 0)
    broken = run(PromptPanel(pipe, "a cat", steps=2))
    assert broken.error == "ZeroDivisionError: division by zero"


def test_prompt_panel_runs_one_picture_at_a_time(pipe, monkeypatch):
    entered, go = threading.Event(), threading.Event()
    at_each_step(monkeypatch, lambda step: (entered.set(), go.wait(30)) and None)
    panel = PromptPanel(pipe, "a cat", steps=2)
    panel.generate()
    assert (
        entered.wait(60)
        and panel.generate_button.disabled
        and not panel.stop_button.disabled
        and not panel.wait(0)
    )
    first = panel._thread
    panel.generate()
    assert panel._thread is first
    go.set()
    assert panel.wait(60) and len(panel.steps) == 2


def test_prompt_panel_keeps_few_frames_and_frees_the_old_ones(panel):
    panel.num_steps.value = 45
    old = run(panel)._stage.children[0]
    assert (
        len(panel.frames) <= PromptPanel.FRAMES
        and len(panel.steps) == 45
        and panel.frames[-1] is panel.images[0]
    )
    panel.num_steps.value = 2
    run(panel)
    assert (
        old.comm is None is old.links[0].comm
        and deck_of(panel._stage.children[0]).children[0].comm is not None
    ), "the old pages are closed"


# ----------------------------------------------------------------------------------------------------------- all of it


def test_no_state_is_shared_between_controls(pipe):
    makes = [lambda: FrameScrubber(FRAMES, LABELS), grid_scrubber, attention_overlay, live_picture]
    for make in makes:
        first, second = make(), make()
        for slider in (
            w for w in first.children if isinstance(w, (W.SelectionSlider, W.ToggleButtons))
        ):
            slider.index = len(slider.options) - 1
        assert first.value != second.value and second.value == make().value, make
    first, second = PromptPanel(pipe, "a cat", steps=2), PromptPanel(pipe, "a cat", steps=2)
    run(first)
    assert first.frames and not second.frames and not second.steps and not PromptPanel(pipe).images


def test_text_of_a_control_is_short(pipe):
    for control in (
        FrameScrubber(FRAMES, LABELS),
        grid_scrubber(),
        attention_overlay(),
        live_picture(),
        PromptPanel(pipe),
    ):
        assert (
            repr(control).startswith(type(control).__name__ + "(value=")
            and len(repr(control)) < 200
        )


def test_every_control_has_a_name(pipe):
    named = (
        W.SelectionSlider,
        W.ToggleButtons,
        W.Text,
        W.BoundedIntText,
        W.BoundedFloatText,
        W.Button,
        W.Checkbox,
        W.IntProgress,
    )
    found = 0

    def walk(widget):
        nonlocal found
        if isinstance(widget, named):
            assert widget.description, f"{type(widget).__name__} has no name"
            found += 1
        for child in getattr(widget, "children", ()):
            walk(child)

    for control in (
        FrameScrubber(FRAMES, LABELS),
        grid_scrubber(),
        attention_overlay(),
        live_picture(),
        PromptPanel(pipe),
    ):
        walk(control)
    assert found == 1 + 2 + 2 + 2 + 6


def test_setup_shows_the_patch_and_quietens(monkeypatch):
    shown, quiet = [], []
    monkeypatch.setattr(
        "IPython.display.display", lambda data, **options: shown.append((data, options))
    )
    monkeypatch.setattr("sdlearn.models.quiet", lambda: quiet.append(True))
    widgets.setup()
    ((data, options),) = shown
    assert (
        quiet
        and options == {"raw": True}
        and data["text/plain"] == ""
        and "application/javascript" not in data
    )
    assert (
        data["text/html"].startswith("<script>")
        and "__sdlearnA11y" in data["text/html"]
        and data["text/html"].count("</script>") == 1
    )


# ---------------------------------------------------------------------------------------------------------- a mask by hand

PICTURE = Image.new("RGB", (64, 32), (10, 200, 90))


def mask_canvas(**options):
    return MaskCanvas(PICTURE, box=(16, 8, 48, 24), **options)


def rectangle(rows: slice, columns: slice) -> np.ndarray:
    bits = np.zeros((4, 8), bool)
    bits[rows, columns] = True
    return bits


def test_mask_canvas_at_its_default():
    control = mask_canvas()
    assert np.array_equal(control.value, rectangle(slice(1, 3), slice(2, 6)))
    assert control.mask.size == PICTURE.size and np.array_equal(
        np.asarray(control.mask)[::8, ::8] == 255, control.value
    )
    assert "25%" in control._status.value and "8 of its 8 x 4 patches" in control._status.value
    assert np.array_equal(MaskCanvas(PICTURE).value, rectangle(slice(None), slice(4, 8))), (
        "the right half, unless told"
    )


@pytest.mark.parametrize("where", [lambda act: act(), in_thread])
@pytest.mark.parametrize("value", [(0, 8), (3, 3), (7, 8)])
def test_mask_canvas_by_sliders(value, where):
    control = mask_canvas()
    where(lambda: setattr(control.across, "value", value))
    assert np.array_equal(control.value, rectangle(slice(1, 3), slice(*value)))


@pytest.mark.parametrize("where", [lambda act: act(), in_thread])
def test_mask_canvas_hears_what_is_drawn(where):
    control, drawn = mask_canvas(), np.random.default_rng(0).random((4, 8)) < 0.5
    where(lambda: setattr(control._data, "value", "".join(str(int(b)) for b in drawn.ravel())))
    assert np.array_equal(control.value, drawn)
    echo = control._echo.value
    assert f'data-bits="{control._data.value}"' in echo and 'data-cells="8,4"' in echo
    for broken in ("", "01", "x" * 32, "2" * 32):
        control._data.value = broken
    assert np.array_equal(control.value, drawn), "what is no mask is not heard"
    control.clear_button.click()
    assert not control.value.any() and 'data-bits="' + "0" * 32 in control._echo.value


def test_mask_canvas_after_a_rapid_sweep():
    control, turns = mask_canvas(), []
    in_thread(
        lambda: [
            (setattr(control.across, "value", (i % 7, 8)), turns.append(control._turn))
            for i in [*range(20), 5]
        ]
    )
    assert np.array_equal(control.value, rectangle(slice(1, 3), slice(5, 8))) and turns == sorted(
        turns
    )


def test_mask_canvas_set_from_python():
    control = mask_canvas()
    control.value = np.eye(4, 8)
    assert np.array_equal(control.value, np.eye(4, 8, dtype=bool))
    with pytest.raises(ValueError, match=r"4 rows and 8 columns; got an array of shape \(8, 4\)"):
        control.value = np.eye(8, 4)
    with pytest.raises(ValueError, match="choose a smaller patch"):
        MaskCanvas(PICTURE, patch=40)


def test_mask_canvas_repaints():
    asked = []

    def repaint(mask, prompt):
        asked.append((np.asarray(mask), prompt))
        if prompt == "nothing":
            raise ValueError("The mask leaves nothing to repaint.")
        return shade(50, 64)

    control = mask_canvas(repaint=repaint, prompt='a "red" balloon')
    in_thread(control.repaint_button.click)
    assert (
        np.array_equal(asked[0][0], np.asarray(control.mask)) and asked[0][1] == 'a "red" balloon'
    )
    assert (
        control.picture.size == (64, 64)
        and "&quot;red&quot;" in control._page.value
        and control.error == ""
    )
    control.prompt.value = "nothing"
    control.repaint_button.click()
    assert (
        control.error == "The mask leaves nothing to repaint."
        and "Not possible" in control._status.value
    )
    assert not control.repaint_button.disabled and control.picture is not None
    assert mask_canvas().repaint_button not in mask_canvas().children, (
        "no button without a function"
    )

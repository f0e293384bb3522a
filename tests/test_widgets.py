"""The controls without a browser: at their least, largest and default value, after a rapid sweep,
and from another thread.

A browser-side link is not followed here (tests/browser does that); here its two ends and the pages
it switches are checked.
"""

import html
import itertools
import threading

import ipywidgets as W
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from sdlearn import plots, widgets
from sdlearn.widgets import (
    AttentionOverlay,
    FrameScrubber,
    GridScrubber,
    LivePicture,
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
    """Do it as a widget callback does in JupyterLab, in a thread of its own; what it raises is
    raised here."""
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
    """There is a browser-side link from the slider's index to the page shown, and both ends agree
    now."""
    assert any(
        link.source == (source, "index") and link.target == (deck, "selected_index")
        for link in control.links
    )
    assert deck.selected_index == source.index and "sd-frames" in deck._dom_classes


# --------------------------------------------------------------------------------- frames, one axis


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
        'alt="timestep t: t = 901 (picture 2 of 12)"'
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


# --------------------------------------------------------------------------------- frames, two axes


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


# ------------------------------------------------------------------------------------ live pictures


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
        plots.data_uri(shade(20 * t, 16), packed=False) in control._page.value
        and f'alt="noise at t = {t}"' in control._page.value
    )


def test_live_picture_after_a_rapid_sweep():
    control = live_picture()
    in_thread(
        lambda: [
            setattr(control.controls["t"], "value", t) for t in [*range(12), *range(11, -1, -1), 7]
        ]
    )
    assert (
        control.picture == shade(140)
        and plots.data_uri(shade(140), packed=False) in control._page.value
    )


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
    monkeypatch.setattr(widgets.live.time, "perf_counter", lambda: clock["now"])

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
    assert control.controls["t"].description == "timestep t" and [
        label for label, _ in control.controls["t"].options
    ] == ["0.5", "1.25"]


def test_a_variable_is_named_in_words():
    """Unless a chapter says another name, or the widget has one of its own."""
    controls = {"t": [1, 2], "beta_start": [0.1, 0.2], "how": ["a", "b"], "own": W.Text("x")}
    controls["own"].description = "My own"
    made = LivePicture(lambda **_: FRAMES[0], controls, "x", labels={"how": "the way"})
    names = [control.description for control in made.controls.values()]
    assert names == ["timestep t", "beta at the first timestep", "the way", "My own"]
    grid = GridScrubber([FRAMES[:2]] * 2, [1, 2], [1, 2], ("noise in", "s"))
    assert (grid.row.description, grid.column.description) == ("noise in", "strength s")


def test_a_place_in_the_picture_is_pointed_at():
    """Row and column together, one picture for both; what the sliders say moves the mark."""
    drawn = []
    controls = {"row": range(0, 8, 2), "column": range(0, 16, 2), "by": [1, 2]}
    made = LivePicture(
        lambda row, column, by: drawn.append((row, column, by)) or FRAMES[0], controls, "x"
    )
    place = next(w for w in made.children if "sd-place" in w._dom_classes).children[1]
    assert place.counts == [4, 8] and place.at == [0, 0]
    in_thread(lambda: setattr(place, "at", [3, 5]))
    assert made.value == {"row": 6, "column": 10, "by": 1}
    assert drawn == [(0, 0, 1), (6, 10, 1)]
    made.controls["row"].index = 1
    assert place.at == [1, 5] and drawn[-1] == (2, 10, 1)
    assert not any("sd-place" in w._dom_classes for w in live_picture().children)


# ---------------------------------------------------------------------------------------- all of it


def test_no_state_is_shared_between_controls():
    makes = [lambda: FrameScrubber(FRAMES, LABELS), grid_scrubber, attention_overlay, live_picture]
    for make in makes:
        first, second = make(), make()
        for slider in (
            w for w in first.children if isinstance(w, (W.SelectionSlider, W.ToggleButtons))
        ):
            slider.index = len(slider.options) - 1
        assert first.value != second.value and second.value == make().value, make


def test_text_of_a_control_is_short():
    for control in (
        FrameScrubber(FRAMES, LABELS),
        grid_scrubber(),
        attention_overlay(),
        live_picture(),
    ):
        assert (
            repr(control).startswith(type(control).__name__ + "(value=")
            and len(repr(control)) < 200
        )


def test_every_control_has_a_name():
    named = (
        W.SelectionSlider,
        W.ToggleButtons,
        W.Text,
        W.Button,
        W.Checkbox,
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
    ):
        walk(control)
    assert found == 1 + 2 + 2 + 2


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

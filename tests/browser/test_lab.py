"""Every kind of control in a real JupyterLab: moved by mouse and by keyboard, named for screen
readers, and still moving when the kernel is gone.

One notebook with one control of each kind is run once; each test leaves the pictures as it found
them. The last test ends the kernel.
"""

import re
from pathlib import Path

import pytest

from tools.labdrive import (
    alt,
    ask_kernel,
    bring,
    browser,
    drag,
    lab,
    look,
    missing,
    new_page,
    shut_kernel_down,
    wait_until,
    wait_until_back,
    wait_until_changed,
)

pytestmark = [pytest.mark.browser, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

TESTS = str(Path(__file__).parents[1])  # the notebook runs in a kernel of its own
CELLS = [
    f"""
import sys; sys.path.append({TESTS!r})
from small import random_pipeline
from sdlearn import plots, widgets, world
import ipywidgets as W, numpy as np
widgets.setup()
rng = np.random.default_rng(0)
scenes = [world.draw(world.sample_scene(rng)) for _ in range(12)]
""",
    """
labels = [f"t = {981 - 80 * i}" for i in range(12)]
frames = widgets.FrameScrubber(scenes, labels, description="Timestep")
frames.add_class("t-frames"); frames
""",
    """
rows, steps = [scenes[:4], scenes[4:8], scenes[8:]], [f"step {i} of 4" for i in range(1, 5)]
grid = widgets.GridScrubber(rows, ["1", "5", "7.5"], steps, descriptions=("Guidance", "Step"))
grid.add_class("t-grid"); grid
""",
    """
heat = np.zeros((3, 4, 16, 16))
for w in range(3):
    for s in range(4): heat[w, s, 4 * w : 4 * w + 6, 3 * s : 3 * s + 6] = 1
over = [[plots.overlay(scenes[0], h) for h in row] for row in heat]
steps = [f"{i} of 4" for i in range(1, 5)]
words = widgets.AttentionOverlay(over, ["red", "house", "snow"], steps)
words.add_class("t-words"); words
""",
    """
def noisy(t, seed):
    noise = np.random.default_rng(seed).normal(size=(128, 128, 3))
    return (1 - t) * np.asarray(scenes[1]) / 255 + t * (0.5 + 0.2 * noise)
parts = {"t": [0.0, 0.25, 0.5, 0.75, 1.0], "seed": W.IntSlider(0, 0, 5)}
live = widgets.LivePicture(noisy, parts, "a scene with noise level {t}, seed {seed}")
live.add_class("t-live"); live
""",
    """
def marked(row, column, light):
    picture = np.full((64, 64, 3), 40 * light, np.uint8)
    picture[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 255
    return picture
spot = widgets.LivePicture(
    marked, {"row": range(8), "column": range(8), "light": [1, 2]}, "row {row}, column {column}"
)
spot.add_class("t-place"); spot
""",
    """
panel = widgets.PromptPanel(random_pipeline(), "a red house", steps=4)
panel.add_class("t-panel"); panel
""",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("lab")
    with lab(root) as server, browser() as chromium:
        page = new_page(chromium)
        server.open_cells(page, root, CELLS)
        yield page


@pytest.fixture(autouse=True)
def no_script_errors(page):
    page.errors.clear()
    yield
    alive = page.evaluate(
        "() => Boolean(window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel)"
    )
    assert [
        error for error in page.errors if alive or error != "Cannot send"
    ] == []  # ipywidgets complains so when a button is pressed without a kernel


def handles(page, control: str):
    return page.locator(f"{control} .noUi-handle")


def test_a_place_is_chosen_by_a_click_and_by_arrow_keys(page):
    bring(page, ".t-place")
    field = page.locator(".t-place [role=application]")
    box, picture = field.bounding_box(), page.locator(".t-place img").bounding_box()
    assert all(abs(box[side] - picture[side]) < 1 for side in box), "it lies on the picture"
    field.click(position={"x": box["width"] * 5.5 / 8, "y": box["height"] * 2.5 / 8})
    wait_until(lambda: alt(page, ".t-place") == "row 2, column 5", "the click is heard")
    assert ask_kernel(page, "print(spot.value)") == "{'row': 2, 'column': 5, 'light': 1}"
    field.press("ArrowDown")
    wait_until(lambda: alt(page, ".t-place") == "row 3, column 5", "the key is heard")
    field.press("ArrowLeft")
    wait_until(lambda: alt(page, ".t-place") == "row 3, column 4", "the key is heard")
    assert "row 4 of 8, column 5 of 8" in field.get_attribute("aria-label")
    handles(page, ".t-place").nth(0).press("ArrowRight")
    wait_until(lambda: alt(page, ".t-place") == "row 4, column 4", "the slider still works")
    wait_until(lambda: "row 5 of 8" in field.get_attribute("aria-label"), "the mark follows it")
    for _ in range(9):
        field.press("ArrowUp")
    wait_until(lambda: alt(page, ".t-place") == "row 0, column 4", "the edge is the end")


@pytest.mark.parametrize(
    "control, handle",
    [
        (".t-frames", 0),
        (".t-grid", 0),
        (".t-grid", 1),
        (".t-words", 0),
        (".t-live", 0),
        (".t-live", 1),
    ],
)
def test_slider_by_keyboard(page, control, handle):
    bring(page, control)
    before, name = look(page, control), alt(page, control)
    slider = handles(page, control).nth(handle)
    if control == ".t-live" and handle == 1:
        handles(page, control).nth(0).press(
            "ArrowRight"
        )  # a seed is seen only where there is noise
        before = wait_until_changed(page, control, before)
    slider.press("ArrowRight")
    changed = wait_until_changed(page, control, before)
    slider.press("ArrowRight")
    wait_until_changed(page, control, changed)
    slider.press("ArrowLeft")
    slider.press("ArrowLeft")
    wait_until_back(page, control, before)
    if control == ".t-live" and handle == 1:
        handles(page, control).nth(0).press("ArrowLeft")
    wait_until(lambda: alt(page, control) == name, "the alt text is back")


@pytest.mark.parametrize(
    "control, handle",
    [(".t-frames", 0), (".t-grid", 0), (".t-grid", 1), (".t-words", 0), (".t-live", 0)],
)
def test_slider_by_mouse(page, control, handle):
    bring(page, control)
    before = look(page, control)
    slider = handles(page, control).nth(handle)
    drag(page, slider, 400)
    wait_until_changed(page, control, before)
    drag(page, slider, -500)
    wait_until_back(page, control, before)


def test_held_key_shows_every_frame(page):
    bring(page, ".t-frames")
    seen = [alt(page, ".t-frames")]
    for _ in range(11):
        handles(page, ".t-frames").press("ArrowRight")
        seen.append(
            wait_until(
                lambda: (now := alt(page, ".t-frames")) != seen[-1] and now, "the next frame"
            )
        )
    assert seen == [f"Timestep: t = {981 - 80 * i} (picture {i + 1} of 12)" for i in range(12)]
    handles(page, ".t-frames").press("Home")
    wait_until(lambda: alt(page, ".t-frames") == seen[0], "Home goes to the first frame")


def test_words_by_mouse_and_keyboard(page):
    bring(page, ".t-words")
    before = look(page, ".t-words")
    red, house, snow = (page.locator(".t-words .widget-toggle-button").nth(i) for i in range(3))
    house.click()
    second = wait_until_changed(page, ".t-words", before)
    snow.press("Enter")
    wait_until_changed(page, ".t-words", second)
    red.press("Space")
    page.mouse.move(5, 5)
    wait_until_back(page, ".t-words", before)


def test_only_the_picture_of_the_deck_is_seen(page):
    bring(page, ".t-grid")
    bars = page.locator(".sd-frames > .lm-TabBar")
    assert bars.count() >= 1 + (1 + 3) * 2 and not any(
        bars.nth(i).is_visible() for i in range(bars.count())
    )
    for control, pictures in ((".t-frames", 12), (".t-grid", 12), (".t-words", 12), (".t-live", 1)):
        images = page.locator(f"{control} img")
        assert [images.nth(i).is_visible() for i in range(images.count())].count(
            True
        ) == 1 and images.count() == pictures


def test_screen_readers_hear_names_and_states(page):
    bring(page, ".t-frames")
    names = [
        handles(page, c).nth(i).get_attribute("aria-label")
        for c, i in (
            (".t-frames", 0),
            (".t-grid", 0),
            (".t-grid", 1),
            (".t-words", 0),
            (".t-live", 0),
        )
    ]
    assert names == ["Timestep", "Guidance", "Step", "Step", "timestep t"]
    wait_until(
        lambda: handles(page, ".t-frames").get_attribute("aria-valuetext") == "t = 981",
        "the slider's value is read as it is written",
    )
    handles(page, ".t-frames").press("ArrowRight")
    wait_until(
        lambda: handles(page, ".t-frames").get_attribute("aria-valuetext") == "t = 901",
        "and so is the next",
    )
    handles(page, ".t-frames").press("ArrowLeft")
    pressed = [
        page.locator(".t-words .widget-toggle-button").nth(i).get_attribute("aria-pressed")
        for i in range(3)
    ]
    assert (
        pressed == ["true", "false", "false"]
        and page.locator(".t-words .widget-toggle-buttons").get_attribute("aria-label") == "Word"
    )
    assert page.locator(".t-panel .sd-status").get_attribute("role") == "status"
    for label in ("Prompt", "Seed", "Steps", "Guidance"):
        assert page.locator(".t-panel").get_by_label(label, exact=True).count() == 1, (
            f"the field {label} has a name"
        )


def test_live_picture_after_many_messages(page):
    """From the second message on the callback runs in another thread; it must give what the
    notebook's own cell gives."""
    bring(page, ".t-live")
    before = look(page, ".t-live")
    for _ in range(4):
        handles(page, ".t-live").nth(0).press("ArrowRight")
    wait_until(
        lambda: alt(page, ".t-live") == "a scene with noise level 1.0, seed 0",
        "the last value is drawn",
    )
    assert (
        ask_kernel(page, "print(live.error, np.array_equal(live.picture, noisy(1.0, 0)))") == "True"
    )
    handles(page, ".t-live").nth(0).press("Home")
    wait_until_back(page, ".t-live", before)


def status(page) -> str:
    return page.locator(".t-panel .sd-status").inner_text()


def test_prompt_by_keyboard_then_scrub(page):
    field = page.locator(".t-panel input[type=text]").first
    field.scroll_into_view_if_needed()
    field.fill("a blue cat")
    page.locator(".t-panel button", has_text="Generate").press("Enter")
    wait_until(lambda: "Done: 4 steps" in status(page), "the picture is finished")
    bring(page, ".t-panel")
    assert alt(page, ".t-panel") == "a blue cat (seed 0, 4 steps)"
    before, step = look(page, ".t-panel"), page.locator(".t-panel input[type=range]")
    step.wait_for(state="visible")
    step.press("ArrowLeft")
    wait_until_changed(page, ".t-panel", before)
    assert alt(page, ".t-panel").startswith("Step 3 of 4, ")
    step.press("ArrowRight")
    assert alt(page, ".t-panel") == "Step 4 of 4: a blue cat"


def test_enter_generates_and_the_picture_says_its_sentence(page):
    field = page.locator(".t-panel").get_by_label("Prompt", exact=True)
    field.fill("a red cat")
    field.press("Enter")
    full = "a red cat (seed 0, 4 steps)"
    wait_until(lambda: alt(page, ".t-panel") == full, "the full picture")
    told = page.locator(".t-panel .sd-told")
    assert told.inner_text().split("\n")[0].split() == ["a", "red", "cat"]
    wait_until(lambda: "Done" in status(page), "it is done")
    page.locator(".t-panel").get_by_label("Draw while I type").uncheck()
    field.fill("a red cat at night")
    picture = page.locator(".t-panel .sd-stage figure").nth(1)
    wait_until(lambda: "sd-late" in picture.get_attribute("class"), "an old picture is dimmed")
    page.locator(".t-panel").get_by_label("Draw while I type").check()


def test_typing_draws_a_quick_picture(page):
    field = page.locator(".t-panel").get_by_label("Prompt", exact=True)
    field.fill("a pink flower")
    wait_until(lambda: alt(page, ".t-panel").startswith("a pink flower (seed 0, a quick"), "drawn")


def test_words_are_marked_and_suggestions_taken(page):
    field = page.locator(".t-panel").get_by_label("Prompt", exact=True)
    field.fill("a red hous in the moon")
    marks = page.locator(".t-panel .sd-mark")
    wait_until(lambda: marks.count() == 6, "every word has a mark")
    kinds = [marks.nth(i).get_attribute("data-kind") for i in range(6)]
    assert kinds == ["known", "known", "unknown", "known", "known", "unknown"]
    page.get_by_label("Take house instead of hous").press("Enter")
    assert field.input_value() == "a red house in the moon"


def test_a_result_is_brought_back_by_keyboard(page):
    field = page.locator(".t-panel").get_by_label("Prompt", exact=True)
    back = page.get_by_label("Bring back: a blue cat, seed 0")
    back.press("Enter")
    wait_until(lambda: field.input_value() == "a blue cat", "its sentence is back")
    assert alt(page, ".t-panel").startswith("a blue cat (seed 0, 4 steps")


@pytest.mark.parametrize("text", ["", "abc", "-1"])
def test_a_number_that_is_none_is_refused_in_words(page, text):
    seed = page.locator(".t-panel").get_by_label("Seed", exact=True)
    seed.fill(text)
    seed.press("Tab")
    assert seed.get_attribute("aria-invalid") == "true"
    page.locator(".t-panel button", has_text="Generate").click()
    assert "Seed is a whole number from 0" in status(page)
    seed.fill("0")
    seed.press("Tab")
    assert seed.get_attribute("aria-invalid") == "false"


def test_prompt_by_mouse_and_stop(page):
    steps = page.locator(".t-panel").get_by_label("Steps", exact=True)
    steps.fill("900")
    steps.press("Tab")
    page.locator(".t-panel button", has_text="Generate").click()
    stop = page.locator(".t-panel button", has_text="Stop")
    wait_until(lambda: stop.is_enabled(), "Stop can be pressed")
    # it is well under way
    page.wait_for_function(
        "() => { const bar = document.querySelector('.t-panel progress'); "
        "return bar.max === 900 && bar.value >= 3; }"
    )
    stop.click()
    wait_until(lambda: "Stopped after step" in status(page), "Stop is heard")
    done = int(
        re.search(r"after step (\d+) of 900", status(page))[1]
    )  # how many steps a click takes depends on the machine
    assert 3 <= done < 900
    assert ask_kernel(page, "panel.wait(); print(len(panel.steps), len(panel.images))").split() == [
        str(done),
        "1",
    ]  # none came after it
    steps.fill("4")
    steps.press("Tab")


@pytest.fixture
def shortcuts_first(page):
    """JupyterLab made to take its shortcuts before a control hears the key, as Notebook 7 does."""
    page.evaluate("() => document.addEventListener('keydown', window.jupyterapp, true)")
    yield
    page.evaluate("() => document.removeEventListener('keydown', window.jupyterapp, true)")


def test_keys_stay_with_the_control_where_shortcuts_come_first(page, shortcuts_first):
    """The arrows are shortcuts of the notebook; Escape and Shift+Enter stay with it."""
    chosen = "() => window.jupyterapp.shell.currentWidget.content.activeCellIndex"
    test_slider_by_keyboard(page, ".t-frames", 0)
    test_slider_by_keyboard(page, ".t-live", 0)
    test_words_by_mouse_and_keyboard(page)
    test_prompt_by_keyboard_then_scrub(page)
    cell = page.evaluate(chosen)
    slider = page.locator(".t-panel .sd-steps input")
    slider.press("ArrowDown")
    assert page.evaluate(chosen) == cell
    suppressed = "(element) => element.hasAttribute('data-lm-suppress-shortcuts')"
    for key, stays in (("Shift", True), ("ArrowUp", True), ("Control+s", False), ("Escape", False)):
        slider.press(key)
        assert slider.evaluate(suppressed) is stays, key


def test_prompt_says_what_is_missing(page):
    field = page.locator(".t-panel input[type=text]").first
    field.fill("")
    page.locator(".t-panel button", has_text="Generate").click()
    wait_until(lambda: "Type what the picture should show" in status(page), "the sentence is shown")
    field.fill("a red house")


def test_a_stopped_kernel_is_told(page):
    """No "Working ..." for ever: the panel says how to get it back."""
    steps = page.locator(".t-panel").get_by_label("Steps", exact=True)
    steps.fill("900")
    page.locator(".t-panel").get_by_label("Prompt", exact=True).press("Enter")
    wait_until(lambda: "Working" in status(page), "it works")
    shut_kernel_down(page)
    wait_until(lambda: "Python does not answer" in status(page), "it is told")
    assert "run this cell again" in status(page) and "Working" not in status(page)
    assert page.locator(".t-panel button", has_text="Stop").is_disabled()


@pytest.mark.parametrize(
    "control, handle", [(".t-frames", 0), (".t-grid", 0), (".t-grid", 1), (".t-words", 0)]
)
def test_without_a_kernel_frames_still_scrub(page, control, handle):
    if page.evaluate(
        "() => Boolean(window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel)"
    ):
        shut_kernel_down(page)
    test_slider_by_keyboard(page, control, handle)
    test_slider_by_mouse(page, control, handle)
    if control == ".t-words":
        test_words_by_mouse_and_keyboard(page)


def test_a_saved_page_says_how_to_get_its_controls_back(page):
    page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    page.reload()
    page.locator(".jp-CodeCell").first.wait_for()
    words = page.get_by_text("run this cell again (Shift+Enter), and it is back")
    words.first.wait_for()
    assert page.get_by_text("Error displaying widget").count() == 0

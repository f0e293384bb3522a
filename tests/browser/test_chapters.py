"""Each chapter, executed once, as a reader meets it: opened in a real JupyterLab, run from the top,
and every control that its cells show is moved. The same run is asked everything that lesson.py asks
of a chapter: outputs, errors, network, memory, time, claims. Where there is no browser, a headless
kernel runs the cells and is asked the same.

The chapters run on copies in a temporary folder. With SDLEARN_SHOTS=folder, screenshots of each
page and of each control, before and after, are kept there:

    SDLEARN_SHOTS=shots python run.py test tests/browser/test_chapters.py -k 02
"""

import contextlib
import os
import re
import shutil
from pathlib import Path

import claims
import lesson
import nbformat
import pytest
from lesson import CHAPTERS, FOLDER

from tools.labdrive import (
    bring,
    browser,
    drag,
    lab,
    missing,
    new_page,
    restart_kernel,
    run_all,
    shut_kernel_down,
    wait_until_shown,
)

pytestmark = [pytest.mark.browser]

SHORT = "02"  # the chapter that is run a second time, in a restarted kernel, under --all
QUICK = "SDLEARN_QUICK" in os.environ
CELLS_SECONDS = 2400  # how long a broken test hangs
LOOP_SECONDS = 900  # a kernel that starts, a whole denoising loop: seconds on two idle cores
SHOTS = os.environ.get("SDLEARN_SHOTS")
# what of a control the reader can see: its pictures, its mask, and what it says
SEEN = """(control) => JSON.stringify(
    [...control.querySelectorAll('img, canvas')]
        .filter((e) => e.offsetParent !== null)
        .filter((e) => e.tagName !== 'IMG' || (e.complete && e.naturalWidth))
        .map((e) => e.tagName === 'IMG' ? [e.alt, e.src] : ['mask', e.toDataURL()]))"""


class Desk:
    """A browser before a JupyterLab that serves copies of all chapters."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack):
        for name in CHAPTERS:
            shutil.copy(FOLDER / name, folder)
        self.scratch = lesson.Scratch(folder / "scratch")
        self.server = stack.enter_context(lab(folder, **self.scratch.environment))
        self.chromium = stack.enter_context(browser())


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    with contextlib.ExitStack() as stack:
        yield None if missing() else Desk(tmp_path_factory.mktemp("chapters"), stack)


def asked(chapter: str) -> list[claims.Claim]:
    """The chapter's claims; those that need its full training only under --all."""
    return [claim for claim in claims.of(chapter) if not (QUICK and claim.long)]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_chapter(desk, chapter, tmp_path, record_property):
    wanted = asked(chapter)
    if desk is None:
        ran, seen = lesson.headless(FOLDER / chapter, tmp_path, wanted), []
    else:
        ran, seen = in_the_browser(desk, chapter, wanted)
    record_property("chapter", f"{chapter}: {ran.seconds:.0f} s, {ran.peak_mb:.0f} MB")
    assert lesson.faults(FOLDER / chapter, ran, wanted) + seen == []


def in_the_browser(desk, name: str, wanted: list) -> tuple[lesson.Ran, list[str]]:
    """Run a chapter and move its controls: what the cells have shown, and what is wrong to see."""
    page = new_page(desk.chromium)
    page.set_default_timeout(LOOP_SECONDS * 1000)  # a kernel that starts on a busy machine
    desk.scratch.ask(nbformat.read(FOLDER / name, as_version=4).cells, wanted)
    try:
        desk.server.open(page, name)
        run_all(page, CELLS_SECONDS)
        cells = executed(page)
        ran = desk.scratch.ran(cells, desk.scratch.peak_mb())
        photograph_page(page, name)
        faults = [fault for control in controls(page, name) for fault in move(page, control, name)]
        if name.startswith(SHORT) and not QUICK:
            restart_kernel(page)
            run_all(page, CELLS_SECONDS)
            faults += move(page, controls(page, name)[0], name)
        # what moving the controls asked of the network counts too
        return ran._replace(tried=desk.scratch.ran(cells, 0).tried), faults + page.errors
    finally:
        with contextlib.suppress(Exception):  # the kernel holds most of a gigabyte
            shut_kernel_down(page)
        page.context.close()


def executed(page) -> list[dict]:
    """Of each code cell: its id, its number, and its outputs without pictures."""
    page.wait_for_function(
        """() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status
                 === 'idle'"""
    )
    shown = ", ".join(
        f".jp-OutputArea [data-mime-type='application/vnd.jupyter.{kind}']"
        for kind in ("error", "stderr")
    )
    assert page.locator(shown).all_inner_texts() == []
    return page.evaluate(
        """() => window.jupyterapp.shell.currentWidget.content.widgets.map((cell) => cell.model)
                 .filter((model) => model.type === 'code' && model.sharedModel.source.trim())
                 .map((model) => ({
                     id: model.id, count: model.executionCount,
                     outputs: model.outputs.toJSON().map(({data, ...rest}) => rest)}))"""
    )


def controls(page, name: str) -> list[str]:
    """A selector for each control on the page, after checking that every cell that makes one shows
    it and that there is none of a kind unknown here."""
    code = "\n".join(
        cell.source
        for cell in nbformat.read(FOLDER / name, as_version=4).cells
        if cell.cell_type == "code"
    )
    made = len(re.findall(r"widgets\.[A-Z]\w+\(", code))
    number = """() => {
                        const made = '.jp-OutputArea-output .sd-control';
                        const all = [...document.querySelectorAll(made)]
                            .filter((c) => !c.parentElement.closest('.sd-control'));
                        all.forEach((control, i) => { control.dataset.place = i; });
                        return all.length; }"""
    page.wait_for_function(f"(made) => ({number})() >= made", arg=made)
    assert page.evaluate(number) == made >= (2 if name.startswith("00") else 3)
    stray = (
        "[...document.querySelectorAll('.jp-OutputArea-output "
        ".jupyter-widgets')].filter((w) => !w.closest('.sd-control')).map((w) => w.className)"
    )
    assert page.evaluate(stray) == []
    return [f"[data-place='{i}']" for i in range(made)]


def move(page, control: str, name: str) -> list[str]:
    """Move every part of a control by keyboard and one of them by mouse; what did not change the
    picture, in words."""
    where = page.locator(control).evaluate(
        "(control) => control.closest('.jp-CodeCell').querySelector('.jp-InputPrompt').textContent"
    )
    place = f"{name[:2]}-control-{int(control.split(chr(39))[1]):02}"
    page.locator(control).evaluate("(control) => control.scrollIntoView({block: 'center'})")
    photograph(page, f"{place}-before")
    faults = []
    uses = (
        ("button:visible", "Generate", generate),
        ("button:visible", "Repaint", paint),
        ("canvas:visible", None, stroke),  # a shape to draw, nothing to repaint
    )
    for part, text, use in uses:
        if page.locator(f"{control} {part}", has_text=text).count():
            faults += [f"{where} {fault}" for fault in use(page, control)]
            photograph(page, f"{place}-after")
            return faults + said_no(page, control, where)
    bring(page, control)
    parts = page.locator(control).locator(
        ".noUi-handle:visible, .widget-toggle-button:visible, select:visible, "
        "input[type=checkbox]:visible, input[type=text]:visible"
    )
    moved, wrong = by_keyboard(page, control, parts)
    faults += [f"{where} {text}" for text in wrong]
    photograph(page, f"{place}-after")
    if not moved:
        faults.append(f"{where} there is nothing to move")
    elif not by_mouse(page, control):
        faults.append(f"{where} moved by mouse: the picture stays")
    return faults + said_no(page, control, where)


def said_no(page, control: str, where: str) -> list[str]:
    """What a control says it could not do."""
    said = page.locator(f"{control} .sd-status").all_inner_texts()
    return [f"{where} {text}" for text in said if "Not possible" in text]


def by_keyboard(page, control: str, parts) -> tuple[int, list[str]]:
    """Use each part of a control by its keys: how many there are, and what is wrong."""
    moved, still, faults = 0, [], []
    for part in (parts.nth(i) for i in range(parts.count())):
        kind = part.evaluate(
            "(e) => e.classList.contains('noUi-handle') ? 'slider' : e.tagName === 'BUTTON' ? "
            "'button' : e.tagName === 'SELECT' ? 'choice' : e.type"
        )
        label = part.evaluate(
            "(e) => e.getAttribute('aria-label') || e.textContent || "
            "e.closest('.jupyter-widgets').querySelector('.widget-label')?.textContent || ''"
        )
        if not label.strip():
            faults.append(f"a {kind} without a name")
        if not press(page, control, part, kind):
            still.append((label, part, kind))
        moved += 1
    # after no step at all two rules may have made the same picture: so once more, now that the
    # other parts have been moved
    return moved, faults + [
        f"{kind} {label!r} moved by keyboard: the picture stays"
        for label, part, kind in still
        if not press(page, control, part, kind)
    ]


def seen(page, control: str) -> str:
    return page.locator(control).evaluate(SEEN)


def changes(page, control: str, before: str) -> str | None:
    """What the reader sees as soon as it is something else; None if it stays."""
    return wait_until_shown(
        page,
        control,
        f"(control, before) => {{ const now = ({SEEN})(control); return now !== '[]' && now !== "
        f"before && now; }}",
        before,
    )


def press(page, control: str, part, kind: str) -> bool:
    """Use one part by its keys until the picture is another one; whether it came to that. Each stop
    of a slider must be shown, by the picture or by its alt text."""
    if kind == "button":
        if part.get_attribute("aria-pressed") == "true":
            return True  # it comes back into use when its neighbour has been pressed, by mouse
        before = seen(page, control)
        part.press("Enter")
        return changes(page, control, before) is not None
    if kind == "text":
        before = seen(page, control)
        part.press("End")
        part.press_sequentially(" and a blue boat")
        part.press("Enter")
        return changes(page, control, before) is not None
    if kind in ("choice", "checkbox"):
        before = seen(page, control)
        part.press(
            "Space"
            if kind == "checkbox"
            else "ArrowUp"
            if part.evaluate("(e) => e.selectedIndex === e.options.length - 1")
            else "ArrowDown"
        )
        return changes(page, control, before) is not None
    low, now, high = (
        float(part.get_attribute(f"aria-value{end}")) for end in ("min", "now", "max")
    )
    pictures = first = seen(page, control)
    keys = ["ArrowRight"] * round(high - now) + ["ArrowLeft"] * round(high - low)
    for key in keys:
        part.press(key)
        pictures = changes(page, control, pictures)
        if pictures is None:
            return False
        if re.findall(r'"data:[^"]*', pictures) != re.findall(r'"data:[^"]*', first):
            return True
    return False


def by_mouse(page, control: str) -> bool:
    """Drag the first slider towards its farther end; or else click a button that is not pressed,
    or into the text and type, or choose from the first list."""
    before, inside = seen(page, control), page.locator(control)
    slider, button = (
        inside.locator(".noUi-handle:visible").first,
        inside.locator(".widget-toggle-button[aria-pressed=false]:visible").first,
    )
    if slider.count():
        base = slider.evaluate(
            "(handle) => { const {x, width} = "
            "handle.closest('.noUi-base').getBoundingClientRect(); return [x, width]; }"
        )
        box = slider.bounding_box()
        at = box["x"] + box["width"] / 2
        drag(page, slider, (base[0] + base[1] if at < base[0] + base[1] / 2 else base[0]) - at)
    elif button.count():
        button.click()
    elif (text := inside.locator("input[type=text]:visible").first).count():
        text.click()
        page.keyboard.type(" by day ")
    else:
        choice = inside.locator("select:visible").first
        count, now = choice.evaluate("(e) => [e.options.length, e.selectedIndex]")
        choice.select_option(index=(now + count // 2) % count)
    return changes(page, control, before) is not None


def generate(page, control: str) -> list[str]:
    """Type a sentence and a number of steps, press Generate, wait for the picture."""
    panel = page.locator(control)
    panel.get_by_label("Prompt", exact=True).fill("a blue boat by the sea by day")
    panel.get_by_label("Steps", exact=True).fill("8")
    panel.locator("button", has_text="Generate").press("Enter")
    wait_until_shown(
        page,
        f"{control} .sd-status",
        "(status) => /Done: 8 steps|Not possible/.test(status.textContent)",
        timeout=LOOP_SECONDS,
    )
    bring(page, control)
    faults = []
    alt = panel.locator(".sd-frame img:visible").first.get_attribute("alt")
    if alt != "a blue boat by the sea by day (seed 3, 8 steps)":
        faults.append(f"after Generate the picture is {alt!r}")
    steps = panel.get_by_label("Step", exact=True)
    steps.wait_for(state="visible")
    for act, what in (
        (lambda: steps.press("ArrowLeft"), "a step back by keyboard: the picture stays"),
        (lambda: panel.locator(".sd-read button").nth(1).hover(), "a word is not lit up"),
        (lambda: panel.locator(".sd-read button").nth(2).focus(), "nor by keyboard"),
    ):
        before = seen(page, control)
        act()
        if not changes(page, control, before):
            faults.append(what)
    return faults


def stroke(page, control: str) -> list[str]:
    """Draw a stroke by mouse."""
    canvas, before = page.locator(f"{control} canvas"), seen(page, control)
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 5, box["y"] + 5, steps=8)
    page.mouse.up()
    return [] if changes(page, control, before) else ["a stroke on the picture is not seen"]


def paint(page, control: str) -> list[str]:
    """Draw a stroke by mouse, then press Repaint."""
    faults = stroke(page, control)
    page.locator(f"{control} button", has_text="Repaint").press("Enter")
    wait_until_shown(
        page,
        f"{control} .sd-status",
        "(status) => /Done in|Not possible/.test(status.textContent)",
        timeout=LOOP_SECONDS,
    )
    alts = page.locator(f"{control} img:visible").evaluate_all("(all) => all.map((i) => i.alt)")
    return faults + ([] if "repainted:" in alts[-1] else [f"after Repaint there is {alts}"])


# -------------------------------------------------------------------------------------- screenshots


def photograph(page, name: str) -> None:
    if SHOTS:
        Path(SHOTS).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{SHOTS}/{name}.png")


def photograph_page(page, name: str) -> None:
    """The whole notebook, one window after the other."""
    scroll = """(by) => { const outer = document.querySelector(
                              '.jp-NotebookPanel:not(.lm-mod-hidden) .jp-WindowedPanel-outer');
                          const was = outer.scrollTop;
                          outer.scrollTop = by ? was + by : 0;
                          return outer.scrollTop !== was; }"""
    page.evaluate(scroll, 0)
    number, more = 0, bool(SHOTS)
    while more:
        page.evaluate(
            "async () => { for (let i = 0; i < 4; i++) await new Promise(requestAnimationFrame); }"
        )
        photograph(page, f"{name[:2]}-page-{number:02}")
        number, more = number + 1, page.evaluate(scroll, 820)

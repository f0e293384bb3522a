"""The mask tool in a real JupyterLab: drawn by mouse, by sliders, rubbed out, cleared, and the
picture repainted from it."""

import json

import pytest

from tools.labdrive import ask_kernel, browser, lab, missing, new_page, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

CELLS = [
    "from sdlearn import widgets, world\nimport numpy as np\nfrom PIL import "
    "Image\nwidgets.setup()\nscene = "
    "world.draw(world.sample_scene(np.random.default_rng(0)))",
    """
def repaint(mask, prompt):
    if not prompt: raise ValueError("Say what to paint.")
    return Image.composite(Image.new("RGB", scene.size, "red"), scene, mask)

canvas = widgets.MaskCanvas(
    scene, box=(64, 32, 128, 120), repaint=repaint, prompt="a red balloon", alt="a drawn scene"
)
canvas.add_class("t-mask"); canvas
""",
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("lab")
    with lab(root) as server, browser() as chromium:
        page = new_page(chromium)
        server.open_cells(page, root, CELLS)
        page.locator(".t-mask canvas").wait_for()
        yield page
        assert page.errors == []


def cells(page) -> set:
    """The cells that the kernel holds to be masked, as (row, column)."""
    return {
        tuple(cell)
        for cell in json.loads(ask_kernel(page, "print(np.argwhere(canvas.value).tolist())"))
    }


def shown(page) -> set:
    """The cells that the reader sees masked."""
    found = page.locator(".t-mask canvas").evaluate(
        """(canvas) => { const {width, height} = canvas;
            return [...canvas.getContext('2d').getImageData(0, 0, width, height).data]
                .filter((_, i) => i % 4 === 3)
                .flatMap((alpha, i) => alpha ? [[Math.floor(i / width), i % width]] : []); }"""
    )
    return {tuple(cell) for cell in found}


def both_are(page, expected, what):
    wait_until(lambda: cells(page) == shown(page) == expected, what)


def draw(page, *points, shift=False):
    """A stroke through cells (row, column), from middle to middle."""
    canvas = page.locator(".t-mask canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    where = [
        (box["x"] + (c + 0.5) * box["width"] / 16, box["y"] + (r + 0.5) * box["height"] / 16)
        for r, c in points
    ]
    if shift:
        page.keyboard.down("Shift")
    page.mouse.move(*where[0])
    page.mouse.down()
    for point in where[1:]:
        page.mouse.move(*point, steps=5)
    page.mouse.up()
    if shift:
        page.keyboard.up("Shift")


def brush(page, width):
    page.locator(".t-mask .sd-mask-tools input[type=range]").fill(str(width))


def test_the_canvas_lies_on_the_picture(page):
    over, under = (
        page.locator(f".t-mask .sd-mask-stage {tag}").first.bounding_box()
        for tag in ("canvas", "img")
    )
    assert over == pytest.approx(under, abs=1)
    both_are(
        page, {(r, c) for r in range(4, 15) for c in range(8, 16)}, "the box that was asked for"
    )


def test_drawn_by_mouse(page):
    page.locator(".t-mask button", has_text="Clear").click()
    both_are(page, set(), "cleared")
    brush(page, 1)
    draw(page, (3, 2), (3, 9))
    both_are(page, {(3, c) for c in range(2, 10)}, "a stroke")
    draw(page, (3, 5), shift=True)
    both_are(page, {(3, c) for c in range(2, 10)} - {(3, 5)}, "shift rubs out")
    page.locator(".t-mask .sd-mask-tools input[type=checkbox]").check()
    draw(page, (3, 6), (3, 12))
    both_are(page, {(3, 2), (3, 3), (3, 4)}, "rubbed out, beyond the drawing too")
    page.locator(".t-mask .sd-mask-tools input[type=checkbox]").uncheck()
    brush(page, 3)
    draw(page, (10, 10))
    both_are(
        page,
        {(3, 2), (3, 3), (3, 4)} | {(r, c) for r in (9, 10, 11) for c in (9, 10, 11)},
        "a wide brush",
    )
    draw(page, (0, 0), (-3, -3))
    wait_until(lambda: (0, 0) in cells(page), "a stroke that leaves the picture is heard too")
    assert "of its 16 x 16 patches" in page.locator(".t-mask .sd-status").inner_text()


def test_undo_and_filling_an_outline(page):
    page.locator(".t-mask button", has_text="Clear").click()
    brush(page, 1)
    draw(page, (2, 2), (2, 6), (6, 6), (6, 2), (2, 2))
    ring = {(r, c) for r in range(2, 7) for c in range(2, 7)} - {
        (r, c) for r in range(3, 6) for c in range(3, 6)
    }
    both_are(page, ring, "an outline")
    page.locator(".t-mask button", has_text="Fill outline").press("Enter")
    both_are(page, {(r, c) for r in range(2, 7) for c in range(2, 7)}, "its inside too")
    page.keyboard.press("Control+z")  # the button that switched itself off hands the focus on
    both_are(page, ring, "undone")
    page.locator(".t-mask button", has_text="Undo").click()
    both_are(page, set(), "and the outline too")


def test_rectangles_by_keyboard_are_added(page):
    draw(page, (15, 15))
    page.locator(".t-mask summary").press("Enter")
    sides = {name: page.locator(".t-mask").get_by_label(name, exact=True)
             for name in ("Left", "Right", "Top", "Bottom")}  # fmt: skip
    sides["Left"].press("End")  # sliders may cross: the rectangle lies between them
    for key in ("ArrowLeft", "ArrowLeft"):
        sides["Left"].press(key)
    sides["Top"].press("Home")
    sides["Bottom"].press("Home")
    sides["Bottom"].press("ArrowRight")
    page.locator(".t-mask button", has_text="Add rectangle").press("Enter")
    page.locator(".t-mask summary").press("Enter")  # and its outline with it
    both_are(page, {(15, 15), (0, 14), (0, 15)}, "the drawing stays")
    page.locator(".t-mask summary").press("Enter")
    page.locator(".t-mask button", has_text="Take rectangle out").press("Enter")
    page.locator(".t-mask summary").press("Enter")
    both_are(page, {(15, 15)}, "taken out")


def test_repaint(page):
    page.locator(".t-mask button", has_text="Repaint").click()
    wait_until(lambda: "Done in" in page.locator(".t-mask .sd-status").inner_text(), "repainted")
    assert (
        page.locator(".t-mask img").last.get_attribute("alt").endswith("repainted: a red balloon")
    )
    assert (
        ask_kernel(page, "print(np.array_equal(canvas.picture, repaint(canvas.mask, 'x')))")
        == "True"
    )
    field = page.locator(".t-mask").get_by_label("Prompt", exact=True)
    field.fill("")
    field.press("Enter")
    wait_until(
        lambda: (
            "Not possible: Say what to paint." in page.locator(".t-mask .sd-status").inner_text()
        ),
        "the sentence",
    )

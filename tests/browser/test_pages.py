"""The static pages in a real browser without any network, opened from the disk: controls moved by
mouse and keyboard, search, theme, phone, previous and next.

SDLEARN_SITE=site drives the pages that `python run.py site` wrote instead of those made for the
tests: then every control of every chapter is moved.
"""

import os
import re
from pathlib import Path

import pytest
import sitekit

from tools.labdrive import browser, drag, missing, new_page, wait_until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]

SEEN = """async (control) => {
    const seen = [...control.querySelectorAll('.sd-frames > img')].filter((i) => i.offsetParent);
    if (seen.length !== 1) throw new Error(`${seen.length} pictures are seen`);
    seen[0].loading = 'eager';
    await seen[0].decode();
    return seen[0].alt;
}"""


@pytest.fixture(scope="module")
def folder():
    given = os.environ.get("SDLEARN_SITE")
    return Path(given).resolve() if given else sitekit.built()[0]


@pytest.fixture(scope="module")
def chromium():
    with browser() as chromium:
        yield chromium


@pytest.fixture
def page(chromium):
    page = offline(new_page(chromium))
    yield page
    assert page.errors == [] and page.asked == []
    page.context.close()


def offline(page):
    """Cut the network; what is asked of it all the same is gathered in `page.asked`."""
    page.asked = []
    page.context.set_offline(True)
    page.context.on(
        "request",
        lambda request: (
            None
            if request.url.startswith(("file:", "data:", "blob:"))
            else page.asked.append(request.url)
        ),
    )
    return page


def go(page, folder: Path, name: str) -> None:
    path, _, query = name.partition("?")
    page.goto((folder / path).as_uri() + (f"?{query}" if query else ""))


def shown(page, number: int) -> tuple[str, bytes]:
    """Alt text and pixels of the one picture that a control shows, once it is decoded."""
    control = page.locator(".sd-scrubber").nth(number)
    alt = control.evaluate(SEEN)
    return alt, control.locator(".sd-frames > img:not([hidden])").screenshot()


def test_nothing_is_asked_of_a_network(chromium, folder):
    """Every chapter and page of the contents: no request but for files, no error of a script, every
    picture there, formulas in the font that is bundled."""
    page = offline(new_page(chromium))
    go(page, folder, "contents.html")
    names = page.locator(".sidebar-tree a.reference.internal").evaluate_all(
        "(links) => links.map((a) => a.href)"
    )
    assert len(names) >= 8
    for address in names:
        page.goto(address)
        broken = page.evaluate(
            """async () => {
                const images = [...document.querySelectorAll('article img')];
                images.forEach((i) => { i.loading = 'eager'; });
                await Promise.allSettled(images.map((i) => i.decode()));
                return images.filter((i) => !i.naturalWidth).map((i) => i.src); }"""
        )
        assert broken == []
        if page.locator("math").count():
            assert page.evaluate(
                "async () => { await document.fonts.ready; return [...document.fonts].some((f) "
                "=> f.family.includes('STIX') && f.status === 'loaded'); }"
            )
            assert page.locator("math").first.bounding_box()["width"] > 3
    assert page.errors == [] and page.asked == []
    page.context.close()


def chapters(folder: Path) -> list[str]:
    return [
        f"notebooks/{path.name}"
        for path in sorted((folder / "notebooks").glob("[0-9][0-9]_*.html"))
        if "sd-scrubber" in path.read_text(encoding="utf-8")
    ]


def test_every_slider_by_keyboard_and_mouse(page, folder):
    """Each position of a page's controls is reached by keys, is called by its label, and shows a
    picture of its own; the mouse goes to the end and back."""
    assert chapters(folder)
    for name in chapters(folder):
        go(page, folder, name)
        for number in range(page.locator(".sd-scrubber").count()):
            scrubber = page.locator(".sd-scrubber").nth(number)
            scrubber.scroll_into_view_if_needed()
            sliders, every, most = scrubber.locator("input[type=range]:visible"), set(), 0
            for which in range(sliders.count()):
                slider, heard, seen = sliders.nth(which), [], []
                labels = (
                    slider.locator("xpath=..")
                    .locator("option")
                    .evaluate_all("(all) => all.map((o) => o.label)")
                )
                assert (
                    page.get_by_label(
                        slider.locator("xpath=..").locator("label").inner_text(), exact=True
                    ).count()
                    >= 1
                )
                slider.press("Home")
                for _ in labels:
                    alt, picture = shown(page, number)
                    heard.append(slider.get_attribute("aria-valuetext"))
                    assert slider.locator("xpath=../output").inner_text() == heard[-1]
                    seen.append((alt, picture))
                    slider.press("ArrowRight")
                assert heard == labels, f"{name}, control {number}"
                assert len({alt for alt, _ in seen}) == len(seen), (
                    f"{name}, control {number}: two positions have one alt text"
                )
                every, most = every | {picture for _, picture in seen}, max(most, len(seen))
                box = slider.bounding_box()
                slider.click(position={"x": 2, "y": box["height"] / 2})
                assert shown(page, number) == seen[0]
                page.mouse.move(box["x"] + 8, box["y"] + box["height"] / 2)
                page.mouse.down()
                page.mouse.move(box["x"] + box["width"] + 30, box["y"] + box["height"] / 2, steps=5)
                page.mouse.up()
                assert shown(page, number) == seen[-1]
            assert len(every) >= most / 2, (
                f"{name}, control {number}: the picture does not change"
            )  # a shift of 0 looks alike in every channel


def test_words_by_mouse_and_keyboard(page, folder):
    for name in chapters(folder):
        go(page, folder, name)
        for number in range(page.locator(".sd-scrubber").count()):
            radios = (
                page.locator(".sd-scrubber")
                .nth(number)
                .locator("fieldset")
                .first.locator("input[type=radio]")
            )
            if radios.count():
                radios.first.locator("xpath=..").click()
                first = shown(page, number)
                radios.first.press("ArrowRight")
                second = shown(page, number)
                radios.last.locator("xpath=..").click()
                last = shown(page, number)
                assert (
                    len({first, second, last}) == min(3, radios.count())
                    and radios.last.is_checked()
                )
                return
    pytest.fail("no control with buttons on any page")


def test_search_finds_a_chapter(page, folder):
    go(page, folder, "notebooks/00_first_image.html")
    field = page.get_by_role("textbox", name="Search")
    field.fill("inversion")
    field.press("Enter")
    page.locator("ul.search li").first.wait_for()
    found = page.locator("ul.search li a").evaluate_all(
        "(links) => links.map((a) => a.getAttribute('href'))"
    )
    assert any(link.startswith("notebooks/06_editing.html") for link in found)
    page.locator("ul.search li a[href^='notebooks/06_editing.html']").first.click()
    page.wait_for_url("**/06_editing.html*")
    assert "06 Editing" in page.locator("h1").inner_text()


def test_search_that_finds_nothing_says_so(page, folder):
    go(page, folder, "search.html?q=zyzzyva")
    wait_until(
        lambda: "did not match" in page.locator("#search-results").inner_text(),
        "the search is over",
    )


def background(page) -> str:
    return page.evaluate("() => getComputedStyle(document.body).backgroundColor")


def test_dark_and_light(page, folder):
    """The button goes round automatic, light, dark, and the choice holds on the next page."""
    page.emulate_media(color_scheme="light")
    go(page, folder, "contents.html")
    colours = {background(page)}
    for _ in range(3):
        page.locator(".theme-toggle:visible").click()
        colours.add(background(page))
        if page.locator("body").get_attribute("data-theme") == "dark":
            break
    dark = background(page)
    assert len(colours) == 2
    page.locator(".sidebar-tree a", has_text="02 Forward noising").click()
    page.wait_for_url("**/02_forward_noising.html")
    assert background(page) == dark


def follow(page, link: str) -> None:
    address = page.locator(link).evaluate("(a) => a.href")
    page.locator(link).click()
    page.wait_for_url(address)


def test_previous_and_next_walk_the_series(page, folder):
    go(page, folder, "contents.html")
    titles = [page.locator("h1").inner_text()]
    while page.locator("a.next-page").count():
        follow(page, "a.next-page")
        titles.append(page.locator("h1").inner_text())
    wanted = page.locator(".sidebar-tree a.reference").all_inner_texts()
    assert [title.removesuffix("#").strip() for title in titles[1:]] == wanted and len(wanted) >= 8
    follow(page, "a.prev-page")
    assert page.locator("h1").inner_text() == titles[-2]


def test_phone(chromium, folder):
    """390 pixels: no page is wider than that, the menu opens, a slider stays on the screen and
    moves."""
    page = offline(new_page(chromium, 390, 844))
    go(page, folder, "contents.html")
    listed = page.locator(".sidebar-tree a.reference.internal").evaluate_all(
        "(links) => links.map((a) => a.href)"
    )
    others = [
        (folder / name).as_uri()
        for name in (
            "contents.html",
            "notebooks/solutions/01_latent_compression.html",
            "sdlearn/noising.py.html",
            "search.html",
        )
    ]
    for address in [*listed, *others]:
        page.goto(address)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 390, address
    go(page, folder, chapters(folder)[-1])
    page.locator("label.nav-overlay-icon:visible").click()
    page.locator(".sidebar-tree a", has_text="02 Forward noising").wait_for(state="visible")
    page.locator(".sidebar-tree a", has_text="02 Forward noising").click()
    page.wait_for_url("**/02_forward_noising.html")
    go(page, folder, chapters(folder)[-1])
    slider = page.locator(".sd-scrubber input[type=range]:visible").first
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390 and box["height"] >= 24
    slider.click(position={"x": 2, "y": box["height"] / 2})
    first = shown(page, 0)
    drag(page, slider, 120)
    assert shown(page, 0) != first and page.errors == [] and page.asked == []
    page.context.close()


def test_motion_is_reduced_where_it_is_asked_for(page, folder):
    moving = """() => [getComputedStyle(document.documentElement).scrollBehavior,
                       Math.max(...[...document.querySelectorAll('*')]
                           .map((e) => parseFloat(getComputedStyle(e).transitionDuration)))]"""
    go(page, folder, "contents.html")
    assert page.evaluate(moving)[1] > 0  # the theme does move, so the test can fail
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moving) == ["auto", 0]


def test_what_is_wider_than_the_page_is_reached_by_keyboard(chromium, folder):
    page = offline(new_page(chromium, 390, 844))
    go(page, folder, "notebooks/02_forward_noising.html")
    wide = (
        "(all) => all.filter((box) => box.scrollWidth > box.clientWidth).map((box) => box.tabIndex)"
    )
    boxes = page.locator("pre, .math.block, .table-wrapper")
    assert set(boxes.evaluate_all(wide)) == {0}
    page.context.close()


def test_links_of_readme_stay_on_the_site(page, folder):
    go(page, folder, "contents.html")
    page.locator("article a", has_text=re.compile("^noising.py$")).click()
    page.wait_for_url("**/noising.py.html")
    page.locator(".sidebar-brand:visible").click()
    page.wait_for_url("**/contents.html")

"""The live page in Chromium without a network, from a server and from the disk: what is typed is
drawn as Python draws it; keyboard, phone, axe, links, a model that fails, offline, memory.

The minute random model stands in for Tiny SD, which has its own test under the slow marker.
"""

import base64
import io
import json
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from test_axe import findings

from sdlearn import hub, load_pipeline, sampling
from tools import web_bench, web_model
from tools.labdrive import missing

pytestmark = [pytest.mark.browser, pytest.mark.skipif(missing() is not None, reason=str(missing()))]
ROUTES = ["server", "disk"]


@pytest.fixture(scope="module")
def addresses(live_page):
    with web_bench.served(live_page) as address:
        disk = (live_page / "index.html").as_uri()
        yield {"server": f"{address}/index.html", "disk": disk}


@pytest.fixture(scope="module")
def chromium():
    with web_bench.chromium() as browser:
        yield browser


@pytest.fixture
def tab(chromium):
    """A tab of its own; whatever it complains of fails the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.set_default_timeout(120_000)
    yield page
    context.close()
    assert wrong == []


def picture(page, name: str = "picture0") -> np.ndarray:
    data = page.evaluate("name => document.getElementById(name).toDataURL()", name)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.split(",")[1]))).convert("RGB"))


def start(page, address: str) -> None:
    page.goto(address)
    page.click("#start")
    web_bench.drawn(page, quick=True)


def draw(page, prompt: str, seed: int) -> None:
    page.fill("#seed", str(seed))
    page.fill("#prompt0", prompt)
    page.evaluate("lastRun = null")
    page.press("#prompt0", "Enter")
    web_bench.drawn(page, quick=False)


def differences(page, pipe, address: str, prompts) -> list[int]:
    start(page, address)
    worst = []
    for seed, prompt in enumerate(prompts):
        draw(page, prompt, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours = np.asarray(sampling.sample(pipe, prompt, seed=seed)[0], int)
        worst.append(int(np.abs(picture(page) - ours).max()))
    return worst


SENTENCES = ["a red house in the snow at night", "a yellow cat and a blue boat", "Ünknown zebra's"]


@pytest.mark.parametrize("route", ROUTES)
def test_what_is_typed_is_drawn_as_python_draws_it(tab, addresses, model_folder, route):
    pipe = load_pipeline(model_folder)
    asked = []
    tab.on("request", lambda request: asked.append(request.url))
    worst = differences(tab, pipe, addresses[route], SENTENCES)
    assert max(worst) <= web_model.TOLERANCE
    home = addresses[route].rsplit("/", 1)[0]
    assert [url for url in asked if not url.startswith((home, "data:", "blob:"))] == []


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_tiny_sd_draws_in_the_page_what_it_draws_here(tab, tmp_path_factory, route):
    """The weights that ship; the tab stays below 450 MB while it loads and draws."""
    folder = tmp_path_factory.getbasetemp() / "live_tiny_sd"
    data = folder / web_model.FILES / "page.json"
    page = json.loads(data.read_text()) if data.exists() else web_model.export(folder, hub.TINY_SD)
    assert web_model.first_bytes(page) <= web_model.MAX_BYTES
    pipe = load_pipeline(hub.TINY_SD)
    disk = (folder / "index.html").as_uri()
    with web_bench.served(folder) as address:
        where = {"server": f"{address}/index.html", "disk": disk}[route]
        assert max(differences(tab, pipe, where, SENTENCES)) <= web_model.TOLERANCE
        with ThreadPoolExecutor(1) as other:  # a second Playwright needs its own thread
            assert other.submit(web_bench.measure_page, where).result()["peak"] <= 450


def test_typing_draws_a_quick_picture_and_marks_words(tab, addresses):
    start(tab, addresses["server"])
    tab.evaluate("lastRun = null")
    tab.fill("#prompt0", "a red housse")
    assert "housse" in tab.inner_text(".notes")
    assert tab.locator(".word.unknown").all_inner_texts() == ["housse"]
    assert web_bench.drawn(tab, quick=True)["seconds"] > 0
    before = picture(tab)
    tab.hover(".word >> text=red")
    assert (picture(tab) != before).any(), "where the word was read lights up"
    tab.hover("h1")
    assert (picture(tab) == before).all()


def test_all_by_keyboard(tab, addresses):
    tab.goto(addresses["server"])
    for _ in range(12):
        tab.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.id") == "start":
            break
    tab.keyboard.press("Enter")
    web_bench.drawn(tab, quick=True)
    tab.focus("#prompt0")
    tab.keyboard.press("End")
    tab.keyboard.type(" at night")
    tab.evaluate("lastRun = null")
    tab.keyboard.press("Enter")
    web_bench.drawn(tab, quick=False)
    tab.focus("#frame")
    steps = int(tab.get_attribute("#frame", "max"))
    tab.keyboard.press("ArrowLeft")
    assert tab.inner_text("#where").startswith(f"{steps} of {steps}")
    tab.keyboard.press("Home")
    assert tab.inner_text("#where").startswith("1 of")
    tab.focus("#box-unet")
    tab.keyboard.press("Enter")
    assert tab.get_attribute("#box-unet", "aria-expanded") == "true"
    assert "noise" in tab.inner_text("#inside")
    tab.keyboard.press("Enter")
    assert tab.is_hidden("#inside")


def act(page, do, quick: bool) -> None:
    """Do something and wait for the picture that follows."""
    page.evaluate("lastRun = null")
    do()
    web_bench.drawn(page, quick)


def test_the_tour_is_complete_when_everything_was_done(tab, addresses):
    start(tab, addresses["server"])
    guidance = tab.input_value("#guidance")
    act(tab, lambda: tab.fill("#prompt0", "a blue cat"), quick=True)
    act(tab, lambda: tab.click("#stop button"), quick=True)
    assert tab.input_value("#prompt0") == "a house"
    act(tab, lambda: tab.click("#reseed"), quick=True)
    act(tab, lambda: tab.press("#prompt0", "Enter"), quick=False)
    tab.focus("#frame")
    tab.keyboard.press("Home")
    assert "Now go on" in tab.inner_text("#stop"), "not over before the steps were seen"
    tab.keyboard.press("End")
    tab.click("#box-unet")
    assert "guess of the noise" in tab.inner_text("#stop")
    tab.click("#box-decoder")
    assert "Next: Set guidance to 0" in tab.inner_text("#stop")
    for value in ("0", "20", guidance):
        assert "whole tour" not in tab.inner_text("#stop")
        tab.fill("#guidance", value)
        act(tab, lambda: tab.press("#guidance", "Enter"), quick=False)
    assert "whole tour" in tab.inner_text("#stop")
    assert tab.locator("#stops button >> text=✓").count() == 5


def test_what_is_said_of_a_picture_belongs_to_it(tab, addresses):
    """Captions name all settings and the step; the judge's words stand beside finished pictures."""
    start(tab, addresses["server"])
    tab.fill("#guidance", "3")
    act(tab, lambda: tab.press("#prompt0", "Enter"), quick=False)
    prompt, seed = tab.input_value("#prompt0"), tab.input_value("#seed")
    steps = tab.input_value("#steps")
    told = f"{prompt} (seed {seed}, {steps} steps, guidance 3, {tab.input_value('#sampler')})"
    assert tab.inner_text("#caption0") == told
    assert tab.inner_text("#strip button >> nth=0") == told
    finished = picture(tab)
    tab.focus("#frame")
    tab.keyboard.press("Home")
    tab.wait_for_function("caption0.textContent.startsWith('What step 1 imagines')")
    assert tab.evaluate("getComputedStyle(seen0).visibility") == "hidden"
    assert (picture(tab) != finished).any()
    tab.keyboard.press("End")
    assert (picture(tab) == finished).all()


@pytest.mark.parametrize("route", ROUTES)
def test_nothing_of_the_model_is_asked_for_before_the_button(tab, addresses, route):
    asked = []
    tab.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[1]))
    tab.goto(addresses[route])
    tab.wait_for_load_state("networkidle")
    assert {name for name in asked if not name.startswith("sample_")} <= {
        "index.html",
        "style.css",
        "page.js",
    }
    assert "MB" in tab.inner_text("#start")


def test_a_link_carries_sentence_and_settings(tab, addresses):
    link = "#prompt=a+blue+cat&seed=5&steps=3&guidance=2&sampler=ddim&other=a+red+cat&steps9=x"
    start(tab, addresses["server"] + link)
    values = [tab.input_value(f"#{n}") for n in ("prompt0", "prompt1", "seed", "steps", "sampler")]
    assert values == ["a blue cat", "a red cat", "5", "3", "ddim"]
    assert tab.is_visible("#picture1")
    assert (picture(tab) != picture(tab, "picture1")).any()
    tab.click("#link")
    assert "prompt=a+blue+cat" in tab.url and "other=a+red+cat" in tab.url


def test_old_addresses_lead_on(tab, live_page, tmp_path, monkeypatch):
    """The page stood in live/ once, and the contents were the first page."""
    monkeypatch.setattr(web_model, "npm", lambda: None)
    monkeypatch.setattr(web_model, "cached", lambda cache: live_page)
    (tmp_path / "contents.html").write_text("<h1>Contents</h1>")
    assert web_model.add_to_site(tmp_path, tmp_path / "cache") == []
    tab.goto((tmp_path / "live" / "index.html").as_uri() + "#prompt=a+blue+cat&seed=5")
    tab.wait_for_url((tmp_path / "index.html").as_uri() + "#prompt=a+blue+cat&seed=5")
    assert tab.input_value("#prompt0") == "a blue cat" and tab.input_value("#seed") == "5"
    tab.click("header >> text=Chapters")
    assert tab.url.endswith("index.html#course"), "a place on this page"
    tab.goto("about:blank")
    tab.goto((tmp_path / "index.html").as_uri() + "#from-the-command-line")
    tab.wait_for_url((tmp_path / "contents.html").as_uri() + "#from-the-command-line")


def test_a_link_with_nonsense_changes_nothing(tab, addresses):
    tab.goto(addresses["server"] + "#steps=-3&seed=abc&sampler=magic&guidance=1e99&page=%00")
    steps = tab.evaluate("JSON.parse(document.getElementById('page').textContent).defaults")
    assert tab.input_value("#steps") == str(steps["num_inference_steps"])
    assert tab.input_value("#sampler") == steps["sampler"]
    assert tab.input_value("#seed") == "0"


def test_a_model_that_does_not_come_says_what_to_do(tab, addresses):
    tab.route("**/unet.onnx.bin*", lambda route: route.abort())
    tab.goto(addresses["server"])
    tab.click("#start")
    tab.wait_for_function("document.getElementById('loading').textContent.includes('Try again')")
    assert tab.locator("#strip img").count() > 0, "the pictures drawn beforehand are there"
    tab.unroute("**/unet.onnx.bin*")
    tab.click("#start")
    web_bench.drawn(tab, quick=True)


def test_the_second_visit_needs_no_network(tab, addresses):
    start(tab, addresses["server"])
    tab.evaluate("navigator.serviceWorker.ready.then(() => true)")
    tab.context.set_offline(True)
    start(tab, addresses["server"])
    tab.context.set_offline(False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe(tab, addresses, scheme):
    tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    tab.goto(addresses["server"])
    assert findings(tab) == []
    start(tab, addresses["server"])
    tab.click("#box-unet")
    tab.click("summary")
    tab.click("#compare")
    assert findings(tab) == []


@pytest.mark.parametrize("width", [320, 390, 820, 1920])
def test_nothing_is_wider_than_the_window(tab, addresses, width):
    tab.set_viewport_size({"width": width, "height": 800})
    start(tab, addresses["server"])
    for box in ("#box-tokens", "#box-states", "#box-unet", "#box-guidance"):
        tab.click(box)
        assert tab.evaluate("document.documentElement.scrollWidth") <= width

"""axe-core judges the pages and the controls: no serious and no critical finding."""

import pytest
import sitekit
from axe_playwright_python.sync_playwright import Axe
from test_lab import CELLS
from test_pages import go, offline

from tools.labdrive import browser, lab, missing, new_page

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]


@pytest.fixture(scope="module")
def chromium():
    with browser() as chromium:
        yield chromium


def findings(page, context=None) -> list[str]:
    """What axe holds for serious or critical, with the places."""
    result = Axe().run(page, context=context)
    assert len(result.response["passes"]) > 5, "axe has looked at something"
    return [
        f"{v['impact']} {v['id']}: {v['help']}: {[n['html'][:120] for n in v['nodes'][:3]]}"
        for v in result.response["violations"]
        if v["impact"] in ("serious", "critical")
    ]


def test_axe_finds_what_is_wrong(chromium):
    page = new_page(chromium)
    page.set_content(
        "<html lang=en><title>t</title><main><h1>t</h1><p style='color: #ccc; background: "
        "#fff'>pale</p><img src='data:,'><input type=range>" + "<p>text</p>" * 5 + "</main></html>"
    )
    found = " ".join(findings(page))
    assert "color-contrast" in found and "image-alt" in found and "label" in found
    page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "name",
    [
        "index.html",
        "notebooks/02_forward_noising.html",
        sitekit.CONTROLS.replace(".ipynb", ".html"),
        "sdlearn/noising.py.html",
        "search.html?q=noise",
    ],
)
def test_pages(chromium, name, scheme):
    page = offline(new_page(chromium))
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    go(page, sitekit.built()[0], name)
    if "search" in name:
        page.locator("ul.search li").first.wait_for()
    assert findings(page) == []
    page.context.close()


def test_page_on_a_phone(chromium):
    page = offline(new_page(chromium, 390, 844))
    go(page, sitekit.built()[0], sitekit.CONTROLS.replace(".ipynb", ".html"))
    assert findings(page) == []
    page.context.close()


def test_controls_in_jupyterlab(chromium, tmp_path):
    """Only what stands within our own controls; JupyterLab's own pages are JupyterLab's."""
    mask = "widgets.MaskCanvas(scenes[3], prompt='a blue boat', repaint=lambda *_: scenes[4])"
    with lab(tmp_path) as server:
        page = new_page(chromium)
        server.open_cells(page, tmp_path, [*CELLS, mask])
        controls = page.locator(".sd-control")
        for number in range(len(CELLS)):
            controls.nth(number).wait_for(state="attached")
            controls.nth(number).scroll_into_view_if_needed()
        assert controls.count() == len(CELLS)
        assert findings(page, ".sd-control") == []
        page.context.close()

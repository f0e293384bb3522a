"""The static pages: nothing of the notebooks is lost on them, every link leads somewhere, and
nothing comes from another server."""

import html
import re
from pathlib import Path

import ipywidgets as W
import nbformat
import pytest
import sitekit

from sdlearn import widgets
from tools import site, site_controls
from tools.notebooks import ROOT

pytestmark = [
    pytest.mark.notebooks,
    pytest.mark.allow_hosts(["127.0.0.1"]),
]  # one kernel, for the page of controls
CHAPTERS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def pages():
    return sitekit.built()[0]


def text(page: Path) -> str:
    """What a reader sees of a page."""
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_nothing_is_wrong_with_the_site():
    """No dead link, nothing loaded from another server, alt text on each picture, no page over 5
    MB, no complaint by Sphinx."""
    folder, wrong = sitekit.built()
    assert wrong == []
    sizes = site.weights(folder)
    assert len(sizes) > 20 and all(0 < size < site.MAX_MB for size in sizes.values())


@pytest.mark.parametrize(
    ("word", "page", "files"),
    [
        (
            None,
            '<a href="b.html#x">b</a><img src="p.png" alt="a red house"><a '
            'href="https://example.org">out</a>',
            {},
        ),
        ("a link to nowhere: c.html", '<a href="c.html">c</a>', {}),
        ("a link to nowhere: q.png", '<img src="q.png" alt="a red house">', {}),
        ("no such place: b.html#y", '<a href="b.html#y">b</a>', {}),
        (
            "loads https://cdn.example.org/x.js",
            '<script src="https://cdn.example.org/x.js"></script>',
            {},
        ),
        (
            "loads //cdn.example.org/x.css",
            '<link rel="stylesheet" href="//cdn.example.org/x.css">',
            {},
        ),
        ("without alt text: p.png", '<img src="p.png">', {}),
        ("6.0 MB", '<img src="p.png" alt="a red house">', {"p.png": "x" * 6_000_000}),
        (
            "loads https://fonts.example.org/a.woff",
            "",
            {"a.css": "@font-face { src: url('https://fonts.example.org/a.woff') }"},
        ),
    ],
)
def test_check_finds_what_is_wrong(tmp_path, word, page, files):
    for name, content in (
        {"a.html": page, "b.html": '<h1 id="x">b</h1>', "p.png": "x"} | files
    ).items():
        (tmp_path / name).write_text(content)
    found = site.check(tmp_path)
    assert (found == []) if word is None else (len(found) == 1 and word in found[0])


def test_every_chapter_and_page_is_in_the_contents_in_order(pages):
    listed = re.findall(
        r'class="toctree-l1[^"]*"><a class="reference internal" href="([^"]+)"',
        (pages / "contents.html").read_text(encoding="utf-8"),
    )
    first = (pages / "index.html").read_bytes()  # until the live page takes its place
    assert first == (pages / "contents.html").read_bytes()
    docs = sorted(f"docs/{path.stem}.html" for path in (ROOT / "docs").glob("*.md"))
    assert listed == [
        *(
            f"notebooks/{name.replace('.ipynb', '.html')}"
            for name in [*CHAPTERS, "99_controls.ipynb"]
        ),
        *docs,
    ]


@pytest.mark.parametrize("name", CHAPTERS)
def test_no_output_of_a_notebook_is_lost(pages, name):
    """Printed text, pictures with their alt text, code, formulas, and a word where a control
    stands."""
    nb = nbformat.read(sitekit.folder() / "repository/notebooks" / name, as_version=4)
    page = pages / "notebooks" / name.replace(".ipynb", ".html")
    source, seen = (
        re.search("<article.*</article>", page.read_text(encoding="utf-8"), re.S)[0],
        text(page),
    )
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    outputs = [output for cell in code for output in cell.outputs]
    for output in outputs:
        if output.output_type == "stream":
            assert output.text.strip() in seen
    alts = [
        output.metadata["image/png"]["alt"]
        for output in outputs
        if "image/png" in output.get("data", {})
    ]
    assert [
        alt for alt in alts if f'alt="{html.escape(alt, quote=True)}"' not in source
    ] == [] and alts
    assert [cell.source for cell in code if cell.source.strip() not in seen] == []
    controls = sum(bool(re.search(r"widgets\.(?!setup)[A-Z]\w+\(", cell.source)) for cell in code)
    assert source.count('class="sd-control"') == controls > 0
    prose = "\n".join(
        re.sub(r"`[^`]*`", "", cell.source) for cell in nb.cells if cell.cell_type == "markdown"
    )
    formulas = re.findall(r"\$\$.+?\$\$|\$[^$\n]+\$", prose, re.S)
    assert source.count("<math ") == len(formulas)
    drawn = "".join(re.findall(r"<math .*?</math>", source, re.S))
    assert (
        "\\" not in drawn
        and 'mathvariant="script"' not in drawn
        and 'mathvariant="double-struck"' not in drawn
    )
    assert "merror" not in drawn and "linebreak" not in drawn.replace("<mtr>", "")


def test_formula_letters_that_mathml_core_has_no_attribute_for():
    assert "<mi>𝒩</mi>" in site.mathml(r"\mathcal N(0, 1)", False) and "<mi>𝔼</mi>" in site.mathml(
        r"\mathbb E x", False
    )
    assert "<mi>ℝ</mi>" in site.mathml(r"\mathbb R", False) and "<mi>SNR</mi>" in site.mathml(
        r"\mathrm{SNR}", False
    )
    assert "scaling_factor" in site.mathml(r"\texttt{scaling\_factor}", False)
    assert 'display="block"' in site.mathml("x", True)


def test_each_page_says_how_to_run_it(pages):
    for page in pages.rglob("*.html"):
        if page.name not in ("search.html", "genindex.html"):
            name = page.relative_to(pages).as_posix()
            box = re.search(
                r'id="run-it-yourself".*?</aside>', page.read_text(encoding="utf-8"), re.S
            )
            if not name.endswith("/index.html"):  # a list of files
                assert box and "git clone https://example.org/me/course sdlearn" in box[0], name
            if name.startswith("notebooks/0"):
                notebook = name.replace(".html", ".ipynb")
                assert f"python run.py lab {notebook}" in box[0] and (pages / notebook).exists()


def test_what_a_chapter_links_to_is_a_page(pages):
    """Solutions, modules and the guide to training are on the site too, beside the contents."""
    for name in (
        "notebooks/solutions/02_forward_noising.html",
        "sdlearn/noising.py.html",
        "sdlearn/training/README.html",
    ):
        assert (pages / name).exists()
    assert "def add_noise" in text(pages / "sdlearn/noising.py.html")


def test_controls_hold_their_pictures():
    """What each kind of control becomes: its inputs with names, all positions, and one picture for
    each, of which the right one is seen first."""
    nb = sitekit.executed()
    made = [
        output.data["text/html"]
        for cell in nb.cells
        for output in cell.get("outputs", [])
        if "sd-control" in output.get("data", {}).get("text/html", "")
    ]
    assert (
        len(made) == 7
        and "widgets" not in nb.metadata
        and not any("precompute" in cell.source for cell in nb.cells)
    )
    frames, grid, words, live, typed, prompt, mask = made

    def pictures(control):
        images = re.findall(r"<img[^>]*>", control)
        return len(images), [i for i, image in enumerate(images) if "hidden" not in image]

    def names(control):
        return re.findall(r"<(?:label for=[^>]*|legend)>([^<]*)<", control)

    assert (
        names(frames) == ["Timestep"]
        and pictures(frames) == (12, [2])
        and 'aria-valuetext="t = 821"' in frames
    )
    assert re.findall(r'alt="([^"]*)"', frames)[11] == "Timestep: t = 101 (picture 12 of 12)"
    assert names(grid) == ["Guidance", "Step"] and pictures(grid) == (12, [0])
    assert names(words) == ["Step"] or names(words) == ["Word", "Step"]
    assert pictures(words) == (12, [0]) and words.count('type="radio"') == 3
    assert names(live) == ["timestep t", "seed"] and "Run it yourself" in live
    count, shown = pictures(live)
    assert 20 <= count <= 1.5 * site_controls.LIMIT and len(shown) == 1
    assert re.findall(r'alt="([^"]*)"', live)[shown[0]] == "a scene with noise level 0.0, seed 3"
    assert "<dt>Text</dt><dd>zebra</dd>" in typed and pictures(typed) == (1, [0])
    assert "<dt>Prompt</dt><dd>a red house</dd>" in prompt and pictures(prompt) == (5, [4])
    assert (
        "<dt>Prompt</dt><dd>a blue boat</dd>" in mask
        and pictures(mask)[0] == 3
        and "draw the mask" in mask
    )


def test_each_control_on_a_page_has_a_name_of_its_own(pages):
    """Labels point to their own slider, and buttons of one group do not press those of another."""
    source = (pages / sitekit.CONTROLS.replace(".ipynb", ".html")).read_text(encoding="utf-8")
    ids = re.findall(r'type="range" id="(control-\d+)"', source)
    assert (
        len(ids) == len(set(ids)) == 7 and re.findall(r'<label for="(control-\d+)"', source) == ids
    )
    assert (
        len(set(re.findall(r'type="radio" name="(control-\d+)"', source)) - set(ids)) == 1
        and '"ID"' not in source
    )


def test_a_live_picture_is_drawn_over_a_grid_that_holds_its_present_place():
    live = widgets.LivePicture(
        lambda a, b: [[a / 9, b / 99]],
        {"a": list(range(9)), "b": W.IntSlider(37, 0, 99)},
        "{a} and {b}",
    )
    live.controls["a"].value = 5
    grid = site_controls.sweep(live, 30)
    assert live.value == {"a": 5, "b": 37} and [axis["of"] for axis in grid["axes"]] == [9, 100]
    a, b = grid["axes"]
    assert len(grid["pages"]) == len(a["labels"]) * len(b["labels"]) <= 48
    assert (a["labels"][a["index"]], b["labels"][b["index"]]) == ("5", "37") and (
        a["labels"][0],
        a["labels"][-1],
        b["labels"][0],
        b["labels"][-1],
    ) == ("0", "8", "0", "99")
    at = a["index"] * len(b["labels"]) + b["index"]
    assert 'alt="5 and 37"' in grid["pages"][at] and 'alt="8 and 99"' in grid["pages"][-1]


def test_executed_notebooks_are_kept(monkeypatch):
    first = sitekit.executed()
    monkeypatch.setattr("nbclient.NotebookClient", None)  # nothing is executed again
    assert (
        site.executed(
            sitekit.folder() / "repository" / sitekit.CONTROLS, sitekit.folder() / "cache"
        )
        == first
    )


def test_only_a_site_is_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="--out"):
        site.build(tmp_path, {})
    assert (tmp_path / "thesis.txt").exists()

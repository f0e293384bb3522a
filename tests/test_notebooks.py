"""Every notebook is complete and readable; and what executes them finds each fault.

The chapters themselves are run in tests/browser/test_chapters.py, once, the solutions here (--all).
"""

import ast
import dis
import os
import re
import statistics
import types
from pathlib import Path

import lesson
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
README = (ROOT / "README.md").read_text(encoding="utf-8")
LISTED = list(
    dict.fromkeys(re.findall(r"\]\(notebooks/([\w-]+\.ipynb)\)", README))
)  # the contents, in order
PAGES = [p.relative_to(ROOT) for d in ("docs", "sdlearn/training") for p in (ROOT / d).glob("*.md")]
EVERY = [*LISTED, *(f"solutions/{name}" for name in LISTED)]


# ---------------------------------------------------------------------------------------- the lint


def dead_links(text: str, folder: Path) -> list[str]:
    """Relative links, pictures too, that lead nowhere from a folder."""
    targets = (
        "".join(t).split("#")[0]
        for t in re.findall(r"\]\(([^)\s]+)[^)]*\)|(?:href|src)=[\"']([^\"']+)", text)
    )
    return [
        t
        for t in targets
        if t and not re.match(r"(https?|mailto|data|attachment):", t) and not (folder / t).exists()
    ]


def lint(path: Path, previous: str | None = None, following: str | None = None) -> list[str]:
    """What is wrong with a notebook as a file; empty if nothing is."""
    if not path.exists():
        return ["is missing"]
    nb = nbformat.read(path, as_version=4)
    try:
        nbformat.validate(nb)
        found = []
    except nbformat.ValidationError as error:
        found = [f"not a valid notebook: {error.message}"]
    code = [c for c in nb.cells if c.cell_type == "code" and c.source.strip()]
    outputs = [o for c in code for o in c.outputs]
    prose = "\n".join(c.source for c in nb.cells if c.cell_type == "markdown")
    texts = [prose, *(c.source for c in code), *(o.get("text", "") for o in outputs)]
    texts += [
        str(v) for o in outputs for kind, v in o.get("data", {}).items() if kind.startswith("text/")
    ]
    found += leftovers(nb, code, outputs) + sizes(path, code, prose)
    found += in_text("\n".join(texts), prose)
    found += [f"a link to nowhere: {target}" for target in dead_links(prose, path.parent)]
    for output in outputs:
        alt = output.get("metadata", {}).get("image/png", {}).get("alt", "")
        if "image/png" in output.get("data", {}) and len(alt.split()) < 4:
            found.append(f"a figure without alt text ({output.data.get('text/plain', '')[:40]})")
    checked = [c for c in code if "nbval-check-output" in c.metadata.get("tags", [])]
    found += [
        f"cell [{c.execution_count}] is marked nbval-check-output but shows more than printed text"
        for c in checked
        if any(o.output_type != "stream" for o in c.outputs)
    ]
    if path.parent.name == "solutions":
        return found
    if not checked:
        found.append("no cell is marked nbval-check-output, so no printed text is compared")
    if not re.match(r"# \d\d \w", nb.cells[0].source):
        found.append("the first cell is not '# NN Title'")
    links = (link for link in (previous, following, "../README.md") if link)
    last = nb.cells[-1].source
    return found + [f"the last cell does not link to {k}" for k in links if f"]({k})" not in last]


def leftovers(nb, code: list, outputs: list) -> list[str]:
    """What executing leaves and may not be committed."""
    found = [f"error output {o.ename}" for o in outputs if o.output_type == "error"]
    if [c.execution_count for c in code] != list(range(1, len(code) + 1)):
        found.append("not executed top to bottom from a clean kernel")
    found += ["output on stderr" for o in outputs if o.get("name") == "stderr"]
    widgets = (o for o in outputs if "widget" in "".join(o.get("data", {})))
    found += ["a widget's output is stored" for _ in widgets]
    if "widgets" in nb.metadata:
        found.append("metadata.widgets is stored")
    if any("execution" in c.metadata for c in nb.cells):
        found.append("execution timestamps are stored")
    return found


def sizes(path: Path, code: list, prose: str) -> list[str]:
    lines = [sum(1 for line in c.source.splitlines() if line.strip()) for c in code] or [0]
    found = [f"cell [{i}] has {n} lines" for i, n in enumerate(lines, 1) if n > 25]
    if statistics.median(lines) > 8:
        found.append(f"the median cell has {statistics.median(lines):g} lines")
    if path.stat().st_size > 2_000_000:
        found.append(f"{path.stat().st_size / 1e6:.1f} MB")
    if (words := len(re.findall(r"\w[\w'-]*", prose))) > 2500:
        found.append(f"{words} words")
    return found


BRITISH = re.compile(
    r"\b(\w*colour\w*|learnt|burnt|grey\w*|centre\w*|neighbour\w*|favour\w*|licence\w*|"
    r"behaviour\w*|modelling|labelled|optimis\w+|normalis\w+|recognis\w+|visualis\w+|towards|"
    r"per cent|shall)\b",
    re.IGNORECASE,
)


def british(text: str) -> list[str]:
    """Words that American English spells otherwise, or no longer says; code, formulas and addresses
    are passed over."""
    code = r"```.*?```|`[^`]*`|\]\([^)]*\)|\$[^$]*\$|<[^>]*>"
    return [m[0] for m in BRITISH.finditer(re.sub(code, "", text, flags=re.DOTALL))]


def in_text(text: str, prose: str) -> list[str]:
    """Paths of a machine, pictures from elsewhere or without alt text, British spelling."""
    paths = r"(?<![\w./~:])/(?:root|home|tmp|work|usr|Users|opt)/\S*|[A-Z]:\\Users\\\S*"
    remote = r"!\[[^\]]*\]\((https?:[^)]*)|<img[^>]+src=[\"'](https?:[^\"']*)"
    found = [f"a machine's path: {m}" for m in re.findall(paths, text)]
    found += [f"a remote picture: {m}" for m in re.findall(remote, text)]
    found += [f"not American spelling: {word}" for word in british(prose)]
    alts = re.findall(r"!\[([^\]]*)\]\(", prose)
    found += ["a figure without alt text" for alt in alts if len(alt.split()) < 3]
    images = re.findall(r"<img[^>]*>", text)
    bare = (m for m in images if not re.search(r"alt=[\"'][^\"']{8,}", m))
    return found + ["an <img> without alt text" for _ in bare]


def test_contents_lists_every_chapter():
    numbers = [name[:2] for name in LISTED]
    assert numbers == [f"{n:02}" for n in range(len(LISTED))]
    assert len(LISTED) >= 9 and LISTED == lesson.CHAPTERS
    present = {p.name for p in FOLDER.glob("*.ipynb")} | {
        p.name for p in (FOLDER / "solutions").glob("*.ipynb")
    }
    assert present <= set(LISTED), "a notebook that the contents do not name"


def test_readme_links_lead_somewhere():
    assert dead_links(README, ROOT) == []


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", *sorted(map(str, PAGES))])
def test_pages_are_spelled_alike(path):
    assert british((ROOT / path).read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("name", EVERY)
def test_notebook_lint(name):
    at = LISTED.index(Path(name).name)
    previous, following = (LISTED[i] if 0 <= i < len(LISTED) else None for i in (at - 1, at + 1))
    assert lint(FOLDER / name, previous, following) == []


def good() -> nbformat.NotebookNode:
    """A notebook the lint has nothing against."""
    v4 = nbformat.v4
    alt = "noise fills the picture at t = 999"
    figure = v4.new_output(
        "display_data",
        {"image/png": "iVBORw0KGgo=", "text/plain": alt},
        metadata={"image/png": {"alt": alt}},
    )
    cells = [
        v4.new_markdown_cell("# 03 Title\nA promise."),
        v4.new_code_cell(
            "print(1)",
            execution_count=1,
            outputs=[v4.new_output("stream", text="1\n")],
            metadata={"tags": ["nbval-check-output"]},
        ),
        v4.new_code_cell("show(figure)", execution_count=2, outputs=[figure]),
        v4.new_markdown_cell(
            "[< previous](02.ipynb) | [contents](../README.md) | [next >](04.ipynb)"
        ),
    ]
    return v4.new_notebook(cells=cells)


def spoil(code: str):
    return lambda nb: exec(code, {"nb": nb, "v4": nbformat.v4})


@pytest.mark.parametrize(
    ("word", "change"),
    [
        (None, spoil("")),
        ("not executed", spoil("nb.cells[1].execution_count = 7")),
        (
            "error output",
            spoil(
                "nb.cells[1].outputs.append(v4.new_output('error', ename='ValueError', "
                "evalue='', traceback=[]))"
            ),
        ),
        ("stderr", spoil("nb.cells[1].outputs[0].name = 'stderr'")),
        (
            "widget's output",
            spoil("nb.cells[2].outputs[0].data['application/vnd.jupyter.widget-view+json'] = {}"),
        ),
        ("metadata.widgets", spoil("nb.metadata.widgets = {}")),
        ("timestamps", spoil("nb.cells[1].metadata['execution'] = {}")),
        ("has 26 lines", spoil("nb.cells[1].source = 'x = 1\\n' * 26")),
        ("median", spoil("nb.cells[1].source = nb.cells[2].source = 'x = 1\\n' * 9")),
        ("2.5 MB", spoil("nb.cells[2].outputs[0].data['image/png'] = 'A' * 2_500_000")),
        ("words", spoil("nb.cells[0].source += ' word' * 2500")),
        ("American", spoil("nb.cells[0].source += ' a coloured scene'")),
        ("machine's path", spoil("nb.cells[1].outputs[0].text = 'saved /home/me/x.png'")),
        (
            "remote picture",
            spoil("nb.cells[0].source += '\\n![a red house here](https://example.org/a.png)'"),
        ),
        ("link to nowhere", spoil("nb.cells[0].source += ' [text](none.md)'")),
        ("figure without alt", spoil("nb.cells[2].outputs[0].metadata = {}")),
        ("<img> without alt", spoil("nb.cells[0].source += '<img src=\"02.ipynb\">'")),
        ("more than printed", spoil("nb.cells[2].metadata = {'tags': ['nbval-check-output']}")),
        ("no printed text", spoil("nb.cells[1].metadata = {}")),
        ("first cell", spoil("nb.cells[0].source = 'Title'")),
        (
            "link to 04.ipynb",
            spoil("nb.cells[-1].source = '[< previous](02.ipynb) | [contents](../README.md)'"),
        ),
        ("not a valid", spoil("nb.cells[1].id = nb.cells[2].id = 'a b'")),
    ],
)
def test_lint_finds_each_fault(tmp_path, word, change):
    nb = good()
    change(nb)
    path = tmp_path / "notebooks" / "03.ipynb"
    path.parent.mkdir()
    for other in ("02.ipynb", "04.ipynb", "../README.md"):
        (path.parent / other).write_text("")
    path.write_text(nbformat.v4.writes(nb), encoding="utf-8")
    found = lint(path, "02.ipynb", "04.ipynb")
    assert found == [] if word is None else any(word in f for f in found), found


def test_lint_finds_a_missing_notebook(tmp_path):
    assert lint(tmp_path / "00.ipynb") == ["is missing"]


# ------------------------------------------------------------------------------------- the kernels


@pytest.mark.slow
@pytest.mark.notebooks
@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.parametrize("name", LISTED)
def test_solutions_run(name, tmp_path):
    """From a clean kernel, printing what is stored, asking nothing of the network."""
    path = FOLDER / "solutions" / name
    assert lesson.faults(path, lesson.headless(path, tmp_path)) == []


def probe(folder: Path, *cells: tuple[str, str]) -> Path:
    """A notebook of cells (source, what it is said to print), a.ipynb; ids are c1, c2, ..."""
    v4 = nbformat.v4
    made = [
        v4.new_code_cell(
            source,
            id=f"c{i}",
            execution_count=i,
            outputs=[v4.new_output("stream", text=text)],
            metadata={"tags": ["nbval-check-output"]} if text else {},
        )
        for i, (source, text) in enumerate(cells, 1)
    ]
    nbformat.write(v4.new_notebook(cells=made), folder / "a.ipynb")
    return folder / "a.ipynb"


@pytest.mark.notebooks
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_runner_finds_each_fault(tmp_path):
    """A printed text that changed, stderr, memory, an error, and the network: also asked for by a
    process that a cell starts, which swallows the refusal."""
    child = (
        "import urllib.request\\ntry: urllib.request.urlopen('https://one.example')\\n"
        "except OSError: pass"
    )
    start = f'subprocess.run([sys.executable, "-c", "{child}"]).check_returncode()'
    path = probe(
        tmp_path,
        ("print(1)\nprint('took 3.2 s')", "1\ntook 0.1 s\n"),  # times are not compared
        (f"import subprocess, sys\n{start}", ""),
        ("print(2)", "1\n"),
        ("print('careful', file=sys.stderr)", ""),
        ("held = b'x' * 1_100_000_000", ""),
        (
            "import socket\ntry: socket.create_connection(('two.example', 80))\nexcept OSError: 0",
            "",
        ),
        ("socket.socket().connect(('203.0.113.1', 80))", ""),
        ("print('never')", ""),
    )
    found = lesson.faults(path, lesson.headless(path, tmp_path))
    words = (
        "cell [3] prints something else: @@ -1 +1 @@ -1 +2",
        "cell [4] wrote to stderr: careful",
        "cell [7] OSError: the network is blocked in tests: 203.0.113.1",
        "cell [8] did not run in its turn",
        "tried to reach one.example",
        "tried to reach two.example",
        "tried to reach 203.0.113.1",
        "held 1",
    )
    assert len(found) == len(words)
    assert all(line.startswith(word) for line, word in zip(found, words, strict=True)), found


# ---------------------------------------------------------------------- python run.py notebooks


@pytest.mark.notebooks
@pytest.mark.allow_hosts(["127.0.0.1"])
def test_execution_cleans_what_may_not_be_committed(tmp_path):
    """The command's parts: a clean kernel, counts from 1, its cost, and no widget, script, stderr,
    timestamp or path left."""
    from tools import notebooks

    v4 = nbformat.v4
    cells = [
        v4.new_code_cell(
            "from IPython.display import HTML, "
            "display\ndisplay(HTML('<script>1</script>'))\nimport sys\nprint('noise', "
            "file=sys.stderr)"
        ),
        v4.new_code_cell("import ipywidgets\nipywidgets.IntSlider()"),
        v4.new_code_cell(
            "import sdlearn\nprint(sdlearn.__file__)\n6 * 7",
            metadata={
                "tags": ["nbval-check-output"],
                "execution": {"iopub.status.busy": "2026-01-01T00:00:00Z"},
            },
        ),
    ]
    nb = v4.new_notebook(cells=cells, metadata={"widgets": {}})
    done = notebooks.execute(nb, tmp_path)
    notebooks.clean(nb)
    nbformat.validate(nb)
    assert done.error is None and done.seconds > 0 and 20 < done.peak_mb < 1000
    assert [c.execution_count for c in nb.cells] == [1, 2, 3]
    assert nb.cells[0].outputs == nb.cells[1].outputs == [] and "widgets" not in nb.metadata
    assert nb.cells[2].outputs[0].text == f"sdlearn{os.sep}__init__.py\n" and nb.cells[2].outputs[
        1
    ].data == {"text/plain": "42"}
    assert nb.cells[2].metadata == {"tags": ["nbval-check-output"]}


@pytest.mark.notebooks
@pytest.mark.allow_hosts(["127.0.0.1"])
@pytest.mark.parametrize("source", ["1 / 0", "import os\nos._exit(1)"])
def test_failing_notebook_is_left_as_it_was(tmp_path, monkeypatch, capsys, source):
    from tools import notebooks

    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    path = tmp_path / "00_x.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)]), path)
    before = path.read_bytes()
    assert notebooks.main(["00"]) == 1
    assert path.read_bytes() == before and "FAILED" in capsys.readouterr().out


def test_notebook_that_is_not_there_gets_a_sentence(tmp_path, monkeypatch, capsys):
    from tools import notebooks

    monkeypatch.setattr(notebooks, "FOLDER", tmp_path)
    assert notebooks.main(["77"]) == 2
    assert "'77'" in capsys.readouterr().err


# ------------------------------------------------------- controls that outlive the cell they are in


def names_read(code: types.CodeType) -> set[str]:
    """Names of the notebook that a piece of code looks up when it runs, inner functions
    included."""
    inner = [c for c in code.co_consts if isinstance(c, types.CodeType)]
    own = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return own.union(*map(names_read, inner))


def functions_of(code: types.CodeType) -> dict[str, types.CodeType]:
    return {c.co_name: c for c in code.co_consts if isinstance(c, types.CodeType)}


def names_set(code: types.CodeType) -> set[str]:
    """Names that a cell gives to something, functions and imports included."""
    return {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_NAME"}


def stale_controls(sources: list[str]) -> list[str]:
    """Live controls that read a name which a later cell gives to something else: such a control
    works until the whole notebook has been run, and fails then."""
    cells = [compile(source, "cell", "exec") for source in sources]
    functions: dict[str, types.CodeType] = {}
    found = []
    for number, (source, cell) in enumerate(zip(sources, cells, strict=True), 1):
        functions |= functions_of(cell)
        later = set().union(*map(names_set, cells[number:]))
        for call in (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call)):
            if getattr(call.func, "attr", "") not in ("LivePicture", "MaskCanvas"):
                continue
            drawn = [*call.args[:1], *(k.value for k in call.keywords if k.arg == "repaint")]
            drawn = [compile(ast.Expression(what), "control", "eval") for what in drawn]
            waiting, known = set().union(*map(names_read, drawn)), set()
            while waiting:
                name = waiting.pop()
                known.add(name)
                waiting |= names_read(functions[name]) - known if name in functions else set()
            found += [f"cell [{number}] reads {name}, which changes" for name in known & later]
    return sorted(found)


@pytest.mark.parametrize("name", EVERY)
def test_controls_work_after_the_whole_notebook_has_been_run(name):
    nb = nbformat.read(FOLDER / name, as_version=4)
    assert stale_controls([c.source for c in nb.cells if c.cell_type == "code"]) == []


def test_a_control_that_later_cells_break_is_found():
    cells = [
        "words = [1]\ndef f(x): return g(x)\ndef g(x):\n    y = words\n    return y + x",
        "W.LivePicture(f, {'x': [1]}, 'alt')",
    ]
    assert stale_controls(cells) == stale_controls([*cells, "z = [words for words in 'ab']"]) == []
    for last in ("words = 2", "for words in []: pass", "def g(x): pass", "import words"):
        assert len(stale_controls([*cells, last])) == 1, last


def test_the_panel_of_chapter_00_may_be_the_first_cell_that_is_run():
    nb = nbformat.read(FOLDER / LISTED[0], as_version=4)
    (cell,) = [c for c in nb.cells if "PromptPanel(" in c.source]
    names = {}
    exec(cell.source, names)
    assert names["panel"].face.prompt in cell.source
    mine = {"pipe": names["pipe"], "widgets": names["widgets"]}  # a model that was chosen stays
    exec(cell.source, mine)
    assert mine["pipe"] is names["pipe"] is mine["panel"].pipe

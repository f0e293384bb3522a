"""Colab, Binder and a published copy's address: as far as they can be checked without them."""

import importlib.util
import json
import re
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

spec = importlib.util.spec_from_file_location("publish", ROOT / "docs" / "publish.py")
publish = importlib.util.module_from_spec(spec)
spec.loader.exec_module(publish)


@pytest.fixture
def copy(tmp_path):
    (tmp_path / "README.md").write_text("# Title\n\nText.\n", encoding="utf-8")
    result = {"output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": {}}
    cells = [
        {"cell_type": "markdown", "id": "a", "metadata": {}, "source": ["# 00 Title"]},
        {
            "cell_type": "code",
            "id": "b",
            "metadata": {},
            "source": ["6 * 7"],
            "execution_count": 1,
            "outputs": [result],
        },
        {
            "cell_type": "code",
            "id": "c",
            "metadata": {},
            "source": ["print('ä')"],
            "execution_count": 2,
            "outputs": [],
        },
    ]
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)
    for name in ("00_first_image.ipynb", "solutions/00_first_image.ipynb"):
        (tmp_path / "notebooks" / name).write_text(
            json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}),
            encoding="utf-8",
        )
    return tmp_path


def test_publish_writes_badges_and_the_set_up_cell_once(copy):
    import nbformat

    for repository in ("somebody/a-copy", "other/name"):
        assert publish.main([repository, "trunk"], copy) == 0
        readme = (copy / "README.md").read_text(encoding="utf-8")
        assert (
            readme.startswith("# Title\n\n<!-- clouds:start -->")
            and readme.endswith("Text.\n")
            and readme.count("badge_logo") == 1
        )
        assert (
            f"github/{repository}/blob/trunk/notebooks/00_first_image.ipynb" in readme
            and f"v2/gh/{repository}/trunk?" in readme
        )
        for path in (copy / "notebooks").rglob("*.ipynb"):
            nb = nbformat.read(path, as_version=4)
            nbformat.validate(nb)
            assert [c.id for c in nb.cells] == [
                "a",
                "cloud-set-up",
                "b",
                "c",
            ] and repository in nb.cells[1].source
            assert [c.execution_count for c in nb.cells[1:]] == [1, 2, 3] and nb.cells[2].outputs[
                0
            ].execution_count == 2
            assert "ä" in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("argv", [[], ["no-slash"], ["a/b", "c", "d"], ["https://github.com/a/b"]])
def test_publish_asks_for_an_address(copy, capsys, argv):
    assert publish.main(argv, copy) == 2
    assert (
        "OWNER/NAME" in capsys.readouterr().err and "clouds" not in (copy / "README.md").read_text()
    )


def test_set_up_cell_installs_only_where_sdlearn_is_missing(monkeypatch):
    from IPython.core.interactiveshell import InteractiveShell

    shell, asked = InteractiveShell(), []
    shell.register_magic_function(asked.append, magic_name="pip")
    source = publish.set_up("somebody/a-copy")
    assert shell.run_cell(source).success and asked == []
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "sdlearn" else real(name)
    )
    assert shell.run_cell(source).success
    assert asked == ['install -q "sdlearn @ git+https://github.com/somebody/a-copy"']


def test_a_published_notebook_still_passes_the_lint(tmp_path):
    from test_notebooks import lint

    done = [p for p in sorted((ROOT / "notebooks").glob("0*.ipynb")) if not lint(p)]
    if not done:
        pytest.skip("no notebook is finished yet")
    root = tmp_path / "copy"
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    shutil.copytree(
        ROOT / "sdlearn", root / "sdlearn", ignore=lambda *_: ["tiny_sd", "__pycache__"]
    )
    shutil.copyfile(ROOT / "README.md", root / "README.md")
    before = {p.name: lint(root / "notebooks" / p.name) for p in done}
    publish.main(["somebody/a-copy"], root)
    assert {p.name: lint(root / "notebooks" / p.name) for p in done} == before


def requirements(path: Path) -> dict[str, str]:
    lines = [line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return dict(line.split("==") for line in lines if "==" in line)


def test_binder_installs_the_tested_environment():
    folder = ROOT / ".binder"
    text = (folder / "requirements.txt").read_text(encoding="utf-8")
    assert (
        requirements(folder / "requirements.txt")["torch"]
        == requirements(ROOT / "requirements.txt")["torch"] + "+cpu"
    )
    assert re.search(r"^-r \.\./requirements\.txt$", text, re.MULTILINE) and re.search(
        r"^-e \.$", text, re.MULTILINE
    )
    major, minor = re.fullmatch(
        r"python-(\d+)\.(\d+)\n", (folder / "runtime.txt").read_text()
    ).groups()
    assert (3, 11) <= (int(major), int(minor)) <= (3, 14)


def test_clouds_page_names_what_exists():
    """Models, commands and figures on the page are those of the package."""
    from sdlearn import hub, memory

    text = (ROOT / "docs" / "clouds.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in text or f'"{name}"' in text for name in hub.MODELS)
    assert f"{hub.MODELS['sd-small'].download_gb} GB" in text
    model = hub.MODELS["sd15"]
    taken = {gb: [m.name for m in memory.ladder(gb, "cuda", model)] for gb in (3.2, 2.9, 2.5, 2.4)}
    assert taken == {
        3.2: ["whole"],
        2.9: ["tiling"],
        2.5: ["tiling", "offload"],
        2.4: ["tiling", "offload", "tiny"],
    }
    code = publish.set_up("OWNER/NAME").split("\n", 1)[1]
    assert code in text

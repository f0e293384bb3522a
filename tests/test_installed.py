"""sdlearn as JupyterHub and Colab have it: a wheel, installed into another folder, not this one."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy, so that the repository stays as it is."""
    folder = tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "sdlearn", "pyproject.toml", "README.md", "LICENSE"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    names = [n for n in tracked.stdout.split("\0") if n and (ROOT / n).is_file()]
    if not names:
        pytest.skip("this copy has no git to say what belongs to it")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(ROOT / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*command, "--no-index", "-w", str(folder / "dist"), "."],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return next((folder / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The folder that holds the installed package and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(folder), str(wheel)], check=True)
    return folder


@pytest.fixture
def python(installed, tmp_path):
    """Run Python from an empty folder, with the installed package before all others."""

    def python(*args: str) -> str:
        env = {k: v for k, v in os.environ.items() if not k.startswith("SDLEARN_")}
        env |= {"PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, *args], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    return python


def test_wheel_holds_every_file_of_the_package(wheel):
    """Modules, weights, scripts and measurements: what git tracks under sdlearn/, and no more."""
    with zipfile.ZipFile(wheel) as archive:
        held = {n for n in archive.namelist() if n.startswith("sdlearn/")}
    tracked = subprocess.run(
        ["git", "ls-files", "sdlearn"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(tracked) == held


def test_every_module_and_measured_file_is_found(python, installed):
    """All of it imports from the installed folder, not from the repository."""
    code = """
import importlib, pkgutil, sdlearn
print(sdlearn.__file__)
for module in pkgutil.walk_packages(sdlearn.__path__, "sdlearn."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
from sdlearn import hub, judge
from sdlearn.chapters import costs
assert (hub.TINY_SD / "model_index.json").exists() and (hub.TINY_SD / "evaluation.json").exists()
assert costs.committed() is not None, "the measured GPU figures"
judge.load_judge()
"""
    assert python("-c", code).split()[0] == str(installed / "sdlearn" / "__init__.py")


def test_commands_work_from_an_empty_folder(python, tmp_path):
    assert "usage" in python("-m", "sdlearn.training", "--help")
    assert "PROBLEM" not in python("-m", "sdlearn", "doctor")
    python("-m", "sdlearn", "a red house", "--steps", "2", "--seed", "1", "--out", "made")
    assert len(list((tmp_path / "made").glob("*.png"))) == 1


def test_imports_of_chapters_and_solutions_work(python, tmp_path):
    """The import lines of all notebooks, in one process: a chapter's own code comes with the
    package, so its solution needs no file of the repository."""
    import ast

    import nbformat

    lines = []
    for path in sorted((ROOT / "notebooks").rglob("*_*.ipynb")):
        cells = nbformat.read(path, as_version=4).cells
        for cell in (c for c in cells if c.cell_type == "code" and "import" in c.source):
            source = "\n".join(s for s in cell.source.splitlines() if s[:1] not in "!%")
            for node in ast.walk(ast.parse(source)):
                if isinstance(node, (ast.Import, ast.ImportFrom)):
                    lines.append(ast.unparse(node))
    ours = sorted({line for line in lines if "sdlearn" in line})
    assert len(ours) > 20
    (tmp_path / "imports.py").write_text("\n".join(ours))
    python("imports.py")

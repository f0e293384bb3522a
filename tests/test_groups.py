"""Tests of one group run in one worker, in a real run of two: or fixtures are made twice."""

import subprocess
import sys
from pathlib import Path

import groups
import pytest

TESTS = Path(__file__).parent


@pytest.mark.parametrize(
    ("nodeid", "name"),
    [
        ("tests/test_text.py::test_a[1]", "tests/test_text.py"),
        ("tests/browser/test_axe.py::test_b", "site"),
        ("tests/test_site.py::test_b", "site"),
        ("tests/browser/test_chapters.py::test_chapter[03_x.ipynb]", "chapter 03"),
        ("tests/browser/test_chapters.py::test_no_chapter", "tests/browser/test_chapters.py"),
    ],
)
def test_group(nodeid, name):
    assert groups.group(nodeid) == name


def test_two_workers_keep_groups_together(tmp_path):
    """Six files of six tests, each of which notes its worker."""
    note = "import os, pytest\n@pytest.mark.parametrize('n', range(6))\ndef test_it(n):\n"
    note += "    with open(f'{os.path.basename(__file__)}.seen', 'a') as file:\n"
    note += "        file.write(os.environ['PYTEST_XDIST_WORKER'] + '\\n')\n"
    for number in range(6):
        (tmp_path / f"test_{number}.py").write_text(note)
    (tmp_path / "conftest.py").write_text(
        f"import sys\nsys.path.insert(0, {str(TESTS)!r})\nimport groups\n"
        "def pytest_xdist_make_scheduler(config, log):\n    return groups.ByGroup(config, log)\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "36 passed" in done.stdout, done.stdout[-2000:]
    seen = [path.read_text().split() for path in sorted(tmp_path.glob("*.seen"))]
    assert [len(set(workers)) for workers in seen] == [1] * 6
    assert len({workers[0] for workers in seen}) == 2

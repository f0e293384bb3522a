"""run.py decides before it installs: here are its decisions, on machines this one is not."""

import ast
import importlib.util
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("run", ROOT / "run.py")
run = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run)


def test_launcher_is_read_by_an_old_python():
    """Too old a Python must reach the sentence of help, not a syntax error."""
    ast.parse((ROOT / "run.py").read_text(), feature_version=(3, 6))
    imported = {
        a.name.split(".")[0]
        for n in ast.walk(ast.parse((ROOT / "run.py").read_text()))
        if isinstance(n, ast.Import)
        for a in n.names
    }
    assert imported <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("version", "system", "machine", "word"),
    [
        ((3, 10, 9), "Linux", "x86_64", "3.10"),
        ((3, 15, 0), "Windows", "AMD64", "3.15"),
        ((3, 12, 1), "Darwin", "x86_64", "Intel"),
    ],
)
def test_unsupported_python_gets_a_sentence(version, system, machine, word):
    with pytest.raises(run.Help, match=word):
        run.check_python(version, system, machine)


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 14, 9)])
def test_supported_python_passes(version):
    run.check_python(version, "Linux", "aarch64")
    run.check_python(version, "Darwin", "arm64")


@pytest.mark.parametrize(
    ("system", "nvidia", "wish", "build"),
    [
        ("Linux", False, "auto", "cpu"),
        ("Linux", True, "auto", "plain"),
        ("Windows", False, "auto", "plain"),
        ("Windows", True, "auto", "cu130"),
        ("Darwin", False, "auto", "plain"),
        ("Linux", True, "cpu", "cpu"),
        ("Linux", True, "cu126", "cu126"),
    ],
)
def test_torch_build_for_each_system(system, nvidia, wish, build):
    assert run.torch_build(system, nvidia, wish) == build


def test_torch_comes_from_its_own_index_only_where_that_answers():
    asked = []

    def answer(url):
        asked.append(url)
        return "cpu" in url

    assert run.torch_args("cpu", answer) == ["--index-url", run.TORCH_INDEX + "cpu"]
    assert run.torch_args("cu130", answer) == []
    assert len(asked) == 2
    assert run.torch_args("plain", answer) == [] and len(asked) == 2, (
        "the plain build needs no question"
    )


def test_uv_installs_torch_only_where_it_cannot_pick_the_wrong_build():
    index = ["--index-url", run.TORCH_INDEX + "cpu"]

    def names(*machine):
        return {
            step: [command[0] for command in commands]
            for step, commands in run.installers(*machine, "PY").items()
        }

    assert names("cpu", index, "uv") == {"torch": ["uv", "PY"], "rest": ["uv", "PY"]}
    assert names("cpu", [], "uv") == {"torch": ["PY"], "rest": ["uv", "PY"]}, (
        "without the index only pip knows the configured places"
    )
    assert names("plain", [], "uv") == {"torch": ["uv", "PY"], "rest": ["uv", "PY"]}
    assert names("cpu", index, None) == {"torch": ["PY"], "rest": ["PY"]}


@pytest.mark.parametrize(
    ("output", "free", "word"),
    [
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on "
            "device",
            40,
            "disk is full",
        ),
        ("anything at all", 0.1, "disk is full"),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken\nERROR: No matching "
            "distribution found for torch==2.13.0",
            40,
            "cannot be reached",
        ),
        ("ERROR: No matching distribution found for torch==2.13.0", 40, "no build for this Python"),
        ("ERROR: something new", 40, "lines above"),
    ],
)
def test_failed_installation_is_explained(output, free, word):
    sentence = run.explain(output, free)
    assert word in sentence and "\n" not in sentence


def python(code):
    return [sys.executable, "-c", code]


def test_install_falls_back_quietly(capfd):
    run.install(
        [python("import sys; print('uv failed', file=sys.stderr); sys.exit(1)"), python("pass")], []
    )
    assert capfd.readouterr() == ("", "")


def test_install_without_network_says_so(capfd):
    with pytest.raises(run.Help, match="cannot be reached"):
        run.install(
            [
                python(
                    "import sys; print('WARNING: Retrying (Retry(total=1))', file=sys.stderr); "
                    "sys.exit(1)"
                )
            ],
            [],
        )
    assert "Retrying" in capfd.readouterr().err


def test_address_that_never_answers_costs_seconds_only(monkeypatch):
    monkeypatch.setattr(run.urllib.request, "urlopen", lambda *a, **k: time.sleep(5))
    start = time.perf_counter()
    assert not run.reachable("https://nowhere.invalid/", seconds=0.2)
    assert time.perf_counter() - start < 2


def test_missing_venv_module_gets_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "PYTHON", tmp_path / "none")
    failed = subprocess.CompletedProcess(
        [],
        1,
        stdout=b"The virtual environment was not created successfully because ensurepip is not "
        b"available.",
    )
    monkeypatch.setattr(run.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(run.Help, match="apt install python3-venv"):
        run.make_venv()


def test_full_disk_stops_before_anything_is_made(monkeypatch, tmp_path):
    monkeypatch.setattr(run, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(run, "PYTHON", tmp_path / "python")
    monkeypatch.setattr(run, "free_gb", lambda: 1.0)
    monkeypatch.setattr(run, "make_venv", lambda: pytest.fail("nothing may be made"))
    with pytest.raises(run.Help, match=r"about \d+ GB"):
        run.set_up()


def test_second_start_installs_nothing(monkeypatch, tmp_path):
    (tmp_path / "stamp").write_text(run.wanted())
    monkeypatch.setattr(run, "STAMP", tmp_path / "stamp")
    monkeypatch.setattr(run, "PYTHON", Path(sys.executable))
    monkeypatch.setattr(
        run.subprocess,
        "run",
        lambda *a, **k: pytest.fail("the second start must not start a process"),
    )
    run.set_up()


def test_changed_requirements_install_again(monkeypatch, tmp_path):
    before = run.wanted()
    for name in ("requirements.txt", "pyproject.toml"):
        (tmp_path / name).write_text("torch==0\n")
    monkeypatch.setattr(run, "ROOT", tmp_path)
    assert run.wanted() != before


def test_taken_port_that_was_asked_for_gets_a_sentence():
    for args in (["--port", "9000"], ["--port=9000"], ["--ServerApp.port=9000"]):
        with pytest.raises(run.Help, match=r"9000 is taken.*--port 9001"):
            run.lab_args(args, is_free=lambda port: False)
        assert not any("8888" in a for a in run.lab_args(args, is_free=lambda port: True))


def test_taken_usual_port_moves_on(capsys):
    assert "--port=8890" in run.lab_args([], is_free=lambda port: port > 8889)
    assert "8888 is taken" in capsys.readouterr().out
    assert "--port=8888" in run.lab_args([], is_free=lambda port: True)
    assert capsys.readouterr().out == ""


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_port_is_free():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not run.port_is_free(port)
    assert run.port_is_free(port)


def test_tests_run_two_at_a_time_unless_a_file_is_named():
    assert run.test_args(["-x"]) == ["-n", "2", "--no-loadscope-reorder", "-x"]
    assert run.test_args(["--all", "-q"])[-2:] == ["--all", "-q"]
    for alone in (["tests/test_run.py", "-x"], ["-n", "4"], ["--pdb"]):
        assert run.test_args(alone) == alone


def test_unknown_command_lists_the_known_ones(capsys):
    assert run.main(["labb"]) == 2
    out = capsys.readouterr().out
    assert "labb" in out and all(name in out for name in run.COMMANDS)


def pinned():
    lines = [
        line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()
    ]
    return dict(line.split("==") for line in lines if line)


def test_what_is_imported_is_pinned():
    """A package that only another one brings along may be gone tomorrow."""
    own = {"sdlearn", "tools", "run", "claims", *(path.stem for path in ROOT.glob("tests/**/*.py"))}
    brought = {
        "cycler": "matplotlib",
        "IPython": "ipykernel",
        "docutils": "sphinx",
        "traitlets": "ipywidgets",
        "urllib3": None,
    }  # by what; None: used only if it is there
    names = {"PIL": "pillow", "skimage": "scikit-image", "xdist": "pytest-xdist"}
    imported = set()
    for path in [
        *ROOT.glob("sdlearn/**/*.py"),
        *ROOT.glob("tools/*.py"),
        *ROOT.glob("tests/**/*.py"),
    ]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {a.name.split(".")[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.split(".")[0])
    others = {names.get(n, n) for n in imported - sys.stdlib_module_names - own - set(brought)}
    assert others - set(pinned()) == set()


def test_requirements_are_what_is_installed():
    """The pinned environment is the tested one, and names no index of its own."""
    pins = pinned()
    assert {name: version(name).split("+")[0] for name in pins} == pins
    from sdlearn import hub

    assert {name: pins[name] for name in hub.TESTED} == hub.TESTED

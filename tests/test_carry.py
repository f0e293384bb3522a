"""The folder for a class without network: what goes in, for whom, and that the launcher installs
from it with the network shut. Wheels are made here; nothing is fetched."""

import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import run
from tools import carry

ROOT = Path(__file__).parents[1]


def wheel(folder, name, version, *needs, tag="py3-none-any", code=""):
    """A minute wheel that pip installs."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    extras = ["Provides-Extra: " + need.split("'")[1] for need in needs if "extra ==" in need]
    path = folder / f"{name}-{version}-{tag}.whl"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n{code}",
        f"{info}/METADATA": "\n".join(
            [
                "Metadata-Version: 2.1",
                f"Name: {name}",
                f"Version: {version}",
                *(f"Requires-Dist: {need}" for need in needs),
                *extras,
                "",
                "",
            ]
        ),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: "
        f"{tag}\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
        archive.writestr(
            f"{info}/RECORD", "".join(f"{file},,\n" for file in [*files, f"{info}/RECORD"])
        )
    return path


@pytest.fixture(autouse=True)
def no_question(monkeypatch):
    """Whether PyTorch's own index answers is asked of the network, and so not here."""
    monkeypatch.setattr(run, "reachable", lambda url: False)


def own_tag():
    """The tag of a wheel that only this Python on this system takes."""
    system = carry.SYSTEMS[carry.here()]
    python = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    return f"{python}-{python}-{system.platforms[0]}"


def target(system="linux", python="3.12"):
    return carry.Target(carry.SYSTEMS[system], python)


# ---------------------------------------------------------------------------------- what is fetched


NEEDS = {
    "lab": ("kernel>=2", "terminal; os_name == 'nt'", "events[checked]"),
    "kernel": (
        "appnope; platform_system == 'Darwin'",
        "pexpect; sys_platform != 'win32'",
        "old; python_version < '3.12'",
        "bar; extra == 'test'",
    ),
    "events": ("rules; extra == 'checked'", "spare; extra == 'other'"),
}


def shelf(wheels, lines, target, extra):
    """An index of wheels for everything: 'lab' depends on the system, as torch does."""
    for line in lines:
        name = Requirement(line).name
        tag = f"cp312-cp312-{target.system.platforms[0]}" if name == "lab" else "py3-none-any"
        wheel(wheels, name, "2.0", *NEEDS.get(name, ()), tag=tag)


@pytest.mark.parametrize(
    ("system", "names"),
    [
        ("linux", {"lab", "kernel", "pexpect", "events", "rules"}),
        ("windows", {"lab", "kernel", "terminal", "events", "rules"}),
        ("mac", {"lab", "kernel", "appnope", "pexpect", "events", "rules"}),
    ],
)
def test_each_system_gets_what_it_needs_and_nothing_else(tmp_path, system, names):
    """Made on any machine: pip alone would ask this one, and a Windows laptop would lack its
    terminal."""
    carry.fetch(tmp_path, ["lab==2.0"], target(system), shelf)
    assert set(carry.fitting(tmp_path, target(system))) == names
    assert carry.missing(tmp_path, ["lab==2.0"], target(system)) == []
    assert [r.name for r in carry.missing(tmp_path, ["lab==2.0"], target(system, "3.13"))] == [
        "lab"
    ], "a wheel of another Python does not count"


def test_one_folder_serves_several_systems(tmp_path):
    for system in ("linux", "windows"):
        carry.fetch(tmp_path, ["lab==2.0"], target(system), shelf)
    assert not carry.missing(tmp_path, ["lab==2.0"], target("linux")) and not carry.missing(
        tmp_path, ["lab==2.0"], target("windows")
    )
    assert (
        len(list(tmp_path.glob("lab-*.whl"))) == 2 and len(list(tmp_path.glob("kernel-*.whl"))) == 1
    )


def test_too_old_a_wheel_is_missing_and_an_endless_search_ends(tmp_path):
    wheel(tmp_path, "kernel", "1.0")
    assert [str(r) for r in carry.missing(tmp_path, ["kernel>=2"], target())] == ["kernel>=2"]
    with pytest.raises(run.Help, match="kernel>=2"):
        carry.fetch(tmp_path, ["kernel>=2"], target(), lambda *a: None)


def test_fetched_is_the_version_that_is_tested_here():
    numpy = version("numpy")
    assert carry.pin(Requirement("numpy>=1")) == f"numpy=={numpy}"
    assert carry.pin(Requirement("torch>=2")) == "torch==" + version("torch").split("+")[0], (
        "a local build's name is no version to ask for"
    )
    assert (
        carry.pin(Requirement("numpy<1")) == "numpy<1"
        and carry.pin(Requirement("no-such-package-here>=3")) == "no-such-package-here>=3"
    )


def test_the_installed_environment_is_closed_under_its_own_markers():
    """The markers as read here agree with what pip installed here: nothing that this system needs
    is called unneeded."""
    own = carry.Target(carry.SYSTEMS[carry.here()], f"{sys.version_info[0]}.{sys.version_info[1]}")
    lines = [
        Requirement(line)
        for name in ("jupyterlab", "ipykernel", "nbclient", "pytest", "tqdm")
        for line in requires(name)
    ]
    for requirement in lines:
        if own.takes(requirement, set()):
            version(requirement.name)  # raises if it is not installed
    windows = {r.name for r in lines if target("windows").takes(r, set())} - {
        r.name for r in lines if own.takes(r, set())
    }
    assert "colorama" in windows or own.system.os_name == "nt"


# --------------------------------------------------------------------------------------- the folder


def test_copy_holds_what_git_tracks(tmp_path):
    root, folder = tmp_path / "root", tmp_path / "folder"
    for name in ("run.py", "sdlearn/a.py", ".venv/big", "runs/log", "wheels/x.whl"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    carry.copy_repository(folder, root)
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
        "run.py",
        "sdlearn/a.py",
    }
    shutil.rmtree(folder)
    if shutil.which("git"):
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)
        subprocess.run(["git", "add", "run.py"], cwd=root, check=True)
        carry.copy_repository(folder, root)
        assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == {
            "run.py"
        }


def test_folder_inside_the_repository_does_not_copy_itself(tmp_path):
    (tmp_path / "run.py").write_text("x")
    for _ in range(2):
        carry.copy_repository(tmp_path / "kit", tmp_path)
    assert [p.relative_to(tmp_path).as_posix() for p in sorted(tmp_path.rglob("run.py"))] == [
        "kit/run.py",
        "run.py",
    ]


def test_a_folder_with_something_else_in_it_is_refused(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert carry.main([str(tmp_path)]) == 1
    assert "something else" in capsys.readouterr().err and [p.name for p in tmp_path.iterdir()] == [
        "thesis.txt"
    ]


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A repository of four files with the real launcher: it installs torch 9.9 and says so."""
    root = tmp_path / "root"
    (root / "sdlearn").mkdir(parents=True)
    shutil.copyfile(ROOT / "run.py", root / "run.py")
    (root / "requirements.txt").write_text("torch==9.9  # the model\nlab==2.0\n")
    (root / "pyproject.toml").write_text(
        '[project]\nname = "sdlearn"\nversion = "0"\n[build-system]\nrequires = '
        '[]\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (root / "backend.py").write_text(BACKEND)
    (root / "sdlearn" / "doctor.py").write_text(
        "import torch, lab, rules, os\nprint('doctor', torch.VERSION, lab.VERSION, "
        "os.path.expanduser('~'))\n"
    )
    monkeypatch.setattr(
        carry, "copy_repository", lambda folder: shutil.copytree(root, folder, dirs_exist_ok=True)
    )
    return root


BACKEND = """
import zipfile

HEAD = "Metadata-Version: 2.1\\nName: sdlearn\\nVersion: 0\\n"
TAG = "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"

def build_editable(folder, config_settings=None, metadata_directory=None):
    with zipfile.ZipFile(f"{folder}/sdlearn-0-py3-none-any.whl", "w") as archive:
        archive.writestr("sdlearn-0.dist-info/METADATA", HEAD)
        archive.writestr("sdlearn-0.dist-info/WHEEL", TAG)
        archive.writestr("sdlearn-0.dist-info/RECORD", "")
    return "sdlearn-0-py3-none-any.whl"
"""


def fake_download(wheels, lines, target, extra):
    for line in lines:
        name = Requirement(line).name
        wheel(
            wheels,
            name,
            "9.9" if name == "torch" else "2.0",
            *NEEDS.get(name, ()),
            tag=own_tag() if name == "torch" else "py3-none-any",
        )


def test_the_live_page_goes_along(root, tmp_path, monkeypatch, capsys):
    from tools import web_model

    monkeypatch.setattr(run, "ROOT", tmp_path)
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("draw")
    monkeypatch.setattr(web_model, "npm", lambda: None)
    monkeypatch.setattr(web_model, "cached", lambda cache: tmp_path / "page")
    carry.add_live_page(tmp_path / "stick")
    assert (tmp_path / "stick" / "index.html").read_text() == "draw"
    monkeypatch.setattr(web_model, "npm", no_npm)
    carry.add_live_page(tmp_path / "other")
    assert "no live page: no npm here" in capsys.readouterr().out


def no_npm():
    from tools import web_model

    raise web_model.Missing("no npm here")


@pytest.mark.slow
def test_carried_folder_installs_with_the_network_shut(root, tmp_path, monkeypatch, capfd):
    """The whole way: made by the command, copied to an empty home, installed by the launcher from
    wheels/ alone, and run."""
    monkeypatch.setattr(carry, "pip_download", fake_download)
    monkeypatch.setattr("tools.web_model.npm", no_npm)
    folder = tmp_path / "stick"
    assert carry.main([str(folder)]) == 0
    start = (folder / "START.txt").read_text(encoding="utf-8")
    assert carry.SYSTEMS[carry.here()].about in start and "start.bat" in start
    stubs, said = tmp_path / "bin", tmp_path / "said"
    for name in (f"python{sys.version_info[0]}.{sys.version_info[1]}", "python3"):
        stubs.mkdir(exist_ok=True)
        (stubs / name).write_text(f'#!/bin/sh\necho "{name} $*" in "$PWD" >> "{said}"\n')
        (stubs / name).chmod(0o755)
    if os.name != "nt":
        subprocess.run(
            ["sh", str(folder / "start.sh")],
            env={**os.environ, "PATH": f"{stubs}{os.pathsep}{os.environ['PATH']}"},
            check=True,
        )
        assert (
            said.read_text()
            == f"python{sys.version_info[0]}.{sys.version_info[1]} run.py lab in {folder}\n"
        ), "the Python that the packages are for comes first"
    monkeypatch.setenv("HOME", "/nowhere")
    assert carry.check(folder) > 0
    out = capfd.readouterr().out
    assert "doctor 9.9 2.0" in out and "/nowhere" not in out
    assert "carried build" in out and not (folder / ".venv").exists(), (
        "the check leaves the stick as it was"
    )


def test_check_says_when_the_folder_does_not_install(root, capfd):
    wheel(root / "wheels", "torch", "9.9", tag="cp310-cp310-win_amd64")
    with pytest.raises(run.Help, match="does not install"):
        carry.check(root)
    assert "Python 3.10 on win_amd64" in capfd.readouterr().err, (
        "and the launcher's own words say why"
    )


# ------------------------------------------------------------------------------------- the launcher


def test_launcher_takes_wheels_only_where_they_fit(tmp_path):
    assert run.carried(tmp_path / "wheels", (3, 12), "Linux", "x86_64") == []
    for tag in (
        "cp312-cp312-manylinux_2_28_x86_64",
        "cp312-cp312-win_amd64",
        "cp313-cp313-macosx_11_0_arm64",
        "cp313-cp313-manylinux_2_28_aarch64",
    ):
        wheel(tmp_path, "torch", "2.13.0+cpu", tag=tag)
    for fits in [
        ((3, 12, 4), "Linux", "x86_64"),
        ((3, 12), "Windows", "AMD64"),
        ((3, 13), "Darwin", "arm64"),
        ((3, 13), "Linux", "aarch64"),
    ]:
        assert run.carried(tmp_path, *fits) == ["--no-index", "--find-links", str(tmp_path)]
    for odd in [
        ((3, 11), "Linux", "x86_64"),
        ((3, 13), "Windows", "AMD64"),
        ((3, 12), "Darwin", "arm64"),
        ((3, 12), "Windows", "ARM64"),
    ]:
        with pytest.raises(
            run.Help,
            match=r"Python 3.12 on win_amd64.*this is Python 3.1\d on (Linux|Windows|Darwin)",
        ):
            run.carried(tmp_path, *odd)


@pytest.mark.parametrize("name", carry.SYSTEMS)
def test_every_system_that_carry_names_is_one_the_launcher_accepts(tmp_path, name):
    """What carry calls a fit, run.py must call a fit, tag for tag."""
    system = carry.SYSTEMS[name]
    for python in carry.PYTHONS:
        number = tuple(map(int, python.split(".")))
        run.check_python(number, system.platform_system, system.platform_machine)
        wheel(
            tmp_path / python,
            "torch",
            "2.13.0",
            tag=f"cp{number[0]}{number[1]}-cp{number[0]}{number[1]}-{system.platforms[0]}",
        )
        assert "torch" in carry.fitting(tmp_path / python, carry.Target(system, python))
        assert run.carried(
            tmp_path / python, number, system.platform_system, system.platform_machine
        )


@pytest.mark.slow
@pytest.mark.skipif(
    "SDLEARN_CARRIED" not in os.environ,
    reason="SDLEARN_CARRIED names no folder made by `python run.py carry`",
)
def test_the_real_folder_installs(capfd):
    """A folder made by the command, installed in an empty home without network: its doctor loads
    the model and takes a step of it."""
    assert carry.check(Path(os.environ["SDLEARN_CARRIED"])) > 1000
    out = capfd.readouterr().out
    assert "Tiny SD loads in" in out and "PROBLEM" not in out

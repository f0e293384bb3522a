"""Make a folder that a laptop installs from without a network: ``python run.py carry FOLDER
[--system windows mac] [--python 3.12 3.13] [--check]``.

The folder is this repository with the packages beside it, in ``wheels/``; ``run.py`` finds them
there and asks no network. Say for whom it is made: packages differ by system and by Python's
version. Called again with the same folder, it adds what is missing, so one stick can serve several
systems.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from email.parser import HeaderParser
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import canonicalize_name, parse_wheel_filename

import run

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
PATCH = 9  # some packages refuse the first patch releases of a Python
LEFT_OUT = (
    ".git",
    ".venv",
    "runs",
    "wheels",
    "site",
    "node_modules",
    "class-kit",
    "__pycache__",
    ".ipynb_checkpoints",
    ".pytest_cache",
    ".ruff_cache",
    "*.egg-info",
    "*.gif",
)


class System(NamedTuple):
    """A kind of laptop: how Python there names itself, and which wheels it takes, best first."""

    about: str
    os_name: str
    sys_platform: str
    platform_system: str
    platform_machine: str
    platforms: tuple[str, ...]


def _linux(machine: str) -> tuple[str, ...]:
    return (
        *(f"manylinux_2_{n}_{machine}" for n in range(28, 4, -1)),
        f"manylinux2014_{machine}",
        f"manylinux2010_{machine}",
        f"manylinux1_{machine}",
        f"linux_{machine}",
    )


SYSTEMS = {
    "windows": System(
        "Windows 10 or 11, 64 bits", "nt", "win32", "Windows", "AMD64", ("win_amd64",)
    ),
    "mac": System(
        "macOS 14 or newer, Apple silicon",
        "posix",
        "darwin",
        "Darwin",
        "arm64",
        tuple(mac_platforms((14, 0), "arm64")),
    ),
    "linux": System("Linux, x86-64", "posix", "linux", "Linux", "x86_64", _linux("x86_64")),
    "linux-arm": System(
        "Linux, ARM of 64 bits", "posix", "linux", "Linux", "aarch64", _linux("aarch64")
    ),
}


class Target(NamedTuple):
    """For whom packages are fetched."""

    system: System
    python: str

    def tags(self) -> frozenset[Tag]:
        number = tuple(map(int, self.python.split(".")))
        return frozenset(
            [
                *cpython_tags(number, platforms=self.system.platforms),
                *compatible_tags(
                    number, "cp" + self.python.replace(".", ""), self.system.platforms
                ),
            ]
        )

    def takes(self, requirement: Requirement, extras: set[str]) -> bool:
        """Whether a requirement counts on this machine: "colorama; sys_platform == 'win32'" does on
        Windows only."""
        if requirement.marker is None:
            return True
        own = {
            **self.system._asdict(),
            "python_version": self.python,
            "python_full_version": f"{self.python}.{PATCH}",
            "implementation_version": f"{self.python}.{PATCH}",
        }
        environment = {
            **default_environment(),
            **{k: v for k, v in own.items() if k not in ("about", "platforms")},
        }
        return any(
            requirement.marker.evaluate({**environment, "extra": extra}) for extra in ["", *extras]
        )


def here() -> str:
    """This machine's name in :data:`SYSTEMS`.

    Raises:
        run.Help: if there is none.
    """
    for name, system in SYSTEMS.items():
        if (system.platform_system, system.platform_machine) == (
            platform.system(),
            platform.machine(),
        ):
            return name
    raise run.Help(
        f"carry knows no {platform.system()} on {platform.machine()}: say --system and one of "
        f"{', '.join(SYSTEMS)}."
    )


@functools.cache
def metadata(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        name = next(
            n for n in archive.namelist() if n.count("/") == 1 and n.endswith(".dist-info/METADATA")
        )
        return HeaderParser().parsestr(archive.read(name).decode("utf-8"))


def fitting(wheels: Path, target: Target) -> dict[str, Path]:
    """Canonical name -> wheel, of those that this target can install."""
    tags = target.tags()
    return {
        parse_wheel_filename(path.name)[0]: path
        for path in sorted(wheels.glob("*.whl"))
        if parse_wheel_filename(path.name)[3] & tags
    }


def missing(wheels: Path, wanted: list[str], target: Target) -> list[Requirement]:
    """What must still be fetched so that ``wanted`` can be installed from ``wheels`` alone."""
    found, lacking, seen = fitting(wheels, target), {}, set()
    queue = [(Requirement(line), set()) for line in wanted]
    while queue:
        requirement, extras = queue.pop()
        name = canonicalize_name(requirement.name)
        if not target.takes(requirement, extras) or (name, frozenset(requirement.extras)) in seen:
            continue
        seen.add((name, frozenset(requirement.extras)))
        if name in found and requirement.specifier.contains(
            parse_wheel_filename(found[name].name)[1], prereleases=True
        ):
            queue += [
                (Requirement(line), requirement.extras)
                for line in metadata(found[name]).get_all("Requires-Dist", [])
            ]
        else:
            lacking[name] = requirement
    return list(lacking.values())


def pin(requirement: Requirement) -> str:
    """The version that is installed, and so tested, here; where there is none (a package for other
    systems), what is asked for."""
    try:
        installed = version(requirement.name).split("+")[0]
    except PackageNotFoundError:
        installed = None
    return (
        f"{requirement.name}=={installed}"
        if installed and requirement.specifier.contains(installed, prereleases=True)
        else f"{requirement.name}{requirement.specifier}"
    )


def pip_download(wheels: Path, lines: list[str], target: Target, extra: list[str]) -> None:
    """Fetch exactly these, without what they need: pip would ask this machine, not the target, what
    that is."""
    platforms = [part for name in target.system.platforms for part in ("--platform", name)]
    chosen = [
        "--no-deps",
        "--only-binary=:all:",
        "--implementation",
        "cp",
        "--python-version",
        f"{target.python}.{PATCH}",
        *platforms,
    ]
    env = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--dest",
            str(wheels),
            *chosen,
            *extra,
            *lines,
        ],
        env=env,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print("\n".join(done.stderr.strip().splitlines()[-6:]), file=sys.stderr)
        raise run.Help(
            f"Not fetched: {', '.join(lines)}. "
            + run.explain(done.stderr, shutil.disk_usage(wheels).free / 1e9)
        )


def fetch(
    wheels: Path, wanted: list[str], target: Target, download: Callable | None = None
) -> None:
    """Fetch until nothing is missing.

    Raises:
        run.Help: if a package cannot be had for this target.
    """
    wheels.mkdir(parents=True, exist_ok=True)
    asked: set[str] = set()
    while lacking := missing(wheels, wanted, target):
        lines = sorted(map(pin, lacking))
        if asked.issuperset(lines):
            raise run.Help(
                f"These fit nothing that {target.system.about} with Python {target.python} "
                f"takes: {', '.join(lines)}."
            )
        asked |= set(lines)
        slim = (
            run.torch_args("cpu", run.reachable) if target.system.platform_system == "Linux" else []
        )  # the plain build for Linux carries 3 GB of CUDA
        torch = [line for line in lines if line.startswith("torch==")]
        for part, extra in ((torch, slim), ([line for line in lines if line not in torch], [])):
            if part:
                print(
                    f"  {', '.join(part) if len(part) < 4 else f'{len(part)} packages'} ...",
                    flush=True,
                )
                (download or pip_download)(wheels, part, target, extra)


def copy_repository(folder: Path, root: Path = run.ROOT) -> None:
    """What git tracks, as it is now; without git, all but what is made anew."""
    listed = (
        subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True)
        if (root / ".git").exists() and shutil.which("git")
        else None
    )
    if listed is not None and listed.returncode == 0 and listed.stdout:
        for name in filter(None, listed.stdout.decode("utf-8").split("\0")):
            if (root / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(root / name, folder / name)
        return
    away, ignore = folder.resolve(), shutil.ignore_patterns(*LEFT_OUT)
    shutil.copytree(
        root,
        folder,
        ignore=lambda at, names: {
            *ignore(at, names),
            *(n for n in names if (Path(at) / n).resolve() == away),
        },
        dirs_exist_ok=True,
    )


def ready(folder: Path) -> list[Target]:
    """For whom the folder is complete."""
    wanted, everyone = (
        pinned(folder),
        [Target(system, python) for system in SYSTEMS.values() for python in PYTHONS],
    )
    return [target for target in everyone if not missing(folder / "wheels", wanted, target)]


def write_start(folder: Path) -> None:
    """START.txt, start.bat and start.sh: for whom this folder is, three steps, and a start with one
    of the Pythons it is made for."""
    targets = ready(folder)
    pythons = " ".join(sorted({target.python for target in targets}))
    text = [
        "sdlearn: how Stable Diffusion works, by running it. Nothing here needs a network.", "",
        "1. Copy this whole folder to your own disk (do not work on the stick). Installed it "
            "takes about 2 GB there.",
        "2. Have one of these Pythons (from python.org; perhaps its installer lies beside this "
            "file):",
        *(f"       Python {target.python} on {target.system.about}" for target in targets),
        "3. Windows: double-click start.bat. macOS and Linux: in a terminal in this folder, sh "
            "start.sh",
        "   The first start takes some minutes, later ones seconds. The first notebook then "
            "opens in the browser.", "",
        "If something fails, the last line says why. The same by hand: python run.py lab "
            "(python may be called python3 or py).",
        *(["", "Without Python: open index.html in a browser; Tiny SD draws there."]
            if (folder / "index.html").exists() else []),
    ]  # fmt: skip
    batch = [
        '@cd /d "%~dp0"',
        f'@for %%v in ({pythons}) do @py -%%v -c "" 2>nul && (py -%%v run.py lab & goto done)',
        "@python run.py lab",
        ":done",
        "@pause",
    ]
    shell = [
        "#!/bin/sh",
        'cd "$(dirname "$0")" || exit',
        f'for v in {pythons}; do command -v "python$v" >/dev/null && exec "python$v" run.py '
        "lab; done",
        "exec python3 run.py lab",
    ]
    for name, lines, newline in (
        ("START.txt", text, "\r\n"),
        ("start.bat", batch, "\r\n"),
        ("start.sh", shell, "\n"),
    ):
        (folder / name).write_text("\n".join([*lines, ""]), encoding="utf-8", newline=newline)


def pinned(folder: Path) -> list[str]:
    lines = (folder / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def shut_off(home: Path) -> dict[str, str]:
    """An environment without settings of pip, uv or Python, whose ways to the network lead to the
    discard port: whoever asks it all the same is refused at once."""
    nowhere = "http://127.0.0.1:9"
    own = ("PIP_", "UV_", "PYTHON", "VIRTUAL_ENV", "SDLEARN_", "XDG_")
    keep = {k: v for k, v in os.environ.items() if not k.upper().startswith(own)}
    names = ("PIP_INDEX_URL", "UV_INDEX_URL", "HTTP_PROXY", "HTTPS_PROXY")
    return {
        **keep,
        **dict.fromkeys((*names, "http_proxy", "https_proxy"), nowhere),
        "PIP_CONFIG_FILE": os.devnull,
        "UV_NO_CONFIG": "1",
        "HOME": str(home),
        "USERPROFILE": str(home),
    }


def add_live_page(folder: Path) -> None:
    """Tiny SD for browsers, for a laptop without Python."""
    from tools import web_model

    cache = run.ROOT / ".site-cache"
    cache.mkdir(exist_ok=True)
    try:
        web_model.npm()
        shutil.copytree(web_model.cached(cache), folder, dirs_exist_ok=True)
    except web_model.Missing as reason:
        print(f"The folder has no live page: {reason}.")
    else:
        print("index.html draws with Tiny SD in any browser, without Python.")


def check(folder: Path, command: list[str] | None = None) -> float:
    """Install from a copy of the folder, in an empty home, with every way to the network shut, and
    run ``doctor`` there; the megabytes that the installed copy takes.

    Raises:
        run.Help: if that fails.
    """
    with tempfile.TemporaryDirectory() as place:
        copy, home = Path(place) / "copy", Path(place) / "home"
        home.mkdir()
        shutil.copytree(folder, copy)
        fence = (
            ["unshare", "-rn"]
            if shutil.which("unshare")
            and subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode == 0
            else []
        )
        # not this environment's Python: a laptop has none
        base = str(getattr(sys, "_base_executable", sys.executable))
        print(
            "Checking: installing from a copy, with the network "
            + ("cut off ..." if fence else "shut by its settings ..."),
            flush=True,
        )
        if subprocess.run(
            [*fence, base, "run.py", *(command or ["doctor"])], cwd=copy, env=shut_off(home)
        ).returncode:
            raise run.Help("The carried folder does not install here; the lines above say why.")
        return (
            sum(p.stat().st_size for p in copy.rglob("*") if p.is_file() and not p.is_symlink())
            / 1e6
        )


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python run.py carry", description="Make a folder that installs without a network."
    )
    parser.add_argument("folder", type=Path, help="an empty folder, or one made by this command")
    parser.add_argument(
        "--system",
        nargs="+",
        choices=list(SYSTEMS),
        help="for which laptops (this one's kind, if you say nothing)",
    )
    parser.add_argument(
        "--python",
        nargs="+",
        choices=PYTHONS,
        default=[platform.python_version().rsplit(".", 1)[0]],
        help="for which Pythons (this one, if you say nothing)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="install from a copy of it, without network, and say whether that works",
    )
    options = parser.parse_args(argv)
    folder: Path = options.folder.resolve()
    try:
        if folder.exists() and any(folder.iterdir()) and not (folder / "START.txt").exists():
            raise run.Help(
                f"{folder} holds something else: name a new folder, or one that this command "
                "has made."
            )
        copy_repository(folder)
        for system in options.system or [here()]:
            for python in options.python:
                print(f"Packages for {SYSTEMS[system].about}, Python {python}:", flush=True)
                fetch(folder / "wheels", pinned(folder), Target(SYSTEMS[system], python))
        add_live_page(folder)
        write_start(folder)
        wheels = [path.stat().st_size for path in (folder / "wheels").glob("*.whl")]
        print(
            f"{folder}: {len(wheels)} packages, {sum(wheels) / 1e6:.0f} MB, and the repository. "
            "Copy it to a stick; START.txt says the rest."
        )
        if options.check:
            print(f"Installed and answered; {check(folder):.0f} MB on the disk then.")
    except run.Help as sentence:
        print(f"carry: {sentence}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

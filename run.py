#!/usr/bin/env python3
"""One launcher for Linux, macOS and Windows, standard library only.

    python run.py               opens the notebooks (the same as `lab`)
    python run.py test          runs the tests, two at a time (--all: the slow proofs too)
    python run.py bench         measures the course on this machine
    python run.py notebooks     executes the notebooks in place, from clean kernels
    python run.py --help        lists all commands

The first start makes `.venv` and installs the pinned requirements into it; later starts take a
second. The environment variable SDLEARN_TORCH overrules the choice of the PyTorch build (cpu,
cu126, cu130, ..., or plain: what the package index gives); delete .venv first to change an
installed one.
"""

import hashlib
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
STAMP = VENV / "sdlearn-stamp"
WHEELS = (
    ROOT / "wheels"
)  # packages that `python run.py carry` put there: with them nothing is asked of the network
TORCH_INDEX = "https://download.pytorch.org/whl/"
NEEDED_GB = 3  # environment and downloads together, rounded up
NEEDED_GB_CUDA = 10
COMMANDS = {
    "lab": (
        "open the notebooks in JupyterLab (options go to JupyterLab: --port 9000, --no-browser)",
        "jupyterlab",
    ),
    "test": (
        "run the tests, about ten minutes (--all: the slow proofs too; options go to pytest)",
        "pytest",
    ),
    "bench": (
        "measure speed, memory and quality on this machine (--json writes bench.json)",
        "tools.bench",
    ),
    "bench-gpu": ("the same for Stable Diffusion on a CUDA device", "tools.bench_gpu"),
    "notebooks": (
        "execute all notebooks in place, or those named: python run.py notebooks 01",
        "tools.notebooks",
    ),
    "figures": ("draw the README's pictures with the model", "tools.figures"),
    "site": ("write the series as static pages into site/", "tools.site"),
    "carry": (
        "make a folder that installs without network, for a class: python run.py carry FOLDER",
        "tools.carry",
    ),
    "load": ("measure how many learners one server holds", "tools.load"),
    "doctor": ("say in ten seconds what works here", "sdlearn.doctor"),
}


class Help(Exception):
    """Something a sentence can help with."""


# ---------------------------------------------------------------------------------------- decisions


def check_python(version, system, machine):
    """Refuse what PyTorch has no build for, before anything is installed."""
    if not (3, 11) <= tuple(version[:2]) <= (3, 14):
        raise Help(
            f"sdlearn needs Python 3.11 to 3.14 and this is {version[0]}.{version[1]}: install "
            "such a Python and start run.py with it."
        )
    if system == "Darwin" and machine == "x86_64":
        raise Help(
            "PyTorch no longer supports Intel Macs (nor an Intel Python on Apple silicon): use "
            "an arm64 Python, or open the notebooks on another machine."
        )


def torch_build(system, nvidia, wish="auto"):
    """Which PyTorch build suits this machine: "cpu", a CUDA tag, or "plain", what the package index
    gives."""
    if wish != "auto":
        return wish
    if system == "Linux":
        return "plain" if nvidia else "cpu"  # the plain Linux build carries 3 GB of CUDA
    if system == "Windows":
        return "cu130" if nvidia else "plain"  # the plain Windows build has no CUDA
    return "plain"


def torch_args(build, reachable):
    """pip's arguments for a build. Where PyTorch's own index is out of reach, whatever pip is
    configured to find must do."""
    url = TORCH_INDEX + build
    return ["--index-url", url] if build != "plain" and reachable(url + "/torch/") else []


def installers(build, args, uv, python=PYTHON):
    """Commands that install, best first. uv is quick but does not read pip's configuration: it may
    fetch torch only where it cannot pick the wrong build."""
    pip = [str(python), "-m", "pip", "install"]
    quick = [uv, "pip", "install", "--python", str(python)] if uv else None
    trusted = build == "plain" or bool(args)
    return {
        "torch": [quick, pip] if quick and trusted else [pip],
        "rest": [quick, pip] if quick else [pip],
    }


def carried(wheels, version, system, machine):
    """pip's arguments where packages were carried along, none where not. A folder made for other
    machines gets a sentence before anything is installed."""
    found = sorted(path.name for path in wheels.glob("torch-*.whl"))
    if not found:
        return []
    python = f"cp{version[0]}{version[1]}"
    kind = {"Linux": "linux", "Windows": "win", "Darwin": "macosx"}.get(system, system)
    cpu = "(x86_64|amd64)" if machine.lower() in ("x86_64", "amd64") else "(arm64|aarch64)"
    if not any(re.search(f"-{python}-{python}-.*{kind}.*_{cpu}", name) for name in found):
        made = sorted(
            {
                "Python {}.{} on {}".format(*m.groups())
                for m in (re.search(r"-cp(\d)(\d+)-[^-]+-([^-]+)\.whl$", name) for name in found)
                if m
            }
        )
        raise Help(
            f"The packages in wheels/ are for {', '.join(made)}; this is Python "
            f"{version[0]}.{version[1]} on {system} {machine}. "
            "Start run.py with such a Python, or delete the folder wheels to install from the "
            "network."
        )
    return ["--no-index", "--find-links", str(wheels)]


def explain(output, free_gb):
    """One sentence for a failed installation, from what pip printed and the room on the disk."""
    text = output.lower()
    if "no space left" in text or "errno 28" in text or free_gb < 0.5:
        return (
            f"The disk is full ({free_gb:.1f} GB free): make room for about {NEEDED_GB} GB "
            "and start again, it goes on where it stopped."
        )
    if "retrying (" in text or "connection error" in text or "timed out" in text:
        return (
            "The package index cannot be reached: connect to the network for the first "
            "start (later ones need none), or set pip's index or proxy, and start again."
        )
    if "no matching distribution" in text or "could not find a version" in text:
        return (
            f"A package has no build for this Python ({platform.python_version()}, "
            f"{platform.machine()}): try Python 3.12 of 64 bits."
        )
    return (
        "Installing failed; the lines above say why. Delete the folder .venv and start "
        "again if you cannot see it."
    )


# -------------------------------------------------------------------------------------- the machine


def reachable(url, seconds=4):
    """Whether an address answers soon. In a thread, because looking up a name obeys no time-out."""
    answer = []

    def ask():
        try:
            with urllib.request.urlopen(
                urllib.request.Request(url, method="HEAD"), timeout=seconds
            ) as page:
                answer.append(page.status < 400)
        except Exception:  # whatever the reason, it is out of reach
            answer.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answer) and answer[0]


def has_nvidia():
    smi = shutil.which("nvidia-smi")
    try:
        return (
            bool(smi)
            and subprocess.run(
                [smi, "-L"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20
            ).returncode
            == 0
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


def free_gb():
    return shutil.disk_usage(str(ROOT)).free / 1e9


def port_is_free(port):
    with socket.socket() as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


# ------------------------------------------------------------------------------------------- set-up


def wanted():
    """What the environment must be made of: when this changes, the next start installs again."""
    parts = [(ROOT / name).read_bytes() for name in ("requirements.txt", "pyproject.toml")]
    return hashlib.sha256(b"\0".join([*parts, str(ROOT).encode()])).hexdigest()


def make_venv():
    if (
        PYTHON.exists()
        and subprocess.run(
            [str(PYTHON), "-m", "pip", "--version"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ).returncode
        == 0
    ):
        return
    print("Making the environment .venv ...", flush=True)
    made = subprocess.run(
        [sys.executable, "-m", "venv", "--clear", str(VENV)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    if made.returncode == 0:
        return
    output = made.stdout.decode(errors="replace")
    if "ensurepip" in output or "No module named venv" in output:
        raise Help(
            "This Python cannot make environments. On Debian and Ubuntu: sudo apt install "
            "python3-venv. Then start again."
        )
    if "Errno 28" in output or free_gb() < 0.5:
        raise Help(explain("no space left", free_gb()))
    raise Help(
        "The environment .venv could not be made: "
        + (output.strip().splitlines() or ["no reason given"])[-1]
    )


def install(commands, arguments):
    """Run the first of the commands that succeeds. Errors are kept back until all have failed, so
    that a detour stays quiet."""
    env = dict(
        os.environ,
        PIP_DISABLE_PIP_VERSION_CHECK="1",
        PIP_RETRIES=os.environ.get("PIP_RETRIES", "2"),
        PIP_NO_INPUT="1",
    )
    for command in commands:
        last = command is commands[-1]
        quiet = [] if sys.stdout.isatty() else ["--quiet"]
        done = subprocess.run(
            [*command, *quiet, *arguments],
            env=env,
            cwd=str(ROOT),
            stderr=subprocess.PIPE if last else subprocess.DEVNULL,
        )
        if done.returncode == 0:
            return
    output = done.stderr.decode(errors="replace")
    print("\n".join(output.strip().splitlines()[-12:]), file=sys.stderr)
    raise Help(explain(output, free_gb()))


def set_up():
    """Make .venv and install into it, unless it is already there and up to date."""
    if STAMP.exists() and STAMP.read_text() == wanted() and PYTHON.exists():
        return
    check_python(sys.version_info, platform.system(), platform.machine())
    nvidia = has_nvidia()
    offline = carried(WHEELS, sys.version_info, platform.system(), platform.machine())
    build = (
        "carried"
        if offline
        else torch_build(platform.system(), nvidia, os.environ.get("SDLEARN_TORCH", "auto"))
    )
    need = NEEDED_GB_CUDA if not offline and (nvidia or build.startswith("cu")) else NEEDED_GB
    if not PYTHON.exists() and free_gb() < need:
        raise Help(
            f"The first start needs about {need} GB of disk and {free_gb():.1f} GB are free: "
            "make room and start again."
        )
    make_venv()
    args = offline or torch_args(build, reachable)
    by = installers(build, args, shutil.which("uv"))
    torch = next(
        line.split("#")[0].strip()
        for line in (ROOT / "requirements.txt").read_text().splitlines()
        if line.startswith("torch==")
    )
    print(
        f"Installing {torch} ({build} build) and the rest; this happens once and takes minutes ...",
        flush=True,
    )
    install(by["torch"], [torch, *args])
    install(by["rest"], ["-r", "requirements.txt", *offline])
    install(by["rest"], ["--no-deps", "--no-build-isolation", "-e", ".", *offline])
    STAMP.write_text(wanted())


# ----------------------------------------------------------------------------------------- commands


def lab_args(args, is_free=port_is_free):
    """JupyterLab's arguments: notebook 00 is open, the port is one that is free."""
    args = list(args)
    asked = [
        a.split("=", 1)[1] if "=" in a else args[i + 1]
        for i, a in enumerate(args)
        if a.split("=")[0] in ("--port", "--ServerApp.port") and ("=" in a or i + 1 < len(args))
    ]
    if asked and asked[-1].isdigit() and not is_free(int(asked[-1])):
        raise Help(
            f"Port {asked[-1]} is taken, perhaps by a JupyterLab that is already running: close "
            f"it, or choose another, such as --port {int(asked[-1]) + 1}."
        )
    if not asked:
        port = next((p for p in range(8888, 8988) if is_free(p)), 0)
        if port != 8888:
            print(
                f"Port 8888 is taken (another JupyterLab?): using {port or 'any that is free'}.",
                flush=True,
            )
        args.append(f"--port={port}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        args += ["--allow-root"]  # containers
    first = "notebooks/00_first_image.ipynb"
    quiet = [
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # nothing is asked of the network
    return (
        args
        + quiet
        + (
            [first]
            if (ROOT / first).exists() and not any(a.endswith(".ipynb") for a in args)
            else []
        )
    )


def test_args(args):
    """pytest's arguments: two at a time, each chapter once, unless a file or a number is named."""
    named = any(a.startswith(("-n", "--numprocesses", "--pdb", "tests")) for a in args)
    return list(args) if named else ["-n", "2", "--no-loadscope-reorder", *args]


def main(argv):
    command, args = (argv[0], argv[1:]) if argv and not argv[0].startswith("--") else ("lab", argv)
    if "--help" in argv[:1] or command not in COMMANDS:
        known = "\n".join(f"    {name:10} {about}" for name, (about, module) in COMMANDS.items())
        print(
            (__doc__ if command in COMMANDS else f"There is no command {command!r}.")
            + "\nCommands:\n"
            + known
        )
        return 0 if command in COMMANDS else 2
    module = COMMANDS[command][1]
    if module.startswith("tools.") and not (ROOT / (module.replace(".", "/") + ".py")).exists():
        raise Help(f"This copy of sdlearn has no command {command!r} yet.")
    set_up()
    if command == "lab":
        args = lab_args(args)
    if command == "test":
        args = test_args(args)
    os.chdir(str(ROOT))
    os.environ.update(
        VIRTUAL_ENV=str(VENV), PATH=str(PYTHON.parent) + os.pathsep + os.environ.get("PATH", "")
    )  # so that `!python` in a cell is this one
    line = [str(PYTHON), "-m", module, *args]
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(line[0], line)  # Ctrl-C and the exit code are the command's own
    child = subprocess.Popen(line)
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:
            pass  # the command hears it too and ends as it sees fit


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Help as sentence:
        sys.exit(f"run.py: {sentence}")
    except KeyboardInterrupt:
        sys.exit("run.py: stopped; start again, it goes on where it stopped.")

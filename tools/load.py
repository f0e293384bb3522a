"""Measure how many learners one server holds: ``python -m tools.load``.

Starts 1, 5 and 10 Jupyter kernels at the same moment. Each does what a learner does first: the
first cells of notebook 00, up to the first picture; then all press Generate at the same moment once
more. Each kernel computes with one thread, as a shared server should set it: by PyTorch's own
choice every kernel takes all cores, and threads that wait for each other keep those busy that work.
The rest follows by division. The tables are written into docs/teaching.md.
"""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import NamedTuple

import psutil

from tools import write_between
from tools.notebooks import FOLDER

PAGE = FOLDER.parent / "docs" / "teaching.md"
CELLS = ("c01", "c03")  # of notebook 00: imports and the model; the first picture
SERVERS = ((4, 2), (8, 2), (8, 4), (16, 4), (32, 8), (64, 16))  # memory in GB, cores
SYSTEM_GB = 1.5  # for the operating system and what starts the kernels
AT_ONCE = 0.2  # share of the learners who press Generate at the same moment
WAIT = 10.0  # seconds that the last of these may wait


class Load(NamedTuple):
    """What a number of kernels at once cost."""

    kernels: int
    first: tuple[float, ...]  # seconds of each kernel from its start to its first picture
    again: tuple[float, ...]  # ... from pressing Generate to a picture, when all press at once
    memory: tuple[float, ...]  # MB of each kernel, pages that several share counted once


def memory_mb(process: psutil.Process) -> float:
    """What a process and its children hold: shared pages by share (PSS) on Linux, elsewhere USS."""
    full = [one.memory_full_info() for one in (process, *process.children(recursive=True))]
    return sum(getattr(info, "pss", 0) or info.uss for info in full) / 1e6


def lesson() -> list[str]:
    """The source of the cells that a learner runs, from the notebook itself."""
    import nbformat

    nb = nbformat.read(next(FOLDER.glob("00_*.ipynb")), as_version=4)
    cells = {cell.id: cell.source for cell in nb.cells}
    return [cells[id] for id in CELLS]


@contextmanager
def kernel() -> Iterator[tuple[Callable[[str], None], psutil.Process]]:
    """A fresh kernel with one thread: a function that runs a cell and waits, and the process."""
    from jupyter_client.manager import start_new_kernel

    env = {k: v for k, v in os.environ.items() if k != "SDLEARN_MODEL"} | {"OMP_NUM_THREADS": "1"}
    quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    manager, client = start_new_kernel(startup_timeout=600, cwd=str(FOLDER), env=env, **quiet)

    def run(source: str) -> None:
        said = client.execute_interactive(source, timeout=1800, output_hook=lambda message: None)
        if (reply := said["content"])["status"] != "ok":
            raise RuntimeError(f"The cell failed: {reply.get('ename')}: {reply.get('evalue')}")

    try:
        yield run, psutil.Process(manager.provisioner.process.pid)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def measure(kernels: int, cells: list[str]) -> Load:
    """Start that many at the same moment, run the cells in each, then the last cell once more."""
    with ExitStack() as stack, ThreadPoolExecutor(kernels) as pool:

        def begin(start: float):
            run, process = stack.enter_context(kernel())
            for source in cells:
                run(source)
            return time.perf_counter() - start, run, process

        def press(run) -> float:
            start = time.perf_counter()
            run(cells[-1])
            return time.perf_counter() - start

        first, runs, processes = zip(*pool.map(begin, [time.perf_counter()] * kernels), strict=True)
        again = tuple(pool.map(press, runs))
        return Load(kernels, first, again, tuple(map(memory_mb, processes)))


def server_mb() -> float:
    """What one idle JupyterLab server holds: a hub starts one for each learner."""
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += ["--ServerApp.port=0", "--LabApp.news_url=None"]
    to = dict(stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with subprocess.Popen(command, cwd=FOLDER, text=True, **to) as process:
        try:
            if not any("is running at" in line for line in process.stderr):
                raise RuntimeError("JupyterLab does not start here: `python run.py lab` says why.")
            return memory_mb(psutil.Process(process.pid))
        finally:
            process.terminate()


def report(loads: list[Load], server: float, cores: int) -> str:
    """Two tables, and between them how the second follows from the first.

    Memory: (GB - SYSTEM_GB) / (kernel + server of one learner). Waiting: a picture costs
    ``cores * slowest / kernels`` seconds of one core when all press at once; AT_ONCE of the
    learners do, and the last should wait at most WAIT seconds.
    """
    lines = ["| kernels | memory of one | first picture: half | the last | next: half | the last |"]
    lines += ["|---|---|---|---|---|---|"]
    for x in loads:
        times = (f"{f(t):.1f} s" for t in (x.first, x.again) for f in (statistics.median, max))
        lines.append(f"| {x.kernels} | {statistics.mean(x.memory):.0f} MB | {' | '.join(times)} |")
    most = max(loads, key=lambda x: x.kernels)
    each = (statistics.mean(most.memory) + server) / 1000
    picture, opening = (cores * max(t) / most.kernels for t in (most.again, most.first))
    lines += [
        "",
        f"One learner: a kernel and a JupyterLab of {server:.0f} MB, {each:.2f} GB together. "
        f"Of {most.kernels} at once on {cores} cores, a picture costs {cores} × "
        f"{max(most.again):.1f} / {most.kernels} = {picture:.1f} core-seconds, and the first one, "
        f"with starting the kernel and loading the model, {opening:.1f}.",
        f"Memory holds (GB − {SYSTEM_GB:g} for the system) / {each:.2f} learners. If {AT_ONCE:.0%} "
        f"of them press Generate at the same moment and the last should wait at most {WAIT:g} s, "
        f"the cores hold {WAIT:g} × cores / ({AT_ONCE:g} × {picture:.1f}).",
        "",
        "| server | by memory | by waiting | if all open the notebook at once, the last waits |",
        "|---|---|---|---|",
    ]
    for gb, n in SERVERS:
        by_memory = max(0, math.floor((gb - SYSTEM_GB) / each))
        by_waiting = math.floor(WAIT * n / (AT_ONCE * picture))
        wait = min(by_memory, by_waiting) * opening / n
        lines.append(f"| {gb} GB, {n} cores | {by_memory} | {by_waiting} | {wait:.0f} s |")
    return "\n".join(lines)


def main(page: Path = PAGE, kernels: tuple[int, ...] = (1, 5, 10)) -> int:
    cores = os.cpu_count() or 1
    loads = [measure(n, lesson()) for n in kernels]
    machine = f"{cores} cores ({platform.machine()}, {platform.system()})"
    text = f"{report(loads, server_mb(), cores)}\n\nMeasured {date.today()} on {machine}."
    print(text)
    write_between(page, "load", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

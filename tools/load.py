"""Measure how many learners one server holds: ``python run.py load [--kernels 1 5 10] [--threads 1] [--at-once 0.2] [--wait 10] [--markdown]``.

Starts that many Jupyter kernels at the same moment. Each does what a learner does first: the first cells of notebook 00, up to the first picture. When all have it, all press
Generate at the same moment once more. Each kernel computes with one thread, as a shared server should set it: by PyTorch's own choice every kernel takes
all cores, and threads that wait for each other keep those busy that work. From the largest number the rest follows by division, and the arithmetic is printed with it.
"""

from __future__ import annotations

import argparse
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
NOTEBOOK, CELLS = "00_first_image", ("c01", "c03")  # imports and the model; the first picture
SERVERS = ((4, 2), (8, 2), (8, 4), (16, 4), (32, 8), (64, 16))  # memory in GB, cores
SYSTEM_GB = 1.5  # for the operating system and what starts the kernels


class Load(NamedTuple):
    """What a number of kernels at once cost."""

    kernels: int
    first: tuple[float, ...]  # seconds of each kernel from its start to its first picture
    again: tuple[float, ...]  # ... from pressing Generate to a picture, when all press at once
    memory: tuple[float, ...]  # MB of each kernel, pages that several share counted once


class Limits(NamedTuple):
    """What a server of some size holds."""

    by_memory: int
    by_waiting: int
    opening: float  # seconds to the first picture if that many open the notebook at the same moment

    @property
    def learners(self) -> int:
        return min(self.by_memory, self.by_waiting)


def memory_mb(process: psutil.Process) -> float:
    """What a process holds, with its children. Shared pages count by share (PSS) on Linux; elsewhere only what is its own (USS)."""
    total = 0
    for one in (process, *process.children(recursive=True)):
        full = one.memory_full_info()
        total += getattr(full, "pss", 0) or full.uss
    return total / 1e6


def lesson(name: str = NOTEBOOK, ids: tuple[str, ...] = CELLS) -> list[str]:
    """The source of the cells that a learner runs, from the notebook itself."""
    import nbformat

    cells = {
        cell.id: cell.source for cell in nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells
    }
    return [cells[id] for id in ids]


@contextmanager
def kernel(threads: int) -> Iterator[tuple[Callable[[str], None], psutil.Process]]:
    """A fresh kernel, as Jupyter starts one, that computes with so many threads (0: PyTorch's own choice).

    Yields a function that runs a cell and waits for it, and the process."""
    from jupyter_client.manager import start_new_kernel

    env = {k: v for k, v in os.environ.items() if k != "SDLEARN_MODEL"} | (
        {"OMP_NUM_THREADS": str(threads)} if threads else {}
    )
    manager, client = start_new_kernel(
        kernel_name="python3",
        startup_timeout=600,
        cwd=str(FOLDER),
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def run(source: str) -> None:
        reply = client.execute_interactive(source, timeout=1800, output_hook=lambda message: None)[
            "content"
        ]
        if reply["status"] != "ok":
            raise RuntimeError(
                f"The cell failed in its kernel: {reply.get('ename')}: {reply.get('evalue')}"
            )

    try:
        yield run, psutil.Process(manager.provisioner.process.pid)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def measure(kernels: int, cells: list[str], threads: int = 1) -> Load:
    """Start that many kernels at the same moment, run the cells in each, then the last cell in all of them once more."""
    with ExitStack() as stack, ThreadPoolExecutor(kernels) as pool:

        def begin(start: float):
            run, process = stack.enter_context(kernel(threads))
            for source in cells:
                run(source)
            return time.perf_counter() - start, run, process

        first, runs, processes = zip(*pool.map(begin, [time.perf_counter()] * kernels), strict=True)

        def press(run) -> float:
            start = time.perf_counter()
            run(cells[-1])
            return time.perf_counter() - start

        again = tuple(pool.map(press, runs))
        return Load(kernels, first, again, tuple(map(memory_mb, processes)))


def server_mb() -> float:
    """What one idle JupyterLab server holds: a hub starts one for each learner."""
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--ServerApp.port=0",
        "--allow-root",
        "--LabApp.news_url=None",
    ]
    with subprocess.Popen(
        command, cwd=FOLDER, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            if not any("is running at" in line for line in process.stderr):
                raise RuntimeError("JupyterLab does not start here: `python run.py lab` says why.")
            return memory_mb(psutil.Process(process.pid))
        finally:
            process.terminate()


def limits(
    load: Load,
    server: float,
    gb: float,
    cores: int,
    *,
    measured_cores: int,
    at_once: float,
    wait: float,
) -> Limits:
    """How many learners a server of ``gb`` and ``cores`` holds.

    Memory: (gb - SYSTEM_GB) / (kernel + server of one learner).
    Waiting: a picture costs ``measured_cores * slowest / kernels`` seconds of one core when all press at once; ``at_once`` of the
    learners do, and the last shall wait ``wait`` seconds.

    Args:
        load: measured, with as many kernels as possible.
        server: MB of one learner's JupyterLab.
        gb, cores: the server in question.
        measured_cores: of the machine that was measured.
        at_once: share of the learners who press Generate at the same moment, above 0 to 1.
        wait: seconds that the last of these may wait.
    """
    each = statistics.mean(load.memory) + server
    picture = measured_cores * max(load.again) / load.kernels
    opening = measured_cores * max(load.first) / load.kernels
    by_memory = max(0, math.floor(1000 * (gb - SYSTEM_GB) / each))
    by_waiting = math.floor(wait * cores / (at_once * picture))
    return Limits(by_memory, by_waiting, min(by_memory, by_waiting) * opening / cores)


def report(loads: list[Load], server: float, *, cores: int, at_once: float, wait: float) -> str:
    """Two tables and the arithmetic between them."""

    def middle_and_worst(times):
        return f"{statistics.median(times):.1f} s | {max(times):.1f} s"

    lines = [
        "| kernels at once | memory of one | of all | first picture: half have it after | the last after | all press again: half | the last |"
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    lines += [
        f"| {x.kernels} | {statistics.mean(x.memory):.0f} MB | {sum(x.memory) / 1000:.1f} GB | {middle_and_worst(x.first)} | {middle_and_worst(x.again)} |"
        for x in loads
    ]
    most = max(loads, key=lambda x: x.kernels)
    each, picture, opening = (
        statistics.mean(most.memory) + server,
        cores * max(most.again) / most.kernels,
        cores * max(most.first) / most.kernels,
    )
    lines += [
        "",
        f"One learner: a kernel of {statistics.mean(most.memory):.0f} MB and a JupyterLab of {server:.0f} MB, {each:.0f} MB together.",
        f"With {most.kernels} at once on {cores} cores, the last picture came after {max(most.again):.1f} s, "
        f"so a picture costs {cores} × {max(most.again):.1f} / {most.kernels} = {picture:.1f} core-seconds, "
        f"and the first one, with starting the kernel and loading the model, {cores} × {max(most.first):.1f} / {most.kernels} = {opening:.1f}.",
        f"Memory holds (GB − {SYSTEM_GB:g} for the system) / {each / 1000:.2f} GB learners. "
        f"If {at_once:.0%} of them press Generate at the same moment and the last shall wait {wait:g} s, the cores hold {wait:g} × cores / ({at_once:g} × {picture:.1f}).",
        "",
        "| server | by memory | by waiting | learners | if all of them open the notebook at the same moment, the last has a picture after |",
        "|---|---|---|---|---|",
    ]
    for gb, n in SERVERS:
        limit = limits(most, server, gb, n, measured_cores=cores, at_once=at_once, wait=wait)
        lines.append(
            f"| {gb} GB, {n} cores | {limit.by_memory} | {limit.by_waiting} | **{limit.learners}** | {limit.opening:.0f} s |"
        )
    return "\n".join(lines)


def share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError("a share above 0, at most 1, such as 0.2")
    return value


def main(argv: list[str] | None = None, page: Path = PAGE) -> int:
    parser = argparse.ArgumentParser(
        prog="python run.py load", description="Measure how many learners one server holds."
    )
    parser.add_argument(
        "--kernels",
        type=int,
        nargs="+",
        default=[1, 5, 10],
        help="how many at once, one after another (1 5 10)",
    )
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="threads of each kernel, OMP_NUM_THREADS (1); 0 leaves it to PyTorch, which takes all cores",
    )
    parser.add_argument(
        "--at-once",
        type=share,
        default=0.2,
        help="share of the learners who press Generate at the same moment (0.2)",
    )
    parser.add_argument(
        "--wait", type=float, default=10.0, help="seconds that the last of them may wait (10)"
    )
    parser.add_argument(
        "--markdown", action="store_true", help="write the tables into docs/teaching.md"
    )
    options = parser.parse_args(argv)
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if busy > 0.5 * cores:
        print(
            f"This machine is busy (load {busy:.1f}): what follows is slower than it would be.",
            file=sys.stderr,
        )
    cells, loads = lesson(), []
    for n in options.kernels:
        loads.append(measure(n, cells, options.threads))
        x = loads[-1]
        print(
            f"{n} at once: {sum(x.memory):.0f} MB, first picture {max(x.first):.1f} s at worst, the next {max(x.again):.1f} s",
            file=sys.stderr,
            flush=True,
        )
    machine = f"{cores} cores ({platform.machine()}, {platform.system()}, {psutil.virtual_memory().total / 1e9:.0f} GB)"
    threads = (
        f"OMP_NUM_THREADS={options.threads}" if options.threads else "the threads left to PyTorch"
    )
    measured = f"Measured {date.today()} by `python run.py load` on {machine}, load before it {busy:.1f}, {threads}."
    text = f"{report(loads, server_mb(), cores=cores, at_once=options.at_once, wait=options.wait)}\n\n{measured}"
    print(text)
    if options.markdown:
        write_between(page, "load", text)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Execute the notebooks in place: ``python run.py notebooks [NAME ...]``.

Each runs from the top in a clean kernel of its own and is written back without what does not belong
into a committed file: widget output (a saved page could not show it), the set-up cell's script,
stderr, timestamps and this machine's paths.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "notebooks"
WIDGET = "application/vnd.jupyter.widget-view+json"


class Execution(NamedTuple):
    """What running one notebook cost."""

    seconds: float
    peak_mb: float
    error: str | None  # the failing cell and its message, if there was one


def find(names: list[str] | None = None) -> list[Path]:
    """All notebooks, solutions last, or those whose path under notebooks/ contains one of the names
    ("01", "solutions/03").

    Raises:
        FileNotFoundError: if a name fits none.
    """
    paths = [p for folder in (FOLDER, FOLDER / "solutions") for p in sorted(folder.glob("*.ipynb"))]
    chosen = []
    for name in names or [""]:
        fitting = [
            p for p in paths if name.removeprefix("notebooks/") in p.relative_to(FOLDER).as_posix()
        ]
        if not fitting:
            raise FileNotFoundError(
                f"No notebook is called {name!r}: there are "
                f"{', '.join(p.relative_to(FOLDER).as_posix() for p in paths) or 'none yet'}."
            )
        chosen += [p for p in fitting if p not in chosen]
    return chosen


def peak_memory(pid: int) -> float:
    """The most memory a process has held so far, in MB; on macOS, which does not tell, what it
    holds now."""
    import psutil

    status = Path(f"/proc/{pid}/status")
    if status.exists():
        return (
            next(
                int(line.split()[1])
                for line in status.read_text().splitlines()
                if line.startswith("VmHWM")
            )
            / 1000
        )
    info = psutil.Process(pid).memory_info()
    return getattr(info, "peak_wset", info.rss) / 1e6


def execute(nb, folder: Path, timeout: float = 900, env: dict | None = None) -> Execution:
    """Run a notebook's cells, in place, in a clean kernel that works in ``folder``.

    It stops at the first error. ``env`` is the kernel's environment, this process's if None.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    client = NotebookClient(
        nb,
        timeout=timeout,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    )
    start, error = time.perf_counter(), None
    more = {} if env is None else {"env": env}
    # the kernel's own log is dropped; a cell's stderr arrives as an output
    with client.setup_kernel(stderr=subprocess.DEVNULL, **more):
        for index, cell in enumerate(nb.cells):
            try:
                client.execute_cell(cell, index)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as problem:
                error = f"cell {index}: {getattr(problem, 'traceback', problem)}"
                break
        seconds = time.perf_counter() - start
        kernel = client.km.provisioner.process
        peak = peak_memory(kernel.pid) if kernel.poll() is None else float("nan")
    return Execution(seconds, peak, error)


def clean(nb) -> None:
    """Strip, in place, what a committed notebook must not hold."""
    nb.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in nb.cells:
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in ("tags", "jupyter")}
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not _unwanted(o)]
            for output in cell.outputs:
                if "text" in output:
                    output.text = _relative(output.text)
                for kind, value in output.get("data", {}).items():
                    if isinstance(value, str) and kind.startswith("text/"):
                        output.data[kind] = _relative(value)


def _unwanted(output) -> bool:
    if output.output_type == "stream":
        return output.name == "stderr"
    data = output.get("data", {})
    return (
        WIDGET in data
        or "application/javascript" in data
        or "<script" in str(data.get("text/html", ""))
    )


def _relative(text: str) -> str:
    """This machine's paths as a reader would write them: from the repository, or from the home
    folder."""
    for path in (ROOT, ROOT.resolve()):
        text = text.replace(f"{path}{os.sep}", "").replace(str(path), ".")
    return text.replace(str(Path.home()) + os.sep, "~" + os.sep)


def main(names: list[str]) -> int:
    import nbformat

    os.environ.pop("SDLEARN_MODEL", None)  # committed notebooks show Tiny SD
    try:
        paths = find(names)
    except FileNotFoundError as sentence:
        print(sentence, file=sys.stderr)
        return 2
    failed, total = 0, 0.0
    print(f"{'notebook':42} {'time':>8} {'memory':>9} {'file':>8}")
    for path in paths:
        nb = nbformat.read(path, as_version=4)
        done = execute(nb, path.parent)
        total += done.seconds
        print(
            f"{path.relative_to(FOLDER).as_posix():42} {done.seconds:6.1f} s "
            f"{done.peak_mb:6.0f} MB ",
            end="",
            flush=True,
        )
        if done.error:
            failed += 1
            print(f"   FAILED, left as it was\n{done.error}")
            continue
        noise = "".join(
            o.text
            for c in nb.cells
            if c.cell_type == "code"
            for o in c.outputs
            if o.output_type == "stream" and o.name == "stderr"
        )
        clean(nb)
        nbformat.validate(nb)
        nbformat.write(nb, path)
        print(f"{path.stat().st_size / 1e6:5.2f} MB", flush=True)
        if noise.strip():
            print("    stripped from stderr: " + noise.strip().replace("\n", "\n    ")[:1500])
    print(f"{'together':42} {total:6.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

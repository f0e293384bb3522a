"""How fast the live page is, how much it sends, what a tab of it takes: the figures by command.

``python -m tools.web_bench [FOLDER]`` opens the page of FOLDER (``site`` unless told, made by
``python run.py site``) in Chromium, from a server on this machine and from the disk, draws,
and prints a table; torch draws the same in the same minute, on one thread and on all.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import os
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tools import web_model, write_between
from tools.notebooks import ROOT

ALONE = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"  # no network but this machine
WAIT_MS = 300_000  # for a picture on a busy machine


class Quiet(http.server.SimpleHTTPRequestHandler):
    """A static server that keeps its log to itself."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder, served on this machine."""
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def chromium() -> Iterator:
    """A browser that reaches nothing but this machine."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        where = shutil.which("chromium")
        options = {"executable_path": where} if where else {}
        browser = play.chromium.launch(args=["--no-sandbox", ALONE], **options)
        try:
            yield browser
        finally:
            browser.close()


def drawn(page, quick: bool) -> dict:
    """What the page says of the picture it has just drawn, when it is there."""
    page.wait_for_function(
        "quick => globalThis.lastRun?.quick === quick", arg=quick, timeout=WAIT_MS
    )
    return page.evaluate("lastRun")


class Memory(threading.Thread):
    """The most that any of Chromium's tabs has taken, in MB: its own share of what it maps."""

    def __init__(self, interval: float = 0.3):
        super().__init__(daemon=True)
        self.interval, self.most, self.now, self.going = interval, 0.0, 0.0, True

    def run(self) -> None:
        import psutil

        while self.going:
            sizes = [0.0]
            for child in psutil.Process().children(recursive=True):
                try:
                    if "--type=renderer" in child.cmdline():
                        sizes.append(child.memory_full_info().pss / 1e6)
                except psutil.Error:
                    pass
            self.now = max(sizes)
            self.most = max(self.most, self.now)
            time.sleep(self.interval)


def measure_page(address: str, pictures: int = 20) -> dict[str, float]:
    """Seconds, bytes and MB of one visit: load, first picture, full picture, many pictures."""
    with chromium() as browser:
        memory, page, got = Memory(), browser.new_page(), []
        page.on("requestfinished", lambda request: got.append(request.sizes()["responseBodySize"]))
        memory.start()
        page.goto(address)
        begin = time.perf_counter()
        page.click("#start")
        first = drawn(page, quick=True)
        found = {"first": time.perf_counter() - begin, "MB": sum(got) / 1e6}
        quick = []
        for _ in range(pictures):
            page.evaluate("lastRun = null")
            page.click("#reseed")
            quick.append(drawn(page, quick=True))
        page.evaluate("lastRun = null")
        page.click("#draw")
        full = drawn(page, quick=False)
        page.wait_for_timeout(500)
        best = min(quick, key=lambda run: run["seconds"])
        found |= {"quick": best["seconds"], "step": best["step"], "full": full["seconds"]}
        found |= {"cold": first["seconds"], "peak": memory.most, "after": memory.now}
        memory.going = False
        memory.join()
    return found


def measure_torch(model: str | None, page: dict, threads: int) -> dict[str, float]:
    """The same pictures by sdlearn."""
    import torch

    from sdlearn import load_pipeline, sample

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    pipe, found = load_pipeline(model), {}
    for name, options in (("quick", page["quick"]), ("full", page["defaults"])):
        seconds = []
        for _ in range(4):
            begin = time.perf_counter()
            sample(pipe, page["sentences"][0], seed=0, **options)
            seconds.append(time.perf_counter() - begin)
        found[name] = min(seconds)
    torch.set_num_threads(before)
    return found


def table(page: dict, http_: dict, disk: dict, torch_: dict[int, dict]) -> str:
    """The figures as Markdown."""
    steps = {name: page[name]["num_inference_steps"] for name in ("quick", "defaults")}
    titles = [f"torch, {n} thread{'s' * (n > 1)}" for n in torch_]
    rows = [
        ["", "page, from a server", "page, from a disk", *titles],
        ["---"] * (3 + len(titles)),
        ["load and first picture, s", f"{http_['first']:.1f}", f"{disk['first']:.1f}"],
        ["one guided step, ms", f"{1000 * http_['step']:.0f}", f"{1000 * disk['step']:.0f}"],
    ]
    for label, name, key in (("quick", "quick", "quick"), ("full", "full", "defaults")):
        others = [f"{one[name]:.2f}" for one in torch_.values()]
        title = f"{label} picture, {steps[key]} steps, s"
        rows.append([title, f"{http_[name]:.2f}", f"{disk[name]:.2f}", *others])
    sizes = [sum(f["bytes"] for f in page["files"] if later or not f.get("later")) / 1e6
             for later in (False, True)]  # fmt: skip
    rows += [
        ["model, before the first picture, MB", f"{sizes[0]:.1f}", f"{sizes[0] * 4 / 3:.1f}"],
        ["model with the judge, MB", f"{sizes[1]:.1f}", f"{sizes[1] * 4 / 3:.1f}"],
        ["tab at its peak, MB", f"{http_['peak']:.0f}", f"{disk['peak']:.0f}"],
        ["tab after all pictures, MB", f"{http_['after']:.0f}", f"{disk['after']:.0f}"],
    ]
    width = len(rows[0])
    return "\n".join(f"| {' | '.join(row + [''] * (width - len(row)))} |" for row in rows)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.web_bench", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "site")
    parser.add_argument("--model", help="the model it was made of; the one that ships unless told")
    parser.add_argument("--pictures", type=int, default=20, help="quick pictures to draw")
    parser.add_argument("--write", action="store_true", help="put it into docs/measured.md")
    options = parser.parse_args(argv)
    data = options.folder / web_model.FILES / "page.json"
    if not data.exists():
        print(f"{options.folder} holds no live page: make one by `python run.py site`.")
        return 2
    from tools.bench import machine

    warnings.simplefilter("ignore")
    page = json.loads(data.read_text(encoding="utf-8"))
    folder = options.folder.resolve()
    with served(folder) as address:
        server = measure_page(f"{address}/index.html", options.pictures)
    disk = measure_page((folder / "index.html").as_uri(), options.pictures)
    threads = dict.fromkeys([1, os.cpu_count() or 1])
    others = {n: measure_torch(options.model, page, n) for n in threads}
    text = f"{table(page, server, disk, others)}\n\nMeasured {machine()}."
    print(text)
    if options.write:
        write_between(ROOT / "docs" / "measured.md", "live", text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

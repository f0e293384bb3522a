"""Start JupyterLab on the loopback address and drive it in a headless Chromium, without one fixed
sleep.

with lab(folder) as server, browser() as chromium:
    page = new_page(chromium)
    server.open(page, "lesson.ipynb")
    run_all(page)
    before = look(page, ".my-control")
    page.locator(".my-control .noUi-handle").press("ArrowRight")
    wait_until_changed(page, ".my-control", before)
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

# seconds; every wait is for an event and ends as soon as it is there, so this is only how long a
# broken test hangs
WAIT = 180.0
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_QUIET = (
    "--no-first-run",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-quic",
)


def missing() -> str | None:
    """Why no browser can be driven here, or None."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed (pip install playwright)"
    if not chromium_path():
        return "no Chromium on the PATH (Debian: apt install chromium)"
    return None


def chromium_path() -> str | None:
    return next(filter(None, map(shutil.which, _CHROMIUM)), None)


@contextlib.contextmanager
def browser():
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    root = (
        hasattr(os, "geteuid") and os.geteuid() == 0
    )  # Chromium's sandbox refuses to start as root
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=chromium_path(), args=[*_QUIET, *(["--no-sandbox"] if root else [])]
        )
        try:
            yield chromium
        finally:
            chromium.close()


def new_page(chromium, width: int = 1280, height: int = 1000):
    """A page in a fresh profile; what its scripts throw is gathered in `page.errors`."""
    page = chromium.new_context(viewport={"width": width, "height": height}).new_page()
    page.set_default_timeout(WAIT * 1000)
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    return page


class Server:
    """A running JupyterLab: its address and token."""

    def __init__(self, url: str, token: str):
        self.url, self.token = url, token

    def open_cells(self, page, root: Path, sources: list[str]) -> None:
        """Write a notebook of these cells into the served folder, open it and run it."""
        import nbformat

        v4 = nbformat.v4
        notebook = v4.new_notebook(cells=[v4.new_code_cell(source.strip()) for source in sources])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
        nbformat.write(notebook, Path(root) / "cells.ipynb")
        self.open(page, "cells.ipynb")
        run_all(page)

    def open(self, page, path: str) -> None:
        """Open a notebook and wait for its kernel to answer."""
        page.goto(f"{self.url}lab/tree/{path}?reset&token={self.token}")
        page.wait_for_function(
            """() => {
                const tab = window.jupyterapp?.shell?.currentWidget;
                const kernel = tab?.sessionContext?.session?.kernel;
                return tab?.context?.isReady && tab.sessionContext.isReady
                    && kernel?.connectionStatus === 'connected' && kernel.status === 'idle'; }"""
        )


_OPTIONS = (
    "--no-browser",
    "--ip=127.0.0.1",
    "--port=0",
    "--allow-root",
    "--expose-app-in-browser",
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    "--LabApp.extension_manager=readonly",
)


def _home(home: Path) -> dict[str, str]:
    """The environment of a JupyterLab that keeps all it writes in one folder."""
    news = home / "SETTINGS/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    # or a question about it covers a corner of the page
    news.write_text('{"fetchNews": "false"}')
    places = {f"JUPYTER_{name}_DIR": f"{home}/{name}" for name in ("CONFIG", "DATA", "RUNTIME")}
    places |= {f"JUPYTERLAB_{name}_DIR": f"{home}/{name}" for name in ("SETTINGS", "WORKSPACES")}
    return {"HOME": str(home), "USERPROFILE": str(home), "IPYTHONDIR": f"{home}/ipython"} | places


@contextlib.contextmanager
def lab(root, python: str = sys.executable, **environment: str):
    """JupyterLab serving the folder `root`, with a home directory of its own; a Server."""
    with tempfile.TemporaryDirectory(prefix="labhome", ignore_cleanup_errors=True) as home:
        env = os.environ | _home(Path(home)) | environment
        log, options = Path(home, "log"), (*_OPTIONS, f"--ServerApp.root_dir={root}")
        with log.open("w") as out:
            process = subprocess.Popen(
                [python, "-m", "jupyterlab", *options],
                env=env,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
        try:
            yield _started(process, Path(home, "RUNTIME"), log)
        finally:
            process.terminate()  # the server ends its kernels
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _started(process, runtime: Path, log: Path) -> Server:
    """The server writes its own port and token into the runtime folder, then begins to answer."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, StopIteration, ValueError, KeyError):
            info = json.loads(next(runtime.glob("jpserver-*.json")).read_text())
            if info["port"]:
                urllib.request.urlopen(f"{info['url']}api", timeout=5).close()
                return Server(info["url"], info["token"])
        time.sleep(0.05)
    raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()}")


def run_all(page, timeout: float = 180) -> None:
    """Run all cells by the command registry; AssertionError if one did not run or ended in an
    error."""
    page.evaluate(
        """(ms) => Promise.race([
            window.jupyterapp.commands.execute('notebook:run-all-cells'),
            new Promise((_, no) => setTimeout(() => no(new Error('the cells took too long')), ms)),
        ])""",
        timeout * 1000,
    )
    cells = page.evaluate(
        """() => window.jupyterapp.shell.currentWidget.content.widgets
                 .map(({model}) => model)
                 .filter((model) => model.type === 'code' && model.sharedModel.source.trim())
                 .map((model) => [model.executionCount, model.outputs.toJSON()
                     .filter((o) => o.output_type === 'error')
                     .map((o) => `${o.ename}: ${o.evalue}`).join()])"""
    )
    bad = [
        (number, count, error)
        for number, (count, error) in enumerate(cells, 1)
        if count is None or error
    ]
    assert not bad, f"cells that did not run or failed: {bad}"


def ask_kernel(page, code: str) -> str:
    """What `code` prints in the kernel of the open notebook."""
    return page.evaluate(
        """async (code) => {
            let text = '';
            const {kernel} = window.jupyterapp.shell.currentWidget.sessionContext.session;
            const asked = kernel.requestExecute({code, store_history: false});
            asked.onIOPub = ({content}) => {
                text += content.text ?? content.traceback?.join('') ?? '';
            };
            await asked.done;
            return text.trim();
        }""",
        code,
    )


def shut_kernel_down(page) -> None:
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.wait_for_function(
        "() => !window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel"
    )


def restart_kernel(page) -> None:
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.restartKernel()")


def bring(page, selector: str) -> None:
    """Scroll the control into the middle and wait until its picture is decoded and stands still."""
    page.locator(selector).first.wait_for(state="attached")
    page.locator(selector).first.evaluate("(control) => control.scrollIntoView({block: 'center'})")
    page.locator(selector).first.evaluate(
        """async (control) => {
            const shown = () => [...control.querySelectorAll('img')]
                .find((i) => i.offsetParent && i.complete && i.naturalWidth);
            let last = '', same = 0;
            while (same < 4) {  // the same place over four frames of the screen
                await new Promise(requestAnimationFrame);
                const box = shown() ? JSON.stringify(shown().getBoundingClientRect()) : '';
                same = box && box === last ? same + 1 : 0;
                last = box;
            }
        }"""
    )


def look(page, selector: str) -> bytes:
    """The pixels of the picture a control shows now, as the reader sees them. (The page is clipped,
    because the picture may be replaced while it is looked at.)"""
    box = page.locator(selector).first.evaluate(
        """(control) => {
            const seen = [...control.querySelectorAll('img')]
                .find((i) => i.offsetParent && i.complete && i.naturalWidth);
            if (!seen) return null;
            const {x, y, width, height} = seen.getBoundingClientRect();
            return {x, y, width, height}; }"""
    )
    return page.screenshot(clip=box) if box else b""


def alt(page, selector: str) -> str:
    """The alt text of the picture a control shows now."""
    return page.locator(selector).first.evaluate(
        "(control) => [...control.querySelectorAll('img')].find((i) => i.offsetParent)?.alt ?? ''"
    )


def wait_until(happens, what: str, timeout: float = WAIT):
    """Ask again until `happens()` gives something true, and give that back."""
    deadline = time.monotonic() + timeout
    while not (result := happens()):
        assert time.monotonic() < deadline, f"{what}: not within {timeout:.0f} s"
    return result


def wait_until_shown(page, selector: str, condition: str, given=None, timeout: float = WAIT):
    """What the script `condition(element, given)` gives as soon as that is true, or None when the
    time is over; the page asks itself at each frame of the screen."""
    from playwright.sync_api import TimeoutError as TooLate

    try:
        script = (
            f"([selector, given]) => {{ const element = document.querySelector(selector); "
            f"return element && ({condition})(element, given); }}"
        )
        return page.wait_for_function(
            script, arg=[selector, given], timeout=timeout * 1000
        ).json_value()
    except TooLate:
        return None


def wait_until_changed(page, selector: str, before: bytes) -> bytes:
    return wait_until(
        lambda: (now := look(page, selector)) and now != before and now,
        f"the picture of {selector} changes",
    )


def wait_until_back(page, selector: str, before: bytes) -> None:
    wait_until(lambda: look(page, selector) == before, f"the picture of {selector} changes back")


def drag(page, handle, dx: float) -> None:
    """Drag a slider's handle by `dx` pixels with the mouse."""
    box = handle.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y, steps=6)
    page.mouse.up()

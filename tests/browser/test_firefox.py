"""The live page in Firefox, driven over WebDriver BiDi, where there is one (Debian's firefox-esr):
from a server and from the disk it draws what Python draws."""

import base64
import io
import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from sdlearn import load_pipeline, sampling
from tools import web_bench, web_model

websocket = pytest.importorskip("websocket", reason="comes with JupyterLab")
FIREFOX = shutil.which("firefox-esr") or shutil.which("firefox")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(FIREFOX is None, reason="no Firefox here"),
]
SECONDS = 120  # for one answer on a busy machine
PROMPT, SEED = "a red house in the snow at night", 7


class Firefox:
    """One window: commands go out as JSON, and answers carry their number."""

    def __init__(self, address: str):
        self.socket = websocket.create_connection(
            f"{address}/session", suppress_origin=True, timeout=SECONDS
        )
        self.count = 0
        self.call("session.new", capabilities={})
        self.window = self.call("browsingContext.getTree")["contexts"][0]["context"]

    def call(self, method: str, **params) -> dict:
        self.count += 1
        self.socket.send(json.dumps({"id": self.count, "method": method, "params": params}))
        while (answer := json.loads(self.socket.recv())).get("id") != self.count:
            pass  # an event
        assert answer["type"] == "success", answer
        return answer["result"]

    def evaluate(self, expression: str):
        answer = self.call(
            "script.evaluate",
            expression=expression,
            target={"context": self.window},
            awaitPromise=True,
        )
        assert answer["type"] == "success", answer
        return answer["result"].get("value")

    def drawn(self, quick: bool) -> None:
        until = time.monotonic() + SECONDS
        while not self.evaluate(f"globalThis.lastRun?.quick === {json.dumps(quick)}"):
            assert time.monotonic() < until, self.evaluate("loading.textContent")
            time.sleep(0.1)


@pytest.fixture(scope="module")
def firefox(tmp_path_factory) -> Iterator[Firefox]:
    profile = str(tmp_path_factory.mktemp("firefox"))
    command = [FIREFOX, "--headless", "--no-remote", "--profile", profile]
    command += ["--remote-debugging-port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            found = (re.search(r"BiDi listening on (ws://\S+)", line) for line in process.stderr)
            yield Firefox(next(filter(None, found))[1])
        finally:
            process.terminate()


@pytest.mark.parametrize("route", ["server", "disk"])
def test_firefox_draws_what_python_draws(firefox, live_page, model_folder, route):
    ours = np.asarray(sampling.sample(load_pipeline(model_folder), PROMPT, seed=SEED)[0], int)
    with web_bench.served(live_page) as address:
        disk = (live_page / "index.html").as_uri()
        where = {"server": f"{address}/index.html", "disk": disk}[route]
        firefox.call("browsingContext.navigate", context=firefox.window, url=where, wait="complete")
        firefox.evaluate("document.getElementById('start').click()")
        firefox.drawn(quick=True)
        firefox.evaluate(
            f"seed.value = {SEED}; prompt0.value = {json.dumps(PROMPT)};"
            "document.getElementById('draw').click()"
        )
        firefox.drawn(quick=False)
    data = firefox.evaluate("picture0.toDataURL()").split(",")[1]
    theirs = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"), int)
    assert np.abs(theirs - ours).max() <= web_model.TOLERANCE

"""What every test stands on: no network, no download, one tiny random pipeline for all."""

import contextlib
import os
from pathlib import Path

# before anything imports huggingface_hub, which reads it once
os.environ["HF_HUB_OFFLINE"] = "1"
# a learner's own setting must not decide which model is tested
os.environ.pop("SDLEARN_MODEL", None)
# kernels that tests start find tests/small.py
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
)

import pytest
import torch

# Minute models are fastest on one thread, and sums are then taken in one order on every machine:
# with two, a batch and its single picture differ by 1e-5.
torch.set_num_threads(1)

with contextlib.suppress(ImportError):
    # tries a socket when imported, to learn of IPv6; do it before sockets are blocked
    import urllib3  # noqa: F401

LOOPBACK = ["127.0.0.1", "::1", "localhost"]


def pytest_addoption(parser):
    parser.addoption(
        "--all", action="store_true", help="the slow proofs too, and chapters that train in full"
    )


def pytest_configure(config):
    if config.getoption("--all"):
        os.environ.pop("SDLEARN_QUICK", None)
    else:
        os.environ["SDLEARN_QUICK"] = "1"  # read by sdlearn.quick, in kernels too


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from groups import ByGroup

    return ByGroup(config, log)


def pytest_collection_modifyitems(config, items):
    slow = [i for i in items if i.get_closest_marker("slow")]
    if slow and not config.getoption("--all"):
        config.hook.pytest_deselected(items=slow)
        items[:] = [i for i in items if i not in slow]
    for item in items:
        if item.get_closest_marker("browser"):
            # the lab server, the browser and kernels
            item.add_marker(pytest.mark.allow_hosts(LOOPBACK))
    # Two workers: the long groups first, so that no worker sits idle at the end. One: the quick
    # tests first, so that a broken formula shows before a kernel has started.
    long = lambda item: any(map(item.get_closest_marker, ("notebooks", "browser")))  # noqa: E731
    together = "PYTEST_XDIST_WORKER" in os.environ
    items.sort(key=lambda item: long(item) != together)


@pytest.fixture(scope="session")
def pipe():
    """A tiny random StableDiffusionPipeline: the real classes, milliseconds a step."""
    from small import random_pipeline

    return random_pipeline()


@pytest.fixture(scope="session")
def model_folder(pipe, tmp_path_factory) -> Path:
    """The tiny random pipeline as a folder on disk, as `load_pipeline` reads it."""
    folder = tmp_path_factory.mktemp("model") / "random"
    pipe.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def live_page(model_folder, tmp_path_factory) -> Path:
    """The live page of the tiny random pipeline; skipped where npm cannot fetch what it runs on."""
    from tools import web_model

    folder = tmp_path_factory.mktemp("live") / "page"
    try:
        web_model.export(folder, model_folder)
    except web_model.Missing as reason:
        pytest.skip(str(reason))
    return folder

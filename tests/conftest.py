"""What every test stands on: no network, no download, one tiny random pipeline for all."""

import contextlib
import os

# before anything imports huggingface_hub, which reads it once
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop(
    "SDLEARN_MODEL", None
)  # a learner's own setting must not decide which model is tested

import pytest
import torch

# minute models are fastest on one thread, and sums are then taken in one order on every machine: with two, a batch and its single picture differ by 1e-5
torch.set_num_threads(1)

with contextlib.suppress(ImportError):
    import urllib3  # noqa: F401  tries a socket when imported, to learn of IPv6; do it before sockets are blocked

LOOPBACK = ["127.0.0.1", "::1", "localhost"]
ORDER = (
    "notebooks",
    "browser",
)  # the quick tests first: a broken formula shows before a kernel has started


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("browser"):
            item.add_marker(
                pytest.mark.allow_hosts(LOOPBACK)
            )  # the lab server, the browser and kernels
    items.sort(
        key=lambda item: max(
            (i + 1 for i, name in enumerate(ORDER) if item.get_closest_marker(name)), default=0
        )
    )


@pytest.fixture(scope="session")
def pipe():
    """A tiny random StableDiffusionPipeline: the real classes, milliseconds a step, pictures of nothing."""
    from small import random_pipeline

    return random_pipeline()


@pytest.fixture(scope="session")
def model_folder(pipe, tmp_path_factory):
    """The tiny random pipeline as a folder on disk, as `load_pipeline` reads it."""
    folder = tmp_path_factory.mktemp("model") / "random"
    pipe.save_pretrained(folder)
    return folder

"""Settings of every test: no network, one thread, no waiting for the disk."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Keep what the imports made out of every later garbage collection, and collect seldom: tests soon end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """No test cuts the power, so nothing can tell whether a file has reached the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield

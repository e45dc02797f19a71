"""Settings of every test: no network, one thread."""

from __future__ import annotations

import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Keep what the imports made out of every later garbage collection, which would look through it each time."""
    gc.collect()
    gc.freeze()

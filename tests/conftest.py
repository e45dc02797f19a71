"""Settings of every test: no network, one thread."""

from __future__ import annotations

import gc
import os

os.environ["HF_HUB_OFFLINE"] = "1"

import torch

torch.set_num_threads(1)


def pytest_collection_finish() -> None:
    """Keep what the imports made out of every later garbage collection, and collect seldom: tests soon end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)

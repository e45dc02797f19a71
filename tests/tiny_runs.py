"""A run of a tiny teacher on a few texts, which takes a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.downstream.tiny import questions, save_tiny_model


def tiny_run(place: Path) -> dict[str, Any]:
    """Write a tiny teacher and texts to a folder; return the config of a run of one arm of four steps."""
    save_tiny_model(place / "teacher")
    for name, count, seed in (("train", 24, 1), ("held-out", 40, 2)):
        lines = [row["context"].replace("?", "") for row in questions(count, seed, length=16)]
        (place / f"{name}.txt").write_text("\n".join(lines) + "\n")
    files = {"train": str(place / "train.txt"), "validation": str(place / "held-out.txt")}
    return {
        "name": "tiny",
        "teacher": str(place / "teacher"),
        "student": {"layers": 1},
        "data": {"path": "text", "data_files": files, "max_length": 24, "packing": False},
        "arms": {"causal": {"alignment": "diito/middle"}},
        "training": {"max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 4, "logging_steps": 1},
        "verification": {"pairs": 16, "resamples": 100, "batch_size": 16},
    }

"""What is built to check a config is gone after it."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import pytest
import torch
from transformers.utils import logging

from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.pipeline.check import require_batches
from iit_toolkit.pipeline.prepare import Prepared


def test_checking_an_arms_trainer_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw, words = random.Random(0), ["module", "file", "value", "list", "error", "string", "class", "function"]
    (tmp_path / "text.txt").write_text("".join(f"{' '.join(draw.choices(words, k=12))}\n" for _ in range(8)))
    files = dict.fromkeys(("train", "validation"), str(tmp_path / "text.txt"))
    training = {
        "accelerator_config": {"non_blocking": True},  # of which transformers warns
        "full_determinism": True,
        "log_level": "info",
        "per_device_train_batch_size": 4,
    }
    config = {
        "name": "tiny",
        "teacher": "embedded",
        "data": {"path": "text", "data_files": files, "max_length": 16, "packing": False},
        "arms": {"causal": {"alignment": "diito/middle"}},
        "training": training,
    }
    prepared = Prepared(RunConfig.model_validate(config))
    assert len(prepared.train_rows) >= 4 and prepared.teacher
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path)
    before, verbosity = sorted(tmp_path.rglob("*")), logging.get_verbosity()
    told: list[str] = []
    monkeypatch.setattr(logging.get_logger("transformers.trainer"), "handle", lambda record: told.append(str(record)))
    require_batches(prepared, "causal")
    assert told == []
    assert sorted(tmp_path.rglob("*")) == before
    assert logging.get_verbosity() == verbosity
    assert not torch.are_deterministic_algorithms_enabled()

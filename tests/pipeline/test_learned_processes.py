"""A run of two processes learns what one process does, for its arm and for the control, and writes it once."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.pipeline import run
from tests.distillation.test_learned_processes import draws_of_one
from tests.forked import two_processes
from tests.pipeline.test_learned import config

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks")
CONTROL = "subspaces/untrained.safetensors"
FILES = ("causal/model.safetensors", "causal/subspaces.safetensors", "subspaces/plain.safetensors", CONTROL)


def made(place: Path, accumulation: int) -> RunConfig:
    training: dict[str, Any] = {
        "max_steps": 4, "per_device_train_batch_size": 4, "logging_steps": 1, "dropout": False, "adam_epsilon": 1e-2,
        "train_sampling_strategy": "random", "gradient_accumulation_steps": accumulation,
    }  # fmt: skip
    return config(place, training=training)


def apart(one: Path, other: Path) -> float:
    ours, theirs = load_file(one), load_file(other)
    assert ours.keys() == theirs.keys()
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


def test_two_processes_learn_what_one_does_for_arm_and_control(tmp_path: Path) -> None:
    """Also a control that one process learns when it resumes the run of two: its steps have as many rows."""
    two, resumed, one = (tmp_path / name for name in ("two", "resumed", "one"))
    single, doubled = (made(tmp_path / "inputs", accumulation) for accumulation in (1, 2))

    def work(_: int) -> None:
        with draws_of_one(2):
            run(single, two)

    ended = two_processes(work, tmp_path)
    assert [process.code for process in ended] == [0, 0], ended[0].stderr[-3000:] + ended[1].stderr[-3000:]
    run(doubled, one)
    shutil.copytree(two, resumed)
    (resumed / CONTROL).unlink()
    run(single, resumed, resume=True)
    for name in FILES:
        assert apart(two / name, one / name) < 1e-5 and apart(resumed / name, two / name) < 1e-5, name
    results = [json.loads((folder / "results.json").read_text()) for folder in (two, one)]
    causal, expected = (found["arms"]["causal"] for found in results)
    counts = ("effective_batch", "micro_batches", "micro_batches_run", "steps", "tokens")
    assert [causal[name] for name in counts] == [expected[name] for name in counts]
    assert (causal["processes"], expected["processes"]) == (2, 1)
    for name in ("loss", "grad_norm"):
        pairs = zip(causal["history"], expected["history"], strict=True)
        assert all(ours[name] == pytest.approx(theirs[name], rel=1e-4) for ours, theirs in pairs)
    assert results[0]["verdict"]["label"] == results[1]["verdict"]["label"]

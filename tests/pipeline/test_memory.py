"""Memory that runs out in a phase of a run is told in one line, with what takes less; what was made before stays."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from iit_toolkit.cli import main
from iit_toolkit.distillation.trainer import CausalDistillationTrainer

ALLOCATOR = (
    "[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "7680000 bytes. Error code 12 (Cannot allocate memory)"
)
SMALL = [
    "training.max_steps=2",
    "training.per_device_train_batch_size=4",
    "training.gradient_accumulation_steps=3",
    "training.save_strategy=steps",
    "training.save_steps=1",
    "data.max_length=16",
    "data.max_train_tokens=2000",
    "data.max_eval_examples=32",
    "arms={causal: {alignment: diito/middle}}",
    "verification.baseline=null",
    "verification.pairs=16",
    "verification.resamples=100",
]


def fails(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError(ALLOCATOR)


def test_the_phase_and_the_remedy_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"

    def told(*more: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["run", "python-docs", *SMALL, *more, "--output", str(folder), "--resume"])
        assert ended.value.code == 2
        [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        assert "memory ran out (allocate 7680000 bytes)" in line and len(line) < 300
        return line

    step = CausalDistillationTrainer.training_step
    with monkeypatch.context() as patch:
        patch.setattr(
            CausalDistillationTrainer,
            "training_step",
            lambda self, *rest, **named: fails() if self.state.global_step else step(self, *rest, **named),
        )
        line = told()
    for named in ("arms.causal: training", "per_device_train_batch_size (4)", "gradient_accumulation_steps (3)"):
        assert named in line
    assert (folder / "checkpoints" / "causal" / "checkpoint-1").is_dir()
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["iit_toolkit.pipeline.verifying"], "verify", fails)
        line = told()
    assert "error: verification: " in line and "lower verification.batch_size" in line
    assert (folder / "causal" / "model.safetensors").is_file()

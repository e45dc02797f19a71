"""A line per log step: what it says, and that nothing else of the trainer's is printed."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import PrinterCallback, ProgressCallback

import iit_toolkit as iit
from iit_toolkit.runs.progress import Step
from iit_toolkit.runs.step_lines import say_steps, step_of
from tests.downstream.tiny import tiny_tokenizer
from tests.golden.trajectories import model, rows

LOGS: dict[str, Any] = {"loss": "1.3812", "loss/task": 4.342, "loss/causal_ce": 0.4467, "effect_size": 0.45, "epoch": 1}


def test_a_line_names_arm_step_loss_terms_effect_and_time() -> None:
    line = str(step_of("causal 2/2", 120, 200, LOGS, 21.3))
    assert line == "causal 2/2 · step 120/200 · loss 1.38 (task 4.34, causal_ce 0.447) · effect 0.45 · 21 s left"
    assert str(step_of("plain 1/2", 200, 200, {"loss": 2.0}, 0.0)) == "plain 1/2 · step 200/200 · loss 2"
    assert str(step_of("plain 1/2", 1, 200, {"loss": 2.0}, None)).endswith("loss 2")
    assert str(step_of("plain 1/2", 1, 200, {}, None)) == "plain 1/2 · step 1/200"


@pytest.mark.parametrize("bars", [True, False])
def test_a_training_logs_a_line_per_log_step_and_prints_no_dictionary(
    bars: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = model("masked_lm", 4, 16)
    settings: dict[str, Any] = {"report_to": "none", "use_cpu": True, "disable_tqdm": not bars}
    args = iit.CausalDistillationConfig(str(tmp_path), max_steps=4, logging_steps=2, **settings)
    trainer = iit.CausalDistillationTrainer(
        iit.student(teacher, layers=2),
        teacher,
        iit.Alignment.pairs(middle=(1, 0)),
        args,
        train_dataset=Dataset.from_list(rows(paired=False)),
        processing_class=tiny_tokenizer(),
    )
    say_steps(trainer, "causal 1/1")
    callbacks = trainer.callback_handler.callbacks
    assert not any(type(one) in (PrinterCallback, ProgressCallback) for one in callbacks)
    assert any(isinstance(one, ProgressCallback) for one in callbacks) == bars
    with caplog.at_level(logging.INFO, "iit_toolkit"):
        trainer.train()
    lines = [record.getMessage() for record in caplog.records if isinstance(getattr(record, "progress", None), Step)]
    assert [re.match(r"causal 1/1 · step (\d)/4 · loss [\d.]+ \(task ", line) is not None for line in lines] == [
        True
    ] * 2
    assert lines[0].endswith(" s left") and "left" not in lines[1]
    told = capsys.readouterr()
    assert "'loss'" not in told.out + told.err

"""The arms of a run: training one, saving its student, and taking up one that an earlier run has finished."""

from __future__ import annotations

import contextlib
import json
import math
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from transformers import PreTrainedModel, TrainerState

from iit_toolkit.distillation.config import CausalDistillationConfig
from iit_toolkit.distillation.cost import ExpectedCost
from iit_toolkit.distillation.student import student_from_checkpoint
from iit_toolkit.distillation.trainer import CausalDistillationTrainer
from iit_toolkit.pipeline.check import step_cost
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.runs import processes
from iit_toolkit.runs.folder import RunFolder, folder_written_whole, remove_empty, write_json
from iit_toolkit.runs.provenance import provenance

_RECORD = "training.json"


def train_arm(prepared: Prepared, folder: RunFolder, name: str) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Train one arm, from its last checkpoint if there is one, and save its student.

    Returns:
        The student, and what `results.json` says of its training.
    """
    student = prepared.new_student()
    alignment = prepared.arm_alignment(name, student)
    checkpoints = folder.path / "checkpoints" / name
    settings = training_settings(prepared, name, checkpoints)
    expected, _ = step_cost(prepared, name, alignment, student)
    trainer = CausalDistillationTrainer(
        model=student,
        teacher=prepared.teacher,
        alignment=alignment,
        args=settings,
        train_dataset=prepared.train_rows,
        data_collator=prepared.collator,
        processing_class=prepared.tokenizer,
    )
    checkpoint = _last_checkpoint(checkpoints)
    started, cpu = time.perf_counter(), time.process_time()
    try:
        if checkpoint is not None and checkpoint.state.global_step == checkpoint.state.max_steps:
            student, trainer.state = student_from_checkpoint(prepared.teacher, checkpoint.path), checkpoint.state
        else:
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint.path))
    finally:
        if processes.is_main():
            remove_empty(checkpoints, checkpoints.parent)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    record: dict[str, Any] = {
        "alignment": None if alignment is None else alignment.name,
        "student_parameters": student.num_parameters(),
        "processes": settings.world_size,
        "effective_batch": _rows_of_a_step(settings),
        "micro_batches": settings.gradient_accumulation_steps * settings.world_size,
        "micro_batches_run": micro_batches_run(settings, len(prepared.train_rows), trainer.state.global_step),
        "steps": trainer.state.global_step,
        "resumed_at_step": 0 if checkpoint is None else checkpoint.state.global_step,
        "tokens": _tokens_seen(trainer, prepared.train_rows),
        "seconds": seconds,
        "cpu_seconds": sum(gather_object([cpu_seconds])),  # of all processes
        "cost": _cost(expected, history),
        "objective": {term: weight for term, weight in settings.weights.items() if weight},
        "provenance": provenance(),
        "history": history,
    }
    prepared.refuse_changed_teacher()
    with processes.main_first():
        if processes.is_main():
            _save_student(student, prepared, folder.arm(name), record)
    return student, record


def training_settings(prepared: Prepared, name: str, output: Path) -> CausalDistillationConfig:
    """Return an arm's settings, for its training rows; `output` is where the trainer keeps checkpoints."""
    settings = prepared.arm_training(name, output)
    if settings.world_size == 1 and len(prepared.train_rows) % settings.train_batch_size == 1:
        settings.dataloader_drop_last = True  # a row alone in the last batch would have no source; several fill it up
    return settings


def steps_of_one_process(settings: CausalDistillationConfig, rows: int) -> int:
    """Return how many steps the trainer will make."""
    if settings.max_steps > 0:
        return settings.max_steps
    batches = math.ceil(_rows_of_an_epoch(settings, rows) / settings.train_batch_size)
    return math.ceil(settings.num_train_epochs * math.ceil(batches / settings.gradient_accumulation_steps))


def micro_batches_run(settings: CausalDistillationConfig, rows: int, steps: int) -> int:
    """Return how many micro-batches all processes run in a number of steps: an epoch's last step can have fewer."""
    at_a_time = settings.gradient_accumulation_steps
    epoch = math.ceil(_rows_of_an_epoch(settings, rows) / (settings.train_batch_size * settings.world_size))
    epochs, rest = divmod(steps, max(1, math.ceil(epoch / at_a_time)))
    return (epochs * epoch + rest * at_a_time) * settings.world_size


@dataclass(frozen=True)
class _Checkpoint:
    path: Path
    state: TrainerState


def _last_checkpoint(folder: Path) -> _Checkpoint | None:
    """The last checkpoint that is whole: the trainer's state is written last."""
    for path in sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        with contextlib.suppress(OSError, ValueError, TypeError):
            return _Checkpoint(path, TrainerState.load_from_json(str(path / "trainer_state.json")))
    return None


def finished_arm(prepared: Prepared, folder: RunFolder, name: str) -> tuple[PreTrainedModel, dict[str, Any]] | None:
    """Return what `train_arm` returned of an arm that an earlier run has finished; `None` if none has."""
    record = folder.arm(name) / _RECORD
    if not record.is_file():
        return None
    return student_from_checkpoint(prepared.teacher, folder.arm(name)), json.loads(record.read_text(encoding="utf-8"))


def _cost(expected: ExpectedCost, history: list[dict[str, Any]]) -> dict[str, Any]:
    """What a step was expected to cost, and what it took: the median over the log's lines."""
    measured = [entry["step_seconds"] for entry in history if "step_seconds" in entry]
    return {
        "parts": {name: part.flops for name, part in expected.parts.items()},
        "flops": expected.flops,
        "plain_flops": expected.plain_flops,
        "floor_seconds": expected.floor_seconds,
        "step_seconds": statistics.median(measured) if measured else None,
        "threads": torch.get_num_threads(),
    }


def _tokens_seen(trainer: CausalDistillationTrainer, rows: Dataset) -> int:
    """Tokens of the rows that training read, repetitions counted; of a part of an epoch, its share of the tokens."""
    settings, step = trainer.settings, _rows_of_a_step(trainer.settings)
    epoch = _rows_of_an_epoch(settings, len(rows))
    epochs, steps = divmod(trainer.state.global_step, max(1, math.ceil(epoch / step)))
    return round(sum(len(row) for row in rows["input_ids"]) * (epochs * epoch + steps * step) / len(rows))


def _rows_of_an_epoch(settings: CausalDistillationConfig, rows: int) -> int:
    """Rows that all processes see in an epoch, of those that there are."""
    whole = settings.train_batch_size * settings.world_size
    return rows - rows % whole if settings.dataloader_drop_last else rows


def _rows_of_a_step(settings: CausalDistillationConfig) -> int:
    """Rows behind one update of the weights, over micro-steps and processes."""
    return settings.train_batch_size * settings.gradient_accumulation_steps * settings.world_size


def _save_student(student: PreTrainedModel, prepared: Prepared, target: Path, record: dict[str, Any]) -> None:
    """Save a student as a plain Hugging Face model, with the record of its training, whole or not at all."""
    with folder_written_whole(target) as folder:
        student.save_pretrained(folder)
        prepared.tokenizer.save_pretrained(folder)
        write_json(folder / _RECORD, record)

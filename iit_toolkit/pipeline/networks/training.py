"""The arms of a run of networks: training one, saving it, and taking up one that an earlier run has finished."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from iit_toolkit.distillation.checkpoints import refuse_other_inputs
from iit_toolkit.distillation.networks import step_flops, train_network
from iit_toolkit.distillation.objective import Losses
from iit_toolkit.errors import UserError
from iit_toolkit.files.json_files import read_object
from iit_toolkit.pipeline.networks.learned import fresh_subspaces
from iit_toolkit.pipeline.networks.objects import WEIGHTS
from iit_toolkit.pipeline.networks.prepare import PreparedNetworks
from iit_toolkit.pipeline.networks.rows import TRAIN
from iit_toolkit.pipeline.saving import RECORD
from iit_toolkit.pipeline.subspace_files import SUBSPACES
from iit_toolkit.runs.folder import RunFolder, folder_written_whole, write_json
from iit_toolkit.runs.progress import Step, phase, tell
from iit_toolkit.runs.provenance import fingerprint_of_json, provenance

_LOGGED = 50
"""Lines of a training's history, at most."""


def train_network_arm(
    prepared: PreparedNetworks, folder: RunFolder, name: str, inputs: Mapping[str, str]
) -> tuple[nn.Module, dict[str, Any]]:
    """Train one arm and save its student.

    Args:
        prepared: What the config names.
        folder: The run folder.
        name: The arm.
        inputs: What a run must share with an earlier one to take its student.

    Returns:
        The student, and what `results.json` says of its training.
    """
    student, alignment = prepared.new_student(), prepared.arm_alignment(name)
    rows, training = prepared.rows.drawn[TRAIN], prepared.arm_training(name)
    settings = training.model_dump()
    cost = step_flops(student, prepared.teacher, alignment, rows, **settings)
    phase(f"training {name} (seed {training.seed}): {training.steps} steps of {training.batch_size} rows")
    history = History(name, training.steps)
    subspaces = fresh_subspaces(prepared, alignment, student)
    started, cpu = time.perf_counter(), time.process_time()
    train_network(student, prepared.teacher, alignment, rows, subspaces=subspaces, log=history.log, **settings)
    seconds = time.perf_counter() - started
    prepared.refuse_changed_teacher()
    record: dict[str, Any] = {
        "alignment": None if alignment is None else alignment.name,
        "student_parameters": sum(weight.numel() for weight in student.parameters()),
        "processes": 1,
        "effective_batch": training.batch_size,
        "micro_batches": 1,
        "micro_batches_run": training.steps,
        "steps": training.steps,
        "resumed_at_step": 0,
        "tokens": 0,
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "cost": {"flops": cost.flops, "plain_flops": cost.plain_flops, "step_seconds": seconds / training.steps},
        "objective": training.weights,
        "provenance": provenance(),
        "history": history.lines,
    }
    phase(f"saving {name}")
    with folder_written_whole(folder.arm(name)) as written:
        save_file({key: value.contiguous() for key, value in student.state_dict().items()}, written / WEIGHTS)
        if subspaces is not None:
            subspaces.save(written / SUBSPACES)
        write_json(written / RECORD, {**record, "inputs": _inputs_of_arm(prepared, name, inputs)})
    return student, record


def finished_network_arm(
    prepared: PreparedNetworks, folder: RunFolder, name: str, inputs: Mapping[str, str]
) -> tuple[nn.Module, dict[str, Any]] | None:
    """Return what `train_network_arm` returned for an arm that an earlier run has finished; `None` if none has.

    Raises:
        UserError: If it was trained with other inputs, or its weights do not fit.
    """
    found = _record(folder, name)
    if found is None:
        return None
    record, trained_with = found
    refuse_other_inputs(folder.arm(name), trained_with, _inputs_of_arm(prepared, name, inputs))
    return prepared.student_of(str(folder.arm(name))), record


def refuse_trained_otherwise(folder: RunFolder, name: str, inputs: Mapping[str, str]) -> None:
    """Refuse an arm that an earlier run has finished with other inputs than these, if one has.

    Args:
        folder: The run folder.
        name: The arm.
        inputs: Some of what a run must share with an earlier one.

    Raises:
        UserError: If it was.
    """
    found = _record(folder, name)
    if found is not None:
        refuse_other_inputs(folder.arm(name), found[1], inputs)


def _record(folder: RunFolder, name: str) -> tuple[dict[str, Any], dict[str, str]] | None:
    """Return what is said of an arm's training, and its inputs; `None` if the arm was not trained."""
    path = folder.arm(name) / RECORD
    if not path.is_file():
        return None
    record = read_object(path)
    trained_with = record.pop("inputs", None)
    if not isinstance(trained_with, dict):
        raise UserError(f"{path}: inputs: should be a mapping; remove {path.parent} to train the arm again")
    return record, cast(dict[str, str], trained_with)


def _inputs_of_arm(prepared: PreparedNetworks, name: str, inputs: Mapping[str, str]) -> dict[str, str]:
    alignment = prepared.arm_alignment(name)
    settings = [prepared.arm_training(name).model_dump(), None if alignment is None else alignment.to_dict()]
    return {**inputs, "settings": fingerprint_of_json(settings)}


class History:
    """The means of loss and terms between lines, kept without waiting for the device at every step.

    Args:
        name: What is trained.
        steps: Updates in all.
    """

    def __init__(self, name: str, steps: int) -> None:
        """Begin with no line."""
        self.lines: list[dict[str, float]] = []
        self._name, self._steps, self._every = name, steps, max(1, steps // _LOGGED)
        self._sums: dict[str, Tensor] = {}
        self._counted, self._begun = 0, time.perf_counter()

    def log(self, step: int, losses: Losses) -> None:
        """Count an update; after enough of them, add a line and tell it."""
        for name, value in {"loss": losses.total, **losses.terms}.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(value)) + value.detach()
        self._counted += 1
        if step % self._every and step != self._steps:
            return
        means = {name: float(value) / self._counted for name, value in self._sums.items()}
        loss = means.pop("loss")
        terms = {f"loss/{name}": value for name, value in means.items()}
        self.lines.append({"step": step, "loss": loss, **terms})
        self._sums, self._counted = {}, 0
        left = (time.perf_counter() - self._begun) / step * (self._steps - step)
        tell(Step(self._name, step, self._steps, loss, means, left=left), logging.DEBUG)

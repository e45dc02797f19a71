"""The arms of a run: training one, saving its student, and taking up one that an earlier run has finished."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list, gather_object
from datasets import Dataset
from transformers import PreTrainedModel, TrainerState
from transformers.trainer_utils import SaveStrategy

from iit_toolkit.analysis.statistics.results_layout import TRAINING
from iit_toolkit.data.tables import id_columns, lists_of
from iit_toolkit.distillation.checkpoints import newest_whole, numbered, refuse_other_inputs, refuse_other_training
from iit_toolkit.distillation.config import CausalDistillationConfig
from iit_toolkit.distillation.cost import ExpectedCost
from iit_toolkit.distillation.students import student_from_checkpoint
from iit_toolkit.distillation.trainer import CausalDistillationTrainer
from iit_toolkit.errors import UserError
from iit_toolkit.files.json_files import read_object, validated
from iit_toolkit.files.plain_files import refuse_links_out
from iit_toolkit.pipeline.explanation import step_cost
from iit_toolkit.pipeline.inputs import training_inputs
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.saving import RECORD, refuse_too_little_room, refuse_unsaveable, save_student
from iit_toolkit.runs import processes
from iit_toolkit.runs.cut_short import refuse_cut_short, told_if_worker_ended
from iit_toolkit.runs.folder import RunFolder, is_free, remove, remove_empty
from iit_toolkit.runs.manifest import MANIFEST, NotWholeError, compare_files
from iit_toolkit.runs.memory import told_if_out_of_memory
from iit_toolkit.runs.progress import phase
from iit_toolkit.runs.provenance import fingerprint_of_json, provenance
from iit_toolkit.runs.step_lines import say_steps

_LOG = getLogger(__name__)
_RESUME = "checkpoints are kept, go on with --resume"
_SHARE_OF_STEPS, _FEWEST_STEPS = 0.1, 25  # between checkpoints that nobody asked for


def train_arm(
    prepared: Prepared,
    folder: RunFolder,
    name: str,
    inputs: Mapping[str, str],
    measured: Callable[[float], None] | None = None,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Train one arm, from its newest whole checkpoint if there is one, and save its student.

    Args:
        prepared: What the config names.
        folder: The run folder.
        name: The arm.
        inputs: What two trainings share if one can continue from the other's checkpoint.
        measured: Called with the seconds of a step at the first log step.

    Returns:
        The student, and what `results.json` says of its training.
    """
    student = prepared.new_student()
    alignment = prepared.arm_alignment(name, student)
    checkpoints = folder.checkpoints(name)
    settings = training_settings(prepared, name, checkpoints)
    expected, _ = step_cost(prepared, name, alignment, student)
    trainer = CausalDistillationTrainer(
        model=student,
        teacher=prepared.teacher,
        alignment=alignment,
        args=settings,
        mixture=prepared.mixture(name),
        train_dataset=prepared.train_rows,
        data_collator=prepared.collator,
        processing_class=prepared.tokenizer,
    )
    say_steps(trainer, _of_arms(name, list(prepared.config.arms)), measured)
    trainer.inputs = _inputs_of_arm(prepared, name, inputs)
    trainer.needs_checkpoints = asks_for_checkpoints(prepared, name)
    begun_at = _newest_checkpoint(checkpoints, trainer)
    state = None if begun_at is None else TrainerState.load_from_json(str(begun_at / "trainer_state.json"))
    processes.set_patience(settings.ddp_timeout)
    processes.meet()  # each has read its data
    phase(f"training {name} (seed {settings.seed}): {_planned(prepared, settings)}")
    started, cpu = time.perf_counter(), time.process_time()
    try:
        if state is not None and state.global_step == state.max_steps:
            student, trainer.state = student_from_checkpoint(prepared.teacher, str(begun_at)), state
            trainer.load_companions(Path(str(begun_at)))
        else:
            with (
                processes.told_if_lost(),
                told_if_out_of_memory(f"arms.{name}: training", _less_memory(settings)),
                told_if_worker_ended(f"arms.{name}: training", settings.dataloader_num_workers, _RESUME),
            ):
                trainer.train(resume_from_checkpoint=None if begun_at is None else str(begun_at))
            refuse_cut_short(trainer.state, f"arms.{name}", _RESUME)
    except (KeyboardInterrupt, SystemExit):
        _warn_of_stopped(name, trainer, checkpoints)
        raise
    finally:
        if processes.is_main():
            remove_empty(checkpoints, checkpoints.parent)
    seconds = time.perf_counter() - started
    with processes.told_if_lost():
        cpu_seconds = sum(gather_object([time.process_time() - cpu]))  # of all processes
    history = [entry for entry in trainer.state.log_history if "loss" in entry]
    record: dict[str, Any] = {
        "alignment": None if alignment is None else alignment.name,
        "student_parameters": student.num_parameters(),
        "processes": settings.world_size,
        "parallelism": _parallelism(trainer),
        "effective_batch": _rows_of_a_step(settings),
        "micro_batches": settings.gradient_accumulation_steps * settings.world_size,
        "micro_batches_run": micro_batches_run(settings, len(prepared.train_rows), trainer.state.global_step),
        "steps": trainer.state.global_step,
        "resumed_at_step": 0 if state is None else state.global_step,
        "tokens": _tokens_seen(trainer, prepared.train_rows) + _mixed_tokens(trainer, prepared),
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "cost": _cost(expected, history),
        "objective": {term: weight for term, weight in settings.weights.items() if weight},
        "provenance": provenance(),
        "history": history,
    }
    prepared.refuse_changed_teacher()
    with processes.main_first():
        if processes.is_main():
            last = checkpoints / f"checkpoint-{trainer.state.global_step}"
            kept = last if (last / MANIFEST).is_file() else None
            written = {**record, "inputs": trainer.inputs}
            save_student(student, prepared, folder.arm(name), written, kept, trainer.subspaces)
            _drop_checkpoints(prepared, folder, name)
    return student, record


def _of_arms(name: str, names: Sequence[str]) -> str:
    """Return `causal 2/3`, or the name of the only arm."""
    return f"{name} {names.index(name) + 1}/{len(names)}" if len(names) > 1 else name


def _planned(prepared: Prepared, settings: CausalDistillationConfig) -> str:
    """Return `200 steps of 32 rows`."""
    return f"{steps_in_all(settings, len(prepared.train_rows))} steps of {_rows_of_a_step(settings)} rows"


def asks_for_checkpoints(prepared: Prepared, name: str) -> bool:
    """Return whether the config asks for an arm's checkpoints; otherwise, saving its student removes them."""
    config = prepared.config
    return "save_strategy" in {**config.training, **config.arms[name].training}


def training_settings(prepared: Prepared, name: str, output: Path) -> CausalDistillationConfig:
    """Return an arm's settings, for its training rows; `output` is where the trainer keeps checkpoints."""
    settings = prepared.arm_training(name, output)
    if len(prepared.train_rows) % settings.train_batch_size == 1:
        settings.dataloader_drop_last = True  # a row alone in the last batch would have no source
    if not asks_for_checkpoints(prepared, name):
        given = {**prepared.config.training, **prepared.config.arms[name].training}
        settings.save_strategy = SaveStrategy.STEPS
        settings.save_steps = given.get("save_steps") or _steps_between(settings, len(prepared.train_rows))
        settings.save_total_limit = given.get("save_total_limit", 1)
    return settings


def _steps_between(settings: CausalDistillationConfig, rows: int) -> int:
    return max(_FEWEST_STEPS, round(_SHARE_OF_STEPS * steps_in_all(settings, rows)))


def steps_in_all(settings: CausalDistillationConfig, rows: int) -> int:
    """About how many steps all processes make together."""
    steps = steps_of_one_process(settings, rows)
    return steps if settings.max_steps > 0 else steps // settings.world_size


def refuse_unsaved(prepared: Prepared, folder: RunFolder, student: PreTrainedModel, names: Iterable[str]) -> None:
    """Refuse to train arms if their students or checkpoints could not be saved.

    Raises:
        UserError: If they could not.
    """
    missing = [name for name in names if not is_finished(folder, name)]
    if missing:
        size = refuse_unsaveable(student, prepared, folder)
        wanted = [(training_settings(prepared, name, folder.checkpoints(name)), name) for name in missing]
        refuse_too_little_room(
            folder, size, [(one, _checkpoints_asked_for(prepared, one, name)) for one, name in wanted]
        )


def _checkpoints_asked_for(prepared: Prepared, settings: CausalDistillationConfig, name: str) -> int:
    if not asks_for_checkpoints(prepared, name) or settings.save_strategy == SaveStrategy.NO:
        return 0
    if settings.save_strategy != SaveStrategy.STEPS:
        return 1
    steps = steps_in_all(settings, len(prepared.train_rows))
    every = settings.save_steps if settings.save_steps >= 1 else max(1, math.ceil(steps * settings.save_steps))
    return max(1, int(steps // every))


def steps_of_one_process(settings: CausalDistillationConfig, rows: int) -> int:
    """Return how many steps the trainer will make."""
    if settings.max_steps > 0:
        return settings.max_steps
    batches = math.ceil(_rows_of_an_epoch(settings, rows) / settings.train_batch_size)
    return math.ceil(settings.num_train_epochs * math.ceil(batches / settings.gradient_accumulation_steps))


def micro_batches_run(settings: CausalDistillationConfig, rows: int, steps: int) -> int:
    """Return how many micro-batches all processes run in a number of steps: an epoch's last step can have fewer.

    Stand-ins for batches that do not go round run too, and count.
    """
    at_a_time = settings.gradient_accumulation_steps
    batches = math.ceil(_rows_of_an_epoch(settings, rows) / settings.train_batch_size)
    epoch = math.ceil(batches / settings.world_size)
    epochs, rest = divmod(steps, max(1, math.ceil(epoch / at_a_time)))
    return (epochs * epoch + rest * at_a_time) * settings.world_size


def finished_arm(prepared: Prepared, folder: RunFolder, name: str) -> tuple[PreTrainedModel, dict[str, Any]] | None:
    """Return what `train_arm` returned for an arm that an earlier run has finished; `None` if none has."""
    record = _record(folder.arm(name))
    if record is None:
        return None
    if processes.is_main():
        _drop_checkpoints(prepared, folder, name)
    known = {key: value for key, value in record.items() if key not in ("files", "inputs")}
    return student_from_checkpoint(prepared.teacher, folder.arm(name)), known


def is_finished(folder: RunFolder, name: str) -> bool:
    """Return whether an arm's student is trained and saved."""
    return (folder.arm(name) / RECORD).is_file()


def require_arm(prepared: Prepared, folder: RunFolder, name: str, inputs: Mapping[str, str]) -> None:
    """Check that an arm's run can continue from what is there: its finished student, and the places of its files.

    Raises:
        UserError: If a link leads elsewhere, or its student is not as its training wrote it, or was trained with other
            inputs.
    """
    home, checkpoints = folder.arm(name), folder.checkpoints(name)
    refuse_links_out(folder.path, home, checkpoints.parent, checkpoints, *numbered(checkpoints).values())
    again = "restore it, or remove that folder to train the arm again"
    record = _record(home)
    if record is None:
        if not is_free(home):
            raise UserError(f"{home} holds something, but no {RECORD}, which a finished arm has; {again}")
        return
    try:
        compare_files(home, record.get("files"), but=(RECORD,))
    except NotWholeError as error:
        raise UserError(f"{home} is not as its training wrote it: {error}; {again}") from None
    trained_with = record.get("inputs")
    if not isinstance(trained_with, dict):
        raise UserError(f"{home / RECORD}: inputs: should be a mapping; {again}")
    refuse_other_inputs(home, cast(dict[str, str], trained_with), _inputs_of_arm(prepared, name, inputs))


def processes_of(home: Path) -> int | None:
    """Return how many processes trained a student; `None` if its folder has no record.

    Args:
        home: The student's folder.

    Raises:
        UserError: If the record is damaged.
    """
    record = _record(home)
    return None if record is None else record["processes"]


def _record(home: Path) -> dict[str, Any] | None:
    path = home / RECORD
    if not path.is_file():
        return None
    found = read_object(path)
    validated(path, found, TRAINING, f"remove {path.parent} to train the arm again")
    return found


def _newest_checkpoint(checkpoints: Path, trainer: CausalDistillationTrainer) -> Path | None:
    """Return the newest whole checkpoint, which the main process finds; refuse another training's."""
    found: list[Path | None] = [None]
    with processes.main_first():
        if processes.is_main() and (newest := newest_whole(checkpoints)) is not None:
            refuse_other_training(newest, trainer.inputs, trainer.settings.world_size)
            found = [newest.path]
    return broadcast_object_list(found)[0]


def _drop_checkpoints(prepared: Prepared, folder: RunFolder, name: str) -> None:
    """Remove the checkpoints of a saved student if nobody asked for them."""
    if not asks_for_checkpoints(prepared, name):
        checkpoints = folder.checkpoints(name)
        remove(checkpoints)
        remove_empty(checkpoints.parent)


def _warn_of_stopped(name: str, trainer: CausalDistillationTrainer, checkpoints: Path) -> None:
    if processes.is_main():
        steps = numbered(checkpoints)
        kept = f"its last checkpoint is of step {max(steps)}" if steps else "it has no checkpoint yet"
        at = f"step {trainer.state.global_step} of {trainer.state.max_steps}"
        _LOG.warning("arm %s was stopped after %s, %s; go on with --resume", name, at, kept)


def _inputs_of_arm(prepared: Prepared, name: str, inputs: Mapping[str, str]) -> dict[str, str]:
    """Return what a training must share with an earlier one to continue it, or to take its student."""
    return {**training_inputs(inputs), "settings": _fingerprint_of_arm(prepared, name)}


def _fingerprint_of_arm(prepared: Prepared, name: str) -> str:
    """Return what the config says of an arm's training."""
    config = prepared.config.model_dump(mode="json", exclude={"name", "arms", "verification", "evaluation"})
    return fingerprint_of_json({**config, "arm": prepared.config.arms[name].model_dump(mode="json")})


def _cost(expected: ExpectedCost, history: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a step was expected to cost, and what it took: the median over the log's lines."""
    measured = [entry["step_seconds"] for entry in history if "step_seconds" in entry]
    return {
        "parts": expected.parts,
        "flops": expected.flops,
        "plain_flops": expected.plain_flops,
        "step_seconds": statistics.median(measured) if measured else None,
        "threads": torch.get_num_threads(),
    }


def _tokens_seen(trainer: CausalDistillationTrainer, rows: Dataset) -> int:
    """Return how many tokens training read, with repetitions; part of an epoch counts its share."""
    settings, step = trainer.settings, _rows_of_a_step(trainer.settings)
    epoch = _rows_of_an_epoch(settings, len(rows))
    epochs, steps = divmod(trainer.state.global_step, max(1, math.ceil(epoch / step)))
    read = id_columns(rows) if settings.both_directions else ["input_ids"]
    tokens = sum(len(ids) for ids, _ in lists_of(rows, *read))
    return round(tokens * (epochs * epoch + steps * step) / len(rows))


def _mixed_tokens(trainer: CausalDistillationTrainer, prepared: Prepared) -> int:
    """Return about how many tokens of further data training read: rows are drawn, so their mean length counts."""
    settings = trainer.settings
    steps = settings.gradient_accumulation_steps * settings.world_size * trainer.state.global_step
    lengths = [
        sum(len(ids) for ids, _ in lists_of(rows, "input_ids")) / len(rows) for rows in prepared.mixed_rows.values()
    ]
    return round(
        steps
        * sum(length * min(one.batch_size, len(one.rows)) for length, one in zip(lengths, trainer.mixture, strict=True))
    )


def _parallelism(trainer: CausalDistillationTrainer) -> dict[str, Any]:
    """Return what ran: how processes shared the work, how they communicated, and in which precision they multiplied."""
    group = torch.distributed.is_initialized()
    return {
        "type": trainer.accelerator.distributed_type.value,
        "backend": torch.distributed.get_backend_config() if group else None,
        "device": trainer.args.device.type,
        "mixed_precision": trainer.accelerator.mixed_precision,
    }


def _less_memory(settings: CausalDistillationConfig) -> str:
    """How a training takes less memory and stays the same, or nearly so."""
    size, steps = settings.per_device_train_batch_size, settings.gradient_accumulation_steps
    return (
        f"lower training.per_device_train_batch_size ({size}) and raise gradient_accumulation_steps ({steps}), "
        "or lower data.max_length; earlier checkpoints are kept"
    )


def _rows_of_an_epoch(settings: CausalDistillationConfig, rows: int) -> int:
    """Return how many of the rows all processes see in an epoch."""
    return rows - rows % settings.train_batch_size if settings.dataloader_drop_last else rows


def _rows_of_a_step(settings: CausalDistillationConfig) -> int:
    """Return how many rows are behind one update of the weights, over micro-steps and processes."""
    return settings.train_batch_size * settings.gradient_accumulation_steps * settings.world_size

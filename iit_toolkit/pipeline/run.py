"""Whole runs: train every arm, verify every student, write results and report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import asdict
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.report.model_card import model_card
from iit_toolkit.analysis.report.report import write_report
from iit_toolkit.analysis.statistics.comparison import compare
from iit_toolkit.analysis.statistics.control_results import ControlResults
from iit_toolkit.analysis.statistics.outcomes import UNTRAINED, write_outcomes
from iit_toolkit.analysis.statistics.summary import summarise
from iit_toolkit.analysis.statistics.verdict import judge
from iit_toolkit.analysis.verification.evaluation import evaluate
from iit_toolkit.analysis.verification.verify import Verification
from iit_toolkit.config.data_config import columns_of
from iit_toolkit.config.loading import dump_config
from iit_toolkit.config.run_config import RunConfig, refuse_no_arms
from iit_toolkit.data.tables import count_ids
from iit_toolkit.distillation.students import student_from_checkpoint
from iit_toolkit.interchange.checks import refuse_failed
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.pipeline.alignment_files import with_alignments_read
from iit_toolkit.pipeline.arms import finished_arm, is_finished, refuse_unsaved, require_arm, train_arm
from iit_toolkit.pipeline.check import (
    certify_losses,
    certify_on_rows,
    certify_tokenizer,
    require_batches,
    validate_prepared,
)
from iit_toolkit.pipeline.estimates import TrainingTime, measured_rate, verification_seconds
from iit_toolkit.pipeline.inputs import begin_inputs, inputs_of, refuse_changed_inputs, refuse_other_config
from iit_toolkit.pipeline.learned import subspaces_of
from iit_toolkit.pipeline.prepare import Prepared, control_of_run, fingerprint_of_rows, untrained_control
from iit_toolkit.pipeline.subspace_files import described_subspaces
from iit_toolkit.pipeline.texts import write_texts
from iit_toolkit.pipeline.verifying import baseline_arm, judged_student, verified
from iit_toolkit.runs import processes
from iit_toolkit.runs.folder import RunFolder, write_atomically
from iit_toolkit.runs.memory import told_if_out_of_memory
from iit_toolkit.runs.progress import phase
from iit_toolkit.runs.provenance import fingerprint_of_weights, provenance
from iit_toolkit.runs.working import beginning, working_in, written_at_once


def run(config: RunConfig, output: str | Path, *, resume: bool = False) -> Path:
    """Train every arm, verify every student against the teacher, and write results and report.

    With several processes (torchrun, accelerate launch), all train, and the main one does the rest. The others return
    when the last arm is trained, and the learned subspaces of the control.

    Args:
        config: The run config.
        output: The run folder; new or empty.
        resume: Continue in the folder of an earlier run of the same config, if it is one. Arms that were trained are
            taken as they are, and one that was not starts from its last checkpoint, if it has any. All are verified.

    Returns:
        The run folder.

    Raises:
        UserError: If the config does not hold on the live models and data, or the folder is taken. If a run to resume
            is another config's, or another process is at work on it.
    """
    return _train_arms(config, output, tuple(config.arms), resume=resume, verified=True)


def train(config: RunConfig, output: str | Path, arm: str, *, resume: bool = False) -> Path:
    """Train one arm, by one or several processes, and write its student to the run folder.

    Args:
        config: The run config.
        output: The run folder; new or empty.
        arm: The arm.
        resume: Continue in the folder of an earlier call or run of the same config, if it is one.

    Raises:
        UserError: As for `run`.
    """
    return _train_arms(config, output, (arm,), resume=resume, verified=False)


def _train_arms(config: RunConfig, output: str | Path, names: Sequence[str], *, resume: bool, verified: bool) -> Path:
    refuse_no_arms(config.name, config.arms)
    config = with_alignments_read(config)  # so that a run is not resumed with another alignment
    prepared, folder = Prepared(config), RunFolder(Path(output))
    students: dict[str, PreTrainedModel] = {}
    arms: dict[str, dict[str, Any]] = {}
    with ExitStack() as alone:
        with processes.parting():
            with processes.main_first():
                if processes.is_main():
                    alone.enter_context(working_in(output))
                    resume = resume and folder.config.is_file()
                with _begun(folder, config, resume):
                    untrained = prepared.new_student()
                    alignment = _checked(prepared, names, untrained, verified=verified)
                    inputs = inputs_of(prepared, evaluation=verified)
                    if processes.is_main():
                        _record_inputs(prepared, folder, alignment, inputs, names, resume=resume)
                        refuse_unsaved(prepared, folder, untrained, names)
            missing = [name for name in names if not (resume and is_finished(folder, name))]
            time_of_all = None
            if missing and (verified or len(names) > 1) and processes.is_main():  # one training says it by itself
                time_of_all = _told_before(prepared, missing, untrained, alignment if verified else None)
            for name in names:
                finished = finished_arm(prepared, folder, name) if resume else None
                if finished is None and processes.is_main():  # what earlier students scored is not this one's
                    for file in (folder.results, folder.report_html):
                        file.unlink(missing_ok=True)
                measured = None if time_of_all is None or name != missing[0] else partial(time_of_all.say, name)
                students[name], arms[name] = finished or train_arm(prepared, folder, name, inputs, measured)
            subspaces: dict[str, LearnedSubspaces] = {}
            if verified:
                assert alignment is not None
                students[UNTRAINED] = control_of_run(prepared, untrained, judged_student(config, names))
                homes = {name: folder.arm(name) for name in names}
                subspaces = subspaces_of(prepared, folder, alignment, students, homes)
        if verified and processes.is_main():
            assert alignment is not None
            _verify_and_report(prepared, folder, alignment, students, arms, subspaces)
    return folder.path


def _told_before(
    prepared: Prepared, names: Sequence[str], untrained: PreTrainedModel, verified: Alignment | None
) -> TrainingTime:
    """Say how long a run will take; return what says it again when the speed of a training is known."""
    phase("timing a step and a few pairs")
    rate = measured_rate(prepared, names[0])
    seconds = None if verified is None else verification_seconds(prepared, verified, untrained)
    found = TrainingTime(prepared, names, seconds, verified=verified is not None)
    found.begin(rate)
    return found


def _begun(folder: RunFolder, config: RunConfig, resume: bool) -> AbstractContextManager[None]:
    """Begin or continue in the run folder, as only the main process may."""
    if not processes.is_main():
        return nullcontext()
    if not resume:
        return beginning(folder)
    refuse_other_config(folder, config)
    return nullcontext()


def _checked(prepared: Prepared, names: Sequence[str], student: PreTrainedModel, *, verified: bool) -> Alignment | None:
    """Check what is to be trained, on the main process; return the alignment that is written to the run folder."""
    if verified:
        if processes.is_main():
            refuse_failed(validate_prepared(prepared))
        return prepared.verified_alignment(student)
    [arm] = names
    alignment = prepared.arm_alignment(arm, student)
    require_batches(prepared, arm)
    if prepared.config.student.checkpoint is not None:
        refuse_failed([certify_tokenizer(prepared, prepared.config.student.checkpoint)])
    refuse_failed(certify_on_rows(prepared, student, alignment))
    refuse_failed(certify_losses(prepared, arm, student))
    return alignment


def _record_inputs(
    prepared: Prepared,
    folder: RunFolder,
    alignment: Alignment | None,
    inputs: dict[str, str],
    names: Sequence[str],
    *,
    resume: bool,
) -> None:
    """Write what the run begins with, or refuse to resume it with something else."""
    config = prepared.config
    if resume:
        refuse_changed_inputs(folder, inputs)
        for name in names:
            require_arm(prepared, folder, name, inputs)
    another = resume and names != tuple(config.arms) and folder.alignment.is_file()  # of a whole run, or another arm
    _write_inputs(folder, config, None if another else alignment)
    begin_inputs(folder, inputs)  # after the config: a folder without one cannot be resumed


def verify(config: RunConfig, student: str, alignment: str, output: str | Path, name: str = "student") -> Path:
    """Verify a finished student, from this toolkit or not, against the config's teacher.

    Args:
        config: Gives teacher, data and settings of the verification.
        student: Folder or Hub id of the student.
        alignment: An alignment file or a preset.
        output: The run folder; new or empty.
        name: What results and outcomes call the student.

    Raises:
        UserError: If the alignment does not hold on the live models, or the folder is taken.
    """
    prepared = Prepared(config)
    with written_at_once(output) as folder:
        chosen, students = to_verify(prepared, student, alignment, name)
        _write_inputs(folder, config, chosen)
        subspaces = subspaces_of(prepared, folder, chosen, students, dict.fromkeys(students, Path(student)))
        _verify_and_report(prepared, folder, chosen, students, {}, subspaces)
    return folder.path


def verify_loaded(
    prepared: Prepared, students: dict[str, PreTrainedModel], alignment: Alignment, output: str | Path
) -> Path:
    """Verify students that are in memory and known to fit, against the config's teacher; the first is judged.

    Args:
        prepared: The config with what it names.
        students: The students by name; `outcomes.UNTRAINED` is a control.
        alignment: The alignment.
        output: The run folder; new or empty.

    Returns:
        The run folder.

    Raises:
        UserError: If the folder is taken.
    """
    with written_at_once(output) as folder:
        _write_inputs(folder, prepared.config, alignment)
        _verify_and_report(prepared, folder, alignment, students, {}, {})
    return folder.path


def to_verify(
    prepared: Prepared, student: str, alignment: str, name: str
) -> tuple[Alignment, dict[str, PreTrainedModel]]:
    """Load a finished student and its untrained control, and check them.

    Args:
        prepared: The config with what it names.
        student: Folder or Hub id of the student.
        alignment: An alignment file or a preset.
        name: What the student is called.

    Raises:
        UserError: If the alignment does not hold on the live models.
    """
    model = student_from_checkpoint(prepared.teacher, student)
    phase("checking models and alignment")
    chosen = prepared.alignment(alignment, model)
    refuse_failed([certify_tokenizer(prepared, student)])
    refuse_failed(certify_on_rows(prepared, model, chosen, trains=False))
    return chosen, {name: model, **untrained_control(prepared, chosen, model)}


def _write_inputs(folder: RunFolder, config: RunConfig, alignment: Alignment | None) -> None:
    write_atomically(folder.config, dump_config(config))
    if alignment is not None:
        write_atomically(folder.alignment, alignment.to_yaml())


@told_if_out_of_memory("verification", "lower verification.batch_size or data.max_length; trained students are kept")
def _verify_and_report(
    prepared: Prepared,
    folder: RunFolder,
    alignment: Alignment,
    students: dict[str, PreTrainedModel],
    arms: dict[str, dict[str, Any]],
    subspaces: Mapping[str, LearnedSubspaces],
) -> None:
    config, started, cpu = prepared.config, time.perf_counter(), time.process_time()
    settings = config.verification
    phase(f"verifying {', '.join(students)}")
    verification = verified(prepared, alignment, students, settings.pairs, subspaces)
    assert verification.controls is not None  # since a student is judged
    prepared.refuse_changed_teacher()
    write_outcomes(verification.outcomes, folder.outcomes)
    write_outcomes(verification.controls, folder.controls)
    if verification.choices is not None:
        write_outcomes(verification.choices, folder.choices)
    split, rows = (
        (config.data.train_split, prepared.train_rows) if arms else (config.data.eval_split, prepared.eval_rows)
    )
    write_texts(prepared, folder, verification, split, rows)
    results = _results(prepared, alignment, students, arms, verification)
    results |= described_subspaces(subspaces)
    spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    folder.write_results({**results, "verification": spent})
    for name in arms:
        write_atomically(folder.arm(name) / "README.md", model_card(folder.read_results(), name))
    phase("writing the report")
    write_report(folder.path)


def _results(
    prepared: Prepared,
    alignment: Alignment,
    students: dict[str, PreTrainedModel],
    arms: dict[str, dict[str, Any]],
    verification: Verification,
) -> dict[str, Any]:
    config, outcomes, controls = prepared.config, verification.outcomes, verification.controls
    assert controls is not None
    settings = config.verification
    bootstrap: dict[str, Any] = {"resamples": settings.resamples, "seed": config.seed}
    phase("computing measures and intervals")
    judged = judged_student(config, students)
    asked: dict[str, Any] = {"measure": settings.measure, **bootstrap}
    tested: dict[str, Any] = {"controls": controls, "untrained": UNTRAINED, "learned": alignment.learns}
    verdict = judge(outcomes, judged, **tested, margin=settings.margin, **asked)
    control_results = ControlResults(
        self_swap=verification.self_swap,
        ceiling=verification.ceiling,
        absent=list(verification.absent),
        off_manifold=list(verification.off_manifold),
    )
    baseline = baseline_arm(config, judged)
    compared = judged in arms and baseline in arms and baseline != judged
    choices = {} if (few := verification.choices) is None else {"choices": summarise(few, **bootstrap).to_dict()}
    data: dict[str, Dataset] = {config.data.eval_split: prepared.eval_rows}
    if arms:
        mixed = {f"mixture.{name}": rows for name, rows in prepared.mixed_rows.items()}
        data = {config.data.train_split: prepared.train_rows, **mixed, **data}
    return {
        "name": config.name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "provenance": provenance(),
        "seed": config.seed,
        "task": config.task,
        "alignment": alignment.to_dict(),
        "data": {
            split: _describe_rows(rows, prepared.skipped.get(split), _sentences(config, split))
            for split, rows in data.items()
        },
        "teacher": {
            "name": config.teacher,
            "parameters": prepared.teacher.num_parameters(),
            "weights": fingerprint_of_weights(prepared.teacher.state_dict()),
        },
        "blocks": blocks_of({"teacher": prepared.teacher, **students}),
        "arms": arms,
        "summary": summarise(outcomes, **bootstrap).to_dict(),
        **choices,
        "controls": asdict(control_results),
        "evaluation": _evaluate(prepared, students),
        "comparison": asdict(compare(outcomes, judged, str(baseline), **asked)) if compared else None,
        "verdict": asdict(verdict),
    }


def blocks_of(models: Mapping[str, PreTrainedModel]) -> dict[str, int]:
    """Return how many blocks models have, by their names."""
    return {name: int(model.config.num_hidden_layers) for name, model in models.items()}


@told_if_out_of_memory("evaluation", "lower the data's max_length; trained students are kept")
def _evaluate(prepared: Prepared, students: dict[str, PreTrainedModel]) -> dict[str, dict[str, Any]]:
    """Return what `evaluate` measures of teacher and students on each whole held-out set."""
    result: dict[str, dict[str, Any]] = {}
    for name, rows in prepared.evaluation_rows.items():
        models = {"teacher": prepared.teacher, **students}
        result[name] = {"rows": len(rows), "fingerprint": fingerprint_of_rows(rows)}
        for model_name, model in models.items():
            what = f"{model_name}, evaluated on {name}"
            phase(f"evaluating {model_name} on {name}")
            found = evaluate(model, rows, prepared.collator, prepared.config.task, seed=prepared.config.seed, what=what)
            for measure, estimate in found.items():
                result[name].setdefault(measure, {})[model_name] = asdict(estimate)
    return result


def _sentences(config: RunConfig, split: str) -> list[str]:
    """Return the columns of the two sentences of a split's rows; none if they are one text."""
    mixed = config.mixture.get(split.removeprefix("mixture."), config.data)
    data = mixed if split.startswith("mixture.") else config.data
    return list(columns_of(data.text_column)) if data.two_sentences else []


def _describe_rows(rows: Dataset, skipped: dict[str, int] | None, sentences: list[str]) -> dict[str, Any]:
    described = {
        "examples": len(rows),
        "tokens": count_ids(rows),
        "fingerprint": fingerprint_of_rows(rows),
    }
    described |= {"sentences": sentences} if sentences else {}
    return described if skipped is None else {**described, "skipped_pairs": skipped}

"""Whole runs of networks: train every arm by the program or network, verify every student, write results and report."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from torch import nn

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.report.model_card import model_card
from iit_toolkit.analysis.report.report import write_report
from iit_toolkit.analysis.statistics.comparison import compare
from iit_toolkit.analysis.statistics.control_results import ControlResults
from iit_toolkit.analysis.statistics.input_words import NETWORKS
from iit_toolkit.analysis.statistics.outcomes import UNTRAINED, write_outcomes
from iit_toolkit.analysis.statistics.summary import summarise
from iit_toolkit.analysis.statistics.verdict import judge
from iit_toolkit.analysis.verification.verify import Verification
from iit_toolkit.analysis.verification.verify import verify as verify_students
from iit_toolkit.config.loading import dump_config
from iit_toolkit.config.network_config import NetworkRunConfig
from iit_toolkit.config.run_config import refuse_no_arms
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.interchange.checks import refuse_failed
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.pipeline.inputs import refuse_other_config
from iit_toolkit.pipeline.networks.chain import chain_of
from iit_toolkit.pipeline.networks.check import certify_networks, require_rows, validate_prepared_networks
from iit_toolkit.pipeline.networks.facts import accuracy, facts_of_program, write_inputs_read
from iit_toolkit.pipeline.networks.learned import network_subspaces
from iit_toolkit.pipeline.networks.prepare import PreparedNetworks, program_variables, with_alignment_files_read
from iit_toolkit.pipeline.networks.rows import HELD_OUT, fingerprint_of_tensors
from iit_toolkit.pipeline.networks.training import finished_network_arm, train_network_arm
from iit_toolkit.pipeline.subspace_files import described_subspaces
from iit_toolkit.pipeline.verifying import baseline_arm, judged_student
from iit_toolkit.runs import processes
from iit_toolkit.runs.folder import RunFolder, write_atomically
from iit_toolkit.runs.memory import told_if_out_of_memory
from iit_toolkit.runs.progress import phase
from iit_toolkit.runs.provenance import provenance
from iit_toolkit.runs.working import beginning, working_in, written_at_once


def run_networks(config: NetworkRunConfig, output: str | Path, *, resume: bool = False) -> Path:
    """Train every arm, verify every student against the teacher, and write results and report.

    Args:
        config: The run config.
        output: The run folder; new or empty.
        resume: Continue in the folder of an earlier run of the same config, if it is one: arms that were trained are
            taken as they are. All are verified.

    Returns:
        The run folder.

    Raises:
        UserError: If the config does not hold on its program, networks and rows, or the folder is taken. If a run to
            resume is another config's, or was begun with other rows.
    """
    return _train_arms(config, output, tuple(config.arms), resume=resume, verified=True)


def train_networks(config: NetworkRunConfig, output: str | Path, arm: str, *, resume: bool = False) -> Path:
    """Train one arm, and write its student to the run folder.

    Args:
        config: The run config.
        output: The run folder; new or empty.
        arm: The arm.
        resume: As for `run_networks`.

    Raises:
        UserError: As for `run_networks`.
    """
    return _train_arms(config, output, (arm,), resume=resume, verified=False)


def _train_arms(
    config: NetworkRunConfig, output: str | Path, names: Sequence[str], *, resume: bool, verified: bool
) -> Path:
    processes.refuse_several("run (of networks)")
    refuse_no_arms(config.name, config.arms)
    config = with_alignment_files_read(config)
    prepared, folder = PreparedNetworks(config), RunFolder(Path(output))
    students: dict[str, nn.Module] = {}
    arms: dict[str, dict[str, Any]] = {}
    with working_in(output):
        resume = resume and folder.config.is_file()
        with nullcontext() if resume else beginning(folder):
            if resume:
                refuse_other_config(folder, config)
            refuse_failed(validate_prepared_networks(prepared))
            alignment, inputs = prepared.verified_alignment(), prepared.inputs()
            _write_inputs(folder, config, alignment)
        for name in names:
            finished = finished_network_arm(prepared, folder, name, inputs) if resume else None
            if finished is None:
                for file in (folder.results, folder.report_html):
                    file.unlink(missing_ok=True)
            students[name], arms[name] = finished or train_network_arm(prepared, folder, name, inputs)
        if verified:
            students[UNTRAINED] = prepared.control(alignment)
            subspaces = network_subspaces(
                prepared, folder, alignment, students, {name: folder.arm(name) for name in names}
            )
            _verify_and_report(prepared, folder, alignment, students, arms, subspaces)
    return folder.path


def verify_networks(
    config: NetworkRunConfig, student: str, alignment: str, output: str | Path, name: str = "student"
) -> Path:
    """Verify a finished student against the config's teacher.

    Args:
        config: Gives teacher, the student's function, rows and settings of the verification.
        student: The folder of its weights.
        alignment: An alignment file.
        output: The run folder; new or empty.
        name: What results and outcomes call the student.

    Raises:
        UserError: If the alignment does not hold on both sides, the weights do not fit, or the folder is taken.
    """
    with written_at_once(output) as folder:
        prepared, chosen, students = networks_to_verify(config, student, alignment, name)
        _write_inputs(folder, config, chosen)
        subspaces = network_subspaces(prepared, folder, chosen, students, dict.fromkeys(students, Path(student)))
        _verify_and_report(prepared, folder, chosen, students, {}, subspaces)
    return folder.path


def networks_to_verify(
    config: NetworkRunConfig, student: str, alignment: str, name: str
) -> tuple[PreparedNetworks, Alignment, dict[str, nn.Module]]:
    """Return what a finished student is verified with: what the config names, the alignment, and student and control.

    Raises:
        UserError: As `verify_networks`.
    """
    by_this = config.verification.model_copy(update={"alignment": alignment})
    prepared = PreparedNetworks(config.model_copy(update={"verification": by_this}))
    chosen = prepared.verified_alignment()
    require_rows(prepared, [chosen])
    model = prepared.student_of(student)
    refuse_failed(certify_networks(prepared, model, chosen))
    return prepared, chosen, {name: model, UNTRAINED: prepared.control(chosen, model)}


def _write_inputs(folder: RunFolder, config: NetworkRunConfig, alignment: Alignment) -> None:
    write_atomically(folder.config, dump_config(config))
    write_atomically(folder.alignment, alignment.to_yaml())


@told_if_out_of_memory("verification", "lower verification.batch_size; trained students are kept")
def _verify_and_report(
    prepared: PreparedNetworks,
    folder: RunFolder,
    alignment: Alignment,
    students: dict[str, nn.Module],
    arms: dict[str, dict[str, Any]],
    subspaces: Mapping[str, LearnedSubspaces],
) -> None:
    started, cpu = time.perf_counter(), time.process_time()
    phase(f"verifying {', '.join(students)}")
    judged = judged_student(prepared.config, students)
    rows, pairs = prepared.rows.drawn[HELD_OUT], prepared.config.verification.pairs
    verification = verified_networks(rows, prepared, alignment, students, judged, pairs, subspaces)
    prepared.refuse_changed_teacher()
    assert verification.controls is not None  # since a student is judged
    write_outcomes(verification.outcomes, folder.outcomes)
    write_outcomes(verification.controls, folder.controls)
    write_inputs_read(folder, verification, rows, prepared.program, alignment)
    results = _results(prepared, alignment, students, arms, verification, judged, subspaces)
    results |= described_subspaces(subspaces)
    spent = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu}
    folder.write_results({**results, "verification": spent})
    for name in arms:
        write_atomically(folder.arm(name) / "README.md", model_card(folder.read_results(), name))
    phase("writing the report")
    write_report(folder.path)


def verified_networks(
    rows: TensorRows,
    prepared: PreparedNetworks,
    alignment: Alignment,
    students: Mapping[str, nn.Module],
    judged: str,
    pairs: int,
    subspaces: Mapping[str, LearnedSubspaces],
) -> Verification:
    """Verify networks as the config says, on given rows and so many pairs.

    Raises:
        UserError: As `iit_toolkit.analysis.verification.verify.verify`.
    """
    settings = prepared.config.verification
    return verify_students(
        prepared.teacher,
        students,
        alignment,
        rows,
        pairs=pairs,
        batch_size=settings.batch_size,
        top_k=settings.top_k,
        seed=prepared.config.seed,
        judged=judged,
        subspaces=subspaces or None,
    )


def _results(
    prepared: PreparedNetworks,
    alignment: Alignment,
    students: dict[str, nn.Module],
    arms: dict[str, dict[str, Any]],
    verification: Verification,
    judged: str,
    subspaces: Mapping[str, LearnedSubspaces],
) -> dict[str, Any]:
    config, outcomes = prepared.config, verification.outcomes
    settings = config.verification
    bootstrap: dict[str, Any] = {"resamples": settings.resamples, "seed": config.seed}
    phase("computing measures and intervals")
    asked: dict[str, Any] = {"measure": settings.measure, **bootstrap}
    tested: dict[str, Any] = {"controls": verification.controls, "untrained": UNTRAINED, "learned": alignment.learns}
    verdict = judge(outcomes, judged, **tested, margin=settings.margin, **asked)
    control_results = ControlResults(
        self_swap=verification.self_swap,
        ceiling=verification.ceiling,
        absent=list(verification.absent),
        off_manifold=list(verification.off_manifold),
    )
    baseline = baseline_arm(config, judged)
    compared = judged in arms and baseline in arms and baseline != judged
    single = prepared.rows.single[HELD_OUT]
    program, teacher = prepared.program, prepared.teacher
    told = {} if program is None else _told_of_program(prepared, alignment)
    summary = summarise(outcomes, **bootstrap).to_dict()
    chain = {} if settings.program is None else {"chain": chain_of(prepared, alignment, students, summary, subspaces)}
    return {
        "name": config.name,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "provenance": provenance(),
        "seed": config.seed,
        "task": NETWORKS,
        "alignment": alignment.to_dict(),
        "data": {
            split: {"examples": len(rows), "tokens": 0, "fingerprint": fingerprint_of_tensors(rows)}
            for split, rows in prepared.rows.drawn.items()
            if arms or split == HELD_OUT
        },
        "teacher": {
            "name": config.teacher.name,
            "parameters": sum(one.numel() for one in teacher.parameters()) if isinstance(teacher, nn.Module) else 0,
            "weights": prepared.fingerprint_of_teacher(),
        },
        **told,
        **chain,
        "arms": arms,
        "summary": summary,
        "controls": asdict(control_results),
        "evaluation": {
            HELD_OUT: {
                "rows": len(single),
                "fingerprint": fingerprint_of_tensors(single),
                "accuracy": {
                    name: asdict(accuracy(model, single)) for name, model in {"teacher": teacher, **students}.items()
                },
            }
        },
        "comparison": asdict(compare(outcomes, judged, str(baseline), **asked)) if compared else None,
        "verdict": asdict(verdict),
    }


def _told_of_program(prepared: PreparedNetworks, alignment: Alignment) -> dict[str, Any]:
    assert prepared.program is not None
    held_out, variables = prepared.rows.single[HELD_OUT], program_variables(alignment)
    return {"program": facts_of_program(str(prepared.config.program), prepared.program, held_out, variables)}

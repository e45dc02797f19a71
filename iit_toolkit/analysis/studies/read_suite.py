"""The study that a suite's folder holds: finished runs of one arm each, and the scores of its fine-tuned student.

    ROOT/ARM/seed-42/results.json               the run of one arm with one seed
    ROOT/ARM/seed-42/finetune/finetune.json     its student, fine-tuned
    ROOT/teacher/finetune/finetune.json         the teacher, fine-tuned

Nothing else is read, so a copy of these files without models is as good as the suite's own folder.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.input_words import NETWORKS
from iit_toolkit.analysis.statistics.numbers import EVALUATED
from iit_toolkit.analysis.statistics.stored_results import (
    evaluation_facts,
    read_stored,
    refuse_incomparable,
)
from iit_toolkit.analysis.studies.study import TEACHER, Record, Study, TaskScores, refuse_untrained
from iit_toolkit.errors import UserError
from iit_toolkit.files.plain_files import refuse_links_out
from iit_toolkit.runs.finetuned import TaskSummary, read_summary

_SEED_FOLDER = re.compile(r"seed-([0-9]+)")
_SAME_IN_ARM = ("student_parameters", "steps", "alignment", "objective")
_SAME_PERPLEXITY = 1e-3
"""Up to which share the teacher's perplexity may differ within a seed: precision and hardware change far less, other
masked tokens more."""


def read_suite(root: Path) -> Study:
    """Read the runs of a suite; those that are not finished are left out.

    Args:
        root: The folder that holds a folder per arm.

    Raises:
        UserError: If it holds no finished run, or one that is not whole or lies in the wrong place, or the runs differ
            in task, teacher, data, verified alignment, evaluation sets or the fine-tuning seeds of a task, those of
            one arm in the student's size, the steps, the rows of a step, the alignment or the objective, or those of
            one seed in the perplexity of the teacher, whose tokens were masked otherwise then.
    """
    found: dict[str, dict[int, Record]] = {}
    for path in sorted(root.glob("*/seed-*/results.json"), key=_place):
        seed = _SEED_FOLDER.fullmatch(path.parent.name)
        if seed is not None:
            if seed[1] != str(int(seed[1])):
                raise UserError(f"{path.parent}: a seed has no zeros before it; rename it to seed-{int(seed[1])}")
            run = _read_run(path, path.parent.parent.name, int(seed[1]))
            found.setdefault(run.arm, {})[run.seed] = run
    if not found:
        raise UserError(f"{root}: no finished run; give a folder that holds ARM/seed-N/results.json")
    study = Study(str(root), found, _read_scores(root / TEACHER))
    refuse_incomparable(*(run.results for runs in found.values() for run in runs.values()))
    for runs in found.values():
        for run in runs.values():
            _refuse_other(study.first, run, _data)
            _refuse_other(next(iter(runs.values())), run, _training)
            _refuse_other_batch(next(iter(runs.values())), run)
    _refuse_other_masks(study)
    _refuse_other_seeds(study, root)
    return study


def _place(path: Path) -> tuple[str, int, str]:
    """Seeds in the order of their numbers."""
    name = path.parent.name
    return path.parent.parent.name, len(name), name


def _read_run(path: Path, arm: str, seed: int) -> Record:
    refuse_links_out(path.parent.parent.parent, path)
    stored = read_stored(path)
    if list(stored.document["arms"]) != [arm]:
        raise UserError(
            f"{path}: its arms are {', '.join(stored.document['arms']) or 'none'}; a run in {arm} trains {arm} alone"
        )
    if stored.document["seed"] != seed:
        raise UserError(f"{path}: its seed is {stored.document['seed']}, not {seed} as its folder says; rename one")
    stored.student(arm)
    refuse_untrained(path, arm, stored.document["arms"][arm])
    run = Record(arm, seed, stored, _read_scores(path.parent))
    always = "accuracy" if stored.document["task"] == NETWORKS else "perplexity"
    for name, found in run.evaluation.items():
        for measure in EVALUATED:
            models: dict[str, Estimate] | None = getattr(found, measure)
            if models is None and measure != always:
                continue
            for model in (arm, TEACHER):
                if models is None or model not in models or models[model].value is None:
                    raise UserError(f"{path}: evaluation.{name} has no {measure} of {model}; run it again")
    return run


def _read_scores(folder: Path) -> dict[str, TaskScores]:
    path = folder / "finetune" / "finetune.json"
    refuse_links_out(folder, path)
    try:
        _, summary = read_summary(path)
    except FileNotFoundError:
        return {}
    return {name: _task_scores(task) for name, task in summary.tasks.items()}


def _task_scores(task: TaskSummary) -> TaskScores:
    metrics = next(iter(task.splits.values()))
    return TaskScores(
        score=task.score.median,
        metrics={name: spread.median for name, spread in metrics.items()},
        seeds=tuple(sorted(task.seeds)),
    )


def _refuse_other(one: Record, two: Record, facts: Callable[[Record], dict[str, Any]]) -> None:
    """Check that facts of two runs are the same."""
    first, second = facts(one), facts(two)
    for name in {**first, **second}:
        if first.get(name) != second.get(name):
            raise UserError(
                f"{two.results.path} can't be compared with {one.results.path}: {name} is {second.get(name)}, "
                f"not {first.get(name)}; give runs of one suite"
            )


def _refuse_other_batch(one: Record, two: Record) -> None:
    """Check that two runs of an arm had as many rows to a step, which depends on the number of processes too."""
    first, second = (run.training["effective_batch"] for run in (one, two))
    if first != second:
        raise UserError(
            f"{two.results.path} can't be compared with {one.results.path}: a step had {second} rows, not {first}; "
            "run all seeds of an arm on as many processes"
        )


def _refuse_other_masks(study: Study) -> None:
    """Check that the runs of a seed were evaluated on the same tokens, since differences are paired by seed."""
    first: dict[tuple[int, str], tuple[Record, float]] = {}
    for run in (run for runs in study.records.values() for run in runs.values()):
        for name, found in run.evaluation.items():
            if found.perplexity is None:
                continue  # networks read no tokens
            perplexity = found.perplexity[TEACHER].value
            assert perplexity is not None  # as each run was read
            other, expected = first.setdefault((run.seed, name), (run, perplexity))
            if not math.isclose(perplexity, expected, rel_tol=_SAME_PERPLEXITY):
                raise UserError(
                    f"{run.results.path} can't be compared with {other.results.path}: the teacher's perplexity on "
                    f"{name} is {perplexity:.6g}, not {expected:.6g}, so other tokens were masked; give runs of one "
                    "suite"
                )


def _refuse_other_seeds(study: Study, root: Path) -> None:
    """Check that each task was fine-tuned with the same seeds everywhere, since medians over them are compared."""
    tuned = {run.results.path.parent: run.tasks for runs in study.records.values() for run in runs.values()}
    first: dict[str, tuple[Path, tuple[int, ...]]] = {}
    for home, tasks in {**tuned, root / TEACHER: study.teacher}.items():
        for name, task in tasks.items():
            other, seeds = first.setdefault(name, (home, task.seeds))
            if task.seeds != seeds:
                raise UserError(
                    f"{home / 'finetune'} can't be compared with {other / 'finetune'}: the fine-tuning seeds of {name} "
                    f"are {_listed(task.seeds)}, not {_listed(seeds)}; `iit-toolkit suite run` goes on until "
                    "all have the same"
                )


def _listed(seeds: tuple[int, ...]) -> str:
    return ", ".join(map(str, seeds))


def _data(run: Record) -> dict[str, Any]:
    data = {f"data.{name}": one["fingerprint"] for name, one in run.results.document["data"].items()}
    return {**data, **evaluation_facts(run.results)}


def _training(run: Record) -> dict[str, Any]:
    return {f"arms.{run.arm}.{name}": run.training[name] for name in _SAME_IN_ARM}

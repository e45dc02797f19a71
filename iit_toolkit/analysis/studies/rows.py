"""What was measured in a study: rows of values per arm, in the order of the seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from iit_toolkit.analysis.statistics.measures import MEASURES, judged_measure
from iit_toolkit.analysis.statistics.numbers import EVALUATED
from iit_toolkit.analysis.statistics.quantities import Region
from iit_toolkit.analysis.statistics.summary import VariableSummary
from iit_toolkit.analysis.studies.paired import Row, StudyMeasure
from iit_toolkit.analysis.studies.study import TEACHER, Record, Study, TaskScores
from iit_toolkit.errors import UserError

BEHAVIOUR, TASKS, COST = "Perplexity, and agreement with the teacher", "Tasks", "Training"
EFFECT, RECOVERED = "effect R² outside", "KL recovered outside"
EFFECTIVE, FLOOR, ABOVE = "effective IIA outside", "no-intervention floor outside", "effective IIA outside, above floor"
IIA = "IIA"
LEAK = "leak"
GLUE = ("cola", "mnli", "mrpc", "qnli", "qqp", "rte", "sst2", "stsb")
"""The tasks of the paper's mean, which leaves WNLI out and takes MNLI's matched split alone."""

_OF_VARIABLES: tuple[tuple[str, str, Region], ...] = (
    (EFFECT, "effect_r2", "outside"),
    (RECOVERED, "kl_recovered", "outside"),
    (EFFECTIVE, "effective_iia", "outside"),
    (FLOOR, "effective_floor", "outside"),
    (ABOVE, "margin", "outside"),
    (IIA, "iia", "all"),
    ("effect correlation outside", "effect_correlation", "outside"),
)
"""The groups of a variable's measures: title, measure and region. Those that no run has are left out."""
_HEADLINES = {
    "effect_r2": (EFFECT,),
    "kl_recovered": (RECOVERED,),
    "effective_iia": (EFFECTIVE, ABOVE),
    "iia": (IIA,),
}
"""The groups that a short table shows, by the measure that was asked for."""
_MORE_METRICS = {"squad": ("exact_match",)}
"""Official metrics besides the one that is the task's score (SQuAD: F1)."""

Groups = dict[str, tuple[Row, ...]]
_UNITS = {"PFLOP": 1e15, "TFLOP": 1e12, "GFLOP": 1e9}
_TRAINING = "training"
"""What a training's operations are called; their unit follows."""
_Tasks = Mapping[str, TaskScores]


def study_rows(study: Study, arms: Sequence[str], variables: Sequence[str]) -> Groups:
    """Return every measure of every arm, by groups that make one table each.

    Where an arm has no run of a seed, or a run lacks the measure, the value is None. Of several variables the last
    row of a group is the mean over the chosen ones.

    Args:
        study: What was read.
        arms: The arms, in the order that is wanted.
        variables: The variables that the means are over.
    """

    def row(measure: StudyMeasure, value: Callable[[Record], float | None]) -> Row:
        runs = {arm: [study.records[arm].get(seed) for seed in study.seeds] for arm in arms}
        return Row(measure, {arm: tuple(None if r is None else value(r) for r in found) for arm, found in runs.items()})

    groups = {BEHAVIOUR: tuple(row(measure, value) for measure, value in _behaviour(study))}
    for kind, name, region in _OF_VARIABLES:
        if not any(measured(run, name) for run in _runs(study)):
            continue  # a measure that came later than these results
        found = _variables(study, kind, lambda one, name=name, region=region: _value(one, name, region), variables)
        groups[kind] = tuple(row(measure, value) for measure, value in found)
    if study.verdicts() and any(_leak(run) is not None for run in _runs(study)):
        groups[LEAK] = (row(StudyMeasure(LEAK, False, 3), _leak),)
    tasks = _task_measures(_tasks(study))
    groups[TASKS] = tuple(row(measure, lambda run, value=value: value(run.tasks)) for measure, value in tasks.items())
    groups[COST] = tuple(row(StudyMeasure(name, False, digits), value) for name, digits, value in _costs(study))
    return groups


def teacher_rows(study: Study) -> tuple[Row, ...]:
    """Return what is known of the teacher itself, as an arm named "teacher".

    Its perplexity is measured anew with every seed, which masks other tokens; its task scores are one fine-tuning
    (of several seeds), and so is their only value.
    """
    of_seed = {seed: run for runs in study.records.values() for seed, run in runs.items()}
    rows = [
        Row(measure, {TEACHER: tuple(value(of_seed[seed], TEACHER) for seed in study.seeds)})
        for measure, value in _evaluated(study)
    ]
    if study.teacher:
        tasks = _task_measures(_tasks(study))
        rows += [Row(measure, {TEACHER: (value(study.teacher),)}) for measure, value in tasks.items()]
    return tuple(rows)


def relative(row: Row, arm: str, baseline: str) -> Row:
    """Return an arm's changes against a baseline in per cent of the baseline's value, seed by seed."""
    pairs = list(zip(row.values[arm], row.values[baseline], strict=True))
    changes = tuple(None if one is None or two is None else 100 * (one / two - 1) for one, two in pairs)
    measure = StudyMeasure(relative_name(row.measure.name), row.measure.higher_is_better, 1)
    return Row(measure, {arm: changes, baseline: tuple(None if one is None else 0.0 for one in changes)})


def relative_name(name: str) -> str:
    """Return the name of a measure's relative change."""
    return f"{name}, relative change (%)"


def headline_measure(study: Study, measure: str | None = None) -> str:
    """Return the measure of interventions that a short table shows.

    Args:
        study: What was read.
        measure: The one that is asked for, one of `measures.JUDGED`; by default effect R² or, if no run has it,
            effective IIA.

    Raises:
        UserError: If there is none of that name, or no run has it.
    """
    if measure is None:
        return "effect_r2" if any(measured(run, "effect_r2") for run in _runs(study)) else "effective_iia"
    chosen = judged_measure(measure)
    if not any(measured(run, measure) for run in _runs(study)):
        raise UserError(f"{study.name}: {chosen.title} was not measured in these results; verify the runs again")
    return measure


def measured(run: Record, measure: str) -> bool:
    """Return whether a run has a measure of interventions: those of earlier versions lack what came later."""
    return all(getattr(one, measure) is not None for one in run.student.variables.values())


def headline_names(groups: Groups, measure: str) -> tuple[str, ...]:
    """Return the measures that a short table shows, by name.

    Args:
        groups: All of them.
        measure: The measure of interventions that is shown.
    """
    means = [row for row in groups[TASKS] if ", mean of" in row.measure.name]
    iia = [row for kind in _HEADLINES[measure] for row in groups[kind][-1:]]
    training = [row for row in groups[COST] if row.measure.name.startswith(_TRAINING)]
    return tuple(row.measure.name for row in (*groups[BEHAVIOUR], *iia, *(means or groups[TASKS]), *training))


def _evaluated(study: Study) -> list[tuple[StudyMeasure, Callable[[Record, str], float | None]]]:
    """Return what was measured on held-out sets, each with a function of a run and the name of one of its models."""
    return [
        (
            StudyMeasure(f"{kind}, {name}", kind == "accuracy", digits),
            lambda run, model, name=name, kind=kind: getattr(run.evaluation[name], kind)[model].value,
        )
        for kind, digits in EVALUATED.items()
        for name, found in study.first.evaluation.items()
        if getattr(found, kind) is not None
    ]


def _verified(study: Study) -> list[tuple[StudyMeasure, Callable[[Record], float | None]]]:
    """Return what the verified pairs alone tell of the students' answers, for a study without evaluation sets."""
    if study.first.accuracy is not None:
        return [(StudyMeasure("accuracy", True, 3), lambda run: run.accuracy)]
    return [_unintervened("student_perplexity", 2)]


def _unintervened(name: str, digits: int) -> tuple[StudyMeasure, Callable[[Record], float | None]]:
    """Return a measure of runs without interventions, by its name in `MEASURES`."""
    measure = MEASURES[name]
    shown = StudyMeasure(measure.title, measure.higher_is_better is True, digits)
    return shown, lambda run: getattr(run.student.behaviour, name).value


def _behaviour(study: Study) -> list[tuple[StudyMeasure, Callable[[Record], float | None]]]:
    found: list[tuple[StudyMeasure, Callable[[Record], float | None]]] = [
        (measure, lambda run, value=value: value(run, run.arm)) for measure, value in _evaluated(study)
    ]
    return [
        *(found or _verified(study)),
        _unintervened("top1_agreement", 3),
        _unintervened("kl", 3),
    ]


def _variables(
    study: Study, kind: str, value: Callable[[VariableSummary], float | None], chosen: Sequence[str]
) -> list[tuple[StudyMeasure, Callable[[Record], float | None]]]:
    def mean(run: Record) -> float | None:
        return _mean([value(run.student.variables[name]) for name in chosen])

    names = list(study.first.student.variables)
    found: list[tuple[StudyMeasure, Callable[[Record], float | None]]] = [
        (StudyMeasure(f"{kind}, {name}", True, 3), lambda run, name=name: value(run.student.variables[name]))
        for name in names
    ]
    if len(names) > 1:
        found.append((StudyMeasure(f"{kind}, mean of {', '.join(chosen)}", True, 3), mean))
    return found


def _value(measured: VariableSummary, name: str, region: Region) -> float | None:
    return None if getattr(measured, name) is None else measured.estimate(name, region).value


def _runs(study: Study) -> list[Record]:
    return [run for runs in study.records.values() for run in runs.values()]


def _mean(values: Sequence[float | None]) -> float | None:
    """None if a value is missing: a mean of fewer would be of something else."""
    defined = [value for value in values if value is not None]
    return math.fsum(defined) / len(defined) if len(defined) == len(values) else None


def _tasks(study: Study) -> list[str]:
    runs = [run.tasks for runs in study.records.values() for run in runs.values()]
    return sorted({name for tasks in (*runs, study.teacher) for name in tasks})


def _task_measures(names: Sequence[str]) -> dict[StudyMeasure, Callable[[_Tasks], float | None]]:
    found: dict[StudyMeasure, Callable[[_Tasks], float | None]] = {}
    for name in names:
        found[StudyMeasure(f"score, {name}", True, 2)] = lambda tasks, name=name: _score(tasks, name)
        for metric in _MORE_METRICS.get(name, ()):
            found[StudyMeasure(f"{metric.replace('_', ' ')}, {name}", True, 2)] = (
                lambda tasks, name=name, metric=metric: tasks[name].metrics.get(metric) if name in tasks else None
            )
    glue = [name for name in names if name in GLUE]
    means = {f"score, mean of {len(glue)} GLUE tasks": glue}
    if glue != list(names):
        means[f"score, mean of {len(names)} tasks"] = list(names)
    for name, averaged in means.items():
        if len(averaged) > 1:
            found[StudyMeasure(name, True, 2)] = lambda tasks, averaged=averaged: _mean(
                [_score(tasks, n) for n in averaged]
            )
    return found


def _score(tasks: _Tasks, name: str) -> float | None:
    return tasks[name].score if name in tasks else None


def _leak(run: Record) -> float | None:
    """Return the largest leak among those that decide the verdict."""
    leaks = [] if run.verdict is None else [one for one in run.verdict.leaks if one.decides]
    return max((one.difference.value for one in leaks if one.difference.value is not None), default=None)


def _whole(run: Record, key: str) -> float | None:
    """Return a time of the training; None if it was resumed, since the time before is not in it."""
    return None if run.training.get("resumed_at_step") else run.training.get(key)


def flop_unit(study: Study) -> tuple[str, float]:
    """Return the unit in which the operations of the study's trainings are written, and how many operations it is."""
    return unit_of_flops(max(run.flops for run in _runs(study)))


def unit_of_flops(most: float) -> tuple[str, float]:
    """Return the unit in which up to so many operations are written, and how many operations it is."""
    return next((one for one in _UNITS.items() if most >= one[1] / 100), ("GFLOP", 1e9))


def _costs(study: Study) -> list[tuple[str, int, Callable[[Record], float | None]]]:
    (unit, size), digits = flop_unit(study), 1 if study.of_networks else 0
    read: list[tuple[str, int, Callable[[Record], float | None]]] = [
        ("tokens read", 0, lambda run: run.training["tokens"])
    ]
    return [
        ("steps", 0, lambda run: run.training["steps"]),
        *([] if study.of_networks else read),
        ("student's parameters", 0, lambda run: run.training["student_parameters"]),
        (f"{_TRAINING} {unit}", 3, lambda run: run.flops / size),
        ("time (s)", digits, lambda run: _whole(run, "seconds")),
        ("CPU time (s)", digits, lambda run: _whole(run, "cpu_seconds")),
    ]

"""Runs of one config over seeds: read, checked to differ in their seed only, and what was measured of their arms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from iit_toolkit.analysis.statistics.metrics import summarise
from iit_toolkit.analysis.statistics.numbers import EVALUATED
from iit_toolkit.analysis.statistics.outcomes import NO_GOLD, read_outcomes
from iit_toolkit.analysis.statistics.quantities import cases_of, variables
from iit_toolkit.analysis.statistics.stored_results import (
    StoredResults,
    evaluation_facts,
    read_stored,
    refuse_incomparable,
    refuse_other_cases,
)
from iit_toolkit.analysis.studies.paired import Measure, Row
from iit_toolkit.config.loading import load_config
from iit_toolkit.errors import UserError
from iit_toolkit.files.plain_files import refuse_links_out
from iit_toolkit.runs.folder import RunFolder

_SAME_IN_ARMS = ("alignment", "objective", "student_parameters")
_SAME_IN_CONFIGS = ("student", "mlm", "arms", "training")


@dataclass(frozen=True)
class SeedRun:
    """One finished run: its results, with the summary made anew from its outcomes, and these outcomes."""

    results: StoredResults
    outcomes: pd.DataFrame

    @property
    def seed(self) -> int:
        """The seed of everything in the run."""
        return self.results.document["seed"]

    @property
    def arms(self) -> dict[str, dict[str, Any]]:
        """What the results say of the training of each arm."""
        return self.results.document["arms"]


def read_runs(folders: Sequence[Path]) -> list[SeedRun]:
    """Read runs of one config, ordered by seed.

    Raises:
        UserError: If a folder holds no finished run with trained arms, or the runs differ in anything but their
            seeds, or a seed stands twice.
    """
    runs = [_read_run(folder) for folder in folders]
    refuse_incomparable(*(run.results for run in runs))
    for run in runs[1:]:
        _refuse_other_training(runs[0], run)
    by_seed: dict[int, SeedRun] = {}
    for run in runs:
        if run.seed in by_seed:
            raise UserError(
                f"{run.results.path} and {by_seed[run.seed].results.path} have the same seed {run.seed}; "
                "give every seed once"
            )
        by_seed[run.seed] = run
    return [by_seed[seed] for seed in sorted(by_seed)]


def measure_rows(runs: Sequence[SeedRun]) -> list[Row]:
    """Return every measure of every arm, in every run."""
    measured = [_measured(run) for run in runs]
    return [
        Row(measure, {arm: tuple(one[measure][arm] for one in measured) for arm in runs[0].arms})
        for measure in measured[0]
    ]


def _measured(run: SeedRun) -> dict[Measure, dict[str, float | None]]:
    """Return the measures of a run, by arm."""
    document = run.results.document
    students = {arm: run.results.student(arm) for arm in run.arms}
    found: dict[Measure, dict[str, float | None]] = {}
    for variable in next(iter(students.values())).variables:
        measured = {arm: student.variables[variable] for arm, student in students.items()}
        found[Measure(f"effective IIA outside, {variable}", True, 3)] = {
            arm: one.effective_iia.outside.value for arm, one in measured.items()
        }
        found[Measure(f"IIA, {variable}", True, 3)] = {arm: one.iia.all.value for arm, one in measured.items()}
    if document.get("task") == "sequence_classification":
        found[Measure("accuracy", True, 3)] = {arm: _accuracy(run.outcomes, arm) for arm in students}
    else:
        perplexities = {arm: student.behaviour.student_perplexity.value for arm, student in students.items()}
        found[Measure("perplexity", False, 2)] = perplexities
    for name, evaluated in run.results.evaluation.items():
        for measure, digits in EVALUATED.items():
            if (models := getattr(evaluated, measure)) is not None:
                values = {arm: models[arm].value for arm in students}
                found[Measure(f"{measure}, {name}", measure == "accuracy", digits)] = values
    return found


def _accuracy(outcomes: pd.DataFrame, student: str) -> float | None:
    """Share of examples with the gold label, without intervention."""
    cases = cases_of(outcomes, student, variables(outcomes, student)[0])
    gold = cases["gold"] != NO_GOLD
    return float((cases["student_base"] == cases["gold"])[gold].mean()) if gold.any() else None


def _read_run(folder: Path) -> SeedRun:
    if folder.is_file():
        raise UserError(f"{folder} is a file; give the folder of a finished run")
    stored = read_stored(folder)
    arms = stored.document["arms"]
    if not arms:
        raise UserError(f"{stored.path}: no trained arms; give folders that `iit-toolkit run` wrote")
    for name, evaluated in stored.evaluation.items():
        for measure in EVALUATED:
            if (models := getattr(evaluated, measure)) is not None and not set(arms) <= set(models):
                raise UserError(f"{stored.path}: evaluation.{name}.{measure} is not of every arm; run it again")
    run_folder = RunFolder(folder)
    refuse_links_out(folder, run_folder.config)
    outcomes = read_outcomes(run_folder.outcomes)
    refuse_other_cases(stored, outcomes, run_folder.outcomes)
    settings = {name: getattr(stored.summary, name) for name in ("resamples", "seed", "level")}
    run = SeedRun(replace(stored, summary=summarise(outcomes, **settings)), outcomes)
    for arm in arms:
        run.results.student(arm)
    return run


def _refuse_other_training(one: SeedRun, two: SeedRun) -> None:
    """Check that two runs differ in their seeds only, as far as their folders tell."""
    configs = [RunFolder(run.results.path.parent).config for run in (one, two)]
    facts = [_training(run) for run in (one, two)]
    if all(path.is_file() for path in configs):
        facts = [found | _settings(path) for found, path in zip(facts, configs, strict=True)]
    for place in sorted({*facts[0], *facts[1]}):
        first, second = (found.get(place) for found in facts)
        if first != second:
            raise UserError(
                f"{two.results.path} can't be compared with {one.results.path}: {place} is {_short(second)}, "
                f"not {_short(first)}; give runs of one config that differ in the seed only"
            )


def _training(run: SeedRun) -> dict[str, Any]:
    """Return what must be the same in two trainings, by its name."""
    document = run.results.document
    facts: dict[str, Any] = {"arms": ", ".join(run.arms)}
    facts |= {f"data.{name}": one["fingerprint"] for name, one in document["data"].items()}
    facts |= evaluation_facts(run.results)
    for arm, details in run.arms.items():
        facts |= {f"arms.{arm}.{name}": details[name] for name in _SAME_IN_ARMS}
    return facts


def _settings(path: Path) -> dict[str, Any]:
    """Return what must be the same in two configs; data are known by their fingerprints."""
    config = load_config(path).model_dump(mode="json")
    chosen: dict[str, Any] = {name: config[name] for name in _SAME_IN_CONFIGS}
    chosen["verification"] = {"pairs": config["verification"]["pairs"]}
    return _flat(chosen, "config.")


def _flat(settings: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."

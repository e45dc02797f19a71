"""The study that run folders hold: runs of one config, each with all its arms, that differ in their seed only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from iit_toolkit.analysis.statistics.input_words import NETWORKS
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
from iit_toolkit.analysis.statistics.summary import summarise
from iit_toolkit.analysis.studies.study import TEACHER, Record, Study, refuse_untrained
from iit_toolkit.config.differences import different, flat, without_cosmetic
from iit_toolkit.config.loading import load_config
from iit_toolkit.config.task import FACTS
from iit_toolkit.errors import UserError
from iit_toolkit.files.plain_files import refuse_links_out
from iit_toolkit.runs.folder import RunFolder

_SAME_IN_ARMS = ("alignment", "objective", "student_parameters", "steps")
_SAME_IN_CONFIGS = ("student", "mlm", "arms", "training")  # networks have no mlm


def read_runs(folders: Sequence[Path]) -> Study:
    """Read runs of one config.

    Args:
        folders: Run folders, in any order.

    Returns:
        The study, with the summaries made anew from the outcomes; the arms stand in the order of the config.

    Raises:
        UserError: If a folder holds no finished run with trained arms, or the runs differ in anything but their
            seeds, or a seed stands twice.
    """
    runs = [_read_run(folder) for folder in folders]
    refuse_incomparable(*(run.results for run in runs))
    for run in runs[1:]:
        _refuse_other_training(runs[0], run)
    by_seed: dict[int, _Run] = {}
    for run in runs:
        if run.seed in by_seed:
            raise UserError(
                f"{run.results.path} and {by_seed[run.seed].results.path} have the same seed {run.seed}; "
                "give every seed once"
            )
        by_seed[run.seed] = run
    ordered = [by_seed[seed] for seed in sorted(by_seed)]
    records = {arm: {run.seed: _record(run, arm) for run in ordered} for arm in ordered[0].arms}
    return Study(str(ordered[0].results.path), records, teacher={})


@dataclass(frozen=True)
class _Run:
    """One finished run: its results, with the summary made anew from its outcomes, and these outcomes."""

    results: StoredResults
    outcomes: pd.DataFrame

    @property
    def seed(self) -> int:
        return self.results.document["seed"]

    @property
    def arms(self) -> dict[str, dict[str, Any]]:
        return self.results.document["arms"]


def _record(run: _Run, arm: str) -> Record:
    task = str(run.results.document.get("task"))
    labels = task == NETWORKS or (task in FACTS and FACTS[task].classes)
    return Record(arm, run.seed, run.results, {}, _accuracy(run.outcomes, arm) if labels else None)


def _accuracy(outcomes: pd.DataFrame, student: str) -> float | None:
    """Share of examples, or tagged tokens, with the gold label, without intervention."""
    cases = cases_of(outcomes, student, variables(outcomes, student)[0])
    gold = cases["gold"] != NO_GOLD
    return float((cases["student_base"] == cases["gold"])[gold].mean()) if gold.any() else None


def _read_run(folder: Path) -> _Run:
    if folder.is_file():
        raise UserError(f"{folder} is a file; give the folder of a finished run")
    stored = read_stored(folder)
    arms = stored.document["arms"]
    if not arms:
        raise UserError(f"{stored.path}: no trained arms; give folders that `iit-toolkit run` wrote")
    for arm, training in arms.items():
        refuse_untrained(stored.path, arm, training)
    for name, evaluated in stored.evaluation.items():
        for measure in EVALUATED:
            if (models := getattr(evaluated, measure)) is not None and not {*arms, TEACHER} <= set(models):
                where = f"{stored.path}: evaluation.{name}.{measure}"
                raise UserError(f"{where} is not of every arm and the teacher; run it again")
    run_folder = RunFolder(folder)
    refuse_links_out(folder, run_folder.config)
    outcomes = read_outcomes(run_folder.outcomes)
    refuse_other_cases(stored, outcomes, run_folder.outcomes)
    settings = {name: getattr(stored.summary, name) for name in ("resamples", "seed", "level")}
    run = _Run(replace(stored, summary=summarise(outcomes, **settings)), outcomes)
    for arm in arms:
        run.results.student(arm)
    return run


def _refuse_other_training(one: _Run, two: _Run) -> None:
    """Check that two runs differ in their seeds only, as far as their folders tell."""
    configs = [RunFolder(run.results.path.parent).config for run in (one, two)]
    facts = [_training(run) for run in (one, two)]
    if all(path.is_file() for path in configs):
        facts = [found | _settings(path) for found, path in zip(facts, configs, strict=True)]
    differ = different(*facts)
    if differ:
        raise UserError(
            f"{two.results.path} can't be compared with {one.results.path}: {differ}; give runs of one config that "
            "differ in the seed only"
        )


def _training(run: _Run) -> dict[str, Any]:
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
    chosen: dict[str, Any] = {name: config.get(name) for name in _SAME_IN_CONFIGS}
    chosen["verification"] = {"pairs": config["verification"]["pairs"]}
    return without_cosmetic(flat(chosen, "config."))

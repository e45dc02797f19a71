"""A study: arms trained with several seeds, one record of each, whatever folders they were read from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from iit_toolkit.analysis.statistics.input_words import NETWORKS
from iit_toolkit.analysis.statistics.results_layout import Evaluated
from iit_toolkit.analysis.statistics.stored_results import StoredResults
from iit_toolkit.analysis.statistics.summary import StudentSummary
from iit_toolkit.analysis.statistics.variable_verdict import Label
from iit_toolkit.analysis.statistics.verdict import Verdict
from iit_toolkit.errors import UserError

TEACHER = "teacher"


@dataclass(frozen=True)
class TaskScores:
    """One task, as a run's student (or the teacher) was scored.

    Attributes:
        score: The task's score, the median over the fine-tuning seeds.
        metrics: The same of every metric of the split that gives the score.
        seeds: The fine-tuning seeds, ascending.
    """

    score: float | None
    metrics: dict[str, float | None]
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Record:
    """One arm with one seed.

    Attributes:
        arm: Its name.
        seed: Of everything in the run.
        results: What the run wrote.
        tasks: The scores by task; empty if the student was not fine-tuned.
        accuracy: Share of the verified examples with the gold label, without intervention; None if answers are no
            labels, or the outcomes were not read.
    """

    arm: str
    seed: int
    results: StoredResults
    tasks: dict[str, TaskScores]
    accuracy: float | None = None

    @property
    def student(self) -> StudentSummary:
        """What was measured of the student."""
        return self.results.student(self.arm)

    @property
    def training(self) -> dict[str, Any]:
        """What the results say of the arm's training."""
        return self.results.document["arms"][self.arm]

    @property
    def hardware(self) -> dict[str, Any]:
        """The machine that trained."""
        return self.training["provenance"]["hardware"]

    @property
    def evaluation(self) -> dict[str, Evaluated]:
        """The evaluation sets by name, each with the perplexity of the arm and of the teacher."""
        return self.results.evaluation

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the arm; None if that of its run is on another one."""
        return self.results.verdict if self.results.judged == self.arm else None

    @property
    def flops(self) -> float:
        """Multiplications and additions of the training: as recorded of one micro-batch, times all that were run."""
        return self.training["cost"]["flops"] * self.training["micro_batches_run"]

    @property
    def step_flops(self) -> float:
        """Those of one step, on average."""
        return self.flops / self.training["steps"]


@dataclass(frozen=True)
class Study:
    """All records of a study.

    Attributes:
        name: What messages call it: its folder, or the first of its runs.
        records: By arm and seed, ascending; the seeds of two arms may differ.
        teacher: The scores of the fine-tuned teacher by task; empty if it was not fine-tuned.
    """

    name: str
    records: dict[str, dict[int, Record]]
    teacher: dict[str, TaskScores]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of any arm, ascending."""
        return tuple(sorted({seed for records in self.records.values() for seed in records}))

    @property
    def first(self) -> Record:
        """The record whose teacher, data and alignment are those of all."""
        return next(iter(next(iter(self.records.values())).values()))

    @property
    def of_networks(self) -> bool:
        """Whether its students are networks of torch, which read no text."""
        return self.first.results.document["task"] == NETWORKS

    def verdicts(self) -> dict[str, dict[int, Label]]:
        """Return the verdict on every arm by seed; none if the verdict of a run is on another arm than its own."""
        found: dict[str, dict[int, Label]] = {
            arm: {seed: run.verdict.label for seed, run in runs.items() if run.verdict is not None}
            for arm, runs in self.records.items()
        }
        return found if all(found[arm].keys() == runs.keys() for arm, runs in self.records.items()) else {}

    def training(self, arm: str) -> dict[str, Any]:
        """Return what is the same in all trainings of an arm, of the first."""
        return next(iter(self.records[arm].values())).training

    def flops(self, arm: str) -> float:
        """Return the multiplications and additions of an arm's training, as a mean over its seeds."""
        return float(np.mean([record.flops for record in self.records[arm].values()]))


def refuse_untrained(path: Path, arm: str, training: Mapping[str, Any]) -> None:
    """Check that an arm was trained, so that its compute can be compared.

    Raises:
        UserError: If it made no step.
    """
    if not training["steps"]:
        raise UserError(f"{path}: arm {arm} made no step; run it again")

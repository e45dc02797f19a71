"""How long a run will take: by timing a step and a few pairs before it begins, and by the first steps of its first arm.

The work of trainings is counted in operations, which take as long in one arm as in another.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from logging import getLogger
from pathlib import Path

import torch
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.statistics.outcomes import UNTRAINED
from iit_toolkit.distillation.cost import StepCost, flops
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.sides import new_subspaces
from iit_toolkit.pipeline.arms import steps_in_all, training_settings
from iit_toolkit.pipeline.explanation import first_step, step_cost
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.verifying import verified
from iit_toolkit.runs.memory import told_if_out_of_memory
from iit_toolkit.runs.progress import duration

FEWEST_BATCHES = 8
"""If a verification has fewer batches, none is tried before: they are soon done."""
_STEPS, _SECONDS = 8, 3.0
"""Steps that are timed, and the time after which no other is."""
_LOG = getLogger(__name__)
Clock = Callable[[], float]


class TrainingTime:
    """The work of several arms.

    It has to be made before any training, because counting draws new students.

    Args:
        prepared: What the config names.
        names: The arms that are to be trained.
        verification: Seconds of the verification; None if they are not known, or nothing is verified.
        verified: Whether the trainings are followed by a verification and a report.
    """

    def __init__(
        self, prepared: Prepared, names: Sequence[str], verification: float | None = None, *, verified: bool = True
    ) -> None:
        self._verification, self._verified = verification, verified
        self._steps: dict[str, int] = {}
        self._flops: dict[str, float] = {}
        for name in names:
            student, settings = prepared.new_student(), training_settings(prepared, name, Path("unused"))
            cost, _ = step_cost(prepared, name, prepared.arm_alignment(name, student), student)
            self._flops[name] = cost.flops * settings.gradient_accumulation_steps
            self._steps[name] = steps_in_all(settings, len(prepared.train_rows))

    def seconds(self, rate: float) -> float:
        """Return how long all the trainings take, at a number of operations per second."""
        return sum(self._flops[arm] * steps for arm, steps in self._steps.items()) / rate

    def begin(self, rate: float) -> None:
        """Log how long all takes, by the rate that was measured before."""
        trainings = self.seconds(rate)
        whole = trainings + (self._verification or 0.0)
        arms = self._in_arms(" of ", "")
        if self._verification is None:
            after = "; verification and report come after that" if self._verified else ""
            _LOG.info("training%s takes about %s on this machine%s", arms, duration(trainings), after)
            return
        parts = f"training{arms} {duration(trainings)}, verification {duration(self._verification)}"
        _LOG.info("about %s on this machine: %s; the report comes after that", duration(whole), parts)

    def say(self, name: str, step_seconds: float) -> None:
        """Log the same again, by what a step of an arm took."""
        after = ""
        if self._verification is not None:
            after = f"; verification takes about {duration(self._verification)} after that"
        elif self._verified:
            after = "; verification and report come after that"
        whole = self.seconds(self._flops[name] / step_seconds)
        _LOG.info("training takes about %s%s%s", duration(whole), self._in_arms(" for ", ""), after)

    def _in_arms(self, before: str, behind: str) -> str:
        return f"{before}{len(self._steps)} arms{behind}" if len(self._steps) > 1 else ""


@told_if_out_of_memory("training", "lower training.per_device_train_batch_size or data.max_length")
def measured_rate(prepared: Prepared, name: str, clock: Clock = time.perf_counter) -> float:
    """Return how many operations of an arm's steps are done in a second: those of its base runs, with gradients.

    The optimizer and what prepares batches are not among them. After a first step, a few are timed together.

    Args:
        prepared: What the config names.
        name: The arm.
        clock: Seconds.
    """
    student = prepared.new_student()
    objective, batch, settings = first_step(prepared, name, prepared.arm_alignment(name, student), student)
    weights, device = ObjectiveWeights(ce=1.0), settings.device.type

    def step() -> None:
        with torch.random.fork_rng(), torch.autocast(device, torch.bfloat16, enabled=settings.bf16):
            objective(batch, weights=weights).total.backward()
        student.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    step()
    begun, spent, steps = clock(), 0.0, 0
    while steps < _STEPS and spent < _SECONDS:
        step()
        steps, spent = steps + 1, clock() - begun
    return steps * flops(StepCost(objective, batch, weights).plain()) / spent


@told_if_out_of_memory("verification", "lower verification.batch_size or data.max_length")
def verification_seconds(
    prepared: Prepared, alignment: Alignment, student: PreTrainedModel, clock: Clock = time.perf_counter
) -> float | None:
    """Return about how long the verification of all arms takes, by one batch of it and by two; None if it is short.

    Args:
        prepared: What the config names.
        alignment: The alignment that is verified.
        student: Stands for the student of every arm.
        clock: Seconds.
    """
    settings = prepared.config.verification
    pairs = min(settings.pairs, len(prepared.eval_rows))
    if pairs < FEWEST_BATCHES * settings.batch_size:
        return None
    students, taken = dict.fromkeys([*prepared.config.arms, UNTRAINED], student), list[float]()
    subspaces: dict[str, LearnedSubspaces] = {}
    if alignment.learns:  # any will do, since they cost the same
        first = prepared.collator([prepared.eval_rows[0]])
        subspaces = dict.fromkeys(students, new_subspaces(student, alignment, first, teacher=prepared.teacher))
    for batches in (1, 2):
        begun = clock()
        verified(prepared, alignment, students, batches * settings.batch_size, subspaces)
        taken.append(clock() - begun)
    one, two = taken
    return two + max(two - one, 0.0) * (pairs / settings.batch_size - 2)

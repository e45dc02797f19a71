"""How long the trainings of a run will take, as soon as the speed of the first is measured."""

from __future__ import annotations

from collections.abc import Sequence
from logging import getLogger
from pathlib import Path

from iit_toolkit.pipeline.arms import steps_in_all, training_settings
from iit_toolkit.pipeline.explanation import step_cost
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.runs.progress import duration

_LOG = getLogger(__name__)


class TrainingTime:
    """The work of several arms: the operations of all steps, which take as long in one arm as in another.

    It has to be made before any training, because counting draws new students.

    Args:
        prepared: What the config names.
        names: The arms that are to be trained.
        rest: What comes after the trainings, such as `verification and report`; empty if nothing does.
    """

    def __init__(self, prepared: Prepared, names: Sequence[str], rest: str) -> None:
        self._rest = rest
        self._steps: dict[str, int] = {}
        self._flops: dict[str, float] = {}
        for name in names:
            student, settings = prepared.new_student(), training_settings(prepared, name, Path("unused"))
            cost, _ = step_cost(prepared, name, prepared.arm_alignment(name, student), student)
            self._flops[name] = cost.flops * settings.gradient_accumulation_steps
            self._steps[name] = steps_in_all(settings, len(prepared.train_rows))

    def seconds(self, name: str, step_seconds: float) -> float:
        """Return how long all the trainings take, by what a step of one of them took."""
        each = step_seconds / self._flops[name]
        return sum(each * self._flops[arm] * steps for arm, steps in self._steps.items())

    def say(self, name: str, step_seconds: float) -> None:
        """Log how long all the trainings take, by what a step of one of them took."""
        after = f"; {self._rest} come after that" if self._rest else ""
        whole = duration(self.seconds(name, step_seconds))
        _LOG.info("training takes about %s for %d arms%s", whole, len(self._steps), after)

"""What the trainings of a suite's arms cost, before they are run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from iit_toolkit.config.network_config import NetworkRunConfig
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.pipeline.arms import micro_batches_run, steps_of_one_process, training_settings
from iit_toolkit.pipeline.explanation import least_seconds, step_cost
from iit_toolkit.pipeline.networks.explanation import training_cost
from iit_toolkit.pipeline.networks.prepare import PreparedNetworks
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.suite.config import SuiteConfig
from iit_toolkit.runs.progress import phase


@dataclass(frozen=True)
class TrainingCost:
    """What one training costs.

    Attributes:
        steps: Its steps.
        flops: Multiplications and additions in its matrix products.
        least_seconds: The least time that these take this machine.
    """

    steps: int
    flops: float
    least_seconds: float


def training_costs(config: SuiteConfig) -> Callable[[str], TrainingCost]:
    """Return what tells the cost of an arm's training; models and data are loaded when it is first asked.

    Raises:
        UserError: As it is asked, if the run config does not hold on the live models and data.
    """
    run = config.run
    return cache(_of_texts(config, run) if isinstance(run, RunConfig) else _of_networks(run))


def _of_texts(config: SuiteConfig, run: RunConfig) -> Callable[[str], TrainingCost]:
    prepared = Prepared(run)

    def cost(arm: str) -> TrainingCost:
        phase(f"counting what a step of {arm} costs")
        student = prepared.new_student(config.student_of(arm))
        step, _ = step_cost(prepared, arm, prepared.arm_alignment(arm, student), student)
        settings, rows = training_settings(prepared, arm, Path("unused")), len(prepared.train_rows)
        steps = steps_of_one_process(settings, rows)
        batches = micro_batches_run(settings, rows, steps)
        return TrainingCost(steps, batches * step.flops, batches * least_seconds(step.flops, settings))

    return cost


def _of_networks(run: NetworkRunConfig) -> Callable[[str], TrainingCost]:
    prepared = PreparedNetworks(run)

    def cost(arm: str) -> TrainingCost:
        phase(f"counting what a step of {arm} costs")
        return TrainingCost(*training_cost(prepared, arm))

    return cost

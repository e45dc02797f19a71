"""How long the trainings of a run will take: by their steps, and by what a step costs."""

from __future__ import annotations

import logging

import pytest

from iit_toolkit.config.loading import load_config
from iit_toolkit.distillation.cost import ExpectedCost
from iit_toolkit.pipeline.estimates import TrainingTime
from iit_toolkit.pipeline.explanation import step_cost
from iit_toolkit.pipeline.prepare import Prepared

ARMS = (
    "arms={plain: {}, longer: {training: {max_steps: 8}}, summed: {training: {gradient_accumulation_steps: 3}}, "
    "causal: {alignment: diito/middle}}"
)
SMALL = ["data.max_length=32", "training.max_steps=4", "training.per_device_train_batch_size=4"]


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return Prepared(load_config("quickstart", [ARMS, "verification.treatment=causal", *SMALL]))


def cost_of(prepared: Prepared, name: str) -> ExpectedCost:
    student = prepared.new_student()
    return step_cost(prepared, name, prepared.arm_alignment(name, student), student)[0]


def test_the_time_of_all_is_that_of_their_steps_and_their_operations(
    prepared: Prepared, caplog: pytest.LogCaptureFixture
) -> None:
    alike = TrainingTime(prepared, ["plain", "longer", "summed"], "")
    assert alike.seconds("plain", 2.0) == pytest.approx(2.0 * (4 + 8 + 3 * 4))
    assert alike.seconds("summed", 6.0) == pytest.approx(2.0 * (4 + 8 + 3 * 4))
    plain, causal = (cost_of(prepared, name).flops for name in ("plain", "causal"))
    both = TrainingTime(prepared, ["plain", "causal"], "verification and report")
    assert causal > 1.2 * plain
    assert both.seconds("plain", 1.0) == pytest.approx(4 + 4 * causal / plain)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        alike.say("plain", 2.0)
        both.say("plain", 100 / (4 + 4 * causal / plain))
    assert caplog.messages == [
        "training takes about 48 s for 3 arms",
        "training takes about 1 min 40 s for 2 arms; verification and report come after that",
    ]

"""How long the trainings of a run will take: by their steps, and by what a step costs."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest

from iit_toolkit.config.loading import load_config
from iit_toolkit.distillation.cost import ExpectedCost
from iit_toolkit.pipeline.estimates import TrainingTime, measured_rate, verification_seconds
from iit_toolkit.pipeline.explanation import step_cost
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.runs.progress import duration

ARMS = (
    "arms={plain: {}, longer: {training: {max_steps: 8}}, summed: {training: {gradient_accumulation_steps: 3}}, "
    "causal: {alignment: diito/middle}}"
)
SMALL = ["data.max_length=32", "training.max_steps=4", "training.per_device_train_batch_size=4"]


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return Prepared(load_config("python-docs", [ARMS, "verification.treatment=causal", *SMALL]))


def cost_of(prepared: Prepared, name: str) -> ExpectedCost:
    student = prepared.new_student()
    return step_cost(prepared, name, prepared.arm_alignment(name, student), student)[0]


def test_the_time_of_all_is_that_of_their_steps_and_their_operations(
    prepared: Prepared, caplog: pytest.LogCaptureFixture
) -> None:
    alike = TrainingTime(prepared, ["plain", "longer", "summed"], verified=False)
    cost, causal = (cost_of(prepared, name).flops for name in ("plain", "causal"))
    assert alike.seconds(cost / 2.0) == pytest.approx(2.0 * (4 + 8 + 3 * 4))
    both = TrainingTime(prepared, ["plain", "causal"])
    assert causal > 1.2 * cost
    assert both.seconds(cost) == pytest.approx(4 + 4 * causal / cost)
    known, alone = TrainingTime(prepared, ["plain"], 90.0), TrainingTime(prepared, ["plain"], verified=False)
    caplog.clear()
    with caplog.at_level(logging.INFO):
        alike.say("plain", 2.0)
        alike.say("summed", 6.0)
        both.say("plain", 100 / (4 + 4 * causal / cost))
        known.say("plain", 20.0)
        for time in (alike, both, known, alone):
            time.begin(cost / 10)
    longer = duration(10 * (4 + 4 * causal / cost))
    assert caplog.messages == [
        "training takes about 48 s for 3 arms",
        "training takes about 48 s for 3 arms",
        "training takes about 1 min 40 s for 2 arms; verification and report come after that",
        "training takes about 1 min 20 s; verification takes about 1 min 30 s after that",
        "training of 3 arms takes about 4 min 00 s on this machine",
        f"training of 2 arms takes about {longer} on this machine; verification and report come after that",
        "about 2 min 10 s on this machine: training 40 s, verification 1 min 30 s; the report comes after that",
        "training takes about 40 s on this machine",
    ]


def clock_of(*seconds: float) -> Callable[[], float]:
    """A clock that shows these, one after the other."""
    left = iter(seconds)
    return lambda: next(left)


@pytest.mark.parametrize("times", [[2.0, 3.5], [0.25 * step for step in range(1, 9)]], ids=["slow", "quick"])
def test_the_rate_is_that_of_a_few_steps(prepared: Prepared, times: list[float]) -> None:
    rate = measured_rate(prepared, "causal", clock_of(100.0, *(100.0 + time for time in times)))
    each = times[-1] / len(times)
    assert rate == pytest.approx(cost_of(prepared, "plain").plain_flops / each, rel=0.01)


def test_the_verification_takes_as_long_as_its_batches(prepared: Prepared) -> None:
    config = prepared.config
    several = config.verification.model_copy(update={"pairs": 32, "batch_size": 4})
    some = Prepared(config.model_copy(update={"verification": several}))
    student = some.new_student()
    alignment = some.verified_alignment(student)
    found = verification_seconds(some, alignment, student, clock_of(1.0, 6.0, 6.0, 13.0))
    assert found == pytest.approx(3.0 + 2.0 * 32 / 4)  # what each batch takes, and what all take once
    assert verification_seconds(some, alignment, student, clock_of(1.0, 6.0, 6.0, 7.0)) == 1.0
    few = Prepared(config.model_copy(update={"verification": several.model_copy(update={"batch_size": 5})}))
    assert verification_seconds(few, alignment, student, clock_of()) is None

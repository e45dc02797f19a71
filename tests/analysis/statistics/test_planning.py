"""The pairs that a plan asks for are those with which simulated verifications show the lead."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtri, stdtrit

from iit_toolkit.analysis.statistics.control_words import FLOOR
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.planning import plan
from iit_toolkit.analysis.statistics.power import POWER, pairs_needed
from iit_toolkit.errors import UserError
from tests.analysis.synthetic import make_controls, make_outcomes


def estimate(values: Any, level: float = 0.95) -> Estimate:
    """The mean of independent normal leads, one per pair, with Student's interval."""
    count = len(values)
    half = float(stdtrit(count - 1, (1 + level) / 2)) * float(values.std(ddof=1)) / math.sqrt(count)
    mean = float(values.mean())
    return Estimate(mean, mean - half, mean + half, count * 50, count, count, count)


@pytest.mark.parametrize("level", [0.95, 1 - 0.05 / 3])
@pytest.mark.parametrize(("lead", "margin"), [(0.1, 0.05), (0.2, 0.05), (0.1, 0.0)])
def test_so_many_pairs_show_the_lead_in_eighty_percent_of_simulations(lead: float, margin: float, level: float) -> None:
    generator = np.random.default_rng(0)
    deviation = 0.4
    exact = estimate(generator.normal(lead, deviation, 200_000))  # a pilot that knows the variance
    needed = pairs_needed(exact, 200_000, lead, margin, level)
    assert needed.pairs is not None
    values = generator.normal(lead, deviation, (2000, needed.pairs))
    errors = values.std(1, ddof=1) / math.sqrt(needed.pairs)
    shown = values.mean(1) - float(stdtrit(needed.pairs - 1, (1 + level) / 2)) * errors > margin
    assert shown.mean() == pytest.approx(POWER, abs=0.03)


def test_the_formula_is_that_of_the_docstring() -> None:
    pilot = Estimate(0.1, 0.0, 0.2, 6400, 64, 64, 64)
    error = 0.1 / float(stdtrit(63, 0.975))
    ratio = (float(ndtri(0.975)) + float(ndtri(0.8))) / 0.15
    assert pairs_needed(pilot, 64, 0.2, 0.05, 0.95).pairs == math.ceil(64 * (error * ratio) ** 2)


def test_the_range_holds_the_true_number_in_most_pilots() -> None:
    generator = np.random.default_rng(1)
    ratio = (float(ndtri(0.975)) + float(ndtri(0.8))) / 0.05
    true = math.ceil((0.6 * ratio) ** 2)
    held = 0
    for _ in range(1000):
        needed = pairs_needed(estimate(generator.normal(0.1, 0.6, 64)), 64, 0.1, 0.05, 0.95)
        assert needed.low is not None and needed.pairs is not None and needed.high is not None
        assert needed.low <= needed.pairs <= needed.high
        held += needed.low <= true <= needed.high
    assert held / 1000 == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("lead", [0.0, 0.03, 0.05])
def test_a_lead_within_the_margin_is_never_supported(lead: float) -> None:
    needed = pairs_needed(estimate(np.random.default_rng(0).normal(0.1, 0.4, 64)), 64, lead, 0.05, 0.95)
    assert (needed.pairs, needed.low, needed.high) == (None, None, None)


def test_a_student_without_any_reaction_is_not_taken_for_a_sure_one() -> None:
    still = Estimate(0.0, 0.0, 0.0, 500, 64, 64, 64)
    assert (pairs_needed(still, 64, 0.1, 0.05, 0.95).pairs or 0) > 20


def test_never_fewer_pairs_than_the_verdict_needs_texts() -> None:
    sure = Estimate(0.5, 0.4999, 0.5001, 10**6, 64, 64, 64)
    assert pairs_needed(sure, 64, 0.5, 0.05, 0.95).pairs == 20


def test_a_pilot_is_planned_from_variable_by_variable() -> None:
    found = plan(make_outcomes(variables=("early", "late"), bases=64), "causal", resamples=200)
    assert (found.pairs, found.margin, found.level) == (64, 0.05, pytest.approx(0.975))
    for one in found.variables.values():
        assert one.reason == "" and one.control in ("untrained", FLOOR)
        assert [needed.pairs is None for needed in one.supported] == [True, False, False]
        assert all(needed.pairs for needed in one.above_zero)
        assert one.supported[1].pairs > one.supported[2].pairs > one.above_zero[2].pairs  # pyright: ignore
    assert set(found.to_dict()["variables"]) == {"early", "late"}


def test_more_variables_need_more_pairs() -> None:
    one, three = (
        plan(make_outcomes(variables=names, bases=64), "causal", resamples=200).variables["a"].supported[1].pairs
        for names in (("a",), ("a", "b", "c"))
    )
    assert one is not None and three is not None and three > one


def test_too_few_texts_are_a_reason() -> None:
    found = plan(make_outcomes(bases=19), "causal", resamples=200).variables["middle"]
    assert found.supported == found.above_zero == ()
    assert found.reason.startswith("too few texts in the pilot (") and "20 texts" in found.reason


def test_an_unknown_measure_is_one_line() -> None:
    with pytest.raises(UserError, match='did you mean "effect_r2"'):
        plan(make_outcomes(bases=30), "causal", measure="effect_r")


def test_controls_count() -> None:
    outcomes = make_outcomes(bases=64)

    class Verified:
        judged = "causal"
        learned = False
        controls = make_controls({"wrong layer": 0.5, "shuffled sources": 0.0}, bases=64)

    Verified.outcomes = outcomes  # pyright: ignore[reportAttributeAccessIssue]
    found = plan(Verified(), resamples=200).variables["middle"]  # pyright: ignore[reportArgumentType]
    assert found.control == "wrong layer"

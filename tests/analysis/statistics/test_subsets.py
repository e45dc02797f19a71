"""Parts of the cases: planted truths that hold in one part only are found there and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from iit_toolkit.analysis.statistics.subsets import Settings, by_frequency, by_position, by_size
from iit_toolkit.analysis.statistics.summary import summarise
from tests.analysis.synthetic import graded, make_outcomes

SETTINGS = Settings(resamples=200, seed=0, level=0.95)


def follows(where: Any) -> pd.DataFrame:
    """A student that gives the teacher's new answer exactly where told, and its old one elsewhere."""
    outcomes = make_outcomes({"causal": 0.0}, per_base=24, bases=40)
    chosen = where(outcomes)
    return graded(outcomes.assign(student_cf=np.where(chosen, outcomes["teacher_cf"], outcomes["teacher_base"])))


def test_by_position_finds_where_the_student_follows() -> None:
    table = by_position(follows(lambda cases: cases["position"] < 8), SETTINGS)
    assert list(table["group"]) == ["0-3", "4-7", "8-11", "12-15", "16-19", "20-23"]
    assert list(table["value"]) == [1.0, 1.0, 0.0, 0.0, 0.0, 0.0]
    assert (table["floor"] == 0).all() and (table["low"] <= table["value"]).all()


def test_groups_share_out_the_changed_cases_outside() -> None:
    outcomes = make_outcomes(bases=40)
    table = by_position(outcomes, SETTINGS)
    one = outcomes[outcomes["student"] == "causal"]
    changed = (~one["inside"] & (one["teacher_cf"] != one["teacher_base"])).sum()
    assert table[table["student"] == "causal"]["cases"].sum() == changed > 0
    assert set(table["student"]) == {"causal", "plain", "untrained"}


def test_few_positions_stand_alone_and_none_gives_nothing() -> None:
    assert list(by_position(make_outcomes({"a": 1.0}, per_base=4), SETTINGS)["group"]) == ["0", "1", "2", "3"]
    assert by_position(make_outcomes(classification=True), SETTINGS).empty


def test_by_frequency_finds_where_the_student_follows() -> None:
    per_million = {token: 5.0 if token % 2 else 5000.0 for token in range(50)}
    outcomes = follows(lambda cases: cases["gold"] % 2 == 0)  # the frequent ones; without gold: -100, left out
    table = by_frequency(outcomes, per_million, SETTINGS)
    assert list(table["group"]) == ["below 10", "1k to 10k"]
    assert list(table["value"]) == [0.0, 1.0]
    gold = outcomes[(outcomes["gold"] >= 0) & ~outcomes["inside"]]
    assert table["cases"].sum() == (gold["teacher_cf"] != gold["teacher_base"]).sum()
    assert by_frequency(outcomes, {}, SETTINGS).empty


@pytest.mark.parametrize(("value", "band"), [(9.99, "below 10"), (10, "10 to 100"), (1e4, "10k or more")])
def test_ends_of_the_bands(value: float, band: str) -> None:
    table = by_frequency(make_outcomes({"a": 1.0}, bases=5), dict.fromkeys(range(50), value), SETTINGS)
    assert list(table["group"]) == [band]


def test_by_size_ends_with_what_the_summary_says_and_narrows_to_it() -> None:
    outcomes = make_outcomes(bases=400, variables=("early", "late"))
    table = by_size(outcomes, "causal", SETTINGS)
    summary = summarise(outcomes, **SETTINGS).students["causal"]
    for variable in ("early", "late"):
        rows = table[table["variable"] == variable]
        assert list(rows["drawn"]) == [20, 40, 80, 160, 320, 400]
        found = summary.variables[variable].estimate("effect_r2")
        last = rows.iloc[-1]
        assert (last["value"], last["low"], last["high"]) == (found.value, found.low, found.high)
        assert (last["cases"], last["bases"]) == (found.cases, found.clusters)
        widths = (rows["high"] - rows["low"]).to_numpy()
        assert widths[0] > 2.5 * widths[-1]  # about the root of 20
        assert (np.diff(rows["cases"]) > 0).all()


def test_all_of_few_base_examples() -> None:
    assert list(by_size(make_outcomes(bases=20), "causal", SETTINGS)["drawn"]) == [20]
    assert list(by_size(make_outcomes(bases=7), "causal", SETTINGS)["drawn"]) == [7]

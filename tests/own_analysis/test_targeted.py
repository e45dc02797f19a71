"""The measures of suites on minimal pairs, and the pages that are made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import measures, targeted
from iit_toolkit.analysis.statistics.summary import summarise
from tests.analysis.synthetic import graded, make_outcomes


def record(arm: str, seed: int, explained: float) -> dict[str, Any]:
    sums = {"cases": 10.0, "changed": 4.0, "effective": 3.0, "effective_floor": 1.0, "effect_size": 2.0}
    sums |= {"explained": explained, "kl_ignored": 5.0, "recovered": 1.0}
    other = {**sums, "effect_size": 6.0, "explained": 0.0}
    return {
        "arm": arm, "seed": seed, "steps": 150, "tflop": 1.5, "cpu_seconds": 3600.0,
        "verdict": {"label": "SUPPORTED", "score": {"value": 0.5}, "leads": {"untrained": {"value": 0.375}}},
        "general": {"perplexity, text": 100.0 + seed, "accuracy, reviews": 0.5}, "hardware": "some processor",
        "groups": {"agreement, words": sums, "agreement, templates": sums, "pronouns, words": other},
    }  # fmt: skip


RECORDS = [record("plain", seed, 1.0) for seed in (1, 2, 3)] + [record("causal", seed, 1.5) for seed in (3, 1, 2)]


def test_a_measure_is_the_ratio_of_sums_over_groups() -> None:
    one = record("causal", 1, 1.5)
    assert targeted.value(one, "effect R²", targeted.of_split("words")) == pytest.approx(1.5 / 8)
    assert targeted.value(one, "effect R²", targeted.of_split("templates")) == pytest.approx(1.5 / 2)
    assert targeted.value(one, "effective IIA", lambda *_: True) == pytest.approx(0.75)
    assert targeted.value(one, "effect R²", lambda *_: False) is None


def test_the_sums_of_cases_are_those_of_a_summary() -> None:
    outcomes = graded(make_outcomes({"causal": 0.6}, bases=200))
    sums = measures._sums(outcomes)  # pyright: ignore[reportPrivateUsage]
    [variable] = summarise(outcomes, resamples=100).students["causal"].variables.values()
    for ratio, measure in (
        ("effect R²", "effect_r2"),
        ("KL recovered", "kl_recovered"),
        ("effective IIA", "effective_iia"),
    ):
        found = targeted.value({"groups": {"a, b": sums}}, ratio, lambda *_: True)
        assert found == pytest.approx(variable.estimate(measure).value, abs=1e-9)


def test_tables_pair_by_seed() -> None:
    arms, rivals, families = (targeted.TABLES[name](RECORDS) for name in ("arms", "rivals", "families"))
    assert "| causal | 3 | 3 of 3 | 150 | 1.50 | 0.188 ± 0.000 | 0.750 ± 0.000 |" in arms
    assert "Training took 6.0 CPU hours on some processor." in arms
    assert "has an effect R² of 0.125 over all held-out pairs." in arms
    assert "| plain | 3 | +0.062 [no interval] | +0.250 [no interval] |" in rivals and "| causal |" not in rivals
    assert "| perplexity, text | accuracy, reviews |" in arms and "| 102.0 ± 1.0 | 0.500 ± 0.000 |" in arms
    assert "| log perplexity, text | accuracy, reviews |" in rivals and "| +0.000 [no interval] |" in rivals
    assert "0.750 ± 0.000" in families and " - |" in families


def test_scores_are_of_runs_that_were_fine_tuned() -> None:
    scores = {("causal", 1): 80.0, ("causal", 2): 70.0, ("plain", 1): 60.0, ("plain", 2): 70.0}
    scored = [
        {**record(arm, seed, 1.0), "tasks": {"sst2": score, "mrpc": 50.0}} for (arm, seed), score in scores.items()
    ]
    table = targeted.TABLES["tasks"]([*scored, record("causal", 3, 1.0), record("spans", 1, 1.0)]).splitlines()
    assert table[2:] == [
        "| causal | 2 | 75.0 ± 7.1 | 50.0 ± 0.0 | 62.5 ± 3.5 |  |",
        "| plain | 2 | 65.0 ± 7.1 | 50.0 ± 0.0 | 57.5 ± 3.5 | +5.0 [-58.5, +68.5] |",
    ]


def test_students_of_other_kinds_are_compared_with_each_other() -> None:
    records = RECORDS + [record(f"half-{arm}", 1, value) for arm, value in (("causal", 1.5), ("plain-compute", 1.0))]
    assert "half-" not in targeted.TABLES["rivals"](records)
    half = targeted.TABLES["half-rivals"](records).splitlines()
    assert len(half) == 3 and half[2].startswith("| half-plain-compute | 1 | +0.062 [no interval] |")


def test_causes_are_the_difference_of_two_arms_that_differ_in_one_factor() -> None:
    records = [record(arm, seed, kept) for arm, kept in (("spans", 1.5), ("spans-heads", 1.0)) for seed in (1, 2)]
    table = targeted.TABLES["causes"]([*records, record("spans-heads", 3, 1.0)]).splitlines()
    factor, difference, seeds, kept = table[2].split(" | ")[:4]
    assert len(table) == 3 and "what half of the heads write" in factor
    assert (difference, seeds, kept) == ("spans minus spans-heads", "2", "+0.062 [no interval]")
    assert "spans-heads" not in targeted.TABLES["short"](records) + targeted.TABLES["rivals"](records + RECORDS)


def test_arms_of_every_cause_are_those_of_a_study() -> None:
    studies = [set(targeted.arms_of(records)) for records in targeted.stored_studies().values()]
    for _, one, other in targeted.CAUSES:
        assert any({one, other} <= arms for arms in studies), (one, other)


def test_families_are_compared_in_both_amounts() -> None:
    records = [record("causal", 1, 1.5), record("causal", 2, 1.5)]
    records += [record("plain-compute", seed, 1.0) for seed in (1, 2)]
    for one in records[:2]:
        one["groups"]["agreement, words"] = {**one["groups"]["agreement, words"], "recovered": 2.0}
    table = targeted.TABLES["family-rivals"](records).splitlines()
    assert table[0] == "| causal minus | family | held out | effect R² | KL recovered |"
    assert table[2:4] == [
        "| plain-compute | agreement | new words | +0.250 [no interval] | +0.200 [no interval] |",
        "| plain-compute | agreement | new words and templates | +0.250 [no interval] | +0.000 [no interval] |",
    ]


def test_the_first_and_the_last_arm_stand_clear_of_the_frame() -> None:
    for axes in targeted.draw(RECORDS).figure.axes:
        assert axes.get_ylim() == (1.5, -0.5)


def test_the_committed_page_is_what_the_measures_give() -> None:
    studies = targeted.stored_studies()
    assert "targeted" in studies
    for path in targeted.documents(studies):
        text = path.read_text(encoding="utf-8")
        assert "<!-- /" in text and targeted.page(text, studies) == text
    for study, records in studies.items():
        stored = pd.read_csv(targeted.EXPERIMENTS / study / "kept.csv")
        drawn = targeted.draw(records).data
        assert stored["arm"].tolist() == drawn["arm"].tolist()
        np.testing.assert_allclose(stored["effect_r2"].astype(float), drawn["effect_r2"].astype(float), atol=1e-9)


def test_tables_of_other_pages_stay_as_they_are() -> None:
    text = "<!-- results:agreement -->\nold\n<!-- /results -->\n<!-- a/b:short -->\nold\n<!-- /a/b -->\n"
    found = targeted.page(text, {"a/b": RECORDS})
    assert found.startswith("<!-- results:agreement -->\nold\n") and "| causal | 3 of 3 |" in found


def test_measures_of_other_arms_and_seeds_stay() -> None:
    stored = [record("causal", seed, 1.0) for seed in (1, 2, 12)] + [record("gone", 1, 1.0), record("plain", 1, 1.0)]
    found = [record("causal", 2, 2.0), record("spans", 1, 2.0)]
    every = measures.merged(found, stored, ["causal", "spans", "plain"])
    assert [(one["arm"], one["seed"]) for one in every] == [
        ("causal", 1), ("causal", 2), ("causal", 12), ("spans", 1), ("plain", 1)
    ]  # fmt: skip
    assert every[1] is found[0] and every[0] is stored[0]

"""Treatment against baseline over seeds: planted differences, and what is equal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from iit_toolkit.analysis.statistics.outcomes import write_outcomes
from iit_toolkit.analysis.studies.comparison import compare_arms
from iit_toolkit.analysis.studies.paired import Row, StudyMeasure, difference, pair
from iit_toolkit.analysis.studies.read_runs import read_runs
from iit_toolkit.analysis.studies.study import Study
from iit_toolkit.errors import UserError
from tests.analysis.synthetic import make_outcomes, make_results

SHARE, PERPLEXITY = StudyMeasure("share", True, 3), StudyMeasure("perplexity", False, 2)


def row(measure: StudyMeasure, treatment: list[float | None], baseline: list[float | None]) -> Row:
    return Row(measure, {"t": tuple(treatment), "b": tuple(baseline)})


def test_the_interval_is_that_of_a_paired_t_test() -> None:
    generator = np.random.default_rng(0)
    baseline = generator.normal(0.5, 0.3, 6)  # seeds differ far more than arms do
    treatment = baseline + generator.normal(0.1, 0.05, 6)
    found = pair(row(SHARE, treatment.tolist(), baseline.tolist()), "t", "b")
    test = stats.ttest_rel(treatment, baseline)
    expected = test.confidence_interval(0.95)
    assert (found.low, found.high, found.p) == pytest.approx((expected.low, expected.high, test.pvalue))
    assert found.difference == pytest.approx((treatment - baseline).mean())
    assert found.outcome == "BEATS" and found.seeds == 6
    apart = stats.ttest_ind(treatment, baseline).confidence_interval(0.95)
    assert apart.low < 0 < apart.high  # without pairing, nothing would be seen


@pytest.mark.parametrize(
    ("measure", "gain", "outcome"),
    [
        (SHARE, [0.1, 0.12, 0.11], "BEATS"),
        (SHARE, [-0.1, -0.12, -0.11], "WORSE"),
        (SHARE, [0.1, -0.12, 0.11], "INCONCLUSIVE"),
        (PERPLEXITY, [-1.0, -1.2, -1.1], "BEATS"),
        (PERPLEXITY, [1.0, 1.2, 1.1], "WORSE"),
        (SHARE, [0.1, 0.12], "INCONCLUSIVE"),
        (SHARE, [0.5], "INCONCLUSIVE"),
        (SHARE, [0.125, 0.125, 0.125], "INCONCLUSIVE"),
        (SHARE, [0.1, None, 0.12], "INCONCLUSIVE"),
        (SHARE, [0.1, None, 0.12, 0.11], "BEATS"),
        (SHARE, [None, None, None], "INCONCLUSIVE"),
    ],
)
def test_outcomes(measure: StudyMeasure, gain: list[float | None], outcome: str) -> None:
    baseline: list[float | None] = [0.25 * place for place in range(len(gain))]
    treatment = [None if g is None else b + g for g, b in zip(gain, baseline, strict=True)]
    found = pair(row(measure, treatment, baseline), "t", "b")
    assert found.outcome == outcome and found.seeds == sum(one is not None for one in gain)
    assert outcome in found.sentence and "nan" not in found.sentence and "None" not in found.sentence


def test_reasons_are_told() -> None:
    def sentence(*gain: float | None) -> str:
        return pair(row(SHARE, list(gain), [0.0] * len(gain)), "t", "b").sentence

    assert "INCONCLUSIVE, since 3 seeds are needed" in sentence(0.1, 0.2)
    assert "+0.150 [-0.485, +0.785] over 2 seeds" in sentence(0.1, 0.2)
    assert "the difference is the same for all seeds" in sentence(0.1, 0.1, 0.1)
    assert "the interval contains zero" in sentence(-0.1, 0.2, 0.3)
    assert "n/a (undefined in every run) over 0 seeds; INCONCLUSIVE" in sentence(None, None, None)
    assert difference(pair(row(PERPLEXITY, [1.0, 2.0], [2.0, 4.0]), "t", "b")) == "-1.50 [-7.85, +4.85]"


@pytest.fixture(scope="module")
def planted() -> list[tuple[Any, dict[str, Any]]]:
    """Three seeds in which causal follows its teacher more than plain, and a third arm, longer, as well as causal."""
    found = []
    for seed in (1, 2, 3):
        follows = {"causal": 0.6 + 0.02 * seed, "plain": 0.2 + 0.01 * seed, "longer": 0.6, "untrained": 0.0}
        outcomes = make_outcomes(follows, bases=60, seed=seed)
        document = make_results(outcomes) | {"seed": seed}
        plain, causal = document["arms"]["plain"], document["arms"]["causal"]
        plain["cost"] |= {"flops": 50.0}
        causal["cost"] |= {"flops": 100.0 + seed}
        document["arms"]["longer"] = plain | {"steps": 260, "micro_batches_run": 260}
        found.append((outcomes, document))
    return found


@pytest.fixture
def runs(planted: list[tuple[Any, dict[str, Any]]], tmp_path: Path) -> Any:
    def runs(count: int = 3, change: Any = lambda _: None) -> Study:
        for outcomes, document in planted[:count]:
            changed = json.loads(json.dumps(document))
            change(changed)
            folder = tmp_path / str(document["seed"])
            folder.mkdir(exist_ok=True)
            write_outcomes(outcomes, folder / "outcomes.parquet")
            (folder / "results.json").write_text(json.dumps(changed))
        return read_runs([tmp_path / str(document["seed"]) for _, document in planted[:count]])

    return runs


def test_equal_steps_and_equal_compute_are_two_questions(runs: Any) -> None:
    compared = compare_arms(runs())
    steps, compute = compared.comparisons
    assert (compared.arms, compared.references) == (("plain", "longer", "causal"), ("plain", "longer"))
    assert (steps.arm, steps.basis.baseline, compute.basis.baseline) == ("causal", "plain", "longer")
    assert compared.study.seeds == (1, 2, 3)
    assert steps.basis.note == (
        "causal and plain each made 130 steps; plain had 0.49 times the training FLOPs of causal."
    )
    assert compute.basis.note == "longer had 0.98 times the training FLOPs of causal (260 against 130 steps)."
    found = {
        one.basis.name: {each.measure.name: each.outcome for each in one.basis.measures} for one in (steps, compute)
    }
    assert found["equal steps"]["effective IIA outside, middle"] == "BEATS"
    assert found["equal compute"]["effective IIA outside, middle"] == "INCONCLUSIVE"
    assert found["equal steps"]["KL to the teacher (nats)"] == "BEATS"
    json.dumps(compared.to_dict(), allow_nan=False)


def test_steps_of_other_batches_are_not_equal(runs: Any) -> None:
    def change(document: dict[str, Any]) -> None:
        document["arms"]["causal"]["effective_batch"] = 16
        document["arms"]["plain"]["effective_batch"] = 8

    steps = compare_arms(runs(change=change)).comparisons[0].basis
    assert (steps.baseline, steps.measures) == (None, ())
    assert steps.note == "n/a: a step of causal had 16 rows, one of plain 8."


def test_two_seeds_are_never_enough(runs: Any) -> None:
    for count in (1, 2):
        for one in compare_arms(runs(count)).comparisons:
            assert one.basis.measures and {each.outcome for each in one.basis.measures} == {"INCONCLUSIVE"}


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (
            lambda d: d["arms"]["longer"].update(steps=200, micro_batches_run=200),
            "n/a: no arm had the same compute; "
            "longer had 0.75 times the training FLOPs of causal (200 against 130 steps).",
        ),
        (
            lambda d: d["arms"]["longer"].update(objective={"kl": 9.0}),
            "n/a: no arm had the same compute; "
            "plain had 0.49 times the training FLOPs of causal (130 against 130 steps).",
        ),
    ],
)
def test_without_an_arm_of_equal_compute(runs: Any, change: Any, note: str) -> None:
    basis = compare_arms(runs(change=change)).comparisons[1].basis
    assert (basis.baseline, basis.note, basis.measures) == (None, note, ())


def test_a_resumed_arm_is_compared_as_one_that_was_not(runs: Any) -> None:
    """FLOPs are of the whole training; the time of a resumed one would be that of its last part."""
    resumed = compare_arms(runs(change=lambda d: d["arms"]["causal"].update(resumed_at_step=60)))
    assert resumed.comparisons[1].basis == compare_arms(runs()).comparisons[1].basis


def test_arms_can_be_chosen(runs: Any) -> None:
    compared = compare_arms(runs(), "plain", "longer")
    first = compared.comparisons[0]
    assert (first.arm, first.basis.baseline) == ("plain", None)
    assert first.basis.note == "n/a: plain made 130 steps, longer 260."


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        (("clausal", None), '--treatment: .* has no arm "clausal", did you mean "causal"?'),
        ((None, "untrained"), '--baseline: .* has no arm "untrained"'),
        (("plain", None), "treatment and baseline are both plain; choose two"),
    ],
)
def test_wrong_arms(runs: Any, arms: tuple[str | None, str | None], said: str) -> None:
    with pytest.raises(UserError, match=said):
        compare_arms(runs(1), *arms)


def test_runs_without_a_comparison_need_the_arms_named(runs: Any) -> None:
    without = runs(1, lambda d: d.update(comparison=None))
    with pytest.raises(UserError, match="compares no two arms; give --treatment .arms: causal, plain, longer"):
        compare_arms(without)
    assert compare_arms(without, "causal", "plain").comparisons[0].arm == "causal"


def test_the_treatment_must_have_made_equal_steps(runs: Any) -> None:
    with pytest.raises(UserError, match="arms.causal.steps is 131, not 130; give runs of one config"):
        (runs(2, lambda d: d["arms"]["causal"].update(steps=129 + d["seed"] if d["seed"] > 1 else 130)))


@pytest.mark.parametrize("seeds", [3, 5])
def test_equal_arms_beat_each_other_as_seldom_as_promised(seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    trials = 4000
    common = generator.normal(0, 1, (trials, seeds))  # what a seed does to both arms
    arms = common[None] + generator.normal(0, 0.3, (2, trials, seeds))
    found = [pair(row(SHARE, one.tolist(), two.tolist()), "t", "b") for one, two in zip(*arms, strict=True)]
    outcomes = [one.outcome for one in found]
    for outcome in ("BEATS", "WORSE"):
        assert 0.018 < outcomes.count(outcome) / trials < 0.033  # 2.5%, give or take three standard errors

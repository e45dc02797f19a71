"""Suites compared: planted means, intervals, compute, and what is missing."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from scipy import stats

from iit_toolkit.analysis.studies.comparison import StudyComparison, compare_study
from iit_toolkit.analysis.studies.paired import Paired
from iit_toolkit.analysis.studies.read_suite import read_suite
from iit_toolkit.analysis.studies.rows import flop_unit
from iit_toolkit.analysis.studies.study import Study
from iit_toolkit.errors import UserError
from tests.analysis.studies.suite_tree import SEEDS, TEACHER_PERPLEXITY, change, write_tree


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def suite(root: Path) -> Study:
    return read_suite(root)


@pytest.fixture(scope="module")
def compared(suite: Study) -> StudyComparison:
    return compare_study(suite, ["plain", "plain-compute"], variables=["early", "middle"])


def measure(compared: StudyComparison, arm: str, basis: str, name: str) -> Paired:
    found = compared.find(arm, basis)
    assert found is not None
    return next(one for one in found.basis.measures if one.measure.name == name)


def test_rows_hold_what_was_planted_and_none_where_nothing_was(compared: StudyComparison) -> None:
    rows = compared.rows
    assert compared.arms[:2] == ("plain", "plain-compute")
    assert rows["perplexity, encyclopedia"].values["full"] == (90.0, 96.0, 84.0)
    assert rows["perplexity, encyclopedia"].values["middle"] == (95.0, 100.0, None)
    assert rows["perplexity, encyclopedia"].spread("plain") == (100.0, 10.0)
    assert rows["effective IIA outside, last"].values["full"] == pytest.approx((0.7, 0.71, 0.72))
    chosen = rows["effective IIA outside, mean of early, middle"].values
    assert chosen["full"] == pytest.approx((0.55, 0.56, 0.57)) and chosen["middle"][2] is None
    above = rows["effective IIA outside, above floor, mean of early, middle"].values["full"]
    assert above == pytest.approx((0.40, 0.41, 0.42))
    assert rows["score, cola"].values["full"] == (62.0, 62.5, None)  # medians of three fine-tuning seeds
    assert rows["score, cola"].values["late"] == (None, None, None)
    assert rows["exact match, squad"].values["plain"] == (60.0, 60.5, 61.0)
    assert rows["score, mean of 2 GLUE tasks"].values["plain"] == (67.5, 68.0, 68.5)  # cola 60, sst2 75
    assert rows["score, mean of 4 tasks"].values["plain"] == (67.5, 68.0, 68.5)  # 60, 65, 70, 75
    assert rows["training PFLOP"].values["plain-compute"] == pytest.approx((0.344,) * 3)
    assert rows["CPU time (s)"].values["full"] == (50.0, 51.0, 52.0)


def test_a_task_that_one_run_lacks_leaves_it_without_a_mean(tmp_path: Path) -> None:
    write_tree(tmp_path)
    path = tmp_path / "full" / "seed-42" / "finetune" / "finetune.json"
    tasks = json.loads(path.read_text())["tasks"]
    change(path, tasks={name: task for name, task in tasks.items() if name != "sst2"})
    rows = compare_study(read_suite(tmp_path), ["plain"]).rows
    assert rows["score, mean of 2 GLUE tasks"].values["full"] == (None, 70.0, None)
    assert rows["score, cola"].values["full"] == (62.0, 62.5, None)


def test_a_resumed_training_has_no_time(tmp_path: Path) -> None:
    write_tree(tmp_path)
    change(tmp_path / "full" / "seed-66" / "results.json", arms__full__resumed_at_step=50)
    rows = compare_study(read_suite(tmp_path), ["plain"]).rows
    assert rows["CPU time (s)"].values["full"] == (50.0, None, 52.0)
    assert rows["training PFLOP"].values["full"] == pytest.approx((0.35,) * 3)


def test_the_interval_is_students_paired_by_seed(compared: StudyComparison) -> None:
    found = measure(compared, "full", "equal steps", "perplexity, encyclopedia")
    half = stats.t.ppf(0.975, 2) * 4.0 / math.sqrt(3)  # differences -10, -14, -6
    assert (found.difference, found.low, found.high) == pytest.approx((-10.0, -10 - half, -10 + half))
    assert (found.outcome, found.seeds) == ("BEATS", 3)
    changes = [-10.0, 100 * (96 / 110 - 1), 100 * (84 / 90 - 1)]
    relative = measure(compared, "full", "equal steps", "perplexity, encyclopedia, relative change (%)")
    half = stats.t.ppf(0.975, 2) * statistics.stdev(changes) / math.sqrt(3)
    mean = statistics.fmean(changes)
    assert (relative.difference, relative.low, relative.high) == pytest.approx((mean, mean - half, mean + half))


def test_two_common_seeds_are_inconclusive_but_have_a_mean(compared: StudyComparison) -> None:
    found = measure(compared, "middle", "equal steps", "perplexity, encyclopedia")
    assert (found.outcome, found.seeds, found.difference) == ("INCONCLUSIVE", 2, -7.5)
    tuned = measure(compared, "full", "equal steps", "score, cola")
    assert (tuned.outcome, tuned.seeds, tuned.difference) == ("INCONCLUSIVE", 2, 2.0)
    without = measure(compared, "late", "equal steps", "score, cola")
    assert (without.outcome, without.seeds, without.difference) == ("INCONCLUSIVE", 0, None)


def test_equal_compute_is_told_by_flops(compared: StudyComparison) -> None:
    full = compared.find("full", "equal compute")
    assert full is not None and full.basis.baseline == "plain-compute"
    assert full.flops_ratio == pytest.approx(3.44 / 3.5)
    assert full.basis.note == "plain-compute had 0.98 times the training FLOPs of full (172 against 100 steps)."
    steps = compared.find("full", "equal steps")
    assert steps is not None and steps.flops_ratio == pytest.approx(2 / 3.5)
    assert steps.basis.note == ("full and plain each made 100 steps; plain had 0.57 times the training FLOPs of full.")
    found = measure(compared, "full", "equal compute", "perplexity, encyclopedia")
    assert found.outcome == "INCONCLUSIVE" and found.difference == pytest.approx(-1 / 3)


def test_more_than_equal_compute_excuses_who_loses(compared: StudyComparison) -> None:
    """`late` loses both times; the second time the baseline had 15% more compute."""
    assert measure(compared, "late", "equal steps", "perplexity, encyclopedia").outcome == "WORSE"
    found = measure(compared, "late", "equal compute", "perplexity, encyclopedia")
    assert found.low is not None and found.low > 0 and found.outcome == "INCONCLUSIVE"
    assert found.sentence.endswith("over 3 seeds; INCONCLUSIVE, since the baseline had more compute.")
    basis = compared.find("late", "equal compute")
    assert basis is not None and "1.15 times the training FLOPs of late" in basis.basis.note
    assert "more than equal" in basis.basis.note


def test_less_than_equal_compute_is_not_compared(suite: Study) -> None:
    found = compare_study(suite, ["plain"]).find("full", "equal compute")
    assert found is not None and found.basis.baseline is None and found.basis.measures == ()
    assert found.basis.note.startswith(
        "n/a: no arm had the same compute; plain had 0.57 times the training FLOPs of full"
    )


def test_arms_whose_steps_had_other_rows(root: Path) -> None:
    suite = read_suite(root)
    for arm, rows in (("full", 16), ("plain", 8)):
        for run in suite.records[arm].values():
            run.training["effective_batch"] = rows
    basis = compare_study(suite, ["plain"]).find("full", "equal steps")
    assert basis is not None and basis.basis.measures == ()
    assert basis.basis.note == "n/a: a step of full had 16 rows, one of plain 8."


def test_what_is_not_compared(compared: StudyComparison) -> None:
    longer = compared.find("plain-compute", "equal steps")
    assert longer is not None and longer.basis.measures == ()
    assert longer.basis.note == "n/a: plain-compute made 172 steps, plain 100."
    assert compared.find("plain", "equal steps") is None and compared.find("plain-compute", "equal compute") is None
    for basis in ("equal steps", "equal compute"):
        narrow = compared.find("narrow", basis)
        assert narrow is not None and narrow.basis.measures == ()
        assert narrow.basis.note == "n/a: the student of narrow has 5,000,000 parameters, that of plain 11,900,000."
    full = compared.find("full", "equal steps")
    assert full is not None
    assert not [
        one for one in full.basis.measures if "floor outside" in one.measure.name or "steps" in one.measure.name
    ]


def test_the_teacher_has_a_perplexity_per_seed_and_one_score_per_task(compared: StudyComparison) -> None:
    rows = {row.measure.name: row.values for row in compared.teacher}
    assert rows["perplexity, encyclopedia"] == {"teacher": TEACHER_PERPLEXITY}
    assert rows["score, cola"] == {"teacher": (80.0,)} and rows["exact match, squad"] == {"teacher": (80.0,)}
    assert rows["score, mean of 2 GLUE tasks"] == {"teacher": (87.5,)}


def test_plain_data(compared: StudyComparison) -> None:
    document = json.loads(json.dumps(compared.to_dict(), allow_nan=False))
    assert document["schema"] == "iit_toolkit/study/1" and document["seeds"] == list(SEEDS)
    assert document["runs"]["middle"] == [42, 66]
    [full] = [one for one in document["comparisons"] if one["arm"] == "full" and one["basis"]["name"] == "equal steps"]
    by_name = {one["measure"]["name"]: one for one in full["basis"]["measures"]}
    assert by_name["perplexity, encyclopedia"]["difference"] == -10.0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((["plane"], None), 'has no finished run of "plane", did you mean "plain"?'),
        ((["plain", "plain-comput"], None), 'has no finished run of "plain-comput", did you mean'),
        ((["plain", "plain"], None), "plain is named twice; choose two arms"),
        ((["plain"], ["midle"]), 'variables: .* was not verified on "midle", did you mean "middle"?'),
        ((["plain"], []), "variables: none is named; valid: early, middle, last"),
    ],
)
def test_wrong_names(suite: Study, arguments: tuple[list[str], list[str] | None], said: str) -> None:
    references, variables = arguments
    with pytest.raises(UserError, match=said):
        compare_study(suite, references, variables=variables)


@pytest.mark.parametrize(
    ("flops", "unit"),
    [(2.5e17, ("PFLOP", 1e15)), (1e13, ("PFLOP", 1e15)), (9e12, ("TFLOP", 1e12)), (2e7, ("GFLOP", 1e9))],
)
def test_operations_have_the_unit_that_the_largest_training_asks_for(flops: float, unit: tuple[str, float]) -> None:
    records = {"plain": {42: SimpleNamespace(flops=flops / 9)}, "causal": {42: SimpleNamespace(flops=flops)}}
    assert flop_unit(cast(Any, SimpleNamespace(records=records))) == unit

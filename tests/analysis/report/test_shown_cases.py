"""Worst cases: planted ones are picked, and their texts say what was swapped and read."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from iit_toolkit.analysis.report.examples import Answers
from iit_toolkit.analysis.report.shown_cases import Segment, shown_cases
from tests.analysis.synthetic import make_outcomes

ANSWERS = Answers({1: " one", 2: " two", 3: "##three", 4: " "}, {}, "train")


def row(base: int, kl: float, **changes: Any) -> dict[str, Any]:
    """A case in which the teacher goes from one to two, and the student stays with one."""
    return {
        "student": "causal",
        "variable": "middle",
        "base": base,
        "source": base + 100,
        "position": 1,
        "inside": False,
        "gold": 3,
        "teacher_base": 1,
        "teacher_cf": 2,
        "student_base": 1,
        "student_cf": 1,
        "kl_cf": kl,
    } | changes


def example(base: int, tokens: int = 4, swapped: tuple[int, ...] = (2, 3)) -> dict[str, Any]:
    return {
        "base": base,
        "source": base + 100,
        "base_tokens": [f" b{place}" for place in range(tokens)],
        "source_tokens": [f" s{place}" for place in range(tokens)],
        "swapped": list(swapped),
        "taken": [place - 2 for place in swapped],
    }


def picked(
    rows: list[dict[str, Any]], examples: list[dict[str, Any]] | None = None, count: int = 20, chosen: str = "worst"
) -> Any:
    if examples is None:
        examples = [example(base) for base in {one["base"] for one in rows}]
    found = shown_cases(pd.DataFrame(rows), pd.DataFrame(examples), ANSWERS, "causal", 0, count)
    return [one for one in found if one.chosen == chosen]


def test_only_wrong_cases_of_the_student_in_which_the_teacher_changed() -> None:
    rows = [
        row(0, 1.0),
        row(1, 9.0, student_cf=2),
        row(2, 9.0, teacher_cf=1),
        row(3, 9.0, student="plain"),
        row(4, 2.0, student_cf=3),
    ]
    assert [one.kl for one in picked(rows)] == [2.0, 1.0]
    assert picked([rows[1]]) == []


def test_the_largest_divergences_in_equal_shares() -> None:
    outside = [row(base, 100.0 + base) for base in range(10)]
    inside = [row(base, float(base), position=2, inside=True) for base in range(10)]
    found = picked(outside + inside, count=6)
    assert [(one.inside, one.kl) for one in found] == [
        (False, 109.0),
        (False, 108.0),
        (False, 107.0),
        (True, 9.0),
        (True, 8.0),
        (True, 7.0),
    ]


def test_a_case_as_text() -> None:
    [case] = picked([row(0, 1.0, student_cf=4)])
    assert case.base == [Segment("plain", " b0"), Segment("read", " b1"), Segment("swapped", " b2 b3")]
    assert case.source == [Segment("swapped", " s0 s1"), Segment("plain", " s2 s3")]
    assert (case.teacher, case.student, case.gold) == (("one", "two"), ("one", "(space)"), "##three")
    [case] = picked([row(0, 1.0, position=3, inside=True, gold=-100, student_cf=77)])
    assert case.base[-2:] == [Segment("swapped", " b2"), Segment("read, swapped", " b3")]
    assert (case.gold, case.student[1]) == ("", "number 77")


def test_a_long_text_is_cut_around_what_matters() -> None:
    [case] = picked([row(0, 1.0, position=50)], [example(0, 200, (60, 61))])
    assert [part.kind for part in case.base] == ["gap", "plain", "read", "plain", "swapped", "plain", "gap"]
    assert case.base[1].text.split()[0] == "b20" and case.base[-2].text.split()[-1] == "b91"
    assert case.source[1].text.split()[0] == "s28"


def test_classification_has_no_place() -> None:
    [case] = picked([row(0, 1.0, position=-1)])
    assert [part.kind for part in case.base] == ["plain", "swapped"]
    assert (case.position, case.inside) == (-1, False)


def test_cases_without_text_are_left_out() -> None:
    assert [one.kl for one in picked([row(0, 1.0), row(1, 2.0)], [example(0)])] == [1.0]


def test_the_same_each_time() -> None:
    outcomes = make_outcomes(bases=40)
    examples = pd.DataFrame([example(base, 10) | {"source": (base + 1) % 40} for base in range(40)])
    one, two = (shown_cases(outcomes.sample(frac=1, random_state=k), examples, ANSWERS, "plain", 7) for k in (1, 2))
    assert one == two and Counter(case.chosen for case in one) == {"worst": 20, "random": 10, "best": 10}
    other = shown_cases(outcomes, examples, ANSWERS, "plain", 8)
    random = [[case for case in cases if case.chosen == "random"] for cases in (one, other)]
    assert random[0] != random[1]


def test_the_best_follow_with_the_smallest_divergence_and_random_ones_are_of_all() -> None:
    right = [row(base, 1.0 + base, student_cf=2) for base in range(30)]
    wrong = [row(base, 50.0 + base) for base in range(30, 60)]
    unchanged = [row(base, 0.0, teacher_cf=1) for base in range(60, 90)]
    rows = right + wrong + unchanged
    assert [one.kl for one in picked(rows, count=6, chosen="best")] == [1.0, 2.0, 3.0]
    assert [one.kl for one in picked(rows, count=6, chosen="worst")] == [109.0, 108.0, 107.0, 106.0, 105.0, 104.0]
    drawn = picked(rows, count=60, chosen="random")
    assert len(drawn) == 30 and {one.student[1] for one in drawn} == {"one", "two"}
    assert all(one.kl >= 1.0 for one in drawn) and len({one.kl for one in drawn}) == 30

"""What a verdict rests on besides its own measure: distinguishing cases, the leak check, top-1 answers, collapse."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from iit_toolkit.analysis.statistics.control_words import FLOOR
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.outcomes import IN_TEACHER, SHUFFLED_SOURCES, UNALIGNED, WRONG_LAYER
from iit_toolkit.analysis.statistics.verdict import Verdict, judge
from iit_toolkit.analysis.statistics.verdict_words import beside
from tests.analysis.synthetic import graded, make_controls, make_outcomes


def elsewhere(control: str, otherwise: float, seed: int = 1) -> pd.DataFrame:
    """The teacher, swapped in another way: it does otherwise, and answers something else, in this share of bases."""
    table = make_outcomes({"causal": 1.0})
    other = np.random.default_rng(seed).random(120)[table["base"].to_numpy()] < otherwise
    answers = np.where(other, 777, table["teacher_cf"])
    return graded(table.assign(student=IN_TEACHER[control], student_cf=answers))


def control_of(follows_here: float, outcomes: pd.DataFrame, otherwise: pd.DataFrame, control: str) -> pd.DataFrame:
    """A control that follows the teacher in distinguishing cases in this share of bases, and always in the others."""
    telling = (otherwise["student_cf"] == 777).to_numpy()
    luck = np.random.default_rng(2).random(120)[outcomes["base"].to_numpy()] < follows_here
    answers = np.where(~telling | luck, outcomes["teacher_cf"], outcomes["teacher_base"])
    return graded(outcomes.assign(student=control, student_cf=answers))


@pytest.mark.parametrize("measure", ["effect_r2", "effective_iia"])
def test_a_control_is_asked_only_where_the_teacher_does_otherwise(measure: str) -> None:
    """In half of the bases both ways of swapping are one, and there the control scores as high as the student."""
    outcomes, otherwise = make_outcomes({"causal": 0.95}), elsewhere(WRONG_LAYER, 0.5)
    wrong = control_of(0.1, outcomes, otherwise, WRONG_LAYER)
    found = judge(outcomes, "causal", controls=pd.concat([wrong, otherwise]), measure=measure, resamples=200)
    control = next(one for one in found.variables["middle"].controls if one.name == WRONG_LAYER)
    everywhere = judge(outcomes, "causal", controls=wrong, measure=measure, resamples=200)
    blunt = next(one for one in everywhere.variables["middle"].controls if one.name == WRONG_LAYER)
    assert control.applies and control.passed and control.score is not None and blunt.score is None
    telling = otherwise[(otherwise["student_cf"] == 777) & ~otherwise["inside"]]
    follows = wrong.loc[telling.index]
    changed = follows["teacher_cf"] != follows["teacher_base"]
    assert control.level.value == pytest.approx(
        (follows["student_cf"] == follows["teacher_cf"])[changed].mean(), abs=1e-9
    )
    assert control.difference.value > blunt.difference.value + 0.2
    assert (
        f"in the {control.score.cases} " in found.sentence and "in which the teacher does otherwise" in found.sentence
    )


def test_where_the_teacher_does_the_same_nothing_is_asked_but_of_sources() -> None:
    outcomes = make_outcomes({"causal": 0.95})
    for control, label in ((WRONG_LAYER, "SUPPORTED"), (SHUFFLED_SOURCES, "INCONCLUSIVE")):
        otherwise = elsewhere(control, 0.0)
        same = graded(outcomes.assign(student=control))
        found = judge(outcomes, "causal", controls=pd.concat([same, otherwise]), resamples=200)
        assert found.label == label, found.sentence
        one = next(one for one in found.variables["middle"].controls if one.name == control)
        assert one.passed is None and one.applies == (control == SHUFFLED_SOURCES)
        assert "the teacher does otherwise there in 0 cases" in one.meaning


def neurons(controls: pd.DataFrame) -> pd.DataFrame:
    """The same, if the unaligned site is the rest of an aligned place."""
    unaligned = controls["student"] == UNALIGNED
    return controls.assign(variable=controls["variable"].mask(unaligned, 'unaligned neurons of "middle"'))


def test_the_leak_check_of_neurons_decides_at_the_same_rank() -> None:
    outcomes = make_outcomes({"causal": 0.95})
    tight, leaky = (
        judge(outcomes, "causal", controls=neurons(make_controls(leak=leak)), resamples=200) for leak in (False, True)
    )
    assert tight.label == "SUPPORTED" and 'The leak check passes at unaligned neurons of "middle".' in tight.sentence
    assert leaky.label == "NOT SUPPORTED" and "The leak check fails at unaligned neurons" in leaky.sentence
    blocks = judge(outcomes, "causal", controls=make_controls(leak=True), resamples=200)
    assert blocks.label == "SUPPORTED" and [one.passed for one in blocks.leaks] == [False]
    few = neurons(make_controls())
    few = few[(few["student"] != UNALIGNED) | (few["base"] < 15)]
    open_one = judge(outcomes, "causal", controls=few, resamples=200)
    assert open_one.label == "INCONCLUSIVE" and "The leak check is undecided" in open_one.sentence


def test_a_perfect_copy_passes_the_leak_check() -> None:
    """Every answer is equal at the unaligned site, on 59 inputs."""
    copied = make_outcomes({UNALIGNED: 1.0}, variables=("block 0",), bases=59)
    found = judge(make_outcomes({"causal": 1.0}), "causal", controls=copied, resamples=200).leaks
    assert [one.passed for one in found] == [True] and found[0].difference.value == 0.0
    assert found[0].difference.low < 0.0 < found[0].difference.high < 0.05


def test_top_1_answers_are_said_beside_the_verdict() -> None:
    found = judge(make_outcomes({"causal": 0.9}), "causal", resamples=200)
    assert found.notes[0].startswith("By effective IIA (0.") and "SUPPORTED, too." in found.notes[0]


def test_two_measures_that_disagree_are_explained() -> None:
    """The student gives the new answer as its second choice: it moves as its teacher does, and its answer stays."""
    table = make_outcomes({"causal": 1.0})
    deaf = table.assign(student_cf=table["student_base"])
    graded_only = judge(deaf, "causal", resamples=200)
    assert graded_only.label == "SUPPORTED"
    assert "the verdict would be NOT SUPPORTED" in graded_only.notes[0] and "top answer" in graded_only.notes[0]
    answers_only = judge(deaf, "causal", measure="effective_iia", resamples=200)
    assert answers_only.label == "NOT SUPPORTED" and answers_only.notes[0].startswith("By effect R²")
    over = judge(table.assign(effect_error=table["teacher_effect"]), "causal", resamples=200)
    assert over.label == "NOT SUPPORTED" and "do not show how far a student moves" in over.notes[0]


def test_a_collapsed_student_is_named() -> None:
    table = make_outcomes({"causal": 0.0})
    constant = graded(table.assign(student_base=3, student_cf=3))
    notes = judge(constant, "causal", resamples=200).notes
    assert len(notes) == 2 and "causal has collapsed: it gives one answer in 100.0% of cases" in notes[1]
    assert "is that of a constant" in notes[1] and len(judge(table, "causal", resamples=200).notes) == 1
    both = graded(constant.assign(teacher_base=3, teacher_cf=np.where(np.arange(len(table)) == 0, 4, 3)))
    assert len(judge(both, "causal", resamples=200).notes) == 1, "its teacher gives one answer, too"


def test_the_floor_of_a_graded_measure_is_exact() -> None:
    found: Verdict = judge(make_outcomes({"causal": 0.5}), "causal", resamples=200)
    floor = found.variables["middle"].controls[0]
    assert floor.name == FLOOR and (floor.level.value, floor.level.low, floor.level.high) == (0.0, 0.0, 0.0)
    assert "reaches 0.000." in found.sentence


def test_another_measure_that_cannot_decide_does_not_speak_of_the_student() -> None:
    scores = {"middle": Estimate(1.0, 0.83, 1.0, 25, 25)}
    undecided = beside("effect_r2", "SUPPORTED", "effective_iia", "INCONCLUSIVE", scores)
    assert undecided.endswith("the verdict would be INCONCLUSIVE. Its cases do not suffice to decide.")
    otherwise = beside("effect_r2", "SUPPORTED", "effective_iia", "NOT SUPPORTED", scores)
    assert "top answer often differs" in otherwise

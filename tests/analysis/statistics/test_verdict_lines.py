from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from iit_toolkit.analysis.statistics.leak import UNALIGNED_NEURONS
from iit_toolkit.analysis.statistics.verdict import judge
from iit_toolkit.analysis.statistics.verdict_lines import LEAKS, verdict_lines
from tests.analysis.synthetic import make_controls, make_outcomes


def lines(follows: dict[str, float], controls: Any = None, **settings: Any) -> Any:
    margin = {"margin": settings.pop("margin")} if "margin" in settings else {}
    return verdict_lines(
        judge(make_outcomes(follows, **settings), "causal", controls=controls, resamples=300, **margin)
    )


def test_a_supported_variable_says_score_hardest_control_and_lead() -> None:
    [line] = lines({"causal": 0.8, "untrained": 0.4})
    assert (line.label, line.name, line.next) == ("SUPPORTED", "middle", "")
    assert line.facts.startswith("effect R² 0.") and " affected cases; hardest control: untrained 0." in line.facts
    assert "; lead +0." in line.facts and line.facts.endswith(", needed > 0.05")


@pytest.mark.parametrize(
    ("follows", "margin", "label", "control", "advice"),
    [
        ({"causal": 0.0, "untrained": 0.0}, 0.05, "NOT SUPPORTED", "no-intervention floor", "ignores the swap"),
        ({"causal": 0.8, "untrained": 0.8}, 0.05, "NOT SUPPORTED", "untrained", "train longer"),
        ({"causal": 0.3}, 0.3, "INCONCLUSIVE", "no-intervention floor", "verify --plan"),
    ],
)
def test_what_is_not_supported_says_which_control_decides_and_what_next(
    follows: dict[str, float], margin: float, label: str, control: str, advice: str
) -> None:
    [line] = lines(follows, margin=margin)
    assert line.label == label and f"hardest control: {control} " in line.facts and advice in line.next


def test_below_the_floor_a_student_does_not_ignore_the_swap() -> None:
    outcomes = make_outcomes({"causal": 0.0})
    outcomes["effect_error"] = 2 * outcomes["teacher_effect"]
    [line] = verdict_lines(judge(outcomes, "causal", resamples=300))
    assert line.facts.startswith("effect R² -1.0") and line.next.startswith("swaps move the student, but not as")


def test_too_few_texts_ask_for_more() -> None:
    [line] = lines({"causal": 1.0}, bases=10)
    assert line.label == "INCONCLUSIVE" and line.facts.endswith("too few, or of too few inputs")
    assert "larger verification.pairs" in line.next


def test_a_leak_that_decides_stands_on_a_line_of_its_own() -> None:
    outcomes = make_outcomes({"causal": 0.9, "untrained": 0.0})
    leaky = judge(outcomes, "causal", controls=make_controls(leak=True), resamples=300)
    assert [line.name for line in verdict_lines(leaky)] == ["middle"]  # of whole blocks: the alignment says nothing
    decides = replace(leaky.leaks[0], site=f"{UNALIGNED_NEURONS} of middle")
    [_, line] = verdict_lines(replace(leaky, leaks=[decides]))
    assert (line.name, line.label) == (LEAKS, "NOT SUPPORTED") and "align it" in line.next
    assert len(verdict_lines(replace(leaky, leaks=[replace(decides, passed=True)]))) == 1

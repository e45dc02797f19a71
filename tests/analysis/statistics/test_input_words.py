"""What is said of inputs without positions says nothing of texts and of swapped positions."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest

from iit_toolkit.analysis.statistics.comparison import compare
from iit_toolkit.analysis.statistics.input_words import NETWORKS, TOKENS, WHOLE, words_for, words_of
from iit_toolkit.analysis.statistics.measures import JUDGED
from iit_toolkit.analysis.statistics.planning import plan
from iit_toolkit.analysis.statistics.verdict import judge
from tests.analysis.synthetic import make_controls, make_outcomes

SETTINGS: dict[str, Any] = {"resamples": 50, "seed": 0}
OF_TEXTS = ("swapped position", "outside", "text")


def said(outcomes: pd.DataFrame, controls: pd.DataFrame | None, measure: str) -> str:
    """All that a verdict, a comparison and a plan say."""
    given = {**SETTINGS, "measure": measure}
    verdict = judge(outcomes, "causal", controls=controls, **given)
    compared = compare(outcomes, "causal", "plain", **given)
    return json.dumps([verdict.to_dict(), compared.to_dict(), plan(outcomes, "causal", **given).to_dict()])


@pytest.mark.parametrize("measure", JUDGED)
@pytest.mark.parametrize(("bases", "changed"), [(120, 0.5), (6, 0.5), (30, 0.0)])
def test_one_answer_of_an_input_is_at_no_position_of_a_text(measure: str, bases: int, changed: float) -> None:
    given: dict[str, Any] = {"bases": bases, "changed": changed}
    words = said(make_outcomes(**given, classification=True), None, measure)
    assert [one for one in OF_TEXTS if one in words.replace('"texts":', "").replace("equal_texts", "")] == []
    words = said(make_outcomes(**given), make_controls(bases=bases), measure)
    assert "outside" in words and (bases > 20 or "20 texts each" in words)


def test_the_table_and_the_task_give_the_same_words() -> None:
    assert words_of(make_outcomes(bases=3, classification=True)) == words_for(NETWORKS) == WHOLE
    assert words_for("sequence_classification") == WHOLE
    assert words_of(make_outcomes(bases=3)) == words_for("masked_lm") == words_for("causal_lm") == TOKENS
    assert words_of(make_outcomes(bases=3).iloc[:0]) == TOKENS

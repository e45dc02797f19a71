from __future__ import annotations

import json
import re

import numpy as np
import pandas as pd
import pytest

from iit_toolkit.analysis.statistics.control_words import FLOOR, TOO_FLEXIBLE
from iit_toolkit.analysis.statistics.verdict import SCOPE, Verdict, judge
from iit_toolkit.analysis.statistics.verdict_lines import verdict_lines
from tests.analysis.synthetic import SHUFFLED, make_controls, make_outcomes


def verdict(follows, **kwargs):
    judging = {name: kwargs.pop(name) for name in ("margin",) if name in kwargs}
    return judge(make_outcomes(follows, **kwargs), "causal", resamples=300, **judging)


def test_a_student_above_every_control_is_supported():
    found = verdict({"causal": 0.8, "untrained": 0.1})
    assert found.label == "SUPPORTED"
    middle = found.variables["middle"]
    assert [control.name for control in middle.controls] == [FLOOR, "untrained"]
    assert all(control.passed for control in middle.controls)
    assert "The best control, the untrained student, reaches" in found.sentence
    assert "is above the margin of 0.05" in found.sentence
    changed = int(middle.score.cases)
    assert f"({changed} affected cases, {middle.score.clusters} base examples)" in found.sentence
    assert found.scope == SCOPE


def test_an_indifferent_student_is_not_supported():
    found = verdict({"causal": 0.0})
    assert found.label == "NOT SUPPORTED"
    assert found.variables["middle"].controls[0].passed is False
    assert "is below the margin" in found.sentence


def test_what_the_untrained_student_reaches_does_not_count():
    """Far above its floor, but so is the student before training."""
    found = verdict({"causal": 0.8, "untrained": 0.8})
    floor, untrained = found.variables["middle"].controls
    assert (floor.passed, untrained.passed) == (True, False)
    assert found.label == "NOT SUPPORTED"
    assert "The untrained student scores as high" in untrained.meaning
    assert verdict({"causal": 0.8}).label == "SUPPORTED"


def test_a_learned_map_that_succeeds_on_a_random_network_decides_nothing():
    """For or against: the map is so flexible. A student that fails another control, too, is not supported."""
    outcomes = make_outcomes({"causal": 0.8, "untrained": 0.8})
    found = judge(outcomes, "causal", learned=True, resamples=300)
    untrained = found.variables["middle"].controls[1]
    assert (found.label, untrained.passed) == ("INCONCLUSIVE", False)
    assert untrained.meaning == TOO_FLEXIBLE
    assert "is below the margin of 0.05: the learned map succeeds on a random network" in found.sentence
    assert "contains the margin" not in found.sentence
    [line] = verdict_lines(found)
    assert line.label == "INCONCLUSIVE" and "give its subspaces a lower rank" in line.next
    assert judge(outcomes, "causal", resamples=300).label == "NOT SUPPORTED"
    fails_all = make_outcomes({"causal": 0.0, "untrained": 0.0})
    assert judge(fails_all, "causal", learned=True, resamples=300).label == "NOT SUPPORTED"
    passes = make_outcomes({"causal": 0.8, "untrained": 0.1})
    assert judge(passes, "causal", learned=True, resamples=300).label == "SUPPORTED"


def test_an_interval_that_holds_the_margin_is_inconclusive():
    found = verdict({"causal": 0.3}, margin=0.3)
    assert found.label == "INCONCLUSIVE"
    assert "contains the margin of 0.30" in found.sentence
    floor = found.variables["middle"].controls[0]
    assert floor.difference.low < 0.3 < floor.difference.high
    assert floor.passed is None and "contains the margin" in floor.meaning


def test_the_sentence_is_about_the_control_that_decides():
    """Controls whose differences are of unlike spread: the nearest one is often not the one that decides."""
    outcomes = make_outcomes({"causal": 0.0, "untrained": 0.0}, bases=150, changed=1.0)
    outcomes = outcomes[outcomes["position"] == 1]
    causal, others = outcomes["student"] == "causal", 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        hits = rng.random(150) < 0.35
        moved = {"causal": hits, "untrained": rng.random(150) < np.where(hits, 0.05, 0.33)}
        floor = {"causal": hits & (rng.random(150) < 0.69), "untrained": np.zeros(150, bool)}
        table = outcomes.copy()
        for student, rows in (("causal", causal), ("untrained", ~causal)):
            truth = table.loc[rows, "teacher_cf"]
            table.loc[rows, "student_cf"] = np.where(moved[student], truth, -1)
            table.loc[rows, "student_base"] = np.where(floor[student], truth, -2)
        found = judge(table, "causal", measure="effective_iia", resamples=200)
        said = re.search(r"The difference, \S+ \[(\S+), (\S+)\] .* (above|below|contains) the margin", found.sentence)
        assert said is not None, found.sentence
        low, high = float(said[1]), float(said[2])
        assert {"above": low > 0.05, "below": high < 0.05, "contains": low <= 0.05 <= high}[said[3]], found.sentence
        others += "control that decides" in found.sentence
    assert others > 0


def test_without_changed_cases_it_is_inconclusive_and_says_so():
    found = verdict({"causal": 1.0, "untrained": 0.0}, changed=0.0)
    assert found.label == "INCONCLUSIVE"
    assert "no intervention changed the teacher's probabilities" in found.sentence
    assert "(0 of 600 cases)" in found.sentence


def test_a_handful_of_inputs_cannot_support_anything():
    found = verdict({"causal": 1.0}, bases=8, per_base=200, changed=1.0)
    assert found.label == "INCONCLUSIVE"
    assert "too few inputs" in found.sentence


def test_the_weakest_variable_decides():
    outcomes = pd.concat(
        [
            make_outcomes({"causal": 0.9}, variables=("good",)),
            make_outcomes({"causal": 0.0}, variables=("bad",)),
        ]
    )
    found = judge(outcomes, "causal", resamples=100)
    assert {name: one.label for name, one in found.variables.items()} == {
        "good": "SUPPORTED",
        "bad": "NOT SUPPORTED",
    }
    assert found.label == "NOT SUPPORTED"
    silent = make_outcomes({"causal": 0.9}, variables=("silent",), changed=0.0)
    undecided = judge(pd.concat([outcomes[outcomes["variable"] == "good"], silent]), "causal", resamples=100)
    assert undecided.label == "INCONCLUSIVE"


def test_a_variable_that_passes_alone_may_not_pass_among_several():
    """Holm: the first of three variables must pass at 98.3%, the last at 95%."""
    alone, worst = make_outcomes({"causal": 0.36}, bases=60, per_base=4), make_outcomes({"causal": 0.0}, bases=60)
    low = judge(alone, "causal", margin=0.0, resamples=2000).variables["middle"].controls[0].difference.low
    margin = low - 0.01
    assert judge(alone, "causal", margin=margin).label == "SUPPORTED"
    null = [worst.assign(variable=name) for name in ("null", "void")]
    found = judge(pd.concat([alone, *null]), "causal", margin=margin).variables
    assert [one.label for one in found.values()] == ["INCONCLUSIVE", "NOT SUPPORTED", "NOT SUPPORTED"]
    assert [one.level for one in found.values()] == [pytest.approx(1 - 0.05 / 3)] * 3
    assert "(98.3% interval)" in found["middle"].sentence
    strong = [make_outcomes({"causal": 0.95}).assign(variable=name) for name in ("good", "fine")]
    found = judge(pd.concat([alone, *strong]), "causal", margin=margin).variables
    assert [one.label for one in found.values()] == ["SUPPORTED"] * 3
    assert found["good"].level == pytest.approx(1 - 0.05 / 3)
    assert found["middle"].level == pytest.approx(0.95)
    assert list(found) == ["middle", "good", "fine"]


@pytest.mark.parametrize(
    ("texts", "label"), [(120, "SUPPORTED"), (40, "SUPPORTED"), (19, "INCONCLUSIVE"), (1, "INCONCLUSIVE")]
)
def test_many_rows_of_few_texts_cannot_support_anything(texts: int, label: str) -> None:
    """A perfect student, on 120 base examples that were cut from so many texts."""
    outcomes = make_outcomes({"causal": 1.0})
    of_texts = outcomes.assign(**{f"{role}_text": outcomes[role] % texts for role in ("base", "source")})
    found = judge(of_texts, "causal", resamples=200)
    assert found.label == label
    assert (f"base examples, {texts} text" in found.sentence) == (texts < 100)
    assert ("bases and sources from 20 texts each are needed" in found.sentence) == (label == "INCONCLUSIVE")


def test_a_text_that_holds_most_rows_cannot_support_anything() -> None:
    """Of 120 bases 90 are of one text and 30 of their own: 31 texts, which count as less than two equal ones."""
    outcomes = make_outcomes({"causal": 1.0})
    uneven = {f"{role}_text": outcomes[role].where(outcomes[role] >= 90, 0) for role in ("base", "source")}
    found = judge(outcomes.assign(**uneven), "causal", resamples=200)
    assert found.label == "INCONCLUSIVE" and "no handful of texts may dominate" in found.sentence


def test_a_handful_of_sources_cannot_support_anything():
    outcomes = make_outcomes({"causal": 1.0}).assign(source=lambda rows: 1000 + rows["base"] % 6)
    found = judge(outcomes, "causal", resamples=200)
    assert found.label == "INCONCLUSIVE"
    assert "6 source examples; bases and sources from 20 texts each are needed" in found.sentence


def test_the_lead_called_detectable_is_supported_in_most_repetitions():
    """A student whose true lead is what one table says is detectable: about 80% of others support it."""
    table = {"bases": 80, "per_base": 4}
    detectable = verdict({"causal": 0.3}, **table).variables["middle"].detectable
    assert 0.1 < detectable < 0.4
    labels = [
        judge(make_outcomes({"causal": detectable}, seed=seed, **table), "causal", resamples=200).label
        for seed in range(1, 81)
    ]
    assert 0.65 <= labels.count("SUPPORTED") / len(labels) <= 0.95


def test_power_is_said_in_one_line():
    found = verdict({"causal": 0.8, "untrained": 0.1})
    lead = found.variables["middle"].detectable
    assert f"in 80% of repetitions is {lead:.2f}." in found.power
    assert "nothing about other training seeds" in found.power
    both = make_outcomes({"causal": 0.8}, variables=("middle", "late"))
    both = both[(both["variable"] == "middle") | (both["base"] < 5)]
    assert ', none ("late").' in judge(both, "causal", resamples=200).power


def test_verdict_survives_json():
    found = verdict({"causal": 0.8, "untrained": 0.1}, bases=30)
    assert Verdict.from_dict(json.loads(json.dumps(found.to_dict(), allow_nan=False))) == found


def test_false_support_is_rare():
    """The truth lies exactly at the margin: at most about 2.5% of verdicts may be SUPPORTED."""
    labels = [
        judge(
            make_outcomes({"causal": 0.2}, bases=60, per_base=4, seed=seed),
            "causal",
            margin=0.2,
            resamples=200,
        )
        for seed in range(100)
    ]
    assert sum(one.label == "SUPPORTED" for one in labels) <= 8
    assert sum(one.label == "INCONCLUSIVE" for one in labels) >= 80


@pytest.mark.parametrize("student", ["nobody"])
def test_unknown_student(student):
    with pytest.raises(ValueError, match="no student"):
        judge(make_outcomes(bases=3), student)


def test_controls_of_the_student_must_be_passed_too():
    outcomes = make_outcomes()
    found = judge(outcomes, "causal", controls=make_controls(), resamples=300)
    middle = found.variables["middle"]
    assert found.label == "SUPPORTED"
    assert [control.name for control in middle.controls] == [FLOOR, "untrained", "wrong layer", "shuffled sources"]
    assert "The best control, the student at a wrong layer, reaches 0.1" in found.sentence
    for name in SHUFFLED:
        failed = judge(outcomes, "causal", controls=make_controls(SHUFFLED | {name: 0.6}), resamples=300)
        passed = {control.name: control.passed for control in failed.variables["middle"].controls}
        assert failed.label == "NOT SUPPORTED" and passed[name] is False and sum(passed.values()) == 3


def test_a_control_is_asked_of_the_variables_that_have_it():
    outcomes = pd.concat([make_outcomes(), make_outcomes().assign(variable="late")])
    found = judge(outcomes, "causal", controls=make_controls(), resamples=300).variables
    assert [control.name for control in found["late"].controls] == [FLOOR, "untrained"]
    assert "wrong layer" in [control.name for control in found["middle"].controls]

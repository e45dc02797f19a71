from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from iit_toolkit.analysis.statistics.comparison import Comparison, compare
from iit_toolkit.analysis.statistics.measures import DEFAULT_MEASURE, JUDGED, MEASURES
from iit_toolkit.analysis.statistics.summary import Summary, summarise
from iit_toolkit.analysis.statistics.verdict import judge
from iit_toolkit.config.run_config import VerificationConfig
from iit_toolkit.errors import UserError
from tests.analysis.synthetic import make_outcomes


def middle(follows, **kwargs):
    outcomes = make_outcomes({"student": follows}, **kwargs)
    return outcomes, summarise(outcomes, resamples=200).students["student"].variables["middle"]


def test_a_perfect_student_scores_one():
    _, found = middle(1.0)
    for split in (found.iia, found.effective_iia):
        assert (split.all.value, split.inside.value, split.outside.value) == (1.0, 1.0, 1.0)
    assert found.margin.value == 1.0
    assert found.effect_correlation.outside.value == pytest.approx(1.0)


def test_an_indifferent_student_scores_its_floor():
    outcomes, found = middle(0.0)
    unchanged = (outcomes["teacher_cf"] == outcomes["teacher_base"]).mean()
    assert found.iia.all.value == pytest.approx(unchanged)
    assert found.iia.all.value == found.floor.all.value
    assert found.effective_iia.outside.value == found.effective_floor.outside.value == 0.0
    assert found.margin.value == 0.0
    assert -0.05 < found.margin.low < 0.0 < found.margin.high < 0.05
    assert found.base_agreement.value == 1.0
    assert abs(found.effect_correlation.all.value) < 0.05


def test_every_share_is_the_plain_count():
    """A twin by pandas, on answers without any structure."""
    outcomes = make_outcomes({"student": 0.5}, bases=40)
    generator = np.random.default_rng(0)
    for column in ("student_base", "student_cf", "teacher_base", "teacher_cf"):
        outcomes[column] = generator.integers(0, 3, len(outcomes))
    found = summarise(outcomes, resamples=50).students["student"].variables["middle"]
    hit = outcomes["student_cf"] == outcomes["teacher_cf"]
    changed = outcomes["teacher_cf"] != outcomes["teacher_base"]
    floor = outcomes["student_base"] == outcomes["teacher_cf"]
    everywhere = outcomes["inside"] | True
    for region, rows in {
        "all": everywhere,
        "inside": outcomes["inside"],
        "outside": ~outcomes["inside"],
    }.items():
        expected = {
            "iia": hit[rows].mean(),
            "changed": changed[rows].mean(),
            "floor": floor[rows].mean(),
            "effective_iia": hit[rows & changed].mean(),
            "effective_floor": floor[rows & changed].mean(),
        }
        for name, value in expected.items():
            estimate = getattr(getattr(found, name), region)
            assert estimate.value == pytest.approx(value), (name, region)
            assert estimate.low < value < estimate.high
        assert getattr(found.effective_iia, region).cases == int((rows & changed).sum())
    outside = changed & ~outcomes["inside"]
    assert found.margin.value == pytest.approx(hit[outside].mean() - floor[outside].mean())
    assert found.base_agreement.value == pytest.approx((outcomes.student_base == outcomes.teacher_base).mean())


def test_labels_of_whole_inputs_count_as_outside():
    outcomes, found = middle(0.5, classification=True)
    assert found.iia.outside.cases == len(outcomes)
    assert found.iia.inside.value is None
    assert found.iia.inside.cases == 0


def test_without_changed_cases_effective_iia_is_undefined():
    _, found = middle(0.5, changed=0.0)
    assert (found.effective_iia.outside.value, found.effective_iia.outside.cases) == (None, 0)
    assert found.margin.value is None
    assert found.iia.all.value == 1.0


def test_behaviour_counts_base_runs_once():
    """Base rows repeat for every variable; a second variable must not change them, but it counts in kl_cf."""
    outcomes = make_outcomes({"student": 0.5}, variables=("middle", "late"))
    outcomes.loc[outcomes["variable"] == "late", ["kl", "student_nll"]] = 99.0
    outcomes.loc[outcomes["variable"] == "late", "kl_cf"] = 3.3
    behaviour = summarise(outcomes, resamples=100).students["student"].behaviour
    assert behaviour.kl.value == pytest.approx(1.0)
    assert behaviour.kl.cases == 1200
    assert behaviour.kl_counterfactual.value == pytest.approx((1.3 + 3.3) / 2)
    assert behaviour.student_perplexity.value == pytest.approx(6.0)
    assert behaviour.student_perplexity.cases == 900
    assert behaviour.teacher_perplexity.value == pytest.approx(4.0)
    assert behaviour.top1_agreement.value == 1.0


def test_a_student_that_went_nan_is_undefined_and_stays_json():
    outcomes = make_outcomes({"student": 0.5}, bases=30)
    outcomes.loc[3, "kl"] = np.nan
    outcomes.loc[5, "student_nll"] = np.inf
    behaviour = summarise(outcomes, resamples=100).students["student"].behaviour
    assert behaviour.kl.value is None
    assert behaviour.student_perplexity.value is None
    assert behaviour.teacher_perplexity.value is not None


def test_summary_and_comparison_survive_json():
    outcomes = make_outcomes(variables=("middle", "late"), bases=30, changed=0.2)
    summary = summarise(outcomes, resamples=100)
    assert Summary.from_dict(json.loads(json.dumps(summary.to_dict(), allow_nan=False))) == summary
    compared = compare(outcomes, "causal", "plain", resamples=100)
    read = TypeAdapter(Comparison).validate_python(json.loads(json.dumps(compared.to_dict(), allow_nan=False)))
    assert read == compared
    with pytest.raises(ValidationError):
        Summary.from_dict(summary.to_dict() | {"students": {"causal": 1}})


def test_comparison_says_which_student_is_higher():
    outcomes = make_outcomes({"causal": 0.9, "plain": 0.2}, bases=200)
    found = compare(outcomes, "causal", "plain", resamples=300)
    middle = found.variables["middle"]
    assert (found.outcome, middle.outcome) == ("HIGHER", "HIGHER")
    assert middle.treatment.low > middle.baseline.high
    values = [estimate.value for estimate in (middle.treatment, middle.baseline)]
    assert middle.difference.value == pytest.approx(values[0] - values[1])
    assert middle.above_floor.value == pytest.approx(middle.difference.value)
    assert found.kl.value == pytest.approx(-0.7)
    assert found.log_perplexity.value == pytest.approx(np.log(4.4 / 7.2))
    assert "It is higher for causal: the paired difference is +" in found.sentence
    reverse = compare(outcomes, "plain", "causal", resamples=300)
    assert reverse.outcome == "LOWER"
    assert "It is LOWER for plain" in reverse.sentence


def test_comparison_of_equals_says_that_nothing_is_shown():
    found = compare(make_outcomes({"causal": 0.5, "plain": 0.5}), "causal", "plain", resamples=300)
    assert found.outcome == "NOT SEPARATED"
    assert "It is not shown that causal is better than plain" in found.sentence and "contains zero" in found.sentence


def test_the_paired_difference_decides_a_comparison_whose_intervals_overlap():
    found = compare(make_outcomes({"causal": 0.55, "plain": 0.45}), "causal", "plain", resamples=300)
    middle = found.variables["middle"]
    assert middle.treatment.low < middle.baseline.high and middle.difference.low > 0
    assert found.outcome == "HIGHER"
    reverse = compare(make_outcomes({"causal": 0.45, "plain": 0.55}), "causal", "plain", resamples=300)
    assert reverse.outcome == "LOWER"


def test_a_handful_of_texts_separates_nothing():
    few = make_outcomes({"causal": 1.0, "plain": 0.0}, bases=8, per_base=200, changed=1.0)
    found = compare(few, "causal", "plain", resamples=300)
    assert found.variables["middle"].difference.low > 0
    assert found.outcome == "NOT SEPARATED" and "too few inputs" in found.sentence


def test_comparison_without_changed_cases_is_undefined():
    found = compare(make_outcomes(changed=0.0), "causal", "plain", resamples=50)
    assert found.outcome == "UNDEFINED"
    assert "cannot be compared, with 0 affected cases" in found.sentence


def test_only_the_same_cases_can_be_compared():
    outcomes = make_outcomes()
    with pytest.raises(UserError, match='no student "clausal" in the outcomes; there are: causal, plain, untrained'):
        compare(outcomes, "clausal", "plain")
    fewer = outcomes.drop(index=outcomes.index[outcomes["student"] == "plain"][:1])
    with pytest.raises(UserError, match='different cases of variable "middle"'):
        compare(fewer, "causal", "plain")
    renamed = outcomes.assign(variable=np.where(outcomes["student"] == "plain", "late", "middle"))
    with pytest.raises(UserError, match="different variables"):
        compare(renamed, "causal", "plain")


def test_every_measure_is_a_field_of_the_summary():
    found = summarise(make_outcomes({"student": 0.5}, bases=30), resamples=50).students["student"]
    for name, measure in MEASURES.items():
        if not measure.regions:
            assert getattr(found.behaviour, name).cases > 0
        for region in measure.regions:
            assert found.variables["middle"].estimate(name, region).cases > 0
    assert found.variables["middle"].estimate("margin") is found.variables["middle"].margin


@pytest.mark.parametrize("name", JUDGED)
def test_a_verdict_and_a_comparison_rest_on_any_judged_measure(name):
    outcomes = make_outcomes({"causal": 1.0, "untrained": 0.0}, bases=100)
    found = judge(outcomes, "causal", measure=name, resamples=300)
    middle = summarise(outcomes, resamples=300).students["causal"].variables["middle"]
    floor = middle.estimate(MEASURES[name].floor).value if MEASURES[name].floor else 0.0
    assert (found.measure, found.label) == (name, "SUPPORTED")
    assert found.variables["middle"].score == middle.estimate(name)
    assert found.variables["middle"].controls[0].level.value == floor
    assert "{" not in found.sentence
    compared = compare(outcomes, "causal", "untrained", measure=name, resamples=300)
    assert (compared.measure, compared.outcome) == (name, "HIGHER")
    lead = compared.variables["middle"].above_floor.value
    assert lead == pytest.approx(middle.estimate(name).value - floor)
    assert judge(outcomes, "untrained", measure=name, resamples=300).label == "NOT SUPPORTED"


@pytest.mark.parametrize("name", ["effectiv_iia", "changed", "kl"])
def test_no_verdict_rests_on_what_has_no_floor(name):
    with pytest.raises(UserError, match=f'measure: no verdict rests on "{name}"'):
        judge(make_outcomes(bases=20), "causal", measure=name)


def test_the_config_knows_the_measures_that_a_verdict_can_rest_on():
    """The config's room lies below the table of measures, so it names them itself."""
    chosen = VerificationConfig.model_fields["measure"]
    assert set(get_args(chosen.annotation)) == set(JUDGED) and chosen.default == DEFAULT_MEASURE

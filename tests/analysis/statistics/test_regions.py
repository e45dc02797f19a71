"""The map of regions: planted truths are found and confirmed, and what luck shows is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from iit_toolkit.analysis.statistics.candidates import MOST_ANSWERS, Inputs, candidates
from iit_toolkit.analysis.statistics.halves import ACROSS, CONFIRMING, halves
from iit_toolkit.analysis.statistics.measures import JUDGED
from iit_toolkit.analysis.statistics.regions import MappedRegion, RegionMap, map_regions
from tests.analysis.synthetic import graded, make_outcomes

SETTINGS: dict[str, Any] = {"resamples": 300, "seed": 0}
CLASSES = 2
TEXTS = {100: "was", 101: "<were>"}


def planted(follows: Callable[[pd.DataFrame], Any], *, bases: int = 160, **changes: Any) -> pd.DataFrame:
    """A student that follows its teacher where told, in 90 of 100 cases, and moves at random elsewhere, but little."""
    outcomes = make_outcomes({"causal": 0.0}, bases=bases, **changes)
    generator = np.random.default_rng(1)
    changed = outcomes["teacher_cf"] != outcomes["teacher_base"]
    outcomes["teacher_cf"] = np.where(changed, 100 + outcomes["teacher_base"] % CLASSES, outcomes["teacher_base"])
    kept = follows(outcomes) & (generator.random(len(outcomes)) < 0.9)
    outcomes["student_cf"] = np.where(kept, outcomes["teacher_cf"], outcomes["teacher_base"])
    outcomes = graded(outcomes)
    noise = generator.normal(scale=0.02, size=len(outcomes)) * outcomes["teacher_effect"]
    ignored = outcomes["kl_ignored"] - 0.9 * np.where(kept & changed, outcomes["kl_ignored"], 0.0)
    return outcomes.assign(
        effect_error=(outcomes["effect_error"] + noise).clip(lower=0.0), kl_cf=ignored + 0.05 * noise
    )


def even(cases: pd.DataFrame) -> Any:
    return cases["teacher_cf"] % CLASSES == 0


def by_name(found: RegionMap) -> dict[str, MappedRegion]:
    return {one.name: one for one in found.regions}


def examples_of(outcomes: pd.DataFrame, swapped: list[int], length: Callable[[int], int]) -> pd.DataFrame:
    pairs = outcomes[["base", "source"]].drop_duplicates()
    tokens = [["a"] * length(base) for base in pairs["base"]]
    return pairs.assign(base_tokens=tokens, swapped=[np.array(swapped)] * len(pairs), family=None)


def test_a_class_that_is_kept_and_one_that_is_ignored_are_found_and_confirmed() -> None:
    found = map_regions(planted(even), "causal", Inputs(None, TEXTS, {}), **SETTINGS)
    regions = by_name(found)
    assert (regions['"was"'].label, regions['"<were>"'].label) == ("HOLDS", "FAILS")
    assert regions['"was"'].finding.value == pytest.approx(0.9, abs=0.07)
    assert regions['"<were>"'].confirming.value == pytest.approx(0.0, abs=0.03)
    assert 0.35 < (regions['"was"'].share or 0) < 0.65
    assert regions["all cases outside"].share == pytest.approx(1.0)
    assert regions["at a swapped position"].share is None
    assert {one.name for one in found.told} >= {'"was"', '"<were>"'}


@pytest.mark.parametrize("measure", JUDGED)
def test_any_judged_measure_is_mapped(measure: str) -> None:
    outcomes = planted(even, bases=500, per_base=6)
    outcomes["student_base"] = np.where(outcomes["base"] % 7 == 0, outcomes["teacher_cf"], outcomes["student_base"])
    outcomes["student_cf"] = np.where(outcomes["base"] % 7 == 0, outcomes["teacher_base"], outcomes["student_cf"])
    regions = by_name(map_regions(outcomes, "causal", Inputs(None, TEXTS, {}), measure=measure, **SETTINGS))
    assert (regions['"was"'].label, regions['"<were>"'].label) == ("HOLDS", "FAILS")


def test_where_all_regions_are_alike_none_is_told_to_be_different() -> None:
    outcomes = make_outcomes({"causal": 0.6}, bases=400)
    outcomes["teacher_cf"] = np.where(outcomes["teacher_cf"] >= 100, 100 + outcomes["base"] % 2, outcomes["teacher_cf"])
    outcomes["student_cf"] = np.where(outcomes["student_cf"] >= 100, 100 + outcomes["base"] % 2, outcomes["student_cf"])
    per_million = {answer: 3.0 * 10 ** (answer % 5) for answer in range(50)}
    examples = examples_of(outcomes, [0, 2, 4, 6, 8], lambda base: 12 + 10 * (base % 2))
    found = map_regions(graded(outcomes), "causal", Inputs(examples, {}, per_million), **SETTINGS)
    assert {one.label for one in found.told} == {"HOLDS"} and len(found.told) > 10


def test_families_of_pairs_are_regions() -> None:
    outcomes = planted(lambda cases: cases["base"] % 3 == 0)
    examples = examples_of(outcomes, [0], lambda _: 9)
    kinds = {0: "agreement", 1: "reflexives", 2: None}
    examples["family"] = [kinds[base % 3] for base in examples["base"]]
    regions = by_name(map_regions(outcomes, "causal", Inputs(examples, TEXTS, {}), **SETTINGS))
    assert (regions["agreement"].label, regions["reflexives"].label) == ("HOLDS", "FAILS")
    told = outcomes[halves(outcomes, SETTINGS["seed"]) != ACROSS]
    kept = ~told["inside"] & (told["teacher_effect"] > 0) & (told["base"] % 3 == 0)
    assert regions["agreement"].cases == kept.sum()
    assert "None" not in regions


def test_at_the_margin_little_is_confirmed() -> None:
    """The truth is the margin in every region: what is confirmed either way is luck, and rare over many maps."""
    told = 0
    for seed in range(40):
        outcomes = make_outcomes({"causal": 0.5}, bases=80, per_base=4, seed=seed)
        found = map_regions(outcomes, "causal", margin=0.5, resamples=200, seed=seed)
        told += bool([one for one in found.told if one.label != "REFUTED"])
    assert told <= 4


def test_halves_that_contradict_each_other_confirm_nothing() -> None:
    """In one half the even answers are kept, in the other half the odd ones."""
    plain = planted(even)
    half = halves(plain, SETTINGS["seed"])
    swapped = planted(lambda cases: np.where(half == CONFIRMING, ~even(cases), even(cases)))
    regions = by_name(map_regions(swapped, "causal", Inputs(None, TEXTS, {}), **SETTINGS))
    assert {regions[name].label for name in ('"was"', '"<were>"')} == {"REFUTED"}
    assert regions['"was"'].found == "HOLDS" and regions['"<were>"'].found == "FAILS"


def test_answers_that_are_dealt_anew_hold_alike() -> None:
    """The planted classes are what is found: with the answers' names dealt at random, both regions hold."""
    outcomes = planted(even)
    dealt = np.random.default_rng(2).integers(0, 2, len(outcomes))
    kept = outcomes["student_cf"] == outcomes["teacher_cf"]
    new = np.where(outcomes["teacher_cf"] >= 100, 100 + dealt, outcomes["teacher_cf"])
    outcomes = graded(outcomes.assign(teacher_cf=new, student_cf=np.where(kept, new, outcomes["student_base"])))
    regions = by_name(map_regions(outcomes, "causal", Inputs(None, TEXTS, {}), **SETTINGS))
    assert {regions[name].label for name in ('"was"', '"<were>"')} == {"HOLDS"}


def test_places_distances_lengths_and_frequencies() -> None:
    outcomes = planted(lambda cases: (cases["position"] < 8) & (cases["base"] % 2 == 0), per_base=24)
    outcomes["inside"] = outcomes["position"].isin([8, 9, 12])
    examples = examples_of(outcomes, [8, 9, 12], lambda base: 40 if base % 2 else 24)
    per_million = {answer: 3.0 if answer % 2 else 500.0 for answer in range(50)}
    found = map_regions(outcomes, "causal", Inputs(examples, TEXTS, per_million), **SETTINGS)
    regions = by_name(found)
    labels = {name: one.label for name, one in regions.items()}
    assert labels["before the swapped positions"] == "HOLDS"
    assert labels["after the swapped positions"] == labels["between swapped positions"] == "FAILS"
    assert labels["17 to 32 tokens"] == "HOLDS" and labels["33 to 64 tokens"] == "FAILS"
    assert {"below 10 per million", "100 to 1k per million", "next to a swapped position"} <= set(labels)
    outside = outcomes[~outcomes["inside"] & (outcomes["teacher_effect"] > 0)]
    kept = outside[halves(outcomes, SETTINGS["seed"])[outside.index] != ACROSS]
    distance = np.abs(kept["position"].to_numpy()[:, None] - [8, 9, 12]).min(axis=1)
    assert regions["next to a swapped position"].cases == (distance == 1).sum()
    assert regions["2 to 5 tokens away"].cases == ((distance > 1) & (distance <= 5)).sum()
    assert regions["more than 5 tokens away"].cases == (distance > 5).sum()


def test_the_commonest_answers_are_regions_and_the_others_one() -> None:
    outcomes = make_outcomes({"causal": 0.6})
    found = candidates(outcomes, np.ones(len(outcomes), dtype=np.bool_), Inputs(None, TEXTS, {}))
    answers = [one for one in found if one.kind == "teacher's answer"]
    assert len(answers) == MOST_ANSWERS + 1 and answers[-1].name == "any other"
    assert (sum(one.chosen.astype(int) for one in answers) == 1).all()
    sizes = [int(outcomes["teacher_effect"][one.chosen & ~outcomes["inside"]].sum()) for one in answers[:-1]]
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] > 0


def test_classification_has_no_places() -> None:
    outcomes = planted(even, classification=True, bases=900)
    examples = examples_of(outcomes, [0], lambda _: 9)
    found = map_regions(outcomes, "causal", Inputs(examples, TEXTS, {}), **SETTINGS)
    assert {one.kind for one in found.regions} == {"all", "teacher's answer"}
    assert by_name(found)['"was"'].label == "HOLDS"


@pytest.mark.parametrize("bases", [1, 2, 30])
def test_few_texts_are_counted_and_not_listed(bases: int) -> None:
    outcomes = make_outcomes({"causal": 0.6}, bases=bases)
    found = map_regions(outcomes, "causal", **SETTINGS)
    assert not found.regions and found.too_few > 1
    json.dumps(found.to_dict(), allow_nan=False)


def test_no_effect_is_no_region() -> None:
    found = map_regions(make_outcomes({"causal": 0.6}, changed=0.0), "causal", **SETTINGS)
    assert not found.regions and found.too_few
    json.dumps(found.to_dict(), allow_nan=False)


def test_every_variable_is_mapped_and_all_count_in_the_correction() -> None:
    one, two = (map_regions(planted(even, variables=names), "causal", **SETTINGS) for names in (("a",), ("a", "b")))
    assert {region.variable for region in two.regions} == {"a", "b"}
    assert max(region.level for region in two.regions) > max(region.level for region in one.regions) > 0.95
    assert two.count("OPEN") + two.count("NOT CONFIRMED") + len(two.told) == len(two.regions)

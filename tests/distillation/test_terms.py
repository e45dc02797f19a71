"""The table of terms and the weights name the same terms, and say what an objective has to compute."""

from __future__ import annotations

import pytest

from iit_toolkit.distillation.terms import COUNTERFACTUAL, TERMS, ObjectiveWeights

NAMES = [term.name for term in TERMS]
OTHER_RUNS = {"strict", "whole"}
"""They compare other runs than all others do."""
OTHERS = {*OTHER_RUNS, "boundary"}
"""`boundary` compares nothing."""


def test_every_weight_is_that_of_a_term_or_of_its_twin_and_every_term_has_one() -> None:
    weights = set(ObjectiveWeights.model_fields)
    assert len(set(NAMES)) == len(NAMES) and set(NAMES) <= weights
    assert {name.removeprefix(COUNTERFACTUAL) for name in weights - OTHERS} == set(NAMES)


def test_only_what_counterfactual_runs_give_has_a_twin() -> None:
    twins = {name.removeprefix(COUNTERFACTUAL) for name in ObjectiveWeights.model_fields if COUNTERFACTUAL in name}
    assert {term.compares for term in TERMS if term.name in twins} == {"logits", "hidden"}


@pytest.mark.parametrize("name", [one for one in ObjectiveWeights.model_fields if one not in OTHERS])
def test_a_single_term_needs_what_it_compares(name: str) -> None:
    weights = ObjectiveWeights(**{name: 0.5})
    base, twin = weights.of_runs(counterfactual=False), weights.of_runs(counterfactual=True)
    causal = name.startswith(COUNTERFACTUAL)
    [(term, weight)] = twin if causal else base
    assert (term.name, weight) == (name.removeprefix(COUNTERFACTUAL), 0.5) and not (base if causal else twin)
    assert weights.interchange == causal
    assert weights.needs_teacher == (name != "task")
    assert weights.needs_alignment == (causal or name == "aligned_mse")
    assert weights.compares_widths == (term.name in ("cos", "hidden_mse", "aligned_mse"))
    assert weights.compares(term.compares, counterfactual=causal)
    assert not weights.compares(term.compares, counterfactual=not causal)


@pytest.mark.parametrize("name", sorted(OTHER_RUNS))
def test_strict_and_whole_need_swaps_and_teacher_but_no_counterfactual_run(name: str) -> None:
    weights = ObjectiveWeights(**{"task": 1.0, name: 0.5})
    assert weights.interchange and weights.needs_teacher and weights.needs_alignment and not weights.compares_widths
    assert not weights.of_runs(counterfactual=True) and weights.of_base_runs() == ObjectiveWeights(task=1.5)


def test_boundary_needs_nothing_and_does_not_count_where_nothing_is_swapped() -> None:
    weights = ObjectiveWeights(task=1.0, boundary=0.5)
    assert not (weights.interchange or weights.needs_teacher or weights.needs_alignment or weights.compares_widths)
    assert weights.of_base_runs() == ObjectiveWeights(task=1.0)
    assert ObjectiveWeights(task=1.0, causal_ce=1.0, boundary=0.5).of_base_runs() == ObjectiveWeights(task=2.0)


def test_rows_without_swaps_count_as_much_as_others() -> None:
    weights = ObjectiveWeights(task=0.25, ce=0.5, causal_ce=0.5, causal_cos=0.25)
    assert weights.of_base_runs() == ObjectiveWeights(task=0.5, ce=1.0)
    assert ObjectiveWeights(ce=0.3).of_base_runs() == ObjectiveWeights(ce=0.3)

"""Recipes: the weights and settings that a name stands for, and what wins over them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest

from iit_toolkit.config.loading import parse_config
from iit_toolkit.config.recipes import RECIPES, RecipeName
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.prepare import Prepared


def prepared(arm: dict[str, Any], **training: Any) -> Prepared:
    content = {"name": "n", "teacher": "embedded", "data": {"source": "python_docs"}, "training": training}
    return Prepared(parse_config(RunConfig, {**content, "arms": {"a": arm}}, where="config"))


def settings(arm: dict[str, Any], **training: Any) -> tuple[dict[str, float], str, str]:
    made = prepared(arm, **training).arm_training("a", Path("unused"))
    weights = {name: weight for name, weight in made.objective_weights.model_dump().items() if weight}
    return weights, made.base_tokens, made.counterfactual_tokens


def test_every_name_is_a_recipe() -> None:
    assert set(get_args(RecipeName)) == set(RECIPES)


def test_the_papers_recipes_are_the_papers_objectives() -> None:
    assert ObjectiveWeights(**RECIPES["plain"].weights) == ObjectiveWeights.standard()
    assert ObjectiveWeights(**RECIPES["paper"].weights) == ObjectiveWeights.causal()


@pytest.mark.parametrize(
    ("arm", "training", "expected"),
    [
        ({"recipe": "plain"}, {}, ({"task": 0.33, "ce": 0.33, "cos": 0.33}, "all", "all")),
        ({"recipe": "plain", "alignment": "diito/middle"}, {}, ({"task": 0.33, "ce": 0.33, "cos": 0.33}, "all", "all")),
        ({"recipe": "fast"}, {}, ({"ce": 1.0}, "labelled", "all")),
        (
            {"recipe": "targeted", "alignment": "diito/middle"},
            {"base_tokens": "all"},
            ({"ce": 0.5, "causal_ce": 0.5}, "labelled", "labelled"),
        ),
        (
            {"recipe": "targeted", "weights": {"ce": 1, "aligned_mse": 2}, "training": {"base_tokens": "all"}}
            | {"alignment": "diito/middle"},
            {},
            ({"ce": 1.0, "aligned_mse": 2.0}, "all", "labelled"),
        ),
    ],
)
def test_a_recipe_wins_over_the_configs_settings_and_the_arm_over_its_recipe(
    arm: dict[str, Any], training: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    assert settings(arm, **training) == expected


def test_a_causal_recipe_needs_an_alignment() -> None:
    with pytest.raises(
        UserError, match=r"^arms.a.recipe targeted: causal_\* weights, strict and aligned_mse need an alignment"
    ):
        prepared({"recipe": "targeted"}).arm_weights("a")


def test_an_unknown_recipe_is_told() -> None:
    with pytest.raises(UserError, match="recipe"):
        prepared({"recipe": "best"})


def test_a_recipe_chooses_no_tokens_in_classification() -> None:
    for recipe in RECIPES.values():
        assert all(not name.endswith("_tokens") for name in recipe.training_of("sequence_classification"))
        assert recipe.training_of("masked_lm") == recipe.training_of(None) == recipe.training

"""Named recipes: the loss terms of an arm, and the settings that go with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from iit_toolkit.config.task import FACTS, Task

RecipeName = Literal["plain", "paper", "fast", "targeted"]


@dataclass(frozen=True)
class Recipe:
    """What an arm is trained by, if it does not say otherwise.

    Attributes:
        weights: The weight of each loss term.
        training: Settings of the trainer.
    """

    weights: Mapping[str, float]
    training: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def training_of(self, task: Task | None) -> Mapping[str, Any]:
        """Return the settings for a task; one that compares whole rows has no choice of tokens."""
        if task is None or FACTS[task].at_tokens:
            return self.training
        return {name: value for name, value in self.training.items() if not name.endswith("_tokens")}


RECIPES: Mapping[RecipeName, Recipe] = {
    "plain": Recipe({"task": 0.33, "ce": 0.33, "cos": 0.33}),
    "paper": Recipe({"task": 0.25, "ce": 0.25, "cos": 0.25, "causal_ce": 0.25}),
    "fast": Recipe({"ce": 1.0}, {"base_tokens": "labelled"}),
    "targeted": Recipe({"ce": 0.5, "causal_ce": 0.5}, {"base_tokens": "labelled", "counterfactual_tokens": "labelled"}),
}
"""All recipes by name.

`plain` is standard distillation and `paper` is DIITO, as in arXiv 2112.02505, section 3. `fast` is plain distillation
of the predicted tokens alone, and `targeted` adds interchanges to it.
"""

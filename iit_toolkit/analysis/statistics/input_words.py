"""What inputs are called: texts, whose tokens are answered one by one, or inputs that have one answer each."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from iit_toolkit.analysis.statistics.decision import MINIMUM_CLUSTERS
from iit_toolkit.analysis.statistics.outcomes import NO_POSITION
from iit_toolkit.config.task import FACTS

NETWORKS = "networks"
"""The `task` of a run whose students are networks of torch: they answer with a class and read no text."""
_WITHOUT_TOKENS = (NETWORKS, *(name for name, facts in FACTS.items() if not facts.at_tokens))


@dataclass(frozen=True)
class InputWords:
    """The words for the inputs of a run.

    Attributes:
        text: What is never separated in the intervals.
        outside: Where the cases lie that count, for a sentence; empty if an answer lies at no position.
        region: The same in a word.
    """

    text: str
    outside: str
    region: str

    @property
    def texts(self) -> str:
        """Several of them."""
        return f"{self.text}s"

    @property
    def aside(self) -> str:
        """Where the cases lie, behind a comma."""
        return f",{self.outside}" if self.outside else ""

    @property
    def enough(self) -> str:
        """What it takes to rely on an interval."""
        return (
            f"bases and sources from {MINIMUM_CLUSTERS} {self.texts} each are needed, and no handful of {self.texts} "
            "may dominate"
        )


TOKENS = InputWords("text", " outside the swapped positions", " outside")
"""Answers lie at positions of texts."""
WHOLE = InputWords("input", "", "")
"""Each input has one answer: a class, or what a program returns."""


def words_of(outcomes: pd.DataFrame) -> InputWords:
    """Return the words for an outcomes table."""
    return WHOLE if len(outcomes) and bool((outcomes["position"] == NO_POSITION).all()) else TOKENS


def words_for(task: str) -> InputWords:
    """Return the words for the task of a run, as results.json names it."""
    return WHOLE if task in _WITHOUT_TOKENS else TOKENS

"""Questions with candidate answers: what models answer if they may choose among these only."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from iit_toolkit.analysis.statistics.outcomes import NO_GOLD
from iit_toolkit.analysis.verification.answers import Answers
from iit_toolkit.analysis.verification.cases import Cases


@dataclass(frozen=True)
class Choices:
    """The cases of a batch that have candidates.

    Attributes:
        cases: The cases, M of N; their gold answers are numbers of candidates.
        rows: (M,) Which of all cases they are.
        candidates: (M, K) Tokens, and `NO_GOLD` after them.
    """

    cases: Cases
    rows: Tensor
    candidates: Tensor

    def among(self, answers: Answers) -> Answers:
        """Return a model's log-probabilities (M, K) among the candidates, from those (N, V) of all answers.

        Where there is no further candidate, it is -inf.
        """
        return Answers(self._among(answers.base), self._among(answers.counterfactual))

    def _among(self, scores: Tensor) -> Tensor:
        missing = self.candidates == NO_GOLD
        some = scores[self.rows].gather(1, self.candidates.clamp(min=0))
        return some.masked_fill(missing, -torch.inf).log_softmax(-1)


def choices_of(cases: Cases) -> Choices | None:
    """Return the cases that have candidates; `None` if none has."""
    if cases.candidates is None or not cases.candidates.shape[1]:
        return None
    rows = (cases.candidates[:, 0] != NO_GOLD).nonzero()[:, 0]
    if not len(rows):
        return None
    columns = {one.name: getattr(cases, one.name) for one in fields(Cases)}
    some = replace(cases, **{name: one[rows] for name, one in columns.items() if name != "tokens" and one is not None})
    assert some.candidates is not None
    given = some.candidates == some.gold[:, None]
    gold = torch.where(given.any(1), given.int().argmax(1), NO_GOLD)
    return Choices(replace(some, gold=gold), rows, some.candidates)

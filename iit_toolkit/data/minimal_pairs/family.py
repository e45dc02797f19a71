"""A family of minimal pairs: a question about language, with the templates and words that ask it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from iit_toolkit.data.minimal_pairs.grids import Grid, draw
from iit_toolkit.data.minimal_pairs.rows import PairRow
from iit_toolkit.errors import UserError, did_you_mean

SPLITS = ("train", "words", "templates")
"""Training words in training templates; held-out words in training templates; held-out words in held-out templates."""


@dataclass(frozen=True)
class Family:
    """A question about language.

    Attributes:
        name: Its name.
        description: What it asks, in one sentence.
        tasks: The tasks that it is made for.
        grids: Of a split, the grids that pairs are drawn from.
    """

    name: str
    description: str
    tasks: tuple[Literal["masked_lm", "causal_lm"], ...]
    grids: Callable[[str], Sequence[Grid]]

    def size(self, split: str) -> int:
        """Return how many different pairs a split has.

        Raises:
            UserError: If there is no such split.
        """
        return sum(map(len, self._grids(split)))

    def rows(self, split: str, count: int, seed: int = 0) -> list[PairRow]:
        """Draw different pairs: about as many from each template, and about as many of each answer.

        Args:
            split: `train`, `words` or `templates`.
            count: How many.
            seed: Seed; the same arguments give the same pairs on every machine.

        Raises:
            UserError: If there is no such split, or it has fewer pairs.
        """
        grids = self._grids(split)
        size = sum(map(len, grids))
        if not 0 <= count <= size:
            raise UserError(
                f'family {self.name} has {size:,} different pairs in split "{split}", not {count:,}; ask for 0 to '
                f"{size:,}"
            )
        return draw(grids, count, self.name, split, seed)

    def lexicon(self, split: str) -> set[str]:
        """Return the content words that pairs of a split are made of; templates may hold further words.

        Raises:
            UserError: If there is no such split.
        """
        return set[str]().union(*(grid.lexicon() for grid in self._grids(split)))

    def _grids(self, split: str) -> Sequence[Grid]:
        if split not in SPLITS:
            raise UserError(f'family {self.name} has no split "{split}": {did_you_mean(split, SPLITS)}')
        return self.grids(split)

"""Grids: all pairs that one template makes of its words, counted and numbered without being written out."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from iit_toolkit.data.minimal_pairs.rows import PairRow
from iit_toolkit.data.minimal_pairs.templates import ANSWER, SWAP, Template


@dataclass(frozen=True)
class Swap:
    """Words of the base, those of the source, and the answers that they ask for.

    Attributes:
        base: The words in the base.
        source: The words in the source.
        answer: Which of the candidates is the base's answer.
        source_answer: Which is the source's.
        content: Whether the words belong to the lexicon; function words, such as `this`, do not.
    """

    base: str
    source: str
    answer: int
    source_answer: int
    content: bool = True


@dataclass(frozen=True)
class Grid:
    """A template with all the fillers of each of its places; each combination is a pair.

    Attributes:
        template: The template.
        swaps: The swapped words.
        candidates: The sets of candidate answers, each in the order that the swaps count in.
        slots: The fillers of the other places, all of them words of the lexicon.
        weight: How many pairs are drawn here for each that is drawn from a grid of weight 1.
        asks_content: Whether the candidates are words of the lexicon.
    """

    template: Template
    swaps: Sequence[Swap]
    candidates: Sequence[tuple[str, ...]]
    slots: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    weight: int = 1
    asks_content: bool = False

    def __len__(self) -> int:
        """Return the number of pairs."""
        return math.prod([len(self.swaps), len(self.candidates), *map(len, self.slots.values())])

    def row(self, number: int, family: str, split: str) -> PairRow:
        """Make the pair of a number."""
        number, which = divmod(number, len(self.swaps))
        swap = self.swaps[which]
        number, which = divmod(number, len(self.candidates))
        candidates = self.candidates[which]
        slots: dict[str, str] = {}
        for name, choices in self.slots.items():
            number, which = divmod(number, len(choices))
            slots[name] = choices[which]
        answer, source_answer = candidates[swap.answer], candidates[swap.source_answer]
        fillers = slots | {str(place): word for place, word in enumerate(candidates)}
        text, span, answer_span = self.template.fill({**fillers, SWAP: swap.base, ANSWER: answer})
        source, source_span, source_answer_span = self.template.fill(
            {**fillers, SWAP: swap.source, ANSWER: source_answer}
        )
        words = (
            *((swap.base, swap.source) if swap.content else ()),
            *((answer, source_answer) if self.asks_content else ()),
            *slots.values(),
        )
        return PairRow(
            text=text,
            source=source,
            span=span,
            source_span=source_span,
            answer=answer_span,
            source_answer=source_answer_span,
            candidates=candidates,
            family=family,
            template=self.template.name,
            words=tuple(dict.fromkeys(words)),
            split=split,
        )

    def lexicon(self) -> set[str]:
        """Return the words of the lexicon that occur in some pair, as they stand there."""
        found = {word for choices in self.slots.values() for word in choices}
        found |= {word for swap in self.swaps if swap.content for word in (swap.base, swap.source)}
        return found | ({word for some in self.candidates for word in some} if self.asks_content else set())


def draw(grids: Sequence[Grid], count: int, family: str, split: str, seed: int) -> list[PairRow]:
    """Draw different pairs, as many from each grid as its weight says while it has them, and shuffle them."""
    generator = random.Random(f"{family}/{split}/{seed}")
    rows: list[PairRow] = []
    for grid, share in zip(grids, _shares(grids, count, generator), strict=True):
        rows += [grid.row(number, family, split) for number in generator.sample(range(len(grid)), share)]
    generator.shuffle(rows)
    return rows


def _shares(grids: Sequence[Grid], count: int, generator: random.Random) -> list[int]:
    """Say how many pairs each grid gives: in turn, one for each of its weight, until there are enough."""
    shares = [0] * len(grids)
    turns = [which for which, grid in enumerate(grids) for _ in range(grid.weight)]
    generator.shuffle(turns)  # so that few pairs are not all of the first templates
    while count:
        turns = [which for which in turns if shares[which] < len(grids[which])]
        rounds = max(1, min(count // len(turns), min((len(grids[w]) - shares[w]) // grids[w].weight for w in turns)))
        for which in turns:
            given = min(rounds, count, len(grids[which]) - shares[which])
            shares[which] += given
            count -= given
    return shares

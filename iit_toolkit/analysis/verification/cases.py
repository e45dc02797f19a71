"""The cases that are measured: pairs of base and source, what is swapped, where answers are read.

Whatever measures two models (`verify`, `search`, `subspace`) draws its cases here, so all mean the same by a case.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from iit_toolkit.alignment.positions import Positions
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.analysis.statistics.outcomes import NO_GOLD, NO_POSITION
from iit_toolkit.analysis.verification.by_row import collated_alone, collated_together, first_real
from iit_toolkit.config.task import FACTS, Task
from iit_toolkit.data.batch import (
    IGNORE_INDEX,
    Batch,
    Collator,
    Row,
    eligible_positions,
    gold_answers,
    paired_sources,
    require_labels,
)
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Sampler, Swap, other_sources, refuse_empty
from iit_toolkit.interchange.sampling import pair_generator
from iit_toolkit.runs.progress import counted

_CAUSAL_TOKENS = 16
_LOOKED_AT = 64


@dataclass(frozen=True)
class Cases:
    """The evaluated cases of one batch.

    Attributes:
        tokens: (B, S) boolean; `None` if answers are of rows.
        base, source, base_text, source_text, position, inside, gold: (N,) columns of the outcomes table; positions are
            counted from a row's first token that is no padding.
        candidates: (N, K) tokens among which the question of a case decides, and -100 after them; `None` if no row has
            any.
    """

    tokens: Tensor | None
    base: Tensor
    source: Tensor
    base_text: Tensor
    source_text: Tensor
    position: Tensor
    inside: Tensor
    gold: Tensor
    candidates: Tensor | None = None


def by_pair(cases: Cases) -> tuple[dict[str, NDArray[np.int64]], NDArray[np.int64]]:
    """Return what the P pairs are that cases belong to, and of each case (N,) the number of its pair.

    Returns:
        `base`, `source`, `base_text` and `source_text` of the pairs (P,), and the numbers.
    """
    first, owner = np.unique(cases.base.numpy(), return_index=True, return_inverse=True)[1:]
    names = ("base", "source", "base_text", "source_text")
    return {name: getattr(cases, name).numpy()[first] for name in names}, owner


@dataclass(frozen=True)
class Pairs:
    """One batch of pairs.

    Attributes:
        bases: How many base rows there are.
        base: The base rows, padded, and after them rows that are only sources of these: nothing is swapped in them, and
            no answer of theirs is read.
        source: The rows that sources are taken from; `None` if they are among the rows of `base`.
        swap: Which activations go where.
        cases: Where answers are read.
        shuffled: The swap with another source for every base; `None` if it was not asked for.
    """

    bases: int
    base: dict[str, Tensor]
    source: dict[str, Tensor] | None
    swap: Swap
    cases: Cases
    shuffled: Swap | None = None


@dataclass(frozen=True)
class DrawnPairs:
    """Pairs, a batch at a time, and the same at every pass: what `draw_pairs` returns.

    Attributes:
        rows, collator, batch_size, seed, what: As given to `draw_pairs`.
        sampler: Draws the positions.
        order: The row that is base first, second, and so on.
        others: For every base, which one's source is its other source; `None` if there are to be none.
    """

    rows: Sequence[Row]
    collator: Collator
    sampler: Sampler
    batch_size: int
    seed: int
    what: str
    order: Sequence[int]
    others: Sequence[int] | None

    @property
    def paired(self) -> bool:
        """Whether every row has its own source; else the next base's row is a base's source."""
        return self.sampler.sources.kind == "paired"

    def __iter__(self) -> Iterator[Pairs]:
        """Draw all pairs.

        Raises:
            UserError: If no row at all has a position to swap.
        """
        swapped, longest = False, None
        spans = list(self._spans(len(self.order)))
        for span in counted(spans, self.what):
            pairs = self._batch(span)
            swapped |= bool(pairs.swap.mask.any())
            if longest is None or pairs.swap.mask.shape[1] > longest.mask.shape[1]:
                longest = pairs.swap
            if not swapped and span is spans[-1]:
                refuse_empty(longest, self.sampler.positions)
            yield pairs

    def first(self, count: int) -> Iterator[Pairs]:
        """Draw the first pairs only."""
        return map(self._batch, self._spans(min(count, len(self.order))))

    def padded(self) -> Batch | None:
        """Return the base rows of the first batch in which any is padded; `None` if none is among the first pairs."""
        for pairs in self.first(_LOOKED_AT):
            if "attention_mask" in pairs.base and not bool(pairs.base["attention_mask"].all()):
                return pairs.base
        return None

    def _spans(self, count: int) -> Iterator[range]:
        return (range(start, min(start + self.batch_size, count)) for start in range(0, count, self.batch_size))

    def _batch(self, bases: range) -> Pairs:
        sources = [base if self.paired else (base + 1) % len(self.order) for base in bases]
        others = [] if self.others is None else [self.others[base] for base in bases]
        place = {number: row for row, number in enumerate(dict.fromkeys([*bases, *sources, *others]))}
        rows = [self.rows[self.order[number]] for number in place]
        alone = [one for row in rows if (one := collated_alone(self.collator, row)) is not None]
        drawn = [
            self._pair(alone[place[base]], alone[place[source]]) for base, source in zip(bases, sources, strict=True)
        ]
        batch = collated_together(self.collator, rows, alone)
        shifts = first_real(batch) - torch.cat([first_real(one) for one in alone])
        source_batch, source_shifts = None, shifts
        if self.paired:
            source_batch = paired_sources(batch)
            source_shifts = first_real(source_batch) - torch.cat([first_real(paired_sources(one)) for one in alone])
        swap = _padded_swap(
            batch["special_tokens_mask"].shape,
            [one for one, _ in drawn],
            [place[source] for source in sources],
            (shifts, source_shifts),
        )
        shuffled = None
        if self.others is not None:
            source = torch.arange(len(rows))
            source[: len(bases)] = torch.tensor([place[other] for other in others])
            shuffled = other_sources(swap, source, eligible_positions(source_batch or batch))
        cases = _padded_cases([one for _, one in drawn], batch["special_tokens_mask"].shape, shifts)
        return Pairs(len(bases), batch, source_batch, swap, cases, shuffled)

    def _pair(self, base: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> tuple[Swap, Cases]:
        """Draw the swap and the cases of a base, from batches of one row each."""
        other = paired_sources(base) if self.paired else source
        generator = pair_generator(self.seed, int(base["example_id"]), int(other["example_id"]))
        swap = self.sampler.swap(base, other, torch.zeros(1, dtype=torch.long), generator)
        reached = swap.mask.cumsum(1) > 0 if self.paired else None
        return swap, _cases(base, other, swap, self.sampler.task, generator, reached)


def draw_pairs(
    rows: Sequence[Row],
    collator: Collator,
    positions: Positions,
    sources: Sources,
    *,
    task: Task,
    pairs: int,
    batch_size: int,
    seed: int,
    what: str,
    shuffled: bool = False,
) -> DrawnPairs:
    """Draw pairs, swaps and evaluated tokens; every row is base once.

    Rows have their own sources (`paired`), or one random cyclic order of all rows makes the next row each row's source,
    so that every row is source once, too. Batches follow that order: but for one row, they hold their own sources.
    Evaluated tokens: the masked ones (masked LM), up to 16 drawn ones (causal LM; of pairs, from the first swapped
    position on, since those before cannot feel the swap), the label (sequence classification), the tagged ones (token
    classification).

    Masks follow from the row alone, whatever the collator draws for a batch, and what is drawn of a pair from the seed,
    base and source. So neither depends on `batch_size`.

    Args:
        rows: Examples with `input_ids`, `example_id` and, where several are of one text, `text_id`; at least two. Those
            that hold nothing to predict are left out.
        collator: Makes a batch of rows, as those of `iit_toolkit.data` do.
        positions: Which positions are swapped.
        sources: Where sources come from.
        task: What is answered.
        pairs: How many pairs; at most the number of rows is used.
        batch_size: Base rows per batch.
        seed: Of sources, positions and evaluated tokens.
        what: What progress says is done with them.
        shuffled: Whether every base gets another source, too: the next in the order, of those that have a position to
            take.

    Raises:
        UserError: If there are fewer than two rows, or `paired` sources are asked of rows that have none.
    """
    if len(rows) < 2:
        raise UserError(f"verification needs at least 2 examples, got {len(rows)}; give more evaluation data")
    paired = sources.kind == "paired"
    if pairs < 2 and not paired:
        raise UserError(f"pairs is {pairs}: sources are other rows, so give 2 or more")
    for name, value in (("pairs", pairs), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"{name} is {value}; give 1 or more")
    count, usable, taken_from = min(pairs, len(rows)), list[int](), list[bool]()
    for index in range(count):
        alone = collated_alone(collator, rows[index])
        if alone is not None:
            require_labels(alone)
            usable.append(index)
            taken_from.append(bool(eligible_positions(paired_sources(alone) if paired else alone).any()))
    if len(usable) < (1 if paired else 2):
        raise UserError(f"{len(usable)} of {count} examples hold a token to predict, too few; give longer texts")
    shuffling = torch.randperm(len(usable), generator=torch.Generator().manual_seed(seed)).tolist()
    others = _next_but([taken_from[index] for index in shuffling], 1 if paired else 2) if shuffled else None
    order = [usable[index] for index in shuffling]
    return DrawnPairs(rows, collator, Sampler(positions, sources, task), batch_size, seed, what, order, others)


def _next_but(allowed: Sequence[bool], steps: int) -> list[int]:
    """Return, for every place of a circle, the next allowed one at least so many steps on.

    If there is none before the place itself, it is the one that is so many steps on.
    """
    count = len(allowed)
    following, found = [0] * (2 * count), 2 * count
    for place in reversed(range(2 * count)):
        found = place if allowed[place % count] else found
        following[place] = found
    return [
        (following[place + steps] if following[place + steps] < place + count else place + steps) % count
        for place in range(count)
    ]


def _padded_swap(
    shape: Sequence[int], drawn: Sequence[Swap], sources: Sequence[int], shifts: tuple[Tensor, Tensor]
) -> Swap:
    """Put the swaps of single rows into a batch of padded ones, whose last rows have none.

    Args:
        shape: (rows, positions) of the batch.
        drawn: One swap of one row per base.
        sources: The source row of each.
        shifts: How far each row's tokens stand further right than alone, (rows,): of bases and of sources.
    """
    source, mask = torch.arange(shape[0]), torch.zeros(shape, dtype=torch.bool)
    source_position = torch.zeros(shape, dtype=torch.long)
    for row, (swap, origin) in enumerate(zip(drawn, sources, strict=True)):
        places = swap.mask[0].nonzero()[:, 0]
        source[row] = origin
        mask[row, places + shifts[0][row]] = True
        source_position[row, places + shifts[0][row]] = swap.source_position[0, places] + shifts[1][origin]
    return Swap(source, mask, source_position)


def _padded_cases(drawn: Sequence[Cases], shape: Sequence[int], shifts: Tensor) -> Cases:
    """Put the cases of single rows together."""
    tokens = None if drawn[0].tokens is None else torch.zeros(shape, dtype=torch.bool)
    if tokens is not None:
        for row, one in enumerate(drawn):
            assert one.tokens is not None
            tokens[row, one.tokens[0].nonzero()[:, 0] + shifts[row]] = True
    columns = (field.name for field in fields(Cases) if field.name not in ("tokens", "candidates"))
    candidates = [case for one in drawn if one.candidates is not None for case in one.candidates]
    return Cases(
        tokens,
        *(torch.cat([getattr(one, name) for one in drawn]) for name in columns),
        candidates=pad_sequence(candidates, batch_first=True, padding_value=IGNORE_INDEX) if candidates else None,
    )


def _cases(
    batch: Mapping[str, Tensor],
    source: Mapping[str, Tensor],
    swap: Swap,
    task: Task,
    generator: torch.Generator,
    reached: Tensor | None,
) -> Cases:
    """Choose where answers of one row are read; of causal models, only where `reached` (1, S), if it is given."""
    base, origin = batch["example_id"], source["example_id"]
    base_text, text = batch.get("text_id", base), source.get("text_id", origin)
    if not FACTS[task].at_tokens:
        nowhere, outside = torch.full((1,), NO_POSITION), torch.zeros(1, dtype=torch.bool)
        return Cases(None, base, origin, base_text, text, nowhere, outside, batch["labels"])
    gold = gold_answers(batch, task)
    tokens = gold != NO_GOLD
    if task == "causal_lm":
        if reached is not None:
            gold = gold.masked_fill(~reached, NO_GOLD)
        keys = torch.rand(gold.shape, generator=generator).masked_fill(gold == NO_GOLD, 2.0)
        tokens = (keys.argsort(dim=1).argsort(dim=1) < _CAUSAL_TOKENS) & (gold != NO_GOLD)
    position = tokens[0].nonzero()[:, 0]
    base, origin, base_text, text = (one.expand(len(position)) for one in (base, origin, base_text, text))
    place = position - first_real(batch)
    candidates = batch.get("candidates")
    if candidates is not None:
        candidates = candidates.expand(len(position), -1)
    return Cases(tokens, base, origin, base_text, text, place, swap.mask[tokens], gold[tokens], candidates)

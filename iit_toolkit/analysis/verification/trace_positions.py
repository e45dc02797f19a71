"""The positions that a trace swaps, kind by kind, in one batch of pairs.

What is swapped in the words of an alignment (`differing`, `span`) is drawn with the pairs. The other kinds follow from
the batch, without a draw: every position takes its counterpart in the source.

Legend of shapes: B rows, S positions.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iit_toolkit.alignment.positions import AllPositions, Eligible
from iit_toolkit.analysis.statistics.teacher_trace import AT_ANSWERS
from iit_toolkit.analysis.verification.by_row import first_real
from iit_toolkit.analysis.verification.cases import Pairs
from iit_toolkit.config.task import FACTS, Task
from iit_toolkit.data.batch import Batch, eligible_positions, predicted_positions, real_tokens
from iit_toolkit.interchange import Swap, other_sources

Draw = Callable[[Pairs, Task], Swap]


def kinds_of(task: Task, *, paired: bool) -> dict[str, Draw]:
    """Return the kinds of positions that make sense, the one that an alignment can swap first.

    Args:
        task: What is answered.
        paired: Whether bases have sources of their own.
    """
    kinds: dict[str, Draw] = {"differing" if paired else "span": lambda pairs, _: pairs.swap}
    if FACTS[task].at_tokens:
        kinds["answer"] = _answers
    else:
        kinds |= {"first token": _first, "last token": _last}
    return kinds | ({"others": _others} if paired else {}) | {"all": _all}


def counted_cases(pairs: Pairs, swap: Swap, kind: str) -> NDArray[np.bool_]:
    """Say of each case (N,) whether it counts for a kind of positions."""
    cases, rows = pairs.cases, swap.mask.any(1)
    if cases.tokens is None:
        return rows[: pairs.bases].numpy()
    row = cases.tokens.nonzero()[:, 0]
    counted = rows[row]
    if kind not in AT_ANSWERS:
        counted = counted & ~swap.mask[cases.tokens]
    return counted.numpy()


def _answers(pairs: Pairs, task: Task) -> Swap:
    """Swap where answers are read; among masked or tagged tokens of unrelated texts, the k-th takes the k-th."""
    tokens = pairs.cases.tokens
    assert tokens is not None
    predicted = predicted_positions(pairs.base, task)
    if predicted is None or pairs.source is not None:
        return _taken(pairs, tokens, _counterparts(pairs))
    own = Swap(torch.arange(len(tokens)), tokens, torch.arange(tokens.shape[1]).expand(tokens.shape))
    swap = other_sources(own, pairs.swap.source, predicted)
    return _taken(pairs, tokens & predicted.any(1)[pairs.swap.source][:, None], swap.source_position)


def _first(pairs: Pairs, _task: Task) -> Swap:
    return _at_end(pairs, first_real)


def _last(pairs: Pairs, _task: Task) -> Swap:
    return _at_end(pairs, _last_real)


def _at_end(pairs: Pairs, end: Callable[[Batch], Tensor]) -> Swap:
    positions = torch.arange(pairs.swap.mask.shape[1])
    taken = end(_sources(pairs))[pairs.swap.source][:, None].expand(pairs.swap.mask.shape)
    return _taken(pairs, positions == end(pairs.base)[:, None], taken)


def _others(pairs: Pairs, _task: Task) -> Swap:
    mask = eligible_positions(pairs.base) & ~pairs.swap.mask
    if pairs.cases.tokens is not None:
        mask &= ~pairs.cases.tokens
    return _taken(pairs, mask, _counterparts(pairs))


def _all(pairs: Pairs, _task: Task) -> Swap:
    eligible = Eligible(eligible_positions(pairs.base), eligible_positions(_sources(pairs))[pairs.swap.source])
    return _taken(pairs, *AllPositions().draw(eligible, torch.Generator()))  # nothing is drawn from it


def _counterparts(pairs: Pairs) -> Tensor:
    """Return (B, S) the source position that is each base position's counterpart, possibly outside the source.

    In unrelated texts it is as far from the first token. In pairs it is as far from the last swapped token before it,
    since a span may stand elsewhere in the source.
    """
    positions = torch.arange(pairs.swap.mask.shape[1]).expand(pairs.swap.mask.shape)
    shift = first_real(_sources(pairs))[pairs.swap.source] - first_real(pairs.base)
    if pairs.source is None:
        return positions + shift[:, None]
    last = positions.masked_fill(~pairs.swap.mask, -1).cummax(1).values
    shifts = (pairs.swap.source_position - positions).gather(1, last.clamp(min=0))
    return positions + torch.where(last >= 0, shifts, shift[:, None])


def _taken(pairs: Pairs, mask: Tensor, taken: Tensor) -> Swap:
    """Return the swap of some positions of the bases, without those whose counterpart is no token of the source."""
    real, rows = real_tokens(_sources(pairs)), pairs.swap.source
    assert real is not None
    inside = (taken >= 0) & (taken < real.shape[1])
    taken = taken.clamp(0, real.shape[1] - 1)
    mask = mask & inside & real[rows].gather(1, taken)
    mask[pairs.bases :] = False
    return Swap(rows, mask, taken.masked_fill(~mask, 0))


def _sources(pairs: Pairs) -> Batch:
    return pairs.base if pairs.source is None else pairs.source


def _last_real(batch: Batch) -> Tensor:
    """Return, for every row, its last position that is no padding (B,)."""
    mask = batch["attention_mask"]
    return mask.shape[1] - 1 - mask.int().flip(1).argmax(1)

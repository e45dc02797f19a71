"""The interventions that are measured: pairs of base and source, what is swapped, where answers are read.

Whatever measures two models (`verify`, `search`, `subspace`) draws its cases here, so all mean the same by a case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from iit_toolkit.alignment import ResolvedSite
from iit_toolkit.alignment.spec import Positions, Sources
from iit_toolkit.analysis.outcomes import NO_GOLD, NO_POSITION
from iit_toolkit.errors import UserError
from iit_toolkit.finite import refuse_non_finite_answers
from iit_toolkit.interchange import (
    InterchangeModel,
    Run,
    Swap,
    draw_paired_swap,
    draw_swap,
    other_rows,
    other_sources,
    refuse_empty,
)
from iit_toolkit.tasks import Task, model_inputs

Collator = Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]]
_CAUSAL_TOKENS = 16
_PROBE, _FELT = "probe", 1e-4  # a change of hidden states that is no rounding, relative to the largest of them


@dataclass(frozen=True)
class Cases:
    """The evaluated cases of one batch.

    Attributes:
        tokens: (B, S) boolean; `None` in classification.
        base, source, base_text, source_text, position, inside, gold: (N,) columns of the outcomes table.
    """

    tokens: Tensor | None
    base: Tensor
    source: Tensor
    base_text: Tensor
    source_text: Tensor
    position: Tensor
    inside: Tensor
    gold: Tensor


@dataclass(frozen=True)
class Pairs:
    """One batch of pairs.

    Attributes:
        base: The base rows, as the collator made them.
        source: The rows that sources are taken from; `None` where they are the base rows themselves.
        swap: Which activations go where.
        cases: Where answers are read.
    """

    base: dict[str, Tensor]
    source: dict[str, Tensor] | None
    swap: Swap
    cases: Cases


def draw_pairs(
    rows: Sequence[Mapping[str, Any]],
    collator: Collator,
    positions: Positions,
    sources: Sources,
    *,
    task: Task,
    pairs: int,
    batch_size: int,
    seed: int,
    what: str,
) -> Iterator[Pairs]:
    """Draw pairs, swaps and evaluated tokens, a batch at a time; every row is base once.

    A base's source is another row of its batch (`in_batch`), one of the next batch (`dataset`, and `fixed`, since every
    row is base only once), or its own (`paired`).
    Evaluated tokens: the masked ones (masked LM), up to 16 drawn ones (causal LM; of pairs, from the first swapped
    position on, since those before cannot feel the swap), the label (classification).

    Args:
        rows: Examples with `input_ids`, `example_id` and, where several are of one text, `text_id`; at least two.
        collator: Makes a batch of rows, as those of `iit_toolkit.data` do.
        positions: Which positions are swapped.
        sources: Where sources come from.
        task: What is answered.
        pairs: How many pairs; at most the number of rows is used.
        batch_size: Rows per batch.
        seed: Of sources, positions and evaluated tokens.
        what: What the progress bar says is done.

    Raises:
        UserError: If there are fewer than two rows, `paired` sources are asked of rows that have none, or others of
            batches of one row, or no row at all has a position to swap.
    """
    if len(rows) < 2:
        raise UserError(f"verification needs at least 2 examples, got {len(rows)}; give more evaluation data")
    if min(pairs, batch_size) < 2 and sources.kind != "paired":
        raise UserError(f"pairs is {pairs} and batch_size {batch_size}: sources are other rows, so give 2 or more")
    generator = torch.Generator().manual_seed(seed)
    spans = _spans(min(pairs, len(rows)), batch_size)

    def collated(batch: int) -> dict[str, Tensor]:
        return collator([rows[index] for index in spans[batch % len(spans)]])

    swapped = False
    for index in tqdm(range(len(spans)), what, disable=None):
        batch = collated(index)
        if sources.kind == "paired":
            other, swap = draw_paired_swap(positions, batch, generator, _predicted(batch, task))
            cases = _cases(batch, other, swap, task, generator, swap.mask.cumsum(1) > 0)
        else:
            apart = sources.kind in ("dataset", "fixed") and len(spans) > 1  # else the next batch is this one
            other = collated(index + 1) if apart else None
            swap = _draw(positions, batch, other, task, generator)
            cases = _cases(batch, other or batch, swap, task, generator)
        swapped |= bool(swap.mask.any())
        if not swapped and index + 1 == len(spans):
            refuse_empty(swap, positions)
        yield Pairs(batch, other, swap, cases)


class Runs:
    """One model's base run on a batch of pairs, from which its counterfactual runs start.

    Args:
        side: The model with its sites.
        pairs: The batch.
        variables: The variables that will be swapped.
        what: What messages call the model.
    """

    def __init__(self, side: InterchangeModel, pairs: Pairs, variables: Sequence[str], what: str = "the model") -> None:
        side.model.eval()
        device = side.model.device
        self.side = side
        self._what = what
        self._rows = pairs.cases.base
        self.swap = pairs.swap.to(device)
        self._tokens = None if pairs.cases.tokens is None else pairs.cases.tokens.to(device)
        self._base = side.base_run(_inputs(pairs.base, device), variables, self._tokens)
        self._source = None if pairs.source is None else side.source_run(_inputs(pairs.source, device), variables)

    def base(self) -> Tensor:
        """Return the logits of the base run: (N, V) at the evaluated tokens, or (B, C) in classification."""
        return self._logits(self._base, "")

    def widths(self) -> dict[str, int]:
        """Return how many neurons every place has that the variables read."""
        return {place: activation.shape[-1] for place, activation in self._base.activations.items()}

    def counterfactual(self, variable: str, swap: Swap | None = None) -> Tensor:
        """Return the logits, as `base`, with the sources' activations at the sites of one variable.

        Args:
            variable: The variable that is swapped.
            swap: Which activations go where, if not as the pairs say.
        """
        swap = self.swap if swap is None else swap.to(self.swap.mask.device)
        run = self.side.counterfactual_run(self._base, variable, swap, source=self._source, tokens=self._tokens)
        return self._logits(run, f" with {variable} swapped")

    def felt_outside(self, sites: Sequence[ResolvedSite]) -> bool:
        """Say whether a swap at these sites, on these pairs, changes hidden states outside the swapped positions."""
        side = InterchangeModel(self.side.model, {_PROBE: tuple(sites)})
        base = side.base_run(self._base.inputs, [_PROBE], self._tokens)
        source = None if self._source is None else side.source_run(self._source.inputs, [_PROBE])
        swapped = side.counterfactual_run(base, _PROBE, self.swap, source=source, tokens=self._tokens)
        change = (swapped.hidden - base.hidden)[self._base.inputs["attention_mask"].bool() & ~self.swap.mask]
        return bool((change.abs() > _FELT * base.hidden.abs().max()).any())

    def self_swapped(self, variable: str) -> Tensor:
        """Return the logits, as `base`, with every example's own activations put in their own places."""
        rows, length = self.swap.mask.shape
        device = self.swap.mask.device
        own = Swap(
            torch.arange(rows, device=device),
            self.swap.mask,
            torch.arange(length, device=device).expand(rows, length),
        )
        run = self.side.counterfactual_run(self._base, variable, own, tokens=self._tokens)
        return self._logits(run, f" with {variable} swapped with itself")

    def _logits(self, run: Run, how: str) -> Tensor:
        """Return a run's logits, which are never NaN: that would count as an answer."""
        return refuse_non_finite_answers(self.side.logits(run), self._rows, self._what + how, self.side.model)


def shuffle_sources(pairs: Pairs, generator: torch.Generator) -> Swap:
    """Give every base of a batch another source than it has; see `iit_toolkit.interchange.other_sources`."""
    source = pairs.base if pairs.source is None else pairs.source
    return other_sources(pairs.swap, ~source["special_tokens_mask"].bool(), generator, own=pairs.source is None)


def _spans(count: int, batch_size: int) -> list[range]:
    """Cut `count` rows into batches; a last one of one row joins the one before, since a source needs another row."""
    starts = list(range(0, count, batch_size))
    if len(starts) > 1 and count - starts[-1] < 2:
        starts.pop()
    return [range(start, end) for start, end in zip(starts, [*starts[1:], count], strict=True)]


def _inputs(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in model_inputs(batch).items()}


def _draw(
    positions: Positions,
    batch: Mapping[str, Tensor],
    other: Mapping[str, Tensor] | None,
    task: Task,
    generator: torch.Generator,
) -> Swap:
    count = len(batch["input_ids"])
    if other is None:
        source = other_rows(count, generator)
    else:
        source = torch.randint(len(other["input_ids"]), (count,), generator=generator)
    eligible, source_eligible = (~one["special_tokens_mask"].bool() for one in (batch, other or batch))
    return draw_swap(positions, source, eligible, source_eligible, generator, _predicted(batch, task))


def _predicted(batch: Mapping[str, Tensor], task: Task) -> Tensor | None:
    return batch["labels"] != NO_GOLD if task == "masked_lm" else None


def _cases(
    batch: Mapping[str, Tensor],
    source: Mapping[str, Tensor],
    swap: Swap,
    task: Task,
    generator: torch.Generator,
    reached: Tensor | None = None,
) -> Cases:
    """Choose where answers are read; of causal models, only where `reached` (B, S), if it is given."""
    base, origin = batch["example_id"], source["example_id"][swap.source]
    base_text, text = batch.get("text_id", base), source.get("text_id", source["example_id"])[swap.source]
    if task == "sequence_classification":
        count = len(swap.source)
        outside = torch.zeros(count, dtype=torch.bool)
        return Cases(None, base, origin, base_text, text, torch.full((count,), NO_POSITION), outside, batch["labels"])
    gold = batch["labels"]
    tokens = gold != NO_GOLD
    if task == "causal_lm":
        gold = torch.cat([gold[:, 1:], torch.full_like(gold[:, :1], NO_GOLD)], 1)
        if reached is not None:
            gold = gold.masked_fill(~reached, NO_GOLD)
        keys = torch.rand(gold.shape, generator=generator).masked_fill(gold == NO_GOLD, 2.0)
        tokens = (keys.argsort(dim=1).argsort(dim=1) < _CAUSAL_TOKENS) & (gold != NO_GOLD)
    row, position = tokens.nonzero(as_tuple=True)
    return Cases(tokens, base[row], origin[row], base_text[row], text[row], position, swap.mask[tokens], gold[tokens])

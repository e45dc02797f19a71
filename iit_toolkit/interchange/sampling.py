"""The one draw of interchange interventions: a variable, its sources, and the positions.

Training, verification and certification draw here, so all mean the same by an intervention.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from iit_toolkit.alignment.positions import DifferingPositions, Positions
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.config.task import Task
from iit_toolkit.data.batch import Batch, eligible_positions, paired_sources, predicted_positions
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.swap import Swap, draw_swap, other_rows


@dataclass(frozen=True)
class Interchange:
    """One batch of interchange interventions on one variable.

    Attributes:
        variable: The variable that is swapped.
        swap: The rows and positions that activations move between.
        source: The batch that sources are taken from; `None` if they are rows of the base's own batch.
        weight: Factor on its loss; other than 1 if variables are not drawn as the alignment says.
    """

    variable: str
    swap: Swap
    source: Batch | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class SourceRows:
    """The rows that sources `dataset` and `fixed` are taken from.

    Attributes:
        count: How many rows there are.
        fetch: Makes a batch of rows by their numbers.
        seed: Seed of the pairing of sources `fixed`.
    """

    count: int
    fetch: Callable[[Sequence[int]], Batch]
    seed: int


@dataclass(frozen=True)
class Variables:
    """How variables are drawn.

    Attributes:
        names: The variables.
        probabilities: (V,) how often each is drawn.
        weights: (V,) the weight that the loss of each then has.
    """

    names: Sequence[str]
    probabilities: Tensor
    weights: Tensor


def step_generator(seed: int, step: int, micro_step: int, process: int) -> torch.Generator:
    """Return the generator of a training step's draws, which depend on nothing else: a resumed run draws the same."""
    mixed = 0
    for part in (seed, step, micro_step, process):  # any change of any part gives an unrelated seed
        mixed = ((mixed ^ part) * 0x9E3779B97F4A7C15 + 0x7F4A7C15) % 2**63
    return torch.Generator().manual_seed(mixed)


def pair_generator(seed: int, base: int, source: int) -> torch.Generator:
    """Return the generator of what is drawn for a pair of examples, whatever batch it is in."""
    return torch.Generator().manual_seed(zlib.crc32(f"{seed} {base} {source}".encode()))


class Sampler:
    """Draws variables, sources and positions.

    Args:
        positions: The position policy.
        sources: Where sources come from.
        task: What labels mean.
        rows: Where rows of sources are; needed by `dataset` and `fixed`.
    """

    def __init__(self, positions: Positions, sources: Sources, task: Task, rows: SourceRows | None = None) -> None:
        """Keep what the draws depend on."""
        self.positions = positions
        self.sources = sources
        self.task: Task = task
        self._rows = rows
        self._pairing: Tensor | None = None

    def interchanges(
        self, batch: Batch, variables: Variables, count: int, generator: torch.Generator
    ) -> list[Interchange]:
        """Draw the interventions of a training batch.

        Args:
            batch: The base rows.
            variables: The variables and how they are drawn.
            count: How many are drawn.
            generator: CPU generator; the draw depends on nothing else.

        Raises:
            UserError: If the batch lacks what the draw needs, or rows have no source.
        """
        drawn: list[Interchange] = []
        for _ in range(count):
            index = int(torch.multinomial(variables.probabilities, 1, generator=generator))
            source, rows = self._draw_sources(batch, generator)
            swap = self.swap(batch, source, rows, generator)
            drawn.append(Interchange(variables.names[index], swap, source, float(variables.weights[index])))
        return drawn

    def within(self, batch: Batch, generator: torch.Generator) -> tuple[Batch, Swap]:
        """Draw interventions whose sources are in the batch: the pairs' own, put below the bases, or other rows.

        Args:
            batch: The base rows.
            generator: As for `interchanges`.

        Returns:
            The batch with its sources, and the swap between its rows.
        """
        rows = len(eligible_positions(batch))
        if self.sources.kind != "paired":
            return batch, self.swap(batch, None, other_rows(rows, generator), generator)
        source = paired_sources(batch)
        swap = self.swap(batch, source, torch.arange(rows), generator)
        below = Swap(
            torch.arange(2 * rows).roll(rows),
            torch.cat([swap.mask, torch.zeros_like(swap.mask)]),
            torch.cat([swap.source_position, torch.zeros_like(swap.source_position)]),
        )
        return {name: torch.cat([batch[name], value]) for name, value in source.items()}, below

    def swap(self, base: Batch, source: Batch | None, rows: Tensor, generator: torch.Generator) -> Swap:
        """Draw the swapped positions of bases whose sources are known.

        Args:
            base: The base rows.
            source: The rows that sources are taken from; `None` if they are those of `base`.
            rows: (B,) source row of each base row.
            generator: As for `interchanges`; `differing` positions are given, not drawn.

        Raises:
            UserError: If the policy does not go with the sources or the task, or the batch lacks special_tokens_mask.
        """
        if isinstance(self.positions, DifferingPositions) and self.sources.kind == "paired":
            return Swap(rows, base["swapped"].cpu(), base["swapped_from"].cpu())
        eligible = eligible_positions(base)
        taken = eligible if source is None else eligible_positions(source)
        predicted = predicted_positions(base, self.task) if self.positions.reads_predicted else None
        return draw_swap(self.positions, rows, eligible, taken, generator, predicted)

    def _draw_sources(self, batch: Batch, generator: torch.Generator) -> tuple[Batch | None, Tensor]:
        """Draw the sources of a batch, and which row of them is each base row's."""
        count = len(batch["labels"])
        if self.sources.kind == "paired":
            if "swapped" in batch and "source_input_ids" not in batch:  # of `both_directions`
                return None, torch.arange(count) ^ 1
            return paired_sources(batch), torch.arange(count)
        if self.sources.kind == "in_batch":
            return None, other_rows(count, generator)
        assert self._rows is not None
        if self.sources.kind == "fixed":
            return self._fixed(batch, self._rows), torch.arange(count)
        chosen = torch.randint(self._rows.count, (count,), generator=generator).tolist()
        return self._rows.fetch(chosen), torch.randperm(count, generator=generator)

    def _fixed(self, batch: Batch, rows: SourceRows) -> Batch:
        """Return a batch whose row i is the one source of base row i, by a pairing that follows from the seed."""
        if self._pairing is None:
            self._pairing = other_rows(rows.count, torch.Generator().manual_seed(rows.seed))
        numbers: list[int] = batch["example_id"].tolist() if "example_id" in batch else [rows.count]
        if max(numbers) < rows.count:
            chosen: list[int] = self._pairing[numbers].tolist()
            source = rows.fetch(chosen)
            if source["example_id"].tolist() == chosen:
                return source
        raise UserError("sources `fixed` need rows whose `example_id` is their number in the training data, from 0")

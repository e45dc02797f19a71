"""Further data that a training step reads beside its own batch, such as plain text beside pairs."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from iit_toolkit.alignment.positions import DifferingPositions, Positions
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.config.task import Task
from iit_toolkit.data.batch import Batch, Collator, Rows
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Interchange, Sampler
from iit_toolkit.interchange.sampling import Variables, step_generator


@dataclass(frozen=True)
class Mixed:
    """Rows that are mixed into every step.

    Attributes:
        name: What their terms are called in logs.
        rows: The rows; those of pairs are swapped as pairs.
        collator: Makes a batch of them.
        batch_size: Rows per micro-step.
        weight: Factor on their loss.
        positions: Positions that are swapped between rows of a batch; `None`: nothing is swapped but pairs.
    """

    name: str
    rows: Rows
    collator: Collator
    batch_size: int
    weight: float = 1.0
    positions: Positions | None = None

    def draw(self, seed: int, step: int, micro_step: int, process: int) -> tuple[Batch, torch.Generator]:
        """Draw a batch, and return the generator that its interventions are drawn by.

        The draw depends on nothing but its arguments, so a resumed run draws the same.
        """
        generator = step_generator(zlib.crc32(f"{seed} {self.name}".encode()), step, micro_step, process)
        chosen = torch.randperm(len(self.rows), generator=generator)[: self.batch_size].tolist()
        return self.collator([self.rows[number] for number in chosen]), generator

    @property
    def is_swapped(self) -> bool:
        """Whether interventions are made on these rows."""
        return self.positions is not None or "source_input_ids" in self.rows[0]

    def require_terms(self, weights: ObjectiveWeights) -> None:
        """Check that some term can be computed on these rows.

        Raises:
            UserError: If there are no rows, or one alone would be its own source. If nothing is swapped in them and all
                terms are of counterfactual runs.
        """
        if not len(self.rows):
            raise UserError(f"mixture.{self.name} holds no rows; give some, or leave it out")
        if self.positions is not None and "source_input_ids" not in self.rows[0]:
            if self.batch_size < 2:
                raise UserError(
                    f"mixture.{self.name}: sources are other rows of its batch, so give batch_size 2 or more"
                )
            if len(self.rows) < 2:
                raise UserError(f"mixture.{self.name}: sources are other rows, but there is only one; give more")
        if not self.is_swapped:
            weights.of_base_runs()

    def sampler(self, batch: Batch, task: Task) -> Sampler | None:
        """Return what draws the interventions of a batch; `None` if nothing in it is swapped."""
        if "swapped" in batch:
            return Sampler(self.positions or DifferingPositions(), Sources(kind="paired"), task)
        return None if self.positions is None else Sampler(self.positions, Sources(), task)


@dataclass(frozen=True)
class MixedBatch:
    """A batch of further data, ready for the objective.

    Attributes:
        name: What its terms are called.
        batch: The batch.
        interchanges: Its interventions; without any, only the terms of base runs count.
        weight: Factor on its loss.
    """

    name: str
    batch: Batch
    interchanges: Sequence[Interchange]
    weight: float

    def weights(self, weights: ObjectiveWeights) -> ObjectiveWeights:
        """Return the weights of the terms that this batch has."""
        if not self.interchanges:
            return weights.of_base_runs()
        return weights.model_copy(update={"boundary": 0.0})  # it is about no batch, and counts once in a step


def mixed_batch(
    mixed: Mixed,
    drawn: tuple[Batch, torch.Generator],
    task: Task,
    variables: Variables | None,
    interchanges: int,
) -> MixedBatch:
    """Draw the interventions of a batch.

    Args:
        mixed: Where the batch is from.
        drawn: What `Mixed.draw` returned, on the device of the models.
        task: What labels mean.
        variables: How variables are drawn; `None` if no term needs interventions.
        interchanges: How many interventions are drawn.
    """
    batch, generator = drawn
    sampler = None if variables is None else mixed.sampler(batch, task)
    if sampler is None or variables is None:
        return MixedBatch(mixed.name, batch, (), mixed.weight)
    return MixedBatch(mixed.name, batch, sampler.interchanges(batch, variables, interchanges, generator), mixed.weight)

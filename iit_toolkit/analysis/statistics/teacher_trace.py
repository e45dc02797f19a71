"""Where a teacher holds what its answers depend on: what swaps do to it, by block, component and kind of positions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.quantities import NOTICEABLE
from iit_toolkit.analysis.statistics.resampling import Resampled
from iit_toolkit.errors import UserError, did_you_mean

TRACE_SCHEMA = "iit_toolkit/trace/1"
ENOUGH = 0.02
"""Share of cases in which a swap has to change the teacher's answer: below, there is next to nothing to follow."""
STILL = 0.5
"""Share of the largest effect that a block still has, if what matters is still read there."""
BLOCK = "block_output"
POSITIONS = {
    "differing": "the words in which base and source differ, or those that the data names",
    "span": "one span of tokens, as in an alignment without other positions",
    "answer": "the tokens where the answers are read",
    "first token": "the first token of the row",
    "last token": "the last token of the row",
    "others": "the ordinary tokens that neither differ nor are answers",
    "all": "all ordinary tokens",
}
"""What is swapped, by kind of positions. Cases at a swapped position count only if answers are what is swapped."""
AT_ANSWERS = ("answer", "all")
"""The kinds that swap where answers are read: of these, cases at swapped positions count, too."""


@dataclass(frozen=True)
class Place:
    """What is swapped.

    Attributes:
        layer: The teacher's block, from 0.
        component: The component of the block.
        head: The attention head, if only one is swapped.
        positions: The kind of positions, one of `POSITIONS`.
    """

    layer: int
    component: str
    head: int | None
    positions: str

    @property
    def part(self) -> str:
        """The component, or the head."""
        return self.component if self.head is None else f"head {self.head}"


@dataclass(frozen=True)
class TraceCell:
    """What the swap of one place does to the teacher.

    Attributes:
        place: What is swapped.
        changed: Share of cases in which the most probable answer changes.
        moved: How much probability goes from some answers to others, sum |dp| / 2, as a mean over cases.
        effect: The squared length of dp, as a mean over cases.
    """

    place: Place
    changed: Estimate
    moved: Estimate
    effect: Estimate

    @property
    def felt(self) -> bool:
        """Whether the swap does anything to the answers."""
        return (self.effect.value or 0.0) > NOTICEABLE


@dataclass(frozen=True)
class Trace:
    """Where a teacher holds what its answers depend on.

    Attributes:
        task: What is answered.
        paired: Whether bases have sources of their own.
        layers: Number of blocks of the teacher.
        cells: What swaps do, by kind of positions, component and block.
    """

    task: str
    paired: bool
    layers: int
    cells: tuple[TraceCell, ...]

    @property
    def positions(self) -> tuple[str, ...]:
        """The kinds of positions; the first is the one that an alignment can swap and be judged by."""
        return tuple(dict.fromkeys(cell.place.positions for cell in self.cells))

    @property
    def parts(self) -> tuple[str, ...]:
        """The components, and the heads after them."""
        return tuple(dict.fromkeys(cell.place.part for cell in self.cells))

    @property
    def main_part(self) -> str:
        """The part by which the place to swap is chosen: whole blocks, if they were swapped."""
        return BLOCK if BLOCK in self.parts else self.parts[0]

    def row(self, part: str, positions: str) -> tuple[TraceCell, ...]:
        """Return the cells of one component (or head) and kind of positions, by block.

        Raises:
            UserError: If it was not swapped.
        """
        found = tuple(one for one in self.cells if (one.place.part, one.place.positions) == (part, positions))
        if not found:
            name, known = (part, self.parts) if part not in self.parts else (positions, self.positions)
            raise UserError(f'the trace has no "{name}", {did_you_mean(name, known)}')
        return found

    def held_until(self, part: str, positions: str) -> int | None:
        """Return the last block that still has half of the largest effect: later ones are read less.

        The effect is the share of probability that is moved. Unlike the share of changed answers, it does not depend on
        how close the answers were before.

        Returns:
            The block; `None` if no swap of the row does anything.
        """
        row = self.row(part, positions)
        if not any(cell.felt for cell in row):
            return None
        moved = [cell.moved.value or 0.0 for cell in row]
        return max(cell.place.layer for cell, one in zip(row, moved, strict=True) if one >= STILL * max(moved))

    def frame(self) -> pd.DataFrame:
        """Return the table, one row per cell."""
        return pd.DataFrame(list(_rows(self.cells))).astype({"head": "Int64"})

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, for JSON."""
        cells = self.frame().astype(object)
        return {
            "task": self.task,
            "paired": self.paired,
            "layers": self.layers,
            "cells": cells.where(cells.notna(), None).to_dict("records"),
        }


@dataclass(frozen=True)
class PairSums:
    """Sums over the cases of each pair of base and source, (P,) each.

    Attributes:
        base, source, base_text, source_text: What the pair is made of.
        sums: By place the sums `cases`, `changed`, `moved` and `effect`.
    """

    base: NDArray[np.int64]
    source: NDArray[np.int64]
    base_text: NDArray[np.int64]
    source_text: NDArray[np.int64]
    sums: Mapping[Place, Mapping[str, NDArray[np.float64]]]


def estimated(pairs: PairSums, *, resamples: int = 2000, seed: int = 0) -> tuple[TraceCell, ...]:
    """Estimate what each swap does, with intervals over the texts of bases and sources.

    Args:
        pairs: The sums.
        resamples: How many times texts are drawn.
        seed: Of these draws.
    """
    places = list(pairs.sums)
    named = {
        f"{quantity}/{number}": column
        for number, place in enumerate(places)
        for quantity, column in pairs.sums[place].items()
    }
    resampled = Resampled(
        named,
        base=pairs.base,
        source=pairs.source,
        base_text=pairs.base_text,
        source_text=pairs.source_text,
        resamples=resamples,
        seed=seed,
    )
    return tuple(
        TraceCell(
            place,
            resampled.share(f"changed/{number}", f"cases/{number}"),
            resampled.ratio(f"moved/{number}", f"cases/{number}"),
            resampled.ratio(f"effect/{number}", f"cases/{number}"),
        )
        for number, place in enumerate(places)
    )


def _rows(cells: Sequence[TraceCell]) -> Iterator[dict[str, Any]]:
    for cell in cells:
        estimates = {"changed": cell.changed, "moved": cell.moved, "effect": cell.effect}
        yield {
            "positions": cell.place.positions,
            "component": cell.place.component,
            "head": cell.place.head,
            "layer": cell.place.layer,
            "cases": cell.changed.cases,
            "texts": cell.changed.texts,
            **{
                name if end == "value" else f"{name}_{end}": getattr(one, end)
                for name, one in estimates.items()
                for end in ("value", "low", "high")
            },
        }

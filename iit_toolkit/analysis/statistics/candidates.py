"""Regions of inputs that can be told apart before a model has answered, or by what the teacher answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iit_toolkit.analysis.statistics.input_words import words_of
from iit_toolkit.analysis.statistics.outcomes import NO_POSITION
from iit_toolkit.analysis.statistics.quantities import NOTICEABLE, Region
from iit_toolkit.analysis.statistics.subsets import frequency_bands
from iit_toolkit.analysis.statistics.sums import Ints

MOST_ANSWERS = 8
"""The commonest answers that are regions of their own."""
NEAR = 5
"""Tokens between a position that is near and the closest swapped one, at most."""
LENGTHS = (16, 32, 64, 128, 256, 512)
"""Most tokens of a base in each band of lengths, but the last."""

Chosen = NDArray[np.bool_]


@dataclass(frozen=True)
class Inputs:
    """What is known of inputs and answers besides the outcomes.

    Attributes:
        examples: Columns `base`, `source`, `base_tokens`, `swapped` and `family`, one row per pair; None if they are
            not known.
        texts: What each answer reads as.
        per_million: How often each answer occurs in a million tokens.
    """

    examples: pd.DataFrame | None
    texts: Mapping[int, str]
    per_million: Mapping[int, float]


@dataclass(frozen=True)
class Candidate:
    """A region that is asked about.

    Attributes:
        kind: By what it is told apart.
        name: What it is called.
        chosen: Which cases are in it, (N,).
        place: Whether the cases outside the swapped positions count, or those inside.
    """

    kind: str
    name: str
    chosen: Chosen
    place: Region = "outside"


def candidates(cases: pd.DataFrame, finding: Chosen, inputs: Inputs) -> list[Candidate]:
    """Return the regions of one student's cases on one variable.

    All cases outside come first, then those inside, then parts of those outside. A part that is all of them is none.

    Args:
        cases: Rows of the outcomes table.
        finding: Which cases may say what the commonest answers are, (N,).
        inputs: What else is known.
    """
    inside = cases["inside"].to_numpy() & (cases["position"].to_numpy() != NO_POSITION)
    everywhere = np.ones(len(cases), dtype=np.bool_)
    found = [Candidate("all", f"all cases{words_of(cases).region}", everywhere)]
    if inside.any():
        found.append(Candidate("position", "at a swapped position", everywhere, "inside"))
    parts = [
        *_by_place(cases, inputs),
        *_by_answer(cases, finding & ~inside, inputs),
        *_by_frequency(cases, inputs),
        *_by_length(cases, inputs),
        *_by_family(cases, inputs),
    ]
    sizes = [int((one.chosen & ~inside).sum()) for one in parts]
    whole = int((~inside).sum())
    return [*found, *(one for one, size in zip(parts, sizes, strict=True) if 0 < size < whole)]


def _by_answer(cases: pd.DataFrame, counted: Chosen, inputs: Inputs) -> Iterator[Candidate]:
    """By the teacher's answer with the intervention; the commonest are those of most cases with an effect."""
    answers = cases["teacher_cf"].to_numpy()
    affected = cases["teacher_effect"].to_numpy() > NOTICEABLE
    numbers, counts = np.unique(answers[counted & affected], return_counts=True)
    commonest = numbers[np.lexsort((numbers, -counts))][:MOST_ANSWERS]
    for number in commonest.tolist():
        read = f'"{inputs.texts[number]}"' if number in inputs.texts else f"number {number}"
        yield Candidate("teacher's answer", read, answers == number)
    yield Candidate("teacher's answer", "any other", ~np.isin(answers, commonest))


def _by_frequency(cases: pd.DataFrame, inputs: Inputs) -> Iterator[Candidate]:
    bands, names = frequency_bands(cases, inputs.per_million)
    for number, name in names.items():
        yield Candidate("frequency of the gold token", f"{name} per million", bands == number)


def _by_length(cases: pd.DataFrame, inputs: Inputs) -> Iterator[Candidate]:
    if inputs.examples is None:
        return
    row = _rows_of(cases, inputs.examples)
    lengths = inputs.examples["base_tokens"].map(len).to_numpy(dtype=np.int64)[row]
    bands = np.digitize(lengths, LENGTHS, right=True)
    least = 1
    for number, most in enumerate((*LENGTHS, None)):
        name = f"{least} to {most} tokens" if most else f"{least} tokens or more"
        yield Candidate("length of the base", name, (row >= 0) & (bands == number))
        least = (most or 0) + 1


def _by_family(cases: pd.DataFrame, inputs: Inputs) -> Iterator[Candidate]:
    """By what the data say of the kind of pair."""
    if inputs.examples is None:
        return
    row = _rows_of(cases, inputs.examples)
    families = inputs.examples["family"].astype("string").to_numpy(dtype=object, na_value=None)
    for name in sorted({one for one in families if one is not None}):
        yield Candidate("kind of input", name, (row >= 0) & (families[row] == name))


def _by_place(cases: pd.DataFrame, inputs: Inputs) -> Iterator[Candidate]:
    """By side of the swapped positions, and by distance to the closest of them."""
    position = cases["position"].to_numpy()
    if inputs.examples is None or (position == NO_POSITION).all():
        return
    left, right = _distances(_rows_of(cases, inputs.examples), position, inputs.examples)
    before, after = np.isinf(left) & np.isfinite(right), np.isfinite(left) & np.isinf(right)
    yield Candidate("position", "before the swapped positions", before)
    yield Candidate("position", "between swapped positions", np.isfinite(left) & np.isfinite(right))
    yield Candidate("position", "after the swapped positions", after)
    distance = np.minimum(left, right)
    yield Candidate("distance", "next to a swapped position", distance == 1)
    yield Candidate("distance", f"2 to {NEAR} tokens away", (distance > 1) & (distance <= NEAR))
    yield Candidate("distance", f"more than {NEAR} tokens away", np.isfinite(distance) & (distance > NEAR))


def _rows_of(cases: pd.DataFrame, examples: pd.DataFrame) -> Ints:
    """Return the row of `examples` that each case belongs to, -1 if there is none."""
    keys = ["base", "source"]
    found = cases[keys].merge(examples[keys].assign(row=np.arange(len(examples))), on=keys, how="left")
    return cast(Ints, found["row"].fillna(-1).to_numpy(dtype=np.int64))


def _distances(row: Ints, position: Ints, examples: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return how far the closest swapped position lies to the left of each case and to the right, inf if none does."""
    counts = examples["swapped"].map(len).to_numpy(dtype=np.int64)
    swapped = np.concatenate([np.zeros(0, dtype=np.int64), *examples["swapped"]]).astype(np.int64)
    if not len(swapped):
        nowhere = np.full(len(row), np.inf)
        return nowhere, nowhere
    width = int(max(swapped.max(), position.max())) + 1
    places = np.sort(np.repeat(np.arange(len(examples)), counts) * width + swapped)
    own = row * width + position
    at = np.searchsorted(places, own, side="left")
    before, after = places[np.maximum(at - 1, 0)], places[np.minimum(at, len(places) - 1)]
    known = (row >= 0) & (position != NO_POSITION)
    left = np.where(known & (at > 0) & (before // width == row), own - before, np.inf)
    right = np.where(known & (at < len(places)) & (after // width == row), after - own, np.inf)
    return left, right

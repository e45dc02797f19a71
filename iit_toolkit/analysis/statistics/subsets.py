"""A measure on parts of the cases: by token position, by frequency of the gold token, on fewer texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypedDict, cast

import numpy as np
import pandas as pd

from iit_toolkit.analysis.statistics.measures import DEFAULT_MEASURE, Measure, Score, estimate, judged_measure
from iit_toolkit.analysis.statistics.outcomes import NO_POSITION
from iit_toolkit.analysis.statistics.quantities import resample_variable, students, variables
from iit_toolkit.analysis.statistics.resampling import Resampled
from iit_toolkit.analysis.statistics.sums import Ints

POSITION_BINS = 6
BANDS = {10: "below 10", 100: "10 to 100", 1000: "100 to 1k", 10_000: "1k to 10k"}
"""Upper ends of the frequency bands, in occurrences per million tokens."""
MOST_FREQUENT = "10k or more"
SMALLEST = 20


class Settings(TypedDict):
    """Settings of the intervals, as in `summarise`."""

    resamples: int
    seed: int
    level: float


def by_position(outcomes: pd.DataFrame, settings: Settings, measure: str = DEFAULT_MEASURE) -> pd.DataFrame:
    """Return a measure outside, by position of the token, in bins of equal width.

    Returns:
        One row per variable, group (as `0-9`) and student, as `_grouped`; empty where answers have no position.
    """
    positions = outcomes["position"].to_numpy()
    if (positions == NO_POSITION).all():
        return pd.DataFrame()
    width = -(-int(positions.max() + 1) // POSITION_BINS)
    bins = positions // width
    labels = {
        int(number): f"{number * width}" if width == 1 else f"{number * width}-{number * width + width - 1}"
        for number in np.unique(bins[positions != NO_POSITION])
    }
    return _grouped(outcomes, bins, labels, settings, judged_measure(measure))


def by_frequency(
    outcomes: pd.DataFrame, per_million: Mapping[int, float], settings: Settings, measure: str = DEFAULT_MEASURE
) -> pd.DataFrame:
    """Return a measure outside, by frequency of the gold token.

    Args:
        outcomes: The outcomes table.
        per_million: How often each token occurs in a million, by its number.
        settings: Of the intervals.
        measure: What is estimated, one of `measures.JUDGED`.

    Returns:
        One row per variable, band and student, as `_grouped`; empty where no frequency is known.
    """
    bands, named = frequency_bands(outcomes, per_million)
    return _grouped(outcomes, bands, named, settings, judged_measure(measure))


def frequency_bands(outcomes: pd.DataFrame, per_million: Mapping[int, float]) -> tuple[Ints, dict[int, str]]:
    """Return the frequency band of each case's gold token, -1 if it is unknown, and the names of those that occur.

    Args:
        outcomes: The outcomes table.
        per_million: How often each token occurs in a million, by its number.
    """
    frequency = outcomes["gold"].map(dict(per_million)).to_numpy(dtype=np.float64)
    bands = np.where(np.isnan(frequency), -1, np.digitize(frequency, list(BANDS)))
    labels = dict(enumerate([*BANDS.values(), MOST_FREQUENT]))
    return bands, {int(number): labels[int(number)] for number in np.unique(bands[bands >= 0])}


def by_size(outcomes: pd.DataFrame, student: str, settings: Settings, measure: str = DEFAULT_MEASURE) -> pd.DataFrame:
    """Return a measure outside of one student, on bases of 20, 40, 80, ... of the texts, drawn at random, and on all.

    Each draw holds the smaller ones.

    Returns:
        One row per variable and number of texts, as `_grouped`, with `drawn` for the group.
    """
    score = Score(judged_measure(measure), student)
    of_student = _where(outcomes, (outcomes["student"] == student).to_numpy())
    rows: list[dict[str, Any]] = []
    for variable in variables(of_student):
        cases = _where(of_student, (of_student["variable"] == variable).to_numpy())
        order = np.random.default_rng(settings["seed"]).permutation(np.unique(cases["base_text"].to_numpy()))
        for size in _sizes(len(order)):
            some = _where(cases, np.isin(cases["base_text"].to_numpy(), order[:size]))
            measured = _row(resample_variable(some, variable, **settings), score)
            rows.append({"variable": variable, "drawn": size, "student": student, **measured})
    return pd.DataFrame(rows)


def _sizes(count: int) -> list[int]:
    sizes = [SMALLEST * 2**power for power in range(20) if SMALLEST * 2**power < count]
    return [*sizes, count]


def _grouped(
    outcomes: pd.DataFrame, groups: Ints, labels: Mapping[int, str], settings: Settings, measure: Measure
) -> pd.DataFrame:
    """One row per variable, group and student, with the value, its interval, its floor, and what it rests on."""
    return pd.DataFrame(list(_group_rows(outcomes, groups, labels, settings, measure)))


def _group_rows(
    outcomes: pd.DataFrame, groups: Ints, labels: Mapping[int, str], settings: Settings, measure: Measure
) -> Iterator[dict[str, Any]]:
    for variable in variables(outcomes):
        of_variable = (outcomes["variable"] == variable).to_numpy()
        for number, label in labels.items():
            some = _where(outcomes, of_variable & (groups == number))
            if len(some):
                resampled = resample_variable(some, variable, **settings)
                for student in students(some):
                    row = _row(resampled, Score(measure, student))
                    yield {"variable": variable, "group": label, "student": student, **row}


def _row(resampled: Resampled, score: Score) -> dict[str, Any]:
    value, floor = estimate(resampled, score), estimate(resampled, score.floor)
    return {
        "value": value.value,
        "low": value.low,
        "high": value.high,
        "floor": floor.value,
        "cases": value.cases,
        "bases": value.clusters,
        "texts": value.texts,
    }


def _where(frame: pd.DataFrame, chosen: Any) -> pd.DataFrame:
    return cast(pd.DataFrame, frame[chosen])

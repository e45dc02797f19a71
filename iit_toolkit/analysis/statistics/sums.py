"""Sums of quantities by text, by draw and by half, and the statistics that are functions of such sums."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Numbers = NDArray[np.float64] | NDArray[np.int32] | NDArray[np.int16]
"""Sums: counts may be integers, which take less memory and become the same floats wherever they are used."""

_DRAWS_PER_BLOCK = 2**21


def sum_by_cluster(codes: Ints, columns: Mapping[str, NDArray[Any]], clusters: int) -> dict[str, Floats]:
    """Sum per-case quantities within clusters.

    Args:
        codes: (N,) number of the cluster of each case, in 0 .. clusters - 1.
        columns: Per-case quantities, each (N,).
        clusters: How many clusters there are, those without cases included.

    Returns:
        The sums, each (clusters,).
    """
    return {name: add_up(codes, values.astype(np.float64), clusters) for name, values in columns.items()}


def add_up(codes: Ints, column: Numbers, clusters: int) -> Floats:
    """Sum a quantity of cases, (N,), within at least so many clusters, by the numbers of these, (N,)."""
    return np.bincount(codes, weights=column, minlength=clusters).astype(np.float64)


def add_up_groups(per_text: Floats, groups: int) -> Floats:
    """Sum a quantity of texts, (T,), within groups of about as many texts: (groups,)."""
    return add_up(np.arange(len(per_text)) % groups, per_text, groups)


def drawn_deviations(sums: Floats, resamples: int, generator: np.random.Generator) -> Floats:
    """By how much the totals of each row of `sums` (rows, groups) move in each resample: (rows, resamples)."""
    groups = sums.shape[1]
    per_block = max(1, min(resamples, _DRAWS_PER_BLOCK // groups))
    blocks: list[Floats] = []
    for start in range(0, resamples, per_block):
        block = min(per_block, resamples - start)
        drawn = generator.integers(0, groups, size=(block, groups), dtype=np.int32)
        cells = drawn + np.arange(block, dtype=np.int32)[:, None] * np.int32(groups)
        counts = np.bincount(cells.ravel(), minlength=block * groups).reshape(block, groups)
        with np.errstate(invalid="ignore"):
            blocks.append(sums @ (counts - 1.0).T)
    return np.concatenate(blocks, axis=1)


def sum_of_squares(values: Floats) -> float:
    """Return the sum of the squares."""
    return float(values @ values)


def slopes(function: Callable[..., Floats], columns: list[Numbers]) -> Floats:
    """Slope of a statistic in each of its totals, by central differences; 0 where a quantity is 0 in all pairs."""
    totals = np.asarray([[column.sum()] for column in columns])
    steps = 1e-6 * np.asarray([np.abs(column).sum() for column in columns])
    rise = function(*(totals + np.diag(steps))) - function(*(totals - np.diag(steps)))
    return np.divide(rise, 2 * steps, out=np.zeros_like(steps), where=steps > 0)


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Return numerator / denominator; NaN where the denominator is not positive."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(denominator > 0, numerator / denominator, np.nan)


def undefined(total: Floats) -> Floats:
    """Return NaN for each total."""
    return np.full_like(total, np.nan)


def difference_of_ratios(numerator: Floats, denominator: Floats, other: Floats, other_denominator: Floats) -> Floats:
    """Return the first ratio minus the second."""
    return ratio(numerator, denominator) - ratio(other, other_denominator)


def pearson(n: Floats, x: Floats, y: Floats, xx: Floats, yy: Floats, xy: Floats) -> Floats:
    """Pearson correlation from sums; NaN where a variance is zero up to rounding."""
    with np.errstate(divide="ignore", invalid="ignore"):
        variance_x, variance_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
        varies = (variance_x > 1e-12 * xx / n) & (variance_y > 1e-12 * yy / n)
        value = (xy / n - x * y / n**2) / np.sqrt(variance_x * variance_y)
        return np.where(varies, np.clip(value, -1.0, 1.0), np.nan)

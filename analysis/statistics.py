"""Estimates with intervals from a cluster bootstrap.

Cases that share a base example are dependent, so whole bases are resampled, never single cases. Cases are
summed per cluster first; every statistic is a function of those sums, and all statistics of one `Resampled`
see the same resampled clusters, which makes their differences paired.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_DRAWS_PER_BLOCK = 2**21


@dataclass(frozen=True)
class Estimate:
    """A value with its interval; None where it is undefined (never NaN).

    Attributes:
        value: The estimate from all cases.
        low: Lower end of the interval.
        high: Upper end of the interval.
        cases: How many cases it rests on.
        clusters: How many clusters (base examples) those cases come from.
    """

    value: float | None
    low: float | None
    high: float | None
    cases: int
    clusters: int

    def mapped(self, function: Callable[[float], float]) -> Estimate:
        """Applies an increasing function, for instance `math.exp`, to value and interval."""

        def finite(number: float | None) -> float | None:
            try:
                return None if number is None else function(number)
            except OverflowError:
                return None

        return replace(self, value=finite(self.value), low=finite(self.low), high=finite(self.high))


def sum_by_cluster(codes: Ints, columns: Mapping[str, NDArray[Any]], clusters: int) -> dict[str, Floats]:
    """Sums per-case quantities within clusters.

    Args:
        codes: (N,) number of the cluster of each case, in 0 .. clusters - 1.
        columns: Per-case quantities, each (N,).
        clusters: How many clusters there are, those without cases included.

    Returns:
        The sums, each (clusters,).
    """
    return {
        name: np.bincount(codes, weights=values.astype(np.float64), minlength=clusters).astype(np.float64)
        for name, values in columns.items()
    }


class Resampled:
    """Cluster sums of named quantities, and the totals of each in bootstrap resamples of the clusters."""

    def __init__(
        self, sums: Mapping[str, Floats], *, resamples: int = 2000, seed: int = 0, level: float = 0.95
    ) -> None:
        """Draws the resamples.

        Args:
            sums: Per quantity its sum in each cluster, each (clusters,), the clusters in the same order.
            resamples: How many times the clusters are drawn with replacement.
            seed: The same seed and number of clusters give the same resamples.
            level: Coverage aimed at by the intervals (percentile bootstrap).
        """
        self._sums = dict(sums)
        self._level = level
        matrix = np.stack(list(self._sums.values()), axis=1)
        draws = _resampled_totals(matrix, resamples, seed)
        self._draws = {name: draws[:, index] for index, name in enumerate(self._sums)}

    def ratio(self, numerator: str, denominator: str) -> Estimate:
        """Estimates total(numerator) / total(denominator); `denominator` counts or weighs cases."""
        with np.errstate(divide="ignore", invalid="ignore"):
            draws = self._draws[numerator] / self._draws[denominator]
        return self._estimate(self._total_ratio(numerator, denominator), draws, (denominator,))

    def share(self, hits: str, cases: str) -> Estimate:
        """Estimates the share of `cases` that are `hits`.

        Where all cases agree, resampling sees no variation and would return an interval without width; then
        the exact binomial bound for as many trials as there are clusters is used for the open end.
        """
        estimate = self.ratio(hits, cases)
        if estimate.low is None or estimate.high is None or estimate.value not in (0.0, 1.0):
            return estimate
        bound = ((1 - self._level) / 2) ** (1 / estimate.clusters)
        if estimate.value == 1.0:
            return replace(estimate, low=min(estimate.low, bound))
        return replace(estimate, high=max(estimate.high, 1 - bound))

    def difference(self, first: tuple[str, str], second: tuple[str, str]) -> Estimate:
        """Estimates the difference of two ratios (numerator, denominator), over the same resamples."""
        one, two = self._total_ratio(*first), self._total_ratio(*second)
        value = None if one is None or two is None else one - two
        with np.errstate(divide="ignore", invalid="ignore"):
            draws = self._draws[first[0]] / self._draws[first[1]]
            draws = draws - self._draws[second[0]] / self._draws[second[1]]
        return self._estimate(value, draws, (first[1], second[1]))

    def correlation(self, prefix: str, cases: str) -> Estimate:
        """Estimates a pooled Pearson correlation from its sufficient statistics.

        Args:
            prefix: The quantities are `prefix` + `n`, `x`, `y`, `xx`, `yy`, `xy`.
            cases: The quantity that counts the cases with at least one pair.
        """
        names = [prefix + suffix for suffix in ("n", "x", "y", "xx", "yy", "xy")]
        point = _pearson(*(np.asarray([self._sums[name].sum()]) for name in names))[0]
        draws = _pearson(*(self._draws[name] for name in names))
        return self._estimate(float(point) if np.isfinite(point) else None, draws, (cases,))

    def _total_ratio(self, numerator: str, denominator: str) -> float | None:
        below = float(self._sums[denominator].sum())
        if below == 0:
            return None
        value = float(self._sums[numerator].sum()) / below
        return value if math.isfinite(value) else None

    def _estimate(self, value: float | None, draws: Floats, counts: tuple[str, ...]) -> Estimate:
        cases = min(int(round(float(self._sums[name].sum()))) for name in counts)
        clusters = min(int(np.count_nonzero(self._sums[name])) for name in counts)
        defined = draws[np.isfinite(draws)]
        if value is None or clusters < 2 or 2 * len(defined) < len(draws):
            return Estimate(value, None, None, cases, clusters)
        tail = (1 - self._level) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        return Estimate(value, float(low), float(high), cases, clusters)


def _resampled_totals(sums: Floats, resamples: int, seed: int) -> Floats:
    """Totals of each column of `sums` (clusters, columns) in each resample: (resamples, columns)."""
    generator = np.random.default_rng(seed)
    clusters = len(sums)
    rows = max(1, min(resamples, _DRAWS_PER_BLOCK // clusters))
    blocks: list[Floats] = []
    for start in range(0, resamples, rows):
        block = min(rows, resamples - start)
        drawn = generator.integers(0, clusters, size=(block, clusters), dtype=np.int32)
        cells = drawn + np.arange(block, dtype=np.int32)[:, None] * np.int32(clusters)
        counts = np.bincount(cells.ravel(), minlength=block * clusters).reshape(block, clusters)
        with np.errstate(invalid="ignore"):
            blocks.append(counts.astype(np.float64) @ sums)
    return np.concatenate(blocks)


def _pearson(n: Floats, x: Floats, y: Floats, xx: Floats, yy: Floats, xy: Floats) -> Floats:
    """Pearson correlation from sums; NaN where a variance is zero up to rounding."""
    with np.errstate(divide="ignore", invalid="ignore"):
        variance_x, variance_y = xx / n - (x / n) ** 2, yy / n - (y / n) ** 2
        varies = (variance_x > 1e-12 * xx / n) & (variance_y > 1e-12 * yy / n)
        value = (xy / n - x * y / n**2) / np.sqrt(variance_x * variance_y)
        return np.where(varies, np.clip(value, -1.0, 1.0), np.nan)

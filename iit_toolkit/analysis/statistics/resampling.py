"""Estimates with intervals that know which cases hang together.

Cases with the same base depend on each other, so do cases with the same source, and so do cases of which one has an
example as its base and the other has it as its source. So do, moreover, examples that were cut from one text. Cases are
therefore summed per pair of base and source once, and whole texts are resampled, never single cases.

**Resampling.** As many texts as there are are drawn with replacement. A text drawn c times adds c - 1 times the sums
of its pairs, those with a base or a source in it (once those with both), to the totals. This is the first-order
part of the pigeonhole bootstrap (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1), which weighs
a pair by count of base times count of source. The part left out, the product of both deviations, makes the variance
within pairs count three times: where every base has a source of its own, as with sources from the batch, intervals
would be too wide by the square root of three.

**Width.** The residuals of a statistic say what its draws vary by, and what they should vary by: the sum of the
products of all residuals that share a text (Cameron, Gelbach and Miller 2011, "Robust inference with multiway
clustering", Journal of Business & Economic Statistics 29; for texts in both roles Aronow, Samii and Assenova 2015,
"Cluster-robust variance estimation for dyadic data", Political Analysis 23), but no less than the texts of bases
alone or of sources alone would give, and times G / (G - 1) for G texts of bases, or of sources if there are fewer. The
deviations of the draws are scaled to that variance, and widened from the normal to Student's distribution with the
degrees of freedom behind it (Satterthwaite 1946, Biometrics Bulletin 2; such "expanded percentile" intervals:
Hesterberg 2015, "What teachers should know about the bootstrap", The American Statistician 69).

**Amounts**, such as effects, have heavy tails: few texts hold most of what there is to explain. Their variance is then
less certain than the number of texts says. So the degrees of freedom of `explained` and `explained_lead` rest on the
fourth powers of the residuals, which estimate the variance of a variance (for Satterthwaite's formula: O'Neill 2014,
"Some useful moment results in sampling problems", The American Statistician 68). A sample shows too little of a heavy
tail, so the estimate counts twice. If only one text differs, there are two degrees of freedom: the lower end is then
about where the exact bound of a Poisson count lies.

**Shares** have Wilson intervals for as many independent cases as would vary as much (for clustered data: Dean and
Pagano 2015, "Evaluating confidence interval methods for binomial proportions in clustered surveys", Journal of Survey
Statistics and Methodology 3). Where all cases are independent that is Wilson's interval itself.

`docs/interval-calibration.md` holds how often these intervals cover the truth in simulations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

import numpy as np
from scipy.special import ndtri

from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.spread import Spread, student_quantile, variation, wilson
from iit_toolkit.analysis.statistics.sums import (
    Floats,
    Ints,
    Numbers,
    add_up,
    add_up_groups,
    difference_of_ratios,
    drawn_deviations,
    pearson,
    ratio,
    slopes,
    sum_of_squares,
    undefined,
)

NO_SOURCE = -1
"""The source of a case of a run without intervention."""
_GROUPS = 2048
_ROUNDING = 1e-6
_TWO_TEXTS = 3
"""Degrees of freedom of amounts if two texts differ, and the others agree."""


class Resampled:
    """Sums of named quantities per pair of base and source, and their totals in resamples of the texts.

    All statistics of one `Resampled` see the same resamples, which makes their differences paired.
    """

    def __init__(
        self,
        sums: Mapping[str, Numbers],
        *,
        base: Ints | None = None,
        source: Ints | None = None,
        base_text: Ints | None = None,
        source_text: Ints | None = None,
        resamples: int = 2000,
        seed: int = 0,
        level: float = 0.95,
    ) -> None:
        """Draws the resamples.

        Args:
            sums: Per quantity its sum in each pair, each (P,), the pairs in the same order.
            base: (P,) which example is the base of each pair; without it, every pair has one of its own.
            source: (P,) which example is its source, counted like bases, or `NO_SOURCE`; without it, none has one.
            base_text: (P,) which text the base was cut from; without it, every example is a text of its own.
            source_text: (P,) which text the source was cut from, counted like those of bases.
            resamples: How many times the texts are drawn.
            seed: The same seed and pairs give the same resamples.
            level: Coverage aimed at by the intervals.
        """
        self._sums = dict(sums)
        self._level = level
        pairs = len(next(iter(self._sums.values())))
        base = np.arange(pairs) if base is None else base
        source = np.full(pairs, NO_SOURCE) if source is None else source
        self._sourced = source != NO_SOURCE
        self._examples = base, source
        base = base if base_text is None else base_text
        source = np.where(self._sourced, source if source_text is None else source_text, base)
        texts, codes = np.unique(np.concatenate([base, source]), return_inverse=True)
        self._base, self._source, self._texts = codes[:pairs], codes[pairs:], len(texts)
        self._between = self._base != self._source
        self._totals = {name: float(column.sum()) for name, column in self._sums.items()}
        # Beyond some thousands, texts are drawn in groups: the variance of totals is that of the groups' sums.
        groups = min(self._texts, _GROUPS)
        self._groups = {name: add_up_groups(self._by_text(column), groups) for name, column in self._sums.items()}
        matrix = np.stack(list(self._groups.values()))
        deviations = drawn_deviations(matrix, resamples, np.random.default_rng(seed))
        self._deviations = dict(zip(self._sums, deviations, strict=True))

    def ratio(self, numerator: str, denominator: str) -> Estimate:
        """Estimates total(numerator) / total(denominator); `denominator` counts or weighs cases."""
        return self._resampled(ratio, (numerator, denominator), (denominator,))

    def share(self, hits: str, cases: str) -> Estimate:
        """Estimates the share of `cases` that are `hits`, with a Wilson interval.

        Its number of trials is value * (1 - value) / variance, at most the number of cases. Where all cases agree,
        that is undefined; then it is the number of texts.
        """
        estimate, spread = self._measured(ratio, (hits, cases), (cases,))
        if estimate.value is None or spread is None:
            return estimate
        value, quantile = estimate.value, spread.quantile(self._level)
        if value in (0.0, 1.0):
            trials, quantile = estimate.fewest, student_quantile(estimate.fewest - 1, self._level)
        elif self._independent(cases):
            trials, quantile = estimate.cases, float(ndtri((1 + self._level) / 2))
        else:
            trials = value * (1 - value) / max(spread.variance, value * (1 - value) / estimate.cases)
        low, high = wilson(value, trials, quantile)
        return replace(estimate, low=low, high=high)

    def difference(self, first: tuple[str, str], second: tuple[str, str], *, level: float | None = None) -> Estimate:
        """Estimates the difference of two ratios (numerator, denominator), over the same resamples.

        Args:
            first: Numerator and denominator.
            second: Those of the ratio that is subtracted.
            level: Coverage aimed at, if another than that of all intervals.
        """
        return self._resampled(difference_of_ratios, (*first, *second), (first[1], second[1]), level)

    def lead(self, first: tuple[str, str], second: tuple[str, str], *, level: float | None = None) -> Estimate:
        """Estimates the difference of two shares (hits, cases).

        Where hardly any case tells the two apart, resampling sees too little variation. So the interval reaches at
        least as far as Wilson's upper bound for 0 hits in as many trials as there are cases; where resampling sees
        none at all, as there are bases, or sources if there are fewer: how such rare cases gather in texts is unknown.
        """
        estimate = self.difference(first, second, level=level)
        if estimate.value is None or estimate.low is None or estimate.high is None:
            return estimate
        examples = min(estimate.clusters, estimate.sources or estimate.clusters)
        trials = estimate.cases if estimate.low < estimate.high else examples
        reach = wilson(0.0, trials, float(ndtri((1 + (level or self._level)) / 2)))[1]
        low, high = min(estimate.low, estimate.value - reach), max(estimate.high, estimate.value + reach)
        return replace(estimate, low=max(-1.0, low), high=min(1.0, high))

    def explained(self, explained: str, whole: str, cases: str, *, level: float | None = None) -> Estimate:
        """Estimates total(explained) / total(whole), which is at most 1: how much of an effect is explained.

        Args:
            explained: What is explained in each pair; negative if the explanation is worse than none.
            whole: What there is to explain.
            cases: The quantity that counts the cases that have any. Without one, the estimate is undefined.
            level: Coverage aimed at, if another than that of all intervals.
        """
        return _below_one(self._weighted(ratio, (explained, whole), whole, cases, level))

    def explained_lead(
        self,
        first: tuple[str, str],
        second: tuple[str, str],
        cases: str,
        *,
        level: float | None = None,
        most: float = 1.0,
    ) -> Estimate:
        """Estimates the difference of two such ratios (explained, whole) over the same cases and resamples.

        Args:
            first: What is explained, and the whole.
            second: Those of the ratio that is subtracted.
            cases: As for `explained`.
            level: Coverage aimed at, if another than that of all intervals.
            most: How far the two may lie apart in a text, if no text shows any difference.
        """
        return self._weighted(difference_of_ratios, (*first, *second), first[1], cases, level, most)

    def correlation(self, prefix: str, cases: str) -> Estimate:
        """Estimates a pooled Pearson correlation from its sufficient statistics.

        Args:
            prefix: The quantities are `prefix` + `n`, `x`, `y`, `xx`, `yy`, `xy`.
            cases: The quantity that counts the cases with at least one pair.
        """
        names = tuple(prefix + suffix for suffix in ("n", "x", "y", "xx", "yy", "xy"))
        return self._resampled(pearson, names, (cases,))

    def _weighted(
        self,
        function: Callable[..., Floats],
        names: tuple[str, ...],
        whole: str,
        cases: str,
        level: float | None,
        most: float = 1.0,
    ) -> Estimate:
        """Estimate a function of totals of amounts.

        If fewer than two texts differ in what they add, the interval reaches at least as far as Wilson's upper bound
        for 0 hits in as many trials as there are texts (of equal size, if one differs): what no text showed, the next
        one may, by at most `most`.
        """
        if not self._totals[cases]:
            return self._measured(undefined, (cases,), (cases,))[0]
        estimate, spread = self._measured(function, names, (cases,))
        equal_texts = self._equal_texts(whole)
        estimate = replace(estimate, equal_texts=equal_texts)
        if spread is None:
            return estimate
        spread = spread.of_amounts()
        estimate = self._with_interval(estimate, spread, function, names, level)
        if estimate.value is None or estimate.low is None or estimate.high is None:
            return estimate
        varies = not np.isclose(estimate.low, estimate.high, rtol=0.0, atol=_ROUNDING)
        if varies and spread.freedom >= _TWO_TEXTS:
            return estimate
        trials = min(estimate.fewest, equal_texts) if varies else estimate.fewest
        reach = most * wilson(0.0, trials, float(ndtri((1 + (level or self._level)) / 2)))[1]
        low, high = min(estimate.low, estimate.value - reach), max(estimate.high, estimate.value + reach)
        return replace(estimate, low=low, high=high)

    def _resampled(
        self,
        function: Callable[..., Floats],
        names: tuple[str, ...],
        counts: tuple[str, ...],
        level: float | None = None,
    ) -> Estimate:
        """Estimates a function of the totals of some quantities, with the interval of its draws."""
        estimate, spread = self._measured(function, names, counts)
        return estimate if spread is None else self._with_interval(estimate, spread, function, names, level)

    def _with_interval(
        self,
        estimate: Estimate,
        spread: Spread,
        function: Callable[..., Floats],
        names: tuple[str, ...],
        level: float | None,
    ) -> Estimate:
        """Return an estimate with the interval of its draws, scaled to its spread."""
        level = level or self._level
        scale = 1.0
        if spread.drawn > 0:
            scale = math.sqrt(spread.variance / spread.drawn) * spread.quantile(level) / float(ndtri((1 + level) / 2))
        draws = function(*(self._totals[name] + scale * self._deviations[name] for name in names))
        defined = draws[np.isfinite(draws)]
        if 2 * len(defined) < len(draws):
            return estimate
        tail = (1 - level) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        value = cast(float, estimate.value)  # a few resamples may all lie to one side of it
        return replace(estimate, low=min(float(low), value), high=max(float(high), value))

    def _measured(
        self, function: Callable[..., Floats], names: tuple[str, ...], counts: tuple[str, ...]
    ) -> tuple[Estimate, Spread | None]:
        """Return the value of a statistic without its interval, and its spread where it can have an interval."""
        value = float(function(*(np.asarray([self._totals[name]]) for name in names))[0])
        texts = self._count(counts, (self._base, self._source))
        clusters, sources = self._count(counts, self._examples)
        estimate = Estimate(
            value=value if math.isfinite(value) else None,
            low=None,
            high=None,
            cases=min(int(round(self._totals[name])) for name in counts),
            clusters=clusters,
            sources=sources or None,
            texts=min(texts) if sources else texts[0],
            equal_texts=min(self._equal_texts(name) for name in counts),
        )
        if estimate.value is None or estimate.fewest < 2:
            return estimate, None
        spread = self._spread(function, names, texts)
        return estimate, spread if math.isfinite(spread.variance) else None

    def _spread(self, function: Callable[..., Floats], names: tuple[str, ...], texts: tuple[int, int]) -> Spread:
        gradient = slopes(function, [self._sums[name] for name in names])

        def residuals(sums: Mapping[str, Numbers]) -> Floats:
            return sum((slope * sums[name] for slope, name in zip(gradient, names, strict=True)), np.zeros(1))

        every = residuals(self._sums)
        as_base, as_source = self._by_role(every)
        bases, sources = sum_of_squares(as_base), sum_of_squares(as_source)
        # What stands between two texts is in the sums of both: once too often.
        shared = sum_of_squares(self._by_text(every)) - sum_of_squares(self._by_two_texts(every))
        variance = max(shared, bases, sources)
        noise, seen = bases**2 / (texts[0] - 1), variation(as_base, texts[0])
        if texts[1]:  # pairs within a text are in the noise of the bases
            elsewhere = add_up(self._source[self._between], every[self._between], 0)
            noise += sum_of_squares(elsewhere) ** 2 / (texts[1] - 1)
            seen += variation(elsewhere, texts[1])
        fewest = min(texts) if texts[1] else texts[0]
        freedom = variance**2 / noise if noise > 0 else fewest - 1
        return Spread(
            variance=variance * fewest / (fewest - 1),
            drawn=sum_of_squares(residuals(self._groups)),
            freedom=freedom,
            freedom_of_amounts=min(freedom, 1 + variance**2 / seen) if seen > 0 else freedom,
        )

    def _by_role(self, column: Floats) -> tuple[Floats, Floats]:
        """Sum of a quantity per text, over the pairs that have their base in it and those that have their source."""
        return (
            add_up(self._base, column, self._texts),
            add_up(self._source[self._sourced], column[self._sourced], self._texts),
        )

    def _by_text(self, column: Numbers) -> Floats:
        """Sum of a quantity per text, over the pairs that have their base or their source in it, or both."""
        between = self._between
        return add_up(self._base, column, self._texts) + add_up(self._source[between], column[between], self._texts)

    def _by_two_texts(self, column: Floats) -> Floats:
        """Sum of a quantity per two texts that are base and source of a pair, in whichever order."""
        two = np.sort(np.stack([self._base, self._source])[:, self._between], axis=0)
        codes = np.unique(two[0] * self._texts + two[1], return_inverse=True)[1]
        return add_up(codes, column[self._between], 0)

    def _count(self, names: tuple[str, ...], roles: tuple[Ints, Ints]) -> tuple[int, int]:
        """How many bases and how many sources, or texts of them, cases come from: of several kinds, the fewest."""
        base, source = roles
        present = [self._sums[name] != 0 for name in names]
        return (
            min(len(np.unique(base[there])) for there in present),
            min(len(np.unique(source[there & self._sourced])) for there in present),
        )

    def _equal_texts(self, cases: str) -> float:
        held = add_up(self._base, self._sums[cases], self._texts)
        return float(held.sum() ** 2 / max(sum_of_squares(held), np.finfo(np.float64).tiny))

    def _independent(self, cases: str) -> bool:
        """Whether every pair has at most one case, and no text stands in two pairs that have one."""
        stands = self._by_text((self._sums[cases] != 0).astype(np.float64))
        return bool(self._sums[cases].max() <= 1 and stands.max() <= 1)


def _below_one(estimate: Estimate) -> Estimate:
    """Cut off at 1, which is all there is: rounded divergences may be a little below 0."""
    value, low, high = (None if end is None else min(1.0, end) for end in (estimate.value, estimate.low, estimate.high))
    return replace(estimate, value=value, low=low, high=high)

"""Two halves of a verification's texts: one finds something, the other confirms it."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, depth_first_order

from iit_toolkit.analysis.statistics.sums import Ints

FINDING, CONFIRMING, ACROSS = 0, 1, -1
_FEW = 0.1
_DRAWS, _DRAWN_TEXTS = 20, 20_000
_ROUNDS = 50

Halves = NDArray[np.int8]


def halves(cases: pd.DataFrame, seed: int) -> Halves:
    """Return the half of each case: `FINDING`, `CONFIRMING`, or `ACROSS` if its base and source lie in different ones.

    No text is in both halves, neither as a base nor as a source. Which text is in which half depends on the pairing of
    the texts and on the seed alone. Texts that are paired are kept together as far as that is possible: of pairs of
    texts, all cases lie in one half; of one cycle of texts, all but those at the two cuts.

    Args:
        cases: Columns `base_text` and `source_text`.
        seed: The same seed and pairs give the same halves.
    """
    both = np.concatenate([cases["base_text"].to_numpy(), cases["source_text"].to_numpy()])
    texts, codes = np.unique(both, return_inverse=True)
    generator = np.random.default_rng(seed)
    codes = generator.permutation(len(texts))[codes]
    pairing = _Pairing(codes[: len(cases)], codes[len(cases) :], len(texts))
    walked = _cut(pairing.walk())
    if (pairing.of_cases(walked) == ACROSS).mean() <= _FEW:
        return pairing.of_cases(walked)
    draws = max(1, min(_DRAWS, _DRAWN_TEXTS // len(texts)))
    starts = [walked, *(_cut(generator.permutation(len(texts))) for _ in range(draws))]
    return pairing.of_cases(max(map(pairing.improved, starts), key=pairing.worth))


def _cut(order: Ints) -> Halves:
    half = np.full(len(order), CONFIRMING, dtype=np.int8)
    half[order[: (len(order) + 1) // 2]] = FINDING
    return half


class _Pairing:
    """Which text is paired with which."""

    def __init__(self, base: Ints, source: Ints, texts: int) -> None:
        self._base, self._source, self._texts = base, source, texts
        between = base != source
        ends = np.concatenate([base[between], source[between]]), np.concatenate([source[between], base[between]])
        degree = np.maximum(np.bincount(ends[0], minlength=texts), 1)
        weights = 1 / np.sqrt(degree[ends[0]] * degree[ends[1]])  # a text of few cases is as dear as one of many
        self._graph = cast(Any, coo_array((weights, ends), shape=(texts, texts)).tocsr())

    def of_cases(self, half: Halves) -> Halves:
        """Return the half of each case, of the halves of the texts."""
        return np.where(half[self._base] == half[self._source], half[self._base], np.int8(ACROSS))

    def worth(self, half: Halves) -> tuple[int, int]:
        """Return how many texts of bases, or of sources, and how many cases the poorer half has."""
        kept = self.of_cases(half)
        chosen = [np.flatnonzero(kept == one) for one in (FINDING, CONFIRMING)]
        texts = [len(np.unique(role[rows])) for rows in chosen for role in (self._base, self._source)]
        return min(texts), min(map(len, chosen))

    def walk(self) -> Ints:
        """Return all texts in an order in which those that are paired stand close to each other."""
        nodes = self._texts, self._texts
        graph = coo_array((np.ones(len(self._base)), (self._base, self._source)), shape=nodes).tocsr()
        labels: Any = connected_components(graph, directed=False)[1]
        first = np.unique(labels, return_index=True)[1]
        # A chain of nodes leads from one group of connected texts to the next: each is walked through before the next.
        chain = self._texts + np.arange(len(first))
        rows = np.concatenate([self._base, chain, chain[:-1]])
        columns = np.concatenate([self._source, first, chain[1:]])
        size = self._texts + len(first)
        linked = coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size)).tocsr()
        linked.sort_indices()
        order: Any = depth_first_order(linked, self._texts, directed=False, return_predecessors=False)
        return cast(Ints, order[order < self._texts])

    def improved(self, half: Halves) -> Halves:
        """Exchange texts of the two halves as long as that keeps more pairs together."""
        together = self._together(half)
        for _ in range(_ROUNDS):
            sign = np.where(half == FINDING, 1.0, -1.0)
            gain = -sign * (self._graph @ sign)
            sides = [rows[np.argsort(-gain[rows])] for rows in (np.flatnonzero(half == one) for one in (0, 1))]
            pairs = min(map(len, sides))
            good = int((gain[sides[0][:pairs]] + gain[sides[1][:pairs]] > 0).sum())
            moved = [rows[: -(-good // 4)] for rows in sides]
            changed = half.copy()
            changed[moved[0]], changed[moved[1]] = CONFIRMING, FINDING
            if not good or (found := self._together(changed)) <= together:
                break
            half, together = changed, found
        return half

    def _together(self, half: Halves) -> float:
        sign = np.where(half == FINDING, 1.0, -1.0)
        return float(sign @ (self._graph @ sign))

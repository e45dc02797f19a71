"""Halves of texts: none is in both, and what is paired stays together as far as it can."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from iit_toolkit.analysis.statistics.halves import ACROSS, CONFIRMING, FINDING, halves

RANDOM = np.random.default_rng(0)
CYCLE = RANDOM.permutation(200)
LONG = np.repeat(np.arange(60), RANDOM.integers(1, 40, 60))
PAIRINGS = {
    "pairs": (np.arange(200), np.arange(200) + 200),
    "cycle": (CYCLE, np.roll(CYCLE, 1)),
    "grid": (np.repeat(np.arange(40), 40), np.tile(np.arange(40), 40)),
    "long texts": (LONG, RANDOM.permutation(LONG)),
}


def of(name: str) -> pd.DataFrame:
    base, source = PAIRINGS[name]
    return pd.DataFrame({"base_text": base, "source_text": source})


@pytest.mark.parametrize("name", PAIRINGS)
def test_no_text_is_in_both_halves(name: str) -> None:
    cases = of(name)
    half = halves(cases, 0)
    first, second = (set(cases[half == one].to_numpy().ravel()) for one in (FINDING, CONFIRMING))
    assert first and second and not first & second
    assert all(a != b for a, b in cases[half == ACROSS].to_numpy())


@pytest.mark.parametrize(("name", "lost"), [("pairs", 0.0), ("cycle", 0.01), ("grid", 0.5), ("long texts", 0.5)])
def test_few_cases_are_lost_and_both_halves_have_as_many_texts(name: str, lost: float) -> None:
    cases = of(name)
    half = halves(cases, 3)
    assert (half == ACROSS).mean() <= lost
    texts = [cases[half == one]["base_text"].nunique() for one in (FINDING, CONFIRMING)]
    assert min(texts) >= 0.45 * cases["base_text"].nunique()
    assert min((half == one).mean() for one in (FINDING, CONFIRMING)) > (1 - lost) / 4


def test_the_seed_decides() -> None:
    cases = of("cycle")
    assert (halves(cases, 1) == halves(cases, 1)).all()
    assert (halves(cases, 1) != halves(cases, 2)).any()


@pytest.mark.parametrize("source", [0, 1])
def test_one_or_two_texts(source: int) -> None:
    half = halves(pd.DataFrame({"base_text": [0], "source_text": [source]}), 0)
    assert half.tolist() == [ACROSS if source else FINDING]

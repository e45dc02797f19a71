"""A small part of `python -m benchmarks.coverage`; bounds are three binomial standard errors beyond its bar."""

from __future__ import annotations

import math

import pytest

from benchmarks.coverage import CONTRASTS, Null, Setting, coverage, false_support, other_resampling

SIMULATIONS = 200


def error(share):
    return 3 * math.sqrt(share * (1 - share) / SIMULATIONS)


@pytest.mark.parametrize(
    "setting",
    [
        Setting("batch", 64, 0.5),
        Setting("batch", 64, 0.9),
        Setting("crossed", 128, 0.5),
        Setting("pairs", 64, tokens=1),
        Setting("batch", 480, rows=12, text=0.2),
    ],
    ids=lambda setting: f"{setting.design}-{setting.share}-{setting.rows}",
)
def test_intervals_cover_the_truth(setting):
    found = coverage(setting, 0, SIMULATIONS)
    for name in ("share", "lead"):
        assert 0.93 - error(0.93) <= found[f"{name}_covered"] <= 0.97 + error(0.97)


def test_a_null_is_rarely_supported_beside_a_true_variable():
    found = false_support(Null(Setting("batch", 64), variables=3, true=1), 0, SIMULATIONS)
    assert found["false_supported"] <= 0.025 + error(0.025)
    assert found["true_supported"] > 0.9


def test_other_resampling_misses_the_bar():
    """Bases only is too narrow where sources are shared, single rows where a text has several.

    The pigeonhole is too wide where each base has its own source.
    """
    batch, _, _, grid, rows = CONTRASTS
    shared, own, cut = (other_resampling(setting, 0, 100) for setting in (grid, batch, rows))
    assert shared["bases_only"] < 0.75 < 0.85 < shared["here"]
    assert cut["single_rows"] < 0.87 < 0.9 < cut["here"]
    assert own["pigeonhole"] > 0.98

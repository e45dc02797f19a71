"""A small part of `python -m benchmarks.coverage`; bounds are three binomial standard errors beyond its bar."""

from __future__ import annotations

import math

import pytest

from benchmarks.coverage import CONTRASTS, Null, coverage, false_support, other_resampling
from benchmarks.coverage_graded import GradedNull, GradedSetting, graded_coverage, graded_false_support
from benchmarks.coverage_populations import MARGIN, Setting
from iit_toolkit.analysis.statistics.resampling import Resampled

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


@pytest.mark.parametrize(
    "population",
    [
        GradedSetting(Setting("batch", 128), "moderate"),
        GradedSetting(Setting("batch", 128, 0.9), "heavy"),
        GradedSetting(Setting("batch", 128, 0.9), "decisions"),
        GradedSetting(Setting("crossed", 128), "moderate"),
        GradedSetting(Setting("batch", 480, rows=12, text=0.2), "moderate"),
    ],
    ids=lambda one: f"{one.setting.design}-{one.setting.share}-{one.setting.rows}-{one.tail}",
)
def test_intervals_of_amounts_cover_the_truth(population):
    """Wider than the bar is allowed: intervals of heavy tails are."""
    found = graded_coverage(population, 0, SIMULATIONS)
    for name in ("score", "lead"):
        assert found[f"{name}_covered"] >= 0.93 - error(0.93)


def test_an_amount_at_the_margin_is_rarely_supported():
    for floor, share in ((False, 0.5), (True, MARGIN)):
        null = GradedNull(Setting("batch", 128, share), "decisions", floor=floor)
        assert graded_false_support(null, 0, SIMULATIONS)["false_supported"] <= 0.025 + error(0.025)


def test_heavy_tails_need_intervals_of_their_own(monkeypatch):
    """The intervals of other ratios lie above the truth far too often."""
    population = GradedSetting(Setting("pairs", 128, 0.9, tokens=1), "heavy")
    own = graded_coverage(population, 0, SIMULATIONS)
    monkeypatch.setattr(Resampled, "explained", lambda self, *names, **_: self.ratio(*names[:2]))
    other = graded_coverage(population, 0, SIMULATIONS)
    assert own["score_interval_above"] + 0.03 < other["score_interval_above"]

from __future__ import annotations

import math

import numpy as np
import pytest

from iit_toolkit.analysis.statistics import Resampled, sum_by_cluster


def resampled(codes, columns, *, resamples=400, seed=0, level=0.95):
    sums = sum_by_cluster(np.asarray(codes), {k: np.asarray(v) for k, v in columns.items()}, max(codes) + 1)
    return Resampled(sums, resamples=resamples, seed=seed, level=level)


def clustered_shares(generator, clusters=60, per_cluster=12):
    """Cases of one cluster share their probability of a hit; on average it is 0.3."""
    chance = generator.beta(0.6, 1.4, clusters)
    codes = np.repeat(np.arange(clusters), per_cluster)
    return codes, generator.random(len(codes)) < chance[codes]


def test_values_and_counts_are_those_of_the_cases():
    table = resampled([0, 0, 1, 2, 2, 2], {"hit": [1, 0, 1, 0, 0, 1], "case": [1, 1, 1, 1, 1, 1]})
    estimate = table.share("hit", "case")
    assert estimate.value == pytest.approx(3 / 6)
    assert (estimate.cases, estimate.clusters) == (6, 3)
    assert estimate.low < estimate.value < estimate.high


def test_it_equals_a_plain_bootstrap_over_the_same_draws():
    generator = np.random.default_rng(3)
    codes, hits = clustered_shares(generator, clusters=20)
    weights = generator.integers(0, 2, len(codes))
    fast = resampled(codes, {"hit": hits * weights, "case": weights}, resamples=200, seed=5)
    drawn = np.random.default_rng(5).integers(0, 20, size=(200, 20), dtype=np.int32)
    plain = []
    for clusters in drawn:
        rows = np.concatenate([np.flatnonzero(codes == cluster) for cluster in clusters])
        plain.append((hits * weights)[rows].sum() / weights[rows].sum())
    estimate = fast.share("hit", "case")
    assert [estimate.low, estimate.high] == pytest.approx(np.quantile(plain, [0.025, 0.975]), abs=1e-12)


def test_same_seed_same_interval_and_level_widens_it():
    codes, hits = clustered_shares(np.random.default_rng(0))
    columns = {"hit": hits, "case": np.ones_like(hits)}
    first, again = (resampled(codes, columns).share("hit", "case") for _ in range(2))
    other = resampled(codes, columns, seed=1).share("hit", "case")
    wide = resampled(codes, columns, level=0.99).share("hit", "case")
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    assert wide.low < first.low < first.high < wide.high


def test_blocks_do_not_change_the_result(monkeypatch):
    codes, hits = clustered_shares(np.random.default_rng(1))
    columns = {"hit": hits, "case": np.ones_like(hits)}
    whole = resampled(codes, columns).share("hit", "case")
    monkeypatch.setattr("iit_toolkit.analysis.statistics._DRAWS_PER_BLOCK", 60 * 7)
    in_blocks = resampled(codes, columns).share("hit", "case")
    assert in_blocks.low == pytest.approx(whole.low, abs=0.02)
    assert in_blocks.value == whole.value


def coverage(simulations, clusters_of):
    inside = 0
    for number in range(simulations):
        codes, hits = clustered_shares(np.random.default_rng([9, number]))
        columns = {"hit": hits, "case": np.ones_like(hits)}
        estimate = resampled(clusters_of(codes), columns, seed=number).share("hit", "case")
        inside += estimate.low <= 0.3 <= estimate.high
    return inside / simulations


def test_intervals_cover_the_truth_when_cases_are_clustered():
    assert 0.90 <= coverage(300, lambda codes: codes) <= 0.99


def test_resampling_single_cases_would_not_cover_it():
    assert coverage(300, lambda codes: np.arange(len(codes))) < 0.80


def test_differences_are_paired():
    """Two students that succeed on the same clusters: their difference is far sharper than either share."""
    generator = np.random.default_rng(2)
    codes, hits = clustered_shares(generator)
    worse = hits & (generator.random(len(hits)) < 0.9)
    table = resampled(codes, {"one": hits, "two": worse, "case": np.ones_like(hits)})
    single = table.share("one", "case")
    difference = table.difference(("one", "case"), ("two", "case"))
    assert difference.value == pytest.approx(hits.mean() - worse.mean())
    assert difference.high - difference.low < 0.4 * (single.high - single.low)
    assert table.difference(("one", "case"), ("one", "case")).high == 0.0


def effect_columns(x, y):
    sums = {"n": np.ones_like(x), "x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y}
    return {f"e/{name}": values for name, values in sums.items()} | {"case": np.ones_like(x)}


def test_correlation_is_pearsons_and_covers_a_planted_one():
    generator = np.random.default_rng(4)
    x = generator.normal(3.0, 2.0, 4000)
    y = 0.6 * (x - 3.0) / 2.0 + 0.8 * generator.normal(size=4000) - 7.0
    estimate = resampled(np.repeat(np.arange(400), 10), effect_columns(x, y)).correlation("e/", "case")
    assert estimate.value == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-9)
    assert estimate.low < 0.6 < estimate.high
    assert estimate.high - estimate.low < 0.1


@pytest.mark.parametrize("constant", [0.0, 1 / 3])
def test_correlation_without_variance_is_undefined(constant):
    x = np.random.default_rng(0).normal(size=50)
    table = resampled(np.arange(50), effect_columns(x, np.full(50, constant)))
    estimate = table.correlation("e/", "case")
    assert (estimate.value, estimate.low, estimate.high) == (None, None, None)


def test_undefined_is_none_and_never_nan():
    table = resampled([0, 0, 1], {"hit": [0, 0, 0], "none": [0, 0, 0], "one": [1, 1, 0], "bad": [np.nan, 1, 1]})
    empty = table.share("hit", "none")
    assert (empty.value, empty.low, empty.high, empty.cases, empty.clusters) == (None, None, None, 0, 0)
    single = table.share("one", "one")
    assert (single.value, single.low, single.high, single.clusters) == (1.0, None, None, 1)
    assert table.difference(("one", "one"), ("hit", "none")).value is None
    assert table.ratio("bad", "one").value is None
    assert table.ratio("bad", "one").low is None


def test_agreement_of_all_cases_keeps_an_honest_width():
    every = np.ones(40)
    table = resampled(np.repeat(np.arange(20), 2), {"all": every, "no": 0 * every, "case": every})
    assert table.share("all", "case").low == pytest.approx(0.025 ** (1 / 20))
    assert table.share("all", "case").high == 1.0
    assert table.share("no", "case").high == pytest.approx(1 - 0.025 ** (1 / 20))


def test_mapped_moves_value_and_interval_and_overflow_is_undefined():
    table = resampled(range(30), {"nll": np.linspace(1, 2, 30), "case": np.ones(30), "big": np.full(30, 1e4)})
    estimate, moved = table.ratio("nll", "case"), table.ratio("nll", "case").mapped(math.exp)
    assert (moved.value, moved.low) == (math.exp(estimate.value), math.exp(estimate.low))
    assert table.ratio("big", "case").mapped(math.exp).value is None


def test_large_tables_stay_small_in_memory():
    """10,000 resamples of 2,000 clusters: never the whole (resamples, clusters) matrix at once."""
    codes = np.repeat(np.arange(2000), 50)
    hits = np.random.default_rng(0).random(100_000) < 0.25
    estimate = resampled(codes, {"hit": hits, "case": np.ones_like(hits)}, resamples=10_000).share("hit", "case")
    assert estimate.high - estimate.low == pytest.approx(2 * 1.96 * math.sqrt(0.25 * 0.75 / 1e5), rel=0.1)

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from iit_toolkit.analysis.statistics.resampling import Resampled
from iit_toolkit.analysis.statistics.sums import sum_by_cluster


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


def crossed_cases(generator, bases=12, sources=7, cases=90):
    """Cases of some pairs of bases and sources; example 0 .. 4 are both."""
    base = generator.integers(0, bases, cases)
    source = (base + generator.integers(1, sources, cases)) % (bases + 3)
    hits = generator.random(cases) < 0.2 + 0.5 * generator.random(bases)[base]
    other = hits ^ (generator.random(cases) < 0.2)
    counted = generator.random(cases) < 0.8
    return base, source, {"one": hits & counted, "two": other & counted, "case": counted}


def by_pair(base, source, columns):
    pairs, codes = np.unique(np.stack([base, source]), axis=1, return_inverse=True)
    return pairs[0], pairs[1], sum_by_cluster(codes.ravel(), columns, pairs.shape[1])


def plain_interval(base, source, columns, first, second, *, resamples, seed, level=0.95):
    """The lead of one share over another by loops over cases: what the docstring of the module says, nothing else.

    `base` and `source` are the texts of every case.
    """
    kept = [case for case in range(len(base)) if columns["case"][case]]
    total = len(kept)
    one, two = (sum(int(columns[name][case]) for case in kept) / total for name in (first, second))
    residual = {}
    for case in kept:
        residual[case] = (int(columns[first][case]) - one - int(columns[second][case]) + two) / total
    texts = sorted({*map(int, base), *map(int, source)})
    of_case = {case: {int(base[case]), int(source[case])} for case in range(len(base))}

    def shared(related):
        return sum(residual[a] * residual[b] for a in kept for b in kept if related(a, b))

    bases = shared(lambda a, b: base[a] == base[b])
    sources = shared(lambda a, b: source[a] == source[b])
    either = shared(lambda a, b: bool(of_case[a] & of_case[b]))
    clusters = min(len({base[a] for a in kept}), len({source[a] for a in kept}))
    variance = max(either, bases, sources)
    drawn_variance = sum(sum(residual[a] for a in kept if text in of_case[a]) ** 2 for text in texts)
    elsewhere = shared(lambda a, b: source[a] == source[b] and len(of_case[a]) == len(of_case[b]) == 2)
    noise = bases**2 / (len({base[a] for a in kept}) - 1) + elsewhere**2 / (len({source[a] for a in kept}) - 1)
    widening = stats.t.ppf((1 + level) / 2, variance**2 / noise) / stats.norm.ppf((1 + level) / 2)
    scale = math.sqrt(variance * clusters / (clusters - 1) / drawn_variance) * widening
    values = []
    for drawn in np.random.default_rng(seed).integers(0, len(texts), (resamples, len(texts)), dtype=np.int32):
        count = {text: int((drawn == place).sum()) for place, text in enumerate(texts)}
        weight = {a: 1 + scale * sum(count[text] - 1 for text in of_case[a]) for a in kept}
        below = sum(weight.values())
        values.append(sum(weight[a] * (int(columns[first][a]) - int(columns[second][a])) for a in kept) / below)
    return np.quantile(values, [(1 - level) / 2, (1 + level) / 2])


@pytest.mark.parametrize(("table", "level"), [(1, 0.95), (3, 0.95), (8, 0.99)])
def test_it_equals_a_plain_loop_over_the_same_draws(table, level):
    """The largest variance is that of examples in either role in table 1, of bases in 3, of sources in 8."""
    base, source, columns = crossed_cases(np.random.default_rng(table))
    bases, sources, sums = by_pair(base, source, columns)
    fast = Resampled(sums, base=bases, source=sources, resamples=150, seed=5)
    found = fast.difference(("one", "case"), ("two", "case"), level=level)
    plain = plain_interval(base, source, columns, "one", "two", resamples=150, seed=5, level=level)
    assert [found.low, found.high] == pytest.approx(plain, abs=1e-8)
    kept = columns["case"]
    assert (found.cases, found.clusters, found.sources) == (
        kept.sum(),
        len(set(base[kept])),
        len(set(source[kept])),
    )
    assert found.texts == min(found.clusters, found.sources)


@pytest.mark.parametrize("table", [1, 2])
def test_it_equals_a_plain_loop_over_whole_texts(table):
    """Texts of three examples each; some pairs have base and source in one text."""
    base, source, columns = crossed_cases(np.random.default_rng(table), bases=60, cases=300)
    bases, sources, sums = by_pair(base, source, columns)
    texts = {"base_text": bases // 3, "source_text": sources // 3}
    assert (texts["base_text"] == texts["source_text"]).any()
    found = Resampled(sums, base=bases, source=sources, **texts, resamples=150, seed=5)
    found = found.difference(("one", "case"), ("two", "case"))
    plain = plain_interval(base // 3, source // 3, columns, "one", "two", resamples=150, seed=5)
    assert [found.low, found.high] == pytest.approx(plain, abs=1e-8)
    kept = columns["case"]
    assert (found.clusters, found.sources) == (len(set(base[kept])), len(set(source[kept])))
    assert found.texts == found.fewest == min(len(set(base[kept] // 3)), len(set(source[kept] // 3)))


def test_sources_in_the_texts_of_their_bases_change_nothing():
    """Then a pair is in one text, as if it had no source, and the degrees of freedom are those of the texts."""
    generator = np.random.default_rng(8)
    columns = {"hit": generator.binomial(4, 0.3, 80).astype(float), "case": np.full(80, 4.0)}
    texts = np.repeat(np.arange(20), 4)
    source = np.arange(80).reshape(20, 4)[:, [1, 2, 3, 0]].ravel()
    alone = Resampled(columns, base=np.arange(80), base_text=texts, seed=3)
    paired = Resampled(columns, base=np.arange(80), source=source, base_text=texts, source_text=texts, seed=3)
    one, two = (found.share("hit", "case") for found in (alone, paired))
    assert (two.low, two.high) == pytest.approx((one.low, one.high), abs=1e-12)
    assert (one.sources, two.sources, two.texts) == (None, 80, 20)


def test_intervals_of_all_hits_and_of_none_are_mirror_images():
    every, none = np.full(80, 4.0), np.zeros(80)
    found = Resampled({"all": every, "none": none, "case": every}, base_text=np.repeat(np.arange(20), 4))
    all_hits, no_hits = found.share("all", "case"), found.share("none", "case")
    assert all_hits.low == pytest.approx(1 - no_hits.high, abs=1e-12) and no_hits.high < 0.25


def test_a_text_that_holds_most_cases_counts_as_few():
    texts = np.concatenate([np.zeros(90, dtype=int), np.arange(1, 31)])
    found = Resampled({"case": np.ones(120), "hit": np.arange(120) % 2.0}, base_text=texts).share("hit", "case")
    assert found.texts == 31 and found.equal_texts == pytest.approx(120**2 / (90**2 + 30))
    even = Resampled({"case": np.full(120, 3.0), "hit": np.arange(120) % 2.0}).share("hit", "case")
    assert even.equal_texts == pytest.approx(even.texts) == 120


def test_copies_of_a_row_in_its_text_tell_nothing_new():
    """Of one text, ten examples with the same cases have the interval of one example with all of them."""
    generator = np.random.default_rng(7)
    hits, cases = generator.binomial(4, 0.3, 40).astype(float), np.full(40, 4.0)
    once = Resampled({"hit": hits * 10, "case": cases * 10}, base=np.arange(40), seed=3)
    copied = {"hit": np.repeat(hits, 10), "case": np.repeat(cases, 10)}
    many = Resampled(copied, base=np.arange(400), base_text=np.repeat(np.arange(40), 10), seed=3)
    one, ten = once.share("hit", "case"), many.share("hit", "case")
    assert (ten.low, ten.high) == pytest.approx((one.low, one.high), abs=1e-12)
    assert (ten.clusters, ten.texts) == (400, 40)
    assert once.ratio("hit", "case").low == pytest.approx(many.ratio("hit", "case").low, abs=1e-12)


def test_without_sources_it_is_the_bootstrap_over_clusters():
    """Up to Student's t, the draws are those of whole clusters with replacement."""
    codes, hits = clustered_shares(np.random.default_rng(3), clusters=40)
    weights = np.random.default_rng(4).integers(0, 2, len(codes))
    fast = resampled(codes, {"hit": hits * weights, "case": weights}, resamples=300, seed=5)
    drawn = np.random.default_rng(5).integers(0, 40, size=(300, 40), dtype=np.int32)
    plain = []
    for clusters in drawn:
        rows = np.concatenate([np.flatnonzero(codes == cluster) for cluster in clusters])
        plain.append((hits * weights)[rows].sum() / weights[rows].sum())
    estimate = fast.ratio("hit", "case")
    widening = math.sqrt(40 / 39) * stats.t.ppf(0.975, 39) / stats.norm.ppf(0.975)
    low, high = np.quantile(plain, [0.025, 0.975])
    assert estimate.sources is None
    assert estimate.low == pytest.approx(estimate.value + widening * (low - estimate.value), abs=0.002)
    assert estimate.high == pytest.approx(estimate.value + widening * (high - estimate.value), abs=0.002)


def test_same_seed_same_interval_and_level_widens_it():
    codes, hits = clustered_shares(np.random.default_rng(0))
    columns = {"hit": hits, "case": np.ones_like(hits)}
    first, again = (resampled(codes, columns).ratio("hit", "case") for _ in range(2))
    other = resampled(codes, columns, seed=1).ratio("hit", "case")
    wide = resampled(codes, columns, level=0.99).ratio("hit", "case")
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)
    assert wide.low < first.low < first.high < wide.high


def test_order_of_pairs_does_not_matter():
    generator = np.random.default_rng(6)
    base, source, sums = by_pair(*crossed_cases(generator))
    order = generator.permutation(len(base))
    ends = [
        Resampled(
            {name: column[chosen] for name, column in sums.items()}, base=base[chosen], source=source[chosen]
        ).lead(("one", "case"), ("two", "case"))
        for chosen in (np.arange(len(base)), order)
    ]
    assert ends[0].low == pytest.approx(ends[1].low, abs=1e-9)
    assert ends[0].high == pytest.approx(ends[1].high, abs=1e-9)


def test_independent_pairs_get_wilsons_interval():
    hits = (np.arange(50) % 3 == 0).astype(float)
    every = np.ones(50)
    found = Resampled({"hit": hits, "case": every}, base=np.arange(50), source=np.arange(50) + 50).share("hit", "case")
    exact = stats.binomtest(int(hits.sum()), 50).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((exact.low, exact.high), abs=1e-12)


def test_clusters_make_shares_as_wide_as_so_many_fewer_cases():
    """Ten copies of each of 50 cases are no more than 49 cases, with the quantile of as many degrees of freedom."""
    hits = np.repeat(np.arange(50) % 3 == 0, 10)
    table = resampled(np.repeat(np.arange(50), 10), {"hit": hits, "case": np.ones(500)})
    found, value, square = table.share("hit", "case"), hits.mean(), stats.t.ppf(0.975, 49) ** 2
    half = math.sqrt(square * (value * (1 - value) * 49 + square / 4)) / (49 + square)
    centre = (value * 49 + square / 2) / (49 + square)
    assert (found.cases, found.clusters) == (500, 50)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half), abs=1e-6)


def test_examples_beyond_the_groups_are_drawn_in_groups_of_the_same_variance(monkeypatch):
    codes, hits = clustered_shares(np.random.default_rng(8), clusters=600)
    columns = {"hit": hits, "case": np.ones_like(hits)}
    single = resampled(codes, columns, resamples=4000).ratio("hit", "case")
    monkeypatch.setattr("iit_toolkit.analysis.statistics.resampling._GROUPS", 100)
    grouped = resampled(codes, columns, resamples=4000).ratio("hit", "case")
    assert grouped.high - grouped.low == pytest.approx(single.high - single.low, rel=0.05)
    assert (grouped.low, grouped.high) != (single.low, single.high)


def test_a_lead_without_any_deciding_case_keeps_an_honest_width():
    every = np.ones(40)
    table = resampled(np.repeat(np.arange(20), 2), {"all": every, "no": 0 * every, "case": every})
    reach = stats.binomtest(0, 20).proportion_ci(method="wilson").high
    same = table.lead(("no", "case"), ("no", "case"))
    assert (same.value, same.low, same.high) == pytest.approx((0.0, -reach, reach))
    full = table.lead(("all", "case"), ("no", "case"))
    assert (full.value, full.low, full.high) == pytest.approx((1.0, 1.0 - reach, 1.0))


def test_blocks_do_not_change_the_result(monkeypatch):
    codes, hits = clustered_shares(np.random.default_rng(1))
    columns = {"hit": hits, "case": np.ones_like(hits)}
    whole = resampled(codes, columns).ratio("hit", "case")
    monkeypatch.setattr("iit_toolkit.analysis.statistics.sums._DRAWS_PER_BLOCK", 60 * 7)
    in_blocks = resampled(codes, columns).ratio("hit", "case")
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
    square = stats.t.ppf(0.975, 19) ** 2
    assert table.share("all", "case").low == pytest.approx(20 / (20 + square))
    assert table.share("all", "case").high == 1.0
    assert table.share("no", "case").high == pytest.approx(square / (20 + square))


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


def amounts(generator, texts, *, tail, missed=0.3):
    """Effects of single cases, and what two students explain of them."""
    whole = generator.lognormal(sigma=tail, size=texts)
    first, second = (whole * (1 - missed * generator.lognormal(sigma=tail, size=texts)) for _ in range(2))
    return {"first": first, "second": second, "whole": whole, "case": np.ones(texts)}


def explained_plainly(columns, *, resamples, seed, level):
    """Value and interval of what `first` explains, if every text has one case: the docstring of the module in numpy."""
    explained, whole = columns["first"], columns["whole"]
    texts, value = len(whole), explained.sum() / whole.sum()
    residual = (explained - value * whole) / whole.sum()
    variance = (residual**2).sum()
    variation = (residual**4).sum() - variance**2 / texts
    freedom = min(texts - 1, 1 + variance**2 / variation)
    quantile = stats.t.ppf((1 + level) / 2, freedom) / stats.norm.ppf((1 + level) / 2)
    scale = math.sqrt(texts / (texts - 1)) * quantile
    values = []
    for drawn in np.random.default_rng(seed).integers(0, texts, (resamples, texts), dtype=np.int32):
        weight = 1 + scale * (np.bincount(drawn, minlength=texts) - 1)
        values.append((weight @ explained) / (weight @ whole))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return value, min(low, value), min(1.0, max(high, value))


@pytest.mark.parametrize(("tail", "level"), [(0.2, 0.95), (0.7, 0.95), (0.7, 0.98)])
def test_what_is_explained_equals_a_plain_computation(tail, level):
    columns = amounts(np.random.default_rng(3), 150, tail=tail)
    found = Resampled(columns, resamples=200, seed=4).explained("first", "whole", "case", level=level)
    plain = explained_plainly(columns, resamples=200, seed=4, level=level)
    assert [found.value, found.low, found.high] == pytest.approx(plain, abs=1e-7)
    assert found.equal_texts == pytest.approx(columns["whole"].sum() ** 2 / (columns["whole"] ** 2).sum())


def test_a_lead_of_what_is_explained_is_what_the_difference_explains():
    """Over the same whole, a lead is one ratio: (first - second) / whole."""
    columns = amounts(np.random.default_rng(5), 80, tail=0.6)
    columns["difference"] = columns["first"] - columns["second"]
    columns["bound"] = columns["difference"] - 2 * columns["whole"]
    table = Resampled(columns, resamples=200, seed=6)
    lead = table.explained_lead(("first", "whole"), ("second", "whole"), "case")
    shifted = table.explained("bound", "whole", "case")  # far below 1, where the upper end is cut
    ends = [shifted.value + 2, shifted.low + 2, shifted.high + 2]
    assert [lead.value, lead.low, lead.high] == pytest.approx(ends, abs=1e-7)


def test_heavy_tails_widen_what_is_explained_and_no_other_ratio():
    columns = amounts(np.random.default_rng(7), 120, tail=1.2)
    table = Resampled(columns, resamples=200)
    explained, ratio = table.explained("first", "whole", "case"), table.ratio("first", "whole")
    assert explained.value == ratio.value
    assert ratio.value - explained.low > 1.3 * (ratio.value - ratio.low)
    light = Resampled(amounts(np.random.default_rng(7), 120, tail=0.1), resamples=200)
    assert light.explained("first", "whole", "case").low == pytest.approx(light.ratio("first", "whole").low, abs=2e-3)


def test_nothing_to_explain_is_undefined():
    columns = {name: np.zeros(30) for name in ("first", "second", "whole", "case")}
    table = Resampled(columns, resamples=50)
    lead = table.explained_lead(("first", "whole"), ("second", "whole"), "case")
    for found in (table.explained("first", "whole", "case"), lead):
        assert (found.value, found.low, found.high, found.cases) == (None, None, None, 0)


def test_exact_copies_reach_as_far_as_the_next_text_may_differ():
    whole = np.random.default_rng(1).lognormal(size=100)
    table = Resampled({"first": whole, "second": whole, "whole": whole, "case": np.ones(100)}, resamples=50)
    square = stats.norm.ppf(0.975) ** 2
    reach = square / (100 + square)
    found = table.explained("first", "whole", "case")
    assert (found.value, found.low, found.high) == pytest.approx((1, 1 - reach, 1))
    lead = table.explained_lead(("first", "whole"), ("second", "whole"), "case")
    assert (lead.value, lead.low, lead.high) == pytest.approx((0, -reach, reach))
    lead = table.explained_lead(("first", "whole"), ("second", "whole"), "case", most=0.25)
    assert (lead.value, lead.low, lead.high) == pytest.approx((0, -reach / 4, reach / 4))


@pytest.mark.parametrize("wrong", [1, 2, 3])
def test_few_wrong_texts_have_about_the_exact_bound(wrong):
    """Decisions: each text has an effect of 2, and a student misses all of some; the count is binomial."""
    texts = 500
    whole = np.full(texts, 2.0)
    explained = np.where(np.arange(texts) < wrong, 0.0, whole)
    found = Resampled({"first": explained, "whole": whole, "case": np.ones(texts)}).explained("first", "whole", "case")
    exact = stats.beta.ppf(0.975, wrong + 1, texts - wrong)
    assert found.value == pytest.approx(1 - wrong / texts)
    assert 0.75 * exact < 1 - found.low < 1.5 * exact
    assert found.value < found.high <= 1


def test_one_text_that_hardly_differs_is_no_certainty():
    whole = np.ones(100)
    explained = whole - np.where(np.arange(100) == 0, 1e-4, 0.0)
    found = Resampled({"first": explained, "whole": whole, "case": whole}).explained("first", "whole", "case")
    none = Resampled({"first": whole, "whole": whole, "case": whole}).explained("first", "whole", "case")
    assert found.low == pytest.approx(none.low, abs=1e-5)


def test_what_is_explained_is_never_above_one():
    """Divergences in single precision may be a little below 0, so that more than all seems to be recovered."""
    whole = np.full(40, 0.5)
    table = Resampled({"first": whole + 1e-7, "whole": whole, "case": np.ones(40)}, resamples=50)
    found = table.explained("first", "whole", "case")
    assert found.value == found.high == 1.0 and found.low < 1.0

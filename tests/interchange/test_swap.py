"""Every position policy: what it may choose, how many, how spread, and that a seed fixes the draw."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from iit_toolkit.alignment.positions import (
    AllPositions,
    FixedPositions,
    MaskedPositions,
    Positions,
    RandomPositions,
    SpanPositions,
)
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Swap, draw_swap, other_rows, other_sources, refuse_empty

POLICIES = (
    SpanPositions(fraction=0.3),
    RandomPositions(fraction=0.3),
    SpanPositions(fraction=1.0),
    MaskedPositions(),
    AllPositions(),
    FixedPositions(base=(2, 4), source=(1, 3)),
)

fewer = settings(max_examples=40, deadline=None, derandomize=True)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scattered(rows: int, length: int, seed: int, share: float = 0.6) -> Tensor:
    """Eligible positions with gaps (special tokens in the middle), at least one per row."""
    eligible = torch.rand(rows, length, generator=generator(seed)) < share
    eligible[:, length // 2] = True
    return eligible


def draw(policy: Positions, base: Tensor, source: Tensor, seed: int = 0) -> Swap:
    rows = other_rows(len(base), generator(seed))
    return draw_swap(policy, rows, base, source, generator(seed), predicted=predicted(base))


def predicted(base: Tensor) -> Tensor:
    """Every other position, and the one that is always eligible."""
    marked = torch.arange(base.shape[1]).expand(base.shape) % 2 == 0
    marked = marked.clone()
    marked[:, base.shape[1] // 2] = True
    return marked


def pairs(swap: Swap, row: int) -> list[tuple[int, int]]:
    """(base position, source position) of every swap of a row."""
    chosen = swap.mask[row].nonzero().flatten().tolist()
    return [(position, int(swap.source_position[row, position])) for position in chosen]


def ranks(eligible: Tensor, positions: list[int]) -> list[int]:
    """Where positions come among a row's eligible ones."""
    order = eligible.nonzero().flatten().tolist()
    return [order.index(position) for position in positions]


shapes = st.tuples(st.integers(2, 5), st.integers(5, 14), st.integers(5, 14), st.integers(0, 10**6))


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind)
@fewer
@given(shape=shapes)
def test_only_eligible_positions_and_each_source_position_once(policy: Positions, shape: tuple[int, ...]) -> None:
    rows, base_length, source_length, seed = shape
    base, source = scattered(rows, base_length, seed), scattered(rows, source_length, seed + 1)
    try:
        swap = draw(policy, base, source, seed)
    except UserError:
        assert policy.kind == "fixed", "only fixed positions can miss every eligible one"
        return
    assert swap.mask.shape == swap.source_position.shape == base.shape
    assert not (swap.mask & ~base).any()
    for row in range(rows):
        taken = [source_position for _, source_position in pairs(swap, row)]
        assert all(source[swap.source[row], position] for position in taken)
        assert len(set(taken)) == len(taken)


@pytest.mark.parametrize("kind", [SpanPositions, RandomPositions])
@fewer
@given(shape=shapes, percent=st.integers(1, 100))
def test_counts_are_the_official_ones(kind: type, shape: tuple[int, ...], percent: int) -> None:
    rows, base_length, source_length, seed = shape
    base, source = scattered(rows, base_length, seed), scattered(rows, source_length, seed + 1)
    swap = draw(kind(fraction=percent / 100), base, source, seed)
    for row in range(rows):
        shorter = min(int(base[row].sum()), int(source[swap.source[row]].sum()))
        assert swap.mask[row].sum() == max(1, int(shorter * (percent / 100)))


def test_counts_are_rounded_as_python_rounds_them() -> None:
    """`int(100 * 0.29)` is 28; in single precision it would be 29."""
    eligible = torch.ones(2, 100, dtype=torch.bool)
    assert draw(SpanPositions(fraction=0.29), eligible, eligible).mask.sum(1).tolist() == [28, 28]


@fewer
@given(shape=shapes)
def test_spans_are_contiguous_among_eligible_positions(shape: tuple[int, ...]) -> None:
    rows, base_length, source_length, seed = shape
    base, source = scattered(rows, base_length, seed), scattered(rows, source_length, seed + 1)
    swap = draw(SpanPositions(fraction=0.5), base, source, seed)
    for row in range(rows):
        base_positions, source_positions = zip(*pairs(swap, row), strict=True)
        for found in (
            ranks(base[row], list(base_positions)),
            ranks(source[swap.source[row]], list(source_positions)),
        ):
            assert found == list(range(found[0], found[0] + len(found)))


def test_spans_start_anywhere_and_independently_in_base_and_source() -> None:
    """Ten eligible positions and spans of three: eight starts on each side, 64 pairs, equally frequent."""
    eligible = torch.ones(6400, 12, dtype=torch.bool)
    eligible[:, [0, 11]] = False
    swap = draw(SpanPositions(fraction=0.3), eligible, eligible)
    starts = swap.mask.long().argmax(1)
    source_starts = swap.source_position.gather(1, starts[:, None]).flatten()
    counts = torch.bincount((starts - 1) * 8 + source_starts - 1, minlength=64)
    assert len(counts) == 64
    assert counts.min() > 55 and counts.max() < 150, "100 expected, standard deviation 10"


def test_random_positions_are_about_uniform_and_independent() -> None:
    eligible = torch.ones(4000, 12, dtype=torch.bool)
    eligible[:, [0, 11]] = False
    swap = draw(RandomPositions(fraction=0.3), eligible, eligible)
    share = swap.mask[:, 1:11].double().mean(0)
    assert (share - 0.3).abs().max() < 0.04
    taken = torch.bincount(swap.source_position[swap.mask], minlength=12)[1:11] / 12000
    assert (taken - 0.1).abs().max() < 0.015
    same = (swap.source_position == torch.arange(12))[swap.mask].double().mean()
    assert abs(float(same) - 0.1) < 0.02, "base and source position agree by chance only"


def test_masked_swaps_all_predicted_positions_and_no_other() -> None:
    base = scattered(4, 14, 1)
    full = torch.ones_like(base)
    swap = draw(MaskedPositions(), base, full)
    assert torch.equal(swap.mask, base & predicted(base))


def test_masked_without_predicted_positions_is_refused() -> None:
    eligible = torch.ones(2, 6, dtype=torch.bool)
    with pytest.raises(UserError, match="masked_lm"):
        draw_swap(MaskedPositions(), torch.tensor([1, 0]), eligible, eligible, generator())


def test_all_swaps_what_both_have_in_order() -> None:
    base = torch.tensor([[0, 1, 1, 0, 1, 1], [0, 1, 1, 0, 0, 0]], dtype=torch.bool)
    swap = draw_swap(AllPositions(), torch.tensor([1, 0]), base, base, generator())
    assert pairs(swap, 0) == [(1, 1), (2, 2)]
    assert pairs(swap, 1) == [(1, 1), (2, 2)]
    itself = draw_swap(AllPositions(), torch.tensor([0, 1]), base, base, generator())
    assert pairs(itself, 0) == [(1, 1), (2, 2), (4, 4), (5, 5)]


def test_fixed_positions_pair_up_as_listed_and_leave_out_padding() -> None:
    eligible = torch.ones(2, 6, dtype=torch.bool)
    eligible[0, 4] = False
    policy = FixedPositions(base=(5, 2), source=(1, 4))
    swap = draw_swap(policy, torch.tensor([1, 0]), eligible, eligible, generator())
    assert pairs(swap, 0) == [(2, 4), (5, 1)]
    assert pairs(swap, 1) == [(5, 1)], "position 4 of its source is padding"
    same = draw_swap(FixedPositions(base=(3,)), torch.tensor([1, 0]), eligible, eligible, generator())
    assert pairs(same, 0) == pairs(same, 1) == [(3, 3)]


def test_fixed_positions_beyond_the_batch_are_left_out_as_they_are_in_a_longer_batch() -> None:
    base, source = (torch.arange(length).expand(2, length) < 6 for length in (9, 8))
    policy = FixedPositions(base=(6, 2, 1, 8), source=(1, 3, 7, 8))
    longer = draw_swap(policy, torch.tensor([1, 0]), base, source, generator())
    cut = draw_swap(policy, torch.tensor([1, 0]), base[:, :6], source[:, :6], generator())
    assert [pairs(swap, row) for swap in (longer, cut) for row in (0, 1)] == [[(2, 3)]] * 4
    assert cut.mask.shape == cut.source_position.shape == (2, 6)


def test_fixed_positions_of_which_none_is_in_the_batch_are_refused() -> None:
    eligible = torch.ones(2, 6, dtype=torch.bool)
    policy = FixedPositions(base=(6,))
    swap = draw_swap(policy, torch.tensor([1, 0]), eligible, eligible, generator())
    assert not swap.mask.any()
    with pytest.raises(UserError, match="fixed positions begin at 6, but the batch has 6 positions"):
        refuse_empty(swap, policy)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind)
def test_nothing_to_swap_is_refused(policy: Positions) -> None:
    nothing = torch.zeros(3, 6, dtype=torch.bool)
    for swap in (draw(policy, nothing, torch.ones_like(nothing)), draw(policy, torch.ones_like(nothing), nothing)):
        assert not swap.mask.any() and swap.mask.shape == swap.source_position.shape == nothing.shape
        with pytest.raises(UserError, match="no position can be swapped"):
            refuse_empty(swap, policy)


@pytest.mark.parametrize("policy", POLICIES[:3], ids=lambda policy: policy.kind)
def test_a_seed_fixes_the_draw(policy: Positions) -> None:
    eligible = scattered(8, 20, 0)
    one, two, other = (draw(policy, eligible, eligible, seed) for seed in (3, 3, 4))
    assert torch.equal(one.source, two.source)
    assert torch.equal(one.mask, two.mask) and torch.equal(one.source_position, two.source_position)
    assert not (torch.equal(one.mask, other.mask) and torch.equal(one.source_position, other.source_position))


def test_global_randomness_is_left_alone() -> None:
    eligible = scattered(4, 9, 0)
    before = torch.get_rng_state()
    draw(RandomPositions(), eligible, eligible)
    assert torch.equal(before, torch.get_rng_state())


@fewer
@given(count=st.integers(2, 40), seed=st.integers(0, 10**6))
def test_no_row_is_its_own_source_and_every_row_is_one(count: int, seed: int) -> None:
    source = other_rows(count, generator(seed))
    assert not (source == torch.arange(count)).any()
    assert sorted(source.tolist()) == list(range(count))


def test_every_other_row_is_equally_likely_as_source() -> None:
    draws = torch.stack([other_rows(5, generator(seed)) for seed in range(2000)])
    counts = torch.bincount(draws[:, 0], minlength=5)
    assert counts[0] == 0
    assert (counts[1:] - 500).abs().max() < 100


@fewer
@given(shape=shapes)
def test_take_moves_what_the_loop_moves(shape: tuple[int, ...]) -> None:
    rows, base_length, source_length, seed = shape
    base, source = scattered(rows, base_length, seed), scattered(rows, source_length, seed + 1)
    swap = draw(RandomPositions(fraction=0.5), base, source, seed)
    activation = torch.randn(rows, source_length, 3, generator=generator(seed))
    moved = swap.take(activation)
    for row in range(rows):
        for base_position, source_position in pairs(swap, row):
            assert torch.equal(moved[row, base_position], activation[swap.source[row], source_position])


@fewer
@given(shape=shapes)
def test_another_source_is_read_at_the_same_places_among_eligible_ones(shape: tuple[int, ...]) -> None:
    rows, base_length, source_length, seed = shape
    base, source = scattered(rows, base_length, seed), scattered(rows, source_length, seed + 1)
    swap = draw(RandomPositions(fraction=0.4), base, source, seed)
    sources = torch.randint(rows, (rows,), generator=generator(seed))
    other = other_sources(swap, sources, source)
    assert torch.equal(other.source, sources) and torch.equal(other.mask, swap.mask)
    for row in range(rows):
        eligible = source[other.source[row]].nonzero().flatten().tolist()
        was = ranks(source[swap.source[row]], [taken for _, taken in pairs(swap, row)])
        assert [taken for _, taken in pairs(other, row)] == [eligible[rank % len(eligible)] for rank in was]
    assert not other.source_position[~other.mask].any()

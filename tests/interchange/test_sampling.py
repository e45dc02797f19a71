"""Training, verification and certification draw alike: what one of them may not swap, none of them swaps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.verification.cases import draw_pairs
from iit_toolkit.data.collate import ClassificationCollator
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Sampler, Swap
from iit_toolkit.interchange.sampling import SourceRows, Variables, pair_generator, step_generator
from tests.downstream.tiny import tiny_tokenizer

Collator = Callable[[Sequence[Any]], dict[str, Tensor]]
POLICIES = [{"kind": "all"}, {"kind": "span", "fraction": 0.6}, {"kind": "random", "fraction": 0.6}]
ROWS = [
    {"input_ids": [2, *range(5, 5 + length), 3], "example_id": number, "label": 0}
    for number, length in enumerate((9, 4, 7, 3, 8, 5))
]
ONE = Variables(["v"], torch.ones(1), torch.ones(1))
COLLATOR: Collator = ClassificationCollator(tiny_tokenizer())


def blind_to_padding(rows: Sequence[Any]) -> dict[str, Tensor]:
    """A collator of a user's own, whose special_tokens_mask is false at padding."""
    batch = COLLATOR(rows)
    return {**batch, "special_tokens_mask": batch["special_tokens_mask"] & batch["attention_mask"].bool()}


def without_special_tokens(rows: Sequence[Any]) -> dict[str, Tensor]:
    return {name: value for name, value in COLLATOR(rows).items() if name != "special_tokens_mask"}


def alignment(positions: dict[str, Any], sources: str = "in_batch") -> Alignment:
    site = {"layer": 0, "component": "block_output"}
    variable = {"name": "v", "teacher": [site], "student": [site]}
    document = {"name": "x", "variables": [variable], "positions": positions, "sources": {"kind": sources}}
    return Alignment.from_dict(document)


def sampler(collate: Collator, positions: dict[str, Any], sources: str = "in_batch") -> Sampler:
    declared = alignment(positions, sources)
    rows = SourceRows(len(ROWS), lambda numbers: collate([ROWS[number] for number in numbers]), seed=3)
    return Sampler(declared.positions, declared.sources, "sequence_classification", rows)


def verified(collate: Collator, draw: Sampler) -> Any:
    settings: dict[str, Any] = {"task": draw.task, "pairs": 6, "batch_size": 6, "seed": 0, "what": "test"}
    return draw_pairs(ROWS, collate, draw.positions, draw.sources, **settings)


def swaps(collate: Collator, positions: dict[str, Any], sources: str) -> list[tuple[Tensor, Swap]]:
    """What is padding and what is swapped in a batch of a training, of a certification and of a verification."""
    draw, batch = sampler(collate, positions, sources), collate(ROWS)
    [drawn] = draw.interchanges(batch, ONE, 1, step_generator(0, 0, 0, 0))
    padding = batch["attention_mask"] == 0
    found = [(padding, drawn.swap), (padding, draw.within(batch, torch.Generator().manual_seed(0))[1])]
    return found + [(pairs.base["attention_mask"] == 0, pairs.swap) for pairs in verified(collate, draw)]


@pytest.mark.parametrize("sources", ["in_batch", "dataset", "fixed"])
@pytest.mark.parametrize("positions", POLICIES, ids=lambda one: one["kind"])
def test_a_collator_that_does_not_mark_padding_swaps_alike_everywhere(positions: dict[str, Any], sources: str) -> None:
    expected, found = (swaps(collate, positions, sources) for collate in (COLLATOR, blind_to_padding))
    assert len(expected) == len(found) == 3
    for (padding, swap), (_, other) in zip(expected, found, strict=True):
        assert torch.equal(swap.mask, other.mask) and torch.equal(swap.source, other.source)
        assert torch.equal(swap.source_position[swap.mask], other.source_position[other.mask])
        assert swap.mask.any(1).all() and not (other.mask & padding).any()


def test_a_batch_that_does_not_say_what_is_special_is_refused_everywhere() -> None:
    draw, batch = sampler(without_special_tokens, {"kind": "all"}), without_special_tokens(ROWS)
    draws: list[Callable[[], Any]] = [
        lambda: draw.interchanges(batch, ONE, 1, step_generator(0, 0, 0, 0)),
        lambda: draw.within(batch, torch.Generator()),
        lambda: verified(without_special_tokens, draw),
    ]
    for drawing in draws:
        with pytest.raises(UserError, match="batches lack special_tokens_mask, so special tokens would be swapped"):
            drawing()


def test_variables_are_drawn_as_often_as_their_probabilities_say() -> None:
    variables = Variables(["a", "b", "c"], torch.tensor([0.0, 0.25, 0.75]), torch.tensor([0.0, 2.0, 0.5]))
    drawn = sampler(COLLATOR, {"kind": "all"}).interchanges(COLLATOR(ROWS), variables, 2000, step_generator(0, 0, 0, 0))
    names = [one.variable for one in drawn]
    assert names.count("a") == 0 and 0.2 < names.count("b") / 2000 < 0.3
    assert {(one.variable, one.weight) for one in drawn} == {("b", 2.0), ("c", 0.5)}


def test_generators_follow_from_every_part_of_their_keys() -> None:
    keys = [(0, 1, 2, 3), (1, 0, 2, 3), (0, 2, 1, 3), (0, 1, 3, 2), (4, 1, 2, 3), (0, 1, 2, 4)]
    seeds = [step_generator(*key).initial_seed() for key in keys]
    assert len(set(seeds)) == len(keys) and seeds[0] == step_generator(*keys[0]).initial_seed()
    pairs = [pair_generator(*key).initial_seed() for key in ((0, 1, 2), (0, 2, 1), (1, 1, 2), (0, 12, 0))]
    assert len(set(pairs)) == len(pairs)

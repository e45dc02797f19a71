"""Circuits that are set by hand compute what they are said to, and the search finds their blocks."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch


@pytest.fixture
def handset(gallery_module: Callable[[str], ModuleType]) -> Any:
    module: Any = gallery_module("handset")
    return module


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, 1])
def test_every_step_computes_its_feature_in_its_block(handset: Any, seed: int) -> None:
    places, batch = handset.places(seed), handset.collate(handset.rows(seed))
    model = handset.circuit(handset.PAIRS, places, handset.BLOCKS, seed)
    found = model(**{name: batch[name] for name in ("input_ids", "attention_mask")}, output_hidden_states=True)
    order = torch.randperm(handset.WIDTH, generator=torch.Generator().manual_seed(seed))

    def feature(name: str, block: int, place: int) -> torch.Tensor:
        number = handset.FEATURES.index(name)
        stream = found.hidden_states[block + 1][:, place]
        assert torch.allclose(stream[:, order[2 * number]], -stream[:, order[2 * number + 1]], atol=1e-4)
        return stream[:, order[2 * number]]

    first, second, third = places
    for row, (a, b, c, d, _) in enumerate(batch["input_ids"].tolist()):
        left, right = a % 2 == b % 2, c % 2 == d % 2
        assert bool(batch["labels"][row]) == (left == right) == bool(found.logits[row].argmax())
        assert bool(feature("alike", first, 1)[row] > 0) == left and bool(feature("alike", first, 3)[row] > 0) == right
        assert bool(feature("left", second, 4)[row] > 0) == left
        assert bool(feature("same", third, 4)[row] > 0) == (left == right)
    for name, block, place in (("alike", first, 1), ("left", second, 4), ("right", third, 4), ("same", third, 4)):
        assert float(feature(name, block, place).abs().min()) > 0.1
        assert block == 0 or float(feature(name, block - 1, place).abs().max()) < 1e-4


def test_both_circuits_answer_alike(handset: Any) -> None:
    batch = handset.collate(handset.rows(0))
    for name, student in handset.students(0).items():
        answers = student(batch["input_ids"]).logits.argmax(1)
        assert torch.equal(answers, batch["labels"]) == (name != "untrained")


def test_the_search_finds_the_planted_blocks_and_other_pairs_confirm_them(handset: Any) -> None:
    found = handset.searched(handset.students(0)["planted"], 0)
    assert found["found"] == found["planted"] == handset.places(0)
    assert (found["label"], found["accuracy"]) == ("SUPPORTED", 1.0)
    assert found["effect_r2"] == pytest.approx(1.0, abs=1e-3)


def test_another_circuit_with_the_same_answers_is_not_confirmed(handset: Any) -> None:
    found = handset.searched(handset.students(0)["other-circuit"], 0)
    assert found["accuracy"] == 1.0 and found["effect_r2"] < 0.5
    assert found["label"] != "SUPPORTED"

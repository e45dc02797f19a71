"""Swaps of a subspace are those of a plain computation, forwards and backwards, and leave the models alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from iit_toolkit.interchange import InterchangeModel, SubspaceInterchange, Swap
from tests.cases import ragged_swap, resolved
from tests.families import FAMILIES, HIDDEN, make_batch, make_model
from tests.twin import capturing, hook, run

SITE = {"layer": 1, "component": "block_output"}
RANK = 5


def swapped(model: Any, subspace: SubspaceInterchange, inputs: dict[str, Tensor], swap: Swap) -> tuple[Tensor, Tensor]:
    """Logits of base and counterfactual run, by the engine."""
    site = {**SITE, "subspace": {"rank": RANK}}
    engine = InterchangeModel(model, resolved(model, [site]), subspaces={"variable/0": subspace})
    with torch.no_grad():
        base = engine.base_run(inputs, ["variable"])
    return engine.logits(base), engine.logits(engine.counterfactual_run(base, "variable", swap))


def plain(model: Any, family: str, basis: Tensor, inputs: dict[str, Tensor], swap: Swap) -> Tensor:
    """Logits of the counterfactual run, from the input, position by position."""
    place = FAMILIES[family].module(SITE)
    with torch.no_grad(), capturing(model, [place]) as captured:
        model(**inputs)
    [source] = captured

    def overwrite(base: Tensor) -> Tensor:
        rows = []
        for row in range(base.shape[0]):
            for position in range(base.shape[1]):
                vector = base[row, position]
                if swap.mask[row, position]:
                    taken = source[int(swap.source[row]), int(swap.source_position[row, position])]
                    for column in range(basis.shape[1]):
                        direction = basis[:, column]
                        vector = vector + direction * ((taken - base[row, position]) @ direction)
                rows.append(vector)
        return torch.stack(rows).view(base.shape)

    handle = hook(model.get_submodule(place[0]), place[1], overwrite)
    logits, _ = run(model, inputs)
    handle.remove()
    return logits


@pytest.mark.parametrize("family", ["bert", "distilbert", "gpt2", "llama"])
def test_only_the_subspace_is_swapped(family: str) -> None:
    model = make_model(family, torch.float64).eval().requires_grad_(False)
    inputs, eligible = make_batch(family, torch.float64)
    swap = ragged_swap(eligible)
    subspace = SubspaceInterchange(HIDDEN, RANK, seed=3).double()
    base, ours = swapped(model, subspace, inputs, swap)
    theirs = plain(model, family, subspace.basis(), inputs, swap)
    assert float((ours - theirs).detach().abs().max()) < 1e-10 < 1e-3 < float((ours - base).detach().abs().max())


def test_gradients_reach_the_rotation_as_in_a_plain_computation() -> None:
    model = make_model("bert", torch.float64).eval().requires_grad_(False)
    inputs, eligible = make_batch("bert", torch.float64)
    swap = ragged_swap(eligible)
    subspace = SubspaceInterchange(HIDDEN, RANK, seed=3).double()
    [parameter] = subspace.parameters()
    rotation: Any = subspace.rotate_layer
    gradients = []
    for logits in (swapped(model, subspace, inputs, swap)[1], plain(model, "bert", rotation.weight, inputs, swap)):
        parameter.grad = None
        logits.log_softmax(-1)[:, 7].sum().backward()
        assert parameter.grad is not None
        gradients.append(parameter.grad.clone())
    assert torch.allclose(*gradients, rtol=1e-8, atol=1e-10)
    assert float(gradients[0].abs().max()) > 1e-3


def test_a_basis_is_orthonormal_and_stays_so_while_it_is_learned() -> None:
    subspace = SubspaceInterchange(HIDDEN, RANK, seed=0)
    optimizer = torch.optim.Adam(subspace.parameters(), 0.1)
    start = subspace.basis()
    for _ in range(20):
        rotation: Any = subspace.rotate_layer
        (rotation.weight[0].sum() ** 2).backward()
        optimizer.step()
        optimizer.zero_grad()
    for basis in (start, subspace.basis()):
        assert torch.allclose(basis.T @ basis, torch.eye(RANK), atol=1e-5)
    assert float((start - subspace.basis()).abs().max()) > 0.1


def test_a_start_follows_from_its_seed_alone_and_draws_nothing_from_the_global_generator() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first, second, other = (SubspaceInterchange(HIDDEN, RANK, seed).basis() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(first, second) and not torch.allclose(first, other, atol=0.1)


def test_swapping_with_oneself_changes_nothing() -> None:
    model = make_model("llama").eval()
    inputs, eligible = make_batch("llama")
    rows, length = eligible.shape
    own = Swap(torch.arange(rows), eligible, torch.arange(length).expand(rows, length))
    with torch.no_grad():
        base, ours = swapped(model, SubspaceInterchange(HIDDEN, RANK, seed=0), inputs, own)
    assert torch.equal(base, ours)

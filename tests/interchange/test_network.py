"""Networks of any kind are swapped as hand-written forward passes swap them, with the same gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from iit_toolkit.alignment import Alignment, Site, resolve
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Swap
from iit_toolkit.interchange.network import NetworkSide
from iit_toolkit.interchange.sides import side_of

ROWS = 6
FIRST, SECOND = Site.module("1.output", (1, 4)), Site.module("1.output", (5, 7))


def mlp(classes: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, classes)).double()


def inputs(seed: int = 0, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(ROWS, *(shape or (5,)), generator=generator, dtype=torch.float64)


def swap(positions: int = 1) -> Swap:
    """Every row but one takes from the next; of several positions, the first two from the last two."""
    mask = torch.zeros(ROWS, positions, dtype=torch.bool)
    mask[:-1, :2] = True
    taken = torch.zeros(ROWS, positions, dtype=torch.long)
    taken[:-1, :2] = torch.arange(positions)[-2:]
    return Swap(torch.arange(ROWS).roll(-1), mask, taken)


def side(network: nn.Module, *sites: Site) -> NetworkSide:
    alignment = Alignment.pairs(v=(0, list(sites)))
    return NetworkSide(network, resolve(alignment, network, "student"))


def plain(network: nn.Sequential, base: Tensor, source: Tensor, where: int, neurons: list[int]) -> Tensor:
    """One row at a time, one neuron at a time, after layer `where` (before it, if it is -1 - layer)."""
    rows: list[Tensor] = []
    for row in range(ROWS):
        value, other = base[row], source[(row + 1) % ROWS]
        for place, layer in enumerate(network):
            if where == -1 - place:
                value = mixed(value, other, neurons, row)
            value, other = layer(value), layer(other)
            if where == place:
                value = mixed(value, other, neurons, row)
        rows.append(value)
    return torch.stack(rows)


def mixed(value: Tensor, other: Tensor, neurons: list[int], row: int) -> Tensor:
    return torch.stack(
        [other[place] if place in neurons and row < ROWS - 1 else value[place] for place in range(len(value))]
    )


@pytest.mark.parametrize("own_source", [False, True])
@pytest.mark.parametrize(
    ("sites", "where", "neurons"),
    [
        ([FIRST], 1, [1, 2, 3]),
        ([FIRST, SECOND], 1, [1, 2, 3, 5, 6]),
        ([Site.module("2.input", (0, 2))], -3, [0, 1]),
        ([Site.module("2.output")], 2, list(range(8))),
        ([Site.module("0.input", (4, 5))], -1, [4]),
    ],
)
def test_swaps_equal_a_plain_loop_with_its_gradients(
    sites: list[Site], where: int, neurons: list[int], own_source: bool
) -> None:
    network, base, source = mlp(), inputs(0), inputs(1)
    one = side(network, *sites)
    base_run = one.base_run({"inputs": base}, ["v"])
    source_run = one.source_run({"inputs": source}, ["v"]) if own_source else None
    found = one.logits(one.counterfactual_run(base_run, "v", swap(), source=source_run))
    expected = plain(network, base, source if own_source else base, where, neurons)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(one.logits(base_run), network(base), rtol=0, atol=0)
    assert not torch.allclose(found, network(base))
    weights = torch.arange(1.0, found.numel() + 1).view_as(found).double()
    gradients = [
        torch.autograd.grad((logits * weights).sum(), list(network.parameters())) for logits in (found, expected)
    ]
    for mine, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)


def test_nothing_stays_on_the_network() -> None:
    network = mlp()
    one = side(network, FIRST)
    one.counterfactual_run(one.base_run({"inputs": inputs()}, ["v"]), "v", swap())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_hidden_states_are_what_the_last_module_reads() -> None:
    network = mlp()
    run = side(network, FIRST).base_run({"inputs": inputs()}, ["v"])
    assert torch.equal(run.hidden[:, 0], network[:4](inputs()))

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = mlp()

        def forward(self, value: Tensor) -> Tensor:
            return self.inner(value) * 2

    run = side(Scaled(), Site.module("inner.1.output")).base_run({"inputs": inputs()}, ["v"])
    assert run.logits is not None and torch.equal(run.hidden[:, 0], run.logits)


class Recurrent(nn.Module):
    """An LSTM over tokens that answers from its last state."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(9, 4)
        self.lstm = nn.LSTM(4, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.lstm(self.embed(ids))[0][:, -1])


def test_tokens_keep_their_positions() -> None:
    network = Recurrent().double()
    ids = torch.randint(9, (ROWS, 7), generator=torch.Generator().manual_seed(0))
    one = side(network, Site.module("embed.output"))
    found = one.logits(one.counterfactual_run(one.base_run({"input_ids": ids}, ["v"]), "v", swap(7)))
    embedded = network.embed(ids)
    changed = embedded.clone()
    changed[:-1, :2] = embedded.roll(-1, 0)[:-1, -2:]
    torch.testing.assert_close(found, network.head(network.lstm(changed)[0][:, -1]), rtol=0, atol=1e-12)


class Twice(nn.Module):
    """Runs one activation function two times."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.act = nn.Linear(5, 5), nn.Linear(5, 2), nn.ReLU()

    def forward(self, value: Tensor) -> Tensor:
        return self.two(self.act(self.act(self.one(value))))


def run(network: nn.Module, *sites: Site, **batch: Tensor) -> Any:
    one = side(network.double(), *sites)
    base = one.base_run(one.reads(batch or {"inputs": inputs()}), ["v"])
    return one.counterfactual_run(base, "v", swap())


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: run(Twice(), Site.module("act.output")), "site act.output ran 2 times in"),
        (lambda: run(mlp(), Site.module("1.output", (7, 9))), r"neurons \[7, 9\] reach beyond its 8 neurons"),
        (lambda: run(mlp(), Site.module("7.output")), "module path '7.output': Sequential has no '7'; it has 0, 1, 2"),
        (lambda: run(mlp(), Site.block(0)), "Sequential is no model of transformers, so it has no blocks"),
        (
            lambda: run(mlp()[:1], Site.module("0.output"), inputs=inputs(0, 2, 5)),
            r"gives \[6, 2, 8\] for 6 rows; give",
        ),
        (lambda: run(nn.LSTM(5, 2), Site.module("out.output")), "has no 'out'"),
        (
            lambda: run(mlp(), FIRST, inputs=inputs(0, 4)),
            r"Sequential cannot be run on inputs of shape \[6, 4\] and type float64 \(RuntimeError: mat1",
        ),
        (lambda: run(mlp(), FIRST, vectors=inputs()), "rows need one of inputs, input_ids, pixel_values"),
        (
            lambda: run(Recurrent(), Site.module("head.output"), input_ids=torch.zeros(ROWS, 7).long()),
            r"site head.output holds a tensor of shape \[6, 2\] for 6 rows and 7 tokens",
        ),
        (
            lambda: run(mlp(), Site.module("4.input").model_copy(update={"read": Site.module("0.input")})),
            r"holds \(rows, positions, neurons\) \[6, 1, 8\], but 0.input, which it takes from, holds \[6, 1, 5\]",
        ),
        (
            lambda: side_of(mlp(), Alignment.pairs(v=("left", FIRST)), "teacher"),
            "variable 'v', teacher: 'left' is a variable of a program, but there is a Sequential; give its sites",
        ),
    ],
)
def test_what_is_wrong_is_one_line(attempt: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        attempt()
    assert "\n" not in str(caught.value)

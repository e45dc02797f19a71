"""A search in a network: which outputs of modules it tries, what a cell holds, and which sites it chooses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.statistics.layer_matrix import Region
from iit_toolkit.analysis.statistics.site_matrix import SearchedSite, SiteCell, SiteMatrix
from iit_toolkit.analysis.verification.site_search import (
    candidate_sites,
    choose_sites,
    search_sites,
    searched_alignment,
)
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.errors import UserError
from tests.programs import WIDTH, equality, equality_rows

ALIGNMENT = Alignment.from_dict(
    {
        "name": "asked",
        "variables": [
            {"name": name, "teacher": [{"variable": name}], "student": [{"component": "any.output"}]}
            for name in ("left", "right")
        ],
        "positions": {"kind": "all"},
        "sources": {"kind": "paired"},
    }
)


def rows(count: int = 80) -> TensorRows:
    single = TensorRows(equality_rows(count))
    return single.pairs(torch.arange(count), torch.arange(count).roll(7))


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(4 * WIDTH, 6), nn.Tanh(), nn.Linear(6, 2)).double()
    for weight in made.parameters():
        nn.init.normal_(weight)
    return made


class _Doubled(nn.Module):
    """A network that reads single precision, as rows are, in double precision."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: Tensor) -> Tensor:
        return self.inner(inputs.double())


def by_hooks(model: nn.Module, module: nn.Module, given: TensorRows, neurons: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Probabilities (N, C) before and after the swap of neurons, one row at a time, in float64."""
    before, after = list[Tensor](), list[Tensor]()
    for base, source in zip(given.columns["inputs"], given.columns["source_inputs"], strict=True):
        noted: list[Tensor] = []

        def note(_module: nn.Module, _args: object, output: Tensor, noted: list[Tensor] = noted) -> None:
            noted.append(output.clone())

        handle = module.register_forward_hook(note)
        model(source[None])
        before.append(model(base[None]).softmax(-1)[0])
        handle.remove()

        def put(_module: nn.Module, _args: object, output: Tensor, noted: list[Tensor] = noted) -> Tensor:
            changed = output.clone()
            for neuron in neurons:
                changed[0, neuron] = noted[0][0, neuron]
            return changed

        handle = module.register_forward_hook(put)
        after.append(model(base[None]).softmax(-1)[0])
        handle.remove()
    return torch.stack(before), torch.stack(after)


@torch.no_grad()
def test_a_cell_is_a_plain_loop_of_hooks_in_double_precision() -> None:
    inner, given, program = network(), rows(), equality()
    model = _Doubled(inner)
    sites = [SearchedSite("inner.1.output", (2, 4), 6), SearchedSite("inner.0.output", None, 6)]
    matrix = search_sites(program, model, ALIGNMENT, sites, given, batch_size=16, minimum_bases=1)
    values, sources = (program.run({"inputs": given.columns[name]}) for name in ("inputs", "source_inputs"))
    for number, variable in enumerate(("left", "right")):
        swapped = program.run({"inputs": given.columns["inputs"]}, {variable: sources[variable]})
        teacher = [torch.eye(2).double()[program.answers(one)] for one in (values, swapped)]
        effect = teacher[1] - teacher[0]
        for place, (module, neurons) in enumerate([(inner[1], [2, 3]), (inner[0], range(6))]):
            before, after = by_hooks(model, module, given, neurons)
            error = (after - before - effect).square().sum()
            cell = matrix.of_variable(number)[place]
            assert cell.figures.score == pytest.approx(float(1 - error / effect.square().sum()), abs=1e-5)
            assert cell.figures.counted == int((effect.abs().sum(1) > 0).sum()) > 10
            assert cell.moved == int(((after - before).square().sum(1) > 1e-8).sum()) > 10
            assert (cell.variable, cell.site) == (number, place)
    scores = [cell.figures.score for cell in matrix.cells]
    assert len({round(float(score or 0), 3) for score in scores}) == 4  # or the twin could not tell them apart


class _Everything(nn.Module):
    """Modules of every kind that a search must tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.first = nn.Sequential(nn.Linear(16, 8), nn.ReLU())
        self.dropout = nn.Dropout(0.5)
        self.written = nn.Linear(8, 8)
        self.twice = nn.Linear(8, 8)
        self.never = nn.Linear(8, 8)
        self.recurrent = nn.LSTM(8, 8, batch_first=True)
        self.turned = _Turned()
        self.chosen = _Chosen()
        self.last = nn.Linear(8, 2)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.dropout(self.first(self.flatten(inputs)))
        written = self.written(hidden)
        written += hidden
        hidden = self.twice(self.twice(written))
        hidden = self.recurrent(hidden[:, None])[0][:, 0]
        self.chosen(self.turned(hidden))
        return self.last(hidden)


class _Turned(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.T


class _Chosen(nn.Module):
    def forward(self, hidden: Tensor) -> Tensor:
        return hidden.T.argmax(1, keepdim=True)


def test_candidates_are_outputs_that_can_be_swapped() -> None:
    found = candidate_sites(_Everything(), rows(), parts=(1,))
    assert [site.component for site in found] == ["first.0.output", "first.1.output", "written.output", "last.output"]
    assert [site.width for site in found] == [8, 8, 8, 2]
    [asked] = candidate_sites(_Everything(), rows(), parts=(1,), modules=["flatten"])
    assert asked == SearchedSite("flatten.output", None, 16)
    for module in ("twice", "never", "recurrent", "turned", "chosen", "dropout"):
        with pytest.raises(UserError, match=f"module {module}: it does not run exactly once") as caught:
            candidate_sites(_Everything(), rows(), modules=[module])
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="has no 'frist'"):
        candidate_sites(_Everything(), rows(), modules=["frist.1"])


class _Maps(nn.Module):
    """A network of feature maps, to which it adds in place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(4 * 16, 2)
        for weight in self.parameters():
            nn.init.normal_(weight)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.relu(self.first(inputs.unflatten(1, (1, 4, 4)))).flatten(1))


@torch.no_grad()
def test_neurons_of_feature_maps_are_channels() -> None:
    model, given = _Maps(), rows()
    sites = candidate_sites(model, given, parts=(1, 2))
    assert [str(one) for one in sites if one.width == 4] == [
        "first.output", "first.output [0, 2)", "first.output [2, 4)",
        "relu.output", "relu.output [0, 2)", "relu.output [2, 4)",
    ]  # fmt: skip
    matrix = search_sites(equality(), model, ALIGNMENT, sites, given, minimum_bases=1)
    for place, one in enumerate(sites[:3]):
        before, after = by_hooks(model, model.first, given, range(*(one.neurons or (0, 4))))
        moved = int(((after - before).square().sum(1) > 1e-8).sum())
        assert matrix.of_variable(0)[place].moved == moved > 10


def test_outputs_are_parted_in_equal_ranges() -> None:
    found = candidate_sites(network().float(), rows(), parts=(4, 1, 2, 2))
    ranges = [site.neurons for site in found if site.component == "0.output"]
    assert ranges == [None, (0, 3), (3, 6), (0, 1), (1, 3), (3, 4), (4, 6)]
    assert [site.neurons for site in found if site.component == "2.output"] == [None, (0, 1), (1, 2)]
    with pytest.raises(UserError, match="parts: 0, 2: give numbers of 1 or more"):
        candidate_sites(network().float(), rows(), parts=(2, 0))


SITES = [
    SearchedSite("early.output", None, 4),
    SearchedSite("early.output", (0, 2), 4),
    SearchedSite("early.output", (2, 4), 4),
    SearchedSite("late.output", (0, 1), 4),
]


def matrix(*worths: float | None, moved: Sequence[int] = (30, 30, 30, 30)) -> SiteMatrix:
    cells = tuple(
        SiteCell(0, site, moved[site], Region(40, 30, 30 if worth is not None else 9, worth, 0.0, worth))
        for site, worth in enumerate(worths)
    )
    return SiteMatrix("effect_r2", ("v",), tuple(SITES), 20, cells)


@pytest.mark.parametrize(
    ("worths", "expected"),
    [
        ((0.1, 0.2, 0.3, 0.9), 3),
        ((0.1, 0.9, 0.3, 0.9), 1),  # of equal ones, the module that runs first
        ((0.9, 0.1, 0.9, 0.1), 2),  # of these, the fewest neurons
        ((0.1, 0.9, 0.9, 0.9), 1),  # of these, the lowest
        ((0.1, 0.895, 0.1, 0.9), 1),  # what differs by less than can be told counts as equal
        ((0.1, 0.88, 0.1, 0.9), 3),
        ((None, -0.5, None, -0.2), 3),
    ],
)
def test_the_best_site_is_chosen(worths: tuple[float | None, ...], expected: int) -> None:
    assert choose_sites(matrix(*worths)) == {"v": SITES[expected]}


def test_sites_that_move_few_are_not_chosen() -> None:
    assert choose_sites(matrix(0.1, 0.2, 0.3, 0.9, moved=(30, 30, 20, 19))) == {"v": SITES[2]}
    with pytest.raises(UserError, match=r"variable v: no site can be chosen: .* in at most 19; 20 are needed"):
        choose_sites(matrix(0.1, 0.2, 0.3, 0.9, moved=(19, 0, 0, 19)))
    with pytest.raises(UserError, match=r"come from 9 examples"):
        choose_sites(matrix(None, None, None, None))


def test_the_alignment_keeps_the_teachers_sites_and_sources() -> None:
    found = searched_alignment(ALIGNMENT, {"left": SITES[1], "right": SITES[0]}, "found")
    assert (found.name, found.sources, found.positions) == ("found", ALIGNMENT.sources, ALIGNMENT.positions)
    assert [one.teacher for one in found.variables] == [one.teacher for one in ALIGNMENT.variables]
    sites: list[Any] = [(one.student[0].component, one.student[0].neuron_range) for one in found.variables]
    assert sites == [("early.output", (0, 2)), ("early.output", None)]
    assert Alignment.from_dict(found.to_dict()) == found


def test_numbers_do_not_depend_on_the_batch_size() -> None:
    sites = candidate_sites(_Doubled(network()), rows(), parts=(1, 2))
    found = [
        search_sites(equality(), _Doubled(network()), ALIGNMENT, sites, rows(), batch_size=size, minimum_bases=1)
        for size in (7, 80)
    ]
    scores = [np.array([cell.figures.score for cell in one.cells], float) for one in found]
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)

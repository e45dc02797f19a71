"""A program as a side swaps what the program's own interchange swaps, in the rows that are swapped."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from iit_toolkit.alignment import Alignment, Site
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Swap
from iit_toolkit.interchange.certify_sides import certify_sides
from iit_toolkit.interchange.program_side import FORBIDDEN, ProgramSide, program_sites
from iit_toolkit.interchange.sides import side_of
from tests.programs import equality, equality_rows

NETWORK = Site.module("0.output", (0, 4))
STUDENT = [NETWORK.model_dump(by_alias=True, exclude_none=True)]
ALIGNMENT = Alignment.from_dict(
    {
        "name": "equality",
        "variables": [
            {"name": "both", "teacher": [{"variable": "left"}, {"variable": "right"}], "student": STUDENT},
            {"name": "vectors", "teacher": [{"variable": "inputs"}], "student": STUDENT},
            {"name": "first", "teacher": [{"variable": "left"}], "student": STUDENT},
        ],
    }
)


@pytest.mark.parametrize(
    ("variable", "names"), [("first", ["left"]), ("both", ["left", "right"]), ("vectors", ["inputs"])]
)
@pytest.mark.parametrize("own_source", [False, True])
def test_swaps_are_the_programs_own(variable: str, names: list[str], own_source: bool) -> None:
    program, base, other = equality(), equality_rows(40), equality_rows(40, 1)
    side = ProgramSide(program, program_sites(ALIGNMENT, program))
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    swapped = torch.arange(40) % 3 > 0
    mask = torch.zeros(40, 5, dtype=torch.bool)
    mask[:, 3] = swapped  # wherever the network's positions are
    swap = Swap(order, mask, mask.long() * 4)
    run = side.base_run(side.reads(base), [variable])
    source = side.source_run(side.reads(other), [variable]) if own_source else None
    found = side.logits(side.counterfactual_run(run, variable, swap, source=source))
    taken = {"inputs": (other if own_source else base)["inputs"][order]}
    expected = program.answers(program.interchange(base, dict.fromkeys(names, taken)))
    before = program.answers(program.run(base))
    expected = torch.where(swapped, expected, before)
    assert torch.equal(found.argmax(1), expected) and not torch.equal(expected, before)
    assert torch.equal(found.softmax(1), nn.functional.one_hot(expected, 2).float())
    assert found.min() == FORBIDDEN and bool(found.isfinite().all())


def test_a_site_without_neurons_swaps_nothing() -> None:
    program, rows = equality(), equality_rows(12)
    sites = program_sites(ALIGNMENT, program)["first"]
    side = ProgramSide(program, {"first": [type(one)(one.write, one.read, (), None, None, False) for one in sites]})
    run = side.base_run(side.reads(rows))
    swap = Swap(torch.arange(12).roll(1), torch.ones(12, 1, dtype=torch.bool), torch.zeros(12, 1).long())
    assert torch.equal(side.logits(side.counterfactual_run(run, "first", swap)), side.logits(run))


def pairs(teacher: str | Site) -> Alignment:
    return Alignment.pairs("equality", v=(teacher, NETWORK))


def test_what_does_not_fit_is_one_line() -> None:
    program = equality()
    with pytest.raises(UserError, match="variable 'v', teacher: it names no variable, but the teacher is a program"):
        side_of(program, pairs(NETWORK), "teacher")
    with pytest.raises(UserError, match="teacher: the program has no variable 'lefd', did you mean \"left\"?"):
        side_of(program, pairs("lefd"), "teacher")
    with pytest.raises(UserError, match="rows lack `inputs`, which the program reads; they have labels"):
        side_of(program, pairs("left"), "teacher").reads({"labels": torch.zeros(2)})


def certified(network: nn.Module, labels: torch.Tensor | None = None, variable: str = "left") -> dict[str, bool]:
    rows = equality_rows(40)
    batch = TensorRows({**rows, "labels": rows["labels"] if labels is None else labels}).batch(torch.arange(40))
    sides = (side_of(one, pairs(variable), name) for one, name in ((equality(), "teacher"), (network, "student")))  # pyright: ignore[reportArgumentType]
    return {check.name: check.passed for check in certify_sides(*sides, batch)}


def test_sides_are_certified_together() -> None:
    network = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 2))
    assert certified(network) == {"program: answers": True, "program: left": True, "same answers": True}
    assert not certified(nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 3)))["same answers"]
    assert not certified(network, torch.zeros(40).long())["program: answers"]
    noisy = nn.Sequential(nn.Linear(16, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    with pytest.raises(UserError, match="an example swapped with itself changes the logits, at the sites of variable"):
        certified(noisy)

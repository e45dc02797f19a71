"""Subspaces of networks are learned as a plain loop learns them, find planted directions, and fail on random ones."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from iit_toolkit.alignment import Alignment, Site
from iit_toolkit.analysis.statistics.leak import Leak
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.distillation.networks import train_network
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.sampling import step_generator
from iit_toolkit.interchange.sides import new_subspaces
from iit_toolkit.pipeline.checked import Check, verify
from tests.drawing import no_figures_drawn

VARIABLES = ("left", "right")
LEARNED = Alignment.pairs(
    positions="all",
    left=("left", Site.learned("2.output", 2)),
    right=("right", Site.learned("2.output", 2)),
)
NARROW = Alignment.pairs(
    positions="all",
    left=("left", Site.learned("2.output", 1)),
    right=("right", Site.learned("2.output", 1)),
)
FIXED = Alignment.pairs(
    positions="all",
    left=("left", Site.module("2.output", (0, 2))),
    right=("right", Site.module("2.output", (2, 4))),
)
BOUNDED = Alignment.pairs(
    positions="all",
    left=("left", Site.learned("2.output", 2, boundary="learned", rotation="shared")),
    right=("right", Site.learned("2.output", 2, boundary="learned", rotation="shared")),
)
SHARED = Alignment.pairs(
    positions="all",
    left=("left", Site.learned("2.output", 2, rotation="shared")),
    right=("right", Site.learned("2.output", 1, rotation="shared")),
)
SETTINGS: dict[str, Any] = {"steps": 300, "batch_size": 256, "subspace_learning_rate": 0.1}


def equal(first: int) -> Callable[[Tensor], Tensor]:
    def function(inputs: Tensor) -> Tensor:
        return inputs[:, first] == inputs[:, first + 1]

    return function


def program() -> CausalModel:
    """Of four numbers: is a = b the same as c = d?"""
    return CausalModel(
        parents={"inputs": (), "left": ("inputs",), "right": ("inputs",), "same": ("left", "right")},
        functions={"left": equal(0), "right": equal(2), "same": torch.eq},
        domains={name: (False, True) for name in (*VARIABLES, "same")},
        answer="same",
    )


def rows(count: int = 1500, seed: int = 0) -> TensorRows:
    inputs = torch.randint(2, (count, 4), generator=torch.Generator().manual_seed(seed)).float()
    return TensorRows({"inputs": inputs, "labels": program().answers(program().run({"inputs": inputs}))})


def turned() -> tuple[nn.Sequential, dict[str, Tensor]]:
    """Solves the task, its hidden vector of four numbers turned, so that one direction (4,) holds each variable."""
    mix = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(0))).Q
    layers = [
        ([[1, -1, 0, 0], [-1, 1, 0, 0], [0, 0, 1, -1], [0, 0, -1, 1]], [0, 0, 0, 0]),
        ([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], [0, -1, 0, -1]),
        ([[1, -1, -1, 1], [-1, 1, 1, -1]], [0, 0]),
        ([[8, 8], [-8, -8]], [-4, 4]),
    ]
    first, second, third, fourth = (nn.Linear(len(weight[0]), len(weight)) for weight, _ in layers)
    for layer, (weight, bias) in zip((first, second, third, fourth), layers, strict=True):
        layer.weight.data, layer.bias.data = torch.tensor(weight).float(), torch.tensor(bias).float()
    rotate = nn.Linear(4, 4, bias=False)
    rotate.weight.data = mix
    second.weight.data = second.weight @ mix.T
    network = nn.Sequential(first, nn.ReLU(), rotate, second, nn.ReLU(), third, nn.ReLU(), fourth)
    halves = {"left": torch.tensor([1.0, 1, 0, 0]), "right": torch.tensor([0.0, 0, 1, 1])}
    return network, {name: mix @ half / math.sqrt(2) for name, half in halves.items()}


def random_network(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    sizes = [(4, 4), (4, 4), (4, 2), (2, 2)]
    first, second, third, fourth = (nn.Linear(*size) for size in sizes)
    return nn.Sequential(first, nn.ReLU(), nn.Linear(4, 4), second, nn.ReLU(), third, nn.ReLU(), fourth)


def learn(network: nn.Module, seed: int = 0) -> LearnedSubspaces:
    subspaces = new_subspaces(network, LEARNED, rows(), seed)
    train_network(network, program(), LEARNED, rows(), subspaces=subspaces, frozen=True, **SETTINGS)
    return subspaces


def angle(basis: Tensor, direction: Tensor) -> float:
    """Degrees between a subspace with the basis (D, r) and a direction (D,)."""
    return math.degrees(math.acos(min(1.0, float((basis.T @ direction).norm()))))


def accuracy(check: Check, student: str = "student") -> dict[str, float]:
    outcomes = check.outcomes[check.outcomes["student"] == student]
    same = outcomes["student_cf"] == outcomes["teacher_cf"]
    return {name: float(same[outcomes["variable"] == name].mean()) for name in VARIABLES}


def test_planted_directions_are_found_where_fixed_neurons_fail_and_a_random_network_is_caught(tmp_path: Path) -> None:
    network, planted = turned()
    before = copy.deepcopy(network.state_dict())
    own, control = learn(network), random_network(1)
    of_control = learn(control)
    learned, at_start = (
        {name: angle(some.basis(f"{name}/0"), direction) for name, direction in planted.items()}
        for some in (own, new_subspaces(network, LEARNED, rows()))
    )
    assert max(learned.values()) < 3 < 20 < max(at_start.values())
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert all(weight.requires_grad for weight in network.parameters()) and own.steps == 300
    unseen = rows(600, seed=5)
    subspaces = {"student": own, "untrained": of_control}
    check = verify(
        program(), {"student": network, "untrained": control}, LEARNED, unseen, judged="student", subspaces=subspaces,
        batch_size=300,
    )  # fmt: skip
    assert min(accuracy(check).values()) > 0.99
    assert check.verdict.label == "SUPPORTED"
    assert "untrained" in [control.name for control in check.verdict.variables["left"].controls]
    with no_figures_drawn():
        assert "student: left/0: 2 of 4, right/0: 2 of 4" in check.report(tmp_path / "report.html").read_text()
    fixed = verify(program(), network, FIXED, unseen, batch_size=300)
    assert min(accuracy(fixed).values()) < 0.9 and fixed.verdict.label == "NOT SUPPORTED"
    stranger = random_network(2)
    swapped = {"student": learn(stranger), "untrained": of_control}
    caught = verify(
        program(), {"student": stranger, "untrained": control}, LEARNED, unseen, judged="student", subspaces=swapped,
        batch_size=300,
    )  # fmt: skip
    assert caught.verdict.label != "SUPPORTED"


def test_boundaries_end_at_the_planted_number_of_directions_and_name_them() -> None:
    """One direction holds each variable, of the two that either may take of a rotation that both share."""
    network, planted = turned()
    subspaces = new_subspaces(network, BOUNDED, rows())
    assert [one["directions"] for one in subspaces.described().values()] == [1, 1]  # the middle of 1 and 2
    for key in subspaces:
        boundary = subspaces[key].boundary_logit
        assert boundary is not None
        boundary.data.fill_(3.0)
    assert [one["directions"] for one in subspaces.described().values()] == [2, 2]
    weights = {"causal_ce": 1.0, "boundary": 0.1}
    terms = train_network(
        network, program(), BOUNDED, rows(), subspaces=subspaces, frozen=True, weights=weights, **SETTINGS
    )
    assert [one["directions"] for one in subspaces.described().values()] == [1, 1]
    assert max(angle(subspaces.basis(f"{name}/0"), direction) for name, direction in planted.items()) < 3
    assert terms.keys() == {"causal_ce", "boundary"} and 0 < terms["boundary"] < 0.75
    greedy = new_subspaces(network, BOUNDED, rows())
    weights = {"causal_ce": 1.0, "boundary": 1e-4}
    train_network(network, program(), BOUNDED, rows(), subspaces=greedy, frozen=True, weights=weights, **SETTINGS)
    assert greedy.share().item() > terms["boundary"]


def test_a_verification_in_the_middle_of_a_training_swaps_whole_directions() -> None:
    network, _ = turned()
    subspaces = new_subspaces(network, BOUNDED, rows())
    shifts: list[list[float]] = []
    for done in (None, 0.3):
        subspaces.set_progress(done)
        check = verify(program(), {"s": network}, BOUNDED, rows(100), subspaces=subspaces, batch_size=100)
        shifts.append(check.outcomes["student_effect"].tolist())
    assert shifts[0] == pytest.approx(shifts[1], abs=1e-5)
    assert subspaces["left/0"].temperature is not None  # the training goes on


def test_a_training_that_fails_leaves_whole_directions() -> None:
    network, _ = turned()
    subspaces = new_subspaces(network, BOUNDED, rows())

    def stop(*_: Any) -> None:
        assert subspaces["left/0"].temperature is not None
        raise KeyboardInterrupt

    weights = {"causal_ce": 1.0, "boundary": 0.1}
    with pytest.raises(KeyboardInterrupt):
        train_network(network, program(), BOUNDED, rows(), subspaces=subspaces, log=stop, steps=2, weights=weights)
    assert subspaces["left/0"].temperature is None


@pytest.mark.parametrize(
    ("alignment", "what"), [(BOUNDED, "how many directions are swapped"), (SHARED, "its part of a shared rotation")]
)
def test_subspaces_of_a_file_cannot_be_trained_against_what_they_declare(
    alignment: Alignment, what: str, tmp_path: Path
) -> None:
    network, _ = turned()
    new_subspaces(network, alignment, rows()).save(tmp_path / "s.safetensors")
    again = LearnedSubspaces.load(tmp_path / "s.safetensors")
    weights = {"causal_ce": 1.0, "boundary": 0.1 * alignment.learns_boundaries}
    with pytest.raises(UserError, match=f"left/0 of 2.output can't be trained further: {what} was decided") as caught:
        train_network(network, program(), alignment, rows(), subspaces=again, steps=1, weights=weights)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("strict", "bounded"), [(0.0, False), (0.7, False), (0.0, True)])
def test_network_and_subspaces_train_together_as_in_a_plain_loop(strict: float, bounded: bool) -> None:
    alignment = BOUNDED if bounded else NARROW
    steps, batch_size, rate, rate_of_subspaces = 5, 16, 0.01, 0.05
    data = TensorRows({name: one.double() if name == "inputs" else one for name, one in rows(64).columns.items()})
    start = random_network(3).double()
    student, expected = copy.deepcopy(start), copy.deepcopy(start)
    subspaces, theirs = (new_subspaces(start, alignment, data, seed=2) for _ in range(2))
    terms = train_network(
        student, program(), alignment, data, subspaces=subspaces, steps=steps,
        weights={"task": 1.0, "causal_ce": 0.5, "strict": strict, "boundary": 0.3 * bounded},
        batch_size=batch_size, learning_rate=rate, subspace_learning_rate=rate_of_subspaces,
    )  # fmt: skip
    optimizer = torch.optim.Adam(
        [{"params": expected.parameters(), "lr": rate}, {"params": theirs.parameters(), "lr": rate_of_subspaces}]
    )
    for step in range(steps):
        generator = step_generator(0, step, 0, 0)
        batch = data.batch(torch.randint(64, (batch_size,), generator=generator))
        variable = VARIABLES[int(torch.multinomial(torch.full((2,), 0.5).double(), 1, generator=generator))]
        order = torch.randperm(batch_size, generator=generator)
        source = torch.empty_like(order)
        source[order] = order.roll(-1)
        for group, peak in zip(optimizer.param_groups, (rate, rate_of_subspaces), strict=True):
            group["lr"] = peak * (1 - step / steps)
        inputs = batch["inputs"]
        hidden = expected[:3](inputs)
        layers: dict[str, Any] = {name: theirs[f"{name}/0"].rotate_layer for name in VARIABLES}
        weight, difference = layers[variable].weight, hidden[source] - hidden
        counts = torch.ones(weight.shape[1]).double()
        if bounded:
            weight = weight[:, :2] if variable == "left" else weight[:, 2:]
            places, temperature = torch.tensor([0.5, 1.5]).double(), 0.1 ** (step / steps)
            edges: list[Any] = [2 * theirs[f"{name}/0"].boundary_logit.sigmoid() for name in VARIABLES]  # pyright: ignore[reportOptionalMemberAccess]
            counts = ((edges[VARIABLES.index(variable)] - places) / temperature).sigmoid()
        changed = hidden + difference @ weight @ counts.diag() @ weight.T
        wanted = program().interchange({"inputs": inputs}, {variable: {"inputs": inputs[source]}})
        loss = cross_entropy(expected(inputs), batch["labels"])
        loss = loss + 0.5 * cross_entropy(expected[3:](changed), program().answers(wanted))
        if strict:
            both = torch.cat([layers[name].weight for name in VARIABLES], 1)
            projector = both @ torch.linalg.inv(both.T @ both) @ both.T
            rest = expected[3:](hidden + difference - difference @ projector)
            loss = loss + strict * cross_entropy(rest, batch["labels"])
        if bounded:
            loss = loss + 0.3 * (edges[0] / 2 + edges[1] / 2) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert terms.keys() == {"task", "causal_ce", *(["strict"] * bool(strict)), *(["boundary"] * bounded)}
    assert subspaces.steps == steps
    pairs = [(student.parameters(), expected.parameters()), (subspaces.parameters(), theirs.parameters())]
    for mine, others in pairs:
        for one, other in zip(mine, others, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)
    fresh = new_subspaces(start, alignment, data, seed=2)
    assert not all(torch.allclose(subspaces.basis(key), fresh.basis(key), atol=1e-3) for key in fresh)


@torch.no_grad()
def test_the_leak_check_swaps_the_directions_that_no_variable_has() -> None:
    """In the turned network, nothing but the planted directions matters; of others, much is left out."""
    network, planted = turned()
    control, found = random_network(1), dict[str, list[Leak]]()
    exact, at_random, of_control = (new_subspaces(one, NARROW, rows(), 4) for one in (network, network, control))
    for name, direction in planted.items():
        layer: Any = exact[f"{name}/0"].rotate_layer
        layer.weight = direction[:, None]
        assert angle(exact.basis(f"{name}/0"), direction) < 0.1
    for name, subspaces in (("exact", exact), ("random", at_random)):
        check = verify(
            program(), {"student": network, "untrained": control}, NARROW, rows(600, 5), judged="student",
            subspaces={"student": subspaces, "untrained": of_control}, batch_size=300,
        )  # fmt: skip
        found[name] = check.verdict.leaks
        assert (check.verdict.label == "SUPPORTED") == (name == "exact")
    assert [leak.passed for leak in found["exact"]] == [True, True]  # beside either variable of the program
    assert [leak.passed for leak in found["random"]] == [False, False]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"subspaces": None}, "none are given"),
        ({"subspaces": None, "frozen": True}, "there are none"),
        ({"weights": {"causal_ce": 1.0, "strict": 1.0}}, "leaves out no neurons"),
        ({"weights": {"task": 1.0}}, "learned subspaces need a causal_"),
        ({"weights": {"causal_ce": 1.0, "boundary": 0.1}}, "boundary: it is about .*, but there is none; set it to 0"),
        ({"weights": {"task": 1.0}, "frozen": True}, "learned subspaces need a causal_"),
        ({"subspace_learning_rate": 0.0}, "training.subspace_learning_rate"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_one_line(changes: dict[str, Any], said: str) -> None:
    network = random_network(0)
    given: dict[str, Any] = {"subspaces": new_subspaces(network, LEARNED, rows()), "steps": 1, **changes}
    with pytest.raises(UserError, match=said) as caught:
        train_network(network, program(), LEARNED, rows(), **given)
    assert "\n" not in str(caught.value)


def test_a_boundary_that_nothing_holds_down_is_refused() -> None:
    network = random_network(0)
    own = new_subspaces(network, BOUNDED, rows())
    with pytest.raises(UserError, match="give the term `boundary` a weight, such as 0.1"):
        train_network(network, program(), BOUNDED, rows(), subspaces=own, steps=1)


def test_learned_subspaces_are_judged_beside_those_of_a_random_network_at_equal_power_only() -> None:
    network, _ = turned()
    own = new_subspaces(network, LEARNED, rows())
    own.steps = 10
    with pytest.raises(UserError, match='give a student "untrained"'):
        verify(program(), network, LEARNED, rows(50), subspaces=own)
    control = random_network(1)
    of_control = new_subspaces(control, LEARNED, rows())
    of_control.steps = 9
    students = {"student": network, "untrained": control}
    with pytest.raises(UserError, match="trained for 9 steps, those of student for 10"):
        verify(program(), students, LEARNED, rows(50), judged="student",
               subspaces={"student": own, "untrained": of_control})  # fmt: skip
    assert verify(program(), {"student": network}, LEARNED, rows(50), subspaces=own).judged is None

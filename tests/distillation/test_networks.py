"""Networks are trained as a plain loop trains them, by programs and by networks; mistakes are one line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax, one_hot

from iit_toolkit.alignment import Alignment, Site
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.distillation.networks import step_flops, train_network
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.causal_model import CausalModel
from iit_toolkit.interchange.certify_program import balanced_pairs
from iit_toolkit.interchange.sampling import step_generator
from tests.programs import equality, equality_rows

STEPS, BATCH, RATE = 5, 16, 0.01
PARTS = {"left": (0, 4), "right": (4, 8)}


def mlp(seed: int = 0, classes: int = 2) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(16, 10), nn.ReLU(), nn.Linear(10, classes)).double()


def rows() -> TensorRows:
    return TensorRows({name: one.double() if name == "inputs" else one for name, one in equality_rows(64).items()})


def aligned(of_program: bool, **changes: Any) -> Alignment:
    sites = {name: Site.module("1.output", part) for name, part in PARTS.items()}
    return Alignment.pairs(
        positions="all", **{name: (name if of_program else site, site) for name, site in sites.items()}, **changes
    )


def swapped(network: nn.Sequential, inputs: Tensor, source: Tensor, variable: str) -> Tensor:
    hidden = network[:2](inputs)
    low, high = PARTS[variable]
    changed = torch.cat([hidden[:, :low], hidden[source, low:high], hidden[:, high:]], 1)
    return network[2:](changed)


def program_answer(inputs: Tensor, source: Tensor, variable: str) -> Tensor:
    """By a plain loop over rows and numbers."""
    answers: list[int] = []
    for row, other in enumerate(source.tolist()):
        taken = {name: other if name == variable else row for name in PARTS}
        equal = [
            inputs[taken[name], low : low + 4].tolist() == inputs[taken[name], low + 4 : low + 8].tolist()
            for name, low in (("left", 0), ("right", 8))
        ]
        answers.append(int(equal[0] == equal[1]))
    return torch.tensor(answers)


def by_hand(student: nn.Sequential, loss: Callable[[dict[str, Tensor], Tensor, str], Tensor]) -> None:
    """Adam with a falling rate, on the draws that the draw of a step gives."""
    optimizer = torch.optim.Adam(student.parameters(), lr=RATE)
    for step in range(STEPS):
        generator = step_generator(0, step, 0, 0)
        batch = rows().batch(torch.randint(64, (BATCH,), generator=generator))
        variable = list(PARTS)[int(torch.multinomial(torch.full((2,), 0.5).double(), 1, generator=generator))]
        order = torch.randperm(BATCH, generator=generator)
        source = torch.empty_like(order)
        source[order] = order.roll(-1)
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - step / STEPS)
        optimizer.zero_grad()
        loss(batch, source, variable).backward()
        optimizer.step()


def assert_same(student: nn.Module, expected: nn.Module, start: nn.Module) -> None:
    for mine, theirs, before in zip(student.parameters(), expected.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)
        assert not torch.allclose(mine, before, rtol=0, atol=1e-3)


SETTINGS: dict[str, Any] = {"steps": STEPS, "batch_size": BATCH, "learning_rate": RATE}


def test_a_program_trains_as_a_plain_loop_does() -> None:
    start = mlp()
    student, expected = copy.deepcopy(start), copy.deepcopy(start)

    def loss(batch: dict[str, Tensor], source: Tensor, variable: str) -> Tensor:
        inputs = batch["inputs"]
        counterfactual = swapped(expected, inputs, source, variable)
        answers = program_answer(inputs, source, variable)
        return cross_entropy(expected(inputs), batch["labels"]) + 0.5 * cross_entropy(counterfactual, answers)

    by_hand(expected, loss)
    terms = train_network(
        student, equality(), aligned(True), rows(), weights={"task": 1.0, "causal_ce": 0.5}, **SETTINGS
    )
    assert_same(student, expected, start)
    assert terms.keys() == {"task", "causal_ce"} and not student.training


def test_a_network_trains_as_a_plain_loop_does() -> None:
    start, teacher = mlp(), mlp(1)
    student, expected = copy.deepcopy(start), copy.deepcopy(start)

    def divergence(mine: Tensor, theirs: Tensor) -> Tensor:
        of_teacher = log_softmax(theirs, 1).detach()
        return (of_teacher.exp() * (of_teacher - log_softmax(mine, 1))).sum(1).mean()

    def loss(batch: dict[str, Tensor], source: Tensor, variable: str) -> Tensor:
        inputs = batch["inputs"]
        runs = [swapped(one, inputs, source, variable) for one in (expected, teacher)]
        hidden = [one[:2](inputs) for one in (expected, teacher)]
        mse = torch.stack(
            [(hidden[0] - hidden[1].detach())[:, low:high].square().mean() for low, high in PARTS.values()]
        )
        return divergence(expected(inputs), teacher(inputs)) + divergence(*runs) + 3 * mse.mean()

    by_hand(expected, loss)
    weights = {"ce": 1.0, "causal_ce": 1.0, "aligned_mse": 3.0}
    train_network(student, teacher, aligned(False), rows(), weights=weights, **SETTINGS)
    assert_same(student, expected, start)
    assert not any(weight.requires_grad for weight in teacher.parameters())


def test_sources_of_pairs_are_their_own() -> None:
    data, program, student = rows(), equality(), mlp()
    base, source = balanced_pairs(program, data.columns, "left", 32, torch.Generator().manual_seed(0))
    inputs, taken = data.columns["inputs"][base], data.columns["inputs"][source]
    both, places = torch.cat([inputs, taken]), torch.arange(32, 64)
    answers = program_answer(both, torch.cat([places, places]), "left")[:32]
    assert int((answers != data.columns["labels"][base]).sum()) == 16
    numbers = torch.randint(32, (BATCH,), generator=step_generator(0, 0, 0, 0))
    with torch.no_grad():
        logits = swapped(student, both, torch.cat([places, places]), "left")[:32]
    expected = float(cross_entropy(logits[numbers], answers[numbers]))
    alignment = aligned(True, sources="paired", draw={"left": 1.0})
    settings = {**SETTINGS, "steps": 1, "weights": {"causal_ce": 1.0}}
    assert train_network(student, program, alignment, data.pairs(base, source), **settings)[
        "causal_ce"
    ] == pytest.approx(expected, rel=1e-12)


def test_operations_of_a_step_are_those_of_its_products() -> None:
    """Two layers, 16 to 10 to 2: forward, and backward to all weights and to the first layer's output."""
    student = mlp()
    forward = 2 * BATCH * (16 * 10 + 10 * 2)
    run = 2 * forward + 2 * BATCH * 10 * 2
    before = [weight.clone() for weight in student.parameters()]
    counted = step_flops(
        student, equality(), aligned(True), rows(), weights={"task": 1.0, "causal_ce": 0.5}, **SETTINGS
    )
    assert (counted.flops, counted.plain_flops) == (2 * run, run)
    for weight, old in zip(student.parameters(), before, strict=True):
        assert torch.equal(weight, old) and weight.grad is None


class Attending(nn.Module):
    """One head of attention over eight tokens of two numbers, by torch's kernel or by its two products."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.inner, self.outer, self.fused = nn.Linear(2, 12), nn.Linear(32, 2), fused

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        query, key, value = self.inner(inputs.unflatten(1, (8, 2)))[:, None].split(4, -1)
        if self.fused:
            mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        else:
            mixed = (query @ key.mT / 2).softmax(-1) @ value
        return self.outer(mixed.flatten(1))


def test_attention_costs_what_its_products_do_whatever_computes_it() -> None:
    found = [
        step_flops(Attending(fused).double(), equality(), None, rows(), weights={"task": 1.0}, **SETTINGS).flops
        for fused in (True, False)
    ]
    inner, attention, outer = 8 * 2 * 12, 2 * 8 * 8 * 4, 32 * 2
    assert found == [2 * BATCH * (2 * inner + 3 * (attention + outer))] * 2  # nothing flows to the inputs


def test_rows_depend_on_the_seed_alone() -> None:
    students = [mlp(), mlp(), mlp()]
    for student, seed in zip(students, (0, 0, 1), strict=True):
        train_network(student, equality(), aligned(True), rows(), seed=seed, **SETTINGS)
    weights = [next(student.parameters()) for student in students]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def train(student: nn.Module | None = None, teacher: Any = None, **settings: Any) -> object:
    alignment = settings.pop("alignment", aligned(True))
    return train_network(student or mlp(), teacher or equality(), alignment, rows(), **{**SETTINGS, **settings})


def one_row() -> TensorRows:
    return TensorRows({name: column[:1] for name, column in rows().columns.items()})


def wrong_labels() -> CausalModel:
    program = equality()
    return CausalModel(program.parents, {**program.functions, "same": torch.ne}, program.domains, "same")


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (lambda: train(steps=0), "training.steps: Input should be greater than or equal to 1"),
        (
            lambda: train(batch_size=1),
            "training.batch_size: in-batch sources need batches of at least 2 rows; raise it",
        ),
        (
            lambda: train_network(mlp(), equality(), None, one_row(), weights={"task": 1.0}, **SETTINGS),
            "the data have 1 rows; give 2 or more",
        ),
        (lambda: train(stepps=3), "training.stepps: unknown setting"),
        (lambda: train(weights={"tusk": 1.0}), 'training.weights.tusk: no such loss term, did you mean "task"'),
        (lambda: train(alignment=None), "loss weights need an alignment; give one"),
        (lambda: train(mlp(classes=3)), "same answers: the teacher answers among 2 classes, student among 3"),
        (
            lambda: train(teacher=wrong_labels()),
            "program: answers: in 64 of 64 rows it answers otherwise than the labels",
        ),
        (
            lambda: train(weights={"task": 1.0, "aligned_mse": 1.0}),
            "variable 'left': aligned_mse cannot compare 4 neurons of the student with 1 of the teacher",
        ),
        (
            lambda: train(learning_rate=1e300, steps=30),
            "not finite at step|NaN or infinite",
        ),
    ],
)
def test_what_is_wrong_is_one_line(attempt: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        attempt()
    assert "\n" not in str(caught.value)


def test_certain_answers_have_finite_losses() -> None:
    """The distillation loss to a program's logits is the cross entropy to its answer, in single precision, too."""
    from iit_toolkit.distillation.losses import distillation_loss
    from iit_toolkit.interchange.program_side import FORBIDDEN

    answers = torch.tensor([0, 2, 1])
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    certain = FORBIDDEN * (1 - one_hot(answers, 3).float())
    torch.testing.assert_close(distillation_loss(logits, certain, 1.0), cross_entropy(logits, answers))

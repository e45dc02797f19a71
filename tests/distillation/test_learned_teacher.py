"""Subspaces of a teacher learn as hooks written by hand say, find planted directions, and cannot collapse unseen."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import BertForMaskedLM

from iit_toolkit.alignment import Alignment, Site
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.distillation.config import training_config
from iit_toolkit.distillation.networks import train_network
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.distillation.trainer import CausalDistillationTrainer
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import Interchange, Swap, draw_swap, other_rows
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.sampling import step_generator
from iit_toolkit.interchange.sides import new_subspaces, side_of
from iit_toolkit.pipeline.checked import verify
from tests.distillation.test_learned_networks import VARIABLES, accuracy, angle, random_network, rows, turned
from tests.distillation.test_learned_trainer import RANK, Rows, collate, degrees, llama, rotated
from tests.distillation.test_objective import LENGTH, ROWS, bert, make_batch
from tests.distillation.test_trainer import trainer

BOTH = Alignment.pairs(
    positions="all",
    left=(Site.learned("2.output", 2), Site.learned("0.output", 1)),
    right=(Site.learned("2.output", 1), Site.learned("0.output", 1)),
)
OF_TEACHER = Alignment.pairs(
    positions="all",
    left=(Site.learned("2.output", 2), Site.module("1.output", (0, 2))),
    right=(Site.learned("2.output", 2), Site.module("1.output", (2, 4))),
)


def rotation(subspaces: LearnedSubspaces, key: str) -> Tensor:
    """W (D, r), with its graph."""
    layer: Any = subspaces[key].rotate_layer
    return layer.weight


def divergence(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    """KL(teacher || student) of softened answers (N, V), with the gradient of the student."""
    teacher = teacher.detach()
    p, q = (logits.div(temperature).log_softmax(-1) for logits in (teacher, student))
    return (p.exp() * (p - q)).sum(-1).mean() * temperature**2


def straight() -> nn.Sequential:
    """The network of `turned` whose vector is not turned, with `left` in its neurons 0 and 1, `right` in 2 and 3."""
    network, _ = turned()
    layers: list[Any] = list(network)
    mix = layers[2].weight.data.clone()
    layers[3].weight.data = layers[3].weight.data @ mix
    layers[2].weight.data = torch.eye(4)
    return network


def test_student_and_both_rotations_train_as_in_a_plain_loop_of_networks() -> None:
    steps, batch_size, rate, rate_of_subspaces, temperature = 4, 16, 0.01, 0.05, 1.5
    data = in_double()
    teacher, start = turned()[0].double(), random_network(3).double()
    frozen = copy.deepcopy(teacher.state_dict())
    student, expected = copy.deepcopy(start), copy.deepcopy(start)
    mine, theirs = (new_subspaces(start, BOTH, data, seed=2, teacher=teacher) for _ in range(2))
    assert set(mine) == {"left/0", "right/0", "left/teacher-0", "right/teacher-0"}
    terms = train_network(
        student, teacher, BOTH, data, subspaces=mine, steps=steps, temperature=temperature,
        weights={"ce": 0.3, "causal_ce": 0.5, "whole": 0.7},
        batch_size=batch_size, learning_rate=rate, subspace_learning_rate=rate_of_subspaces,
    )  # fmt: skip
    optimizer = torch.optim.Adam(
        [{"params": expected.parameters(), "lr": rate}, {"params": theirs.parameters(), "lr": rate_of_subspaces}]
    )
    for step in range(steps):
        generator = step_generator(0, step, 0, 0)
        inputs = data.batch(torch.randint(len(data), (batch_size,), generator=generator))["inputs"]
        variable = VARIABLES[int(torch.multinomial(torch.full((2,), 0.5).double(), 1, generator=generator))]
        order = torch.randperm(batch_size, generator=generator)
        source = torch.empty_like(order)
        source[order] = order.roll(-1)
        for group, peak in zip(optimizer.param_groups, (rate, rate_of_subspaces), strict=True):
            group["lr"] = peak * (1 - step / steps)

        def swapped(network: nn.Sequential, end: int, basis: Tensor, inputs: Tensor = inputs, source: Tensor = source
                    ) -> Tensor:  # fmt: skip
            hidden = network[:end](inputs)
            difference = hidden[source] - hidden
            return network[end:](hidden + difference @ basis @ basis.T)

        of_teacher = swapped(teacher, 3, rotation(theirs, f"{variable}/teacher-0"))
        of_student = swapped(expected, 1, rotation(theirs, f"{variable}/0"))
        loss = 0.3 * divergence(teacher(inputs), expected(inputs), temperature)
        loss = loss + 0.5 * divergence(of_teacher, of_student, temperature)
        loss = loss + 0.5 * divergence(of_student, of_teacher, temperature)
        loss = loss + 0.7 * divergence(teacher(inputs[source]), of_teacher, temperature)  # the whole vector decides
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert terms.keys() == {"ce", "causal_ce", "whole"}
    assert all(torch.equal(teacher.state_dict()[name], value) for name, value in frozen.items())
    for one, other in ((student, expected), (mine, theirs)):
        for own, wanted in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(own, wanted, rtol=0, atol=1e-7)  # Adam enlarges what rounds a gradient near 0
    fresh = new_subspaces(start, BOTH, data, seed=2, teacher=teacher)
    assert not all(torch.allclose(mine.basis(key), fresh.basis(key), atol=1e-3) for key in fresh)


def in_double() -> TensorRows:
    found = rows(64)
    found.columns["inputs"] = found.columns["inputs"].double()
    return found


def by_hooks(model: BertForMaskedLM, layer: int, swap: Swap, batch: dict[str, Tensor], basis: Tensor | None) -> Tensor:
    """Logits (real tokens, V) of a run in which a subspace is swapped; the whole vector without a basis."""
    block, inputs = model.bert.encoder.layer[layer], {name: batch[name] for name in ("input_ids", "attention_mask")}
    kept: list[Tensor] = []
    handle = block.register_forward_hook(lambda _m, _a, output: kept.append(output))
    model(**inputs)
    handle.remove()

    def put(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
        vectors: list[Tensor] = []
        for row in range(ROWS):
            for position in range(LENGTH):
                vector = output[row, position]
                if swap.mask[row, position]:
                    taken = kept[0][int(swap.source[row]), int(swap.source_position[row, position])]
                    vector = taken if basis is None else vector + basis @ (basis.T @ (taken - vector))
                vectors.append(vector)
        return torch.stack(vectors).view(output.shape)

    handle = block.register_forward_hook(put)
    logits = model(**inputs).logits
    handle.remove()
    return logits[batch["attention_mask"].bool()]


@pytest.mark.parametrize("share_prefix", [True, False])
def test_gradients_of_both_rotations_and_the_student_equal_hooks_in_float64(share_prefix: bool) -> None:
    teacher, student = bert(4, seed=1).eval().requires_grad_(False), bert(2, seed=2)
    alignment = Alignment.pairs(v=(Site.learned(1, 3), Site.learned(0, 2)))
    subspaces = new_subspaces(student, alignment, seed=4, teacher=teacher)
    of_teacher, of_student = (
        side_of(model, alignment, name, share_prefix=share_prefix, subspaces=subspaces)
        for model, name in ((teacher, "teacher"), (student, "student"))
    )
    batch, generator = make_batch(), torch.Generator().manual_seed(3)
    real = batch["attention_mask"].bool()
    swap = draw_swap(alignment.positions, other_rows(ROWS, generator), real, real, generator)
    weights = ObjectiveWeights(causal_ce=0.4, whole=0.9)
    objective = Objective(of_teacher, of_student, weights, "masked_lm", subspaces=subspaces)
    losses = objective(batch, [Interchange("v", swap)])
    basis = rotation(subspaces, "v/teacher-0")
    learned, whole = (by_hooks(teacher, 1, swap, batch, one) for one in (basis, None))
    follows = by_hooks(student, 0, swap, batch, rotation(subspaces, "v/0"))
    causal, kept = divergence(learned, follows, 2.0), divergence(whole, learned, 2.0)
    fitted = divergence(follows, learned, 2.0)
    torch.testing.assert_close(losses.terms["causal_ce"], causal.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(losses.terms["whole"], kept.detach(), rtol=1e-9, atol=1e-12)
    trained = [*subspaces.parameters(), *student.parameters()]
    mine, theirs = (
        torch.autograd.grad(loss, trained, allow_unused=True)
        for loss in (losses.total, 0.4 * (causal + fitted) + 0.9 * kept)
    )
    for one, other in zip(mine, theirs, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-7, atol=1e-10)
    assert min(float(one.abs().max()) for one in mine[:2]) > 1e-4
    with torch.no_grad():  # as where a loss is only looked at
        assert not objective(batch, [Interchange("v", swap)]).total.requires_grad


def test_planted_variables_of_a_frozen_teacher_are_found_by_a_student_that_has_them_in_known_neurons() -> None:
    teacher, planted = turned()
    student, data, unseen = straight(), rows(), rows(600, seed=5)
    learned: dict[str, LearnedSubspaces] = {}
    networks = {"student": student, "untrained": random_network(1)}
    for name, network in networks.items():
        learned[name] = new_subspaces(network, OF_TEACHER, data, teacher=teacher)
        start = [angle(learned[name].basis(f"{one}/teacher-0"), direction) for one, direction in planted.items()]
        train_network(
            network, teacher, OF_TEACHER, data, subspaces=learned[name], frozen=True, weights={"causal_ce": 1.0},
            steps=250, batch_size=128, subspace_learning_rate=0.1,
        )  # fmt: skip
        assert min(start) > 5
    for name, direction in planted.items():
        assert angle(learned["student"].basis(f"{name}/teacher-0"), direction) < 3
    check = verify(teacher, networks, OF_TEACHER, unseen, judged="student", subspaces=learned, batch_size=300)
    assert min(accuracy(check).values()) > 0.99
    for name in networks:  # each is held against what it found in the teacher itself
        side = side_of(teacher, OF_TEACHER, "teacher", subspaces=learned[name])
        cases = check.outcomes[(check.outcomes["student"] == name) & (check.outcomes["variable"] == "left")]
        base, source = (unseen.columns["inputs"][torch.tensor(cases[one].to_numpy())] for one in ("base", "source"))
        basis, hidden = learned[name].basis("left/teacher-0"), teacher[:3](base)
        answers = teacher[3:](hidden + (teacher[:3](source) - hidden) @ basis @ basis.T).argmax(1)
        assert answers.tolist() == cases["teacher_cf"].tolist() and side.sites["left"][0].subspace is not None
    assert check.verdict.label == "SUPPORTED", check


def test_what_a_teacher_reads_of_its_site_is_found_while_a_student_trains() -> None:
    """Two of the site's four directions decide. A student of fixed neurons follows, its control does not."""
    teacher, planted = turned()
    aligned = Alignment.pairs(positions="all", all=(Site.learned("2.output", 3), Site.module("1.output", (0, 8))))
    data, unseen = rows(), rows(600, seed=5)
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    control = copy.deepcopy(student)
    learned: dict[str, LearnedSubspaces] = {}
    for name, network in (("student", student), ("untrained", control)):
        learned[name] = new_subspaces(network, aligned, data, teacher=teacher)
        train_network(
            network, teacher, aligned, data, subspaces=learned[name], frozen=name == "untrained", steps=350,
            batch_size=128, learning_rate=0.01, subspace_learning_rate=0.1,
            weights={"ce": 1.0, "causal_ce": 1.0, "whole": 20.0},
        )  # fmt: skip
    plane = torch.stack(list(planted.values()), 1)
    assert degrees(learned["student"].basis("all/teacher-0"), plane) < 10
    networks = {"student": student, "untrained": control}
    check = verify(teacher, networks, aligned, unseen, judged="student", subspaces=learned, batch_size=300)
    assert check.verdict.variables["all"].label == "SUPPORTED", check


def test_a_planted_rotation_of_a_transformer_that_teaches_is_found(tmp_path: Path) -> None:
    student = llama(0)
    teacher, turn = rotated(student)
    aligned = Alignment.pairs(positions="all", part=(Site.learned(0, RANK), Site.neurons(0, 0, RANK)))
    settings = {
        "max_steps": 120, "per_device_train_batch_size": 32, "disable_tqdm": True, "freeze_student": True,
        "task": "causal_lm", "subspace_learning_rate": 0.1, "weights": {"causal_ce": 1.0}, "temperature": 1.0,
        "gradient_shares": False,
    }  # fmt: skip
    one = CausalDistillationTrainer(
        student, teacher, aligned, training_config(str(tmp_path), settings), train_dataset=Rows(256, 1),
        data_collator=collate,
    )  # fmt: skip
    assert one.subspaces is not None
    start = degrees(one.subspaces.basis("part/teacher-0"), turn[:, :RANK])
    one.train()
    assert degrees(one.subspaces.basis("part/teacher-0"), turn[:, :RANK]) < 10 < 60 < start


def test_a_resumed_run_is_the_uninterrupted_run(tmp_path: Path) -> None:
    aligned = Alignment.pairs("both", a=(Site.learned(1, 2), 0), b=(Site.learned(2, 3), Site.learned(1, 5)))
    weights = ObjectiveWeights(ce=0.5, causal_ce=0.5, whole=0.2)

    def made(folder: str, **settings: Any) -> CausalDistillationTrainer:
        every: dict[str, Any] = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, **settings}
        return trainer(tmp_path / folder, alignment=aligned, weights=weights, **every)

    whole, resumed = made("whole"), made("whole", save_strategy="no")
    start = {key: whole.subspaces.basis(key) for key in whole.subspaces or ()}  # pyright: ignore[reportOptionalMemberAccess]
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-2"))
    assert whole.subspaces is not None and resumed.subspaces is not None
    assert list(whole.subspaces) == ["b/0", "a/teacher-0", "b/teacher-0"]
    for key, basis in start.items():
        assert torch.equal(whole.subspaces.basis(key), resumed.subspaces.basis(key))
        assert not torch.allclose(whole.subspaces.basis(key), basis, atol=1e-3)
    lines = [line for line in whole.state.log_history if "loss" in line]
    assert lines and all("loss/whole" in line and "gradient_share/whole" not in line for line in lines)


@pytest.mark.parametrize(
    ("weights", "aligned", "said"),
    [
        ({"causal_ce": 1.0}, OF_TEACHER, "directions that change nothing; give the term `whole` a weight"),
        ({"causal_ce": 1.0, "whole": 1.0}, Alignment.pairs(positions="all", v=(Site.module("2.output"),
         Site.learned("2.output", 1))), "training.weights.whole: it is about a `subspace` of the teacher"),
        ({"ce": 1.0, "whole": 1.0}, OF_TEACHER, "learned subspaces need a causal_"),
    ],
)  # fmt: skip
def test_what_could_collapse_is_refused_in_one_line(weights: dict[str, float], aligned: Alignment, said: str) -> None:
    teacher, network = turned()[0], random_network(0)
    given = new_subspaces(network, aligned, rows(), teacher=teacher)
    with pytest.raises(UserError, match=said) as caught:
        train_network(network, teacher, aligned, rows(), subspaces=given, steps=1, weights=weights)
    assert "\n" not in str(caught.value)


def test_subspaces_of_a_teacher_are_given_for_both_sides() -> None:
    teacher, network = turned()[0], random_network(0)
    with pytest.raises(UserError, match="give the model as `teacher`"):
        new_subspaces(network, BOTH, rows())
    with pytest.raises(UserError, match="learned subspaces of the teacher, but none are given"):
        side_of(teacher, BOTH, "teacher")
    of_student = Alignment.pairs(positions="all", left=(Site.module("2.output"), Site.learned("0.output", 1)))
    alone = new_subspaces(network, of_student, rows())
    with pytest.raises(UserError, match="which are not the alignment's"):
        side_of(teacher, BOTH, "teacher", subspaces=alone)

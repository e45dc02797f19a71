"""A side that is a program, not a model: it teaches, and is verified, by all that is above the engine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.analysis.statistics.summary import summarise
from iit_toolkit.analysis.verification.cases import draw_pairs
from iit_toolkit.analysis.verification.verify import tabulate
from iit_toolkit.data.batch import model_inputs
from iit_toolkit.data.collate import ClassificationCollator
from iit_toolkit.distillation.cost import StepCost, flops
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.interchange import InterchangeModel, Run, Sampler, Side, Swap
from iit_toolkit.interchange.sampling import Variables, step_generator
from tests.downstream.tiny import tiny_tokenizer
from tests.golden.trajectories import model, rows

SITE = {"layer": 0, "component": "block_output"}
CLASSES = 3


class Program:
    """Answers with the sum of its tokens modulo three; its one variable is what each token adds."""

    module: nn.Module | None = None
    head: nn.Module | None = None
    device = torch.device("cpu")

    def __init__(self, factor: int = 1, variable: str = "added") -> None:
        self.factor = factor
        self.variables: Collection[str] = [variable]
        self.runs: list[str] = []

    def eval(self) -> None:
        self.runs.append("eval")

    def reads(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return model_inputs(batch)

    def places(self, variable: str) -> Collection[str]:
        assert variable in self.variables
        return ["added"]

    def reads_what_it_writes(self, variable: str) -> bool:
        return variable in self.variables

    def aligned_activation(self, run: Run, variable: str) -> Tensor:
        assert variable in self.variables
        return run.activations["added"]

    def base_run(
        self, inputs: Mapping[str, Tensor], variables: Iterable[str] = (), tokens: Tensor | None = None
    ) -> Run:
        assert tokens is None and set(variables) <= set(self.variables)
        added = (inputs["input_ids"] * self.factor % CLASSES * inputs["attention_mask"])[:, :, None].float()
        return self._run(dict(inputs), added)

    def source_run(self, inputs: Mapping[str, Tensor], variables: Iterable[str]) -> Run:
        return self.base_run(inputs, variables)

    def counterfactual_run(
        self, base: Run, variable: str, swap: Swap, *, source: Run | None = None, tokens: Tensor | None = None
    ) -> Run:
        assert variable in self.variables and tokens is None
        taken = swap.take((source or base).activations["added"])
        return self._run(base.inputs, torch.where(swap.mask[:, :, None], taken, base.activations["added"]))

    def logits(self, run: Run) -> Tensor:
        assert run.logits is not None
        return run.logits

    def _run(self, inputs: dict[str, Any], added: Tensor) -> Run:
        answer = added.sum((1, 2)).long() % CLASSES
        return Run(inputs, None, nn.functional.one_hot(answer, CLASSES) * 8.0, added, {"added": added})


def alignment() -> Alignment:
    variable = {"name": "added", "teacher": [SITE], "student": [SITE]}
    return Alignment.from_dict({"name": "x", "variables": [variable], "positions": {"kind": "span", "fraction": 0.5}})


def live(side: str = "student") -> InterchangeModel:
    made = model("sequence_classification", 2, 16)
    return InterchangeModel(made, resolve(alignment(), made, side))  # pyright: ignore


def drawn() -> Any:
    declared, collator = alignment(), ClassificationCollator(tiny_tokenizer())
    settings: dict[str, Any] = {"task": "sequence_classification", "pairs": 24, "batch_size": 5, "seed": 0}
    return draw_pairs(rows(paired=False), collator, declared.positions, declared.sources, what="test", **settings)


def test_both_are_sides() -> None:
    sides: list[Side] = [Program(), live()]
    assert [list(side.variables) for side in sides] == [["added"], ["added"]]


def test_a_program_teaches_a_student_with_its_variable_swapped() -> None:
    teacher, student, declared = Program(), live(), alignment()
    weights = ObjectiveWeights(ce=0.3, logit_mse=0.01, causal_ce=0.4, causal_logit_mse=0.01)
    objective = Objective(teacher, student, weights, "sequence_classification")
    batch = ClassificationCollator(tiny_tokenizer())(rows(paired=False)[:6])
    sampler = Sampler(declared.positions, declared.sources, "sequence_classification")
    one = Variables(["added"], torch.ones(1), torch.ones(1))
    interchanges = sampler.interchanges(batch, one, 1, step_generator(0, 0, 0, 0))
    optimizer = torch.optim.Adam(student.model.parameters(), lr=0.01)
    losses: list[float] = []
    for _ in range(60):
        found = objective(batch, interchanges)
        losses.append(found.total.item())
        optimizer.zero_grad()
        found.total.backward()
        optimizer.step()
    assert losses[-1] < losses[0] / 3 and set(found.terms) == {"ce", "logit_mse", "causal_ce", "causal_logit_mse"}
    swap = interchanges[0].swap
    real = {name: batch[name] for name in ("input_ids", "attention_mask")}
    ids = real["input_ids"].clone()
    for row, column in swap.mask.nonzero().tolist():
        ids[row, column] = real["input_ids"][swap.source[row], swap.source_position[row, column]]
    without, expected = ((one * real["attention_mask"]).sum(1) % CLASSES for one in (real["input_ids"], ids))  # by hand
    with torch.no_grad():
        run = student.counterfactual_run(student.base_run(real, ["added"]), "added", swap)
    assert (student.logits(run).argmax(-1) == expected).float().mean() > 0.8
    assert float(objective.effect_size(batch, interchanges[0])) == float((expected != without).float().mean())


@pytest.mark.parametrize(("factor", "same"), [(1, True), (4, True), (2, False)])
def test_a_program_is_verified_against_another(factor: int, same: bool) -> None:
    """Modulo three, four times a number is the number, and twice is not."""
    teacher, student = Program(), Program(factor)
    found = tabulate(teacher, {"program": student}, ["added"], drawn())
    changed = found.outcomes["teacher_base"] != found.outcomes["teacher_cf"]
    assert changed.sum() >= 10 and found.self_swap.changed == 0 and found.ceiling.same == found.ceiling.cases > 0
    agree = found.outcomes["teacher_cf"] == found.outcomes["student_cf"]
    assert bool(agree.all()) == same and (same or not agree[changed].mean() > 0.7)
    measured = summarise(found.outcomes, resamples=100).students["program"].variables["added"]
    assert (measured.effective_iia.outside.value == 1.0) == same


def test_a_program_costs_no_matrix_products() -> None:
    batch = ClassificationCollator(tiny_tokenizer())(rows(paired=False)[:6])
    weights = ObjectiveWeights(ce=0.5, causal_ce=0.5)
    program = StepCost(Objective(Program(), live(), weights, "sequence_classification"), batch)
    models = StepCost(Objective(live("teacher"), live(), weights, "sequence_classification"), batch)
    for found, expected in (
        (program.plain(), models.plain()),
        (program.counterfactual("added"), models.counterfactual("added")),
    ):
        assert not any(found[part] for part in found if part.startswith("teacher"))
        assert 0 < flops(found) < flops(expected)

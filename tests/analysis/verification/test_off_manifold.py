"""The off-manifold share: natural states are natural, and states that no input leads to are found out."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from iit_toolkit.analysis.statistics.control_results import NATURAL
from iit_toolkit.analysis.verification.cases import Cases
from iit_toolkit.analysis.verification.off_manifold import _distances, _far, _share, _States
from iit_toolkit.analysis.verification.verify import Verification, verify
from tests.analysis.verification.test_controls import holder
from tests.analysis.verification.test_planted_truth import aligned, collate, llama, rows, teacher_of


def states(values: torch.Tensor, texts: torch.Tensor, inside: torch.Tensor | None = None) -> _States:
    inside = torch.zeros(len(values), dtype=torch.bool) if inside is None else inside
    other = texts + 10_000  # sources are of other texts than any base
    found = _States()
    found.add(values, Cases(None, texts, other, texts, other, texts, inside, texts))
    return found


def normal(count: int, seed: int, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)) + shift


def test_natural_states_are_as_often_off_as_they_are_by_definition() -> None:
    natural = states(normal(800, 0), torch.arange(800))
    again = states(normal(2000, 1), torch.arange(2000) + 5000)
    share = _share(_far(again, natural), again, 0)
    assert share.value == pytest.approx(NATURAL, abs=0.02) and share.cases == 2000


def test_states_that_no_input_leads_to_are_off() -> None:
    natural = states(normal(400, 0), torch.arange(400))
    swapped = states(normal(300, 1, shift=6.0), torch.arange(300) + 5000)
    assert _share(_far(swapped, natural), swapped, 0).value == 1.0


def test_the_scale_of_a_neuron_does_not_matter() -> None:
    scale = torch.tensor([1e-3, 1.0, 1e3, 1.0, 1.0, 0.0])  # the last never varies
    natural, swapped = normal(300, 0), normal(300, 1, shift=0.8)
    texts = torch.arange(300)
    plain = _far(states(swapped[:, :5], texts + 5000), states(natural[:, :5], texts))
    scaled = _far(states((swapped * scale)[:, :6], texts + 5000), states(natural * scale, texts))
    assert bool((plain == scaled).all())


def test_neither_the_bases_text_nor_the_sources_is_near() -> None:
    natural = states(torch.tensor([[0.0], [1.0], [5.0]]), torch.tensor([0, 1, 2]))
    one = torch.zeros(1, dtype=torch.long)
    swapped = _States()
    swapped.add(torch.tensor([[0.1]]), Cases(None, one, one + 1, one, one + 1, one, one.bool(), one))
    assert _distances(swapped, natural, torch.ones(1)).tolist() == [pytest.approx(4.9)]


def test_answers_inside_are_left_out() -> None:
    found = states(normal(4, 0), torch.arange(4), torch.tensor([True, False, True, False]))
    assert found.column("base").tolist() == [1, 3]


@pytest.fixture(scope="module")
def planted() -> Verification:
    student, given = holder(), aligned({neuron: neuron for neuron in range(8)})
    teacher = teacher_of(student, torch.arange(16))
    options: dict[str, Any] = {"task": "causal_lm", "pairs": 60, "batch_size": 20, "judged": "student"}
    return verify(teacher, {"student": student}, given, rows(60), collate, **options)


def test_a_verification_measures_teacher_and_judged_student_alike(planted: Verification) -> None:
    """The two compute the same, so their states are equally far off; the teacher has no name."""
    assert [(one.variable, one.model) for one in planted.off_manifold] == [("half", ""), ("half", "student")]
    teacher, student = (one.share.value for one in planted.off_manifold)
    assert teacher == pytest.approx(student, abs=0.02) and student is not None and 0 < student < 1
    outside = ~planted.outcomes["inside"]
    assert planted.off_manifold[0].share.cases == int(outside.sum())


def test_without_a_judged_student_nothing_is_measured() -> None:
    model = llama(2)
    found = verify(model, {"a": model}, aligned({0: 0}, layer=0), rows(20), collate, task="causal_lm", pairs=20)
    assert found.off_manifold == ()

"""A small part of the benchmark of verdicts."""

from __future__ import annotations

import pytest
import torch

from benchmarks.verdict_page import document
from benchmarks.verdict_systems import System, systems
from benchmarks.verdict_tasks import right_answer
from benchmarks.verdict_trained import drawn_objects, swapped
from benchmarks.verdicts import drawn, verified
from iit_toolkit.analysis.statistics.verdict import judge

SYSTEMS = {system.name: system for system in systems()}


@pytest.mark.parametrize(("name", "label"), [("copy", "SUPPORTED"), ("by-product", "NOT SUPPORTED")])
def test_a_copy_is_supported_and_a_student_that_ignores_swaps_is_not(name: str, label: str) -> None:
    found = verified(SYSTEMS[name], *drawn("equality", 128, 0), 0)
    assert found.self_swap.changed == 0 and found.ceiling.same == found.ceiling.cases
    assert judge(found, resamples=300).label == label


@pytest.mark.parametrize("system", systems(), ids=lambda system: system.name)
def test_systems_are_what_they_are_said_to_be(system: System) -> None:
    """Teachers are right; students are, but for two of them; the valid ones swap as their teachers do."""
    torch.manual_seed(0)
    objects = drawn_objects(512)
    right = right_answer(system.task, objects)
    teacher, student = system.teacher(), system.student()
    plain = (swapped(student, objects, None).argmax(1) == right).float().mean()
    assert (swapped(teacher, objects, None).argmax(1) == right).all()
    assert plain == 1 or (plain > 0.9 and "noisy" in system.name) or system.name in ("constant", "untrained")
    for_each = [
        (swapped(student, objects, one).argmax(1) == swapped(teacher, objects, one).argmax(1)).float().mean()
        for one in ("V1", "V2")
    ]
    assert (min(for_each) > 0.9) == system.valid


def test_the_page_marks_wrong_verdicts() -> None:
    def measured(**labels: int) -> dict[str, object]:
        found = {"labels": {"effect_r2": labels}, "scores": {"effect_r2": {"V1": 0.75, "V2": 0.5}}, "leaks": 1}
        return {"32": found, "64": found}

    shared = {"task": "equality", "what": "a student"}
    leaky = measured(**{"SUPPORTED": 1, "NOT SUPPORTED": 1})
    numbers = {
        "cpu_seconds": 60,
        "settings": {"pairs": [32, 64], "seeds": 2, "resamples": 9, "margin": 0.05, "measures": ["effect_r2"]},
        "systems": [
            {"name": "copy", "valid": True, "by_pairs": measured(SUPPORTED=2), **shared},
            {"name": "leaky", "valid": False, "by_pairs": leaky, **shared},
        ],
    }
    page = document(numbers)
    assert "| leaky | invalid | NOT SUPPORTED 1, **SUPPORTED 1** (0.50) | 1 of 2 |" in page
    assert "| copy | valid | SUPPORTED (0.50) | 1 of 2 |" in page
    assert "| leaky | invalid | **none** (-) |" in page and "| copy | valid | 32 |" in page
    assert "| effect R² | invalid | 50% | 50% |" in page
    assert "* effect R²: 1 of 2 with 32, 1 of 2 with 64" in page

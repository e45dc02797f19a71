"""The tasks of the gallery: their answers and counterfactuals are those of plain Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from analysis import gallery
from iit_toolkit.files.json_files import read_object


@pytest.fixture
def task(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, gallery_module: Callable[[str], ModuleType]
) -> ModuleType:
    """A module of the gallery, as its `run.py` imports it."""
    module = gallery_module(request.param)
    if request.param == "pvr":  # the digits are not part of the repository
        classes = torch.arange(10).repeat(1000)
        images = (1 + classes[:, None, None].float()).expand(-1, module.DIGIT, module.DIGIT)
        monkeypatch.setattr(module, "all_digits", lambda: (images, classes))
        monkeypatch.setattr(module, "ROWS", 200)
        monkeypatch.setattr(module, "TEST_ROWS", 200)
    return module


@pytest.mark.parametrize("task", ["carry"], indirect=True)
def test_sums_are_sums(task: Any) -> None:
    training, test = task.columns(0), task.tests()["test"]
    for rows in (training, test, task.augmented(training)):
        for digits, label in zip(rows["inputs"].tolist()[:300], rows["labels"].tolist(), strict=False):
            assert label == 10 * (digits[0] + digits[2]) + digits[1] + digits[3]
    seen = {tuple(row) for row in training["inputs"].tolist()}
    assert len(seen) == 9000 and not seen & {tuple(row) for row in test["inputs"].tolist()}


@pytest.mark.parametrize("task", ["pvr"], indirect=True)
def test_images_show_their_digits_and_the_first_points_to_the_answer(task: Any) -> None:
    training, tests = task.columns(0), task.tests()
    for rows, held in ((training, False), (tests["test"], False), (tests["adversarial"], True)):
        assert len(rows["labels"]) == 200
        for image, digits, label in zip(rows["inputs"], rows["digits"].tolist(), rows["labels"].tolist(), strict=True):
            cells = [image[top : top + 16, left : left + 16] for top in (0, 16) for left in (0, 16)]
            assert [round(float(cell.max())) - 1 for cell in cells] == digits
            assert all(int((cell > 0).sum()) == 14 * 14 for cell in cells)
            first = digits[0]
            assert label == digits[1 if first <= 3 else 2 if first <= 6 else 3]
            out = [
                digit in kinds for digit, kinds in zip(digits[1:], ((1, 2, 3), (4, 5, 6), (7, 8, 9, 0)), strict=True)
            ]
            assert all(out) if held else not any(out)
    more = task.augmented(training)
    changed = (more["digits"] != training["digits"]).sum(1)
    assert int(changed.max()) == 1 and not torch.equal(more["labels"], training["labels"])
    cells = more["inputs"].view(-1, 2, 16, 2, 16).amax((2, 4)).flatten(1)
    assert torch.equal(cells.round().long() - 1, more["digits"])


@pytest.mark.parametrize("task", ["carry", "pvr", "equality", "mqnli", "two_choice"], indirect=True)
def test_the_crossed_alignment_gives_every_variable_the_sites_of_another(task: Any) -> None:
    right, crossed = task.TASK.alignment(), task.TASK.alignment(crossed=True)
    assert [one.teacher for one in right.variables] == [one.teacher for one in crossed.variables]
    assert all(mine.student != other.student for mine, other in zip(right.variables, crossed.variables, strict=True))
    assert set(task.TASK.sites) <= set(task.TASK.program.domains)


def test_what_is_done_is_not_done_again_unless_its_settings_are_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gallery_module: Callable[[str], ModuleType]
) -> None:
    run: Any = gallery_module("run")
    monkeypatch.setattr(run, "RESULTS", tmp_path)
    trained: list[int] = []

    def record(steps: int) -> None:
        def train() -> torch.nn.Module:
            trained.append(steps)
            return torch.nn.Linear(1, 1)

        run._record("task", "iit", 0, {"steps": steps}, train, lambda _: {"label": "SUPPORTED", "accuracy": 1.0})

    for steps in (5, 5, 6, 6):
        record(steps)
    assert trained == [5, 6]
    assert read_object(tmp_path / "task" / "iit-0.json")["settings"] == {"steps": 6}


def test_every_task_of_the_gallery_is_made_and_has_a_table(gallery_module: Callable[[str], ModuleType]) -> None:
    run: Any = gallery_module("run")
    made = re.search(
        r"^GALLERY := (.*)$", (gallery.FOLDER.parents[1] / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert made and sorted(made[1].split()) == sorted(run.TASKS)
    assert {*gallery.TASKS, *gallery.SEARCHES} == set(run.TASKS)
    assert {name: tuple(task.arms) for name, task in run.PROGRAMS.items()}.items() <= gallery.TASKS.items()
    assert all(gallery.TASKS[name] == gallery_module("lessons").STUDENT_ARMS for name in run.STUDENTS)

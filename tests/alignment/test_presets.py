"""Presets: the paper's layer lists, the proportional rule, and what naacl2022 does differently."""

from __future__ import annotations

import pytest
import torch

from iit_toolkit.alignment import preset, resolve
from iit_toolkit.alignment.presets import PRESETS
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel, Swap
from tests.families import make_batch, make_model

PAPER = {
    ("middle", 3): [([6], 1)],
    ("middle", 6): [([6], 3)],
    ("middle", 9): [([6], 4)],
    ("late", 3): [([9], 0), ([10], 1)],
    ("late", 6): [([9], 3), ([10], 4)],
    ("full", 3): [([0, 1, 2, 3], 0), ([4, 5, 6, 7], 1), ([8, 9, 10, 11], 2)],
    ("full", 6): [([0, 1], 0), ([2, 3], 1), ([4, 5], 2), ([6, 7], 3), ([8, 9], 4), ([10, 11], 5)],
    ("full", 9): [
        ([0, 1], 0),
        ([2, 3], 1),
        ([4, 5], 2),
        ([6], 3),
        ([7], 4),
        ([8], 5),
        ([9], 6),
        ([10], 7),
        ([11], 8),
    ],
}
"""(alignment, student's depth) -> (teacher's layers, student's layer) per variable, for 12-layer teachers."""


def layers(name: str, teacher: int, student: int) -> list[tuple[list[int], int]]:
    found = []
    for variable in preset(name, teacher, student).variables:
        (own,) = variable.student
        found.append(([site.layer for site in variable.teacher], own.layer))
    return found


@pytest.mark.parametrize("family", ["diito", "naacl2022"])
@pytest.mark.parametrize(("kind", "student"), PAPER)
def test_the_papers_layer_lists(family: str, kind: str, student: int) -> None:
    assert layers(f"{family}/{kind}", 12, student) == PAPER[kind, student]


@pytest.mark.parametrize("family", ["diito", "naacl2022"])
def test_where_presets_read_and_write(family: str) -> None:
    for variable in preset(f"{family}/full", 12, 6).variables:
        for site in (*variable.teacher, *variable.student):
            assert site.component == "block_output"
            if family == "diito":
                assert site.read is None
            else:
                assert site.read is not None
                assert (site.read.component, site.read.layer) == ("block_input", site.layer)


@pytest.mark.parametrize(
    ("name", "teacher", "student", "expected"),
    [
        ("diito/middle", 6, 3, [([3], 1)]),
        ("diito/late", 6, 3, [([1], 0), ([3], 1)]),
        ("diito/full", 6, 3, [([0, 1], 0), ([2, 3], 1), ([4, 5], 2)]),
        ("diito/middle", 24, 12, [([11], 5)]),
        ("diito/late", 4, 4, [([1], 1), ([2], 2)]),
        ("diito/full", 5, 3, [([0, 1], 0), ([2], 1), ([3, 4], 2)]),
        ("diito/middle", 2, 1, [([1], 0)]),
        ("diito/middle", 10, 5, [([5], 2)]),
        ("diito/middle", 26, 13, [([13], 6)]),
    ],
)
def test_other_depths_are_proportional(name: str, teacher: int, student: int, expected: list) -> None:
    assert layers(name, teacher, student) == expected


def test_every_depth_gives_a_sound_alignment() -> None:
    for teacher in range(1, 25):
        for student in range(1, teacher + 1):
            for kind in ("middle", "late", "full"):
                found = layers(f"diito/{kind}", teacher, student)
                taught = [layer for teachers, _ in found for layer in teachers]
                assert taught == sorted(set(taught)) and taught[0] >= 0 and taught[-1] < teacher
                learnt = [layer for _, layer in found]
                assert learnt == sorted(set(learnt)) and learnt[0] >= 0 and learnt[-1] < student
                if kind == "full":
                    assert taught == list(range(teacher)) and learnt == list(range(student))


def test_unknown_presets_and_impossible_depths() -> None:
    with pytest.raises(UserError, match='did you mean "diito/middle"?'):
        preset("diito/midle", 12, 6)
    with pytest.raises(UserError, match="valid: diito/full, diito/late, diito/middle"):
        preset("x", 12, 6)
    with pytest.raises(UserError, match="1 to 3"):
        preset("diito/full", 3, 6)


@pytest.mark.parametrize("name", PRESETS)
def test_an_example_swapped_with_itself(name: str) -> None:
    """A no-op for diito; not for the official code's places, which lie one block apart."""
    model = make_model("bert")
    inputs, eligible = make_batch("bert")
    sites = resolve(preset(name, 3, 3), model, "student")
    interchange = InterchangeModel(model, sites)
    own = Swap(torch.arange(4), eligible, torch.arange(11).expand(4, 11))
    base = interchange.base_run(inputs, list(sites))
    for variable in sites:
        changed = interchange.logits(interchange.counterfactual_run(base, variable, own))
        assert torch.equal(changed, interchange.logits(base)) is name.startswith("diito")

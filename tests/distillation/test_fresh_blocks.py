"""Students with random blocks, and their teacher's embeddings and head."""

from __future__ import annotations

import pytest
import torch

from iit_toolkit.config.run_config import StudentConfig
from iit_toolkit.distillation.fresh_blocks import draw_blocks_anew
from iit_toolkit.distillation.students import student
from tests.distillation.test_trainer import bert


def test_blocks_are_drawn_anew_and_all_else_is_the_teachers() -> None:
    teacher, drawn = bert(4), list[dict[str, torch.Tensor]]()
    copied = student(teacher, [0, 2]).state_dict()
    for _ in range(2):
        torch.manual_seed(7)
        drawn.append(draw_blocks_anew(student(teacher, [0, 2])).state_dict())
    for name, value in copied.items():
        assert torch.equal(drawn[0][name], drawn[1][name])
        if ".layer." not in name or value.dim() == 2:
            assert torch.equal(drawn[0][name], value) == (".layer." not in name)
    weight = drawn[0]["bert.encoder.layer.1.output.dense.weight"]
    assert weight.std().item() == pytest.approx(teacher.config.initializer_range, rel=0.2)


def test_a_student_that_is_not_made_of_layers_has_no_fresh_blocks() -> None:
    assert StudentConfig(layers=3, fresh_blocks=True).fresh_blocks
    with pytest.raises(ValueError, match="fresh_blocks is of students made of layers; leave it out with checkpoint"):
        StudentConfig(checkpoint="x", fresh_blocks=True)

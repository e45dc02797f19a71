"""The demo: a rearranged copy of the bundled teacher is SUPPORTED, a stranger is not."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.analysis.statistics.stored_results import read_stored
from iit_toolkit.config.loading import load_config
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline import demo
from iit_toolkit.pipeline.demo import rearranged
from iit_toolkit.pipeline.prepare import Prepared
from tests.embedded import in_real_use


@torch.no_grad()
def test_a_rearranged_copy_has_other_weights_and_the_same_function() -> None:
    with in_real_use():
        teacher = Prepared(load_config("demo")).teacher
    made = rearranged(teacher)
    ids = torch.randint(5, 5000, (3, 12), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(made(ids).logits, teacher(ids).logits, rtol=1e-4, atol=1e-3)
    for one, two in zip(blocks(teacher), blocks(made), strict=True):
        others = dict(two.named_parameters())
        moved = {name for name, weight in one.named_parameters() if not torch.equal(weight, others[name])}
        assert len(moved) == 10 and not any("LayerNorm" in name for name in moved)
    broken = copy.deepcopy(made)
    layer = blocks(broken)[2].intermediate.dense
    layer.weight.copy_(layer.weight.flip(0))  # in another order than what reads it
    assert (broken(ids).logits - teacher(ids).logits).abs().max() > 0.1


def test_the_copy_is_supported_and_the_stranger_is_not(tmp_path: Path) -> None:
    with in_real_use():
        folders = demo(tmp_path / "demo")
    verdicts = {name: read_stored(folder).verdict for name, folder in folders.items()}
    assert {name: one.label for name, one in verdicts.items()} == {"copy": "SUPPORTED", "stranger": "NOT SUPPORTED"}
    assert {control.passed for one in verdicts["copy"].variables.values() for control in one.controls} == {True}
    assert all((folder / "report.html").is_file() for folder in folders.values())
    with pytest.raises(UserError, match="is not empty"):
        demo(tmp_path / "demo")


def test_a_taken_folder_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "stranger").mkdir()
    (tmp_path / "stranger" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="stranger is not empty"):
        demo(tmp_path)
    assert not (tmp_path / "copy").exists()

"""A few points of `benchmarks.kills`: a training that is killed at a write, and resumed, is the uninterrupted one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("processes are forked", allow_module_level=True)

from benchmarks.kills import in_a_child, prepare_inputs, try_point, undisturbed

POINTS = [
    ("torn", ("save", "optimizer.pt")),
    ("before", ("rename", "checkpoint-2")),
    ("after", ("mkdir", ".causal.HEX")),
    ("before", ("replace", "config.yaml")),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kills")
    in_a_child(lambda: prepare_inputs(folder))
    return folder


@pytest.fixture(scope="module")
def writes(place: Path) -> list[tuple[str, str]]:
    return undisturbed("train", place)[0]


@pytest.mark.parametrize(("how", "write"), POINTS, ids=[f"{how} {kind} {name}" for how, (kind, name) in POINTS])
def test_a_training_killed_at_a_write_is_the_uninterrupted_one(
    place: Path, writes: list[tuple[str, str]], tmp_path: Path, how: str, write: tuple[str, str]
) -> None:
    point = {"verb": "train", "write": writes.index(write), "how": how}
    tried = try_point(point, tmp_path / "point" / "home", place)
    assert tried["ended"] == -9 and tried["exact"], tried

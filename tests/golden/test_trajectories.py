"""Trainings take the very steps that are recorded, whole and resumed, by one process and by two.

On another processor, or with another torch, the last bits differ: there, losses are held to a five-hundredth.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from tests.golden import processes, trajectories
from tests.golden.record import made_on, read, shortened

RECORD: dict[str, Any] = read("trajectories")
EXACT = RECORD["made_on"] == made_on()


def check(name: str, found: dict[str, Any]) -> None:
    """Compare a training with its record."""
    recorded, short = RECORD["record"][name], shortened(found)
    if EXACT:
        assert short == recorded
        return
    assert len(short["steps"]) == len(recorded["steps"]) == trajectories.STEPS
    for ours, theirs in zip(short["steps"], recorded["steps"], strict=True):
        assert ours == pytest.approx(theirs, rel=2e-3)
    for line in ("first", "last"):
        assert short[line] == pytest.approx(recorded[line], rel=2e-2, abs=1e-4)


@pytest.mark.parametrize("case", trajectories.CASES, ids=lambda case: trajectories.name_of(*case))
def test_twenty_steps_are_as_recorded_and_resumed_ones_are_the_same(case: Any, tmp_path: Path) -> None:
    whole = trajectories.trained(tmp_path, case)
    check(trajectories.name_of(*case), whole)
    assert trajectories.trained(tmp_path, case, resumed=True) == whole


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the record is of two processes with gloo")
def test_twenty_steps_of_two_processes_are_as_recorded(tmp_path: Path) -> None:
    for name, found in processes.in_two_processes(tmp_path).items():
        check(f"{name}, two processes", found)


def test_every_record_is_of_a_case() -> None:
    names = [trajectories.name_of(*case) for case in trajectories.CASES]
    two = [f"{trajectories.name_of(*case)}, two processes" for case in processes.CASES]
    assert sorted(RECORD["record"]) == sorted(names + two)

"""The environment says which process this is, or is refused before anything runs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from iit_toolkit.distillation.config import training_config
from iit_toolkit.downstream.arguments import training_arguments
from iit_toolkit.errors import UserError
from iit_toolkit.runs.launch import Launch, forget_a_launcher_of_one, launched, several

TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
LEFT_OVER = {**TORCHRUN, "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "gone"}
NAMES = (*TORCHRUN, "PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE")


def environment(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, Launch()),
        ({"RANK": "0"}, Launch()),
        ({"WORLD_SIZE": "1"}, Launch()),
        ({"LOCAL_RANK": "-1"}, Launch()),
        ({"RANK": "0", "WORLD_SIZE": "1"}, Launch()),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4"}, Launch()),
        ({"PMI_SIZE": "1", "PMI_RANK": "0"}, Launch()),
        ({"TORCHELASTIC_RUN_ID": "gone", "MASTER_ADDR": "gone"}, Launch()),
        (TORCHRUN, Launch(1, 2, 1)),
        ({**TORCHRUN, "PMI_SIZE": "8"}, Launch(1, 2, 1)),  # a launcher below another
        (LEFT_OVER, Launch()),
        ({name: LEFT_OVER[name] for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}, Launch()),
    ],
)
def test_what_runs_follows_from_variables_that_add_up(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], expected: Launch
) -> None:
    environment(monkeypatch, given)
    assert launched() == expected
    assert several() == (expected.count > 1)


@pytest.mark.parametrize(
    "make",
    [lambda: training_config("unused", {}), lambda: training_arguments({}, 0, "training", "unused")],
    ids=["training", "fine-tuning"],
)
def test_accelerate_starts_no_group_for_one_process(monkeypatch: pytest.MonkeyPatch, make: Callable[[], Any]) -> None:
    environment(monkeypatch, LEFT_OVER)
    make()
    assert not {"RANK", "LOCAL_RANK", "WORLD_SIZE"} & set(os.environ)
    environment(monkeypatch, TORCHRUN)
    forget_a_launcher_of_one()
    assert os.environ["RANK"] == "1"


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"RANK": "1"}, "RANK is 1, but WORLD_SIZE is not set"),
        ({"LOCAL_RANK": "0"}, "LOCAL_RANK is 0, but WORLD_SIZE is not set"),
        ({"RANK": "1", "WORLD_SIZE": "1"}, "RANK is 1, but WORLD_SIZE is 1"),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "1"}, "LOCAL_RANK is 1, but WORLD_SIZE is 1"),
        ({**TORCHRUN, "RANK": "2"}, "RANK is 2, but WORLD_SIZE is 2"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but RANK is not set"),
        ({"WORLD_SIZE": "2", "RANK": "0"}, "WORLD_SIZE is 2, but LOCAL_RANK is not set"),
        ({**TORCHRUN, "MASTER_ADDR": ""}, "WORLD_SIZE is 2, but MASTER_ADDR is not set"),
        ({**TORCHRUN, "MASTER_PORT": "70000"}, "MASTER_PORT is 70000"),
        ({**TORCHRUN, "MASTER_PORT": "http"}, "MASTER_PORT is 'http', which is no whole number"),
        ({"RANK": "first"}, "RANK is 'first', which is no whole number"),
        ({"RANK": ""}, "RANK is '', which is no whole number"),
        ({"WORLD_SIZE": "2.0"}, "WORLD_SIZE is '2.0', which is no whole number"),
        ({"WORLD_SIZE": "9" * 5000}, "which is no whole number"),
        ({"RANK": "-1"}, "RANK is -1"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is 0"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "OMPI_COMM_WORLD_SIZE is 4"),
        ({"PMI_SIZE": "2", "WORLD_SIZE": "1"}, "PMI_SIZE is 2"),
        ({**LEFT_OVER, "PMI_SIZE": "2"}, "PMI_SIZE is 2"),
        ({"RANK": "0", "MV2_COMM_WORLD_SIZE": "2"}, "MV2_COMM_WORLD_SIZE is 2"),
    ],
)
def test_variables_that_do_not_add_up_are_refused(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], found: str
) -> None:
    environment(monkeypatch, given)
    with pytest.raises(UserError) as refused:
        launched()
    assert found in str(refused.value) and "unset RANK" in str(refused.value) and len(str(refused.value)) < 300

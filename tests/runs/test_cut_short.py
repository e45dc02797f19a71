"""A training that ended early is not taken for finished, and what ended it is told."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from typing import Any

import pytest
from torch.utils.data import DataLoader
from transformers import TrainerState

from iit_toolkit.errors import UserError
from iit_toolkit.runs.cut_short import refuse_cut_short, told_if_worker_ended


def test_a_training_that_ended_early_is_refused() -> None:
    with pytest.raises(UserError, match=r"^arms\.plain: training ended after step 8 of 120; resume it$"):
        refuse_cut_short(TrainerState(global_step=8, max_steps=120), "arms.plain", "resume it")
    refuse_cut_short(TrainerState(global_step=8, max_steps=8), "arms.plain", "resume it")


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(104, "Connection reset by peer"),
        EOFError(),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "),
        RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"),
    ],
    ids=str,
)
def test_a_worker_that_ended_is_told_in_one_line(error: Exception) -> None:
    said = r"^arms\.a: a worker .* lower its dataloader_num_workers \(2\); go on$"
    with pytest.raises(UserError, match=said), told_if_worker_ended("arms.a", 2, "go on"):
        raise error
    with pytest.raises(type(error)), told_if_worker_ended("arms.a", 0, "go on"):  # nobody's worker
        raise error


def test_a_mistake_in_a_worker_is_none_of_its_end() -> None:
    with pytest.raises(RuntimeError, match="Caught"), told_if_worker_ended("arms.a", 2, "go on"):
        raise RuntimeError("Caught RuntimeError in DataLoader worker process 0.")


class _Killed:
    def __len__(self) -> int:
        return 4

    def __getitem__(self, row: int) -> int:
        os.kill(os.getpid(), signal.SIGKILL)
        return row


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_worker_that_the_system_kills_is_such_a_worker() -> None:
    rows: Any = _Killed()
    forked = multiprocessing.get_context("fork")
    with pytest.raises(UserError, match="a worker that reads rows ended"), told_if_worker_ended("arms.a", 1, "go on"):
        list(DataLoader(rows, num_workers=1, multiprocessing_context=forked))

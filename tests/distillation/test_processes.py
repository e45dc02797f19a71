"""Several processes train what one does, let nothing outlive them, and end if one of them stops."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import BatchSampler, SequentialSampler

from iit_toolkit.distillation.processes import Rounds
from iit_toolkit.distillation.terms import ObjectiveWeights
from iit_toolkit.errors import UserError
from iit_toolkit.runs import processes
from tests.distillation import test_trainer as of_trainer
from tests.forked import two_processes

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks, and counts threads in /proc")
UNEVEN = [(13, 1), (9, 1), (17, 2)]  # rows and accumulation, for batches of 4 on 2 processes


@pytest.mark.parametrize("rows", range(1, 26))
@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("drop", [False, True])
def test_every_batch_weighs_the_same_once_an_epoch(rows: int, count: int, drop: bool) -> None:
    """The weights of an update's batches, over its rounds and the processes, are those of a mean over its batches."""
    batches = BatchSampler(SequentialSampler(range(rows)), 4, drop)
    dealt = [Rounds(batches, count, process) for process in range(count)]
    epochs = [list(one) for one in dealt]
    assert {len(epoch) for epoch in epochs} == {len(one) for one in dealt} == {-(-len(batches) // count)}
    for rounds in range(1, len(epochs[0]) + 1):  # in the epoch's last update
        weights = [one.weights(rounds, last=True) for one in dealt]
        first = len(epochs[0]) - rounds
        of_update = list(batches)[first * count :]
        weighed = {
            tuple(epoch[first + index]): weight / rounds / count
            for epoch, one in zip(epochs, weights, strict=True)
            for index, weight in enumerate(one)
            if weight
        }
        assert weighed == pytest.approx({tuple(batch): 1 / len(of_update) for batch in of_update})
    if epochs[0]:
        assert all(one.weights(3, last=False) == [1.0] * 3 for one in dealt)


def trained(folder: Path, rows: int, accumulation: int, **settings: Any) -> dict[str, torch.Tensor]:
    """Train two epochs without draws of a process's own; a projection is trained with the student."""
    defaults: dict[str, Any] = {"max_steps": -1, "num_train_epochs": 2.0, "optim": "sgd", "learning_rate": 0.5}
    one = of_trainer.trainer(
        folder,
        student=of_trainer.bert(2, width=12),
        alignment=None,
        weights=ObjectiveWeights(task=0.5, cos=0.5),
        dropout=False,
        gradient_shares=False,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=accumulation,
        report_to="none",
        **{**defaults, **settings},
    )
    one.train_dataset = of_trainer.Rows(rows)
    one.train()
    assert one.projection is not None
    return {**one.student.state_dict(), **one.projection.state_dict()}


def untouched() -> dict[str, torch.Tensor]:
    return of_trainer.bert(2, width=12).state_dict()


@linux
def test_two_processes_train_what_one_does_and_nothing_outlives_them(tmp_path: Path) -> None:
    """For each uneven number of rows; what outlives is found among the threads of each process."""
    folder = tmp_path

    def work(rank: int) -> None:
        with processes.parting():
            with processes.main_first():
                if rank == 0:
                    time.sleep(0.3)
                    (folder / "first").touch()
                assert (folder / "first").is_file()
            for rows, accumulation in UNEVEN:
                weights = trained(folder, rows, accumulation)
                torch.save(weights, folder / f"{rank}-{rows}-{accumulation}.pt")
        outlive = [Path(f"/proc/self/task/{thread}/comm").read_text() for thread in os.listdir("/proc/self/task")]
        (folder / f"{rank}.json").write_text(json.dumps([name.strip() for name in outlive]))

    ended = two_processes(work, folder)
    assert [one.code for one in ended] == [0, 0], ended[0].stderr[-3000:] + ended[1].stderr[-3000:]
    apart: list[float] = []
    moved: list[float] = []
    for rows, accumulation in UNEVEN:
        expected = trained(folder, rows, 2 * accumulation)
        untrained = untouched()
        two = [torch.load(folder / f"{rank}-{rows}-{accumulation}.pt") for rank in (0, 1)]
        moved.append(max(float((expected[name] - untrained[name]).abs().max()) for name in untrained))
        apart.append(max(float((one[name] - expected[name]).abs().max()) for one in two for name in expected))
    assert min(moved) > 1e-3 and max(apart) < 1e-6
    for rank in (0, 1):
        assert not [name for name in json.loads((folder / f"{rank}.json").read_text()) if "gloo" in name]


@linux
def test_a_process_does_not_wait_for_ever_for_one_that_stopped(tmp_path: Path) -> None:
    """The second stops in training, as in a debugger or with a machine that is gone; the first has to end."""

    def work(rank: int) -> None:
        processes._FAREWELL = 1.0
        try:
            with processes.parting():
                with processes.main_first():
                    pass
                processes.set_patience(4)
                if rank:
                    threading.Timer(1, os.kill, (os.getpid(), signal.SIGSTOP)).start()
                with processes.told_if_lost():
                    trained(tmp_path, 64, 1, max_steps=10**6, ddp_timeout=2)
        except UserError as error:
            sys.stderr.write(f"error: {error}\n")
            raise SystemExit(2) from None

    first, second = two_processes(work, tmp_path, second=0)
    told = [line for line in first.stderr.splitlines() if line.startswith("error: ")]
    assert first.code in (1, 2) and len(told) == 1 and "ddp_timeout" in told[0] and "Traceback" not in first.stderr
    assert second.code == -signal.SIGKILL

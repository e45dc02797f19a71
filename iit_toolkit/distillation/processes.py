"""What several processes share in training: batches dealt out in rounds, and a group with a time-out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler
from transformers import TrainingArguments

from iit_toolkit.errors import UserError


class Rounds(BatchSampler):
    """One process's batches: one of every round, and a round has a batch for every process.

    Every row counts once an epoch. In a last round with too few batches, processes without one get their first batch
    again, as a stand-in: they take part in the calls that all processes make together, with a weight of 0.

    Args:
        batches: The batches of all processes.
        processes: How many processes there are.
        process: The index of this one.
    """

    def __init__(self, batches: BatchSampler, processes: int, process: int) -> None:
        self.batch_size = batches.batch_size
        self.drop_last = False  # `batches` applies its own
        self._batches = batches
        self._processes = processes
        self._process = process

    def __len__(self) -> int:
        """Return how many rounds an epoch has."""
        return -(-len(self._batches) // self._processes)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of an epoch, as many on every process."""
        first: list[int] = []
        number = -1
        for number, batch in enumerate(self._batches):
            if number in (0, self._process):
                first = batch
            if number % self._processes == self._process:
                yield batch
        if first and number % self._processes < self._process:
            yield first

    def weights(self, rounds: int, *, last: bool) -> list[float]:
        """Return the loss factors by which an update is the mean over its batches.

        A loss is divided by the rounds of its update, and gradients are averaged over processes. If the last round has
        fewer batches than there are processes, that alone would average over too many.

        Args:
            rounds: Rounds of the update.
            last: Whether it is the epoch's last update.
        """
        missing = -len(self._batches) % self._processes if last else 0
        places = rounds * self._processes
        weights = [places / (places - missing)] * rounds if missing else [1.0] * rounds
        if self._process >= self._processes - missing:
            weights[-1] = 0.0
        return weights


def deal_in_rounds(loader: Any) -> Rounds | None:
    """Make a loader that accelerate has prepared for several processes deal out its batches in rounds.

    Returns:
        What deals them out; `None` if nothing changes: one process, or batches of unequal size.
    """
    shard = getattr(loader, "batch_sampler", None)
    if not isinstance(shard, BatchSamplerShard) or shard.num_processes == 1:
        return None
    if type(shard.batch_sampler) is not BatchSampler:
        return None
    rounds = Rounds(shard.batch_sampler, shard.num_processes, shard.process_index)
    shard.batch_sampler, shard.drop_last, shard.even_batches = rounds, False, False
    shard.num_processes, shard.process_index = 1, 0  # passes on what it gets
    return rounds


def prepare_group(args: TrainingArguments) -> None:
    """Give the process group the time-out of the settings, as transformers does not on CPUs.

    Raises:
        UserError: If this process would share a GPU with another.
    """
    if not torch.distributed.is_initialized():
        return
    if args.device.type == "cuda" and args.local_process_index >= torch.cuda.device_count():
        raise UserError(
            f"process {args.process_index} has no GPU of its own: {torch.cuda.device_count()} visible here; start as "
            "many processes on a machine as it has GPUs"
        )
    torch.distributed.distributed_c10d._set_pg_timeout(args.ddp_timeout_delta)  # pyright: ignore

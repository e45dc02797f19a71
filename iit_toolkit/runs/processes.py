"""Runs by several processes, as torchrun and accelerate launch start them.

All processes train; the main one does everything else. What only it does, and what it has to do before the others, it
does in `main_first`, so that its failure ends all of them.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from datetime import timedelta

_PATIENCE = timedelta(hours=4)  # for the main process to read the data, which has no other limit either


def is_main() -> bool:
    """Whether this is the main process, as the only one is."""
    return int(os.environ.get("RANK", "0")) == 0


def count() -> int:
    """How many processes there are."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def main_first() -> Generator[None]:
    """Let the main process go through the block, and then the others.

    If it fails there, the others end without a word and with exit code 0: the main process says what is wrong. With
    one process, this does nothing.

    Raises:
        SystemExit: On the others, if the main process failed.
    """
    if count() == 1:
        yield
        return
    if not is_main():
        if not _told_by_main(went_well=False):
            part()
            raise SystemExit(0)
        yield
        return
    try:
        yield
    except BaseException:
        _told_by_main(went_well=False)
        part()
        raise
    _told_by_main(went_well=True)


def _told_by_main(*, went_well: bool) -> bool:
    """Return on every process what was given on the main one, once all have come here."""
    import torch
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    PartialState(cpu=not torch.accelerator.is_available(), timeout=_PATIENCE)  # joins the processes, the first time
    return bool(broadcast_object_list([went_well])[0])


@contextmanager
def parting() -> Generator[None]:
    """Part from the other processes at the end of the block, however it ends."""
    try:
        yield
    finally:
        part()


def part() -> None:
    """Part from the other processes, if they are joined: the threads of a group that is left can end in a crash."""
    import torch

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()

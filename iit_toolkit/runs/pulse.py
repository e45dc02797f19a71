"""Notices that another process has stopped: all signal that they live, even while one works alone.

Reading data and saving may take hours, so no limit on waiting tells long work from a process that was stopped or
died. The others learn within minutes whether it lives.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

_SECONDS = 2.0


class Pulse(threading.Thread):
    """Beats in a thread of its own, and ends this process with one line if another stops beating.

    Own beats count the time: if all processes pause and continue together, none is missed.

    Args:
        store: What all processes share; used by this thread alone.
        rank: Number of this process.
        count: How many there are.
        patience: Seconds without a beat after which a process counts as stopped.
    """

    def __init__(self, store: Store, rank: int, count: int, patience: float) -> None:
        super().__init__(name="pulse", daemon=True)
        self._store = store
        self._rank = rank
        self._others = [other for other in range(count) if other != rank]
        self._ended = threading.Event()
        self.patience = patience

    def run(self) -> None:
        """Beat and listen until `stop` is called or the store is gone."""
        heard: dict[int, bytes] = {}
        missed = dict.fromkeys(self._others, 0)
        beats = 0
        try:
            while not self._ended.is_set():
                beats += 1
                self._store.set(_key(self._rank), str(beats))
                for other in self._others:
                    beat = self._store.get(_key(other)) if self._store.check([_key(other)]) else b""
                    missed[other] = missed[other] + 1 if beat == heard.get(other, b"") else 0
                    heard[other] = beat
                    if missed[other] * _SECONDS >= self.patience:
                        self._give_up(other)
                self._ended.wait(_SECONDS)
        except RuntimeError:  # whoever holds the store has ended
            return

    def stop(self) -> None:
        """Stop beating."""
        self._ended.set()
        self.join()

    def _give_up(self, other: int) -> None:
        """End this process, whatever it waits in: no exception could reach it there."""
        if self._ended.is_set():
            return
        sys.stderr.write(
            f"error: process {other} has given no sign of life for {self.patience:.0f} seconds (training.ddp_timeout): "
            "it was stopped, or its machine is gone; checkpoints are kept, `run --resume` goes on from them\n"
        )
        sys.stderr.flush()
        os._exit(1)


def _key(rank: int) -> str:
    return f"pulse/{rank}"

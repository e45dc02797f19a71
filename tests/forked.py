"""Work in forked processes: they have all that this one has imported, which takes a fresh Python many seconds."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from accelerate.state import AcceleratorState, PartialState


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, or minus the signal that killed it, and what it wrote."""

    code: int
    stdout: str
    stderr: str


def forked(work: Callable[[], object], folder: Path, timeout: float = 300, **environment: str) -> Ended:
    """Do work in a forked process, which writes into files of the folder, and wait for its end."""
    return _ended(_fork(work, folder, "process", environment), folder, "process", time.monotonic() + timeout)


def two_processes(work: Callable[[int], object], folder: Path, second: float = 300) -> list[Ended]:
    """Do work in two forked processes, in an environment as a launcher makes it; each is given its rank.

    The second is killed if it takes more than `second` seconds longer than the first.
    """
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    started: list[int] = []
    for rank in ("0", "1"):
        own = {**shared, "RANK": rank, "LOCAL_RANK": rank}
        started.append(_fork(partial(work, int(rank)), folder, f"rank{rank}", own))
    first = _ended(started[0], folder, "rank0", time.monotonic() + 300)
    return [first, _ended(started[1], folder, "rank1", time.monotonic() + second)]


def _fork(work: Callable[[], object], folder: Path, name: str, environment: dict[str, str]) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    if process := os.fork():
        return process
    code = 1
    try:
        for number, stream in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / f"{name}.{stream}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
            setattr(sys, stream, os.fdopen(os.dup(number), "w", buffering=1))
        os.environ.update(environment)
        AcceleratorState._reset_state(reset_partial_state=True)  # else the processes of this one's trainings count
        PartialState._reset_state()
        work()
        code = 0
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)  # pytest goes on in the process that forked, alone


def _ended(process: int, folder: Path, name: str, until: float) -> Ended:
    while (found := os.waitpid(process, os.WNOHANG)) == (0, 0):
        if time.monotonic() > until:
            os.kill(process, signal.SIGKILL)
        time.sleep(0.02)
    told = [(folder / f"{name}.{stream}").read_text() for stream in ("stdout", "stderr")]
    return Ended(os.waitstatus_to_exitcode(found[1]), *told)

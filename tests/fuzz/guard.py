"""Watches what a call does while it reads: it must not write, wait, or end otherwise than it may."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from iit_toolkit.errors import MAX_MESSAGE, UserError

CPU_SECONDS = 3.0
"""What one input may take: a hundred times what the slowest takes."""
_WRITES = frozenset(
    {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod"}
)
_watched: list[str] = []
_installed: list[bool] = []


class Hangs(BaseException):
    """An input took longer than it may."""


class Writes(BaseException):
    """An input made something be written, or a program be started."""


def survives(call: Callable[[], Any], given: object) -> bool:
    """Whether a call ends well; False if it refuses its input as it should, in one bounded line.

    Raises:
        AssertionError: If it ends otherwise; it names the input.
    """
    try:
        with watched():
            call()
    except UserError as error:
        told = str(error)
        assert told and told.isprintable() and len(told) <= MAX_MESSAGE, f"{given!r:.2000}: {told!r}"
        return False
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise AssertionError(f"{type(error).__name__}: {error!s:.300} for {given!r:.4000}") from error
    return True


@contextmanager
def watched() -> Generator[None]:
    """Ends what writes, starts a program, or takes more than `CPU_SECONDS` inside of it."""
    if not _installed:
        sys.addaudithook(_refuse_writing)
        _installed.append(True)
    before = signal.signal(signal.SIGVTALRM, _hangs)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    _watched.append("")
    try:
        yield
    finally:
        _watched.pop()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _hangs(*_: object) -> None:
    raise Hangs


def _refuse_writing(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watched:
        return
    if event in _WRITES or event.startswith(("subprocess.", "os.exec", "os.system", "os.posix_spawn")):
        raise Writes(f"{event} {arguments!r:.200}")
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        raise Writes(f"{event} {arguments!r:.200}")

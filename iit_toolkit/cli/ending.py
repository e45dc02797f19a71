"""How the command line ends if it cannot write, or if memory, stack or system say no: one line, or silence."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import threading
from collections.abc import Generator
from typing import TextIO

import typer

from iit_toolkit.errors import UserError, one_line
from iit_toolkit.runs.launch import several

_CLOSED_PIPE = 141  # what a shell reports of a program that SIGPIPE ended
_WRONG_INPUT = 2


@contextlib.contextmanager
def one_line_at_most() -> Generator[None]:
    """Turn what ends a command into an exit code, with at most one line on standard error.

    Standard output is flushed inside it, so that a full device is reported.

    Raises:
        SystemExit: 2 with a line for a mistake of the user's, and for what the system refuses; 141 in silence if the
            reader of standard output is gone.
    """
    _open_streams()
    out = sys.stdout
    try:
        try:
            yield
        finally:
            out.flush()
    except SystemExit:
        if sys.stdout is not out:  # typer puts another there if the reader is gone
            _drop(out)
            raise SystemExit(_CLOSED_PIPE) from None
        raise
    except UserError as error:
        _tell(str(error))
    except RecursionError:
        _tell("something is nested too deeply; write it flatter")
    except MemoryError:
        _tell("the memory of this machine does not hold that; give less, or smaller batches")
    except OSError as error:
        if error.errno == errno.EPIPE:
            _drop(out)
            raise SystemExit(_CLOSED_PIPE) from None
        if _is_of_a_stream(error):
            _drop(out)
        _tell(_reason(error))


class TerminatedError(SystemExit):
    """SIGTERM came.

    Attributes:
        told: Whether a line has said so.
    """

    told = False


@contextlib.contextmanager
def terminating_gently() -> Generator[None]:
    """Let SIGTERM end the block as an interrupt does, so that unfinished files are removed first.

    With several processes, each ends at once: one that waits for another in compiled code would never see the signal.
    """
    if several() or threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise TerminatedError(128 + signal.SIGTERM)

    earlier = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    except TerminatedError as error:  # now that no panel would swallow the line
        if not error.told:
            typer.echo("terminated: repeat the command to begin again", err=True)
        raise
    finally:
        signal.signal(signal.SIGTERM, earlier)


def _reason(error: OSError) -> str:
    if error.strerror is None:
        return one_line(error)
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return f"standard output, or a file: {error.strerror}" if _is_of_a_stream(error) else error.strerror


def _is_of_a_stream(error: OSError) -> bool:
    """Whether it may come from writing to a stream: such errors name no file."""
    return error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def _tell(message: str) -> None:
    try:
        typer.echo(f"error: {UserError(message)}", err=True)
    except OSError:
        _drop(sys.stderr)
    raise SystemExit(_WRONG_INPUT) from None


def _open_streams() -> None:
    """Give standard streams that are closed a place to write to, and all of them a way to write every text."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 - it stays open
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _drop(stream: TextIO) -> None:
    """Discard what a stream still holds, lest Python fail to write it at exit."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)

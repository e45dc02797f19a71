"""What a long command says while it works: a line per phase and log step, and never half a minute of silence."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Generator

import typer

from iit_toolkit.cli.ending import TerminatedError
from iit_toolkit.runs import processes
from iit_toolkit.runs.progress import Count, Phase, Step, duration

AGAIN = "repeat the command to begin again"
SILENCE = 30.0
"""Seconds without a line, at most."""
_BEGINNING = Phase("loading models and data")


class Lines(logging.Handler):
    """Writes what the package logs to standard error, and remembers what is being done.

    Args:
        silence: Seconds after which a line says that work goes on.
    """

    def __init__(self, silence: float = SILENCE) -> None:
        super().__init__(logging.DEBUG if processes.is_main() else logging.WARNING)
        self._silence = silence
        self.going_on = AGAIN
        self._piece = ""
        self._phase, self._since = _BEGINNING, time.monotonic()
        self._part: Step | Count | None = None
        self._last = self._since
        self._ended = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record's message if it is not of DEBUG, and remember what it says is being done."""
        self._remember(record)
        if record.levelno > logging.DEBUG:
            self._write(record.getMessage())

    def _remember(self, record: logging.LogRecord) -> None:
        told: Phase | Step | Count | None = getattr(record, "progress", None)
        if isinstance(told, Phase):
            self._phase, self._part, self._since = told, None, time.monotonic()
        elif told is not None:
            self._part = None if isinstance(told, Count) and told.done == told.total else told
        self._piece = getattr(record, "piece", self._piece)

    def stopped(self) -> None:
        """Say where an interrupt or SIGTERM came, and how to go on."""
        self._write(f"stopped after {self._spent()}: {self._doing()}; {self.going_on}")

    def _doing(self) -> str:
        """Say what is being done, and how far it is: `verifying plain, causal · 12/32`."""
        if isinstance(self._part, Step):
            done = f"{self._part.what} · step {self._part.done}/{self._part.steps}"
        elif self._part is not None:
            what = "" if self._phase.words.startswith(self._part.what) else f"{self._part.what} "
            done = f"{self._phase} · {what}{self._part.done}/{self._part.total}"
        else:
            done = str(self._phase)
        return f"{self._piece} · {done}" if self._piece else done

    def _left(self) -> str:
        left = None if self._part is None else self._part.left
        return "" if left is None else f", {duration(left)} left"

    @contextlib.contextmanager
    def ticking(self) -> Generator[None]:
        """Break silences while the block runs."""
        thread = threading.Thread(target=self._tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _tick(self) -> None:
        while not self._ended.wait(self._silence / 30):
            if time.monotonic() - self._last >= self._silence:
                self._write(f"... {self._doing()}: {self._spent()}{self._left()}")

    def _spent(self) -> str:
        return duration(time.monotonic() - self._since)

    def _write(self, message: str) -> None:
        self._last = time.monotonic()
        if sys.stderr.isatty():
            width = max(20, shutil.get_terminal_size().columns - 1)
            message = textwrap.fill(message, width, subsequent_indent="  ", break_long_words=False)
        with contextlib.suppress(OSError):
            typer.echo(message, err=True)


@contextlib.contextmanager
def said(*, live: bool = True, going_on: str = AGAIN) -> Generator[None]:
    """Say on standard error what the package does in the block, and silence the libraries.

    Args:
        live: Whether a panel may be drawn; where none can be, lines are written.
        going_on: What an interrupt says of going on.
    """
    from rich.console import Console

    from iit_toolkit.cli.live import LivePanel, can_be_drawn

    console = Console(stderr=True, highlight=False, markup=False)
    lines = LivePanel(console) if live and can_be_drawn(console) else Lines()
    lines.going_on = going_on
    package = logging.getLogger("iit_toolkit")
    level = package.level
    package.addHandler(lines)
    package.setLevel(logging.DEBUG if processes.is_main() else logging.WARNING)
    try:
        with lines.ticking() if processes.is_main() else contextlib.nullcontext(), _quiet_libraries():
            yield
    except (KeyboardInterrupt, TerminatedError) as error:
        lines.stopped()
        if isinstance(error, TerminatedError):
            error.told = True
        raise
    finally:
        package.removeHandler(lines)
        package.setLevel(level)


@contextlib.contextmanager
def _quiet_libraries() -> Generator[None]:
    """Silence the libraries in the block. To import them may take a minute, so that somebody should be watching."""
    import datasets
    from transformers.utils import logging as of_transformers

    verbosity, bars = of_transformers.get_verbosity(), of_transformers.is_progress_bar_enabled()
    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        of_transformers.set_verbosity(verbosity)
        if bars:
            of_transformers.enable_progress_bar()

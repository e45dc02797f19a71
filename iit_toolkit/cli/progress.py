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

from iit_toolkit.runs import processes

SILENCE = 30.0
"""Seconds without a line, at most."""
_BEGINNING = "loading models and data"
_STOPPED = "repeat the command; run, train, suite and finetune go on from here, run and train with --resume"


class Lines(logging.Handler):
    """Writes what the package logs to standard error, past any bars, and remembers what is being done.

    Args:
        silence: Seconds after which a line says that work goes on.
    """

    def __init__(self, silence: float = SILENCE) -> None:
        super().__init__(logging.INFO if processes.is_main() else logging.WARNING)
        self._silence = silence
        self._doing, self._since = _BEGINNING, time.monotonic()
        self._last = self._since
        self._ended = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record's message; that of a phase or a step says what is being done from now on."""
        message = record.getMessage()
        if record.levelno == logging.INFO:
            self._doing, self._since = message.partition(" · loss")[0], time.monotonic()
        self._write(message)

    def stopped(self) -> None:
        """Say where an interrupt came, and how to go on."""
        self._write(f"stopped after {self._spent()}: {self._doing}; {_STOPPED}")

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
                self._write(f"... {self._doing}: {self._spent()}")

    def _spent(self) -> str:
        return f"{time.monotonic() - self._since:.0f} s"

    def _write(self, message: str) -> None:
        from tqdm.auto import tqdm

        self._last = time.monotonic()
        if sys.stderr.isatty():
            width = max(20, shutil.get_terminal_size().columns - 1)
            message = textwrap.fill(message, width, subsequent_indent="  ", break_long_words=False)
        with contextlib.suppress(OSError):
            tqdm.write(message, file=sys.stderr)
            sys.stderr.flush()


@contextlib.contextmanager
def said() -> Generator[None]:
    """Say on standard error what the package does in the block, and silence the libraries.

    Bars are drawn on terminals only.
    """
    import datasets
    from transformers.utils import logging as of_transformers

    verbosity = of_transformers.get_verbosity()
    bars = of_transformers.is_progress_bar_enabled()
    of_transformers.set_verbosity_error()
    of_transformers.disable_progress_bar()
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    package, lines = logging.getLogger("iit_toolkit"), Lines()
    level = package.level
    package.addHandler(lines)
    package.setLevel(logging.INFO)
    try:
        with lines.ticking() if processes.is_main() else contextlib.nullcontext():
            yield
    except KeyboardInterrupt:
        lines.stopped()
        raise
    finally:
        package.removeHandler(lines)
        package.setLevel(level)
        of_transformers.set_verbosity(verbosity)
        if bars:
            of_transformers.enable_progress_bar()

"""A panel at the foot of a terminal, in the place of a line per log step."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections.abc import Generator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from iit_toolkit.cli.progress import Lines
from iit_toolkit.runs import processes
from iit_toolkit.runs.progress import Count, Step, duration

_PER_SECOND = 4
_ROOM = 3
"""Columns that stay free: the terminal echoes `^C` there, and a line that wraps would leave pieces of the panel."""


def can_be_drawn(console: Console) -> bool:
    """Whether standard error is a terminal that can redraw what it shows, and this process is the main one."""
    return sys.stderr.isatty() and console.is_terminal and not console.is_dumb_terminal and processes.is_main()


class LivePanel(Lines):
    """Writes phases and messages as `Lines` does, above a panel that shows how far the phase is.

    Args:
        console: Where the panel is drawn.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self._live = Live(get_renderable=self.drawn, console=console, auto_refresh=False, transient=True)

    @contextlib.contextmanager
    def ticking(self) -> Generator[None]:
        """Draw the panel while the block runs; nothing of it stays."""
        with self._live, super().ticking():
            yield

    def _tick(self) -> None:
        """Draw again and again; never while a message is written, which would leave pieces of a panel behind."""
        while not self._ended.wait(1 / _PER_SECOND):
            self.acquire()
            try:
                self._live.refresh()
            finally:
                self.release()

    def drawn(self) -> RenderableType:
        """Return the panel: the phase, how far it is, the time left, and the loss of a training."""
        part = self._part
        what = part.what if isinstance(part, Step) else str(self._phase)
        title = " · ".join([self._piece, what] if self._piece else [what])
        spent = duration(time.monotonic() - self._since)
        rows: list[RenderableType] = [Text("working ...", "dim") if part is None else _bar(part)]
        if isinstance(part, Step):
            rows += [Text(one) for one in part.measured()]
        head = Text(title, "bold")
        width = self._console.width - _ROOM
        return Panel(Group(*rows), title=head, title_align="left", subtitle=spent, subtitle_align="right", width=width)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a message above the panel; of a training's steps, only the last stays."""
        told = getattr(record, "progress", None)
        if isinstance(told, Step) and told.done < told.steps:
            self._remember(record)
        else:
            super().emit(record)

    def _write(self, message: str) -> None:
        with contextlib.suppress(OSError):
            self._console.print(Text(message))


def _bar(part: Step | Count) -> Table:
    total = part.steps if isinstance(part, Step) else part.total
    row = Table.grid(padding=(0, 1), expand=True)
    row.add_column(ratio=1)
    row.add_column(no_wrap=True)
    named = f"step {part.done}/{total}" if isinstance(part, Step) else f"{part.what} {part.done}/{total}"
    left = "" if part.left is None else f" · {duration(part.left)} left"
    row.add_row(ProgressBar(total, part.done), Text(named + left))
    return row

"""Verdicts on the terminal: one coloured line per variable."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from iit_toolkit.analysis.statistics.verdict import Verdict

COLOURS = {"SUPPORTED": "bold green", "NOT SUPPORTED": "bold red", "INCONCLUSIVE": "bold yellow"}


def print_verdict(console: Console, verdict: Verdict) -> None:
    """Print a verdict: its label and student, a line per variable, what else to know, and what to do next."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    from iit_toolkit.analysis.statistics.verdict_lines import verdict_lines

    console.print(Text(verdict.label, COLOURS[verdict.label]), f"for {verdict.student}")
    table = Table.grid(padding=(0, 2, 0, 0))
    for wraps in (False, False, True):
        table.add_column(no_wrap=not wraps)
    following: list[str] = []
    for line in verdict_lines(verdict):
        table.add_row(Text(line.label, COLOURS[line.label]), line.name, line.facts)
        following += [line.next] if line.next and line.next not in following else []
    console.print(Padding(table, (0, 0, 0, 2)))
    for note in verdict.notes:
        console.print(Padding(Text(note, "dim"), (0, 0, 0, 2)))
    for advice in following:
        console.print(Padding(Text(f"next: {advice}", "dim"), (0, 0, 0, 2)))

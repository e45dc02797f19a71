"""`iit-toolkit ls`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iit_toolkit.cli.arguments import Json
from iit_toolkit.cli.verdicts import COLOURS

if TYPE_CHECKING:
    from iit_toolkit.analysis.studies.listing import ListedRun

_WITH_DATES = 80
"""A terminal of fewer columns shows no dates."""


def ls(
    folder: Annotated[Path, typer.Argument(help="A folder that holds runs.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List the runs in a folder.

    Prints of each its judged student, the verdict, what it rests on (of the variable with the lowest), the KL
    divergence from the teacher without interventions, and the date. The newest stand first.

    Example: iit-toolkit ls runs
    """
    from iit_toolkit.analysis.studies.listing import list_runs

    runs = list_runs(folder)
    if as_json:
        typer.echo(json.dumps([{**asdict(run), "folder": str(run.folder)} for run in runs], indent=1))
    elif runs:
        _print(runs, folder)
    else:
        typer.echo(f"no runs in {folder}; write some with `iit-toolkit demo` or `iit-toolkit run`", err=True)


def _print(runs: list[ListedRun], folder: Path) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from iit_toolkit.analysis.statistics.measures import MEASURES

    console = Console(highlight=False, markup=False)
    heads = ["run", "student", "verdict", "measure", "KL", *(["date"] if console.width >= _WITH_DATES else [])]
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for head in heads:
        wraps = head in ("run", "student", "measure")
        table.add_column(head, overflow="fold", no_wrap=not wraps, justify="right" if head == "KL" else "left")
    for run in runs:
        value = "n/a" if run.score is None else f"{run.score:.3f}"
        measure = "" if run.measure is None else f"{MEASURES[run.measure].title} {value}"
        cells = [
            str(run.folder.relative_to(folder)),
            run.student,
            Text(run.verdict, COLOURS.get(run.verdict, "dim")),
            measure,
            "" if run.kl is None else f"{run.kl:.3f}",
            run.created[:10],
        ]
        table.add_row(*cells[: len(heads)])
    console.print(table)

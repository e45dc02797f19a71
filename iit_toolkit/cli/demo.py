"""`iit-toolkit demo`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from iit_toolkit.cli.arguments import Json, stdout_for_results
from iit_toolkit.cli.verdicts import print_verdict

_WORDS = {
    "copy": "a copy of the teacher with its neurons in another order",
    "stranger": "a model with random blocks",
}


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the two runs.")] = Path("runs/demo"),
    show: Annotated[bool, typer.Option("--open", help="Open the reports in a browser.")] = False,
    as_json: Json = False,
) -> None:
    """Show both answers in less than a minute, without training.

    Verifies two students of the bundled teacher: one that computes as it does, and a stranger.

    Example: iit-toolkit demo --output runs/demo
    """
    typer.echo("verifying two students of the bundled teacher; this takes less than a minute", err=True)

    with stdout_for_results():
        from iit_toolkit import pipeline

        folders = pipeline.demo(output)
    if as_json:
        typer.echo(json.dumps({name: _of(folder) for name, folder in folders.items()}, indent=1))
    else:
        _print(folders)
    if show:
        for folder in folders.values():
            typer.launch((folder / "report.html").resolve().as_uri())


def _of(folder: Path) -> dict[str, str]:
    from iit_toolkit.analysis.statistics.stored_results import read_stored

    return {"verdict": read_stored(folder).verdict.label, "folder": str(folder)}


def _print(folders: dict[str, Path]) -> None:
    from rich.console import Console

    from iit_toolkit.analysis.statistics.stored_results import read_stored

    console = Console(highlight=False, markup=False)
    for name, folder in folders.items():
        console.print(f"\n{name}: {_WORDS[name]}", style="bold")
        print_verdict(console, replace(read_stored(folder).verdict, notes=[]))  # the report has them
        console.print(f"report: {folder / 'report.html'}", soft_wrap=True)
    console.print("\nnext: iit-toolkit verify --help, to verify a student of your own")

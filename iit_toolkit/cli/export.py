"""`iit-toolkit export`."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from iit_toolkit.cli.arguments import stdout_for_results


def export(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder to write, new or empty.")],
    arm: Annotated[str | None, typer.Option(help="The arm to export; needed if the run has several arms.")] = None,
    push_to_hub: Annotated[
        str | None, typer.Option(metavar="REPO", help="Also upload it: the name of a model repository.")
    ] = None,
) -> None:
    """Write one student as a folder that others can verify again.

    It holds the student with its tokenizer and model card, its alignment, verdict and outcomes, and the alignment
    for stock pyvene. Prints the folder, and where it was uploaded.

    Example: iit-toolkit export runs/quickstart --arm causal --output exports/causal
    """
    with stdout_for_results():
        from iit_toolkit import pipeline

        folder = pipeline.export(run, output, arm)
    typer.echo(folder)
    typer.echo(f"verify it again: iit-toolkit verify --from {quote(str(folder))}", err=True)
    if push_to_hub is not None:
        with stdout_for_results():
            address = pipeline.push_to_hub(folder, push_to_hub)
        typer.echo(address)

"""`iit-toolkit report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(folder: Annotated[Path, typer.Argument(help="The folder of a finished run.")]) -> None:
    """Write the report of a finished run anew.

    It is made from the results and outcomes in the folder; no model is needed.

    Example: iit-toolkit report runs/quickstart
    """
    from iit_toolkit.runs.folder import RunFolder

    run = RunFolder.open(folder)

    from iit_toolkit.analysis.report import write_report

    write_report(run.path)
    typer.echo(run.report_html)

"""`iit-toolkit report`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Form(str, Enum):
    """The forms of a report."""

    html = "html"
    md = "md"
    latex = "latex"
    pdf = "pdf"
    json = "json"


def report(
    folder: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    form: Annotated[
        Form | None, typer.Option("--format", help="Write this form only [default: html and md]", show_default=False)
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
) -> None:
    """Write the report of a finished run again.

    It is made from the results and the tables in the folder; no model is needed. A PDF is printed by Chromium or
    Chrome.

    Example: iit-toolkit report runs/quickstart
    """
    from iit_toolkit.runs.folder import RunFolder, clear_left_overs

    run = RunFolder.open(folder)

    from iit_toolkit.analysis.report.report import write_report

    with run.alone():
        clear_left_overs(run.path)
        written = write_report(run.path) if form is None else write_report(run.path, form.value)
    typer.echo(written)
    if show:
        typer.launch(Path(written).resolve().as_uri())

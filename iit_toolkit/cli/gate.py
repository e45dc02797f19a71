"""`iit-toolkit gate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def gate(
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="A results.json, or the folder that holds it.")],
    *,
    min_lower: Annotated[float, typer.Option(help="The least that the lower end of the interval must be.")],
    baseline: Annotated[Path | None, typer.Option(help="The results.json (or folder) of an earlier run.")] = None,
    margin: Annotated[float, typer.Option(help="How far below the baseline's value is tolerated.")] = 0.02,
    measure: Annotated[
        str | None,
        typer.Option(help="effect_r2, kl_recovered, effective_iia or iia [default: what the verdict rests on]."),
    ] = None,
    supported: Annotated[bool, typer.Option("--supported", help="Also fail if the verdict is not SUPPORTED.")] = False,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a JUnit XML file.")] = None,
) -> None:
    """Pass or fail a verified student.

    Looks at the interval of the measure that the verdict rests on (or of another) outside the swapped positions of
    the judged student, for every variable. Prints a summary in Markdown. Exits with 1 if a check fails.

    Example: iit-toolkit gate runs/quickstart/results.json --min-lower 0.1
    """
    from iit_toolkit.analysis.report import gate as gates
    from iit_toolkit.analysis.statistics.stored_results import read_stored
    from iit_toolkit.runs.folder import write_atomically

    earlier = None if baseline is None else read_stored(baseline)
    checked = gates.gate(
        read_stored(results), min_lower, baseline=earlier, margin=margin, measure=measure, supported=supported
    )
    if junit is not None:
        write_atomically(junit, gates.to_junit(checked))
    typer.echo(gates.to_markdown(checked), nl=False)
    if not checked.passed:
        raise typer.Exit(1)

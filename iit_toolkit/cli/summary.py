"""The results of a run as a table on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def print_summary(folder: Path) -> None:
    """Print the verdict, a table of the students, the comparison and where the report is."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from iit_toolkit.analysis.statistics.stored_results import read_stored
    from iit_toolkit.runs.folder import RunFolder

    run = RunFolder.open(folder)
    results = read_stored(run.path).document
    table = Table(box=SIMPLE_HEAD, caption="95% intervals over the texts of bases and sources", caption_justify="left")
    for head in ("student\nvariable", "effective IIA\noutside", "its floor\n", "IIA\nall cases", "perplexity\n"):
        table.add_column(head, no_wrap=True)
    for student, measured in results["summary"]["students"].items():
        perplexity = interval(measured["behaviour"]["student_perplexity"], 1)
        for variable, found in measured["variables"].items():
            cells = [found["effective_iia"]["outside"], found["effective_floor"]["outside"], found["iia"]["all"]]
            table.add_row(f"{student}\n{variable}", *(interval(cell) for cell in cells), perplexity)
    console = Console(highlight=False, markup=False)
    needed = Console(width=1000).measure(table).maximum  # if the terminal is narrower, lines wrap and nothing is cut
    Console(highlight=False, markup=False, width=max(console.width, needed)).print(table)
    verdict = results["verdict"]
    console.print(f"{verdict['label']} for {verdict['student']}. {verdict['sentence']}")
    if results.get("comparison"):
        console.print(results["comparison"]["sentence"])
    console.print(f"report: {run.report_html}", soft_wrap=True)


def interval(estimate: dict[str, Any], digits: int = 3) -> str:
    """Write an estimate on one line and its interval on the next, for a cell of a table."""
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None:
        return "n/a"
    return f"{value:.{digits}f}" + ("" if low is None else f"\n[{low:.{digits}f}, {high:.{digits}f}]")

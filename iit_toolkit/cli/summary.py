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
    stored = read_stored(run.path)
    results = stored.document
    table = Table(box=SIMPLE_HEAD, caption="95% intervals over the texts of bases and sources", caption_justify="left")
    graded = all(one.effect_r2 for student in stored.summary.students.values() for one in student.variables.values())
    columns = {"effect R²\noutside": ("effect_r2", "outside")} if graded else {}
    columns |= {"effective IIA\noutside": ("effective_iia", "outside"), "its floor\n": ("effective_floor", "outside")}
    columns["IIA\nall cases"] = ("iia", "all")
    for head in ("student\nvariable", *columns, "perplexity\n"):
        table.add_column(head, no_wrap=True)
    for student, measured in results["summary"]["students"].items():
        perplexity = interval(measured["behaviour"]["student_perplexity"], 1)
        for variable, found in measured["variables"].items():
            cells = [found[measure][region] for measure, region in columns.values()]
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

"""The results of a run as a table on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def print_summary(folder: Path) -> None:
    """Print the verdict, a table of the students, the comparison and where the report is."""
    from rich.console import Console
    from rich.table import Table

    from iit_toolkit.runs.folder import RunFolder

    run = RunFolder.open(folder)
    results = run.read_results()
    heads = ["effective IIA, outside", "its floor", "above floor", "IIA, all", "KL", "perplexity"]
    table = Table("student", "variable", *heads, title=f"{results['name']}: [95 % intervals over base examples]")
    for student, measured in results["summary"]["students"].items():
        behaviour = measured["behaviour"]
        for variable, found in measured["variables"].items():
            cells = [
                found["effective_iia"]["outside"],
                found["effective_floor"]["outside"],
                found["margin"],
                found["iia"]["all"],
                behaviour["kl"],
            ]
            perplexity = _interval(behaviour["student_perplexity"], 1)
            table.add_row(student, variable, *(_interval(cell, 3) for cell in cells), perplexity)
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(f"{results['verdict']['label']}: {results['verdict']['sentence']}")
    if results["comparison"]:
        console.print(results["comparison"]["sentence"])
    console.print(f"report: {run.report_html}", soft_wrap=True)


def _interval(estimate: dict[str, Any], digits: int) -> str:
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None:
        return "n/a"
    return f"{value:.{digits}f}" + ("" if low is None else f"\n[{low:.{digits}f}, {high:.{digits}f}]")

"""The results of a run as a table on the terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from iit_toolkit.cli.tables import print_widest
from iit_toolkit.cli.verdicts import print_verdict

if TYPE_CHECKING:
    from rich.table import Table

    from iit_toolkit.analysis.statistics.stored_results import StoredResults

_Cells = dict[str, tuple[str, str]]


def print_summary(folder: Path) -> None:
    """Print a table of the students, the verdict, the comparison and where the report is."""
    from rich.console import Console

    from iit_toolkit.analysis.statistics.input_words import words_for
    from iit_toolkit.analysis.statistics.stored_results import read_stored
    from iit_toolkit.runs.folder import RunFolder

    run = RunFolder.open(folder)
    stored = read_stored(run.path)
    console = Console(highlight=False, markup=False)
    graded = all(one.effect_r2 for student in stored.summary.students.values() for one in student.variables.values())
    words = words_for(stored.document["task"])
    where = words.region.strip()
    columns: _Cells = {f"effect R²\n{where}": ("effect_r2", "outside")} if graded else {}
    columns |= {f"effective IIA\n{where}": ("effective_iia", "outside"), "its floor\n": ("effective_floor", "outside")}
    caption = f"95% intervals over the {words.texts} of bases and sources"
    kept = range(len(columns), 0, -1)
    print_widest(console, (_table(stored, caption, dict(list(columns.items())[:count])) for count in kept))
    print_verdict(console, stored.verdict)
    compared = stored.document.get("comparison")
    if compared:
        console.print(f"{compared['treatment']} against {compared['baseline']}: {compared['outcome']}")
    console.print(f"report: {run.report_html}", soft_wrap=True)


def print_results(folder: Path, **more: Any) -> None:
    """Print the results of a run as JSON: what is measured and the verdict, without training and texts.

    Args:
        folder: The run folder.
        more: Further entries.
    """
    import json

    import typer

    from iit_toolkit.analysis.statistics.stored_results import read_stored

    stored = read_stored(folder)
    names = ("name", "verdict", "comparison", "summary", "evaluation")
    document = {"folder": str(folder), **more} | {name: stored.document.get(name) for name in names}
    typer.echo(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False))


def _table(stored: StoredResults, caption: str, columns: _Cells) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, caption=caption, caption_justify="left")
    accuracies = next((one.accuracy for one in stored.evaluation.values() if one.accuracy is not None), None)
    for head in ("student\nvariable", *columns, "perplexity\n" if accuracies is None else "accuracy\n"):
        table.add_column(head, no_wrap=True)
    for student, measured in stored.document["summary"]["students"].items():
        if accuracies is None:
            last = interval(measured["behaviour"]["student_perplexity"], 1)
        else:
            last = interval(vars(accuracies[student]))
        for variable, found in measured["variables"].items():
            cells = [found[measure][region] for measure, region in columns.values()]
            table.add_row(f"{student}\n{variable}", *(interval(cell) for cell in cells), last)
    return table


def interval(estimate: dict[str, Any], digits: int = 3) -> str:
    """Write an estimate on one line and its interval on the next, for a cell of a table."""
    value, low, high = (estimate[key] for key in ("value", "low", "high"))
    if value is None:
        return "n/a"
    return f"{value:.{digits}f}" + ("" if low is None else f"\n[{low:.{digits}f}, {high:.{digits}f}]")

"""`iit-toolkit compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iit_toolkit.cli.arguments import Json
from iit_toolkit.cli.tables import in_pieces

if TYPE_CHECKING:
    from iit_toolkit.analysis.studies.comparison import StudyComparison


_MEASURE = 26
"""Columns for the names of measures, which wrap."""


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs that differ in the seed.")],
    *,
    treatment: Annotated[
        str | None, typer.Option(metavar="ARM", help="The arm to judge [default: as the runs do]")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="ARM", help="The arm to compare it with [default: as the runs do]")
    ] = None,
    measure: Annotated[
        str | None,
        typer.Option(help="The measure that short table and figures show [default: effect_r2, if the runs have it]."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for compare.json, .md, .tex, .svg, .png and .csv.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two arms over seeds.

    The runs must be of one config and differ in their seed only. Values are paired by seed, at equal steps and,
    if the runs hold an arm for it, at equal compute.

    Example: iit-toolkit compare runs/seed-42 runs/seed-43 runs/seed-44
    """
    from iit_toolkit.analysis.studies.comparison import compare_arms
    from iit_toolkit.analysis.studies.read_runs import read_runs

    compared = compare_arms(read_runs(runs), treatment, baseline, measure=measure)
    text = json.dumps(compared.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)
    if output is not None:
        _write(compared, text, output)
    if as_json:
        typer.echo(text)
    else:
        _print(compared)


def _write(compared: StudyComparison, text: str, folder: Path) -> None:
    from iit_toolkit.analysis.studies.seeds_figure import write_figure
    from iit_toolkit.analysis.studies.text import to_latex, to_markdown
    from iit_toolkit.runs.folder import write_atomically

    write_atomically(folder / "compare.json", text + "\n")
    write_atomically(folder / "compare.md", to_markdown(compared))
    write_atomically(folder / "compare.tex", to_latex(compared))
    write_figure(compared, folder)


def _print(compared: StudyComparison) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from iit_toolkit.analysis.statistics.numbers import count
    from iit_toolkit.analysis.studies.paired import difference
    from iit_toolkit.analysis.studies.rows import COST
    from iit_toolkit.analysis.studies.text import heading, spread

    console = Console(highlight=False, markup=False)
    caption = f"mean ± standard deviation over {count(len(compared.study.seeds), 'seed')}"
    rows = [row for group, rows in compared.groups.items() if group != COST for row in rows]
    cells = {arm: [spread(row, arm) for row in rows] for arm in compared.arms}
    widest = max(len(text) for arm, texts in cells.items() for text in (arm, *texts))
    for arms in in_pieces(compared.arms, console.width - _MEASURE, widest + 2):
        table = Table(box=SIMPLE_HEAD, caption=caption, caption_justify="left")
        table.add_column("measure")
        for arm in arms:
            table.add_column(arm, no_wrap=True)
        for number, row in enumerate(rows):
            table.add_row(row.measure.name, *(cells[arm][number] for arm in arms))
        console.print(table)
    for one in compared.comparisons:
        console.print(f"{heading(one)}: {one.basis.note}")
        if not one.basis.measures:
            continue
        table = Table(box=SIMPLE_HEAD)
        for head in ("measure", f"difference [{compared.level:.0%}]", "outcome"):
            table.add_column(head, no_wrap=head != "measure")
        for paired in one.basis.measures:
            better = "" if paired.measure.higher_is_better else " (lower is better)"
            table.add_row(f"{paired.measure.name}{better}", difference(paired), paired.outcome)
        console.print(table)
    console.print(compared.scope)

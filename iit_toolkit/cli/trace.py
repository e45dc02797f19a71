"""`iit-toolkit trace`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from iit_toolkit.cli.arguments import (
    Config,
    Json,
    Output,
    Overrides,
    output_folder,
    print_document,
    read_text_config,
    stdout_for_results,
)
from iit_toolkit.cli.tables import in_pieces

_BLOCK = 9
"""Characters for the numbers of the blocks, and around the table."""


def trace(
    config: Config,
    overrides: Overrides = None,
    *,
    pairs: Annotated[int, typer.Option(help="Pairs of base and source.")] = 256,
    components: Annotated[
        str | None,
        typer.Option(help="Components, with commas between [default: block_output,attention_output,mlp_output]."),
    ] = None,
    heads: Annotated[bool, typer.Option("--heads", help="Swap single attention heads, too.")] = False,
    propose: Annotated[bool, typer.Option("--propose", help="Write an alignment for the config's student.")] = False,
    student_layers: Annotated[
        int | None, typer.Option(help="Write an alignment for a student of so many layers.")
    ] = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Trace where a teacher holds what its answers depend on.

    Swaps every block and component of the config's teacher in turn, at several kinds of positions, on training rows.
    Prints in how many cases that changes the teacher's answer, and where to swap. Needs no student.

    Example: iit-toolkit trace quickstart --student-layers 3 -o runs/trace
    """
    settings = read_text_config(config, overrides)

    options: dict[str, Any] = {"pairs": pairs, "heads": heads, "propose": propose, "student_layers": student_layers}
    if components is not None:
        options["components"] = [one.strip() for one in components.split(",") if one.strip()]
    folder = output_folder(output, settings)
    with stdout_for_results():
        from iit_toolkit import pipeline

        pipeline.trace(settings, output=folder, **options)
    if as_json:
        print_document(folder / "trace.json")
    else:
        _print_trace(folder)


def _print_trace(folder: Path) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from iit_toolkit.files.json_files import read_object

    found: dict[str, Any] = read_object(folder / "trace.json")
    cells = found["trace"]["cells"]
    part = cells[0]["component"]
    shown = {(cell["positions"], cell["layer"]): cell["changed"] for cell in cells if cell["component"] == part}
    kinds = list(dict.fromkeys(kind for kind, _ in shown))
    console = Console(highlight=False, markup=False)
    console.print(f"Answers that change if {part} is swapped, by block and positions:", soft_wrap=True)
    for some in in_pieces(kinds, console.width - _BLOCK, max(map(len, (*kinds, "100.0%"))) + 2):
        table = Table(box=SIMPLE_HEAD)
        for head in ("block", *some):
            table.add_column(head, justify="right", no_wrap=True)
        for layer in range(found["trace"]["layers"]):
            values = (shown[kind, layer] for kind in some)
            table.add_row(str(layer), *("n/a" if value is None else f"{value:.1%}" for value in values))
        console.print(table)
    console.print(found["place"], soft_wrap=True)
    if found["alignment"] is not None:
        console.print(f"alignment: {folder / 'alignment.yaml'}", soft_wrap=True)
    console.print(f"report: {folder / 'README.md'}", soft_wrap=True)

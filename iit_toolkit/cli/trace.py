"""`iit-toolkit trace`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


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
    neurons: Annotated[
        bool, typer.Option("--neurons", help="Find the neurons that carry the effect at the place to swap.")
    ] = False,
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

    options: dict[str, Any] = {
        "pairs": pairs,
        "heads": heads,
        "neurons": neurons,
        "propose": propose,
        "student_layers": student_layers,
    }
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
    from rich.console import Console

    from iit_toolkit.files.json_files import read_object

    found: dict[str, Any] = read_object(folder / "trace.json")
    cells = found["trace"]["cells"]
    part = cells[0]["component"]
    shown = {(cell["positions"], cell["layer"]): cell["changed"] for cell in cells if cell["component"] == part}
    kinds = list(dict.fromkeys(kind for kind, _ in shown))
    console = Console(highlight=False, markup=False)
    console.print(f"Answers that change if {part} is swapped, by block and positions:", soft_wrap=True)
    for some in in_pieces(kinds, console.width - _BLOCK, max(map(len, (*kinds, "100.0%"))) + 2):
        rows = [
            [str(layer), *(_share(shown[kind, layer]) for kind in some)] for layer in range(found["trace"]["layers"])
        ]
        console.print(_table(("block", *some), rows))
    console.print(found["place"], soft_wrap=True)
    if found["neurons"] is not None:
        _print_neurons(console, found["neurons"])
    if found["alignment"] is not None:
        console.print(f"alignment: {folder / 'alignment.yaml'}", soft_wrap=True)
    console.print(f"report: {folder / 'README.md'}", soft_wrap=True)


def _print_neurons(console: Console, found: dict[str, Any]) -> None:
    rows = [[str(row["neurons"]), _share(row["chosen"]), _share(row["random"])] for row in found["shares"]]
    rows[-1][-1] = ""  # all neurons are not drawn
    console.print(f"Answers that change if only neurons of block {found['layer']} are swapped:", soft_wrap=True)
    console.print(_table(("neurons", "largest attribution", "random"), rows))
    console.print(found["line"], soft_wrap=True)


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.1%}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table

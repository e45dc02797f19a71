"""`iit-toolkit search`."""

from __future__ import annotations

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
    with_measure,
)
from iit_toolkit.cli.summary import interval
from iit_toolkit.cli.tables import in_pieces, print_widest
from iit_toolkit.cli.verdicts import print_verdict
from iit_toolkit.errors import UserError

if TYPE_CHECKING:
    from iit_toolkit.analysis.statistics.measures import Measure


_HEAD, _COLUMN = 24, 11
"""Characters that a matrix needs for the teacher's layers, and for each of the student's."""


def search(
    config: Config,
    overrides: Overrides = None,
    *,
    student: Annotated[str, typer.Option(help="The model to align: a folder or a Hub id.")],
    subspace: Annotated[
        int | None, typer.Option(metavar="RANK", help="Search subspaces of this rank, of two given layers.")
    ] = None,
    teacher_layer: Annotated[int | None, typer.Option(help="The teacher's layer, with --subspace.")] = None,
    student_layer: Annotated[int | None, typer.Option(help="The student's layer, with --subspace.")] = None,
    measure: Annotated[
        str | None, typer.Option(help="Search and confirm by this measure [default: verification.measure].")
    ] = None,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Search for an alignment of a finished student.

    Swaps every layer of teacher and student on the first half of the held-out pairs. Chooses the increasing map of
    layers by which the student follows its teacher most, and verifies it on the second half. The teacher, the
    data and the settings come from the config. Prints the matrix, the map, its confirmation and where its alignment
    file is. With --subspace, learns which low-rank subspaces of two given layers swap alike instead.

    Example: iit-toolkit search quickstart --student my-student -o runs/search
    """
    settings = with_measure(read_text_config(config, overrides), measure)
    if len({option is None for option in (subspace, teacher_layer, student_layer)}) > 1:
        raise UserError("--subspace, --teacher-layer and --student-layer belong together: give all three, or none")

    folder = output_folder(output, settings)
    with stdout_for_results():
        from iit_toolkit import pipeline

        if subspace is None or teacher_layer is None or student_layer is None:
            pipeline.search(settings, student=student, output=folder)
        else:
            layers = {"teacher_layer": teacher_layer, "student_layer": student_layer}
            pipeline.search_subspace(settings, student=student, output=folder, rank=subspace, **layers)
    if as_json:
        print_document(folder / ("search.json" if subspace is None else "subspace.json"))
    elif subspace is None:
        _print_search(folder)
    else:
        _print_subspace(folder)


def _print_search(folder: Path) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from iit_toolkit.analysis.statistics.measures import MEASURES
    from iit_toolkit.analysis.statistics.verdict import Verdict
    from iit_toolkit.files.json_files import read_object

    found: dict[str, Any] = read_object(folder / "search.json")
    measure, verdict = MEASURES[found["matrix"]["measure"]], found["confirmation"]["verdict"]
    explains = measure.kind == "explained"
    chosen = {(one["teacher_layer"], one["student_layer"]) for one in found["map"]}
    title = f"{measure.title}{'' if explains else ' minus its floor'}, outside; * chosen"
    needed = found["matrix"]["minimum_bases"]
    what = "probabilities" if explains else "own answer"
    caption = f"moved: examples in which the swap changes the student's {what}; {needed} make it eligible"
    console = Console(highlight=False, markup=False)
    for layers in in_pieces(range(found["matrix"]["student_layers"]), console.width - _HEAD, _COLUMN):
        matrix = Table(box=SIMPLE_HEAD, title=title, title_justify="left", caption=caption, caption_justify="left")
        for head in ("teacher\nlayer", measure.units.replace(" ", "\n")):
            matrix.add_column(head, justify="right")
        for layer in layers:
            matrix.add_column(f"student\nlayer {layer}", justify="right", no_wrap=True)
        for layer in range(found["matrix"]["teacher_layers"]):
            row = [cell for cell in found["matrix"]["cells"] if cell["teacher_layer"] == layer]
            values = (_cell(row[number], (layer, row[number]["student_layer"]) in chosen) for number in layers)
            matrix.add_row(str(layer), f"{row[0]['outside']['counted']:,}", *values)
        matrix.add_section()
        matrix.add_row("", "moved", *(f"{found['matrix']['cells'][number]['moved']:,} " for number in layers))
        console.print(matrix)
    measured = found["confirmation"]["summary"]["students"]["student"]["variables"]

    def confirmed(kept: int) -> Table:
        table = Table(box=SIMPLE_HEAD, title="confirmation, on the other half", title_justify="left")
        for head in ("student,\nteacher", *list(_shown(measure).values())[:kept], "verdict\n"):
            table.add_column(head, no_wrap=True)
        for one, (name, values) in zip(found["map"], measured.items(), strict=True):
            layers = f"{one['student_layer']}, {one['teacher_layer']}"
            table.add_row(layers, *_cells(measure, values)[:kept], verdict["variables"][name]["label"])
        return table

    console.print(found["note"])
    print_widest(console, (confirmed(kept) for kept in range(len(_shown(measure)), 0, -1)))
    print_verdict(console, Verdict.from_dict(verdict))
    console.print(f"alignment: {folder / 'alignment.yaml'}", soft_wrap=True)


def _print_subspace(folder: Path) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from iit_toolkit.analysis.statistics.measures import MEASURES
    from iit_toolkit.analysis.statistics.verdict import Verdict
    from iit_toolkit.files.json_files import read_object

    found: dict[str, Any] = read_object(folder / "subspace.json")
    verdict = found["confirmation"]["verdict"]
    measure = MEASURES[verdict["measure"]]
    console = Console(highlight=False, markup=False)
    titles = {
        "teacher_subspace": f"teacher layer {found['teacher_layer']}: rank {found['rank']} against the whole vector",
        "confirmation": f"student layer {found['student_layer']} against the teacher's learned subspace",
    }
    for part, title in titles.items():
        students = found[part]["summary"]["students"]

        def measured(kept: int, title: str = title, students: dict[str, Any] = students) -> Table:
            table = Table(box=SIMPLE_HEAD, title=title, title_justify="left")
            for head in ("", *list(_shown(measure).values())[:kept]):
                table.add_column(head, no_wrap=True)
            for name, one in students.items():
                [values] = one["variables"].values()
                table.add_row(name, *_cells(measure, values)[:kept])
            return table

        print_widest(console, (measured(kept) for kept in range(len(_shown(measure)), 0, -1)))
    print_verdict(console, Verdict.from_dict(verdict))
    console.print(f"subspaces: {folder / 'subspaces.safetensors'}", soft_wrap=True)


def _shown(measure: Measure) -> dict[str, str]:
    """Return the headings of a measure, its floor and its lead over the floor, by name; only those that there are."""
    from iit_toolkit.analysis.statistics.measures import MEASURES

    leads = [one.name for one in MEASURES.values() if one.kind == "lead" and one.numerator == measure.numerator]
    heads = {measure.name: f"{measure.title}\noutside"}
    heads |= {measure.floor: "its floor\n"} if measure.floor else {}
    return heads | dict.fromkeys(leads, "above floor\n")


def _cells(measure: Measure, values: dict[str, Any]) -> list[str]:
    return [interval(values[name].get("outside", values[name])) for name in _shown(measure)]


def _cell(cell: dict[str, Any], chosen: bool) -> str:
    value = cell["outside"]["above_floor"]
    return "n/a" if value is None else f"{value:+.3f}{'*' if chosen else ' '}"

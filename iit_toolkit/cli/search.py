"""`iit-toolkit search`."""

from __future__ import annotations

from collections.abc import Sequence
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
    read_config,
    stdout_for_results,
    with_measure,
)
from iit_toolkit.cli.summary import interval
from iit_toolkit.cli.tables import in_pieces, print_widest
from iit_toolkit.cli.verdicts import print_verdict
from iit_toolkit.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

    from iit_toolkit.analysis.statistics.measures import Measure


_HEAD, _COLUMN = 24, 11
"""Characters that a matrix needs for the teacher's layers, and for each of the student's."""
_SHOWN_SITES = 4
"""Of a variable; search.json has all."""


def search(
    config: Config,
    overrides: Overrides = None,
    *,
    student: Annotated[
        str, typer.Option(help="The model to align: a folder or a Hub id; of a network, the folder of its weights.")
    ],
    subspace: Annotated[
        int | None, typer.Option(metavar="RANK", help="Search subspaces of this rank, of two given layers.")
    ] = None,
    teacher_layer: Annotated[int | None, typer.Option(help="The teacher's layer, with --subspace.")] = None,
    student_layer: Annotated[int | None, typer.Option(help="The student's layer, with --subspace.")] = None,
    parts: Annotated[
        list[int] | None,
        typer.Option(
            metavar="N", help="Of a network: try N equal ranges of a module's neurons; repeatable [default: 1, 2, 4]."
        ),
    ] = None,
    modules: Annotated[
        list[str] | None,
        typer.Option("--module", metavar="PATH", help="Of a network: try this module; repeatable [default: all]."),
    ] = None,
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

    If the teacher is a program or a network of torch, searches for every variable: swaps the outputs of the student's
    modules, whole and in equal ranges of neurons, and chooses a site by variable.

    Example: iit-toolkit search quickstart --student my-student -o runs/search
    """
    settings = with_measure(read_config(config, overrides), measure)
    if len({option is None for option in (subspace, teacher_layer, student_layer)}) > 1:
        raise UserError("--subspace, --teacher-layer and --student-layer belong together: give all three, or none")
    if subspace is not None and (parts or modules):
        raise UserError("--parts and --module say what a search without --subspace tries; leave them out")

    folder = output_folder(output, settings)
    with stdout_for_results():
        from iit_toolkit import pipeline

        if subspace is None or teacher_layer is None or student_layer is None:
            limits: dict[str, Any] = {"parts": parts, "modules": modules}
            limits = {name: one for name, one in limits.items() if one}
            pipeline.search(settings, student=student, output=folder, **limits)
        else:
            from iit_toolkit.config.loading import text_config

            layers = {"teacher_layer": teacher_layer, "student_layer": student_layer}
            pipeline.search_subspace(text_config(settings), student=student, output=folder, rank=subspace, **layers)
    if as_json:
        print_document(folder / ("search.json" if subspace is None else "subspace.json"))
    elif subspace is None:
        _print_search(folder)
    else:
        _print_subspace(folder)


def _print_search(folder: Path) -> None:
    """Print the matrix of a search, what is chosen, and its confirmation."""
    from rich.console import Console

    from iit_toolkit.files.json_files import read_object

    found: dict[str, Any] = read_object(folder / "search.json")
    console = Console(highlight=False, markup=False)
    if "sites" in found["matrix"]:
        _print_sites(console, found)
        head, region, names = "variable", "", [one["variable"] for one in found["map"]]
    else:
        _print_layers(console, found)
        head, region = "student,\nteacher", "outside"
        names = [f"{one['student_layer']}, {one['teacher_layer']}" for one in found["map"]]
    console.print(found["note"])
    _print_confirmation(console, found, (head, region), names)
    console.print(f"alignment: {folder / 'alignment.yaml'}", soft_wrap=True)


def _print_layers(console: Console, found: dict[str, Any]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from iit_toolkit.analysis.statistics.measures import MEASURES

    measure = MEASURES[found["matrix"]["measure"]]
    explains = measure.kind == "explained"
    chosen = {(one["teacher_layer"], one["student_layer"]) for one in found["map"]}
    title = f"{measure.title}{'' if explains else ' minus its floor'}, outside; * chosen"
    needed = found["matrix"]["minimum_bases"]
    what = "probabilities" if explains else "own answer"
    caption = f"moved: examples in which the swap changes the student's {what}; {needed} make it eligible"
    for layers in in_pieces(range(found["matrix"]["student_layers"]), console.width - _HEAD, _COLUMN):
        matrix = Table(box=SIMPLE_HEAD, title=title, title_justify="left", caption=caption, caption_justify="left")
        for head in ("teacher\nlayer", measure.units.replace(" ", "\n")):
            matrix.add_column(head, justify="right")
        for layer in layers:
            matrix.add_column(f"student\nlayer {layer}", justify="right", no_wrap=True)
        for layer in range(found["matrix"]["teacher_layers"]):
            row = [cell for cell in found["matrix"]["cells"] if cell["teacher_layer"] == layer]
            values = (
                _cell(row[number]["outside"], (layer, row[number]["student_layer"]) in chosen) for number in layers
            )
            matrix.add_row(str(layer), f"{row[0]['outside']['counted']:,}", *values)
        matrix.add_section()
        matrix.add_row("", "moved", *(f"{found['matrix']['cells'][number]['moved']:,} " for number in layers))
        console.print(matrix)


def _print_sites(console: Console, found: dict[str, Any]) -> None:
    """Print the best sites of every variable, the chosen one first."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from iit_toolkit.analysis.statistics.measures import MEASURES

    matrix, measure = found["matrix"], MEASURES[found["matrix"]["measure"]]
    chosen = {one["variable"]: one["site"] for one in found["map"]}
    value = measure.title if measure.kind == "explained" else f"{measure.title}\nminus floor"
    caption = f"of {len(matrix['sites']):,} sites, the chosen one (*) and the best others"
    table = Table(box=SIMPLE_HEAD, caption=caption, caption_justify="left")
    table.add_column("variable", overflow="fold")
    table.add_column(measure.units.replace(" ", "\n"), justify="right", no_wrap=True)
    table.add_column("site", overflow="fold")
    table.add_column(value, justify="right", no_wrap=True)
    for number, variable in enumerate(matrix["variables"]):
        own = [one for one in matrix["cells"] if one["variable"] == number]
        own.sort(key=lambda one: (one["site"] != chosen[variable], -(one["figures"]["above_floor"] or 0.0)))
        for place, one in enumerate(own[:_SHOWN_SITES]):
            counted = f"{one['figures']['counted']:,}"
            site, low_high = matrix["sites"][one["site"]], ""
            if site["neurons"] is not None:
                low_high = " [{}, {})".format(*site["neurons"])
            names = (variable, counted) if place == 0 else ("", "")
            table.add_row(*names, f"{site['component']}{low_high}", _cell(one["figures"], place == 0))
        table.add_section()
    console.print(table)


def _print_confirmation(console: Console, found: dict[str, Any], heads: tuple[str, str], names: Sequence[str]) -> None:
    """Print how the map does on the other half, and the verdict.

    Args:
        console: The terminal.
        found: The document of the search.
        heads: What the column is called that names what is mapped, and the region that is measured.
        names: What the variables of the confirmation are called in it.
    """
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from iit_toolkit.analysis.statistics.measures import MEASURES
    from iit_toolkit.analysis.statistics.verdict import Verdict

    measure, verdict = MEASURES[found["matrix"]["measure"]], found["confirmation"]["verdict"]
    measured = found["confirmation"]["summary"]["students"]["student"]["variables"]

    def confirmed(kept: int) -> Table:
        table = Table(box=SIMPLE_HEAD, title="confirmation, on the other half", title_justify="left")
        for one in (heads[0], *list(_shown(measure, heads[1]).values())[:kept], "verdict"):
            table.add_column(one, no_wrap=True)
        for name, (variable, values) in zip(names, measured.items(), strict=True):
            table.add_row(name, *_cells(measure, values)[:kept], verdict["variables"][variable]["label"])
        return table

    print_widest(console, (confirmed(kept) for kept in range(len(_shown(measure)), 0, -1)))
    print_verdict(console, Verdict.from_dict(verdict))


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


def _shown(measure: Measure, region: str = "outside") -> dict[str, str]:
    """Return the headings of a measure, its floor and its lead over the floor, by name; only those that there are."""
    from iit_toolkit.analysis.statistics.measures import MEASURES

    leads = [one.name for one in MEASURES.values() if one.kind == "lead" and one.numerator == measure.numerator]
    heads = {measure.name: f"{measure.title}\n{region}".strip()}
    heads |= {measure.floor: "its floor"} if measure.floor else {}
    return heads | dict.fromkeys(leads, "above floor")


def _cells(measure: Measure, values: dict[str, Any]) -> list[str]:
    return [interval(values[name].get("outside", values[name])) for name in _shown(measure)]


def _cell(figures: dict[str, Any], chosen: bool) -> str:
    value = figures["above_floor"]
    return "n/a" if value is None else f"{value:+.3f}{'*' if chosen else ' '}"

"""`iit-toolkit verify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from iit_toolkit.cli.arguments import (
    Json,
    Output,
    Overrides,
    is_override,
    output_folder,
    read_config,
    stdout_for_results,
)
from iit_toolkit.cli.planning import print_plan
from iit_toolkit.cli.summary import print_results, print_summary
from iit_toolkit.errors import UserError

_WAYS = "give CONFIG or --teacher and --data, with --student and --alignment; or --from, with an export"


def verify(
    config: Annotated[
        str | None,
        typer.Argument(metavar="CONFIG", help="A YAML file or a bundled config; left out with --teacher or --from."),
    ] = None,
    overrides: Overrides = None,
    *,
    teacher: Annotated[
        str | None, typer.Option(help="Without CONFIG: the teacher, a folder or a Hub id; embedded: the bundled one.")
    ] = None,
    student: Annotated[str | None, typer.Option(help="The model to verify: a folder or a Hub id.")] = None,
    alignment: Annotated[
        str | None, typer.Option(help="The alignment to verify it by: a YAML file or a preset.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Without CONFIG: a file of texts, python_docs, or a data set of the Hub.")
    ] = None,
    exported: Annotated[
        Path | None, typer.Option("--from", metavar="FOLDER", help="An export: verify it again, as its run did.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say how many pairs a verdict needs, by a pilot of 64; writes nothing.")
    ] = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Verify a finished student against its teacher.

    Measures how well it follows the teacher under interchange interventions. Teacher and data are given, or come from
    the config with the settings of the verification. Prints the verdict, a table, and where the report is.

    With --plan, a pilot of 64 pairs says how many pairs a lead needs to be SUPPORTED, and nothing is written.

    With --from, everything comes from a folder that `iit-toolkit export` wrote, and the last line says whether
    the answers are those of the export.

    Example: iit-toolkit verify --teacher embedded --student my-student --alignment diito/middle --data python_docs
    """
    if config is not None and is_override(config):
        config, overrides = None, [config, *(overrides or [])]
    if plan and (exported is not None or output is not None):
        raise UserError("--plan writes nothing and takes no export; leave out --output and --from")
    if exported is not None:
        if any(one is not None for one in (config, teacher, student, alignment, data)):
            raise UserError("--from gives config, models, alignment and data; leave them out, or leave out --from")
        _verify_export(exported, output, overrides or [], as_json=as_json)
        return
    if (
        student is None
        or alignment is None
        or (config is None) == (teacher is None)
        or (teacher is None) != (data is None)
    ):
        raise UserError(_WAYS)
    settings = None if config is None else read_config(config, overrides)
    if plan:
        with stdout_for_results():
            from iit_toolkit import pipeline

            settings = settings or pipeline.finished_config(str(teacher), student, str(data), overrides or [])
            planned, rows = pipeline.plan_verification(settings, student, alignment)
        if as_json:
            typer.echo(json.dumps({**planned.to_dict(), "held_out_rows": rows}, indent=1, allow_nan=False))
        else:
            print_plan(planned, rows)
        return
    with stdout_for_results():
        from iit_toolkit import pipeline

        settings = settings or pipeline.finished_config(str(teacher), student, str(data), overrides or [])
        folder = output_folder(output, settings)
        pipeline.verify(settings, student=student, alignment=alignment, output=folder)
    if as_json:
        print_results(folder)
    else:
        print_summary(folder)


def _verify_export(exported: Path, output: Path | None, overrides: list[str], *, as_json: bool) -> None:
    with stdout_for_results():
        from iit_toolkit import pipeline

        verified = pipeline.verify_export(exported, output, overrides)
    if as_json:
        print_results(verified.folder, reproduced=verified.same)
    else:
        print_summary(verified.folder)
        typer.echo(verified.sentence)

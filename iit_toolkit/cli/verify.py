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
    print_folder,
    read_config,
    stdout_for_results,
)
from iit_toolkit.cli.planning import print_plan
from iit_toolkit.cli.summary import print_summary
from iit_toolkit.errors import UserError


def verify(
    config: Annotated[
        str | None,
        typer.Argument(metavar="CONFIG", help="A YAML file or a bundled config; left out with --from."),
    ] = None,
    overrides: Overrides = None,
    *,
    student: Annotated[str | None, typer.Option(help="The model to verify: a folder or a Hub id.")] = None,
    alignment: Annotated[
        str | None, typer.Option(help="The alignment to verify it by: a YAML file or a preset.")
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

    Measures how well it follows the teacher under interchange interventions. The teacher, the data and the
    settings of the verification come from the config. Prints the verdict, a table, and where the report is.

    With --plan, a pilot of 64 pairs says how many pairs a lead needs to be SUPPORTED, and nothing is written.

    With --from, everything comes from a folder that `iit-toolkit export` wrote, and the last line says whether
    the answers are those of the export.

    Example: iit-toolkit verify quickstart --student my-student --alignment diito/middle -o runs/mine
    """
    if plan and (exported is not None or output is not None):
        raise UserError("--plan writes nothing and takes no export; leave out --output and --from")
    if exported is not None:
        if student is not None or alignment is not None or (config is not None and not is_override(config)):
            raise UserError("--from gives config, student and alignment; leave them out, or leave out --from")
        changes = [*([] if config is None else [config]), *(overrides or [])]
        _verify_export(exported, output, changes, as_json=as_json)
        return
    if config is None or student is None or alignment is None:
        raise UserError("give CONFIG, --student and --alignment; or --from, with a folder of `iit-toolkit export`")
    settings = read_config(config, overrides)

    from iit_toolkit import pipeline

    if plan:
        with stdout_for_results():
            planned, rows = pipeline.plan_verification(settings, student, alignment)
        if as_json:
            typer.echo(json.dumps({**planned.to_dict(), "held_out_rows": rows}, indent=1, allow_nan=False))
        else:
            print_plan(planned, rows)
        return
    folder = output_folder(output, settings)
    with stdout_for_results():
        pipeline.verify(settings, student=student, alignment=alignment, output=folder)
    if as_json:
        print_folder(folder, as_json=True)
    else:
        print_summary(folder)


def _verify_export(exported: Path, output: Path | None, overrides: list[str], *, as_json: bool) -> None:
    from iit_toolkit import pipeline

    with stdout_for_results():
        verified = pipeline.verify_export(exported, output, overrides)
    if as_json:
        typer.echo(json.dumps({"folder": str(verified.folder), "reproduced": verified.same}))
    else:
        print_summary(verified.folder)
        typer.echo(verified.sentence)

"""`iit-toolkit verify`."""

from __future__ import annotations

from typing import Annotated

import typer

from iit_toolkit.cli.arguments import (
    Config,
    Json,
    Output,
    Overrides,
    output_folder,
    print_folder,
    read_config,
    stdout_for_results,
)
from iit_toolkit.cli.summary import print_summary


def verify(
    config: Config,
    overrides: Overrides = None,
    *,
    student: Annotated[str, typer.Option(help="The model to verify: a folder or a Hub id.")],
    alignment: Annotated[str, typer.Option(help="The alignment to verify it by: a YAML file or a preset.")],
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Verify a finished student against its teacher.

    Measures how well it follows the teacher under interchange interventions. The teacher, the data and the
    settings of the verification come from the config. Prints the verdict, a table, and where the report is.

    Example: iit-toolkit verify quickstart --student my-student --alignment diito/middle -o runs/mine
    """
    settings = read_config(config, overrides)

    from iit_toolkit import pipeline

    folder = output_folder(output, settings)
    with stdout_for_results():
        pipeline.verify(settings, student=student, alignment=alignment, output=folder)
    if as_json:
        print_folder(folder, as_json=True)
    else:
        print_summary(folder)

"""`iit-toolkit run`."""

from __future__ import annotations

from typing import Annotated

import typer

from iit_toolkit.cli.arguments import (
    RESUMED,
    Config,
    Json,
    Output,
    Overrides,
    output_folder,
    read_config,
    stdout_for_results,
)
from iit_toolkit.cli.summary import print_results, print_summary
from iit_toolkit.runs import processes


def run(
    config: Config,
    overrides: Overrides = None,
    output: Output = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue in the output folder, if it exists: trained arms are not trained again."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train, verify and report every arm of a config.

    Prints the verdict, a table of the students, and where the report is.

    Example: iit-toolkit run quickstart --output runs/first
    """
    with processes.main_first():
        settings = read_config(config, overrides)

    folder = output_folder(output, settings)
    with stdout_for_results(going_on=RESUMED):
        from iit_toolkit import pipeline

        pipeline.run(settings, folder, resume=resume)
    if not processes.is_main():
        return
    if as_json:
        print_results(folder)
    else:
        print_summary(folder)

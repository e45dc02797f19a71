"""`iit-toolkit train`."""

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
    print_folder,
    read_config,
    stdout_for_results,
)
from iit_toolkit.errors import UserError, did_you_mean, listed
from iit_toolkit.runs import processes


def train(
    config: Config,
    overrides: Overrides = None,
    arm: Annotated[str | None, typer.Option(help="The arm to train; needed if the config has several.")] = None,
    output: Output = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue in the output folder, if it exists, from the last checkpoint."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train the student of one arm only.

    Prints the folder of the run.

    Example: iit-toolkit train quickstart --arm causal --output runs/causal
    """
    from iit_toolkit.config.run_config import refuse_no_arms

    with processes.main_first():
        settings = read_config(config, overrides)
        refuse_no_arms(settings.name, settings.arms)
        if arm is None and len(settings.arms) > 1:
            raise UserError(f"config {config} has several arms, choose with --arm: {listed(settings.arms)}")
        chosen = arm or next(iter(settings.arms))
        if chosen not in settings.arms:
            raise UserError(f'config {config} has no arm "{chosen}": {did_you_mean(chosen, settings.arms)}')

    folder = output_folder(output, settings)
    with stdout_for_results(going_on=RESUMED):
        from iit_toolkit import pipeline

        pipeline.train(settings, folder, chosen, resume=resume)
    if processes.is_main():
        print_folder(folder, as_json=as_json)

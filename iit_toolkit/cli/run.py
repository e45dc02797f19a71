"""`iit-toolkit run`."""

from __future__ import annotations

from iit_toolkit.cli.arguments import (
    Config,
    Json,
    Output,
    Overrides,
    output_folder,
    print_folder,
    read_config,
)


def run(config: Config, overrides: Overrides = None, output: Output = None, as_json: Json = False) -> None:
    """Train, verify and report every arm of a config.

    Prints the folder of the run.

    Example: iit-toolkit run quickstart --output runs/first
    """
    settings = read_config(config, overrides)

    from iit_toolkit import pipeline

    print_folder(pipeline.run(settings, output_folder(output, settings)), as_json=as_json)

"""`iit-toolkit explain`."""

from __future__ import annotations

import typer

from iit_toolkit.cli.arguments import Config, Overrides, read_config, stdout_for_results


def explain(config: Config, overrides: Overrides = None) -> None:
    """Say in words what a config does.

    Example: iit-toolkit explain quickstart
    """
    settings = read_config(config, overrides)

    with stdout_for_results():
        from iit_toolkit import pipeline

        explanation = pipeline.explain(settings)
    typer.echo(explanation)

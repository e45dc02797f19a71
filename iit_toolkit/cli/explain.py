"""`iit-toolkit explain`."""

from __future__ import annotations

import shutil
import textwrap

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
    width = shutil.get_terminal_size().columns
    for line in explanation.splitlines():
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        typer.echo(textwrap.fill(line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False))

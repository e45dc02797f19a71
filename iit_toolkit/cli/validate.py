"""`iit-toolkit validate`."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from iit_toolkit.cli.arguments import Config, Json, Overrides, read_config, stdout_for_results


def validate(config: Config, overrides: Overrides = None, as_json: Json = False) -> None:
    """Check a config before any training.

    Checks its keys, the data, the models, and each alignment on the live models. Exits with 1 if a check fails.

    Example: iit-toolkit validate quickstart data.max_length=64
    """
    settings = read_config(config, overrides)

    with stdout_for_results():
        from iit_toolkit import pipeline

        checks = pipeline.validate(settings)
    if as_json:
        typer.echo(json.dumps([asdict(check) for check in checks], indent=1))
    else:
        for check in sorted(checks, key=lambda check: check.passed):  # what failed comes first
            mark = typer.style("ok  ", "green") if check.passed else typer.style("FAIL", "red", bold=True)
            typer.echo(f"{mark}  {check.name}: {check.detail}")
    if not all(check.passed for check in checks):
        raise typer.Exit(1)

"""`iit-toolkit schema`."""

from __future__ import annotations

import json

import typer


def schema() -> None:
    """Print the JSON schema of a config, for editors.

    Example: iit-toolkit schema > config.schema.json
    """
    from iit_toolkit.config.loading import config_schema

    typer.echo(json.dumps(config_schema(), indent=1))

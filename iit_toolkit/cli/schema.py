"""`iit-toolkit schema`."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def schema(
    networks: Annotated[bool, typer.Option("--networks", help="That of programs and networks of torch.")] = False,
) -> None:
    """Print the JSON schema of a config, for editors.

    Example: iit-toolkit schema > config.schema.json
    """
    from iit_toolkit.config.loading import config_schema

    typer.echo(json.dumps(config_schema(networks=networks), indent=1))

"""`iit-toolkit schema`."""

from __future__ import annotations

import json
from enum import Enum
from typing import Annotated, Any

import typer

from iit_toolkit.errors import UserError


class File(str, Enum):
    """The files that users write."""

    config = "config"
    alignment = "alignment"
    suite = "suite"
    tasks = "tasks"


def schema(
    file: Annotated[File, typer.Argument(metavar="FILE", help="config, alignment, suite or tasks.")] = File.config,
    *,
    networks: Annotated[bool, typer.Option("--networks", help="That of programs and networks of torch.")] = False,
) -> None:
    """Print the JSON schema of a config, for editors.

    Or that of another file that users write.

    Example: iit-toolkit schema > config.schema.json
    """
    if networks and file is not File.config:
        raise UserError(f"--networks is of configs; leave it out with {file.value}")
    typer.echo(json.dumps(_schema(file, networks=networks), indent=1))


def _schema(file: File, *, networks: bool) -> dict[str, Any]:
    from iit_toolkit.config.loading import config_schema, schema_of

    if file is File.config:
        return config_schema(networks=networks)
    if file is File.alignment:
        from iit_toolkit.alignment.spec import Alignment

        return schema_of(Alignment)
    if file is File.suite:
        from iit_toolkit.pipeline.suite.config import SuiteConfig

        return schema_of(SuiteConfig)
    from iit_toolkit.downstream.config import FinetuneConfig

    return schema_of(FinetuneConfig)

"""`iit-toolkit init`."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from iit_toolkit.errors import UserError


class Kind(str, Enum):
    """The kinds of configs that can be written."""

    mlm = "mlm"
    causal_lm = "causal-lm"
    pairs = "pairs"
    classification = "classification"


def init(
    kind: Annotated[Kind, typer.Argument(help="What the teacher is, or what it is asked.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write [default: KIND.yaml]", show_default=False)
    ] = None,
) -> None:
    """Write a commented config to start from.

    Example: iit-toolkit init mlm --output mine.yaml
    """
    from iit_toolkit.config.loading import ASSETS
    from iit_toolkit.runs.folder import write_atomically

    path = output or Path(f"{kind.value}.yaml")
    if path.exists():
        raise UserError(f"{path} exists; choose another with --output, or remove it")
    write_atomically(path, (ASSETS / "init" / f"{kind.value}.yaml").read_text(encoding="utf-8"))
    typer.echo(path)
    typer.echo(f"next: iit-toolkit validate {path}", err=True)

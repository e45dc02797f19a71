"""`iit-toolkit init`."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from shlex import quote
from typing import Annotated

import typer

from iit_toolkit.errors import UserError


class Kind(str, Enum):
    """The kinds of configs that can be written."""

    mlm = "mlm"
    causal_lm = "causal-lm"
    pairs = "pairs"
    classification = "classification"
    token_classification = "token-classification"
    symbolic = "symbolic"


def init(
    kind: Annotated[Kind, typer.Argument(help="What the teacher is, or what it is asked.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file to write [default: KIND.yaml]", show_default=False)
    ] = None,
) -> None:
    """Write a commented config to start from.

    That of symbolic has a Python file beside it, which holds a program.

    Example: iit-toolkit init mlm --output mine.yaml
    """
    from iit_toolkit.config.loading import ASSETS
    from iit_toolkit.runs.folder import write_atomically

    path = output or Path(f"{kind.value}.yaml")
    text, code = (ASSETS / "init" / f"{kind.value}{ending}" for ending in (".yaml", ".py"))
    beside = [path.with_suffix(".py")] if code.is_file() else []
    for one in (path, *beside):
        if one.exists():
            raise UserError(f"{one} exists; choose another with --output, or remove it")
    content = text.read_text(encoding="utf-8")
    for one in beside:
        write_atomically(one, code.read_text(encoding="utf-8"))
        content = content.replace(f'"{code.name}:', json.dumps(f"{one.as_posix()}:")[:-1])
    write_atomically(path, content)
    for one in (path, *beside):
        typer.echo(one)
    typer.echo(f"next: iit-toolkit validate {quote(str(path))}", err=True)

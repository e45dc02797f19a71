"""The arguments that several verbs share."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from iit_toolkit.config.loading import AnyRunConfig
    from iit_toolkit.config.run_config import RunConfig

Config = Annotated[
    str, typer.Argument(metavar="CONFIG", help="A YAML file, or the name of a bundled config (quickstart).")
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Override the config: training.learning_rate=3e-4 ..."),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Folder of the run [default: runs/NAME of the config]"),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def is_override(argument: str) -> bool:
    """Whether an argument in a config's place is an override, since the config is left out."""
    return "=" in argument and not os.path.isfile(argument)  # also if it is too long for a path


def read_config(config: str, overrides: list[str] | None) -> AnyRunConfig:
    """Read the config that the arguments name."""
    from iit_toolkit.config.loading import load_config

    return load_config(config, overrides or [])


def read_text_config(config: str, overrides: list[str] | None) -> RunConfig:
    """Read the config that the arguments name; refuse one of programs and other networks."""
    from iit_toolkit.config.loading import load_text_config

    return load_text_config(config, overrides or [])


def with_measure(config: AnyRunConfig, measure: str | None) -> AnyRunConfig:
    """Return the config with another measure to judge by; the same config if none is given."""
    from iit_toolkit.analysis.statistics.measures import judged_measure

    if measure is None:
        return config
    named = {"measure": judged_measure(measure).name}
    return config.model_copy(update={"verification": config.verification.model_copy(update=named)})


RESUMED = "repeat the command with --resume to go on from here"
CONTINUED = "repeat the command to go on from here"
"""What an interrupt says of verbs that keep what is done."""


@contextlib.contextmanager
def stdout_for_results(*, live: bool = True, going_on: str | None = None) -> Generator[None]:
    """Send what libraries print to standard error, and say there what is done; see `cli.progress.said`."""
    from iit_toolkit.cli.progress import AGAIN, said

    with said(live=live, going_on=going_on or AGAIN), contextlib.redirect_stdout(sys.stderr):
        yield


def output_folder(output: Path | None, config: AnyRunConfig) -> Path:
    """Return the folder to write to: as given, or `runs/<name of the config>`."""
    return output or Path("runs") / config.name


def print_document(file: Path) -> None:
    """Print a JSON document that was written, with the folder where it is."""
    import json

    from iit_toolkit.files.json_files import read_object

    document = {"folder": str(file.parent), **read_object(file)}
    typer.echo(json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False))


def print_folder(folder: Path, *, as_json: bool) -> None:
    """Print where a run was written."""
    if as_json:
        import json

        typer.echo(json.dumps({"folder": str(folder)}))
    else:
        typer.echo(folder)

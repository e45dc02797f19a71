"""`iit-toolkit suite`: plan, run, collect and report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from iit_toolkit.cli.arguments import CONTINUED, stdout_for_results
from iit_toolkit.errors import UserError

if TYPE_CHECKING:
    from iit_toolkit.pipeline.suite.config import SuiteConfig
    from iit_toolkit.pipeline.suite.plan import PlannedPiece

suite = typer.Typer(
    help="Run every arm with every seed, in pieces, and compare them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Suite = Annotated[str, typer.Argument(metavar="SUITE", help="The YAML file of a suite.")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Override the suite: seeds=[42] run.training.learning_rate=3e-4 ..."),
]
Folder = Annotated[
    Path | None, typer.Option("--output", "-o", help="Folder of the suite [default: runs/NAME of the suite]")
]


@suite.command(no_args_is_help=True)
def plan(suite: Suite, overrides: Overrides = None, output: Folder = None) -> None:
    """Print what is done, and what the rest will cost.

    "least" is the least time that its matrix products take; "took" is what the piece took, or a similar one.

    Example: iit-toolkit suite plan experiments/paper-claims/suite.yaml
    """
    with stdout_for_results():
        from iit_toolkit.config.run_config import RunConfig
        from iit_toolkit.pipeline.suite.plan import plan as plan_suite

        config = _read(suite, overrides)
        planned = plan_suite(config, _folder(config, output))
    _print(planned, texts=isinstance(config.run, RunConfig))


@suite.command(no_args_is_help=True)
def run(
    suite: Suite,
    overrides: Overrides = None,
    output: Folder = None,
    *,
    arm: Annotated[list[str] | None, typer.Option(help="Only this arm, repeatable [default: all].")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Only this seed, repeatable [default: all].")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Begin no piece later than this many minutes after the start.")
    ] = None,
    launcher: Annotated[
        str, typer.Option(metavar="COMMAND", help='Start each run with this: "torchrun --nproc_per_node 2".')
    ] = "",
) -> None:
    """Do the pieces that are not done.

    A call that was stopped can be repeated, and calls can run side by side. Prints how many pieces are done.

    Example: iit-toolkit suite run experiments/paper-claims/suite.yaml --minutes 10
    """
    try:
        command = shlex.split(launcher)
    except ValueError as error:
        raise UserError(f"--launcher {launcher}: {error}; quote it as a shell command") from None
    with stdout_for_results(live=not command, going_on=CONTINUED):  # what is launched draws a panel of its own
        from iit_toolkit.pipeline.suite.pieces import pieces
        from iit_toolkit.pipeline.suite.work import work

        config = _read(suite, overrides)
        folder = _folder(config, output)
        _refuse_to_overwrite(suite, folder)
        left = work(config, folder, arms=arm or [], seeds=seed or [], minutes=minutes, launcher=command)
    typer.echo(f"{folder}: {len(pieces(config)) - len(left)} of {len(pieces(config))} pieces are done")


@suite.command(no_args_is_help=True)
def collect(
    suite: Suite,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="Folder for the results.")],
    overrides: Overrides = None,
    output: Folder = None,
) -> None:
    """Copy all finished results, without models.

    The folder is small enough to be committed.

    Example: iit-toolkit suite collect experiments/paper-claims/suite.yaml experiments/paper-claims/results
    """
    config = _read(suite, overrides)

    from iit_toolkit.pipeline.suite.collect import collect as collect_results

    _refuse_to_overwrite(suite, target)
    copied = collect_results(config, _folder(config, output), target)
    typer.echo(f"{target}: results of {len(copied)} pieces")


@suite.command(no_args_is_help=True)
def report(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A suite's folder, or its collected results.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for suite.json, .md, .tex and figures.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(metavar="ARM", help="Compare with this arm [default: the suite's baseline].")
    ] = None,
    *,
    measure: Annotated[
        str | None,
        typer.Option(help="The measure that short table and figures show [default: effect_r2, if the runs have it]."),
    ] = None,
) -> None:
    """Print the tables of a suite.

    Every arm, and each against the baseline, at equal steps and at equal compute.

    Example: iit-toolkit suite report experiments/paper-claims/results --output tables
    """
    from iit_toolkit.analysis.studies.text import to_markdown
    from iit_toolkit.pipeline.suite.report import compared, write_report

    comparison = compared(folder, baseline, measure)
    if output is not None:
        write_report(comparison, output)
    typer.echo(to_markdown(comparison))


def _read(path: str, overrides: list[str] | None) -> SuiteConfig:
    from iit_toolkit.pipeline.suite.config import load_suite

    return load_suite(path, overrides or [])


def _folder(config: SuiteConfig, output: Path | None) -> Path:
    return output or Path("runs") / config.name


def _refuse_to_overwrite(suite: str, folder: Path) -> None:
    """Refuse a folder whose `suite.yaml` is the given suite: somebody wrote it by hand, and it would be overwritten."""
    from iit_toolkit.config.loading import dump_config
    from iit_toolkit.pipeline.suite.pieces import SuiteFolder

    kept = SuiteFolder(folder).config
    if kept.resolve() == Path(suite).resolve() and kept.read_text(encoding="utf-8") != dump_config(_read(suite, None)):
        raise UserError(f"{suite} would be overwritten: {folder} keeps the resolved suite there; choose another folder")


def _print(planned: list[PlannedPiece], *, texts: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from iit_toolkit.analysis.studies.rows import unit_of_flops

    left = [one for one in planned if not one.done]
    flops = sum(one.flops or 0 for one in left)
    unit, size = unit_of_flops(flops)
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("piece", no_wrap=True, overflow="ignore")
    for head in ("state", "steps", unit, "least", "took"):
        table.add_column(head, justify="right")
    for one in planned:
        table.add_row(
            str(one.piece),
            "done" if one.done else "to do",
            "" if one.steps is None else f"{one.steps:,}",
            "" if one.flops is None else f"{one.flops / size:,.3g}",
            _time(one.least_seconds),
            _time(one.seconds),
        )
    console = Console(highlight=False, markup=False)
    console.print(table)
    least = sum(one.least_seconds or 0 for one in left)
    known = [one.seconds for one in left if one.seconds is not None]
    console.print(f"{len(planned) - len(left)} of {len(planned)} pieces are done")
    further = "perplexity, verification and fine-tuning come" if texts else "verification comes"
    console.print(
        f"to do: {len(left)}; their training takes {flops / size:,.3g} {unit}, at least {_time(least)} on this machine "
        f"(at the speed of one large matrix product); {further} on top"
    )
    if known:
        console.print(f"by what the like of {len(known)} of them took: {_time(sum(known))}")


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 60:,.0f} min"

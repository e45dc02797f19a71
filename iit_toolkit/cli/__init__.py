"""The command line: one small file per verb.

Exit codes: 0 fine, 1 a check of `validate` or `gate` failed, 2 wrong usage or input, 130 interrupted, 141 the reader of
standard output is gone, 143 terminated. Results go to standard output; progress and errors go to standard error.
Everything heavy is imported inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from iit_toolkit import __version__
from iit_toolkit.cli.compare import compare
from iit_toolkit.cli.demo import demo
from iit_toolkit.cli.ending import one_line_at_most, terminating_gently
from iit_toolkit.cli.explain import explain
from iit_toolkit.cli.export import export
from iit_toolkit.cli.finetune import finetune
from iit_toolkit.cli.gate import gate
from iit_toolkit.cli.init import init
from iit_toolkit.cli.ls import ls
from iit_toolkit.cli.report import report
from iit_toolkit.cli.run import run
from iit_toolkit.cli.schema import schema
from iit_toolkit.cli.search import search
from iit_toolkit.cli.suite import suite
from iit_toolkit.cli.trace import trace
from iit_toolkit.cli.train import train
from iit_toolkit.cli.validate import validate
from iit_toolkit.cli.verify import verify
from iit_toolkit.errors import UserError
from iit_toolkit.runs import processes
from iit_toolkit.runs.memory import told_if_out_of_memory

_ALONE = (
    "demo",
    "verify",
    "trace",
    "search",
    "report",
    "compare",
    "export",
    "finetune",
    "suite",
)  # what writes, and does not train

app = typer.Typer(
    name="iit-toolkit",
    help="Distil neural networks by interchange interventions, and measure whether they keep their teacher's "
    "causal structure.",
    epilog="Start with: iit-toolkit demo",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


def _options(
    context: typer.Context,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if context.invoked_subcommand in _ALONE:
        processes.refuse_several(context.invoked_subcommand)


app.callback()(_options)
for _verb in (
    demo,
    init,
    validate,
    explain,
    trace,
    run,
    train,
    verify,
    search,
    report,
    ls,
    compare,
    gate,
    export,
    finetune,
    schema,
):
    app.command(no_args_is_help=_verb not in (demo, ls, schema))(_verb)
app.add_typer(suite, name="suite")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; a `UserError` becomes one line and code 2."""
    remedy = "take fewer or shorter rows, smaller batches, or a larger machine"
    with one_line_at_most(), terminating_gently(), told_if_out_of_memory("iit-toolkit", remedy):
        _refuse_empty(sys.argv[1:] if arguments is None else arguments)
        app(arguments)


def _refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse what a shell makes of a variable that is not set: a folder without a name would be the current one."""
    for before, one in zip(("", *arguments), arguments, strict=False):
        option, equals, value = one.partition("=") if one.startswith("--") else ("", "", one)
        if not value.strip() and (equals or not option):
            place = option or before
            raise UserError(f"an argument is empty{f', after {place}' if place else ''}; give it, or leave it out")

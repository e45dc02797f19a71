"""`iit-toolkit finetune`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from iit_toolkit.cli.arguments import CONTINUED, Json, Overrides, is_override, print_document, stdout_for_results
from iit_toolkit.errors import UserError

if TYPE_CHECKING:
    from iit_toolkit.downstream.config import FinetuneConfig


def finetune(
    config: Annotated[
        str | None, typer.Argument(metavar="CONFIG", help="A YAML file; left out with --model and --task.")
    ] = None,
    overrides: Overrides = None,
    *,
    model: Annotated[str | None, typer.Option(help="The model to fine-tune: a folder or a Hub id.")] = None,
    task: Annotated[list[str] | None, typer.Option(help="A task, repeatable: rte, squad, conll2003 ...")] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder of the scores; what is done there is skipped [default: runs/NAME]"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Fine-tune a model on tasks, and score it.

    The tasks are those of GLUE, SQuAD v1.1 and CoNLL-2003. Each is fine-tuned once per seed with the paper's
    hyperparameters. A call that was stopped can be repeated. Prints a table of scores, mean and median over the
    seeds, and where they are.

    Example: iit-toolkit finetune --model runs/first/causal --task rte --task sst2 --output runs/tasks
    """
    if config is not None and is_override(config):
        config, overrides = None, [config, *(overrides or [])]
    settings = _read(config, overrides or [], model, task or [])

    folder = output or Path("runs") / settings.name
    with stdout_for_results(going_on=CONTINUED):
        from iit_toolkit.downstream.finetune import finetune as finetune_model

        finetune_model(settings, folder)
    if as_json:
        print_document(folder / "finetune.json")
    else:
        _print(folder)


def _read(config: str | None, overrides: list[str], model: str | None, tasks: list[str]) -> FinetuneConfig:
    from iit_toolkit.config.loading import parse_config
    from iit_toolkit.downstream.config import FinetuneConfig, load_finetune_config

    if config is not None and model is None and not tasks:
        return load_finetune_config(config, overrides)
    if config is not None or model is None or not tasks:
        raise UserError("give a CONFIG; or --model and --task, and settings as KEY=VALUE")
    document: dict[str, Any] = {"model": model, "tasks": {task: {} for task in tasks}}
    return parse_config(FinetuneConfig, document, overrides, "--model, --task")


def _print(folder: Path) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from iit_toolkit.downstream.folder import FinetuneFolder
    from iit_toolkit.runs.finetuned import read_summary

    written = FinetuneFolder(folder)
    table = Table(box=SIMPLE_HEAD)
    for head in ("task", "split", "metric", "mean", "median", "std", "seeds"):
        table.add_column(head, no_wrap=head != "split", overflow="fold")
    for task, found in read_summary(written.summary)[1].tasks.items():
        for split, metrics in found.splits.items():
            for metric, spread in metrics.items():
                numbers = (spread.mean, spread.median, spread.std)
                cells = ["n/a" if number is None else f"{number:.2f}" for number in numbers]
                table.add_row(task, split, metric, *cells, str(len(found.seeds)))
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(f"scores: {written.summary}", soft_wrap=True)

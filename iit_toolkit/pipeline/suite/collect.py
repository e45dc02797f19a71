"""The results of a suite without its models, to be committed."""

from __future__ import annotations

from pathlib import Path

from iit_toolkit.analysis.statistics.stored_results import read_stored
from iit_toolkit.config.loading import AnyRunConfig, dump_config
from iit_toolkit.downstream.config import FinetuneConfig
from iit_toolkit.errors import UserError
from iit_toolkit.files.plain_files import read_plain, refuse_links_out
from iit_toolkit.pipeline.suite.config import SuiteConfig, load_suite
from iit_toolkit.pipeline.suite.pieces import Piece, SuiteFolder, pieces
from iit_toolkit.runs.finetuned import read_summary
from iit_toolkit.runs.folder import write_atomically, write_json


def collect(config: SuiteConfig, output: str | Path, target: str | Path) -> list[Piece]:
    """Copy the results of every piece that is done, under the names that they have in the suite's folder.

    What the target holds of other pieces stays, if the suite still has them with the same settings. The summary of a
    fine-tuned student then names its folder inside the suite's, not where that lay.

    Args:
        config: The suite.
        output: The suite's folder.
        target: The folder to copy to.

    Returns:
        The pieces whose results were copied.

    Raises:
        UserError: If the target holds results of other settings, or a file can't be written.
    """
    source, copy = SuiteFolder(Path(output)), SuiteFolder(Path(target))
    done = [piece for piece in pieces(config) if source.is_done(config, piece)]
    if copy.config.is_file():
        _refuse_other_settings(config, load_suite(copy.config), copy, done)
    for folder in (source, copy):
        refuse_links_out(folder.path, folder.config, *(folder.results(piece) for piece in done))
    write_atomically(copy.config, dump_config(config))
    for piece in done:
        results = source.results(piece)
        if piece.stage == "run":
            read_stored(results)
        if piece.stage == "run" or piece.seed is None:
            write_atomically(copy.results(piece), read_plain(results))
        else:
            summary, _ = read_summary(results)
            summary["model"]["path"] = source.student(piece).relative_to(source.path).as_posix()
            write_json(copy.results(piece), summary)
    return done


def _refuse_other_settings(config: SuiteConfig, earlier: SuiteConfig, copy: SuiteFolder, done: list[Piece]) -> None:
    """Refuse a target that would keep results that the suite would now make differently."""
    for piece in pieces(earlier):
        if piece in done or not copy.results(piece).is_file():
            continue
        if piece not in pieces(config) or _settings(config, piece) != _settings(earlier, piece):
            raise UserError(
                f"{copy.results(piece)} is of other settings than the suite's {piece}; remove it, or collect elsewhere"
            )


def _settings(config: SuiteConfig, piece: Piece) -> tuple[AnyRunConfig | None, FinetuneConfig | None]:
    """Return what made the piece: for a fine-tuning, also the run that made its student."""
    run = None if piece.seed is None else config.run_config(piece.arm, piece.seed)
    return run, config.finetune_config(config.texts.teacher) if piece.stage == "finetune" else None

"""The results of a suite without its models, to be committed."""

from __future__ import annotations

import json
from pathlib import Path

from iit_toolkit.runs.config import dump_config
from iit_toolkit.runs.folder import write_atomically, write_json
from iit_toolkit.suite.config import SuiteConfig
from iit_toolkit.suite.pieces import Piece, SuiteFolder, pieces


def collect(config: SuiteConfig, output: str | Path, target: str | Path) -> list[Piece]:
    """Copies the results of every piece that is done, under the names that they have in the suite's folder.

    What the target holds of other pieces stays. Of a fine-tuned student, the summary then gives the folder inside the
    suite's, not where that lay.

    Args:
        config: The suite.
        output: The suite's folder.
        target: The folder to copy to.

    Returns:
        The pieces whose results were copied.

    Raises:
        UserError: If a file can't be written.
    """
    source, copy = SuiteFolder(Path(output)), SuiteFolder(Path(target))
    done = [piece for piece in pieces(config) if source.is_done(config, piece)]
    write_atomically(copy.config, dump_config(config))
    for piece in done:
        write_atomically(copy.results(piece), source.results(piece).read_bytes())
        if piece.stage == "finetune" and piece.seed is not None:
            summary = json.loads(copy.results(piece).read_text(encoding="utf-8"))
            summary["model"]["path"] = source.student(piece).relative_to(source.path).as_posix()
            write_json(copy.results(piece), summary)
    return done

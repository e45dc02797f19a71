"""What a suite will cost, before it is run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median

from iit_toolkit.analysis.statistics.stored_results import read_stored
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.suite.config import SuiteConfig
from iit_toolkit.pipeline.suite.costs import training_costs
from iit_toolkit.pipeline.suite.pieces import Piece, SuiteFolder, alike, pieces
from iit_toolkit.runs.finetuned import read_scores, read_summary


@dataclass(frozen=True)
class PlannedPiece:
    """One piece, and what it costs.

    Attributes:
        piece: The piece.
        done: Whether it is done.
        steps: Steps of a training; None for a fine-tuning.
        flops: Multiplications and additions in the matrix products of the training; None for a fine-tuning, and for a
            training that is done.
        seconds: What it took, or what its like took (the same arm with another seed, any other fine-tuning); None
            if nothing like it is done. A training that was resumed is counted whole, at the speed of its last part.
        least_seconds: The least time that the `flops` take this machine; None if there are none.
    """

    piece: Piece
    done: bool
    steps: int | None
    flops: float | None
    seconds: float | None
    least_seconds: float | None


def plan(config: SuiteConfig, output: str | Path) -> list[PlannedPiece]:
    """Return what each piece costs; models and data are loaded if a training is not done.

    Raises:
        UserError: If the run config does not hold on the live models and data.
    """
    folder = SuiteFolder(Path(output))
    every = pieces(config)
    done = {piece: folder.is_done(config, piece) for piece in every}
    took = {piece: seconds for piece in every if done[piece] and (seconds := _took(folder, piece)) is not None}
    cost = training_costs(config)
    planned: list[PlannedPiece] = []
    for piece in every:
        like = [seconds for other, seconds in took.items() if alike(piece, other)]
        seconds = took.get(piece, median(like) if like else None)
        known = cost(piece.arm) if piece.stage == "run" and not done[piece] else None
        steps, flops, least = (None,) * 3 if known is None else (known.steps, known.flops, known.least_seconds)
        planned.append(PlannedPiece(piece, done[piece], steps, flops, seconds, least))
    return planned


def _took(folder: SuiteFolder, piece: Piece) -> float | None:
    """How long a run (training, verification, perplexity), or all fine-tunings, of a piece took, in seconds.

    None for a training that was resumed after its last step, and for a run that does not say how long its verification
    took.
    """
    if piece.stage == "run":
        results = read_stored(folder.results(piece)).document
        if piece.arm not in results["arms"]:
            raise UserError(f"{folder.results(piece)}: no arm {piece.arm}; remove the folder, and run it again")
        arm = results["arms"][piece.arm]
        verified, timed = results.get("verification"), arm["steps"] - arm["resumed_at_step"]
        return arm["seconds"] * arm["steps"] / timed + verified["seconds"] if verified and timed else None
    finetuning = folder.finetuning(piece)
    _, summary = read_summary(finetuning.summary)
    scores = [finetuning.scores(task, seed) for task, found in summary.tasks.items() for seed in found.seeds]
    try:
        return sum(read_scores(path)["training"]["seconds"] for path in scores)
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing; run `iit-toolkit suite run` again") from None

"""The runs below a folder, however unlike: what each came to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from iit_toolkit.analysis.statistics.stored_results import read_stored
from iit_toolkit.errors import UserError
from iit_toolkit.runs.folder import RunFolder

_DEEPEST = 4
"""Folders between the one that is listed and a run: a suite has its runs two below."""


@dataclass(frozen=True)
class ListedRun:
    """A run folder in one line.

    Attributes:
        folder: Where it is.
        student: The judged student; empty of a run without results.
        verdict: Its verdict, or what is wrong with the run.
        measure: What the verdict rests on; None without results.
        score: The measure, of the variable with the lowest.
        kl: KL divergence of the judged student from its teacher without interventions, in nats.
        created: When the results were written, as ISO 8601; empty without results.
    """

    folder: Path
    student: str = ""
    verdict: str = ""
    measure: str | None = None
    score: float | None = None
    kl: float | None = None
    created: str = ""


def list_runs(folder: Path) -> list[ListedRun]:
    """Return the runs at and below a folder, the newest first; those without results last.

    Raises:
        UserError: If there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder; give one that holds runs")
    runs = [_listed(path) for path in sorted(_run_folders(folder, _DEEPEST))]
    return sorted(runs, key=lambda run: run.created, reverse=True)


def _run_folders(folder: Path, deepest: int) -> Iterator[Path]:
    run = RunFolder(folder)
    if run.config.is_file() or run.results.is_file():
        yield folder
    elif deepest:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink() and not path.name.startswith("."):
                yield from _run_folders(path, deepest - 1)


def _listed(path: Path) -> ListedRun:
    if not RunFolder(path).results.is_file():
        return ListedRun(path, verdict="no results")
    try:
        stored = read_stored(path)
    except UserError:
        return ListedRun(path, verdict="damaged, or of another version")
    verdict, judged = stored.verdict, stored.student(stored.judged)
    scores = [one.score.value for one in verdict.variables.values() if one.score.value is not None]
    kl, created = judged.behaviour.kl.value, stored.document["created"]
    return ListedRun(path, verdict.student, verdict.label, verdict.measure, min(scores, default=None), kl, created)

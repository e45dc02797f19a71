"""One process at work in a run folder: locked, cleared of what killed processes left, and new if it must be."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from iit_toolkit.files.paths import require_path
from iit_toolkit.runs.folder import (
    LOCK,
    RunFolder,
    clear_left_overs,
    locked,
    remove,
    remove_empty,
    write_atomically,
)

_MARK = ".unfinished"
_WRITTEN_AT_ONCE = (
    *("config.yaml", "alignment.yaml", "inputs.yaml", "results.json", "figures"),
    *("outcomes.parquet", "controls.parquet", "choices.parquet", "examples.parquet", "answers.parquet"),
    *("report.html", "report.md", "report.json", "report.tex", "report.pdf"),
    *("search.json", "subspace.json", "subspaces.safetensors", "trace.json", "README.md"),
)


@contextmanager
def working_in(output: str | Path, what: str = "the run") -> Generator[RunFolder]:
    """Make a folder if it is missing, lock it, and clear it of what killed processes left.

    Folders that were made and are still empty at the end are removed.

    Args:
        output: The folder.
        what: What messages say is being worked on, before its path.

    Raises:
        UserError: If the folder can't be made, written or locked, or another process is at work in it.
    """
    require_path(output, "folder")
    made = [path for path in (Path(output), *Path(output).parents) if not path.exists()]
    folder = RunFolder.make(output)
    try:
        with locked(folder.path / LOCK, f"{what} {folder.path}"):
            clear_left_overs(folder.path)
            _clear_unfinished(folder)
            yield folder
    finally:
        remove_empty(*made)


@contextmanager
def beginning(folder: RunFolder) -> Generator[None]:
    """Begin a run in an empty folder; if the block fails, leave everything as it was.

    Raises:
        UserError: If there is something in the folder.
    """
    folder.refuse_occupied()
    try:
        yield
    except BaseException:
        for file in (folder.config, folder.alignment, folder.inputs):
            remove(file)
        raise


@contextmanager
def written_at_once(output: str | Path) -> Generator[RunFolder]:
    """Give a new or empty folder for what is never resumed, such as a verification; if it fails, nothing remains.

    What a killed process left there of the same kind is removed first.

    Raises:
        UserError: As for `working_in`, or if there is something else in the folder.
    """
    with working_in(output) as folder:
        mark = folder.path / _MARK
        folder.refuse_occupied()
        write_atomically(mark, "")
        try:
            yield folder
        except BaseException:
            _clear(folder)
            raise
        remove(mark)


def _clear_unfinished(folder: RunFolder) -> None:
    """Clear what a killed process was to write at once; if there is more, such as a run's arms, all stays."""
    mark = folder.path / _MARK
    if mark.exists():
        of_one_process = {path.name for path in folder.path.iterdir()} <= {*_WRITTEN_AT_ONCE, _MARK, LOCK}
        if of_one_process:
            _clear(folder)
        remove(mark)


def _clear(folder: RunFolder) -> None:
    for name in _WRITTEN_AT_ONCE:
        remove(folder.path / name)
    clear_left_overs(folder.path)
    remove(folder.path / _MARK)

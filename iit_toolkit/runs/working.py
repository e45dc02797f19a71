"""One process at work in a run folder: locked, cleared of what killed processes left, and new if it must be."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from iit_toolkit.runs.folder import RunFolder, clear_left_overs, remove, remove_empty, write_atomically

_MARK = ".unfinished"
_WRITTEN_AT_ONCE = (
    *("config.yaml", "alignment.yaml", "inputs.yaml", "results.json", "figures"),
    *("outcomes.parquet", "controls.parquet", "examples.parquet", "answers.parquet"),
    *("report.html", "report.md", "report.json", "report.tex", "report.pdf"),
    *("search.json", "subspace.json", "subspaces.safetensors"),
)


@contextmanager
def working_in(output: str | Path) -> Generator[RunFolder]:
    """Lock a run folder, which is made if it is missing, and clear it of what killed processes left.

    Folders that were made and are still empty at the end are removed.

    Raises:
        UserError: If the folder can't be made, written or locked, or another process is at work in it.
    """
    made = [path for path in (Path(output), *Path(output).parents) if not path.exists()]
    folder = RunFolder.make(output)
    try:
        with folder.alone():
            clear_left_overs(folder.path)
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
        if mark.exists():
            _clear(folder)
        folder.refuse_occupied()
        write_atomically(mark, "")
        try:
            yield folder
        except BaseException:
            _clear(folder)
            raise
        remove(mark)


def _clear(folder: RunFolder) -> None:
    for name in _WRITTEN_AT_ONCE:
        remove(folder.path / name)
    clear_left_overs(folder.path)
    remove(folder.path / _MARK)

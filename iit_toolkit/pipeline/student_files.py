"""Copies the folder of a student: its own plain files, and nothing that they or a link name elsewhere."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath
from typing import Any, cast

from iit_toolkit.errors import UserError, one_line
from iit_toolkit.files.json_files import read_object

_INDEX = ".index.json"
_DEEPEST = 8


def require_student_files(student: Path) -> list[Path]:
    """Return the files of a student's folder, by their places in it.

    Raises:
        UserError: If there is a link that leads out of the folder, or something other than a file or folder. If a file
            names a place outside.
    """
    home, files = Path(os.path.realpath(student)), list(_files(student, 0))
    for file in files:
        if not Path(os.path.realpath(file)).is_relative_to(home):
            raise UserError(
                f"{file}: a symbolic link leads out of {student}; replace it by what it names, or remove it"
            )
    require_named_files(files)
    return [file.relative_to(student) for file in files]


def require_named_files(files: Iterable[Path]) -> None:
    """Check that those of a student's files that name others name files beside them.

    Raises:
        UserError: If one names a place outside.
    """
    for file in files:
        if file.name.endswith(_INDEX):
            _require_index(file)
        elif file.name.endswith("config.json"):
            _require_code(file)


def copy_student(student: Path, target: Path) -> None:
    """Copy a student's folder to a new or empty one; links inside become files.

    Raises:
        UserError: As for `require_student_files`, or if a file can't be read or written.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
        for name in require_student_files(student):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(student / name, target / name)
    except (OSError, shutil.Error) as error:
        raise UserError(f"could not copy {student}: {one_line(error)}") from error


def _files(folder: Path, depth: int) -> Iterator[Path]:
    """Every file of a folder, in order; links to folders are not followed."""
    if depth > _DEEPEST:
        raise UserError(f"{folder}: folders in it are nested too deep for those of a student; remove them")
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{folder}: can't be read ({error.strerror or error}); give a readable folder") from None
    for entry in entries:
        path = Path(entry.path)
        if entry.is_dir(follow_symlinks=False):
            yield from _files(path, depth + 1)
        elif _is_plain(path):
            yield path
        else:
            raise UserError(f"{path}: no plain file (a link to nothing or to a folder, a pipe or a device); remove it")


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _require_index(file: Path) -> None:
    """Check the files of the weights that an index names, which lie beside it."""
    shards: Any = read_object(file).get("weight_map")
    for name in cast(dict[str, Any], shards).values() if isinstance(shards, dict) else [shards]:
        if not isinstance(name, str) or name != Path(name).name or not (file.parent / name).is_file():
            raise UserError(
                f"{file}: weight_map names {name!r:.60}, which is no file beside it; save the student again"
            )


def _require_code(file: Path) -> None:
    """Check what a config names as code: a file of the folder or of a repository on the Hub."""
    found: Any = read_object(file).get("auto_map")
    values = list(cast(dict[str, Any], found).values()) if isinstance(found, dict) else [found]
    for name in [one for value in values for one in (cast(list[Any], value) if isinstance(value, list) else [value])]:
        places = str(name).replace("--", "/")
        if ".." in places or Path(places).is_absolute() or PureWindowsPath(places).is_absolute():
            raise UserError(f"{file}: auto_map names {name!r:.60}, code outside the folder; remove that entry")

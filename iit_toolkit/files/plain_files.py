"""Reads files that may be damaged, hostile or from elsewhere: plain files only, of an expected size."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from iit_toolkit.errors import UserError

LARGEST = 2**25
"""Bytes of a document: the results of a run with a hundred variables have a few million."""


def read_plain(path: Path, largest: int = LARGEST) -> bytes:
    """Read a whole file; never wait for a pipe, a device or a folder.

    Args:
        path: The file, or a link to it.
        largest: The most bytes to read.

    Raises:
        FileNotFoundError: If nothing is there.
        UserError: If it can't be read, is not a plain file, or is larger.
    """
    try:
        opened = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        found = os.fstat(opened)
        if not stat.S_ISREG(found.st_mode):
            os.close(opened)
            raise UserError(f"{path}: no plain file (a folder, pipe or device); remove it")
        with os.fdopen(opened, "rb") as file:
            if found.st_size > largest:
                raise UserError(f"{path}: {found.st_size:,} bytes, more than the {largest:,} that such a file may have")
            return file.read(largest)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        if isinstance(error, UserError):
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UserError(f"{path}: can't be read ({reason}); give a readable file") from None


def is_there(path: Path) -> bool:
    """Whether there is a plain file, or a link to one; nothing at all is no file.

    Raises:
        UserError: If there is something else, or a link that leads nowhere.
    """
    if path.is_file():
        return True
    if os.path.lexists(path):
        raise UserError(f"{path}: no plain file (a folder, pipe or device); remove it")
    return False


def refuse_links_out(folder: Path, *paths: Path) -> None:
    """Refuse paths that lead out of a folder by a symbolic link; the folder itself may be reached by one.

    Args:
        folder: A run folder, or the like.
        paths: The paths to read or write there; what does not exist is fine.

    Raises:
        UserError: Naming the first that leads elsewhere.
    """
    home = Path(os.path.realpath(folder))
    for path in paths:
        if not Path(os.path.realpath(path)).is_relative_to(home):
            raise UserError(f"{path}: a symbolic link leads out of {folder}; replace it by what it names, or remove it")

"""Folders for temporary files, and one line if the system has no place for them."""

from __future__ import annotations

import tempfile
from collections.abc import Generator
from contextlib import contextmanager

from iit_toolkit.errors import UserError, one_line


@contextmanager
def scratch_folder() -> Generator[str]:
    """Give a folder for temporary files, and remove it at the end.

    Raises:
        UserError: If the system has no place for one.
    """
    try:
        folder = tempfile.TemporaryDirectory()
    except OSError as error:
        raise UserError(
            f"no folder for temporary files can be made ({error.strerror or one_line(error)}); make room, or set "
            "TMPDIR to a folder that can be written"
        ) from None
    with folder as path:
        yield path

"""What takes long to make and is only read, made once for all modules and all processes of a test session."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder of the session that `make` fills; whoever changes what is in it takes a copy.

    A process that needs it while another makes it waits for that.
    """
    session = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent
    folder, done = session / name, session / f"{name}.done"
    with FileLock(session / f"{name}.lock"):
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder

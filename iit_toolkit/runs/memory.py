"""Says in one line where memory ran out, and what takes less."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

from iit_toolkit.errors import UserError

_SIGNS = ("out of memory", "allocate memory", "bad_alloc", "ALLOC_FAILED", "Unable to allocate", "malloc of size")
_WANTED = re.compile(r"(?:allocate|size) (\d+(?:\.\d+)?)( [KMGT]?i?B| bytes)?")


class OutOfMemoryError(UserError):
    """Memory ran out, on the machine or its accelerator."""


@contextmanager
def told_if_out_of_memory(where: str, remedy: str) -> Generator[None]:
    """Say in one line if memory runs out in the block.

    Args:
        where: What was done, as the subject of the message.
        remedy: What takes less memory.

    Raises:
        OutOfMemoryError: In place of the error of Python, the system or a library.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if isinstance(error, UserError) or not is_out_of_memory(error):
            raise
        wanted = _WANTED.search(str(error))
        found = f" ({wanted[0]})" if wanted else ""
        raise OutOfMemoryError(f"{where}: memory ran out{found}; {remedy}") from None


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an error of Python, the system or a library means that memory ran out."""
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS)

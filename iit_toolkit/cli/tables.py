"""Tables on the terminal that stay within its width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")


def in_pieces(columns: Sequence[_T], room: int, width: int) -> list[Sequence[_T]]:
    """Split the columns of a table into those of several tables, each as wide as there is room.

    Args:
        columns: The columns.
        room: How many characters there are for them.
        width: Of a column, with the space around it.
    """
    fitting = max(1, room // width)
    return [columns[start : start + fitting] for start in range(0, len(columns), fitting)]

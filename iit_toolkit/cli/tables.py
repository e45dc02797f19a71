"""Tables on the terminal that stay within its width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

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


def print_widest(console: Console, tables: Iterable[Table]) -> None:
    """Print the first table that fits, or the last, which is then not cut.

    Args:
        console: The terminal.
        tables: Of the same rows, with fewer and fewer columns; at least one.
    """
    from rich.console import Console

    wide = Console(highlight=False, markup=False, width=1000)
    sized = [(table, wide.measure(table).maximum) for table in tables]
    table, needed = next((one for one in sized if one[1] <= console.width), sized[-1])
    Console(highlight=False, markup=False, width=max(console.width, needed)).print(table)

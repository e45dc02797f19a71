"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table of plain texts."""
    return "\n".join(f"| {' | '.join(map(markdown_cell, cells))} |" for cells in (head, ["---"] * len(head), *rows))


def markdown_cell(text: str) -> str:
    """Text that cannot break out of a cell of a table."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())

"""Text and tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from iit_toolkit.printable import printable

_ESCAPED = {"\\": "\\\\", "|": "\\|", "<": "&lt;", "$": "\\$"}
_LINK = re.compile(r"\]([(\[])|^\[")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a table of plain texts."""
    return "\n".join(f"| {' | '.join(map(markdown_cell, cells))} |" for cells in (head, ["---"] * len(head), *rows))


def markdown_cell(text: str) -> str:
    """Text that cannot break out of its line or a cell of a table, and holds no markup of HTML, links or formulas."""
    line = "".join(_ESCAPED.get(character, character) for character in " ".join(printable(text).split()))
    return _LINK.sub(lambda found: f"]\\{found[1]}" if found[1] else "\\[", line)

"""Text and tables in Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from iit_toolkit.files.printable import printable

_ESCAPED = {"<": "&lt;"} | {character: f"\\{character}" for character in "\\|$`*~"}
_ENTITY = re.compile(r"&(?=#?\w+;)")
_EMPHASIS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")  # one inside a word is none
_LINK = re.compile(r"\](?=[(\[])")


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of plain texts."""
    return "\n".join(f"| {' | '.join(map(markdown_cell, cells))} |" for cells in (head, ["---"] * len(head), *rows))


def markdown_cell(text: str) -> str:
    """Text that is shown as it is wherever in a line it stands, in a cell of a table and the alt text of a figure."""
    line = _ENTITY.sub("&amp;", " ".join(printable(text).split()))
    line = _EMPHASIS.sub(r"\\_", "".join(_ESCAPED.get(character, character) for character in line))
    if line.startswith("[") or not _balanced(line):
        return line.replace("[", "\\[").replace("]", "\\]")
    return _LINK.sub("]\\\\", line)


def _balanced(line: str) -> bool:
    """Whether every bracket that opens is closed after it, as those of an interval are."""
    depth = 0
    for character in line:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0

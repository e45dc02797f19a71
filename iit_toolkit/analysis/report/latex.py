"""Text and rows of LaTeX tables."""

from __future__ import annotations

import re
from collections.abc import Sequence

from iit_toolkit.files.printable import printable

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "|": r"\textbar{}",
    '"': "''",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}

_MINUS = re.compile(r"(?<!\w)-(?=\d)")


def latex_text(text: str) -> str:
    """Text that LaTeX prints as it is, with the minus signs of numbers."""
    escaped = "".join(_SPECIAL.get(character, character) for character in " ".join(printable(text).split()))
    if escaped.startswith(("[", "*")):  # else \\ of the row before would take it
        escaped = f"{{{escaped[0]}}}{escaped[1:]}"
    return _MINUS.sub("$-$", escaped)


def latex_comment(text: str) -> str:
    """Return a line that LaTeX skips."""
    return f"% {' '.join(printable(text).split())}"


def latex_row(cells: Sequence[str]) -> str:
    """One row of a table, of plain texts."""
    return f"{' & '.join(map(latex_text, cells))} \\\\"

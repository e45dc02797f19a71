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

_NO_LABEL = re.compile(r"[^A-Za-z0-9:-]+")
_MINUS = re.compile(r"(?<!\w)-(?=\d)")


def latex_text(text: str) -> str:
    """Text that LaTeX prints as it is, with the minus signs of numbers."""
    escaped = "".join(_SPECIAL.get(character, character) for character in " ".join(printable(text).split()))
    if escaped.startswith(("[", "*")):  # else \\ of the row before would take it
        escaped = f"{{{escaped[0]}}}{escaped[1:]}"
    return _MINUS.sub("$-$", escaped)


def latex_table(columns: str, head: Sequence[str], body: Sequence[str], *, caption: str, label: str) -> str:
    r"""Return a floating table with caption and label, as wide as the page; it needs the package booktabs.

    Args:
        columns: The alignment of each column, as `llr`.
        head: Plain texts.
        body: Rows, as `latex_row` makes them, and rules.
        caption: Plain text.
        label: What `\ref` takes; of letters, digits, `-` and `:`.
    """
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table*}",
        "\\centering",
        "\\small",
        f"\\caption{{{latex_text(caption)}}}",
        f"\\label{{{_NO_LABEL.sub('-', label)}}}",
        f"\\begin{{tabular}}{{{columns}}}",
        "\\toprule",
        latex_row(head),
        "\\midrule",
        *body,
        "\\bottomrule",
        "\\end{tabular}",
        "\\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def latex_row(cells: Sequence[str]) -> str:
    """One row of a table, of plain texts."""
    return f"{' & '.join(map(latex_text, cells))} \\\\"

"""Tables as CSV that a spreadsheet shows and does not run."""

from __future__ import annotations

import pandas as pd

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def to_csv(table: pd.DataFrame) -> str:
    """Return a table as CSV; an apostrophe keeps a text from being a formula."""
    return table.rename(columns=_text).map(_text).to_csv(index=False)


def _text(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value

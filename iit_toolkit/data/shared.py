"""Which rows of a set are also in another."""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any, cast

from datasets import Dataset


def count_shared(rows: Dataset, others: Dataset) -> int:
    """Counts the rows of token ids that are also among others, each as often as it occurs in `rows`.

    A pair is the same if base and source are. Where only the others are pairs, texts are looked for among the bases
    and the sources; where only the rows are, their bases are.
    """
    if "source_input_ids" in rows.column_names and "source_input_ids" in others.column_names:
        found = _keys(others, "input_ids", "source_input_ids")
        keys = list(_keys(rows, "input_ids", "source_input_ids"))
    else:
        columns = [name for name in ("input_ids", "source_input_ids") if name in others.column_names]
        found = (key for column in columns for key in _keys(others, column))
        keys = list(_keys(rows, "input_ids"))
    shared = set(keys).intersection(found)  # which holds no more than the rows, however many others there are
    return sum(key in shared for key in keys)


def _keys(rows: Dataset, *columns: str) -> Iterator[tuple[bytes, ...]]:
    for batch in cast(Iterator[dict[str, Any]], rows.select_columns(list(columns)).iter(batch_size=1000)):
        yield from zip(*([array("i", ids).tobytes() for ids in batch[column]] for column in columns), strict=True)

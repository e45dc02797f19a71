"""Rows of token ids in files: written small, read back as they were."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset, List, Value

from iit_toolkit.data.loading import describe_split, load_split
from iit_toolkit.data.tables import id_columns, lists_of
from iit_toolkit.errors import UserError

_SHORT = 2**16


def write_rows(rows: Dataset, path: Path) -> None:
    """Write rows of token ids as Parquet, two bytes an id before compression where the vocabulary allows it.

    Args:
        rows: What `tokenize_corpus`, `tokenize_labelled` or `tokenize_pairs` gave.
        path: The file; what stood there is replaced.
    """
    for column in id_columns(rows):
        highest = max(int(ids.max()) for ids, _ in lists_of(rows, column) if len(ids))
        if highest < _SHORT:
            rows = rows.cast_column(column, List(Value("uint16")))
    write_small(rows, path)


def write_small(dataset: Dataset, path: Path) -> None:
    """Write any dataset as Parquet, compressed as far as is sensible; what stood at `path` is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table: Any = dataset.with_format("arrow")[:]
    pq.write_table(table, path, compression="zstd", compression_level=19, use_dictionary=False)


def load_rows(data_files: dict[str, str | list[str]] | str | list[str], split: str) -> Dataset:
    """Read rows that `write_rows` wrote.

    Raises:
        UserError: If there is no such split or file, or it holds no token ids.
    """
    rows = load_split("parquet", split, data_files=data_files)
    if not id_columns(rows):
        raise UserError(
            f"data {describe_split('parquet', None, split)}: source rows needs the column input_ids; it has: "
            f"{', '.join(rows.column_names)}"
        )
    for column in id_columns(rows):
        if rows.data[column].null_count:
            raise UserError(f"data {describe_split('parquet', None, split)}: a row has no {column}; write rows anew")
        rows = rows.cast_column(column, List(Value("int32")))
    return rows

"""Tables of rows that may be larger than memory: gathered batch by batch, and read batch by batch."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from datasets.table import InMemoryTable
from numpy.typing import NDArray

from iit_toolkit.errors import UserError, one_line

HELD = 2**26
"""Bytes that a table holds in memory; a larger one is mapped from disk."""
_BATCH = 10_000


def gathered(batches: Iterable[Any], schema: Any) -> Any:
    """Put record batches together; more than `HELD` bytes go to a temporary file, mapped and without a name.

    Raises:
        UserError: If the disk is full.
    """
    kept: list[Any] = []
    size = 0
    rest = iter(batches)
    for batch in rest:
        kept.append(batch)
        size += batch.nbytes
        if size > HELD:
            return _mapped(kept, rest, schema)
    return pa.Table.from_batches(kept, schema)


def dataset_of(table: Any) -> Dataset:
    """Make a dataset of a table as it is: nothing is copied or hashed."""
    return Dataset(InMemoryTable(table), fingerprint=uuid.uuid4().hex[:16])


def lists_of(rows: Dataset, *columns: str) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    """Read columns of lists of integers, one after the other.

    Yields:
        For some rows: the integers of all lists, one after the other (N,), and the lists' lengths (R,).
    """
    for column in columns:
        for batch in _batches(rows, column):
            offsets = np.concatenate([[0], np.cumsum(cast(Any, pc).list_value_length(batch).to_numpy(False))])
            yield batch.flatten().to_numpy(zero_copy_only=False), np.diff(offsets)


def numbers_of(rows: Dataset, column: str) -> NDArray[np.int64]:
    """Read a column of integers."""
    some = [batch.to_numpy(zero_copy_only=False).astype(np.int64) for batch in _batches(rows, column)]
    return np.concatenate(some) if some else np.empty(0, np.int64)


def count_ids(rows: Dataset) -> int:
    """Count the tokens of all rows; in pairs, those of bases and sources."""
    return sum(len(values) for values, _ in lists_of(rows, *id_columns(rows)))


def id_columns(rows: Dataset) -> list[str]:
    """Return the columns of token ids: for pairs, those of the bases and the sources."""
    return [name for name in ("input_ids", "source_input_ids") if name in rows.column_names]


def _batches(rows: Dataset, column: str) -> Iterator[Any]:
    batches = cast(Any, rows.select_columns([column]).with_format("arrow")).iter(batch_size=_BATCH)
    for batch in batches:
        yield pa.concat_arrays(batch[column].chunks)


def _mapped(kept: list[Any], rest: Iterator[Any], schema: Any) -> Any:
    try:
        with tempfile.TemporaryDirectory(prefix="iit_toolkit-", ignore_cleanup_errors=True) as folder:
            path = str(Path(folder) / "rows.arrow")
            with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, schema) as writer:
                while kept:
                    writer.write_batch(kept.pop(0))
                for batch in rest:
                    writer.write_batch(batch)
            return pa.ipc.open_stream(pa.memory_map(path)).read_all()
    except OSError as error:
        raise UserError(
            f"rows can't be kept in {tempfile.gettempdir()}: {one_line(error)[:120]}; give room there, or set TMPDIR "
            "to a folder that has it"
        ) from None

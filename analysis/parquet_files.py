"""Reads the toolkit's parquet tables, which may be damaged or from elsewhere, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from iit_toolkit.errors import UserError, one_line

SCHEMA_KEY = b"iit_toolkit.schema"
MOST_VALUES = 100_000_000
MOST_BYTES = 2**31
"""In all columns; a file may declare more if it is large itself."""
_REMEDY = "verify the run again"


def read_table(path: Path, schema: Any, *, nullable: Sequence[str] = ()) -> Any:
    """Reads a table of exactly the columns and types of a schema.

    Args:
        path: The file, which must exist.
        schema: The Arrow schema, with its name as `iit_toolkit.schema` in the metadata.
        nullable: Columns that may lack values.

    Returns:
        The Arrow table, with the metadata of the file.

    Raises:
        UserError: If the file is unreadable, of another schema, larger than its bytes can be, or lacks values.
    """
    columns = dict(read_columns(path, schema, nullable=nullable))
    metadata = {} if schema.metadata is None else pq.read_schema(path).metadata
    return pa.table(columns).replace_schema_metadata(metadata)


def read_columns(path: Path, schema: Any, *, nullable: Sequence[str] = ()) -> Iterator[tuple[str, Any]]:
    """Reads a table like `read_table`, one column after the other, so that not all need stay in memory."""
    try:
        with pq.ParquetFile(path) as file:
            _refuse_other_schema(path, file.schema_arrow, schema)
            _refuse_bomb(path, file.metadata)
            for name in schema.names:
                column = file.read(columns=[name], use_threads=False).column(0)
                column.validate(full=True)
                if len(column) != file.metadata.num_rows:
                    raise UserError(f"{path}: column {name} holds {len(column):,} values; {_REMEDY}")
                if name not in nullable:
                    _refuse_gaps(path, name, column)
                yield name, column
    except (pa.ArrowException, OSError, ValueError, OverflowError, MemoryError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a readable parquet file: {one_line(error)[:150]}") from None


def _refuse_other_schema(path: Path, found: Any, wanted: Any) -> None:
    name = wanted.metadata[SCHEMA_KEY].decode()
    named = (found.metadata or {}).get(SCHEMA_KEY, b"none").decode(errors="replace")[:60]
    if named != name:
        raise UserError(f"{path}: the schema is {named}; this version reads {name}; {_REMEDY}")
    refuse_columns(found.names, wanted.names, f"{path}", name)
    for field in wanted:
        other = found.field(field.name).type
        if other != field.type:
            raise UserError(f"{path}: column {field.name} is of type {str(other):.60}, not {field.type}; {_REMEDY}")


def refuse_columns(found: Sequence[str], wanted: Sequence[str], where: str, schema: str) -> None:
    """Refuses columns that are missing, unknown, twice, or in another order.

    Raises:
        UserError: Naming them.
    """
    missing = [name for name in wanted if name not in found]
    unknown = [name for name in dict.fromkeys(found) if name not in wanted]
    if missing or unknown:
        raise UserError(
            f"{where}: missing columns: {', '.join(missing) or 'none'}; unknown columns: "
            f"{', '.join(unknown)[:100] or 'none'} (schema {schema})"
        )
    if list(found) != list(wanted):
        raise UserError(f"{where}: columns twice or out of order, other than {schema} says")


def _refuse_bomb(path: Path, metadata: Any) -> None:
    """Refuses a small file that declares so many values, or bytes, that reading it would fill the memory.

    Columns of row groups are not looked at: pyarrow ends the process if what a damaged file says of them is no enum.
    """
    size = path.stat().st_size
    values = metadata.num_rows * metadata.num_columns
    declared = sum(metadata.row_group(place).total_byte_size for place in range(metadata.num_row_groups))
    if (values > MOST_VALUES and values > 16 * size) or (declared > MOST_BYTES and declared > 1000 * size):
        raise UserError(f"{path}: declares {values:,} values in {size:,} bytes, as no table of a run does; {_REMEDY}")


def _refuse_gaps(path: Path, name: str, column: Any) -> None:
    lacking = column.null_count
    for chunk in column.chunks if pa.types.is_list(column.type) else []:
        lacking += chunk.flatten().null_count
    if lacking:
        raise UserError(f"{path}: column {name} lacks {lacking:,} values; {_REMEDY}")

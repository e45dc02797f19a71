"""Reads the toolkit's parquet tables, which may be damaged or from elsewhere, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from iit_toolkit.errors import UserError, one_line

SCHEMA_KEY = b"iit_toolkit.schema"
MOST_VALUES = 100_000_000
MOST_BYTES = 2**31
"""In all columns; a file may declare more if it is large itself."""
MOST_TEXT, LONGEST_TEXT = 2**28, 10_000
"""Bytes of a column of texts or lists, or a hundred times those of the file; characters of a text."""
_ROWS = 4096
_REMEDY = "verify the run again"


def read_table(path: Path, schema: Any, *, nullable: Sequence[str] = ()) -> Any:
    """Read a table of exactly the columns and types of a schema.

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
    """Read a table like `read_table`, one column after the other, so that not all need stay in memory."""
    try:
        with pq.ParquetFile(path) as file:
            _refuse_other_schema(path, file.schema_arrow, schema)
            _refuse_bomb(path, file.metadata)
            for name in schema.names:
                kind = schema.field(name).type
                if pa.types.is_string(kind) or pa.types.is_list(kind):
                    column = _read_parts(path, file, name, kind)
                else:
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


def _read_parts(path: Path, whole: Any, name: str, kind: Any) -> Any:
    """Read a column of texts or lists part by part, and stop where it grows beyond what a table of a run holds.

    Texts are read as a dictionary and numbers in it, as they are often stored: one of some bytes may stand there a
    million times, and is written out only where that is known to fit.
    """
    texts = pa.types.is_string(kind) or pa.types.is_string(kind.value_type)
    stored = [whole.schema.column(place).path for place in range(len(whole.schema.names))]
    coded = [one for one in stored if one == name or one.startswith(f"{name}.")] if texts else None
    most = max(MOST_TEXT, 100 * path.stat().st_size)
    parts: list[Any] = []
    total = 0
    with pq.ParquetFile(path, read_dictionary=coded) as file:
        for batch in file.iter_batches(batch_size=_ROWS, columns=[name], use_threads=False):
            part = batch.column(0)
            part.validate(full=True)
            total += _text_bytes(path, name, part) if texts else part.nbytes
            if total > most:
                raise UserError(
                    f"{path}: column {name} holds over {most:,} bytes, as no table of a run does; {_REMEDY}"
                )
            parts.append(part.cast(kind) if texts else part)
    return pa.chunked_array(parts, kind)


def _text_bytes(path: Path, name: str, part: Any) -> int:
    """How many bytes a part will have when its texts are written out."""
    compute = cast(Any, pc)  # it makes most of its functions as it is imported
    coded = part.flatten() if pa.types.is_list(part.type) else part
    longest = compute.max(compute.utf8_length(coded.dictionary)).as_py() or 0
    if longest > LONGEST_TEXT:
        raise UserError(f"{path}: column {name} holds a text of {longest:,} characters; the most is {LONGEST_TEXT:,}")
    lengths = compute.take(compute.binary_length(coded.dictionary), coded.indices)
    return (compute.sum(compute.cast(lengths, pa.int64())).as_py() or 0) + coded.indices.nbytes


def _refuse_gaps(path: Path, name: str, column: Any) -> None:
    lacking = column.null_count
    for chunk in column.chunks if pa.types.is_list(column.type) else []:
        lacking += chunk.flatten().null_count
    if lacking:
        raise UserError(f"{path}: column {name} lacks {lacking:,} values; {_REMEDY}")

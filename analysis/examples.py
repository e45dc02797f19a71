"""The texts behind the outcomes, in two small tables beside them: a report needs neither model nor tokenizer."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from iit_toolkit.errors import UserError
from iit_toolkit.runs.folder import write_atomically

EXAMPLES = pa.schema(
    [
        ("base", pa.int64()),
        ("source", pa.int64()),
        ("base_tokens", pa.list_(pa.string())),
        ("source_tokens", pa.list_(pa.string())),
        ("swapped", pa.list_(pa.int64())),
        ("taken", pa.list_(pa.int64())),
    ],
    metadata={b"iit_toolkit.schema": b"iit_toolkit/examples/1"},
)
"""One row per base example: its id and its source's, the tokens that the models read (masks included; put together
they are the text), the positions that are overwritten, and the source's positions that are taken, in the same order."""

ANSWERS = pa.schema(
    [("answer", pa.int64()), ("text", pa.string()), ("per_million", pa.float64())],
    metadata={b"iit_toolkit.schema": b"iit_toolkit/answers/1"},
)
"""One row per answer that occurs in the outcomes: its number, what it reads as, and how often it occurs in a million
tokens of some text (null in classification)."""
_COUNTED_IN = b"iit_toolkit.counted_in"
_SCHEMA = b"iit_toolkit.schema"


@dataclass(frozen=True)
class Answers:
    """What the numbers of answers mean.

    Attributes:
        texts: What each reads as.
        per_million: How often each occurs in a million tokens; empty in classification.
        counted_in: The split of the data in which they were counted.
    """

    texts: dict[int, str]
    per_million: dict[int, float]
    counted_in: str


def write_examples(frame: pd.DataFrame, path: Path) -> None:
    """Writes the columns of `EXAMPLES` as parquet, whole or not at all."""
    _write(pa.Table.from_pandas(frame[EXAMPLES.names], schema=EXAMPLES), EXAMPLES.metadata, path)


def read_examples(path: Path) -> pd.DataFrame | None:
    """Reads what `write_examples` wrote; None where there is no such file (a run of an earlier version, an export).

    Raises:
        UserError: If the file is unreadable or of another schema.
    """
    table = _read(path, EXAMPLES)
    return None if table is None else table.to_pandas()


def write_answers(answers: Answers, path: Path) -> None:
    """Writes what is known of the answers as parquet, whole or not at all."""
    columns = {
        "answer": list(answers.texts),
        "text": list(answers.texts.values()),
        "per_million": [answers.per_million.get(number) for number in answers.texts],
    }
    table = pa.Table.from_pydict(columns, schema=ANSWERS)
    _write(table, {**ANSWERS.metadata, _COUNTED_IN: answers.counted_in.encode()}, path)


def read_answers(path: Path) -> Answers | None:
    """Reads what `write_answers` wrote; None where there is no such file.

    Raises:
        UserError: If the file is unreadable or of another schema.
    """
    table = _read(path, ANSWERS)
    if table is None:
        return None
    numbers, texts, per_million = (table.column(name).to_pylist() for name in ANSWERS.names)
    return Answers(
        texts=dict(zip(numbers, texts, strict=True)),
        per_million={number: one for number, one in zip(numbers, per_million, strict=True) if one is not None},
        counted_in=table.schema.metadata.get(_COUNTED_IN, b"").decode(),
    )


def _write(table: Any, metadata: dict[bytes, bytes], path: Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())


def _read(path: Path, schema: Any) -> Any:
    if not path.is_file():
        return None
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a readable parquet file ({type(error).__name__}); remove it") from error
    wanted, found = (one.get(_SCHEMA, b"none").decode() for one in (schema.metadata, table.schema.metadata or {}))
    if found != wanted or table.schema.names != schema.names:
        raise UserError(f"{path}: the schema is {found}; this version reads {wanted}; verify the run again")
    return table

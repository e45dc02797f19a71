"""The texts behind the outcomes, in two small tables: a report needs neither model nor tokenizer."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from iit_toolkit.analysis.statistics.parquet_files import read_table
from iit_toolkit.errors import UserError
from iit_toolkit.files.plain_files import is_there
from iit_toolkit.files.printable import printable
from iit_toolkit.runs.folder import write_atomically

EXAMPLES = pa.schema(
    [
        ("base", pa.int64()),
        ("source", pa.int64()),
        ("base_tokens", pa.list_(pa.string())),
        ("source_tokens", pa.list_(pa.string())),
        ("swapped", pa.list_(pa.int64())),
        ("taken", pa.list_(pa.int64())),
        ("family", pa.string()),
    ],
    metadata={b"iit_toolkit.schema": b"iit_toolkit/examples/2"},
)
"""One row per base example: its id and its source's, the tokens that the models read (masks included; put together
they are the text), the positions that are overwritten, the source's positions that are taken, in the same order, and
what kind of pair it is (null if the data do not say)."""

ANSWERS = pa.schema(
    [("answer", pa.int64()), ("text", pa.string()), ("per_million", pa.float64())],
    metadata={b"iit_toolkit.schema": b"iit_toolkit/answers/1"},
)
"""One row per answer that occurs in the outcomes: its number, what it reads as, and how often it occurs in a million
tokens of some text (null in classification)."""
_COUNTED_IN = b"iit_toolkit.counted_in"


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

    def read(self, number: int) -> str:
        """Return what an answer reads as, without the spaces around it."""
        return printable(self.texts.get(number, f"number {number}")).strip() or "(space)"


def write_examples(frame: pd.DataFrame, path: Path) -> None:
    """Write the columns of `EXAMPLES` as parquet, whole or not at all."""
    _write(pa.Table.from_pandas(frame[EXAMPLES.names], schema=EXAMPLES), EXAMPLES.metadata, path)


def read_examples(path: Path) -> pd.DataFrame | None:
    """Read what `write_examples` wrote; None if there is no such file, as in an export.

    Raises:
        UserError: If the file is unreadable or of another schema.
    """
    if not is_there(path):
        return None
    table = read_table(path, EXAMPLES, nullable=("family",))
    _require_places(path, table)
    frame = table.replace_schema_metadata(None).to_pandas()
    if frame.duplicated(["base", "source"]).any():
        raise UserError(f"{path}: a pair of base and source stands twice; verify the run again")
    return frame


def write_answers(answers: Answers, path: Path) -> None:
    """Write what is known of the answers as parquet, whole or not at all."""
    columns = {
        "answer": list(answers.texts),
        "text": list(answers.texts.values()),
        "per_million": [answers.per_million.get(number) for number in answers.texts],
    }
    table = pa.Table.from_pydict(columns, schema=ANSWERS)
    _write(table, {**ANSWERS.metadata, _COUNTED_IN: answers.counted_in.encode()}, path)


def read_answers(path: Path) -> Answers | None:
    """Read what `write_answers` wrote; None if there is no such file.

    Raises:
        UserError: If the file is unreadable or of another schema.
    """
    if not is_there(path):
        return None
    table = read_table(path, ANSWERS, nullable=("per_million",))
    numbers, texts, per_million = (table.column(name).to_pylist() for name in ANSWERS.names)
    frequencies = {number: one for number, one in zip(numbers, per_million, strict=True) if one is not None}
    if not all(0 <= one < math.inf for one in frequencies.values()):
        raise UserError(f"{path}: column per_million holds what is no frequency; verify the run again")
    if len(set(numbers)) != len(numbers):
        raise UserError(f"{path}: column answer holds a number twice; verify the run again")
    return Answers(
        texts=dict(zip(numbers, texts, strict=True)),
        per_million=frequencies,
        counted_in=printable(table.schema.metadata.get(_COUNTED_IN, b"").decode(errors="replace"))[:100],
    )


def _require_places(path: Path, table: Any) -> None:
    """Check that every position is one of its text."""
    compute = cast(Any, pc)  # it makes most of its functions as it is imported
    for side, places in (("base", "swapped"), ("source", "taken")):
        lengths = compute.list_value_length(table.column(f"{side}_tokens"))
        column = table.column(places)
        ends = compute.take(lengths, compute.list_parent_indices(column))
        flat = compute.list_flatten(column)
        within = compute.and_(compute.greater_equal(flat, 0), compute.less(flat, ends))
        if not compute.all(within, min_count=0).as_py():
            raise UserError(f"{path}: column {places} holds a position outside {side}_tokens; verify the run again")


def _write(table: Any, metadata: dict[bytes, bytes], path: Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(metadata), buffer, compression="zstd")
    write_atomically(path, buffer.getvalue())

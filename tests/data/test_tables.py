"""Rows are the same in memory and on disk, and what is asked of them needs no list of a row."""

from __future__ import annotations

import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, List, Value
from transformers import PreTrainedTokenizerFast

from iit_toolkit.data import tables, tokenization
from iit_toolkit.data.tables import count_ids, dataset_of, gathered, lists_of, numbers_of
from iit_toolkit.data.tokenization import count_tokens, tokenize_corpus, tokenize_labelled
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.prepare import fingerprint_of_rows
from iit_toolkit.runs.provenance import fingerprint


def corpus() -> Dataset:
    draw = np.random.default_rng(0)
    texts = [" ".join(f"w{word}" for word in draw.integers(100, size=size)) for size in draw.integers(5, 60, size=300)]
    return Dataset.from_dict({"text": texts, "label": [index % 3 for index in range(len(texts))]})


def test_rows_on_disk_are_those_in_memory_and_leave_no_file(
    tiny: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = list(tokenize_corpus(corpus(), tiny, 20)), list(tokenize_labelled(corpus(), tiny, 20))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tables, "HELD", 5000)
    monkeypatch.setattr(tokenization, "_TOKENS_AT_A_TIME", 500)
    monkeypatch.setattr(tokenization, "_LABELLED_AT_A_TIME", 7)
    mapped = tokenize_corpus(corpus(), tiny, 20), tokenize_labelled(corpus(), tiny, 20)
    assert (list(mapped[0]), list(mapped[1])) == held
    assert list(tmp_path.iterdir()) == []
    assert [row["example_id"] for row in held[0]] == list(range(len(held[0])))
    assert len(mapped[0].data["input_ids"].chunks) > 5
    assert list(tokenize_corpus(corpus(), tiny, 20, max_tokens=1000)) == held[0][: len(
        [total for total in np.cumsum([len(row["input_ids"]) for row in held[0]]) if total <= 1000]
    )]  # fmt: skip


def test_no_room_for_rows_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "HELD", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    batch = pa.RecordBatch.from_pydict({"a": [1]})
    with pytest.raises(UserError, match="rows can't be kept in .*; give room there, or set TMPDIR"):
        gathered([batch], batch.schema)


def ids(rows: Dataset) -> list[list[int]]:
    return [row for name in ("input_ids", "source_input_ids") if name in rows.column_names for row in rows[name]]


@pytest.mark.parametrize("change", ["as they are", "shuffled", "sliced", "two bytes", "pairs", "labelled"])
def test_what_is_read_batch_by_batch_is_what_the_rows_hold(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_BATCH", 7)
    draw = np.random.default_rng(1)
    columns: dict[str, Any] = {
        "input_ids": [draw.integers(100, size=size).tolist() for size in draw.integers(0, 9, size=50)],
        "label": list(range(50)),
    }
    if change == "pairs":
        columns["source_input_ids"] = [[index] * 2 for index in range(50)]
    labels = [columns["label"]] if change == "labelled" else []
    rows = Dataset.from_dict(columns if labels else {name: one for name, one in columns.items() if name != "label"})
    if change == "shuffled":
        rows = rows.select(draw.permutation(50))
    if change == "sliced":
        rows = dataset_of(rows.data.table.slice(3, 20))
    if change == "two bytes":
        rows = rows.cast_column("input_ids", List(Value("uint16")))
    found = [
        list(part)
        for values, lengths in lists_of(rows, "input_ids")
        for part in np.split(values, np.cumsum(lengths)[:-1])
    ]
    assert found == list(rows["input_ids"])
    assert count_ids(rows) == sum(map(len, ids(rows)))
    assert fingerprint_of_rows(rows) == fingerprint([*ids(rows), *labels])
    counted = [sum(row.count(token) for row in rows["input_ids"]) for token in range(100)]
    assert count_tokens(rows, 100).tolist() == counted
    if labels:
        assert numbers_of(rows, "label").tolist() == columns["label"]


def test_a_fingerprint_makes_no_list_of_all_rows() -> None:
    count = 200_000
    values = pa.array(np.zeros(8 * count, np.int32))
    rows = dataset_of(
        pa.table({"input_ids": pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32) * 8, values)})
    )
    tracemalloc.start()
    try:
        fingerprint_of_rows(rows)
        count_ids(rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6  # as lists, the rows take 24 MB and more

"""Splits are read from the files that are there, and what is wrong with one is told of that one."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from iit_toolkit.data.loading import load_split
from iit_toolkit.data.text import load_texts
from iit_toolkit.errors import UserError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(name: str, *rows: dict[str, Any]) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return name


def table(name: str, **columns: list[Any]) -> str:
    pq.write_table(pa.table(columns), name)
    return name


def texts(path: str, files: Any, split: str = "train") -> list[str]:
    return list(load_texts(path, split, data_files=files)["text"])


def write(kind: str, word: str) -> Any:
    """Write one text; what `load_split` takes for it."""
    if kind == "text":
        Path("a.txt").write_text(f"{word}\n")
        return "text", {"train": "a.txt"}
    if kind == "glob":
        Path("a.txt").write_text(f"{word}\n")
        return "text", "*.txt"
    if kind == "csv":
        Path("a.csv").write_text(f"text\n{word}\n")
        return "csv", ["a.csv"]
    if kind == "json":
        return "json", {"train": [lines("a.jsonl", {"text": word})]}
    if kind == "gz":
        Path("a.txt.gz").write_bytes(gzip.compress(word.encode(), mtime=0))
        return "text", {"train": "a.txt.gz"}
    if kind == "parquet":
        return "parquet", {"train": table("a.parquet", text=[word])}
    Path("folder").mkdir(exist_ok=True)
    lines("folder/train.jsonl", {"text": word})
    return "folder", None


@pytest.mark.parametrize("kind", ["text", "glob", "csv", "json", "gz", "parquet", "folder"])
@pytest.mark.usefixtures("place")
def test_a_file_that_replaces_another_of_the_same_name_size_and_time_is_read(kind: str) -> None:
    found = []
    for word in ("lamp", "door"):
        path, files = write(kind, word)
        for file in Path().rglob("a.*" if kind != "folder" else "*.jsonl"):
            os.utime(file, (1_700_000_000, 1_700_000_000))
        found += texts(path, files)
    assert found == ["lamp", "door"]


def test_nothing_is_left_of_what_was_read(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    rows = load_split("json", "train", data_files=lines("a.jsonl", *[{"text": f"{number}"} for number in range(99)]))
    assert os.listdir(place) == ["a.jsonl"]
    assert list(rows["text"]) == [f"{number}" for number in range(99)]


@pytest.mark.usefixtures("place")
def test_only_the_split_and_the_columns_that_are_asked_for_are_read() -> None:
    files = {
        "train": lines("a.jsonl", {"text": "one"}, {"text": "two"}),
        "validation": lines("b.jsonl", {"text": "three", "source": "hand"}),
        "test": lines("c.jsonl", {"body": 7}),
        "broken": "no such file",
    }
    assert texts("json", files) == ["one", "two"]
    assert texts("json", files, "validation") == ["three"]
    assert texts("json", files, "train[1:]+validation[:1]") == ["two", "three"]
    together = {"train": ["a.jsonl", "b.jsonl"]}
    assert texts("json", together, "train[50%:]") == ["three"]
    assert texts("json", together) == texts("json", {"train": "[ab].jsonl"}) == ["one", "two", "three"]
    pair = [table("a.parquet", text=["one"], x=[1]), table("b.parquet", y=["u"], text=["two"])]
    assert texts("parquet", pair) == ["one", "two"]
    Path("a.csv").write_text("text,n\n" + "a,1\n" * 10_001 + "b,x\n")  # another type after pandas' first chunk
    assert texts("csv", "a.csv")[-1] == "b"
    late = [{"text": "x" * 1000}] * 11_000 + [{"text": "y", "more": 1}]  # another column after datasets' first chunk
    assert texts("json", lines("late.jsonl", *late))[-1] == "y"
    Path("folder").mkdir()
    shutil.copy("a.jsonl", "folder/train.jsonl")
    shutil.copy("b.jsonl", "folder/validation.jsonl")
    assert (texts("folder", None), texts("folder", None, "validation")) == (["one", "two"], ["three"])


@pytest.mark.usefixtures("place")
def test_slices_of_files_read_one_by_one_are_those_of_datasets() -> None:
    rows = [{"text": f"{number}"} for number in range(10)]
    whole, parts = (
        lines("all.jsonl", *rows),
        [lines("a.jsonl", *rows[:7]), lines("b.jsonl", *({**row, "n": 1} for row in rows[7:]))],
    )
    for split in ("train[2:5]", "train[-3:]", "train[:33%]", "train[1:3]+train[90%:]"):
        assert texts("json", parts, split) == texts("json", whole, split)


def test_a_byte_order_mark_is_no_text(place: Path) -> None:
    mark = b"\xef\xbb\xbf"
    (place / "a.txt").write_bytes(mark + "één\ntwo\n".encode())
    (place / "a.csv").write_bytes(mark + b"text\none\n")
    (place / "a.jsonl").write_bytes(mark + b'{"text": "one"}\n')
    assert texts("text", ["a.txt", "a.txt"]) == ["één", "two", "één", "two"]
    assert texts("csv", "a.csv") == texts("json", "a.jsonl") == ["one"]


def test_a_name_with_the_characters_of_a_pattern_is_a_name(place: Path) -> None:
    (place / "a[1].txt").write_text("one\n")
    (place / "a1.txt").write_text("two\n")
    assert texts("text", "a[1].txt") == ["one"]


def damaged() -> dict[str, tuple[str, Any, str]]:
    """By name: the builder, its files, written here, and what is to be told."""
    fine = lines("fine.jsonl", {"text": "one"})
    packed = gzip.compress(os.urandom(2000).hex().encode())
    contents = {
        "cut.jsonl": b'{"text": "a"}\n{"text":\n', "twice.csv": b"text,text\na,b\n", "quote.csv": b'text\n"one\ntwo\n',
        "cut.txt.gz": packed[:-300], "latin.txt": "café\n".encode("latin-1"), "wide.txt": "one\n".encode("utf-16"),
        "unmarked.txt": "one\n".encode("utf-16-le"), "wide.csv": "text\none\n".encode("utf-32"), "empty.txt": b"",
        "no.parquet": b"PAR1 and no more", "none.csv": b"",
    }  # fmt: skip
    for name, content in contents.items():
        Path(name).write_bytes(content)
    Path("folder").mkdir()
    pair = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], ["text", "text"])
    pq.write_table(pair, "twice.parquet")
    Dataset.from_dict({"text": ["a"]}).save_to_disk("saved")
    other = lines("other.jsonl", {"body": "x"})
    tables = [table("a.parquet", text=["a"]), table("b.parquet", body=["b"])]
    return {
        "a damaged line": ("json", [fine, "cut.jsonl"], "cut.jsonl: JSON parse error"),
        "a file without the column": ("json", [fine, other], 'other.jsonl has no column "text"; it has: body'),
        "a parquet file without it": ("parquet", tables, 'b.parquet has no column "text"'),
        "mixed types": ("json", lines("mixed.jsonl", {"text": "a"}, {"text": 1}), 'column "text" holds'),
        "files of other types": ("json", [fine, lines("list.jsonl", {"text": ["a"]})], "list.jsonl"),
        "no value": ("json", lines("null.jsonl", {"text": None}), 'column "text" holds null, not text'),
        "nested": ("json", lines("nested.jsonl", {"text": {"a": "b"}}), 'column "text" holds dict, not text'),
        "a column twice": ("csv", "twice.csv", 'the column "text" twice'),
        "a parquet column twice": ("parquet", "twice.parquet", "twice.parquet: it has a column twice"),
        "an open quote": ("csv", "quote.csv", "quote.csv: Error tokenizing data. C error: EOF inside string"),
        "a cut archive": ("text", "cut.txt.gz", "cut.txt.gz: Compressed file ended"),
        "latin-1": ("text", [fine, "latin.txt"], "latin.txt: 'utf-8' codec can't decode"),
        "utf-16": ("text", "wide.txt", "wide.txt is UTF-16 or binary; save it as UTF-8"),
        "utf-16 without its mark": ("text", [fine, "unmarked.txt"], "unmarked.txt is UTF-16 or binary"),
        "utf-32": ("csv", "wide.csv", "wide.csv is UTF-16 or binary"),
        "nothing": ("text", "empty.txt", "its files hold nothing"),
        "a csv file of nothing": ("csv", "none.csv", "none.csv: No columns"),
        "no parquet": ("parquet", ["a.parquet", "no.parquet"], "no.parquet: Parquet"),
        "a folder as a file": ("text", "folder", "Unable to find"),
        "an empty folder": ("folder", None, "doesn't contain any data files"),
        "a saved data set": ("saved", None, "saved using `save_to_disk`"),
        "another split": ("json", {"validation": fine}, 'no split "train" among its files; valid: validation'),
    }  # fmt: skip


@pytest.mark.usefixtures("place")
def test_what_is_wrong_is_told_of_the_file_that_is() -> None:
    for name, (path, files, expected) in damaged().items():
        with pytest.raises(UserError) as caught:
            load_texts(path, "train", data_files=files)
        told = str(caught.value)
        assert expected in told and told.startswith(f"data {path}, split train"), name
        assert "\n" not in told and len(told) < 400, name


def test_a_name_is_of_the_hub(place: Path) -> None:
    (place / "a.txt").write_text("one\n")
    with pytest.raises(UserError, match="a name is of data sets of the Hub, not of text files; leave it out"):
        load_texts("text", "train", name="raw", data_files="a.txt")


@pytest.mark.usefixtures("place")
def test_a_slice_that_is_none_and_names_by_the_hundred_are_told_in_one_short_line() -> None:
    Path("wide.csv").write_text(
        ",".join(f"{'w' * 50}{number}" for number in range(99)) + "\n" + ",".join("a" * 99) + "\n"
    )
    with pytest.raises(UserError, match="and 87 more$") as caught:
        texts("csv", "wide.csv")
    assert len(str(caught.value)) <= 400
    with pytest.raises(UserError, match="Unrecognized instruction format: train"):
        texts("json", lines("a.jsonl", {"text": "one"}), "train[:x]")


@pytest.mark.usefixtures("place")
def test_a_pattern_is_named_if_no_file_matches_it() -> None:
    Path("a.txt").write_text("one\n")
    assert texts("text", "*.txt") == ["one"]
    with pytest.raises(UserError, match="no file matches b.*txt; correct data_files"):
        texts("text", ["*.txt", "b*.txt"])


@pytest.mark.usefixtures("place")
def test_what_a_cell_says_is_its_text_unless_it_says_nothing() -> None:
    """pandas takes a dozen words for a missing value."""
    words = ["null", "NA", "nan", "None", "n/a"]
    Path("a.csv").write_text("".join(f"{row}\n" for row in ["text,label", *(f"{word},1" for word in words), ",2"]))
    read = load_texts("csv", "train", data_files="a.csv", label_column="label")
    assert list(read["text"]) == [*words, None] and list(read["label"]) == [1] * 5 + [2]


@pytest.mark.usefixtures("place")
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_text_is_text_however_parquet_holds_it(kind: Any) -> None:
    pq.write_table(pa.table({"text": pa.array(["one", "two"], kind)}), "a.parquet")
    assert texts("parquet", "a.parquet") == ["one", "two"]

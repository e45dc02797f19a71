"""Files that are read whole are regular, small, and text; JSON is bounded before it is parsed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iit_toolkit.errors import UserError
from iit_toolkit.files.text_files import MAX_BYTES, MAX_DEPTH, parse_json, read_text


def refused(path: Path | str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        read_text(Path(path))
    assert len(str(caught.value)) < 300


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path / "link", "/dev/zero", "/dev/null"):
        refused(path, "no regular file")
    refused(tmp_path, "can't be read")
    refused(tmp_path / "nobody", "can't be read")
    (tmp_path / "file").touch()
    refused(tmp_path / "file" / "x", "can't be read")
    (tmp_path / "round").symlink_to(tmp_path / "round")
    refused(tmp_path / "round", "can't be read")
    refused("a" * 5000, "too long")
    refused("a\0b", "control character")


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(2**30)
    refused(tmp_path / "sparse", "larger than 1 MiB")
    (tmp_path / "full").write_bytes(b"x" * MAX_BYTES)
    assert len(read_text(tmp_path / "full")) == MAX_BYTES


def test_text_is_utf_8_with_a_mark_or_without(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes("\ufeffä".encode())
    assert read_text(path) == "ä"
    for content in ("ä".encode("utf-16"), "ä".encode("latin-1"), b"\xff\xfe\x00", b"\xed\xa0\x80"):
        path.write_bytes(content)
        refused(path, "not text in UTF-8")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 3000, f"nested more than {MAX_DEPTH} levels"),
        ('{"a":' * 3000 + "1" + "}" * 3000, "nested more than"),
        ('["[[[[", ' + "[" * 41 + "]" * 42, "nested more than"),
        ("9" * 5000, "an integer of more than 20 digits"),
        ('{"a": -' + "1" * 21 + "}", "an integer of more than 20 digits"),
        ("NaN", "no valid JSON"),
        ("[-Infinity]", "no valid JSON"),
        ("", "no valid JSON"),
        ('{"a": 1}}', "no valid JSON"),
        ('"' + '\\"' * 200_000, "no valid JSON"),
        ("[" + "1," * MAX_BYTES, "larger than 1 MiB"),
    ],
    ids=lambda one: ascii(one)[:20],
)
def test_json_is_bounded(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        parse_json(text, "here")
    assert str(caught.value).startswith("here: ")


def test_json_within_bounds_is_read() -> None:
    assert parse_json('{"a": ["[[[\\"[", 1, 2.5, null]}', "here") == {"a": ['[[["[', 1, 2.5, None]}
    assert parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH, "here")

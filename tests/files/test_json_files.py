"""JSON read back: whatever is damaged is one line that names file and key."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iit_toolkit.errors import UserError
from iit_toolkit.files import json_files
from iit_toolkit.files.json_files import read_object
from iit_toolkit.files.plain_files import read_plain, refuse_links_out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "can't be read as JSON"),
        (b"[" * 100_000, "can't be read as JSON"),
        (b'{"a":' * 90 + b"1" + b"}" * 90, "nested too deep"),
        (b'{"a": {"b": 1, "b": 2}}', 'the key "b" occurs twice'),
        (b'{"a": [1, NaN]}', "a.1: not a finite number"),
        (b'{"a": 1e999}', "a: not a finite number"),
        (b'{"a": {"b": 9223372036854775808}}', "a.b: not a number of 64 bits"),
        (b'{"a": ' + b"9" * 5000 + b"}", "can't be read as JSON"),
        (b'{"a": "\xff"}', "can't be read as JSON"),
        (b"\xef\xbb\xbf{}", "can't be read as JSON"),
        (rb'{"a": {"b\u0007": 1, "b\u0008": 1}}', "a.b\ufffd: a key with control characters"),
        (b"[]", "it holds a list"),
        (b'"x"', "it holds a text"),
        (b"null", "it holds a single value"),
    ],
)
def test_what_the_toolkit_never_writes_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_object(tmp_path / "x.json")
    message = str(caught.value)
    assert said in message and "x.json" in message and "\n" not in message
    assert len(message) < 300 + len(str(tmp_path))


def test_control_characters_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(r'{"a": "\u0000\u009b\u202e\ud800 ü\n\u061c\u200b\u200e\u200f\ufeff"}')
    assert read_object(tmp_path / "x.json") == {"a": "\ufffd" * 4 + " ü\n" + "\ufffd" * 5}


def test_files_of_too_many_entries_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_files, "MOST_ENTRIES", 5)
    (tmp_path / "x.json").write_text('{"a": [1, 2, {"b": 3}]}')
    with pytest.raises(UserError, match="x.json: 6 entries, more than the 5"):
        read_object(tmp_path / "x.json")


def test_what_is_no_plain_file_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(b"12345")
    for name, said in {"pipe": "no plain", "zero": "no plain", "folder": "no plain", "large": "5 bytes, more"}.items():
        with pytest.raises(UserError, match=said):
            read_plain(tmp_path / name, largest=4)
    with pytest.raises(FileNotFoundError):
        read_plain(tmp_path / "gone")


def test_links_may_lead_to_a_folder_and_inside_it_but_not_out(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "run")
    (tmp_path / "run" / "inside").symlink_to("config.yaml")
    (tmp_path / "run" / "outside").symlink_to("../secret")
    linked = tmp_path / "linked"
    refuse_links_out(linked, linked / "inside", linked / "gone")
    with pytest.raises(UserError, match="outside: a symbolic link leads out of"):
        refuse_links_out(linked, linked / "outside")

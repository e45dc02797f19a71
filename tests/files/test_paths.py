"""What can be a name or a path, and what leads elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iit_toolkit.errors import UserError
from iit_toolkit.files.paths import refuse_missing_folder, require_name, require_path

WRONG_NAMES = [
    *(
        "",
        ".",
        "..",
        "...",
        ".hidden",
        "-x",
        "a.",
        "a/b",
        "../a",
        "/a",
        "a\\b",
        "c:",
        "a b",
        " a",
        "a ",
        "a\n",
        "a\x00b",
        "a\x1b",
    ),
    *("con", "NUL", "nul.txt", "Com1", "lpt9.yaml", "a" * 201, "ä" * 101, "a\u202eb", "a*", "a?", "~", "a|b", "\ud800"),
]


@pytest.mark.parametrize("name", WRONG_NAMES, ids=ascii)
def test_what_names_no_folder_of_its_own(name: str) -> None:
    with pytest.raises(UserError) as caught:
        require_name(name, "suite")
    assert str(caught.value).startswith("suite ")


@pytest.mark.parametrize("name", ["a", "quickstart", "my-run_2.1", "2015", "_x", "größe", "字", "console", "a" * 200])
def test_what_does_make_a_folder(name: str, tmp_path: Path) -> None:
    made = tmp_path / require_name(name)
    made.mkdir()
    assert list(tmp_path.iterdir()) == [made]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("a\0b", "control character"),
        ("a\nb", "control character"),
        ("\x1b[2J", "control character"),
        ("a" * 256, "too long"),
        ("ä" * 128, "too long"),
        ("a/" * 2049, "too long"),
        ("out-\udcc3\udca4", "no text in this locale; set PYTHONUTF8=1"),
    ],
    ids=ascii,
)
def test_what_no_system_looks_for(path: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        require_path(path, "--output")
    assert str(caught.value).startswith("--output ") and len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "path", ["a" * 255, "a b/ä", "../x", "org/model", "hf://" + "a" * 300, "https://x?" + "q" * 999, ""]
)
def test_other_paths_stay_as_they_are(path: str) -> None:
    assert require_path(path) == path
    os.path.exists(path)


def test_a_missing_folder_is_told_once() -> None:
    with pytest.raises(UserError) as caught:
        refuse_missing_folder("./nope", "teacher")
    assert str(caught.value).count("no such folder") == 1
    for path in ("./" + "a" * 5000, "./a\0b"):
        with pytest.raises(UserError, match="too long|control character"):
            refuse_missing_folder(path, "teacher")

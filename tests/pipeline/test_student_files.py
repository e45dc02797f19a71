"""What of a student's folder is copied, and what is refused."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.student_files import copy_student, require_named_files

SHARD = "model-00001-of-00001.safetensors"
INDEX = {"weight_map": {"a": SHARD}}


@pytest.fixture
def student(tmp_path: Path) -> Path:
    folder = tmp_path / "run" / "causal"
    (folder / "deeper").mkdir(parents=True)
    for name, text in {"config.json": "{}", SHARD: "weights", "deeper/notes.txt": "notes"}.items():
        (folder / name).write_text(text)
    (folder / "model.safetensors.index.json").write_text(json.dumps(INDEX))
    (tmp_path / "secret.txt").write_text("secret")
    return folder


def test_plain_files_and_links_inside_are_copied(student: Path, tmp_path: Path) -> None:
    (student / "inside.txt").symlink_to(student / "deeper" / "notes.txt")
    (tmp_path / "link").symlink_to(student)  # the folder itself may be reached by a link
    copy_student(tmp_path / "link", tmp_path / "out")
    copied = {path.relative_to(tmp_path / "out"): path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert {str(name) for name in copied} == {
        "config.json",
        SHARD,
        "model.safetensors.index.json",
        "deeper/notes.txt",
        "inside.txt",
    }
    assert not any(path.is_symlink() for path in copied.values())
    assert (tmp_path / "out" / "inside.txt").read_text() == "notes"


def bound_socket(path: Path) -> None:
    there = os.getcwd()
    os.chdir(path.parent)  # the path of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(there)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "notes.txt").symlink_to("../../secret.txt"), "a symbolic link leads out of"),
        (lambda folder: (folder / "deeper" / "notes2.txt").symlink_to("../../../secret.txt"), "leads out of"),
        (lambda folder: (folder / "more").symlink_to(".."), "no plain file"),
        (lambda folder: (folder / "gone").symlink_to("nowhere"), "no plain file"),
        (lambda folder: (folder / "zero").symlink_to("/dev/zero"), "no plain file"),
        (lambda folder: os.mkfifo(folder / "pipe"), "no plain file"),
        (lambda folder: bound_socket(folder / "socket"), "no plain file"),
    ],
)
def test_what_is_no_file_of_the_folder_is_refused(
    student: Path, tmp_path: Path, damage: Callable[[Path], Any], said: str
) -> None:
    damage(student)
    with pytest.raises(UserError, match=said) as caught:
        copy_student(student, tmp_path / "out")
    assert "\n" not in str(caught.value) and not any(path.is_file() for path in (tmp_path / "out").rglob("*"))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("model.safetensors.index.json", {"weight_map": {"a": "../../secret.txt"}}, "weight_map names '../../secret"),
        ("model.safetensors.index.json", {"weight_map": {"a": "/etc/hostname"}}, "weight_map names '/etc/hostname'"),
        ("model.safetensors.index.json", {"weight_map": {"a": "gone.safetensors"}}, "no file beside it"),
        ("model.safetensors.index.json", {"weight_map": [SHARD]}, "weight_map names"),
        ("model.safetensors.index.json", {"weight_map": {"a": {"b": 1}}}, "weight_map names"),
        ("model.safetensors.index.json", {}, "weight_map names None"),
        ("config.json", {"auto_map": {"AutoModel": "../evil--modeling.Model"}}, "auto_map names '../evil"),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["/etc/evil.Tok", None]}}, "auto_map names '/etc"),
    ],
)
def test_files_that_name_places_outside_are_refused(student: Path, name: str, content: Any, said: str) -> None:
    (student / name).write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        require_named_files(student.glob("*.json"))
    assert said in str(caught.value) and "\n" not in str(caught.value) and name in str(caught.value)


def test_code_of_a_repository_may_be_named(student: Path) -> None:
    (student / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "org/repo--modeling.Model"}}))
    require_named_files(student.glob("*.json"))

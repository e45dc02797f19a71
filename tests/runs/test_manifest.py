from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from iit_toolkit.runs.manifest import MANIFEST, NotWholeError, read_whole, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("model.safetensors", "optimizer.pt", "deep/part.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode() * 9)
    write_manifest(tmp_path, {"step": 3})
    return tmp_path


def test_a_whole_folder_gives_its_manifest(folder: Path) -> None:
    (folder / "notes.txt").write_text("a note that no library reads")
    (folder / ".nfs01.pt").write_text("hidden")
    manifest = read_whole(folder, ["optimizer.pt"])
    assert manifest["step"] == 3 and set(manifest["files"]) == {"model.safetensors", "optimizer.pt", "deep/part.bin"}


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[5] ^= 64
    path.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a lost file": (lambda folder: (folder / "optimizer.pt").unlink(), "optimizer.pt is missing"),
    "a lost folder": (lambda folder: shutil.rmtree(folder / "deep"), "deep/part.bin is missing"),
    "half of a file": (lambda folder: (folder / "optimizer.pt").write_bytes(b"opt"), "optimizer.pt is damaged"),
    "an empty file": (lambda folder: (folder / "optimizer.pt").write_bytes(b""), "optimizer.pt is damaged"),
    "one bit": (lambda folder: flip(folder / "model.safetensors"), "model.safetensors is damaged"),
    "an added file": (lambda folder: (folder / "scaler.pt").write_bytes(b"x"), "scaler.pt was added"),
    "no manifest": (lambda folder: (folder / MANIFEST).unlink(), f"no {MANIFEST}"),
    "half of the manifest": (lambda folder: (folder / MANIFEST).write_text('{"schema": "iit'), "cannot be read"),
    "another document": (lambda folder: (folder / MANIFEST).write_text("[1]"), "cannot be read"),
    "another schema": (lambda folder: (folder / MANIFEST).write_text("{}"), "another kind"),
    "a pipe": (lambda folder: [(folder / MANIFEST).unlink(), os.mkfifo(folder / MANIFEST)], "cannot be read"),
    "a deep document": (lambda folder: (folder / MANIFEST).write_text("[" * 100_000), "cannot be read"),
    "a list of files that is none": (lambda folder: change(folder, 7), "list of its files"),
    "a file without a size": (lambda folder: change(folder, {"optimizer.pt": {}}), "optimizer.pt cannot be checked"),
}


def change(folder: Path, files: object) -> None:
    document = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps({**document, "files": files}))


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_whole_is_named(folder: Path, damage: str) -> None:
    make, told = DAMAGES[damage]
    make(folder)
    with pytest.raises(NotWholeError, match=told):
        read_whole(folder)


def test_a_file_that_was_never_there_is_named(folder: Path) -> None:
    with pytest.raises(NotWholeError, match=r"no scheduler\.pt"):
        read_whole(folder, ["scheduler.pt"])

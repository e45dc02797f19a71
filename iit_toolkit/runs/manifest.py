"""Manifests: what a folder held when it was written whole, so that damage and loss are found before it is used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from iit_toolkit.errors import UserError
from iit_toolkit.files.json_files import read_object
from iit_toolkit.runs.folder import write_json

MANIFEST = "manifest.json"
MANIFEST_SCHEMA = "iit_toolkit/manifest/1"
_READ_BY_LIBRARIES = frozenset({".bin", ".json", ".pt", ".pth", ".safetensors"})


class NotWholeError(Exception):
    """A folder is not as it was written; the message says in a few words what is wrong with it."""


def digests(folder: Path) -> dict[str, dict[str, Any]]:
    """Describe every file below a folder, except manifests and hidden files, once it is on disk.

    Returns:
        `size` in bytes and `sha256` by the file's path relative to the folder.
    """
    described: dict[str, dict[str, Any]] = {}
    for name, path in sorted(_files(folder)):
        with path.open("rb") as file:
            os.fsync(file.fileno())
        described[name] = {"size": path.stat().st_size, "sha256": _sha256(path)}
    return described


def write_manifest(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the manifest of a folder, which makes it whole.

    Args:
        folder: The folder; everything else in it is written.
        facts: What the manifest says besides the files.

    Raises:
        UserError: If it can't be written.
    """
    write_json(folder / MANIFEST, {"schema": MANIFEST_SCHEMA, **facts, "files": digests(folder)})


def read_whole(folder: Path, required: Iterable[str] = ()) -> dict[str, Any]:
    """Read the manifest of a folder after comparing every file with it.

    Args:
        folder: The folder.
        required: Files that it must hold.

    Returns:
        What the manifest says.

    Raises:
        NotWholeError: If there is no manifest, a file is missing, changed or not named by it.
    """
    try:
        manifest = read_object(folder / MANIFEST)
    except FileNotFoundError:
        raise NotWholeError(f"it has no {MANIFEST}") from None
    except UserError:
        raise NotWholeError(f"its {MANIFEST} cannot be read") from None
    if manifest.get("schema") != MANIFEST_SCHEMA:
        raise NotWholeError(f"its {MANIFEST} is of another kind")
    files = manifest.get("files")
    compare_files(folder, files)
    for name in required:
        if name not in cast(Mapping[str, Any], files):
            raise NotWholeError(f"it has no {name}")
    return manifest


def compare_files(folder: Path, files: Any, but: Sequence[str] = ()) -> None:
    """Compare the files of a folder with what `digests` said of them.

    Further files are accepted if no library would read them.

    Args:
        folder: The folder.
        files: What `digests` returned.
        but: Names of files that may be there as well.

    Raises:
        NotWholeError: If a file is missing, changed or not described.
    """
    if not isinstance(files, Mapping):
        raise NotWholeError("the list of its files is damaged")
    described = cast(Mapping[str, Any], files)
    found = dict(_files(folder))
    for name, expected in described.items():
        if name not in found:
            raise NotWholeError(f"{name} is missing")
        try:
            if found[name].stat().st_size != expected["size"] or _sha256(found[name]) != expected["sha256"]:
                raise NotWholeError(f"{name} is damaged")
        except (OSError, TypeError, KeyError):
            raise NotWholeError(f"{name} cannot be checked") from None
    for name in sorted(found.keys() - described.keys() - {*but}):
        if Path(name).suffix in _READ_BY_LIBRARIES:
            raise NotWholeError(f"{name} was added to it")


def _files(folder: Path) -> list[tuple[str, Path]]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    named = [(path.relative_to(folder), path) for path in paths]
    return [
        (name.as_posix(), path)
        for name, path in named
        if name.as_posix() != MANIFEST and not any(part.startswith(".") for part in name.parts)
    ]


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

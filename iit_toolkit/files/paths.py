"""What a config, a command line or a stored file names: one place decides what can be the name of a file or folder."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from iit_toolkit.errors import UserError, shown

MAX_NAME_BYTES = 200
"""Bytes of one name: file systems take 255, and names of temporary files beside it add up to 40."""
MAX_PATH_BYTES = 4096
"""Bytes of a path, as Linux takes them."""
NAME = r"^\w([\w.-]*[\w-])?$"
"""What `require_name` accepts, apart from length and names of devices; for schemas."""
_MAX_PART_BYTES = 255  # of one name in a path that others made
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)  # of Windows, in every folder


def require_name(name: str, what: str = "") -> str:
    """Return a name if a file or folder can have it on every system.

    Args:
        name: What a config calls something that gets a folder or file.
        what: What messages call it, if they do not say it already.

    Raises:
        UserError: If it is empty, `.`, `..` or hidden, leads elsewhere, is too long, or is one that no file can have.
    """
    called = f"{what} {shown(name)}".lstrip()
    if not re.fullmatch(NAME, name) or name.endswith("\n"):
        raise UserError(
            f'{called} can\'t name a folder: give letters, digits, "-", "_" and ".", with no "." or "-" first and no '
            '"." last'
        )
    if _DEVICES.fullmatch(name):
        raise UserError(f"{called} is the name of a device on Windows; choose another")
    if len(name.encode()) > MAX_NAME_BYTES:
        raise UserError(f"{called} has more than {MAX_NAME_BYTES} bytes; choose a shorter one")
    return name


def require_path(path: str | Path, what: str = "path") -> str:
    """Return a path, or the name of something on the Hub or of a preset, if a system can look for it.

    Args:
        path: As it was given.
        what: What messages call it.

    Raises:
        UserError: If it holds what no path does, such as NUL, is not text in UTF-8, or is too long.
    """
    text = str(path)
    if any(ord(one) < 32 or ord(one) == 127 for one in text):
        raise UserError(f"{what} {shown(text)} holds a control character; give a path without it")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:  # bytes of a command line that the locale can't read
        raise UserError(
            f"{what} {shown(text)} is no text in this locale; set PYTHONUTF8=1, or give a path in ASCII"
        ) from None
    parts = [] if "://" in text else re.split(r"[\\/]" if os.name == "nt" else "/", text)
    if size > MAX_PATH_BYTES or any(len(part.encode()) > _MAX_PART_BYTES for part in parts):
        raise UserError(
            f"{what} {shown(text)} is too long for a path ({size:,} bytes): systems take {MAX_PATH_BYTES:,}, and "
            f"{_MAX_PART_BYTES} between two slashes"
        )
    return text


def refuse_missing_folder(model: str | Path, what: str) -> None:
    """Refuse a model that can only be a folder, if there is none: a Hub id has at most one slash.

    Raises:
        UserError: If there is no such folder, or the path is not a valid one.
    """
    path = require_path(model, what)
    if not os.path.exists(path) and (path.startswith((".", "/", "~")) or path.count("/") > 1):
        raise UserError(f"{what} {path}: no such folder; give a folder written by save_pretrained, or a Hub id")


def _checked(given: Any) -> Any:
    """Check a path, a list of paths, or paths by split; let anything else, such as an alignment, pass."""
    if isinstance(given, str):
        require_path(given)
    return given


def _all_checked(given: Any) -> Any:
    for one in given.values() if isinstance(given, dict) else [given]:
        for path in one if isinstance(one, list) else [one]:
            _checked(path)
    return given


Name = Annotated[str, AfterValidator(require_name), Field(json_schema_extra={"pattern": NAME})]
"""Type of a config's key that names a file or folder."""
IS_PATH = AfterValidator(_checked)
"""Marks a config's key whose text is looked for on this machine, or on the Hub."""
ARE_PATHS = AfterValidator(_all_checked)
"""The same for a list of paths, or for paths by split."""

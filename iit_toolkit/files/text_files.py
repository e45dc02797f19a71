"""Reads files of text that users give, and JSON, within bounds: damaged or hostile ones end in one line."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path
from typing import Any, NoReturn

from iit_toolkit.errors import UserError, one_line
from iit_toolkit.files.paths import require_path

MAX_BYTES = 2**20
"""Bytes of a file. An alignment of 5,000 variables fits, and a run config has a few thousand."""
MAX_DEPTH = 40
"""Levels of nesting. A suite has ten; Python stops at a few hundred, inside the libraries that check and write."""
MAX_NODES = 100_000
"""Values and keys, with aliases written out. A file of the allowed size seldom holds more without aliases."""
MAX_DIGITS = 20
"""Digits of an integer: those of 64 bits. Nothing here counts further, and Python refuses to write 4,301 digits."""
_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[\]{}]', re.DOTALL)


def read_text(path: Path) -> str:
    """Read a regular file of text.

    Raises:
        UserError: If it can't be read, is not a regular file, is too large, or is not text in UTF-8.
    """
    require_path(path, "file")
    try:
        with open(path, "rb", opener=_opened) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UserError(f"{path}: no regular file; give a file of text")
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or one_line(error)}); give a readable file") from None
    if len(content) > MAX_BYTES:
        raise UserError(f"{path}: larger than {MAX_BYTES >> 20} MiB; give a smaller file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not text in UTF-8 ({one_line(error)})") from None


def require_size(text: str, where: str) -> None:
    """Refuse text that is larger than a file may be.

    Raises:
        UserError: If it is.
    """
    if len(text) > MAX_BYTES:
        raise UserError(f"{where}: larger than {MAX_BYTES >> 20} MiB; give less")


def parse_json(text: str, where: str) -> Any:
    """Read JSON.

    Args:
        text: What is read.
        where: What messages call it.

    Raises:
        UserError: If it is not JSON, or beyond a bound.
    """
    require_size(text, where)
    depth = 0
    for token in _JSON_TOKEN.finditer(text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0], 0)
        if depth > MAX_DEPTH:
            raise UserError(f"{where}: nested more than {MAX_DEPTH} levels deep; write it flatter")

    def integer(digits: str) -> int:
        if len(digits.lstrip("-")) > MAX_DIGITS:
            raise UserError(f"{where}: an integer of more than {MAX_DIGITS} digits")
        return int(digits)

    def constant(name: str) -> NoReturn:
        raise UserError(f"{where}: no valid JSON ({name} is no number)")

    try:
        return json.loads(text, parse_int=integer, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: no valid JSON ({one_line(error)})") from None


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe without a writer would wait for one

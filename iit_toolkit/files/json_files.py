"""Reads JSON that the toolkit wrote earlier and that may have been damaged or changed since.

JSON allows more than the toolkit ever writes. Keys that occur twice, numbers that are not finite, integers of more than
64 bits, deep nesting and control characters in keys are refused here. Control characters in texts are replaced. So
nobody else has to think of them.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from iit_toolkit.errors import UserError, one_line
from iit_toolkit.files.plain_files import read_plain
from iit_toolkit.files.printable import printable

DEEPEST = 64
MOST_ENTRIES = 2_000_000
_Key = str | int
_T = TypeVar("_T")
_ANOTHER = "another version wrote this file, or it was changed"


def read_object(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        FileNotFoundError: If there is no file.
        UserError: If it can't be read, is not JSON, or holds what the toolkit never writes.
    """
    try:
        document: object = json.loads(read_plain(path).decode(), object_pairs_hook=_once)
    except RecursionError:
        raise UserError(f"{path} can't be read as JSON: nested too deep") from None
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} can't be read as JSON: {one_line(error)[:150]}") from None
    if not isinstance(document, dict):
        raise UserError(f"{path} can't be read as JSON with keys and values: it holds {_kind(document)}")
    nodes = _count(document)
    if nodes > MOST_ENTRIES:
        raise UserError(f"{path}: {nodes:,} entries, more than the {MOST_ENTRIES:,} that such a file may have")
    return cast(dict[str, Any], _sound(document, (), path))


def refuse_other_schema(path: Path, document: dict[str, Any], schema: str, remedy: str = "") -> None:
    """Refuse a document that another version, or something else, wrote.

    Args:
        path: Where it was read.
        document: What `read_object` returned.
        schema: The schema that is read.
        remedy: What to do, if that can be said.

    Raises:
        UserError: Naming both schemas.
    """
    found = document.get("schema")
    if found != schema:
        raise UserError(
            f'{path} has the schema {found!r:.60}; this version reads "{schema}"' + (remedy and f"; {remedy}")
        )


def validated(path: Path, document: dict[str, Any], layout: TypeAdapter[_T], remedy: str) -> _T:
    """Return a document as the dataclass or model that describes it.

    Args:
        path: Where it was read.
        document: What `read_object` returned.
        layout: That of the class; checked without converting texts to numbers or the like.
        remedy: What to do if it is something else.

    Raises:
        UserError: Naming the first entry that is missing or of another kind.
    """
    try:
        return layout.validate_json(json.dumps(document), strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        what = "" if not found["loc"] else f"{where(found['loc'])}: "
        reason = f"{found['msg'][:1].lower()}{found['msg'][1:]}"[:120]
        raise UserError(f"{path}: {what}{reason}; {_ANOTHER}: {remedy}") from None


def where(keys: tuple[_Key, ...]) -> str:
    """Return an entry's place, as `arms.causal.steps`, in at most 100 characters."""
    written = printable(".".join(map(str, keys)))
    return written if len(written) <= 100 else f"{written[:60]}...{written[-37:]}"


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f'the key "{where((twice,))}" occurs twice')
    return document


def _sound(value: object, keys: tuple[_Key, ...], path: Path) -> object:
    """Return the value with texts that can be printed anywhere; refuse what JSON can hold and results cannot."""
    reason = ""
    if len(keys) > DEEPEST:
        reason = "nested too deep"
    elif isinstance(value, str):
        return printable(value)
    elif isinstance(value, float):
        reason = "" if math.isfinite(value) else "not a finite number"
    elif isinstance(value, int):
        reason = "" if -(2**63) <= value < 2**63 else "not a number of 64 bits"
    elif isinstance(value, list):
        return [_sound(one, (*keys, place), path) for place, one in enumerate(cast(list[Any], value))]
    elif isinstance(value, dict):
        named = cast(dict[str, Any], value)
        for key in named:
            if printable(key) != key:
                raise UserError(f"{path}: {where((*keys, key))}: a key with control characters; {_ANOTHER}")
        return {key: _sound(one, (*keys, key), path) for key, one in named.items()}
    if reason:
        raise UserError(f"{path}: {where(keys)}: {reason}; {_ANOTHER}")
    return value


def _count(document: object) -> int:
    """How many values a document holds, itself included."""
    waiting, found = [document], 0
    while waiting:
        value = waiting.pop()
        found += 1
        if isinstance(value, dict):
            waiting += cast(dict[str, object], value).values()
        elif isinstance(value, list):
            waiting += cast(list[object], value)
    return found


def _kind(value: object) -> str:
    if isinstance(value, list):
        return "a list"
    return "a text" if isinstance(value, str) else "a single value"

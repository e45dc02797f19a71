"""Damages files as disks, editors and attackers do; a seed always gives the same damage."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ODD: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    2**63,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "..",
    "../../x",
    "a\x00\x1b[31m\u202e",
    "\ud800",
    "=cmd()",
    "<script>alert(1)</script>",
    "](javascript:alert(1))",
    "$\\frac{",
    "|" * 50,
    "x" * 10_000,
    [],
    [[]],
    {},
    {"": {}},
    [None],
    0.2,
)
RAW = (
    b"",
    b"\xff\xfe{",
    b"[" * 100_000,
    b'{"a":' * 50_000,
    b'{"schema": "iit_toolkit/results/1", "schema": 1}',
    b"\xef\xbb\xbf{}",
    b"9" * 5000,
    b"null",
    b'"text"',
    b"{\x00}",
    b"NaN",
)


def damage_json(path: Path, seed: int) -> None:
    """Changes one to three entries of a document; of some, the bytes instead."""
    _damage(path, seed, lambda document: document)


def damage_histories(path: Path, seed: int) -> None:
    """Changes one to three entries of what results say of trainings."""
    _damage(path, seed, lambda document: {arm: one["history"] for arm, one in document["arms"].items()}, whole=False)


def _damage(path: Path, seed: int, chosen: Callable[[Any], Any], *, whole: bool = True) -> None:
    draw = random.Random(seed)
    content = path.read_bytes()
    kind = draw.random() if whole else 1.0
    if kind < 0.05:
        path.write_bytes(draw.choice(RAW))
    elif kind < 0.2:
        path.write_bytes(damaged_bytes(content, draw))
    else:
        document = json.loads(content)
        for _ in range(draw.randint(1, 3)):
            _change(chosen(document), draw)
        path.write_text(json.dumps(document))


def damaged_bytes(content: bytes, draw: random.Random) -> bytes:
    """Cuts, overwrites or repeats a part."""
    start = draw.randrange(len(content) + 1)
    end = min(len(content), start + draw.choice((1, 4, 64, 4096)))
    kind = draw.randrange(4)
    if kind == 0:
        return content[:start]
    if kind == 1:
        return content[:start] + draw.randbytes(end - start) + content[end:]
    if kind == 2:
        return content[:start] + content[end:]
    return content[:end] + content[start:]


def damage_parquet(path: Path, seed: int) -> None:
    """Changes a column of a table, its values, type or name; or the schema's name; or the bytes."""
    draw = random.Random(seed)
    content = path.read_bytes()
    if draw.random() < 0.4:
        path.write_bytes(damaged_bytes(content, draw))
        return
    table = pq.read_table(path)
    place = draw.randrange(table.num_columns)
    field = table.schema.field(place)
    values = table.column(place).to_pylist()
    kind = draw.randrange(7)
    if kind == 0:
        table = table.replace_schema_metadata({b"iit_toolkit.schema": draw.choice((b"\xff", b"", b"iit_toolkit/x/1"))})
    elif kind == 1:
        table = table.remove_column(place)
    elif kind == 2:
        table = table.slice(0, draw.choice((0, 1)))
    elif kind == 3:
        other = draw.choice((pa.null(), pa.string(), pa.float32(), pa.dictionary(pa.int8(), pa.string()), pa.binary()))
        table = table.set_column(place, pa.field(field.name, other), pa.nulls(len(table), other))
    elif kind == 4:
        table = table.set_column(place, draw.choice(("", "x", table.schema.names[0])), table.column(place))
    else:
        for row in range(0, len(values), draw.choice((1, 7, len(values)))):
            values[row] = draw.choice(_odd_values(field.type))
        table = table.set_column(place, field, pa.array(values, field.type))
    pq.write_table(table, path)


def _odd_values(kind: Any) -> tuple[Any, ...]:
    if pa.types.is_string(kind):
        return None, "", "\x00\x1b", "x" * 5000, "=1", "<b>", "$x^{"
    if pa.types.is_list(kind):
        return (None, [], [None]) + ((["\x1b"],) if pa.types.is_string(kind.value_type) else ([-1], [10**9]))
    if pa.types.is_boolean(kind):
        return None, True, False
    if pa.types.is_integer(kind):
        return None, -1, -(2**63), 2**63 - 1, 0
    return None, float("nan"), float("inf"), -1.0, 1e308


def _beyond(number: int | float) -> tuple[int | float, ...]:
    """Numbers of the same type that may be out of range."""
    if isinstance(number, int):
        return 0, -number - 1, 1000 * number + 1, 2**62
    return 0.0, -number - 0.5, 1e6 * number + 2.0, 1e-17, 1e308, -1e308


def _change(document: Any, draw: random.Random) -> None:
    """Replaces, removes, adds or wraps one entry somewhere."""
    at = document
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return
        key = draw.choice(keys)
        if isinstance(at[key], dict | list) and at[key] and draw.random() < 0.75:
            at = at[key]
            continue
        kind = draw.randrange(9)
        if kind == 6:
            at[key] = None
        elif kind == 7 and isinstance(at, dict):
            at["a further entry"] = copy.deepcopy(draw.choice(ODD))
        elif kind == 8 and isinstance(at[key], int | float):
            at[key] = draw.choice(_beyond(at[key]))
        elif kind == 0:
            del at[key]
        elif kind == 1:
            at[key] = [at[key]]
        elif kind == 2 and isinstance(at, dict):
            at[str(draw.choice(ODD))[:200]] = at.pop(key)
        else:
            at[key] = copy.deepcopy(draw.choice(ODD))
        return

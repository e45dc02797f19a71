"""Rows of a set that are also in another, or are of a text that is."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from iit_toolkit.data.tables import lists_of, numbers_of

DIGEST = "text_digest"
"""The column that identifies the text of a row, or of a pair's base; with `source_` in front, of its source."""


def text_digest(text: str, *, exact: bool = False) -> int:
    """Identify a text, in 64 bits; white space does not count unless it is to be `exact`."""
    content = text if exact else " ".join(text.split())
    digest = hashlib.blake2b(content.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


def count_shared(rows: Dataset, others: Dataset) -> int:
    """Count the rows of token ids that are also among others, each as often as it occurs in `rows`.

    A pair is the same if base and source are. If only the others are pairs, texts are looked for among bases and
    sources. If only the rows are pairs, their bases are looked for.
    """
    return int(_same_ids(rows, others).sum())


def count_seen(rows: Dataset, others: Dataset) -> int:
    """Count the rows that are among others or cut from a text that others are cut from, at whatever length.

    Texts are compared if both sets say which text a row is of; pairs as for `count_shared`.
    """
    seen = _same_ids(rows, others)
    if DIGEST in rows.column_names and DIGEST in others.column_names:
        seen |= _same_texts(rows, others)
    return int(seen.sum())


def _same_ids(rows: Dataset, others: Dataset) -> NDArray[np.bool_]:
    if _are_pairs(rows) and _are_pairs(others):
        both = ("input_ids", "source_input_ids")
        return _among(
            _pair_keys(_keys(rows, name) for name in both), [_pair_keys(_keys(others, name) for name in both)]
        )
    columns = [name for name in ("input_ids", "source_input_ids") if name in others.column_names]
    return _among(_keys(rows, "input_ids"), (_keys(others, name) for name in columns))


def _same_texts(rows: Dataset, others: Dataset) -> NDArray[np.bool_]:
    names = (DIGEST, f"source_{DIGEST}")
    if _are_pairs(rows) and _are_pairs(others):
        pairs, others_pairs = (_pair_keys(numbers_of(one, name) for name in names) for one in (rows, others))
        return _among(pairs, [others_pairs])
    return _among(numbers_of(rows, DIGEST), (numbers_of(others, name) for name in names if name in others.column_names))


def _are_pairs(rows: Dataset) -> bool:
    return "source_input_ids" in rows.column_names


def _among(keys: NDArray[np.int64], others: Any) -> NDArray[np.bool_]:
    found = np.zeros(len(keys), bool)
    for some in others:
        found |= np.isin(keys, some)
    return found


def _keys(rows: Dataset, column: str) -> NDArray[np.int64]:
    """Return what identifies the ids of each row, in 64 bits."""
    keys = np.empty(len(rows), np.int64)
    for index, key in enumerate(_digests(rows, column)):
        keys[index] = key
    return keys


def _digests(rows: Dataset, column: str) -> Iterator[int]:
    for values, lengths in lists_of(rows, column):
        data = np.ascontiguousarray(values, np.int32).data.cast("B")
        start = 0
        for length in lengths.tolist():
            end = start + 4 * length
            yield int.from_bytes(hashlib.blake2b(data[start:end], digest_size=8).digest(), "little", signed=True)
            start = end


def _pair_keys(sides: Iterator[NDArray[np.int64]]) -> NDArray[np.int64]:
    """One key of two: the second is multiplied by an odd number, so that order matters."""
    base, source = sides
    with np.errstate(over="ignore"):
        return base ^ (source * np.int64(0x9E3779B97F4A7C1 | 1))

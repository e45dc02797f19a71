"""Turns pairs of base and source texts into rows of token ids with the positions that are swapped."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from iit_toolkit.data.encoding import encoded
from iit_toolkit.data.shared import DIGEST, text_digest
from iit_toolkit.data.special_tokens import SpecialTokens
from iit_toolkit.data.tables import dataset_of, gathered
from iit_toolkit.data.tokenization import checked_labels, require_max_length
from iit_toolkit.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class PairedRows:
    """What `tokenize_pairs` returns.

    Attributes:
        rows: The pairs that can be used.
        skipped: How many cannot, by reason.
    """

    rows: Dataset
    skipped: dict[str, int]


@dataclass(frozen=True)
class _Text:
    """A tokenized text: ids with special tokens, and the characters that each stands for (none: an empty range)."""

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]

    def touching(self, start: int, end: int) -> set[int]:
        """Return the positions of the tokens that stand for some of the characters from `start` to before `end`."""
        return {place for place, (low, high) in enumerate(self.offsets) if low < end and high > start and low < high}

    def whole_words(self, places: set[int]) -> set[int]:
        """Return the positions, and those of every token of the words that they are part of."""
        words = [match.span() for match in _WORD.finditer(self.text)]
        for tokens in [self.touching(*word) for word in words]:
            if tokens & places:
                places = places | tokens
        return places


class _Unusable(Exception):
    """A pair that cannot be swapped; the reason, and what was seen in this one."""

    def __init__(self, reason: str, seen: str = "") -> None:
        super().__init__(reason + seen)
        self.reason = reason


def tokenize_pairs(
    texts: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    causal: bool = False,
    position_limit: int | None = None,
    where: str = "data",
) -> PairedRows:
    """Tokenize pairs and find the positions whose activations are swapped between them.

    Without spans, these are the tokens of the words in which the two texts differ, and both texts must have the same
    number of tokens. With spans, they are the tokens that touch the span of each text, as many in both.

    Rows are not packed, and wrapped as `tokenizer(text)` wraps a text. A pair that cannot be used is skipped. Such a
    pair does not align, is longer than `max_length`, lacks a text, or swaps an unknown or no token. Or it leaves no
    token whose answer could differ: outside the swapped ones or, for a causal model, after the first of them.

    Args:
        texts: Columns `text` (the bases) and `source`; optionally `span` and `source_span`, each `[start, end)` in
            characters; optionally `label`, the base's.
        tokenizer: The teacher's tokenizer, a fast one.
        max_length: Tokens of the longest row, special tokens included.
        causal: The pairs are for a model that reads from left to right.
        position_limit: Longest input of the model, if the tokenizer doesn't know it.
        where: What messages call the pairs.

    Returns:
        Rows of `input_ids` and `source_input_ids`, `positions` and `source_positions` (as many; the k-th of the source
        goes to the k-th of the base), `example_id` and `source_example_id` (all different), `text_id` and
        `source_text_id` (alike if the texts are), and `label` if the texts have it.

    Raises:
        UserError: If the tokenizer is not a fast one, or `max_length` is too small or too large. If a label is missing
            or negative, or no pair can be used.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"tokenizer {tokenizer.name_or_path} does not say which characters a token stands for, so pairs can't be "
            "aligned; give a teacher with a fast tokenizer (tokenizer.json)"
        )
    require_max_length(max_length, tokenizer, position_limit)
    labels = checked_labels(texts, where) if "label" in texts.column_names else None
    found = _Found(tokenizer, max_length, causal, labels)
    table = gathered(found.batches(texts), _schema(labels is not None))
    if not len(table):
        raise UserError(f"{where}: none of {len(texts)} pairs of base and source can be used; {found.first}; {_REMEDY}")
    base, source = _numbered(found.texts).reshape(-1, 2).T
    added = {"text_id": base, "source_text_id": source, "source_example_id": np.arange(len(table), 2 * len(table))}
    for name, column in added.items():
        table = table.append_column(name, pa.array(column, pa.int64()))
    return PairedRows(dataset_of(table), dict(found.skipped))


@dataclass
class _Found:
    """The pairs that can be used, found batch by batch, with what is to be said about all; see `tokenize_pairs`."""

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    causal: bool
    labels: NDArray[np.int64] | None
    skipped: Counter[str] = field(default_factory=Counter[str])
    first: str = ""
    texts: array[int] = field(default_factory=lambda: array("q"))

    def batches(self, texts: Dataset) -> Iterator[Any]:
        """Record batches of rows, without the numbers of texts and sources."""
        schema, number = _schema(self.labels is not None), 0
        special = SpecialTokens.of(self.tokenizer)
        unknown = {*special.every, *special.wrapping.prefix, *special.wrapping.suffix}
        for start in range(0, len(texts), _PAIRS_AT_A_TIME):
            kept: list[dict[str, Any]] = []
            for row in self._rows(texts[start : start + _PAIRS_AT_A_TIME], start, unknown):
                kept.append(row | {"example_id": number})
                number += 1
            yield pa.RecordBatch.from_pylist(kept, schema)

    def _rows(self, some: dict[str, list[Any]], start: int, unknown: set[int]) -> Iterator[dict[str, Any]]:
        bases, sources = (_tokenized(some[name], self.tokenizer, start) for name in ("text", "source"))
        nothing = [None] * len(bases)
        spans = list(zip(some["span"], some["source_span"], strict=True)) if "span" in some else nothing
        for index, (base, source, span) in enumerate(zip(bases, sources, spans, strict=True), start):
            try:
                positions, source_positions = _aligned(base, source, span)
                _require_usable(base, positions, self.max_length, unknown)
                _require_usable(source, source_positions, self.max_length, unknown)
                if self.labels is None:
                    _require_answers(base, positions, unknown, self.causal)
            except _Unusable as error:
                self.skipped[error.reason] += 1
                self.first = self.first or f"row {index}: {error}"
                continue
            self.texts.extend(text_digest(side.text, exact=True) for side in (base, source))
            row = {"input_ids": base.ids, "source_input_ids": source.ids}
            row |= {"positions": positions, "source_positions": source_positions}
            row |= {DIGEST: text_digest(base.text), f"source_{DIGEST}": text_digest(source.text)}
            yield row if self.labels is None else row | {"label": int(self.labels[index])}


def _schema(labelled: bool) -> Any:
    lists = ("input_ids", "source_input_ids", "positions", "source_positions")
    numbers = ("example_id", DIGEST, f"source_{DIGEST}", *(["label"] if labelled else []))
    return pa.schema([*((name, pa.list_(pa.int32())) for name in lists), *((name, pa.int64()) for name in numbers)])


def _numbered(digests: array[int]) -> NDArray[np.int64]:
    """Give texts numbers in the order in which they first occur."""
    _, first, inverse = np.unique(np.frombuffer(digests, np.int64), return_index=True, return_inverse=True)
    return first.argsort().argsort()[inverse]


_PAIRS_AT_A_TIME = 1000
_REMEDY = "give pairs that differ in words of as many tokens, or name the swapped characters in span columns"


def _tokenized(texts: Sequence[str | None], tokenizer: PreTrainedTokenizerBase, first: int) -> list[_Text]:
    given = [text or "" for text in texts]
    numbers = range(first, first + len(given))
    made = encoded(tokenizer, given, numbers, return_offsets_mapping=True, verbose=False)  # what wraps has empty ranges
    return [
        _Text(text, ids, list(map(tuple, offsets)))
        for text, ids, offsets in zip(given, made["input_ids"], made["offset_mapping"], strict=True)
    ]


def _aligned(base: _Text, source: _Text, span: Any) -> tuple[list[int], list[int]]:
    """Return the swapped positions of base and source."""
    if not base.text.strip() or not source.text.strip():
        raise _Unusable("a text is missing")
    if span is not None:
        return _in_spans(base, source, *span)
    if len(base.ids) != len(source.ids):
        raise _Unusable("base and source have different numbers of tokens", f" ({len(base.ids)} and {len(source.ids)})")
    differing = {place for place, pair in enumerate(zip(base.ids, source.ids, strict=True)) if pair[0] != pair[1]}
    if not differing:
        raise _Unusable("base and source have the same tokens")
    swapped: set[int] = set()
    while len(differing) > len(swapped):  # a word of one side can begin another of the other's
        swapped, differing = differing, source.whole_words(base.whole_words(differing))
    return sorted(swapped), sorted(swapped)


def _in_spans(base: _Text, source: _Text, span: Any, source_span: Any) -> tuple[list[int], list[int]]:
    found: list[list[int]] = []
    for side, one in ((base, span), (source, source_span)):
        if one is None or None in one or len(one) != 2 or not 0 <= one[0] < one[1] <= len(side.text):
            raise _Unusable(
                "a span is not [start, end) within its text", f" ({one} of a text of {len(side.text)} characters)"
            )
        found.append(sorted(side.touching(*one)))
    if len(found[0]) != len(found[1]):
        raise _Unusable(
            "the spans of base and source have different numbers of tokens", f" ({len(found[0])} and {len(found[1])})"
        )
    return found[0], found[1]


def _require_usable(side: _Text, positions: list[int], max_length: int, unknown: set[int]) -> None:
    if not positions:
        raise _Unusable("the span holds no token")
    if len(side.ids) > max_length:
        raise _Unusable("longer than data.max_length", f" ({len(side.ids)} tokens)")
    if any(side.ids[place] in unknown for place in positions):
        raise _Unusable("a swapped token is unknown to the tokenizer")


def _require_answers(base: _Text, positions: list[int], unknown: set[int], causal: bool) -> None:
    ordinary = {place for place, token in enumerate(base.ids) if token not in unknown}
    if causal and positions[0] == len(base.ids) - 1:
        raise _Unusable("no token follows the swapped ones")
    if not causal and ordinary <= set(positions):
        raise _Unusable("no token is outside the swapped ones")

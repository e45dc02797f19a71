"""What builders of pairs from tables share: where words differ, and what could not be used."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from iit_toolkit.data.minimal_pairs.rows import PairRow, Span
from iit_toolkit.data.pair_places import Unusable

_WORD = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")


@dataclass(frozen=True)
class BuiltPairs:
    """Pairs that were built from a table.

    Attributes:
        rows: The pairs.
        skipped: How many rows of the table gave none, by reason.
    """

    rows: list[PairRow]
    skipped: dict[str, int]


def build(table: Iterable[Any], pair: Callable[[Any], PairRow]) -> BuiltPairs:
    """Make a pair of each row, and count those that give none."""
    rows: list[PairRow] = []
    skipped = Counter[str]()
    for row in table:
        try:
            rows.append(pair(row))
        except Unusable as error:
            skipped[error.reason] += 1
    return BuiltPairs(rows, dict(skipped))


def differing_words(base: str, source: str, answer: Span, source_answer: Span) -> tuple[Span, Span]:
    """Find the words between the first and the last in which two sentences differ, the answers left out.

    Raises:
        Unusable: If no word differs, one side has none there, or words differ on both sides of the answer.
    """
    words, source_words = _words(base, answer), _words(source, source_answer)
    texts, source_texts = ([text for text, _ in some] for some in (words, source_words))
    if texts == source_texts:
        raise Unusable("base and source differ in no word but the answer")
    start = 0
    while start < min(len(texts), len(source_texts)) and texts[start] == source_texts[start]:
        start += 1
    end, most = 0, min(len(texts), len(source_texts)) - start
    while end < most and texts[-1 - end] == source_texts[-1 - end]:
        end += 1
    found = words[start : len(words) - end], source_words[start : len(source_words) - end]
    if not all(found):
        raise Unusable("base or source has no word where the other has one")
    if any(text is None for side in found for text, _ in side):
        raise Unusable("words differ on both sides of the answer")
    one, other = ((side[0][1][0], side[-1][1][1]) for side in found)
    return one, other


def words_at(text: str, span: Span) -> tuple[str, ...]:
    """Return the words of a span."""
    return tuple(_WORD.findall(text[slice(*span)]))


def _words(text: str, answer: Span) -> list[tuple[str | None, Span]]:
    """Split a sentence into words; the answer's text is None, so that answers are equal."""
    found: list[tuple[str | None, Span]] = []
    for start, end in ((0, answer[0]), (answer[1], len(text))):
        found += [(match.group(), match.span()) for match in _WORD.finditer(text, start, end)]
        if not start:
            found.append((None, answer))
    return found

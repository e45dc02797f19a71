"""Pairs from texts of your own: one word of each is replaced by its counterpart, such as "funny" by "boring"."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from datasets import Dataset

from iit_toolkit.data.pair_places import Unusable
from iit_toolkit.errors import UserError, listed

_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True)
class SubstitutedPairs:
    """Texts with one word replaced.

    Attributes:
        rows: Columns `text`, `source`, `span` and `source_span` ([start, end) in characters), `words` (the word and its
            counterpart), `family`, and `label` if the texts have labels.
        skipped: How many texts gave no pair, by reason.
    """

    rows: Dataset
    skipped: dict[str, int]


def substitute(
    table: Iterable[Mapping[str, Any]],
    counterparts: Mapping[str, str],
    *,
    text: str = "text",
    label: str | None = None,
    without: Collection[str] = (),
    relabelled: Mapping[int, int] | None = None,
    family: str = "substitution",
) -> SubstitutedPairs:
    """Make a pair of every text that has exactly one of the words: the text, and the text with the word replaced.

    Words are compared in lower case, and a capital stays. Every text gives one pair, with the text as its base.

    Args:
        table: The rows, such as a `datasets.Dataset`.
        counterparts: What each word is replaced by, in lower case.
        text: Column of the texts.
        label: Column of their classes.
        without: Words that neither text of a pair may have, such as those held out.
        relabelled: The class of a text whose word is replaced, by the class that it had. With it, every pair comes in
            both directions. The replaced text's class is a guess, so give it to rows that are trained without `task`,
            and not to rows on which accuracy is measured.
        family: What the pairs call their family.

    Raises:
        UserError: If a column is missing, or no text has one of the words.
    """
    rows: list[dict[str, Any]] = []
    skipped = Counter[str]()
    for row in table:
        missing = [column for column in (text, label) if column is not None and column not in row]
        if missing:
            raise UserError(f"the table has no column {listed(missing)}; it has: {listed(row)}")
        try:
            pair = _pair(row[text], counterparts, frozenset(without))
        except Unusable as error:
            skipped[error.reason] += 1
            continue
        pair |= {"family": family} if label is None else {"family": family, "label": row[label]}
        rows.append(pair)
        if relabelled is not None:
            rows.append(_reversed(pair, None if label is None else relabelled[row[label]]))
    if not rows:
        raise UserError(f"no text has one of the words to replace ({listed(sorted(counterparts))})")
    return SubstitutedPairs(Dataset.from_list(rows), dict(skipped))


def _pair(text: Any, counterparts: Mapping[str, str], without: frozenset[str]) -> dict[str, Any]:
    if not isinstance(text, str) or not text.strip():
        raise Unusable("a text is missing")
    words = [(match.group(), match.span()) for match in _WORD.finditer(text)]
    if any(word.lower() in without for word, _ in words):
        raise Unusable("the text has a word that is held out")
    found = [(word, span) for word, span in words if word.lower() in counterparts]
    if len(found) != 1:
        raise Unusable("the text has none of the words" if not found else "the text has several of the words")
    [(word, (start, end))] = found
    other = counterparts[word.lower()]
    other = other.capitalize() if word[0].isupper() else other
    return {
        "text": text,
        "source": text[:start] + other + text[end:],
        "span": [start, end],
        "source_span": [start, start + len(other)],
        "words": [word.lower(), other.lower()],
    }


def _reversed(pair: Mapping[str, Any], label: int | None) -> dict[str, Any]:
    turned = {
        **pair,
        "text": pair["source"],
        "source": pair["text"],
        "span": pair["source_span"],
        "source_span": pair["span"],
        "words": pair["words"][::-1],
    }
    return turned if label is None else turned | {"label": label}

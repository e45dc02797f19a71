"""Minimal pairs of a table with two columns of sentences and one of answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from iit_toolkit.data.minimal_pairs.built import BuiltPairs, build, differing_words, words_at
from iit_toolkit.data.minimal_pairs.rows import PairRow, Span
from iit_toolkit.data.pair_places import Unusable, spans_of_word
from iit_toolkit.errors import UserError, listed


def from_columns(
    table: Iterable[Mapping[str, Any]],
    base: str,
    source: str,
    answer: str,
    source_answer: str | None = None,
    *,
    candidates: str | Sequence[str] | None = None,
    family: str = "table",
    split: str = "all",
) -> BuiltPairs:
    """Make pairs of a table: base and source differ in the swapped words, and at most also in the answer.

    Args:
        table: The rows, such as a `datasets.Dataset`.
        base: Column of the bases.
        source: Column of the sources.
        answer: Column of the word that is asked for in the base. It must stand there once.
        source_answer: Column of the source's; without it, the same word stands in the source.
        candidates: Column of the candidate answers (a list of words), or the candidates of all rows; without them,
            they are the row's own answers.
        family: What the pairs call their family.
        split: What the pairs call their split.

    Returns:
        The pairs, and how many rows gave none, by reason.

    Raises:
        UserError: If a column is missing.
    """
    needed = [base, source, answer, *([source_answer] if source_answer else [])]
    needed += [candidates] if isinstance(candidates, str) else []

    def pair(row: Mapping[str, Any]) -> PairRow:
        missing = [column for column in needed if column not in row]
        if missing:
            raise UserError(f"the table of pairs has no column {listed(missing)}; it has: {listed(row)}")
        words = row[answer], row[source_answer or answer]
        given = row[candidates] if isinstance(candidates, str) else candidates
        return _pair(row[base], row[source], words, given, family, split)

    return build(table, pair)


def _pair(
    text: Any, source: Any, words: tuple[Any, Any], candidates: Sequence[str] | None, family: str, split: str
) -> PairRow:
    if not all(isinstance(value, str) and value.strip() for value in (text, source, *words)):
        raise Unusable("a text or an answer is missing")
    answer, source_answer = _place(text, words[0], "base"), _place(source, words[1], "source")
    among = tuple(candidates) if candidates is not None else tuple(dict.fromkeys(word.strip() for word in words))
    if words[0].strip() not in among:
        raise Unusable("the answer is none of the candidates")
    span, source_span = differing_words(text, source, answer, source_answer)
    return PairRow(
        text=text,
        source=source,
        span=span,
        source_span=source_span,
        answer=answer,
        source_answer=source_answer,
        candidates=among,
        family=family,
        template="",
        words=tuple(dict.fromkeys((*words_at(text, span), *words_at(source, source_span)))),
        split=split,
    )


def _place(text: str, word: str, side: str) -> Span:
    found = spans_of_word(text, word)
    if not found:
        raise Unusable(f"the {side} does not contain the answer")
    if len(found) > 1:
        raise Unusable(f"the {side} contains the answer more than once")
    return found[0]

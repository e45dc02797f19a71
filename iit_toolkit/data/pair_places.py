"""Where two texts of a pair differ, and where the answer that the pair asks for stands: positions of tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class TokenizedText:
    """A tokenized text: ids with special tokens, and the characters that each stands for (none: an empty range).

    Two sentences count as one text (`iit_toolkit.data.sentences.of_row`); `types` then say which a token is of, if the
    tokenizer does. A text that is given as words is these with spaces between; `words` then say which a token is of.
    """

    text: str
    ids: list[int]
    offsets: list[tuple[int, int]]
    types: list[int] | None = None
    words: list[int | None] | None = None

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


class Unusable(Exception):
    """A pair that cannot be swapped; the reason, and what was seen in this one."""

    def __init__(self, reason: str, seen: str = "") -> None:
        """Keep the reason apart: pairs are counted by it."""
        super().__init__(reason + seen)
        self.reason = reason


def swapped_places(
    base: TokenizedText, source: TokenizedText, spans: tuple[Any, Any] | None, asked: set[int]
) -> tuple[list[int], list[int]]:
    """Return the swapped positions of base and source, as many.

    Args:
        base: The base.
        source: The source.
        spans: `[start, end)` in characters of both; `None`: the words in which the texts differ.
        asked: Positions of answers, in whose words the texts may differ, too.

    Raises:
        Unusable: If the two do not align, or a span is none.
    """
    if not base.text.strip() or not source.text.strip():
        raise Unusable("a text is missing")
    if spans is not None:
        return _in_spans(base, source, *spans)
    if len(base.ids) != len(source.ids):
        raise Unusable("base and source have different numbers of tokens", f" ({len(base.ids)} and {len(source.ids)})")
    differing = {place for place, pair in enumerate(zip(base.ids, source.ids, strict=True)) if pair[0] != pair[1]}
    if not differing:
        raise Unusable("base and source have the same tokens")
    differing -= asked
    if not differing:
        raise Unusable("base and source differ in nothing but the answer")
    swapped: set[int] = set()
    while len(differing) > len(swapped):  # a word of one side can begin another of the other's
        swapped, differing = differing, source.whole_words(base.whole_words(differing))
    return sorted(swapped), sorted(swapped)


def spans_of_word(text: str, word: str) -> list[tuple[int, int]]:
    """Return where a word stands in a text as a whole word, `[start, end)` in characters."""
    return [match.span() for match in re.finditer(rf"(?<!\w){re.escape(word.strip())}(?!\w)", text)]


def answer_span(text: str, answer: Any) -> Any:
    """Return where an answer stands, `[start, end)` in characters.

    Args:
        text: The text it stands in.
        answer: The same, or a word that occurs once.

    Raises:
        Unusable: If the word does not occur once.
    """
    if not isinstance(answer, str):
        return answer
    found = spans_of_word(text, answer)
    if not answer.strip() or not found:
        raise Unusable("the answer is not in its text", f" ({answer!r:.40})")
    if len(found) > 1:
        raise Unusable("the answer stands more than once in its text; give [start, end]", f" ({answer!r:.40})")
    return found[0]


def answer_places(side: TokenizedText, answer: Any) -> list[int]:
    """Return the positions of the tokens of an answer.

    Args:
        side: The text it stands in.
        answer: `[start, end)` in characters, or a word that occurs once.

    Raises:
        Unusable: If there is no such span, or the word does not occur once.
    """
    answer = answer_span(side.text, answer)
    _require_span(side, answer, "an answer")
    places = sorted(side.touching(*answer))
    if not places:
        raise Unusable("the answer holds no token")
    return places


def _in_spans(base: TokenizedText, source: TokenizedText, span: Any, source_span: Any) -> tuple[list[int], list[int]]:
    found: list[list[int]] = []
    for side, one in ((base, span), (source, source_span)):
        _require_span(side, one, "a span")
        found.append(sorted(side.touching(*one)))
    if len(found[0]) != len(found[1]):
        raise Unusable(
            "the spans of base and source have different numbers of tokens", f" ({len(found[0])} and {len(found[1])})"
        )
    return found[0], found[1]


def _require_span(side: TokenizedText, one: Sequence[Any] | None, what: str) -> None:
    if one is None or None in one or len(one) != 2 or not 0 <= one[0] < one[1] <= len(side.text):
        raise Unusable(
            f"{what} is not [start, end) within its text", f" ({one} of a text of {len(side.text)} characters)"
        )

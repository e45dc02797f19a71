"""Minimal pairs of BLiMP, asked by the two-prefix method."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from iit_toolkit.data.minimal_pairs.built import BuiltPairs, build, differing_words, words_at
from iit_toolkit.data.minimal_pairs.rows import PairRow, Span
from iit_toolkit.data.pair_places import Unusable


def blimp(rows: Iterable[Mapping[str, Any]], *, split: str = "all") -> BuiltPairs:
    """Make pairs of BLiMP's items: the good sentence is the base, the bad one the source.

    The words are swapped in which the two prefixes differ. The word after them is asked for; it is the same in both,
    and the only candidate.

    Args:
        rows: Items with the columns of BLiMP's files.
        split: What the pairs call their split.
    """
    return build(rows, partial(_pair, split=split))


def _pair(item: Mapping[str, Any], split: str) -> PairRow:
    prefixes = item.get("two_prefix_prefix_good"), item.get("two_prefix_prefix_bad")
    word = item.get("two_prefix_word")
    if not all(isinstance(value, str) and value.strip() for value in (*prefixes, word)):
        raise Unusable("the item has no two prefixes and a word after them")
    word = str(word).strip()
    if len(word.split()) > 1:
        raise Unusable("the item asks for several words")
    sentences = str(item["sentence_good"]), str(item["sentence_bad"])
    good, bad = (_after(text, str(prefix), word) for text, prefix in zip(sentences, prefixes, strict=True))
    if sentences[0][good[1] :] != sentences[1][bad[1] :]:
        raise Unusable("the sentences differ after the word that is asked for")
    span, source_span = differing_words(*sentences, good, bad)
    swapped = (*words_at(sentences[0], span), *words_at(sentences[1], source_span))
    return PairRow(
        text=sentences[0],
        source=sentences[1],
        span=span,
        source_span=source_span,
        answer=good,
        source_answer=bad,
        candidates=(word,),
        family="blimp",
        template=str(item.get("UID", "")),
        words=tuple(dict.fromkeys((*swapped, word))),
        split=split,
    )


def _after(text: str, prefix: str, word: str) -> Span:
    start = len(prefix.rstrip())
    rest = text[start:]
    start += len(rest) - len(rest.lstrip())
    if not text.startswith(prefix.rstrip()) or not text.startswith(word, start):
        raise Unusable("a sentence does not begin with its prefix and the word")
    if text[start + len(word) : start + len(word) + 1].isalnum():
        raise Unusable("the item asks for a part of a word")
    return start, start + len(word)

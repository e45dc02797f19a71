"""What a tokenizer makes of candidate answers: which are no single token, and which begin alike."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from iit_toolkit.data.candidates import tokens_after
from iit_toolkit.data.minimal_pairs.rows import PairRow

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class AnswerTokens:
    """The candidates of a family, as a tokenizer sees them where the answer stands.

    Attributes:
        single: The candidates that are a single token.
        several: The number of tokens of each that is several. Only the first of them is asked for.
        unknown: The candidates that hold a token unknown to the tokenizer.
        alike: Pairs of candidates of one question that begin with the same token, so that it can't tell them apart.
    """

    single: set[str] = field(default_factory=set[str])
    several: dict[str, int] = field(default_factory=dict[str, int])
    unknown: set[str] = field(default_factory=set[str])
    alike: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])


def answer_tokens(tokenizer: PreTrainedTokenizerBase, rows: Iterable[PairRow]) -> dict[str, AnswerTokens]:
    """Say, of each family, which candidate answers a tokenizer splits, does not know or can't tell apart.

    Args:
        tokenizer: A fast tokenizer.
        rows: The pairs.
    """
    told: dict[str, AnswerTokens] = {}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for row in rows:
        if (row.family, row.candidates) in seen:
            continue
        seen.add((row.family, row.candidates))
        family = told.setdefault(row.family, AnswerTokens())
        first: dict[int, str] = {}
        before = [row.text[: row.answer[0]]] * len(row.candidates)
        for word, ids in zip(row.candidates, tokens_after(tokenizer, before, row.candidates), strict=True):
            if tokenizer.unk_token_id in ids or not ids:
                family.unknown.add(word)
                continue
            if len(ids) == 1:
                family.single.add(word)
            else:
                family.several[word] = len(ids)
            other = first.setdefault(ids[0], word)
            if other != word:
                family.alike.add((other, word))
    return told

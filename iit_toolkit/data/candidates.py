"""Candidate answers of questions, as a tokenizer sees them where the answer stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def tokens_after(tokenizer: PreTrainedTokenizerBase, before: Sequence[str], words: Sequence[str]) -> list[list[int]]:
    """Return the tokens of words, each after its beginning of a sentence.

    Args:
        tokenizer: A fast tokenizer.
        before: What stands before each word.
        words: The words.
    """
    if not words:
        return []
    whole = [one + word for one, word in zip(before, words, strict=True)]
    made = tokenizer(whole, return_offsets_mapping=True, add_special_tokens=False, verbose=False)
    return [
        [token for token, (start, end) in zip(ids, places, strict=True) if end > len(one) and end > start]
        for one, ids, places in zip(before, made["input_ids"], made["offset_mapping"], strict=True)
    ]


def candidate_tokens(
    tokenizer: PreTrainedTokenizerBase, before: Sequence[str], candidates: Sequence[Sequence[str]], *, causal: bool
) -> list[list[int]]:
    """Return one token for every candidate of every question.

    Args:
        tokenizer: A fast tokenizer.
        before: What stands before each answer.
        candidates: The candidates of each question.
        causal: The first token of a candidate stands for it; else only candidates of one token can be asked for.

    Returns:
        The tokens of each question, as many as it has candidates; none where a model can't choose among them: there
        are fewer than two, one is unknown to the tokenizer or, if not `causal`, several tokens, or two begin alike.
    """
    flat = [(one, word) for one, words in zip(before, candidates, strict=True) for word in words]
    made = iter(tokens_after(tokenizer, [one for one, _ in flat], [word for _, word in flat]))
    found: list[list[int]] = []
    for words in candidates:
        every = [next(made) for _ in words]
        usable = all(ids and tokenizer.unk_token_id not in ids and (causal or len(ids) == 1) for ids in every)
        first = [ids[0] for ids in every] if usable else []
        found.append(first if len(set(first)) == len(first) > 1 else [])
    return found

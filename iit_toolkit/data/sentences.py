"""Rows of one text, or of two sentences that a classifier reads together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from iit_toolkit.data.encoding import encoded
from iit_toolkit.data.special_tokens import SpecialTokens
from iit_toolkit.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

TYPES = "token_type_ids"
"""The column that says which sentence a token is of, if the tokenizer gives it."""
_BETWEEN = "\0"


def has_two(texts: Dataset) -> bool:
    """Whether the rows of texts are two sentences."""
    return "text_pair" in texts.column_names


def of_row(first: str, second: str | None) -> str:
    """Return a row's sentences as one text, in which neither can be continued by the other."""
    return first if second is None else f"{first}{_BETWEEN}{second}"


def encoded_sentences(
    tokenizer: PreTrainedTokenizerBase,
    first: Sequence[str],
    second: Sequence[str] | None,
    numbers: Sequence[int],
    special: SpecialTokens,
    **settings: Any,
) -> Any:
    """Tokenize rows as `tokenizer(text=first, text_pair=second)` does, or as `tokenizer(first)` without a second.

    Args:
        tokenizer: The tokenizer.
        first: The texts, or first sentences.
        second: Second sentences.
        numbers: What messages call each row.
        special: The tokenizer's special tokens.
        **settings: As for `tokenizer(texts)`.

    Returns:
        What the tokenizer returns. With two sentences, this holds `token_type_ids` if its models read them.

    Raises:
        UserError: If a row can't be tokenized, or the tokenizer does not put its special tokens around two sentences.
    """
    if second is None:
        return encoded(tokenizer, first, numbers, return_token_type_ids=False, **settings)
    made = encoded(
        tokenizer, list(zip(first, second, strict=True)), numbers, return_special_tokens_mask=True, **settings
    )
    around = special.wrapping
    for ids, masks in zip(made["input_ids"], made["special_tokens_mask"], strict=True):
        outside = tuple(ids[: len(around.prefix)]), tuple(ids[len(ids) - len(around.suffix) :])
        between = {token for token, added in zip(ids, masks, strict=True) if added}
        if outside != (around.prefix, around.suffix) or not between <= {*special.every, *around.prefix, *around.suffix}:
            raise UserError(
                f"tokenizer {tokenizer.name_or_path} has no template for two sentences: it does not put the special "
                "tokens of a text around them; give the tokenizer that the teacher was trained with"
            )
    return made

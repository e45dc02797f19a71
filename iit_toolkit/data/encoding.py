"""Calls tokenizers: what they make of texts and of pieces of their own vocabulary, and which ids they know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from iit_toolkit.errors import UserError, one_line

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def known_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every id that the tokenizer gives a token, in order; there may be gaps."""
    return sorted(set(tokenizer.get_vocab().values()))


def ids_spanned(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return how many rows a table by token id needs: the largest id plus one. `len(tokenizer)` may be less."""
    return max(tokenizer.get_vocab().values(), default=-1) + 1


def pieces(tokenizer: PreTrainedTokenizerBase, most: int) -> list[str]:
    """About so many tokens from all over the vocabulary, as text, without the special ones."""
    special = set(cast(Any, tokenizer).all_special_ids)
    known = known_ids(tokenizer)
    spread = known[:: max(1, len(known) // (most + len(special)))]
    chosen = [token for token in spread if token not in special]
    return [str(cast(Any, tokenizer).decode([token], clean_up_tokenization_spaces=False)) for token in chosen]


def text_ids(tokenizer: PreTrainedTokenizerBase, text: str, *, wrapped: bool = True) -> list[int]:
    """Return the ids of one text, with what the tokenizer puts around it or without."""
    made = cast(Any, tokenizer)(
        text, add_special_tokens=wrapped, return_attention_mask=False, return_token_type_ids=False, verbose=False
    )
    return list(made["input_ids"])


def encoded(tokenizer: PreTrainedTokenizerBase, texts: Sequence[Any], numbers: Sequence[int], **settings: Any) -> Any:
    """Tokenize texts.

    Args:
        tokenizer: The tokenizer.
        texts: The texts, tuples of two texts, or lists of words, as the settings say.
        numbers: What the message calls each text.
        **settings: As for `tokenizer(texts)`.

    Raises:
        UserError: If it cannot, naming the first such text.
    """
    try:
        return cast(Any, tokenizer)(list(texts), **settings)
    except Exception as error:  # tokenizers raises no class of its own
        place, said = _culprit(tokenizer, texts, settings) or (0, one_line(error))
        raise UserError(
            f"text {numbers[place]:,} can't be tokenized ({said[:120]}); give a tokenizer with an unk_token for "
            "what it does not know, or leave that text out"
        ) from None


def _culprit(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[Any], settings: dict[str, Any]
) -> tuple[int, str] | None:
    """Return the index of the first text that can't be tokenized by itself, and why."""
    for place, text in enumerate(texts):
        try:
            cast(Any, tokenizer)([text], **settings)
        except Exception as error:
            return place, one_line(error)
    return None

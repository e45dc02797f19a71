"""Loads tokenizers, with errors that tell what is wrong."""

from __future__ import annotations

from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from iit_toolkit.errors import UserError, one_line


def load_tokenizer(path: str, **settings: Any) -> PreTrainedTokenizerBase:
    """Loads the tokenizer of a model (a folder or a Hub id), with settings that differ from its own.

    Raises:
        UserError: If there is none. For a folder that lacks its files, transformers makes up one that knows only
            special tokens: that is none either.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, trust_remote_code=False, **settings)
    except Exception as error:  # whatever files of any content make transformers raise
        raise UserError(f"no tokenizer ({one_line(error)})") from None
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise UserError("no tokenizer (it knows only special tokens)")
    return tokenizer

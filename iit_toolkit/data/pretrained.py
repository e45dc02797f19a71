"""Loads tokenizers, with errors that tell what is wrong and what would be right."""

from __future__ import annotations

from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.utils.hub import cached_file

from iit_toolkit.data.encoding import pieces, text_ids
from iit_toolkit.errors import UserError, one_line, shown

_REMEDY = "give a folder written by save_pretrained, with its tokenizer, or a Hub id"
_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
)
_PIECES = 2000
_TIMES = 3


def load_tokenizer(path: str, **settings: Any) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model (a folder or a Hub id), with settings that differ from its own.

    Raises:
        UserError: If there is none, or it encodes a text differently each time. For a folder that lacks its files,
            transformers makes up one that knows only special tokens; it counts as none.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(path, trust_remote_code=False, **settings)
        only_special = set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens)
    except Exception as error:  # files of any content can make transformers raise anything
        raise UserError(f"no tokenizer ({one_line(error)[:180]}); {_REMEDY}") from None
    if only_special:
        raise UserError(f"no tokenizer (it knows only special tokens); {_REMEDY}")
    longest: Any = tokenizer.model_max_length
    if isinstance(longest, bool) or not isinstance(longest, int | float) or not longest >= 1:
        raise UserError(
            f"model_max_length in its tokenizer_config.json is {shown(longest)}; give the number of tokens that the "
            "model reads, or leave it out"
        )
    if _draws(tokenizer):
        raise UserError(
            "its tokenizer draws other tokens of a text each time (dropout, or sampling); set dropout to null in its "
            "tokenizer.json"
        )
    return tokenizer


def has_tokenizer(path: str) -> bool:
    """Say whether a folder, or what is kept of a Hub id, has a file of a tokenizer."""
    found: list[str | None] = []
    for name in _FILES:
        try:
            found.append(
                cached_file(
                    path,
                    name,
                    _raise_exceptions_for_gated_repo=False,
                    _raise_exceptions_for_missing_entries=False,
                    _raise_exceptions_for_connection_errors=False,
                )
            )
        except OSError:  # no such repository
            return False
    return any(found)


def _draws(tokenizer: PreTrainedTokenizerBase) -> bool:
    model: Any = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if getattr(model, "dropout", None):
        return True
    text = " ".join(pieces(tokenizer, _PIECES))
    try:
        made = [text_ids(tokenizer, text) for _ in range(_TIMES)]
    except Exception:  # tokenizing texts raises the error
        return False
    return any(one != made[0] for one in made)

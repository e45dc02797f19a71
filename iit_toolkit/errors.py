"""The exception that tells users about their own mistakes, and the words that its messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path


class UserError(ValueError):
    """A mistake in what the user gave: a config, an alignment, data, a path.

    The message is one line and says what is wrong, where, and what would be right. The command line prints it
    without a traceback and exits with code 2.
    """


class NothingToPredictError(UserError):
    """Rows of special tokens only, in which nothing can be masked. Verification and evaluation leave them out."""


def one_line(error: BaseException) -> str:
    """What an exception says, on one line of at most 300 characters, for the inside of an error message."""
    return " ".join(str(error).split())[:300]


def did_you_mean(name: str, valid: Iterable[str], otherwise: str | None = None) -> str:
    """Names the valid name that is nearest to a wrong one, for the end of an error message.

    Returns:
        `did you mean "layers"?` or, where none is near, what is given for that, or else `valid: config, layers`
        (`valid: none` without any).
    """
    names = sorted(set(valid))
    nearest = difflib.get_close_matches(name.lower(), names, n=1)
    if nearest:
        return f'did you mean "{nearest[0]}"?'
    return f"valid: {', '.join(names) or 'none'}" if otherwise is None else otherwise


def refuse_missing_folder(model: str | Path, what: str) -> None:
    """Refuses a model that can only be meant as a folder, where there is none: a Hub id has one slash at most.

    Raises:
        UserError: If there is no such folder.
    """
    path = str(model)
    if not Path(path).exists() and (path.startswith((".", "/", "~")) or path.count("/") > 1):
        raise UserError(f"{what} {path}: no such folder; give a folder written by save_pretrained, or a Hub id")

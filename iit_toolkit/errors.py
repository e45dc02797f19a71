"""The one exception that tells users about their own mistakes."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user gave: a config, an alignment, data, a path.

    The message is one line and says what is wrong, where, and what would be right. The command line prints it
    without a traceback and exits with code 2.
    """


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Names the valid name that is nearest to a wrong one, for the end of an error message.

    Returns:
        `did you mean "layers"?` or, where none is near, `valid: config, layers` (`valid: none` without any).
    """
    names = sorted(set(valid))
    nearest = difflib.get_close_matches(name.lower(), names, n=1)
    if nearest:
        return f'did you mean "{nearest[0]}"?'
    return f"valid: {', '.join(names) or 'none'}"

"""The exception that tells users about their own mistakes, and the words that its messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import ValidationError

MAX_MESSAGE = 400
"""Characters of a message: three to five lines of a terminal, and room for two long paths and a remedy."""
_TAIL = 140  # of a message that is cut: its end says what would be right
_MOST_NAMES = 12  # in a list; nobody reads a longer one
_LONGEST_NAME = 60  # in a list
_COMPARABLE = 1000  # names, of at most so many characters: comparing more takes seconds


class UserError(ValueError):
    """A mistake in what the user gave: a config, an alignment, data, a path.

    The message is one line of at most `MAX_MESSAGE` printable characters, whatever it repeats of what was given. It
    says what is wrong, where, and what would be right. The command line prints it without a traceback and exits with
    code 2. Of one that a worker of a data loader raised, torch's account of where is left out.
    """

    def __init__(self, message: str) -> None:
        if message.startswith("Caught "):
            message = message.rpartition(f"{type(self).__name__}: ")[2]
        super().__init__(_bounded(on_one_line(message), MAX_MESSAGE))


class NothingToPredictError(UserError):
    """Rows of special tokens only, in which nothing can be masked. Verification and evaluation leave them out."""


@dataclass(frozen=True)
class Mistake:
    """One mistake in data that pydantic checked.

    Attributes:
        keys: Where it is.
        kind: What pydantic calls it, such as `missing`.
        message: What is wrong, as pydantic says it, or the check that failed.
        given: The wrong value.
    """

    keys: tuple[int | str, ...]
    kind: str
    message: str
    given: Any

    @property
    def place(self) -> str:
        """Where it is, as `arms.causal.steps`; empty if everything is wrong."""
        return ".".join(map(str, self.keys))

    @property
    def inside(self) -> str:
        """The message as it stands inside a sentence."""
        return f"{self.message[:1].lower()}{self.message[1:]}"

    @property
    def remedy(self) -> str:
        """What to do, for the end of a sentence, if the message does not say it."""
        return "; write true or false" if self.kind == "bool_type" else ""


_MESSAGES = {"missing": "this key is missing"}
"""What is said instead of pydantic's message, by the kind of mistake."""


def mistakes(error: ValidationError) -> list[Mistake]:
    """Return what pydantic found wrong, in its order."""
    return [
        Mistake(
            one["loc"],
            one["type"],
            _MESSAGES.get(one["type"]) or one["msg"].removeprefix("Value error, "),
            one["input"],
        )
        for one in error.errors(include_url=False)
    ]


def one_line(error: BaseException) -> str:
    """Return what an exception says, on one line of at most 300 characters, for the inside of an error message."""
    return on_one_line(str(error))[:300]


def on_one_line(text: str) -> str:
    r"""Text on one line without what a terminal would obey: control characters become escapes such as `\x1b`."""
    line = " ".join(text.split())
    return line if line.isprintable() else "".join(one if one.isprintable() else _escaped(one) for one in line)


def shown(value: object, most: int = 60) -> str:
    """Return a wrong value as Python writes it, cut after so many characters; its kind if it can't be written."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more than 4,300 digits; what holds itself
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= most else f"{text[:most]}…"


def listed(names: Iterable[str]) -> str:
    """Return names for a message: the first few, and how many more there are; `none` without any."""
    given = list(names)
    told = ", ".join(_bounded(name, _LONGEST_NAME) for name in given[:_MOST_NAMES])
    return f"{told} and {len(given) - _MOST_NAMES:,} more" if len(given) > _MOST_NAMES else told or "none"


def did_you_mean(name: str, valid: Iterable[str], otherwise: str | None = None) -> str:
    """Name the valid name that is nearest to a wrong one, for the end of an error message.

    Returns:
        `did you mean "layers"?` or, if none is near, what is given for that, or else `valid: config, layers`
        (`valid: none` without any).
    """
    names = sorted(set(valid))
    if len(name) <= _COMPARABLE and len(names) <= _COMPARABLE:
        nearest = difflib.get_close_matches(name.lower(), names, n=1)
        if nearest:
            return f'did you mean "{nearest[0]}"?'
    return f"valid: {listed(names)}" if otherwise is None else otherwise


def _bounded(text: str, most: int) -> str:
    """Return the text with its middle left out if it is longer than `most`."""
    if len(text) <= most:
        return text
    tail = min(_TAIL, most // 3)
    return f"{text[: most - tail - 3]} … {text[-tail:]}"


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")

"""What long work says of itself: its phases, the steps of a training, and how many of many things are done.

It is logged. A record's `progress` says the same in parts, and its `piece` names the part of a suite. Phases and log
steps come at INFO, every other step and count at DEBUG.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TypeVar

PIECE = "IIT_TOOLKIT_PIECE"
"""The environment variable that names the piece to a process that does it."""
_LOG = logging.getLogger(__name__)
_PIECE: ContextVar[str | None] = ContextVar("piece", default=None)
_T = TypeVar("_T")


@dataclass(frozen=True)
class Phase:
    """A phase, in words: `verifying plain, causal`."""

    words: str

    def __str__(self) -> str:
        """Return the words."""
        return self.words


@dataclass(frozen=True)
class Step:
    """A step of a training.

    Attributes:
        what: What is trained, such as `causal 2/3` or `sst2 · seed 42`.
        done: Steps that are done.
        steps: Steps in all.
        loss: The loss that was logged last; None before the first log step.
        terms: Its terms, by name.
        effect: The mean effect of the teacher's interchanges, where it is measured.
        left: Seconds; None if they are not known.
    """

    what: str
    done: int
    steps: int
    loss: float | None = None
    terms: Mapping[str, float] = field(default_factory=dict[str, float])
    effect: float | None = None
    left: float | None = None

    def __str__(self) -> str:
        """Return `causal 2/2 · step 120/200 · loss 1.38 (task 4.34, ce 0.45) · effect 0.45 · 21 s left`."""
        parts = [self.what, f"step {self.done}/{self.steps}", *self.measured()]
        return " · ".join([*parts, *_left(self.left, self.done < self.steps)])

    def measured(self) -> list[str]:
        """Return the loss with its terms, and the effect, as far as they are known."""
        parts: list[str] = []
        if self.loss is not None:
            terms = ", ".join(f"{name} {value:.3g}" for name, value in self.terms.items())
            parts.append(f"loss {self.loss:.3g}" + (f" ({terms})" if terms else ""))
        if self.effect is not None:
            parts.append(f"effect {self.effect:.3g}")
        return parts


@dataclass(frozen=True)
class Count:
    """How many of many things are done.

    Attributes:
        what: What is done with them, such as `verifying`.
        done: How many are done.
        total: How many there are.
        left: Seconds; None if they are not known.
    """

    what: str
    done: int
    total: int
    left: float | None = None

    def __str__(self) -> str:
        """Return `verifying 12/32 · 40 s left`."""
        return " · ".join([f"{self.what} {self.done}/{self.total}", *_left(self.left, self.done < self.total)])


def phase(words: str) -> None:
    """Say that a phase begins."""
    tell(Phase(words))


def tell(progress: Phase | Step | Count, level: int = logging.INFO) -> None:
    """Log progress, after the name of the piece, if there is one."""
    piece = _PIECE.get() or os.environ.get(PIECE, "")
    words = " · ".join([piece, str(progress)] if piece else [str(progress)])
    _LOG.log(level, "%s", words, extra={"progress": progress, "piece": piece})


@contextlib.contextmanager
def in_piece(name: str) -> Generator[None]:
    """Name the piece of a suite that is done in the block, such as `piece 3/13 · seed 42`."""
    token = _PIECE.set(name)
    try:
        yield
    finally:
        _PIECE.reset(token)


def is_watched() -> bool:
    """Whether somebody follows every step and count, so that bars are not needed."""
    return _LOG.isEnabledFor(logging.DEBUG)


def counted(items: Sequence[_T], what: str) -> Iterator[_T]:
    """Yield the items and say how many are done; a bar says so on a terminal, unless somebody follows the counts.

    Args:
        items: The items.
        what: What is done with them, in a word or two.
    """
    from tqdm.auto import tqdm

    if not is_watched():
        yield from tqdm(items, what, disable=None)
        return
    begun, total = time.perf_counter(), len(items)
    for done, item in enumerate(items):
        left = (time.perf_counter() - begun) / done * (total - done) if done else None
        tell(Count(what, done, total, left), logging.DEBUG)
        yield item
    tell(Count(what, total, total), logging.DEBUG)


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = int(round(seconds))
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _left(seconds: float | None, unfinished: bool) -> list[str]:
    return [f"{duration(seconds)} left"] if seconds is not None and unfinished else []

"""What models are trained for, and what the rest must know of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from iit_toolkit.errors import UserError, did_you_mean

Task = Literal["masked_lm", "causal_lm", "sequence_classification", "token_classification"]
TASKS: tuple[Task, ...] = get_args(Task)
Column = Literal["label_column", "tags_column"]


@dataclass(frozen=True)
class Facts:
    """What is answered in a task, and where.

    Attributes:
        at_tokens: Answers are of tokens, and labels (B, S); else of rows, and labels (B,).
        classes: Answers are classes that the teacher's configuration names; else tokens of its vocabulary.
        column: The key of the data's config that names the column of right answers; None if these are tokens.
    """

    at_tokens: bool
    classes: bool
    column: Column | None


FACTS: Mapping[str, Facts] = {
    "masked_lm": Facts(at_tokens=True, classes=False, column=None),
    "causal_lm": Facts(at_tokens=True, classes=False, column=None),
    "sequence_classification": Facts(at_tokens=False, classes=True, column="label_column"),
    "token_classification": Facts(at_tokens=True, classes=True, column="tags_column"),
}
"""The facts of every task."""


def refuse_unknown_task(task: str | None, where: str) -> None:
    """Refuse anything but a task; `None` is left for the caller to find out.

    Args:
        task: What was given.
        where: What the error message calls it.

    Raises:
        UserError: If it is not a task.
    """
    if task is not None and task not in TASKS:
        raise UserError(f"{where} {task!r} is no task, {did_you_mean(task, TASKS)}")

"""What models are trained for."""

from __future__ import annotations

from typing import Literal, get_args

from iit_toolkit.errors import UserError, did_you_mean

Task = Literal["masked_lm", "causal_lm", "sequence_classification"]
TASKS: tuple[Task, ...] = get_args(Task)


def refuse_unknown_task(task: str | None, where: str) -> None:
    """Refuse anything but a task; `None` is left for the caller to find out.

    Args:
        task: What was given.
        where: What the error message calls it.

    Raises:
        UserError: If it is not a task.
    """
    if task is not None and task not in TASKS:
        raise UserError(f"{where} {task!r} is no task, {did_you_mean(str(task), TASKS)}")

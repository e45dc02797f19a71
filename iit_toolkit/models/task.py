"""What a live model is trained for, as its class says."""

from __future__ import annotations

from collections.abc import Set

from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
)

from iit_toolkit.config.task import Task
from iit_toolkit.errors import UserError

_CLASSES: tuple[tuple[Task, object], ...] = (
    ("masked_lm", MODEL_FOR_MASKED_LM_MAPPING_NAMES),
    ("sequence_classification", MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
    ("causal_lm", MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
)


def task_of(model: PreTrainedModel) -> Task:
    """Return what a model of transformers, or one derived from it, is trained for.

    Raises:
        UserError: If its class does not say.
    """
    task = task_of_classes({one.__name__ for one in type(model).__mro__})
    if task is None:
        raise UserError(
            f"{type(model).__name__} is neither a masked nor a causal language model nor a sequence classifier of "
            "transformers; give task"
        )
    return task


def task_of_classes(names: Set[str]) -> Task | None:
    """Return what classes of these names are trained for; None if none of them says."""
    for task, classes in _CLASSES:
        if names & set(dict(classes).values()):  # pyright: ignore[reportArgumentType, reportCallIssue]
            return task
    return None

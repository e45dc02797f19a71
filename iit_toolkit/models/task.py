"""What a live model is trained for, as its class says."""

from __future__ import annotations

from collections.abc import Set

from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from iit_toolkit.config.task import FACTS, Task
from iit_toolkit.errors import UserError

_CLASSES: tuple[tuple[Task, object], ...] = (
    ("masked_lm", MODEL_FOR_MASKED_LM_MAPPING_NAMES),
    ("sequence_classification", MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES),
    ("token_classification", MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES),
    ("causal_lm", MODEL_FOR_CAUSAL_LM_MAPPING_NAMES),
)


def require_model(model: object, what: str) -> None:
    """Refuse anything but a live model of transformers, such as its name.

    Raises:
        UserError: If it is something else.
    """
    if not isinstance(model, PreTrainedModel):
        raise UserError(f"{what} is a {type(model).__name__}; give a loaded model of transformers")


def task_of(model: PreTrainedModel) -> Task:
    """Return what a model of transformers, or one derived from it, is trained for.

    Raises:
        UserError: If its class does not say.
    """
    task = task_of_classes({one.__name__ for one in type(model).__mro__})
    if task is None:
        raise UserError(
            f"{type(model).__name__} is neither a masked nor a causal language model nor a classifier of sequences "
            "or tokens of transformers; give task"
        )
    return task


def task_of_classes(names: Set[str]) -> Task | None:
    """Return what classes of these names are trained for; None if none of them says."""
    for task, classes in _CLASSES:
        if names & set(dict(classes).values()):  # pyright: ignore[reportArgumentType, reportCallIssue]
            return task
    return None


def refuse_other_classifier(config: PreTrainedConfig, task: Task, what: str) -> None:
    """Refuse a classifier of another task: the heads of sequences and of tokens can have the same weights.

    Args:
        config: The model's, as it was saved.
        task: What the model is to be for.
        what: What the message calls it.

    Raises:
        UserError: If the configuration says that it was saved as another kind of classifier.
    """
    names = list(config.architectures or [])
    found = task_of_classes(set(names))
    if found not in (None, task) and FACTS[found].classes and FACTS[task].classes:
        raise UserError(
            f"{what}: its config.json says {', '.join(names)}, which is for task {found}, not {task}; give a model "
            f"that was trained for {task}"
        )

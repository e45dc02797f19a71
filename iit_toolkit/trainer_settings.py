"""Checks settings of a `transformers.Trainer` before any of them is used: it would take them, and fail in training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError
from transformers import TrainingArguments

from iit_toolkit.errors import UserError, did_you_mean

_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)
_AT_LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "interchanges": 1,
    "learning_rate": 0,
}


def check_settings(kind: type[TrainingArguments], settings: Mapping[str, Any], where: str) -> None:
    """Checks that settings exist, and that their values are of the right type and size.

    Args:
        kind: What the settings are for.
        settings: By name, as they were read.
        where: What messages call them.

    Raises:
        UserError: At the first that is wrong.
    """
    known = [entry.name for entry in fields(kind) if entry.init]
    hints = get_type_hints(kind)
    for name, value in settings.items():
        if name not in known:
            raise UserError(f"{where}.{name}: unknown setting, {did_you_mean(name, known)}")
        try:
            TypeAdapter[Any](hints[name], config=_STRICT).validate_python(value)
        except ValidationError as error:
            reasons = dict.fromkeys(one["msg"].removeprefix("Input ") for one in error.errors())
            raise UserError(f"{where}.{name}: {' or '.join(reasons)}, not {value!r:.60}") from None
        if name in _AT_LEAST and value < _AT_LEAST[name]:
            raise UserError(f"{where}.{name}: should be {_AT_LEAST[name]} or more, not {value}")
        if (name == "eval_strategy" and value != "no") or (name == "eval_on_start" and value):
            raise UserError(f"{where}.{name}: models are evaluated after training, and not in it; leave it out")

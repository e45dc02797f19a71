"""Checks settings of a `transformers.Trainer` before any of them is used: it would take them, and fail in training."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Mapping
from copy import copy
from dataclasses import fields
from typing import Any, get_type_hints

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import nn
from transformers import Trainer, TrainingArguments
from transformers.utils import logging

from iit_toolkit.errors import UserError, did_you_mean, one_line
from iit_toolkit.parallelism import refuse_plugin

_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)
_AT_LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "interchanges": 1,
    "learning_rate": 0,
    "weight_decay": 0,
}
_ABOVE_ZERO = ("num_train_epochs", "logging_steps", "save_steps")
_NO_UPLOAD = "nothing is uploaded in training"
_REFUSED = {  # where they are not at their defaults, which say what is so
    "do_eval": "models are evaluated after training whatever it says",
    "do_predict": "nothing reads it",
    "resume_from_checkpoint": "nothing reads it; run goes on with --resume, and finetune by itself",
    "load_best_model_at_end": "models are evaluated after training, and not in it",
    "push_to_hub": _NO_UPLOAD,
    "hub_token": _NO_UPLOAD,
    "hub_model_id": _NO_UPLOAD,
    "hub_private_repo": _NO_UPLOAD,
    "hub_strategy": _NO_UPLOAD,
    "hub_always_push": _NO_UPLOAD,
    "hub_revision": _NO_UPLOAD,
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
    known = {entry.name: entry.default for entry in fields(kind) if entry.init}
    hints = get_type_hints(kind)
    for name, value in settings.items():
        if name not in known:
            raise UserError(f"{where}.{name}: unknown setting, {did_you_mean(name, known)}")
        if name in _REFUSED and value != known[name]:  # before any message that would show a token
            raise UserError(f"{where}.{name}: {_REFUSED[name]}; leave it out")
        if refuse_plugin(name, value, where):
            continue
        try:
            TypeAdapter[Any](hints[name], config=_STRICT).validate_python(value)
        except ValidationError as error:
            reasons = dict.fromkeys(one["msg"].removeprefix("Input ") for one in error.errors())
            raise UserError(f"{where}.{name}: {' or '.join(reasons)}, not {value!r:.60}") from None
        _check_size(name, value, where)
        if (name == "eval_strategy" and value != "no") or (name == "eval_on_start" and value):
            raise UserError(f"{where}.{name}: models are evaluated after training, and not in it; leave it out")
        if name == "save_strategy" and value == "best":
            raise UserError(f"{where}.{name}: models are evaluated after training, so none is best in it; leave it out")
        if name == "do_train" and not value:
            raise UserError(f"{where}.{name}: models are trained whatever it says; leave it out")


def refuse_half_on_cpu(settings: Mapping[str, Any], where: str) -> None:
    """Refuses `fp16` where a CPU trains.

    Raises:
        UserError: If it is asked for there.
    """
    if settings.get("fp16") and settings.get("use_cpu", not torch.accelerator.is_available()):
        raise UserError(f"{where}.fp16: a CPU would train in float32; use bf16, or leave it out")


def refuse_unusable(settings: TrainingArguments, where: str) -> None:
    """Checks that a trainer, its optimizer, schedule and batches can be made with settings, by making them.

    Args:
        settings: What training will be given; they stay as they are.
        where: What messages call them.

    Raises:
        UserError: If they cannot.
    """
    tried, verbosity = copy(settings), logging.get_verbosity()
    states = random.getstate(), np.random.get_state()
    tried.full_determinism = False  # which the whole process would keep
    tried.log_level = "error"  # training tells the same
    try:
        logging.set_verbosity_error()
        with torch.random.fork_rng(devices=[]), tempfile.TemporaryDirectory() as tried.output_dir:
            trainer = Trainer(nn.Linear(1, 1), tried, train_dataset=[{"input_ids": [0]}] * 2)  # pyright: ignore
            if not tried.optim_target_modules:  # which this model has not
                trainer.create_optimizer_and_scheduler(num_training_steps=2)
            trainer.get_train_dataloader()
    except (ValueError, TypeError, ImportError, RuntimeError, OSError) as error:
        raise UserError(f"{where}: {one_line(error)}") from None
    finally:
        logging.set_verbosity(verbosity)
        random.setstate(states[0])
        np.random.set_state(states[1])


def _check_size(name: str, value: Any, where: str) -> None:
    if name in _AT_LEAST and not value >= _AT_LEAST[name]:  # which NaN is not either
        raise UserError(f"{where}.{name}: should be {_AT_LEAST[name]} or more, not {value}")
    if name in _ABOVE_ZERO and not 0 < value < math.inf:
        raise UserError(f"{where}.{name}: should be above 0 and finite, not {value}")
    if name == "max_steps" and value < 1 and value != -1:
        raise UserError(f"{where}.{name}: should be 1 or more, or -1 for as many as num_train_epochs has, not {value}")

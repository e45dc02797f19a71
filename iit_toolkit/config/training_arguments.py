"""Checks settings of a `transformers.Trainer` before any of them is used: it would accept them and fail later."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from copy import copy
from dataclasses import fields
from functools import cache
from typing import Any, cast, get_type_hints

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainingArguments
from transformers.training_args import trainer_log_levels
from transformers.utils import logging

from iit_toolkit.config.parallelism import refuse_plugin
from iit_toolkit.errors import UserError, did_you_mean, mistakes, one_line, shown
from iit_toolkit.files.scratch import scratch_folder
from iit_toolkit.files.text_files import parse_json

_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)
_AT_LEAST = {
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "interchanges": 1,
    "save_total_limit": 1,
    "dataloader_prefetch_factor": 1,
    "torch_empty_cache_steps": 1,
    "eval_accumulation_steps": 1,
    "ddp_timeout": 1,
    "ddp_bucket_cap_mb": 1,
    "dataloader_num_workers": 0,
    "data_seed": 0,
    "learning_rate": 0,
    "weight_decay": 0,
    "warmup_steps": 0,
    "max_grad_norm": 0,
    "adam_beta1": 0,
    "adam_beta2": 0,
    "adam_epsilon": 0,
    "label_smoothing_factor": 0,
    "neftune_noise_alpha": 0,
    "eval_delay": 0,
}
_BELOW = {
    "per_device_train_batch_size": 2**20,  # rows that no device holds
    "per_device_eval_batch_size": 2**20,
    "gradient_accumulation_steps": 2**20,
    "interchanges": 10_000,
    "dataloader_num_workers": 1000,
    "data_seed": 2**32,
    "adam_beta1": 1,
    "adam_beta2": 1,
    "label_smoothing_factor": 1,
}
_BELOW_ALL = 2**31  # anything not listed above: larger counts and sizes overflow somewhere
_COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
_ABOVE_ZERO = ("num_train_epochs", "logging_steps", "save_steps")
_NO_UPLOAD = "nothing is uploaded in training"
_REFUSED = {  # unless they are at their defaults, which are true here
    "do_eval": "models are evaluated after training whatever it says",
    "do_predict": "nothing reads it",
    "resume_from_checkpoint": "nothing reads it; run goes on with --resume, and finetune by itself",
    "enable_jit_checkpoint": "a signal would end training early, as if it were done; what was stopped goes on anyway",
    "load_best_model_at_end": "models are evaluated after training, and not in it",
    "push_to_hub": _NO_UPLOAD,
    "hub_token": _NO_UPLOAD,
    "hub_model_id": _NO_UPLOAD,
    "hub_private_repo": _NO_UPLOAD,
    "hub_strategy": _NO_UPLOAD,
    "hub_always_push": _NO_UPLOAD,
    "hub_revision": _NO_UPLOAD,
    "debug": "its hooks fail on what models return here",
    "local_rank": "the launcher gives it",
}


def require_settings(kind: type[TrainingArguments], settings: Mapping[str, Any], where: str) -> None:
    """Check that settings exist, and that their values are of the right type and size.

    Args:
        kind: What the settings are for.
        settings: By name, as they were read.
        where: What messages call them.

    Raises:
        UserError: At the first that is wrong.
    """
    known = {entry.name: entry.default for entry in fields(kind) if entry.init}
    for name, value in settings.items():
        if name not in known:
            raise UserError(f"{where}.{name}: unknown setting, {did_you_mean(name, known)}")
        if name in _REFUSED and value not in (known[name], []):  # before any message that would show a token
            raise UserError(f"{where}.{name}: {_REFUSED[name]}; leave it out")
        if refuse_plugin(name, value, where):
            continue
        try:
            _validator(kind, name).validate_python(value)
        except ValidationError as error:
            found = mistakes(error)
            reasons = dict.fromkeys(one.message.removeprefix("Input ") for one in found)
            remedy = found[0].remedy if len(reasons) == 1 else ""
            raise UserError(f"{where}.{name}: {' or '.join(reasons)}, not {shown(value)}{remedy}") from None
        _require_size(name, value, where)
        _require_numbers(value, f"{where}.{name}")
        _require_json(value, f"{where}.{name}")
        if (name == "eval_strategy" and value != "no") or (name == "eval_on_start" and value):
            raise UserError(f"{where}.{name}: models are evaluated after training, and not in it; leave it out")
        if name == "save_strategy" and value == "best":
            raise UserError(f"{where}.{name}: models are evaluated after training, so none is best in it; leave it out")
        if name == "do_train" and not value:
            raise UserError(f"{where}.{name}: models are trained whatever it says; leave it out")


@cache
def _hints(kind: type[TrainingArguments]) -> dict[str, Any]:
    return get_type_hints(kind)


@cache
def _validator(kind: type[TrainingArguments], name: str) -> TypeAdapter[Any]:
    return TypeAdapter[Any](_hints(kind)[name], config=_STRICT)


def refuse_half_on_cpu(settings: Mapping[str, Any], where: str) -> None:
    """Refuse `fp16` if a CPU trains.

    Raises:
        UserError: If the settings ask for it on a CPU.
    """
    if settings.get("fp16") and settings.get("use_cpu", not torch.accelerator.is_available()):
        raise UserError(f"{where}.fp16: a CPU would train in float32; use bf16, or leave it out")


def refuse_unusable(settings: TrainingArguments, where: str) -> None:
    """Check that a trainer, its optimizer, schedule and batches can be made with settings, by making them.

    Args:
        settings: What training will be given; they stay as they are.
        where: What messages call them.

    Raises:
        UserError: If they cannot.
    """
    tried, verbosity = copy(settings), logging.get_verbosity()
    states = random.getstate(), np.random.get_state()
    tried.full_determinism = False  # the whole process would keep it
    tried.log_level = "error"  # training says the same
    try:
        for level in (settings.log_level, settings.log_level_replica):
            if level not in trainer_log_levels:
                raise ValueError(f"no log level {shown(level)}, {did_you_mean(level, trainer_log_levels)}")
        _require_compiler(settings)
        logging.set_verbosity_error()
        with torch.random.fork_rng(devices=[]), scratch_folder() as tried.output_dir:
            trainer = Trainer(nn.Linear(1, 1), tried, train_dataset=[{"input_ids": [0]}] * 2)  # pyright: ignore
            if not tried.optim_target_modules:  # this model has none
                _step(trainer)
            trainer.get_train_dataloader()
    except UserError:
        raise
    except Exception as error:  # any kind would end the training later
        raise UserError(f"{where}: {one_line(error) or type(error).__name__}") from None
    finally:
        logging.set_verbosity(verbosity)
        random.setstate(states[0])
        np.random.set_state(states[1])


def _step(trainer: Trainer) -> None:
    """Step with the trainer's optimizer and schedule, past the warm-up: some settings are first read there."""
    trainer.args.warmup_steps = 0
    trainer.create_optimizer_and_scheduler(num_training_steps=3)
    optimizer, schedule, model = cast(Optimizer | None, trainer.optimizer), trainer.lr_scheduler, trainer.model
    assert optimizer is not None and model is not None
    for _ in range(3):
        torch.stack([weight.sum() for weight in model.parameters()]).sum().backward()
        optimizer.step()
        if isinstance(schedule, LambdaLR):
            schedule.step()
            if not all(math.isfinite(rate) for rate in schedule.get_last_lr()):
                raise ValueError("the schedule's learning rate is not finite; correct lr_scheduler_kwargs")


def _require_compiler(settings: TrainingArguments) -> None:
    if settings.torch_compile_backend not in (None, "inductor"):
        known = torch.compiler.list_backends()
        if settings.torch_compile_backend not in known:
            raise ValueError(f"torch_compile_backend: {did_you_mean(str(settings.torch_compile_backend), known)}")
    if settings.torch_compile_mode not in (None, *_COMPILE_MODES):
        raise ValueError(f"torch_compile_mode: {did_you_mean(str(settings.torch_compile_mode), _COMPILE_MODES)}")


def _require_numbers(value: Any, where: str) -> None:
    """Refuse numbers inside a setting that are not finite, or do not fit into 64 bits."""
    if isinstance(value, Mapping):
        for key, one in cast(Mapping[Any, Any], value).items():
            _require_numbers(one, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for one in cast(list[Any], value):
            _require_numbers(one, where)
    elif isinstance(value, int | float) and not abs(value) < 2**63:  # as NaN is not
        raise UserError(f"{where}: should be a finite number of 64 bits, not {shown(value)}")


def _require_json(value: Any, where: str) -> None:
    """Refuse a text in place of a mapping if it is not JSON: transformers would read it."""
    if isinstance(value, str) and value.lstrip().startswith("{"):
        _require_numbers(parse_json(value, where), where)


def _require_size(name: str, value: Any, where: str) -> None:
    if not isinstance(value, int | float):  # a setting that may be left open
        return
    if name in _AT_LEAST and not value >= _AT_LEAST[name]:  # NaN fails, too
        raise UserError(f"{where}.{name}: should be {_AT_LEAST[name]} or more, not {value}")
    if name in _ABOVE_ZERO and not 0 < value < math.inf:
        raise UserError(f"{where}.{name}: should be above 0 and finite, not {value}")
    if name == "max_steps" and value < 1 and value != -1:
        raise UserError(f"{where}.{name}: should be 1 or more, or -1 for as many as num_train_epochs has, not {value}")
    below = _BELOW.get(name, _BELOW_ALL)
    if not -below < value < below:
        raise UserError(f"{where}.{name}: should be below {below:,}, not {value}")

"""The arguments of `transformers.Trainer` for one fine-tuning."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import torch
from transformers import TrainingArguments

from iit_toolkit.config.parallelism import refuse_environment
from iit_toolkit.config.training_arguments import refuse_half_on_cpu, require_settings
from iit_toolkit.errors import UserError, one_line
from iit_toolkit.runs.launch import forget_a_launcher_of_one

_SET_ELSEWHERE = ("output_dir", "seed")
_LOGGED = 0.05  # of the steps
_SCORED = {  # what scoring needs
    "dataloader_drop_last": False,
    "eval_do_concat_batches": True,
    "prediction_loss_only": False,
    "remove_unused_columns": True,
}


def training_arguments(settings: Mapping[str, Any], seed: int, where: str, output: str) -> TrainingArguments:
    """Build the trainer's arguments of one fine-tuning.

    Args:
        settings: Settings of `TrainingArguments` that are not at our defaults.
        seed: Seed of dropout and of the order of examples.
        where: What messages call the settings.
        output: The trainer's own folder.

    Raises:
        UserError: If a setting is unknown or unusable, the environment asks for something other than the settings, or
            there are several processes or GPUs.
    """
    for key in _SET_ELSEWHERE:
        if key in settings:
            raise UserError(f"{where}.{key}: this is set by the config's seeds and output; leave it out")
    for key, needed in _SCORED.items():
        if settings.get(key, needed) != needed:
            raise UserError(f"{where}.{key}: must be {str(needed).lower()}, which scoring needs; leave it out")
    require_settings(TrainingArguments, settings, where)
    refuse_half_on_cpu(settings, where)
    refuse_environment(settings)
    forget_a_launcher_of_one()
    accelerated = torch.accelerator.is_available()
    machine = {
        "dataloader_pin_memory": accelerated,
        "use_cpu": not accelerated,
        "disable_tqdm": not sys.stderr.isatty(),
    }
    defaults: dict[str, Any] = {
        **machine,
        "save_strategy": "no",
        "report_to": "none",
        "per_device_eval_batch_size": 64,
        "logging_steps": _LOGGED,
    }
    try:
        arguments = TrainingArguments(output, seed=seed, **(defaults | dict(settings)))
    except Exception as error:  # any kind: it is about the settings
        raise UserError(f"{where}: {one_line(error) or type(error).__name__}") from None
    if arguments.world_size * max(arguments.n_gpu, 1) > 1:
        raise UserError(
            "fine-tuning uses one process and one GPU, so that batches are as large as they say: start it without "
            "torchrun, show it one GPU with CUDA_VISIBLE_DEVICES, and give other seeds or tasks to the others"
        )
    return arguments

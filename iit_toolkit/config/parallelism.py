"""Refuses ways of training that a config or the environment can ask of accelerate but that are not supported here.

Training runs in one process or by DDP, in the precision of the settings. accelerate takes requests from environment
variables too, and ignores several of them if a trainer has a step of its own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from accelerate.utils import DistributedType
from transformers import TrainingArguments
from transformers.trainer_pt_utils import AcceleratorConfig

from iit_toolkit.errors import UserError

_BY_DDP = "several processes train by DDP (torchrun), with whole weights on each"
_PLUGINS = {
    "fsdp": _BY_DDP,
    "fsdp_config": _BY_DDP,
    "deepspeed": _BY_DDP,
    "parallelism_config": _BY_DDP,
    "accelerator_config": "batches are made and dealt out as the other settings say",
    "auto_find_batch_size": "batches would be smaller than the config says; lower per_device_train_batch_size",
}
_HARMLESS = {"non_blocking"}  # of accelerator_config: how batches are copied
_COMPILED = "a step runs models with swaps in them, which are not compiled"
_NOT_COMPILED = ("torch_compile", "torch_compile_backend", "torch_compile_mode")
_PREFIXES = (
    "FSDP_",
    "MEGATRON_LM_",
    "PARALLELISM_CONFIG_",
    "ACCELERATE_USE_",
    "ACCELERATE_DEEPSPEED_",
    "ACCELERATE_TORCH_DEVICE",
)
_NO = ("", "0", "no", "false", "f", "n", "off")
_ONE_COPY_EACH = [kind for kind in DistributedType if kind == DistributedType.NO or kind.value.startswith("MULTI_")]


def refuse_plugin(name: str, value: Any, where: str) -> bool:
    """Refuse a setting that asks for an unsupported way of training.

    Args:
        name: The setting.
        value: Its value.
        where: What messages call the settings.

    Returns:
        Whether it is one of these; then it is off.

    Raises:
        UserError: If it is one of these, and on.
    """
    if name not in _PLUGINS or (isinstance(value, Mapping) and set(value) == _HARMLESS):
        return False
    if value:
        raise UserError(f"{where}.{name}: {_PLUGINS[name]}; leave it out")
    return True


def refuse_compiled(settings: Mapping[str, Any], where: str) -> None:
    """Refuse to compile a distillation: it would run uncompiled.

    Raises:
        UserError: If settings ask for it.
    """
    for name in _NOT_COMPILED:
        if settings.get(name):
            raise UserError(f"{where}.{name}: {_COMPILED}; leave it out")


def refuse_environment(settings: Mapping[str, Any]) -> None:
    """Refuse environment variables that ask accelerate for something other than the settings.

    Args:
        settings: The training's, by name: `bf16`, `fp16`, `use_cpu`, `torch_compile`; those left out are off.

    Raises:
        UserError: At the first variable.
    """
    for name, value in sorted(os.environ.items()):
        wanted = value.strip().lower()
        if wanted in _NO:
            continue
        if name == "ACCELERATE_USE_CPU":
            if torch.accelerator.is_available() and not settings.get("use_cpu"):
                raise UserError(
                    f"the environment has {name}={value:.40}, and the settings do not: set training.use_cpu"
                )
            continue
        if name.startswith(_PREFIXES):
            raise UserError(f"the environment has {name}={value:.40}: {_BY_DDP}; unset it")
        if name == "ACCELERATE_DYNAMO_BACKEND" and not settings.get("torch_compile"):
            raise UserError(f"the environment has {name}={value:.40}, and no setting says torch_compile; unset it")
        if name == "ACCELERATE_MIXED_PRECISION" and not settings.get(wanted):
            raise UserError(
                f"the environment has {name}={value:.40}, and the settings do not: unset it, or set training.{wanted}"
                if wanted in ("bf16", "fp16")
                else f"the environment has {name}={value:.40}: training is in float32, bf16 or fp16; unset it"
            )


def refuse_other_training(args: TrainingArguments) -> None:
    """Refuse settings made in Python, and an environment, that ask for an unsupported way of training.

    Raises:
        UserError: At the first that does.
    """
    for name in _PLUGINS:
        value = getattr(args, name)
        if name == "accelerator_config" and isinstance(value, AcceleratorConfig):
            usual = AcceleratorConfig().to_dict()  # transformers has taken one of these out by now
            value = any(one != usual[key] for key, one in value.to_dict().items() if key not in _HARMLESS)
        refuse_plugin(name, value, "args")
    given = {name: getattr(args, name) for name in ("bf16", "fp16", "use_cpu", *_NOT_COMPILED)}
    refuse_compiled(given, "args")
    refuse_environment(given)


def refuse_other_kind(kind: DistributedType) -> None:
    """Refuse what accelerate made of all this if it is neither one process nor DDP.

    Raises:
        UserError: If it is, for example, a TPU's.
    """
    if kind not in _ONE_COPY_EACH:
        raise UserError(f"accelerate would train by {kind.value}: {_BY_DDP}; take its settings back")

"""Where a student comes from: layers of its teacher, a changed configuration, or a checkpoint.

A student shares no memory with its teacher, stands on the teacher's device in training mode, and has weights
of at least float32, since they are to be trained. Random weights come from torch's global generator: seed it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from iit_toolkit.alignment.architectures import blocks_path
from iit_toolkit.errors import UserError, did_you_mean, one_line, refuse_missing_folder

_PER_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers")
"""Configuration entries that hold one value per block."""

_AUTO_CLASSES: dict[str, Any] = {
    "ForMaskedLM": AutoModelForMaskedLM,
    "ForCausalLM": AutoModelForCausalLM,
    "LMHeadModel": AutoModelForCausalLM,
    "ForSequenceClassification": AutoModelForSequenceClassification,
    "ForTokenClassification": AutoModelForTokenClassification,
    "ForImageClassification": AutoModelForImageClassification,
    "ForQuestionAnswering": AutoModelForQuestionAnswering,
}
"""The end of a teacher's class name, and the class that loads students for the same task."""


def default_layers(teacher_layers: int, student_layers: int) -> tuple[int, ...]:
    """Choose the teacher's blocks that a student starts from.

    For a teacher of 12 blocks this is the choice of DistilBERT, which the DIITO paper took over: the first n
    of 0, 2, 4, 7, 9, 11 for n up to 6 (a student of three starts from the lower half), and all but 1, 5 and 6
    for n = 9. Any other student takes evenly spaced blocks from 0 up: i * teacher // student, so
    0, 2, 4 for 6 to 3.

    Raises:
        UserError: If the student is to have no block, or more blocks than the teacher.
    """
    if not 1 <= student_layers <= teacher_layers:
        raise UserError(
            f"a student of {student_layers} layers cannot start from a teacher of {teacher_layers}; "
            f"choose from 1 to {teacher_layers} layers"
        )
    if teacher_layers == 12 and student_layers <= 6:
        return (0, 2, 4, 7, 9, 11)[:student_layers]
    if teacher_layers == 12 and student_layers == 9:
        return (0, 2, 3, 4, 7, 8, 9, 10, 11)
    return tuple(i * teacher_layers // student_layers for i in range(student_layers))


def student_from_teacher(teacher: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """Make a student of the teacher's class from copies of some of its blocks and of all that is not a block.

    Args:
        teacher: Any model whose blocks `iit_toolkit.alignment.architectures` finds.
        layers: The teacher's block that each block of the student is copied from, lowest first.

    Raises:
        UserError: If a layer is out of range, or a block does not fit where it is to go (the first block of a
            ModernBERT has no attention norm, so no other block can take its place).
    """
    depth = int(teacher.config.num_hidden_layers)
    wrong = next((layer for layer in layers if not 0 <= layer < depth), None)
    if wrong is not None or not layers:
        raise UserError(
            f"student layers {list(layers)}: {type(teacher).__name__} has layers 0 to {depth - 1}; "
            "name at least one of these"
        )
    config = copy.deepcopy(teacher.config)
    config.num_hidden_layers = len(layers)
    for name in _PER_LAYER:
        if (entries := getattr(config, name, None)) is not None:
            setattr(config, name, [entries[layer] for layer in layers])
    with torch.random.fork_rng(devices=[]):  # the weights it draws are all overwritten
        student = _build(teacher, config)
    _copy_weights(teacher, student, layers)
    return student


def student_from_config(teacher: PreTrainedModel, overrides: Mapping[str, Any]) -> PreTrainedModel:
    """Make a student of the teacher's class with random weights and a changed configuration.

    Args:
        teacher: Gives the class, and every configuration entry that is not overridden.
        overrides: Entries of the class's configuration, e.g. `{"hidden_size": 128, "num_hidden_layers": 3}`.

    Raises:
        UserError: If an entry does not exist, or no model can be built from the entries.
    """
    old = teacher.config
    entries: dict[str, Any] = old.to_dict()
    known = sorted(key for key in {*entries, *old.attribute_map} if not key.startswith("_"))
    for key in overrides:
        if key not in known:
            hint = did_you_mean(key, known, otherwise=f"see the entries of {type(old).__name__}")
            raise UserError(f'student configuration: {type(old).__name__} has no entry "{key}", {hint}')
    changed = {old.attribute_map.get(key, key): value for key, value in overrides.items()}
    depth = old.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    if depth in changed:  # the configuration class lays out the new depth by its own rule
        entries = {key: value for key, value in entries.items() if key not in _PER_LAYER}
    try:
        config = type(old).from_dict({**entries, **changed})
        return _build(teacher, config)
    except (ValueError, TypeError, KeyError, RuntimeError, ZeroDivisionError, StrictDataclassError) as error:
        raise UserError(
            f"student configuration {dict(overrides)}: {type(teacher).__name__} cannot be built from it "
            f"({one_line(error)}); correct the entries"
        ) from error


def student_from_checkpoint(teacher: PreTrainedModel, path: str | Path) -> PreTrainedModel:
    """Load a student, of any architecture, for the task of the teacher.

    Args:
        teacher: Gives the task (by its class), the labels and the device.
        path: A folder written by `save_pretrained`, or a model name. A head that it lacks is made new.

    Raises:
        UserError: If the checkpoint cannot be read, does not fit its configuration or lacks weights of its
            blocks, or if the task of the teacher is not one that students can be loaded for.
    """
    refuse_missing_folder(path, "student checkpoint")
    name = type(teacher).__name__
    task = next((end for end in _AUTO_CLASSES if name.endswith(end)), None)
    if task is None:
        raise UserError(f"teacher {name}: no student can be loaded for its task; use a class of {list(_AUTO_CLASSES)}")
    labels = ("id2label", "label2id") if task.endswith("Classification") else ()
    try:
        student, report = _AUTO_CLASSES[task].from_pretrained(
            path,
            dtype=torch.float32,
            output_loading_info=True,
            **{key: getattr(teacher.config, key) for key in labels},
        )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise UserError(
            f"student checkpoint {path}: cannot be loaded ({one_line(error)}); give a folder written by "
            "save_pretrained, or a model name"
        ) from error
    lost = sorted(key for key in report["missing_keys"] if key.startswith(f"{blocks_path(student)}."))
    if lost:
        raise UserError(
            f"student checkpoint {path}: lacks {len(lost)} weights of its blocks, e.g. `{lost[0]}`; "
            "give a complete checkpoint"
        )
    return cast(PreTrainedModel, student.to(teacher.device).train())


def _build(teacher: PreTrainedModel, config: PreTrainedConfig) -> PreTrainedModel:
    """Make a model of the teacher's class with random weights."""
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.promote_types(teacher.dtype, torch.float32))
    try:
        student = type(teacher)(config)
    finally:
        torch.set_default_dtype(default)
    if teacher.can_generate():
        student.generation_config = copy.deepcopy(teacher.generation_config)
    student.to(teacher.device)  # pyright: ignore[reportArgumentType]
    return student


def _copy_weights(teacher: PreTrainedModel, student: PreTrainedModel, layers: Sequence[int]) -> None:
    """Copy block layers[i] of the teacher to block i of the student, and all that is not a block as it is."""
    prefix = f"{blocks_path(teacher)}."
    weights: dict[str, torch.Tensor] = {}
    for key, value in teacher.state_dict().items():
        if not key.startswith(prefix):
            weights[key] = value
            continue
        layer, _, rest = key.removeprefix(prefix).partition(".")
        for i, chosen in enumerate(layers):
            if chosen == int(layer):
                weights[f"{prefix}{i}.{rest}"] = value
    unfit = sorted(weights.keys() ^ student.state_dict().keys())
    if unfit:
        raise UserError(
            f"student layers {list(layers)}: the blocks of {type(teacher).__name__} differ, and one does "
            f"not fit its new place (`{unfit[0]}`); keep block 0 of the teacher as block 0, and only there"
        )
    student.load_state_dict(weights)

"""Where a student comes from: layers of its teacher, a changed configuration, or a checkpoint.

A student shares no memory with its teacher, and is on the teacher's device in training mode. Its weights are of at
least float32, since they are to be trained. Random weights come from torch's global generator: seed it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
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

from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.distillation.copied_blocks import PER_LAYER, config_of_layers, copy_weights, refuse_other_kinds
from iit_toolkit.errors import UserError, did_you_mean, one_line, shown
from iit_toolkit.interchange.answers import class_elsewhere, class_names
from iit_toolkit.models.loading import load_config, load_model, make_plain, tell_once
from iit_toolkit.models.task import refuse_other_classifier, require_model, task_of_classes

_BUILD_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    RuntimeError,
    ZeroDivisionError,
    StrictDataclassError,
)
"""What transformers raises for a configuration that makes no model."""

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


def student(teacher: PreTrainedModel, layers: int | Sequence[int] | None = None) -> PreTrainedModel:
    """Make a student of the teacher's class from some of the teacher's blocks.

    Args:
        teacher: The teacher.
        layers: How many blocks the student has, chosen by `default_layers`, or which of the teacher's it starts from;
            half as many as the teacher if absent.

    Raises:
        UserError: If the teacher is no model, or as for `student_from_teacher`.
    """
    require_model(teacher, "the teacher")
    refuse_unknown_size(teacher, f"teacher {type(teacher).__name__}")
    whole = isinstance(layers, int) and not isinstance(layers, bool)
    numbers = isinstance(layers, Sequence) and all(type(layer) is int for layer in layers)
    if not (layers is None or whole or numbers):
        raise UserError(f"layers {shown(layers)}: give how many, such as 3, or the teacher's own, such as [0, 2, 4]")
    depth = int(teacher.config.num_hidden_layers)
    if layers is None or isinstance(layers, int):
        return student_from_teacher(teacher, default_layers(depth, max(1, depth // 2) if layers is None else layers))
    return student_from_teacher(teacher, layers)


def student_from_teacher(teacher: PreTrainedModel, layers: Sequence[int]) -> PreTrainedModel:
    """Make a student of the teacher's class from copies of some of its blocks and of all that is not a block.

    Args:
        teacher: Any model whose blocks `iit_toolkit.alignment.architectures` finds.
        layers: The teacher's block that each block of the student is copied from, lowest first.

    Raises:
        UserError: If a layer is out of range, or a block does not fit where it is to go or would compute differently
            there. The first block of a ModernBERT, e.g., has no attention norm, so no other block can take its place.
    """
    refuse_unknown_size(teacher, f"teacher {type(teacher).__name__}")
    depth = int(teacher.config.num_hidden_layers)
    wrong = next((layer for layer in layers if not 0 <= layer < depth), None)
    if wrong is not None or not layers:
        raise UserError(
            f"student layers {list(layers)}: {type(teacher).__name__} has layers 0 to {depth - 1}; "
            "name these alone, at least one"
        )
    try:
        blocks(teacher)
    except UserError as error:
        raise UserError(f"no student can be made of the teacher's layers ({error}); give student.config") from None
    try:
        config = config_of_layers(teacher.config, layers)
        with torch.random.fork_rng(devices=[]):  # the weights it draws are all overwritten
            student = _build(teacher, config)
    except _BUILD_ERRORS as error:
        raise UserError(
            f"student layers {list(layers)}: {type(teacher).__name__} cannot be built of these ({one_line(error)}); "
            "choose other layers, or give student.config"
        ) from error
    student.to(teacher.device)  # pyright: ignore[reportArgumentType]
    copy_weights(teacher, student, layers)
    refuse_other_kinds(teacher, student, layers)
    return student


def refuse_unknown_size(model: PreTrainedModel, what: str) -> None:
    """Refuse a model whose configuration does not say how deep and wide it is.

    Raises:
        UserError: If it does not.
    """
    for entry in ("num_hidden_layers", "hidden_size"):
        if not isinstance(getattr(model.config, entry, None), int):
            raise UserError(
                f"{what}: its configuration has no {entry}, as that of a model made of several; give a model of one "
                "stack of blocks, such as the text model alone"
            )


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
        if key == "model_type":
            raise UserError(
                f"student configuration: model_type is the teacher's, {old.model_type}; leave it out, or give a model "
                "of another kind as student.checkpoint"
            )
        if key not in known:
            hint = did_you_mean(key, known, otherwise=f"see the entries of {type(old).__name__}")
            raise UserError(f'student configuration: {type(old).__name__} has no entry "{key}", {hint}')
    changed = {old.attribute_map.get(key, key): value for key, value in overrides.items()}
    depth = old.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    if depth in changed:  # the configuration class lays out the new depth by its own rule
        entries = {key: value for key, value in entries.items() if key not in PER_LAYER}
    try:
        student = _build(teacher, type(old).from_dict({**entries, **changed}))
    except _BUILD_ERRORS as error:
        raise UserError(
            f"student configuration {dict(overrides)}: {type(teacher).__name__} cannot be built from it "
            f"({one_line(error) or type(error).__name__}); correct the entries"
        ) from error
    student.to(teacher.device)  # pyright: ignore[reportArgumentType]
    return student


def student_from_checkpoint(teacher: PreTrainedModel, path: str | Path, *, new_head: bool = False) -> PreTrainedModel:
    """Load a student, of any architecture, for the teacher's task.

    Args:
        teacher: Gives the task (by its class), the labels and the device.
        path: A folder written by `save_pretrained`, or a model name.
        new_head: Give a checkpoint without a head for the task a random one, which is then to be trained.

    Raises:
        UserError: If the checkpoint cannot be read, does not fit its configuration, or lacks weights (those of a head
            aside, if a new one is wanted). If it names the classes differently from the teacher, or if students cannot
            be loaded for the teacher's task.
    """
    name = type(teacher).__name__
    task = next((end for end in _AUTO_CLASSES if name.endswith(end)), None)
    if task is None:
        raise UserError(f"teacher {name}: no student can be loaded for its task; use a class of {list(_AUTO_CLASSES)}")
    labels = ("id2label", "label2id") if task.endswith("Classification") else ()
    what = "student checkpoint"
    own = load_config(path, what)
    asked = task_of_classes({name})
    if asked is not None and not new_head:
        refuse_other_classifier(own, asked, f"{what} {path}")
    entries = {key: getattr(teacher.config, key) for key in labels}
    classes = (own.num_labels, teacher.config.num_labels)
    others = bool(labels) and classes[0] != classes[1]
    found = load_model(_AUTO_CLASSES[task], path, what, resize=others, **entries)
    if found.resized:
        raise UserError(
            f"{what} {path}: it has {classes[0]} classes, the teacher {classes[1]} (`{found.resized[0]}` does not "
            "fit); give a student for the teacher's classes"
        )
    student, missing = found.model, found.missing
    found.refuse_lacking(f"{what} {path}", f"the task of the teacher, {name}", new_head=new_head)
    if missing:
        tell_once(f"{what} {path}: {len(missing)} weights of its head are new and random, e.g. {missing[0]}")
    found.tell_unused(f"{what} {path}")
    if labels and not missing:
        _refuse_other_classes(teacher.config, own, path)
    return student.to(teacher.device).train()  # pyright: ignore[reportArgumentType]


def _refuse_other_classes(teacher: PreTrainedConfig, student: PreTrainedConfig, path: str | Path) -> None:
    """Refuse a head that numbers a class differently from the teacher's."""
    other = class_elsewhere(class_names(teacher), class_names(student))
    if other is not None:
        name, expected, found = other
        raise UserError(
            f"student checkpoint {path}: class {name} is number {found}, the teacher's {expected}; give a student with "
            "the teacher's classes, or correct id2label in the config.json that is wrong"
        )


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
    make_plain(student.config)
    return student

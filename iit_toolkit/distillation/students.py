"""Where a student comes from: layers of its teacher, a changed configuration, or a checkpoint.

A student shares no memory with its teacher, and is on the teacher's device in training mode. Its weights are of at
least float32, since they are to be trained. Random weights come from torch's global generator: seed it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

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

from iit_toolkit.alignment.architectures import blocks, blocks_path
from iit_toolkit.errors import UserError, did_you_mean, one_line, shown
from iit_toolkit.interchange.answers import class_elsewhere, class_names
from iit_toolkit.models.loading import load_config, load_model, make_plain, tell_once
from iit_toolkit.models.task import refuse_other_classifier, task_of_classes

_PER_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers")
"""Configuration entries that hold one value per block, which a configuration class can lay out anew."""

_OTHER_LISTS = re.compile("token|^(image|patch)_size$|^out_(indices|features)$")
"""Configuration entries that hold a list, but never one value per block."""

_PLACES = ("full_attn_idxs", "attn_layer_indices", "hybrid_layer_ids", "mlp_only_layers", "global_attn_layers")
"""Configuration entries that hold the numbers of some blocks."""

_LOWEST = ("first_k_dense_replace", "num_dense_layers", "max_window_layers")
_HIGHEST = ("num_kv_shared_layers",)
"""Configuration entries that say for how many of the lowest, or highest, blocks something holds."""

_STATES = re.compile("^_|cache|^(training|gradient_checkpointing|p|drop_prob|attention_type)$")
"""Attributes of modules that are not part of what they compute: modes (BigBird's by length), and rates of dropout."""

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
        UserError: As for `student_from_teacher`.
    """
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
        config = _config_of_layers(teacher.config, layers)
        with torch.random.fork_rng(devices=[]):  # the weights it draws are all overwritten
            student = _build(teacher, config)
    except _BUILD_ERRORS as error:
        raise UserError(
            f"student layers {list(layers)}: {type(teacher).__name__} cannot be built of these ({one_line(error)}); "
            "choose other layers, or give student.config"
        ) from error
    student.to(teacher.device)  # pyright: ignore[reportArgumentType]
    _copy_weights(teacher, student, layers)
    _refuse_other_kinds(teacher, student, layers)
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
        entries = {key: value for key, value in entries.items() if key not in _PER_LAYER}
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


def _config_of_layers(old: PreTrainedConfig, layers: Sequence[int]) -> PreTrainedConfig:
    """Make the configuration of a student of some blocks: what it says about a block goes with the block.

    Raises:
        ValueError: If it would not say the same when read again from its file.
    """
    config, depth = copy.deepcopy(old), int(old.num_hidden_layers)
    config.num_hidden_layers = len(layers)
    moved: list[str] = []
    for name, entries in vars(old).items():
        per_layer = name in _PER_LAYER or (depth > 1 and not _OTHER_LISTS.search(name))
        if isinstance(entries, list | tuple) and len(cast(Sequence[Any], entries)) == depth and per_layer:
            setattr(config, name, type(entries)(entries[layer] for layer in layers))
            moved.append(name)
    for name in _PLACES:
        if isinstance(getattr(old, name, None), list | tuple):
            setattr(config, name, [place for place, layer in enumerate(layers) if layer in getattr(old, name)])
    for name, low in [(name, True) for name in _LOWEST] + [(name, False) for name in _HIGHEST]:
        entry = getattr(old, name, None)
        if type(entry) is int and 0 < entry < depth:
            setattr(config, name, sum((layer < entry) if low else (layer >= depth - entry) for layer in layers))
    if config.model_type == "jamba":  # writes a period and where in it such a block is
        _write_period(config, "attn", [kind == "attention" for kind in _chosen(old.layers_block_type, layers)])
        _write_period(config, "expert", [number > 1 for number in _chosen(old.layers_num_experts, layers)])
    if config.model_type == "gpt_neo":  # writes its kinds of blocks as runs
        config.attention_types = [[[kind], 1] for kind in config.attention_layers]
    if config.model_type == "recurrent_gemma":  # writes one period of them
        config.block_types = [old.block_types[layer % len(old.block_types)] for layer in layers]
    again = type(config).from_dict(config.to_dict())
    for name in ("num_hidden_layers", *moved):
        if _plain(getattr(again, name)) != _plain(getattr(config, name)):
            raise ValueError(f"{name} {getattr(config, name)} would be read as {getattr(again, name)}")
    return config


def _chosen(entries: Sequence[Any], layers: Sequence[int]) -> list[Any]:
    return [entries[layer] for layer in layers]


def _write_period(config: PreTrainedConfig, kind: str, wanted: list[bool]) -> None:
    """Write which blocks are of a kind as a period and an offset.

    Raises:
        ValueError: If the kinds have no period.
    """
    for period in range(1, len(wanted) + 2):
        for offset in range(period):
            if [place % period == offset for place in range(len(wanted))] == wanted:
                setattr(config, f"{kind}_layer_period", period)
                setattr(config, f"{kind}_layer_offset", offset)
                return
    raise ValueError(f"{kind}_layer_period cannot say that of these blocks {wanted}")


def _plain(entry: Any) -> Any:
    return list(cast(Sequence[Any], entry)) if isinstance(entry, tuple) else entry


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
    own = student.state_dict()
    for key, value in weights.items():
        if key in own and value.shape != own[key].shape:
            weights[key] = _parts_of_layers(value, own[key].shape, int(teacher.config.num_hidden_layers), layers)
    unfit = sorted(weights.keys() ^ own.keys())
    if unfit:
        raise UserError(
            f"student layers {list(layers)}: the blocks of {type(teacher).__name__} differ, and one does "
            f"not fit its new place (`{unfit[0]}`); give each place a block of its own kind: keep block 0 as block 0"
        )
    resized = [key for key, value in weights.items() if value.shape != own[key].shape]
    if resized:
        raise UserError(
            f"student layers {list(layers)}: {type(teacher).__name__} of {len(layers)} layers has `{resized[0]}` in "
            "another size, so it cannot be copied; keep all layers, or give student.config"
        )
    student.load_state_dict(weights)
    copied = student.state_dict()
    changed = [key for key, value in weights.items() if not torch.equal(copied[key], value.to(copied[key].dtype))]
    if changed:  # the student has one tensor where the teacher has several
        raise UserError(
            f"student layers {list(layers)}: `{changed[0]}` of {type(teacher).__name__} is a weight of its own, but "
            "its config.json shares it with another one; set tie_word_embeddings to false there if it is the head"
        )


def _parts_of_layers(weight: torch.Tensor, shape: torch.Size, depth: int, layers: Sequence[int]) -> torch.Tensor:
    """Take the parts of some blocks out of a weight that holds one part per block, in order.

    Examples are the embeddings of Gemma's blocks and the contact head of ESM. Any other weight is returned as it is.
    """
    differ = [axis for axis, sizes in enumerate(zip(weight.shape, shape, strict=False)) if sizes[0] != sizes[1]]
    if weight.dim() != len(shape) or len(differ) != 1:
        return weight
    (axis,) = differ
    if weight.shape[axis] % depth or weight.shape[axis] // depth * len(layers) != shape[axis]:
        return weight
    parts = weight.chunk(depth, axis)
    return torch.cat([parts[layer] for layer in layers], axis)


def _refuse_other_kinds(teacher: PreTrainedModel, student: PreTrainedModel, layers: Sequence[int]) -> None:
    """Refuse a student with a block whose settings, such as window or scale, differ from those of its original.

    Some models decide them by the block's place.
    """
    for i, (layer, block) in enumerate(zip(layers, blocks(student), strict=True)):
        copied = dict(block.named_modules())
        for path, module in blocks(teacher)[layer].named_modules():
            before, after = _settings(module), _settings(copied.get(path, module))
            for name in before.keys() & after.keys():
                is_place = type(before[name]) is int and (
                    (before[name], after[name]) == (layer, i)
                    or ("layer_ind" in name and (before[name], after[name]) in zip(layers, range(i), strict=False))
                )
                if before[name] != after[name] and not is_place:
                    where = f"{path}.{name}".lstrip(".")
                    first = list(range(len(layers)))
                    raise UserError(
                        f"student layers {list(layers)}: block {layer} of {type(teacher).__name__} would not compute "
                        f"the same as block {i} (`{where}` {before[name]} becomes {after[name]}); "
                        + ("give student.config" if list(layers) == first else f"keep layers {first}, or all")
                    )


def _settings(module: torch.nn.Module) -> dict[str, Any]:
    """Return what is set on a module, as far as it can be compared."""
    return {
        name: value
        for name, value in vars(module).items()
        if (value is None or isinstance(value, int | float | str)) and not _STATES.search(name)
    }

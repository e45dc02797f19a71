"""A student of some of its teacher's blocks: its configuration, and its weights.

What a configuration says of single blocks goes with the block, and so does what a weight holds of it.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from iit_toolkit.alignment.architectures import blocks, blocks_path
from iit_toolkit.errors import UserError

PER_LAYER = ("layer_types", "mlp_layer_types", "no_rope_layers")
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


def config_of_layers(old: PreTrainedConfig, layers: Sequence[int]) -> PreTrainedConfig:
    """Make the configuration of a student of some blocks: what it says about a block goes with the block.

    Args:
        old: The teacher's.
        layers: The teacher's block that each block of the student is copied from, lowest first.

    Raises:
        ValueError: If it would not say the same when read again from its file.
    """
    config, depth = copy.deepcopy(old), int(old.num_hidden_layers)
    config.num_hidden_layers = len(layers)
    moved: list[str] = []
    for name, entries in vars(old).items():
        per_layer = name in PER_LAYER or (depth > 1 and not _OTHER_LISTS.search(name))
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


def copy_weights(teacher: PreTrainedModel, student: PreTrainedModel, layers: Sequence[int]) -> None:
    """Copy block layers[i] of the teacher to block i of the student, and all that is not a block as it is.

    Raises:
        UserError: If a weight does not fit its new place.
    """
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


def refuse_other_kinds(teacher: PreTrainedModel, student: PreTrainedModel, layers: Sequence[int]) -> None:
    """Refuse a student with a block whose settings, such as window or scale, differ from those of its original.

    Some models decide them by the block's place.

    Raises:
        UserError: If the student has such a block.
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

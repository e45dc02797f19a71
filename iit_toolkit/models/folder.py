"""Checks, before a model is loaded, whether its folder holds one, and whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from iit_toolkit.errors import UserError, did_you_mean, one_line

MERGE = "merge it into its base model (merge_and_unload of peft) and save that with save_pretrained"
ADAPTER = f"it is an adapter (adapter_config.json), not a model; {MERGE}"
REMOTE = "its code is in the checkpoint (auto_map) and is not run; give a model of a class that transformers has"
_WEIGHTS = ("*.safetensors", "pytorch_model*.bin")
_OTHER_WEIGHTS = {
    "*.gguf": "GGUF",
    "*.onnx": "ONNX",
    "flax_model*.msgpack": "Flax",
    "tf_model*.h5": "TensorFlow",
    "*.ckpt*": "TensorFlow 1",
    "*.pth": "a torch program",
}
_LARGEST_CONFIG = 20_000_000
_LOADED = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Of these, transformers loads the first that is there."""


def refuse_no_model(folder: Path, what: str, remedy: str) -> None:
    """Refuse a folder that holds no model, and say what it holds instead.

    Args:
        folder: The folder.
        what: What messages call the model.
        remedy: The end of messages that know no better remedy.

    Raises:
        UserError: If it holds none, or not all of its files.
    """
    where, names = f"{what} {folder}", {path.name for path in folder.iterdir()}
    if "adapter_config.json" in names:
        raise UserError(f"{where}: {ADAPTER}")
    others = [kind for pattern, kind in _OTHER_WEIGHTS.items() if any(folder.glob(pattern))]
    if "config.json" not in names:
        within = sorted(folder.glob("*/config.json"))
        if within:
            raise UserError(f"{where}: holds no model itself; give {within[0].parent}, or another in it")
        holds = "is empty" if not names else f"has no config.json{f', only weights of {others[0]}' if others else ''}"
        raise UserError(f"{where}: the folder {holds}; {remedy}")
    _refuse_config(folder / "config.json", where)
    if not any(any(folder.glob(pattern)) for pattern in _WEIGHTS):
        holds = f"only weights of {others[0]}" if others else "no weights"
        raise UserError(f"{where}: the folder holds {holds}; give one with model.safetensors, as of save_pretrained")
    used = next((name for name in _LOADED if name in names), "")
    if used.endswith(".index.json"):
        _refuse_missing_shards(folder / used, where)
    if used.endswith(".bin"):
        _refuse_other_format(folder / used, where)


def _refuse_config(path: Path, where: str) -> None:
    entries = _read_json(path, where)
    kind = entries.get("model_type")
    known = list[str](CONFIG_MAPPING)  # those that a program has registered, too
    if kind in known:
        return
    if "auto_map" in entries:
        raise UserError(f"{where}: {REMOTE}")
    if kind is not None:
        hint = did_you_mean(str(kind)[:50], known, otherwise="give a model of a class that it has")
        raise UserError(
            f"{where}: model_type {str(kind)[:50]!r} in config.json is unknown to transformers "
            f"{transformers.__version__}; {hint}"
        )


def _read_json(path: Path, where: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LARGEST_CONFIG:
            raise UserError(
                f"{where}: {path.name} has over {_LARGEST_CONFIG // 1_000_000} MB, so it is none of a model"
            )
        entries: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        said = one_line(error)[:120]
        raise UserError(f"{where}: {path.name} cannot be read as JSON ({said}); fetch it again") from None
    if not isinstance(entries, dict):
        raise UserError(f"{where}: {path.name} is no mapping; give the one that save_pretrained wrote")
    return cast(dict[str, Any], entries)


def _refuse_other_format(path: Path, where: str) -> None:
    """Refuse safetensors in a file that is named like those of torch."""
    with path.open("rb") as file:
        head = file.read(9)
    if len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size:
        raise UserError(f"{where}: {path.name} holds safetensors; rename it to model.safetensors")


def _refuse_missing_shards(index: Path, where: str) -> None:
    files = _read_json(index, where).get("weight_map")
    if not isinstance(files, dict):
        raise UserError(f"{where}: {index.name} has no weight_map; fetch it again")
    names = {str(name) for name in cast(dict[str, Any], files).values()}
    absent = sorted(name for name in names if not (index.parent / name).is_file())
    if absent:
        raise UserError(
            f"{where}: {len(absent)} of the {len(names)} files of weights in {index.name} are missing, e.g. "
            f"{absent[0]}; fetch them"
        )

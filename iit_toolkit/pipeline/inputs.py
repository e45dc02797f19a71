"""What a run began with, recorded in its folder and compared when it is resumed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pyarrow as pa
import yaml
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from iit_toolkit.config.differences import different, flat
from iit_toolkit.config.loading import AnyRunConfig, load_config
from iit_toolkit.config.yaml_files import read_yaml
from iit_toolkit.distillation.checkpoints import refuse_other_inputs
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.runs.folder import RunFolder, write_atomically
from iit_toolkit.runs.provenance import fingerprint_of_json, fingerprint_of_weights

TEACHER_WEIGHTS = "teacher weights"
_EVALUATION = "evaluation rows "
_ROWS_AT_A_TIME = 10_000
_NOT_THE_MODEL = ("_name_or_path", "transformers_version")


def inputs_of(prepared: Prepared, *, evaluation: bool = True) -> dict[str, str]:
    """Return a fingerprint of each thing that a run's students and numbers rest on.

    Args:
        prepared: What the config names.
        evaluation: Whether the further held-out data are among them.
    """
    teacher, student = prepared.teacher, prepared.config.student
    found = {
        TEACHER_WEIGHTS: fingerprint_of_weights(teacher.state_dict()),
        "teacher config": fingerprint_of_json(_settings(teacher)),
        "tokenizer": fingerprint_of_json(_vocabulary(prepared.tokenizer)),
        "training rows": fingerprint_of_table(prepared.train_rows),
        "held-out rows": fingerprint_of_table(prepared.eval_rows),
    }
    found |= {f"mixed rows {name}": fingerprint_of_table(rows) for name, rows in prepared.mixed_rows.items()}
    if student.checkpoint is not None:
        initial = prepared.new_student()
        found["student checkpoint"] = fingerprint_of_json(
            [fingerprint_of_weights(initial.state_dict()), _settings(initial)]
        )
    if evaluation:
        for name in prepared.config.evaluation:
            found[f"{_EVALUATION}{name}"] = fingerprint_of_table(prepared.evaluation_rows[name])
    return found


def training_inputs(inputs: Mapping[str, str]) -> dict[str, str]:
    """Return those of `inputs_of` that trainings read, or students are verified with."""
    return {name: one for name, one in inputs.items() if not name.startswith(_EVALUATION)}


def fingerprint_of_table(rows: Dataset) -> str:
    """Identify rows by all of their columns: SHA-256 over names, types and values, in order."""
    digest = hashlib.sha256()
    for name in sorted(rows.column_names):
        digest.update(f"{name}\0".encode())
        column = rows.select_columns([name]).with_format("arrow")
        for start in range(0, len(rows), _ROWS_AT_A_TIME):
            table = cast(pa.Table, column[start : start + _ROWS_AT_A_TIME])
            _add(digest, table.column(0).combine_chunks())
    return f"sha256:{digest.hexdigest()}"


def _add(digest: Any, values: Any) -> None:
    """Add a column to a digest: the lengths of its lists, then what they hold."""
    array = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    kind = array.type
    digest.update(f"{kind}\0{len(array)}\0".encode())
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if array.null_count:  # a null is not an empty list
            digest.update(b"null\0" + np.packbits(array.is_null().to_numpy(zero_copy_only=False)).tobytes())
        digest.update(np.diff(array.offsets.to_numpy()).astype(np.int64).tobytes())
        _add(digest, array.flatten())
    elif (pa.types.is_integer(kind) or pa.types.is_floating(kind)) and array.null_count == 0:
        digest.update(np.ascontiguousarray(array.to_numpy(zero_copy_only=False)).tobytes())
    else:
        digest.update(json.dumps(array.to_pylist(), default=str).encode())


def refuse_other_config(folder: RunFolder, config: AnyRunConfig) -> None:
    """Check that the run in a folder is of this config, which is to be resumed.

    Raises:
        UserError: Naming what differs.
    """
    differ = different(*(flat(one.model_dump(mode="json")) for one in (load_config(folder.config), config)))
    if differ:
        raise UserError(
            f"{folder.config} is not the config that is to be resumed: {differ}; give that one, or another --output "
            "for a new run"
        )


def begin_inputs(folder: RunFolder, inputs: dict[str, str]) -> None:
    """Record what a run begins with; what an earlier call recorded about other data stays."""
    document = {"fingerprints": {**(recorded_inputs(folder) or {}), **inputs}}
    write_atomically(folder.inputs, yaml.safe_dump(document, sort_keys=False))


def refuse_changed_inputs(folder: RunFolder, inputs: dict[str, str]) -> None:
    """Refuse to resume a run with another teacher, tokenizer or data than it began with.

    Args:
        folder: The run folder.
        inputs: What `inputs_of` gives now.

    Raises:
        UserError: If something changed.
    """
    recorded = recorded_inputs(folder)
    if recorded is not None:
        added = [name for name in inputs if name.startswith(_EVALUATION) and name not in recorded]
        refuse_other_inputs(folder.path, recorded, {name: inputs[name] for name in inputs if name not in added})


def recorded_inputs(folder: RunFolder) -> dict[str, str] | None:
    """Return what a run began with, if it is recorded.

    Raises:
        UserError: If the record is damaged.
    """
    if not folder.inputs.is_file():
        return None
    document: Any = read_yaml(folder.inputs)
    try:
        return {str(name): str(one) for name, one in document["fingerprints"].items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(f"{folder.inputs} is damaged: restore it, or begin a new run with another --output") from None


def _settings(model: PreTrainedModel) -> dict[str, Any]:
    settings = json.loads(model.config.to_json_string(use_diff=False))
    return {name: settings[name] for name in sorted(settings) if name not in _NOT_THE_MODEL}


def _vocabulary(tokenizer: PreTrainedTokenizerBase) -> list[Any]:
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return [sorted(tokenizer.get_vocab().items()), sorted(special.items())]

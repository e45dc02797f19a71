"""Loads models: every room loads them here, so that what cannot be loaded is told alike, in one line."""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import re
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.utils.peft_utils import find_adapter_config_file

from iit_toolkit.errors import UserError, did_you_mean, one_line
from iit_toolkit.finite import refuse_non_finite_weights
from iit_toolkit.paths import refuse_missing_folder

_LOG = logging.getLogger(__name__)
REMEDY = "give a folder written by save_pretrained, or a Hub id"
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
_DEEPEST = 10_000
_PLAIN = {"return_dict": True, "output_hidden_states": False, "_output_attentions": False}
"""What configurations must say for models to return logits by name, and nothing that nobody reads."""


@dataclass(frozen=True)
class Loaded:
    """A model with what its checkpoint lacks or has beside.

    Attributes:
        model: The model, in float32, in eval mode, in memory of its own.
        missing: Weights that the checkpoint lacks; they are random.
        resized: Weights that the checkpoint has in another shape; they are random, too.
        unused: Weights of the checkpoint that the model does not have.
    """

    model: PreTrainedModel
    missing: list[str]
    resized: list[str]
    unused: list[str]

    def tell_unused(self, what: str) -> None:
        """Tell in one line of weights that are not used."""
        if self.unused:
            kind = type(self.model).__name__
            tell_once(
                f"{what}: {len(self.unused)} weights of the checkpoint are not used by {kind}, e.g. {self.unused[0]}"
            )


@functools.cache
def tell_once(line: str) -> None:
    """Warn, but not of the same again: a run loads a model several times."""
    _LOG.warning(line)


def load_config(path: str | Path, what: str, remedy: str = REMEDY) -> PreTrainedConfig:
    """Load a model's configuration.

    Args:
        path: Folder or Hub id.
        what: What messages call the model.
        remedy: The end of messages that know no better.

    Raises:
        UserError: If there is none that transformers knows, or it belongs to an adapter.
    """
    refuse_missing_folder(path, what)
    if Path(path).is_dir():
        _refuse_folder(Path(path), what, remedy)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # whatever a config.json of any content makes transformers raise
        raise UserError(f"{what} {path}: {_reason(error, path, remedy)}") from None
    depth = getattr(config, "num_hidden_layers", 0)
    if isinstance(depth, int) and depth > _DEEPEST:
        raise UserError(f"{what} {path}: config.json gives it {depth:,} layers; correct num_hidden_layers")
    return config


def load_model(
    auto_class: Any, path: str | Path, what: str, *, remedy: str = REMEDY, resize: bool = False, **settings: Any
) -> Loaded:
    """Load a model in float32, in memory of its own: what happens to its files later does not reach it.

    No code of the checkpoint is run, and its outputs are plain whatever its configuration asks for.

    Args:
        auto_class: The class of transformers that loads it.
        path: Folder or Hub id.
        what: What messages call the model.
        remedy: The end of messages that know no better.
        resize: Give weights that the checkpoint has in another shape random values.
        **settings: Entries of its configuration.

    Raises:
        UserError: If it cannot be loaded, its configuration cuts it, or a weight is not finite.
    """
    config = load_config(path, what, remedy)
    try:
        with _without_table():
            loaded: Any = auto_class.from_pretrained(
                path,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=False,
                **settings,
            )
    except Exception as error:  # whatever files of any content make transformers raise
        if "Unrecognized configuration class" in str(error):
            raise UserError(
                f"{what} {path}: there is no {auto_class.__name__} of its kind; give a model for that task, or set "
                "task to what it was trained for"
            ) from None
        raise UserError(f"{what} {path}: {_reason(error, path, remedy, config)}") from None
    model, report = cast(tuple[PreTrainedModel, Mapping[str, Any]], loaded)
    if getattr(model, "peft_config", None):
        raise UserError(f"{what} {path}: {_ADAPTER}")
    quantised = getattr(model.config, "quantization_config", None)
    if quantised is not None and getattr(model, "hf_quantizer", None) is None:  # read as if they were plain weights
        raise UserError(
            f"{what} {path}: it was saved quantised by {_method(quantised)}, which transformers does not know; give "
            "the model unquantised"
        )
    resized = sorted(report["mismatched_keys"])
    if resized and not resize:
        name, theirs, ours = resized[0]
        raise UserError(
            f"{what} {path}: {len(resized)} weights do not fit config.json, e.g. {name} has shape {list(theirs)}, not "
            f"{list(ours)}; give the config.json that was saved with them"
        )
    _refuse_cut(model, report["unexpected_keys"], f"{what} {path}")
    _own_memory(model)
    _say_untied(model)
    make_plain(model.config)
    refuse_non_finite_weights(model, f"{what} {path}", "give a checkpoint whose weights are finite")
    missing, unused = (sorted(report[key]) for key in ("missing_keys", "unexpected_keys"))
    return Loaded(model.eval(), missing, [name for name, *_ in resized], unused)


def make_plain(config: PreTrainedConfig) -> None:
    """Make a model return logits by name and no attentions or hidden states; with these, some cannot be saved."""
    for one in _with_parts(config):
        vars(one).update({name: value for name, value in _PLAIN.items() if name in vars(one)})


@contextlib.contextmanager
def plain_outputs(model: PreTrainedModel) -> Generator[None, None, None]:
    """Make a model's next runs return what `make_plain` says, and leave its configuration as it was."""
    before = [
        (one, {name: vars(one)[name] for name in _PLAIN if name in vars(one)}) for one in _with_parts(model.config)
    ]
    make_plain(model.config)
    try:
        yield
    finally:
        for one, entries in before:
            vars(one).update(entries)


def refuse_other_problem(config: PreTrainedConfig, what: str) -> None:
    """Refuse a classifier whose answer is not one class of several.

    Raises:
        UserError: If it gives several labels at once, or a number.
    """
    problem = getattr(config, "problem_type", None)
    if problem not in (None, "single_label_classification"):
        raise UserError(
            f"{what}: problem_type in its config.json is {problem}, but sequence_classification compares single "
            "labels; give a classifier of single labels"
        )
    if (config.num_labels or 0) < 2:
        raise UserError(
            f"{what}: it has {config.num_labels} label, so it gives a number or nothing; give a classifier of several"
        )


_ADAPTER = (
    "it is an adapter (adapter_config.json), not a model; merge it into its base model (merge_and_unload of peft) and "
    "save that with save_pretrained"
)
_REMOTE = "its code is in the checkpoint (auto_map) and is not run; give a model of a class that transformers has"


def _with_parts(config: PreTrainedConfig) -> Iterator[PreTrainedConfig]:
    yield config
    for name in config.sub_configs:
        part = getattr(config, name, None)
        if isinstance(part, PreTrainedConfig):
            yield from _with_parts(part)


def _own_memory(model: PreTrainedModel) -> None:
    """Copy what is mapped from files, which may be cut or replaced while the model is in use."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.clone()


def _say_untied(model: PreTrainedModel) -> None:
    """Make a configuration say so where the checkpoint's head is another weight than the embeddings.

    transformers ties by the configuration and unties by the checkpoint, so a model built anew of the configuration
    would have one of the two for both.
    """
    embeddings, head = (one() for one in (model.get_input_embeddings, model.get_output_embeddings))
    weights: list[Any] = [getattr(one, "weight", None) for one in (embeddings, head)]
    if head is None or any(weight is None for weight in weights) or weights[0] is weights[1]:
        return
    for one in _with_parts(model.config):
        if getattr(one, "tie_word_embeddings", False):
            one.tie_word_embeddings = False


@contextlib.contextmanager
def _without_table() -> Generator[None, None, None]:
    """Silence transformers, which prints a table of keys: what is in it is looked at here."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)


def _refuse_folder(folder: Path, what: str, remedy: str) -> None:
    """Refuse a folder that holds no model, with what it holds instead."""
    where, names = f"{what} {folder}", {path.name for path in folder.iterdir()}
    if "adapter_config.json" in names:
        raise UserError(f"{where}: {_ADAPTER}")
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
    for index in folder.glob("*.index.json"):
        _refuse_missing_shards(index, where)


def _refuse_config(path: Path, where: str) -> None:
    entries = _read_json(path, where)
    kind = entries.get("model_type")
    known = list[str](CONFIG_MAPPING)  # those that a program has registered, too
    if kind in known:
        return
    if "auto_map" in entries:
        raise UserError(f"{where}: {_REMOTE}")
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


def _refuse_cut(model: PreTrainedModel, unexpected: set[str], where: str) -> None:
    """Refuse a model of which the configuration leaves out blocks that the checkpoint has."""
    lists = {re.sub(r"\.\d+\..*", ".", name) for name in model.state_dict() if re.search(r"\.\d+\.", name)}
    for name in sorted(unexpected):
        if re.search(r"\.\d+\.", name) and re.sub(r"\.\d+\..*", ".", name) in lists:
            raise UserError(
                f"{where}: config.json has fewer layers than the weights ({len(unexpected)} weights would be ignored, "
                f"e.g. {name}); correct its number of layers, or save the cut model with save_pretrained"
            )


def _reason(error: Exception, path: str | Path, remedy: str, config: PreTrainedConfig | None = None) -> str:
    """Say why a model was not loaded, and what to do."""
    text, said = str(error), one_line(error)[:140] or type(error).__name__
    quantised = getattr(config, "quantization_config", None)
    if quantised is not None:
        remedy = "install that library, or give" if isinstance(error, ImportError) else "give"
        how = f"it was saved quantised by {_method(quantised)}"
        return f"{how}, and cannot be loaded ({said}); {remedy} the model unquantised"
    if "trust_remote_code" in text or "custom code" in text:
        return _REMOTE
    if "model_type" in text and "Unrecognized model" in text:
        return "its config.json has no model_type; give the config.json that save_pretrained wrote"
    if isinstance(error, SafetensorError):
        return f"its weights are unreadable or truncated ({said}); fetch them again"
    if "weights_only" in text or "Weights only" in text:
        return "its .bin file holds more than weights, and is not unpickled; give it as safetensors"
    with contextlib.suppress(Exception):
        if not Path(path).is_dir() and find_adapter_config_file(str(path)) is not None:
            return _ADAPTER
    return f"cannot be loaded ({said}); {remedy}"


def _method(quantised: Any) -> str:
    """Return the name of the method by which a model was quantised."""
    entries = cast(dict[str, Any], quantised if isinstance(quantised, dict) else vars(quantised))
    method = entries.get("quant_method", "a method that it does not name")
    return str(getattr(method, "value", method))[:50]

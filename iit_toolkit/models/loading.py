"""Loads models. Every room loads them here, so that all refuse alike, in one line, what cannot be loaded."""

from __future__ import annotations

import contextlib
import functools
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
from transformers.utils.peft_utils import find_adapter_config_file

from iit_toolkit.errors import MAX_MESSAGE, UserError, listed, on_one_line, one_line
from iit_toolkit.files.paths import refuse_missing_folder
from iit_toolkit.models.finite import refuse_non_finite_weights
from iit_toolkit.models.folder import ADAPTER, MERGE, REMOTE, refuse_no_model

_LOG = logging.getLogger(__name__)
REMEDY = "give a folder written by save_pretrained, or a Hub id"
_DEEPEST = 10_000
_BLOCK = re.compile(r"\.\d+\.")
"""The number of a block in the name of its weight."""
_PLAIN = {"return_dict": True, "output_hidden_states": False, "_output_attentions": False}
"""What configurations must say for models to return logits by name, and nothing else."""


@dataclass(frozen=True)
class Loaded:
    """A model, with what its checkpoint lacks and what it has in excess.

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
        """Warn in one line of weights that are not used."""
        if self.unused:
            kind = type(self.model).__name__
            tell_once(
                f"{what}: {len(self.unused)} weights of the checkpoint are not used by {kind}, e.g. "
                f"{listed(self.unused[:1])}"
            )

    def refuse_lacking(self, what: str, task: str, *, new_head: bool = False) -> None:
        """Refuse a model whose checkpoint lacks weights.

        Args:
            what: What the message calls the model.
            task: What the message calls the task.
            new_head: Let weights outside the blocks be missing.

        Raises:
            UserError: Naming one of them; and one that the checkpoint has instead, if any: it may be of another kind.
        """
        base = (
            "" if self.model.base_model is self.model else f"{self.model.base_model_prefix}."
        )  # heads have lists, too
        lost = [name for name in self.missing if name.startswith(base) and _BLOCK.search(name)]
        unused = f", and has others that are not used, e.g. {listed(self.unused[:1])}" if self.unused else ""
        if lost:
            raise UserError(
                f"{what}: lacks {len(lost)} weights of its blocks, e.g. {lost[0]}{unused}; give a complete checkpoint, "
                "with the config.json that was saved with it"
            )
        if self.missing and not new_head:
            raise UserError(
                f"{what}: lacks {len(self.missing)} weights for {task}, e.g. {self.missing[0]}{unused}; give a model "
                "that was trained for it, with the config.json that was saved with it"
            )


@functools.cache
def tell_once(line: str) -> None:
    """Warn in one line, but only once per message: a run loads a model several times."""
    _LOG.warning(on_one_line(line)[:MAX_MESSAGE])


def load_config(path: str | Path, what: str, remedy: str = REMEDY) -> PreTrainedConfig:
    """Load a model's configuration.

    Args:
        path: Folder or Hub id.
        what: What messages call the model.
        remedy: The end of messages that know no better remedy.

    Raises:
        UserError: If there is none that transformers knows, or it belongs to an adapter.
    """
    refuse_missing_folder(path, what)
    if Path(path).is_dir():
        refuse_no_model(Path(path), what, remedy)
    if Path(path).is_file():
        raise UserError(f"{what} {path}: is a file; give its folder, {Path(path).parent}, if that holds a model")
    try:
        with _without_table():
            config: PreTrainedConfig = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except Exception as error:  # a config.json of any content can make transformers raise anything
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
        remedy: The end of messages that know no better remedy.
        resize: Give weights that the checkpoint has in another shape random values.
        **settings: Entries of its configuration.

    Raises:
        UserError: If it cannot be loaded, its configuration leaves out blocks, or a weight is not finite.
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
    except Exception as error:  # files of any content can make transformers raise anything
        if "Unrecognized configuration class" in str(error):
            raise UserError(
                f"{what} {path}: transformers has no {auto_class.__name__} for it; give a model for that task, or set "
                "task to what it was trained for"
            ) from None
        raise UserError(f"{what} {path}: {_reason(error, path, remedy, config)}") from None
    model, report = cast(tuple[PreTrainedModel, Mapping[str, Any]], loaded)
    if getattr(model, "peft_config", None):
        raise UserError(f"{what} {path}: {ADAPTER}")
    quantised = getattr(model.config, "quantization_config", None)
    if quantised is not None and getattr(model, "hf_quantizer", None) is None:  # read as if they were plain weights
        raise UserError(
            f"{what} {path}: it was saved quantised by {_method(quantised)}, which transformers does not know; give "
            "the model unquantised"
        )
    resized = sorted(report["mismatched_keys"])
    if resized and not resize:
        name, saved, expected = resized[0]
        raise UserError(
            f"{what} {path}: {len(resized)} weights do not fit config.json, e.g. {name} has shape {list(saved)}, not "
            f"{list(expected)}; give the config.json that was saved with them"
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
            f"{what}: problem_type in its config.json is {problem}, but classification compares single "
            "labels; give a classifier of single labels"
        )
    if (config.num_labels or 0) < 2:
        raise UserError(
            f"{what}: it has {config.num_labels} label, so it gives a number or nothing; give a classifier of several"
        )


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
    """Untie a configuration if the checkpoint's head is another weight than the embeddings.

    transformers ties by the configuration and unties by the checkpoint. A model built from the configuration alone
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
    """Silence transformers, which prints tables of keys and whole configurations: messages come from here."""
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        transformers.logging.set_verbosity(verbosity)


def _refuse_cut(model: PreTrainedModel, unexpected: set[str], where: str) -> None:
    """Refuse a configuration that leaves out blocks of its checkpoint, and a model with an adapter's weights too."""
    known = list(model.state_dict())
    lists = {name[: found.start()] for name in known if (found := _BLOCK.search(name))}
    own = {name[: found.end()] for name in known for found in _BLOCK.finditer(name)}
    for name in sorted(unexpected):
        if "lora_" in name:
            raise UserError(f"{where}: it holds weights of an adapter besides its own, e.g. {name}; {MERGE}")
        found = _BLOCK.search(name)
        if found and name[: found.start()] in lists and name[: found.end()] not in own:
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
        return REMOTE
    if "model_type" in text and "Unrecognized model" in text:
        return "its config.json has no model_type; give the config.json that save_pretrained wrote"
    if isinstance(error, SafetensorError):
        return f"its weights are unreadable or truncated ({said}); fetch them again"
    if "weights_only" in text or "Weights only" in text:
        return "its .bin file holds more than weights, and is not unpickled; give it as safetensors"
    with contextlib.suppress(Exception):
        if not Path(path).is_dir() and find_adapter_config_file(str(path)) is not None:
            return ADAPTER
    return f"cannot be loaded ({said}); {remedy}"


def _method(quantised: Any) -> str:
    """Return the name of the method by which a model was quantised."""
    entries = cast(dict[str, Any], quantised if isinstance(quantised, dict) else vars(quantised))
    method = entries.get("quant_method", "a method that it does not name")
    return str(getattr(method, "value", method))[:50]

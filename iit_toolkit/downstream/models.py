"""The model that is fine-tuned, and a fresh copy of it with a new head for every fine-tuning."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import torch
from transformers import AutoModel, PreTrainedModel, PreTrainedTokenizerBase, set_seed
from transformers.utils import logging

from iit_toolkit.data.encoding import ids_spanned
from iit_toolkit.data.pretrained import load_tokenizer
from iit_toolkit.data.readable import readable_tokens
from iit_toolkit.downstream.prepared import PreparedTask
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.checks import attempt, refuse_failed
from iit_toolkit.models.loading import load_model
from iit_toolkit.runs.provenance import fingerprint_of_weights

_LOG = logging.get_logger(__name__)
_TRIED = 8  # rows
_REMEDY = "give a folder written by save_pretrained, with its tokenizer, or a Hub id"


@dataclass(frozen=True)
class BaseModel:
    """A model before fine-tuning.

    Attributes:
        path: Folder or Hub id.
        tokenizer: Its tokenizer.
        longest: The most tokens that it reads.
        fingerprint: SHA-256 over the names and values of its weights, heads apart.
        parameters: How many weights it has, heads apart.
    """

    path: str
    tokenizer: PreTrainedTokenizerBase
    longest: int
    fingerprint: str
    parameters: int


def load_base(path: str) -> BaseModel:
    """Load what can be said about a model before it has a head.

    Raises:
        UserError: If model or tokenizer can't be loaded, weights are missing, or the tokenizer is not a fast one or
            cannot pad.
    """
    found = load_model(AutoModel, path, "model", remedy=_REMEDY)
    model = found.model
    missing = [name for name in found.missing if not name.startswith("pooler.")]  # heads have their own
    if missing:
        raise UserError(f"model {path}: lacks weights, e.g. {missing[0]}; {_REMEDY}")
    try:
        tokenizer = load_tokenizer(path, padding_side="right")  # answers are found by their place in a row
    except UserError as error:
        raise UserError(f"model {path}: {error}") from None
    if not tokenizer.is_fast:
        raise UserError(f"model {path}: its tokenizer is a slow one, which knows no character positions; {_REMEDY}")
    if tokenizer.pad_token is None:
        raise UserError(f"model {path}: its tokenizer has no token to pad with; give an encoder, as of the BERT family")
    if ids_spanned(tokenizer) > model.get_input_embeddings().weight.shape[0]:  # pyright: ignore
        raise UserError(f"model {path}: its tokenizer has ids beyond its embeddings; give the model's own")
    weights = {name: value for name, value in model.state_dict().items() if name not in found.missing}
    limit = readable_tokens(model) or tokenizer.model_max_length
    return BaseModel(
        path,
        tokenizer,
        min(tokenizer.model_max_length, limit),
        fingerprint_of_weights(weights),
        sum(value.numel() for value in weights.values()),
    )


def try_once(base: BaseModel, task: PreparedTask, where: str) -> None:
    """Run a model once on the first training rows of a task.

    Raises:
        UserError: If it cannot be run on them.
    """
    model = load_model(task.auto_class, base.path, "model", remedy=_REMEDY, resize=True, **task.head).model
    wanted = set(inspect.signature(model.forward).parameters)
    rows = [task.train[index] for index in range(min(_TRIED, len(task.train)))]

    @torch.no_grad()
    def run() -> str:
        batch = task.collator([{key: value for key, value in row.items() if key in wanted} for row in rows])
        loss = model(**batch).loss
        if not bool(loss.isfinite()):
            raise UserError(f"the loss of its first rows is {float(loss)}; give a model whose answers are finite")
        return "runs"

    refuse_failed([attempt(f"{where}: model {base.path}", model, run)])


def with_new_head(base: BaseModel, task: PreparedTask, seed: int) -> PreTrainedModel:
    """Load the model in float32 with the head that a task needs.

    The seed draws the head's weights, unless the model has a head of that kind and size already; a warning says so.
    """
    set_seed(seed)
    found = load_model(task.auto_class, base.path, "model", remedy=_REMEDY, resize=True, **task.head)
    if not found.missing and not found.resized:
        _LOG.warning("model %s has a head of this size already: all seeds begin with it", base.path)
    return found.model

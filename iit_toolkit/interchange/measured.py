"""What a model allows a run to leave out, measured by running it on one row: nothing is known by a model's name.

Blocks of some models need more than the hidden states of the blocks below: keys that several blocks share, or caches.
Such a model must run from its input.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.interchange.hooks import (
    block_outputs,
    last_hidden_state,
    restart_after,
    stopped_after,
    stopped_at_vocabulary,
)

Inputs = Mapping[str, Any]


def head_is_linear(model: PreTrainedModel, inputs: Inputs) -> bool:
    """Say whether the logits are the output embedding of its input and nothing more.

    Neither is a soft cap or a scale behind it, nor an adapter in it: losses are then computed from its weight and bias.
    """
    head: Any = model.get_output_embeddings()
    if type(head) is not nn.Linear:  # an adapter that begins at zero shows in no run
        return False
    one = _one_row(inputs)
    captured: list[tuple[Any, Any]] = []

    def capture(_module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        captured.append((args[0], output))

    handle = head.register_forward_hook(capture)
    with evaluating(model), torch.no_grad():
        try:
            logits = model(**one).logits
        finally:
            handle.remove()
        if len(captured) != 1 or not torch.equal(captured[0][1].flatten(), logits.flatten()):
            return False
        features, output = captured[0]
        if not _equal(nn.functional.linear(features, head.weight, head.bias), output):  # hooks may change it
            return False
        with contextlib.suppress(RuntimeError), stopped_at_vocabulary(model, None):
            model(**one)  # fails if something as wide as the vocabulary is added, be it zero
            return True
    return False


def can_restart(model: PreTrainedModel, cut: int, inputs: Inputs) -> bool:
    """Say whether a run that restarts after block `cut` gives what the whole run gives.

    Another input is read in between, so that nothing that a model keeps from its last run can help.
    """
    one = _one_row(inputs)
    with evaluating(model), torch.no_grad():
        with block_outputs(blocks(model), {cut}) as outputs:
            whole = _answer(model, one)

        def restarted() -> bool:
            model(**_another(one))
            with restart_after(blocks(model), cut, outputs[cut]):
                again = _answer(model, one)
            return all(map(_equal, again, whole))

        return cut in outputs and _works(restarted)


def can_stop(model: PreTrainedModel, last: int, inputs: Inputs) -> bool:
    """Say whether a model runs to its end if the blocks above `last` only pass on what they are given."""

    def stopped() -> bool:
        with stopped_after(blocks(model), last):
            model(**_one_row(inputs))
        return True

    with evaluating(model), torch.no_grad():
        return _works(stopped)


def _works(attempt: Callable[[], bool]) -> bool:
    """Say whether an attempt holds; a model that raises anything with part of it left out needs that part."""
    try:
        return attempt()
    except Exception:
        return False


def _answer(model: PreTrainedModel, inputs: Inputs) -> tuple[Tensor, Tensor]:
    with last_hidden_state(model) as hidden:
        logits: Tensor = model(**inputs).logits
    return hidden[-1], logits


def _equal(one: Tensor, other: Tensor) -> bool:
    """Equal up to rounding, which differs between runs if a device adds up in no fixed order."""
    if one.shape != other.shape:
        return False
    bound = 100 * torch.finfo(other.dtype).eps * float(other.abs().nan_to_num().max())
    return torch.allclose(one, other, rtol=0.0, atol=bound, equal_nan=True)


def _one_row(inputs: Inputs) -> dict[str, Any]:
    return {name: value[:1] if isinstance(value, Tensor) else value for name, value in inputs.items()}


def _another(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return other inputs of the same shape: the first of them read backwards."""
    first = next(name for name, value in inputs.items() if isinstance(value, Tensor))
    return {**inputs, first: inputs[first].flip(-1)}


@contextlib.contextmanager
def evaluating(*models: PreTrainedModel) -> Generator[None, None, None]:
    """Put models into eval mode, and every module back into its own afterwards."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    if any(mode for _, mode in modes):
        for model in models:
            model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            if module.training != mode:  # setting it takes longer than looking
                module.training = mode

"""Running only part of a model: restarting after a block, and stopping after one or short of the vocabulary."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator, Mapping
from functools import lru_cache
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from iit_toolkit.errors import UserError


def called_with(model: PreTrainedModel, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that a model is called with: its inputs, and the request to keep no cache.

    A model that does not tell sentences apart gets no `token_type_ids`.
    """
    takes = _taken(getattr(model.forward, "__func__", model.forward))
    given = dict(inputs)
    if "token_type_ids" not in takes or getattr(model.config, "type_vocab_size", None) == 1:
        given.pop("token_type_ids", None)
    return {**given, "use_cache": False} if "use_cache" in takes else given


@lru_cache
def _taken(forward: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(forward).parameters)


@contextlib.contextmanager
def restart_after(blocks: nn.ModuleList, cut: int, output: Any) -> Generator[None, None, None]:
    """Make the model's next runs start just after a block, from that block's output in an earlier run.

    Blocks up to `cut` do not compute: those below pass their input on, block `cut` returns `output`. Hooks on them
    still fire, and gradients flow into `output`'s graph.

    Args:
        blocks: The model's blocks.
        cut: Index of the last block that is not run again.
        output: What that block returned: a tensor (B, S, D), or a tuple that starts with one.
    """

    def skip(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
        return _handed_on(hidden_states, output)

    def inject(*_: Any, **__: Any) -> Any:
        return output

    with contextlib.ExitStack() as stack:
        for index in range(cut + 1):
            stack.enter_context(replaced_forward(blocks[index], inject if index == cut else skip))
        yield


@contextlib.contextmanager
def stopped_after(blocks: nn.ModuleList, last: int) -> Generator[None, None, None]:
    """Make the model's next runs compute nothing in the blocks above `last`, which pass their input on.

    What the model then returns means nothing; the activations up to block `last` are as always.

    Args:
        blocks: The model's blocks.
        last: Index of the last block that runs.
    """
    with contextlib.ExitStack() as stack:
        outputs = stack.enter_context(block_outputs(blocks, {last}))

        def skip(hidden_states: Tensor, *_: Any, **__: Any) -> Any:
            return _handed_on(hidden_states, outputs[last])

        for block in blocks[last + 1 :]:
            stack.enter_context(replaced_forward(block, skip))
        yield


def _handed_on(hidden_states: Tensor, like: Any) -> Any:
    """Return hidden states in the form in which the model's blocks return them, as `like` shows."""
    return (hidden_states, *like[1:]) if isinstance(like, tuple) else hidden_states


@contextlib.contextmanager
def replaced_forward(module: nn.Module, forward: Any) -> Generator[None, None, None]:
    """Replace one module's forward function, leaving its hooks as they are."""
    before = module.__dict__.get("forward")
    module.forward = forward
    try:
        yield
    finally:
        if before is None:
            del module.__dict__["forward"]
        else:
            module.forward = before


@contextlib.contextmanager
def stopped_at_vocabulary(model: PreTrainedModel, rows: Tensor | None) -> Generator[list[Tensor], None, None]:
    """Make the model's next run return what enters its output embedding, at chosen tokens, as its logits.

    Args:
        model: A model with output embeddings.
        rows: (N,) indices into the flattened (B * S) tokens; `None` for all.
    """
    captured: list[Tensor] = []

    def select(hidden: Tensor) -> Tensor:
        flat = hidden.reshape(-1, hidden.shape[-1])
        captured.append(flat if rows is None else flat.index_select(0, rows))
        return captured[-1]

    head = model.get_output_embeddings()
    assert isinstance(head, nn.Module)
    with replaced_forward(head, select):
        yield captured


@contextlib.contextmanager
def last_hidden_state(model: PreTrainedModel) -> Generator[list[Tensor], None, None]:
    """Capture the last hidden state (B, S, D) of the model's next run.

    Raises:
        UserError: If the model calls neither its base model nor its decoder, or they return no last hidden state.
    """
    captured: list[Tensor] = []
    of_decoder: list[Tensor] = []

    def keeping(kept: list[Tensor]) -> Any:
        def keep(_module: nn.Module, _args: Any, output: Any) -> None:
            found = output[0] if isinstance(output, tuple) else getattr(output, "last_hidden_state", None)
            if found is not None:
                kept.append(found)

        return keep

    handles = [
        model.base_model.register_forward_hook(keeping(captured)),
        model.get_decoder().register_forward_hook(keeping(of_decoder)),  # OPT calls this instead
    ]
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()
    captured += [] if captured else of_decoder
    if not captured:
        raise UserError(
            f"{type(model).__name__}: its last hidden state is not found; use a model whose head follows its base model"
        )


@contextlib.contextmanager
def block_outputs(blocks: nn.ModuleList, indices: set[int]) -> Generator[dict[int, Any], None, None]:
    """Capture what some blocks' forward functions return in the model's next run, before any hook edits it."""
    captured: dict[int, Any] = {}

    def recording(index: int) -> Any:
        forward = blocks[index].forward

        def record(*args: Any, **named: Any) -> Any:
            captured[index] = forward(*args, **named)
            return captured[index]

        return record

    with contextlib.ExitStack() as stack:
        for index in indices:
            stack.enter_context(replaced_forward(blocks[index], recording(index)))
        yield captured

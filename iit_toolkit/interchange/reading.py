"""How a model reads rows: whether they mean the same alone as in a batch, and whether it reads ahead."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from iit_toolkit.data.batch import Batch, model_inputs
from iit_toolkit.data.readable import readable_tokens
from iit_toolkit.errors import UserError, one_line
from iit_toolkit.interchange.engine import InterchangeModel, Run
from iit_toolkit.interchange.measured import evaluating

_TOLERANCE = 1e-3
_ROUNDING, _COARSE = 0.01, 0.1
"""Larger shares of the logits' spread do not come of rounding: with 32 bits and more, and with fewer."""
_PADDING = 3
_ROWS = 4
_Inputs = Mapping[str, Tensor]


@torch.no_grad()
def require_padding(model: PreTrainedModel, inputs: _Inputs, pad: int, padded: bool = True) -> str:
    """Check that a row gives the same hidden states, and in classification the same answer, alone and in a batch.

    Args:
        model: The model, in eval mode.
        inputs: Rows that are padded, if at all, on the right.
        pad: The id that short rows are filled with.
        padded: Whether any row is ever padded; if not, the rows are read as they are.

    Returns:
        What was seen.

    Raises:
        UserError: If the row's answers depend on what it is batched with.
    """
    if "attention_mask" not in inputs or "input_ids" not in inputs:
        return "inputs have no padding"
    rows = _rows(model, inputs) if padded else [_row(inputs, index) for index in range(len(inputs["input_ids"]))]
    rows = _telling(rows)
    engine = InterchangeModel(model, {})
    together = _run_together(engine, rows, pad, _PADDING if padded else 0)
    alone = [engine.base_run(row) for row in rows]
    difference = _largest_difference(together, alone)
    if difference > _TOLERANCE:
        _refuse_chance(engine, rows[0], alone[0])
        raise UserError(
            f"padding changes the hidden states by a relative {difference:.1e}; the model must use attention_mask, "
            "or no row may need padding (data.packing, with min_length as max_length)"
            if padded
            else f"the other rows of a batch change the hidden states by a relative {difference:.1e}; use another model"
        )
    _refuse_other_answers(model, together, alone, pad)
    if not padded:
        return f"no row is padded; a batch changes hidden states {_by(difference)}"
    with _other_padding_embedding(model, pad, rows):
        together, alone = engine.base_run(_batch(rows, pad, _PADDING)), [engine.base_run(row) for row in rows]
    read = _largest_difference(together, alone)
    if read > _TOLERANCE:
        raise UserError(
            f"{type(model).__name__} reads what stands in padding: with another padding embedding, which training may "
            f"give it, padding changes the hidden states by a relative {read:.1e}; use another model, or rows that "
            "need no padding (data.packing, with min_length as max_length)"
        )
    return f"padding changes hidden states {_by(difference)}"


@torch.no_grad()
def refuse_read_padding(model: PreTrainedModel, batch: Batch, what: str) -> None:
    """Refuse a model whose answers change with how a batch pads its rows: measured on the shortest row.

    `require_padding` asks more, and knows what rows are padded with. This takes any collator's batch as it is.

    Args:
        model: The model.
        batch: Padded rows, such as the first of a verification.
        what: What messages call the model.

    Raises:
        UserError: If the shortest row gives other answers without its padding.
    """
    if "attention_mask" not in batch or "input_ids" not in batch:
        return
    inputs = {name: value.to(model.device) for name, value in model_inputs(batch).items()}
    real = inputs["attention_mask"].bool()
    shortest = int(real.sum(1).argmin())
    if bool(real[shortest].all()):
        return
    engine = InterchangeModel(model, {})
    with evaluating(model):
        padded, alone = (
            engine.logits(engine.base_run(row))
            for row in ({name: value[[shortest]] for name, value in inputs.items()}, _row(inputs, shortest))
        )
    kept = padded if len(padded) == len(alone) else padded[real[shortest]]
    spread = float((alone - alone.mean(-1, keepdim=True)).abs().max()) or float(alone.abs().max())
    changed = float((kept - alone).abs().max()) / (spread or 1.0)
    if changed > (_COARSE if _is_coarse(model) else _ROUNDING):
        remedy = "or give position_ids"
        if len(padded) == len(alone):  # answers of rows, which some models read at the last token
            remedy = f"with the token that the model's config calls pad_token_id ({model.config.pad_token_id})"
        raise UserError(
            f"{what}: padding changes a row's logits by {changed:.1e} of their spread; pad on the right, {remedy}"
        )


def _is_coarse(model: PreTrainedModel) -> bool:
    return torch.is_autocast_enabled(model.device.type) or any(
        parameter.is_floating_point() and parameter.itemsize < 4 for parameter in model.parameters()
    )


def _by(difference: float) -> str:
    return f"by a relative {difference:.0e}" if difference else "not at all"


def _run_together(engine: InterchangeModel, rows: Sequence[_Inputs], pad: int, padding: int) -> Run:
    try:
        return engine.base_run(_batch(rows, pad, padding))
    except UserError:
        raise
    except ValueError as error:  # such as that of a classifier of the last token that knows no padding token
        if engine.model.config.pad_token_id is not None:
            raise
        raise UserError(f"a padded batch cannot be run ({one_line(error)}); {_pad_remedy(pad)}") from None


def _refuse_other_answers(model: PreTrainedModel, together: Run, alone: Sequence[Run], pad: int) -> None:
    """Refuse a classifier that takes padding for the end of a row."""
    if together.logits is None or together.logits.shape[0] != len(alone):
        return
    for row, run in enumerate(alone):
        assert run.logits is not None
        changed = _difference(together.logits[row], run.logits[0])
        if changed > _TOLERANCE:
            raise UserError(
                f"padding changes the answer by {changed:.1e} of its size: rows are filled with token {pad}, the "
                f"model takes {model.config.pad_token_id} for padding; {_pad_remedy(pad)}"
            )


def _refuse_chance(engine: InterchangeModel, row: _Inputs, before: Run) -> None:
    changed = _difference(engine.base_run(row).hidden, before.hidden)
    if changed > _TOLERANCE:
        raise UserError(
            f"{type(engine.model).__name__} is not deterministic: the same row run again changes the hidden states by "
            f"a relative {changed:.1e}; use a model without noise in eval mode"
        )


@contextlib.contextmanager
def _other_padding_embedding(model: PreTrainedModel, pad: int, rows: Sequence[_Inputs]) -> Generator[None, None, None]:
    """Give padding the embedding of another token for a while.

    An embedding of 0 hides that a model reads it, until training moves it through a head that shares the weights.
    """
    weight: Any = getattr(model.get_input_embeddings(), "weight", None)
    other = int(rows[0]["input_ids"][0, 0])
    if not isinstance(weight, Tensor) or weight.dim() != 2 or not weight.is_floating_point() or pad >= len(weight):
        yield
        return
    kept = weight[pad].clone()
    try:
        weight[pad] = weight[other]
        yield
    finally:
        weight[pad] = kept


def _rows(model: PreTrainedModel, inputs: _Inputs) -> list[dict[str, Tensor]]:
    """Return the rows without their padding, the longest shortened if the model could not read them padded."""
    limit = readable_tokens(model) or math.inf
    rows: list[dict[str, Tensor]] = []
    for index in range(len(inputs["input_ids"])):
        row = _row(inputs, index)
        length = row["input_ids"].shape[1]
        room = int(min(length, max(1, limit - _PADDING)))
        kept = torch.tensor([*range(room - 1), length - 1])  # a row's end may mean something to the model
        rows.append({name: value[:, kept.to(value.device)] for name, value in row.items()})
    return rows


def _telling(rows: Sequence[_Inputs]) -> list[_Inputs]:
    """Return the shortest row, the longest and the first ones: some models read rows by the longest of the batch."""
    lengths = [row["input_ids"].shape[1] for row in rows]
    chosen = [lengths.index(min(lengths)), lengths.index(max(lengths)), *range(len(rows))]
    return [rows[index] for index in sorted(list(dict.fromkeys(chosen))[:_ROWS])]


def _row(inputs: _Inputs, index: int) -> dict[str, Tensor]:
    real = inputs["attention_mask"][index].bool()
    return {name: value[index : index + 1, real] for name, value in inputs.items()}


def _batch(rows: Sequence[_Inputs], pad: int, padding: int) -> dict[str, Tensor]:
    """Pad rows to the longest and beyond."""
    length = max(row["input_ids"].shape[1] for row in rows) + padding
    return {
        name: torch.cat(
            [
                nn.functional.pad(row[name], (0, length - row[name].shape[1]), value=pad if name == "input_ids" else 0)
                for row in rows
            ]
        )
        for name in rows[0]
    }


def _largest_difference(together: Run, alone: Sequence[Run]) -> float:
    return max(_difference(together.hidden[row, : run.hidden.shape[1]], run.hidden[0]) for row, run in enumerate(alone))


def _pad_remedy(pad: int) -> str:
    return f"set pad_token_id in the model's config to the tokenizer's, {pad}"


@torch.no_grad()
def require_order(model: PreTrainedModel, inputs: _Inputs) -> str:
    """Check that a causal language model does not read the tokens that it must predict.

    Raises:
        UserError: If it does.
    """
    longest = int(inputs["attention_mask"].sum(1).argmax())
    row = _row(inputs, longest)
    if row["input_ids"].shape[1] < 2:
        return "rows of one token have no order"
    other = {**row, "input_ids": row["input_ids"].clone()}
    other["input_ids"][0, -1] = (other["input_ids"][0, -1] + 1) % model.config.vocab_size
    engine = InterchangeModel(model, {})
    before, after = (engine.base_run(one).hidden[0, :-1] for one in (row, other))
    difference = _difference(after, before)
    if difference > _TOLERANCE:
        raise UserError(
            f"{type(model).__name__} reads ahead: another last token changes the hidden states before it by "
            f"a relative {difference:.1e}; use task masked_lm, or a model that reads from left to right"
        )
    return "tokens are read from left to right"


def _difference(one: Tensor, other: Tensor) -> float:
    if one.shape != other.shape:
        raise UserError(
            f"hidden states of shape {list(one.shape)} in a batch and {list(other.shape)} alone cannot be compared; "
            "use a model whose last hidden states are one per token"
        )
    difference = float((one - other).abs().max() / other.abs().max())
    if math.isnan(difference):
        raise UserError("hidden states or answers are not finite; use a model that gives finite ones")
    return difference

"""What a batch means: its keys, which positions are real, may be swapped and are predicted, and what models read of it.

Legend of shapes: B rows, S positions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from iit_toolkit.config.task import FACTS, Task
from iit_toolkit.errors import UserError

Row = Mapping[str, Any]
Batch = Mapping[str, Tensor]
Collator = Callable[[Sequence[Row]], dict[str, Tensor]]


class Rows(Protocol):
    """Rows by number: a list of them, or a `datasets.Dataset`."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int, /) -> Row:
        """One row."""
        ...


class Numbered(Sequence[Row]):
    """Rows that all have an `example_id`. Those without one get their place, and their sources a number above all.

    Args:
        rows: The rows.

    Raises:
        UserError: If they are not rows of token ids, or have no length.
    """

    def __init__(self, rows: Rows) -> None:
        """Look at the first row, and keep them all."""
        if isinstance(rows, Mapping):
            raise UserError(f"rows are a mapping of {', '.join(map(str, rows))}; give one split of it")
        if not hasattr(rows, "__len__") or isinstance(rows, str):
            raise UserError(f"rows are a {type(rows).__name__}; give a list of rows, or a datasets.Dataset")
        if len(rows):
            first: Any = rows[0]
            if not isinstance(first, Mapping) or not {"inputs", "input_ids", "pixel_values"} & set(first):
                raise UserError("rows need `input_ids`; tokenize them, as with datasets.Dataset.map(tokenizer)")
            if "input_ids" in first and not _is_vector(first["input_ids"]):
                given = type(first["input_ids"]).__name__
                raise UserError(f"input_ids of a row are a {given}; give a list of integers, one for each token")
        self._rows = rows

    def __len__(self) -> int:
        """How many there are."""
        return len(self._rows)

    def __getitem__(self, index: int) -> Row:  # pyright: ignore[reportIncompatibleMethodOverride] - no slices are taken
        """Return one row with its number."""
        row = self._rows[index]
        if "example_id" not in row:
            row = {**row, "example_id": index}
        if "source_input_ids" in row and "source_example_id" not in row:
            row = {**row, "source_example_id": len(self._rows) + index}
        return row


def _is_vector(given: Any) -> bool:
    try:
        return torch.as_tensor(given).dim() == 1
    except (TypeError, ValueError, RuntimeError):
        return False


IGNORE_INDEX = -100
"""The label that no loss counts and no answer is compared with, as in `torch.nn.functional.cross_entropy`."""

_MODEL_INPUTS = ("input_ids", "pixel_values", "attention_mask", "token_type_ids", "position_ids")
_SOURCE = "source_"


def model_inputs(batch: Batch) -> dict[str, Tensor]:
    """Return the part of a batch that goes into a model."""
    return {name: batch[name] for name in _MODEL_INPUTS if name in batch}


def real_tokens(batch: Batch) -> Tensor | None:
    """Return (B, S) boolean: the tokens that are not padding; `None` for images, which have none."""
    if "attention_mask" in batch:
        return batch["attention_mask"].bool()
    return torch.ones_like(batch["input_ids"], dtype=torch.bool) if "input_ids" in batch else None


def eligible_positions(batch: Batch) -> Tensor:
    """Return (B, S) boolean: positions that may be swapped, which are neither padding nor special tokens.

    Raises:
        UserError: If the batch does not say which tokens are special.
    """
    if "special_tokens_mask" not in batch:
        raise UserError(
            "batches lack special_tokens_mask, so special tokens would be swapped; use a collator of "
            "iit_toolkit.data.collate, or let yours give it, true at special tokens and padding"
        )
    real = real_tokens(batch)
    ordinary = ~batch["special_tokens_mask"].bool()
    return ordinary if real is None else real & ordinary


def predicted_positions(batch: Batch, task: Task) -> Tensor | None:
    """Return (B, S) boolean: positions whose own token or tag is predicted; `None` if a task has none."""
    in_place = FACTS[task].at_tokens and task != "causal_lm"
    return batch["labels"] != IGNORE_INDEX if in_place and "labels" in batch else None


def gold_answers(batch: Batch, task: Task) -> Tensor:
    """Return each token's gold answer (B, S), or each example's (B,).

    Labels of causal language models are shifted left by one: position p holds the token that p predicts.
    """
    labels = batch["labels"]
    if task != "causal_lm":
        return labels
    return torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], IGNORE_INDEX)], dim=1)


def require_labels(batch: Batch) -> None:
    """Check that a batch says what is right.

    Raises:
        UserError: If it does not.
    """
    if "labels" not in batch:
        raise UserError("batches have no labels; give the tokenizer (processing_class), or a collator that makes them")


def paired_sources(batch: Batch) -> dict[str, Tensor]:
    """Return the sources of a batch of pairs, a batch whose row i is the source of base row i.

    Raises:
        UserError: If the batch was not made of pairs, or one side of them has what a model reads, or the text it is
            cut from, and the other has not.
    """
    if not {f"{_SOURCE}input_ids", f"{_SOURCE}inputs"} & set(batch):
        raise UserError("sources `paired` need a source text for every row; name its column in data.source_column")
    for name in ("text_id", *_MODEL_INPUTS):
        given, missing = name, f"{_SOURCE}{name}"
        if (given in batch) != (missing in batch):
            given, missing = (given, missing) if given in batch else (missing, given)
            raise UserError(f"pairs have `{given}` but no `{missing}`; give both, or neither")
    return {name.removeprefix(_SOURCE): value for name, value in batch.items() if name.startswith(_SOURCE)}


def both_directions(batch: Batch) -> dict[str, Tensor]:
    """Return a batch of pairs with both directions of each: every source is a base, too.

    Returns:
        A batch of 2B rows, without sources besides: rows 2i and 2i + 1 are the base and the source of pair i, and take
        from each other.

    Raises:
        UserError: If the batch was not made of pairs, or does not say what is predicted of the sources.
    """
    source = paired_sources(batch)
    if "labels" not in source:
        raise UserError("training.both_directions needs pairs whose sources have answers, too; leave it out")
    rows, places = batch["swapped"].nonzero(as_tuple=True)
    taken = batch["swapped_from"][rows, places]
    source["swapped"] = torch.zeros_like(batch["swapped"])
    source["swapped_from"] = torch.zeros_like(batch["swapped_from"])
    source["swapped"][rows, taken] = True
    source["swapped_from"][rows, taken] = places
    return {name: torch.stack([batch[name], value], 1).flatten(0, 1) for name, value in source.items()}

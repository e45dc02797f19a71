"""Pairs whose swapped words matter to the teacher: read in place of the base's, the source's change its answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedModel

from iit_toolkit.config.task import Task
from iit_toolkit.data.batch import IGNORE_INDEX, Batch, Collator, gold_answers, model_inputs, paired_sources
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel

_ROWS = 32
_NUMBERS = ("example_id", "source_example_id")


@torch.no_grad()
def changed_pairs(teacher: PreTrainedModel, rows: Dataset, collator: Collator, task: Task) -> NDArray[np.bool_]:
    """Say of every question whether the teacher answers its source otherwise than its base, (R,).

    Args:
        teacher: The teacher.
        rows: Questions, as `tokenize_pairs` makes them.
        collator: Makes a batch of them.
        task: What is answered.
    """
    engine, found = InterchangeModel(teacher.eval(), {}), list[bool]()
    for start in range(0, len(rows), _ROWS):
        batch = collator([rows[index] for index in range(start, min(start + _ROWS, len(rows)))])
        bases, sources = (_answers(engine, side, task) for side in (batch, paired_sources(batch)))
        found += [one != other for one, other in zip(bases, sources, strict=True)]
    return np.array(found, dtype=np.bool_)


def _answers(engine: InterchangeModel, batch: Batch, task: Task) -> list[list[int]]:
    """Return what the model answers in every row."""
    asked = gold_answers(batch, task) != IGNORE_INDEX
    inputs = {name: value.to(engine.device) for name, value in model_inputs(batch).items()}
    answers = engine.logits(engine.base_run(inputs, tokens=asked.to(engine.device))).argmax(-1).cpu()
    return [part.tolist() for part in answers.split(asked.sum(1).tolist())]


def kept(rows: Dataset, chosen: NDArray[np.bool_], where: str) -> Dataset:
    """Return the chosen rows, numbered anew.

    Raises:
        UserError: If none is chosen.
    """
    if not chosen.any():
        raise UserError(
            f"{where}: the swapped words change the teacher's answer in none of {len(rows):,} pairs, and data.keep is "
            "changed; give pairs that its answers depend on"
        )
    count = int(chosen.sum())
    some: Any = rows.select(np.flatnonzero(chosen)).remove_columns(list(_NUMBERS))
    for name, first in zip(_NUMBERS, (0, count), strict=True):
        some = some.add_column(name, np.arange(first, first + count))
    return some

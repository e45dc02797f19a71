"""What must hold of a model before its answers count: it is whole, and running it leaves it as it is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from iit_toolkit.config.task import FACTS, Task
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.engine import InterchangeModel
from iit_toolkit.interchange.side import Side
from iit_toolkit.models.finite import non_finite_rows, refuse_non_finite_weights, refuse_rows
from iit_toolkit.models.loading import refuse_other_problem

_TOKENS = 256  # so many logits are looked at together


def digests(model: nn.Module) -> dict[str, str]:
    """Return a digest of every weight and every buffer that is saved, by name."""
    return {
        name: hashlib.sha256(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()).hexdigest()
        for name, value in model.state_dict().items()
    }


def refuse_changed(model: nn.Module, before: Mapping[str, str], what: str) -> None:
    """Refuse a model that has changed, such as one that rewrites its weights when it runs.

    Args:
        model: The model.
        before: What `digests` returned of it earlier.
        what: What the message calls it.

    Raises:
        UserError: Naming the first tensor that changed.
    """
    now = digests(model)
    changed = [name for name in before.keys() | now.keys() if before.get(name) != now.get(name)]
    if changed:
        first = next(name for name in (*before, *now) if name in changed)
        rescales = getattr(getattr(model, "config", None), "rescale_every", 0)
        remedy = "set rescale_every to 0 in its config.json" if rescales else "give a model that only reads its weights"
        raise UserError(
            f"{what}: {first} is no longer what it was before the model ran ({len(changed)} of {len(now)} tensors "
            f"changed), so results would be of another model; {remedy}"
        )


def refuse_unfit(model: PreTrainedModel, task: Task) -> str:
    """Refuse a model with weights that are not finite, and a classifier that does not choose one class of several.

    Returns:
        What was seen.

    Raises:
        UserError: If it is refused.
    """
    refuse_non_finite_weights(model, type(model).__name__, "give a model whose weights are finite")
    if FACTS[task].classes:
        refuse_other_problem(model.config, type(model).__name__)
    return "its weights are finite"


@torch.no_grad()
def refuse_unsound(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> str:
    """Refuse a model whose answers are not finite, or that changes when it answers.

    Args:
        model: The model, in eval mode.
        inputs: Its inputs.

    Returns:
        What was seen.

    Raises:
        UserError: If it is refused.
    """
    before, name = digests(model), type(model).__name__
    engine, count = InterchangeModel(model, {}), len(next(iter(inputs.values())))
    bad = [row for row in range(count) if unanswered_rows(engine, _alone(inputs, row))]
    refuse_changed(model, before, name)
    if bad:
        refuse_rows(bad, count, name, model)
    return "they are finite, and running it leaves its weights as they are"


def _alone(inputs: Mapping[str, Tensor], row: int) -> dict[str, Tensor]:
    """Return one row of a batch, without its padding: how models take padding is another question."""
    one = {name: value[row : row + 1] for name, value in inputs.items()}
    if "attention_mask" in one and "input_ids" in one:
        real = one["attention_mask"][0].bool()
        one = {name: value[:, real] for name, value in one.items()}
    return one


@torch.no_grad()
def unanswered_rows(side: Side, batch: Mapping[str, Tensor]) -> list[int]:
    """Return the rows of a batch in which a model has no finite answer, by `example_id` if they have any.

    Args:
        side: The model.
        batch: Its inputs, among other things; padding is ignored.
    """
    inputs = {name: value.to(side.device) for name, value in side.reads(batch).items()}
    real = inputs["attention_mask"].bool() if "attention_mask" in inputs else None
    run = side.base_run(inputs, tokens=real)
    parts = [run] if run.features is None else [replace(run, features=some) for some in run.features.split(_TOKENS)]
    rows = torch.arange(len(next(iter(inputs.values()))))
    numbers = batch.get("example_id", rows).cpu()
    places, start = rows if real is None else real.nonzero()[:, 0].cpu(), 0
    found: set[int] = set()
    for part in parts:
        logits = side.logits(part)
        some = rows if part.logits is not None and len(logits) == len(rows) else places[start : start + len(logits)]
        found.update(non_finite_rows(logits, numbers[some]))
        start += len(logits)
    return sorted(found)

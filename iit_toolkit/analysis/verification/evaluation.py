"""How well one model predicts held-out rows: perplexity and accuracy, with intervals over texts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import PreTrainedModel

from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.resampling import Resampled
from iit_toolkit.analysis.verification.by_row import collated_alone, collated_together
from iit_toolkit.config.task import FACTS, Task
from iit_toolkit.data.batch import IGNORE_INDEX, Collator, gold_answers, model_inputs
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel
from iit_toolkit.models.finite import refuse_non_finite_answers
from iit_toolkit.runs.progress import counted

_BATCH = 32


@torch.no_grad()
def evaluate(
    model: PreTrainedModel,
    rows: Any,
    collator: Collator,
    task: Task,
    *,
    seed: int = 0,
    what: str = "the model",
) -> dict[str, Estimate]:
    """Return, by name, the perplexity and, in classification, the accuracy.

    The perplexity is exp of the mean negative log-likelihood of the predicted tokens (or labels); for masked language
    models the pseudo-perplexity at the collator's masked tokens. Its interval is a bootstrap over texts, of which a row
    without `text_id` is one. The accuracy is the share of labels (of rows, or of tokens) that are the model's answers,
    with a Wilson interval.

    Args:
        model: The model, on its device; set to eval mode.
        rows: Examples with `input_ids` and, where several are of one text, `text_id`.
        collator: Makes batches with `labels`. Masks follow from each row alone, so that all models see the same.
        task: What `labels` mean.
        seed: Of the bootstrap.
        what: What messages call the model.

    Raises:
        UserError: If no row holds anything to predict, an answer is not finite, or a right one is impossible to the
            model (its logit is -inf).
    """
    engine = InterchangeModel(model.eval(), {})
    losses: list[float] = []
    counts: list[int] = []
    hits: list[int] = []
    texts: list[int] = []
    for start in counted(range(0, len(rows), _BATCH), "evaluating"):
        some = {index: rows[index] for index in range(start, min(start + _BATCH, len(rows)))}
        alone = {index: one for index, row in some.items() if (one := collated_alone(collator, row)) is not None}
        if not alone:
            continue
        texts += [some[index].get("text_id", index) for index in alone]
        batch = collated_together(collator, [some[index] for index in alone], list(alone.values()))
        labels = gold_answers(batch, task)
        tokens = labels != IGNORE_INDEX if FACTS[task].at_tokens else None
        inputs = {name: value.to(model.device) for name, value in model_inputs(batch).items()}
        run = engine.base_run(inputs, tokens=None if tokens is None else tokens.to(model.device))
        gold = labels if tokens is None else labels[tokens]
        logits = engine.logits(run).float().cpu()
        row = torch.arange(len(labels)) if tokens is None else tokens.nonzero()[:, 0]
        number = torch.tensor(list(alone))[row]
        refuse_non_finite_answers(logits, number, what, model)
        nll = F.cross_entropy(logits, gold, reduction="none")
        if bool(nll.isinf().any()):
            raise UserError(
                f"{what}: the right answer has logit -inf in row {int(number[nll.isinf()][0])}, so its perplexity "
                "is infinite; give a model that allows every answer of the data"
            )
        losses += torch.zeros(len(labels)).index_add_(0, row, nll).tolist()
        counts += torch.bincount(row, minlength=len(labels)).tolist()
        hits += torch.bincount(row[logits.argmax(-1) == gold], minlength=len(labels)).tolist()
    if not losses:
        raise UserError(f"none of the {len(rows)} rows holds a token to predict; give longer texts")
    columns = {"nll": losses, "answers": counts, "hits": hits}
    sums = {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}
    resampled = Resampled(sums, base_text=np.asarray(texts), seed=seed)
    found = {"perplexity": resampled.ratio("nll", "answers").mapped(math.exp)}
    if FACTS[task].classes:
        found["accuracy"] = resampled.share("hits", "answers")
    return found

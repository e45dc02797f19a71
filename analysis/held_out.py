"""Perplexity and accuracy of one model on held-out rows, with intervals over examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from iit_toolkit.analysis.statistics import Estimate, Resampled
from iit_toolkit.interchange import InterchangeModel

_BATCH = 32


@dataclass(frozen=True)
class HeldOut:
    """How well a model predicts held-out tokens (or labels).

    Attributes:
        perplexity: exp of the mean negative log-likelihood.
        accuracy: Share of those that the model finds most likely.
    """

    perplexity: Estimate
    accuracy: Estimate


@torch.no_grad()
def measure_held_out(
    model: PreTrainedModel,
    rows: Any,
    collator: Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]],
    task: Literal["masked_lm", "causal_lm", "sequence_classification"],
    *,
    seed: int = 0,
) -> HeldOut:
    """Return how well a model predicts tokens (or labels).

    For masked language models these are the collator's masked tokens, and the perplexity is a pseudo-perplexity. The
    intervals are a bootstrap over rows.

    Args:
        model: The model, on its device and in eval mode.
        rows: Examples with `input_ids`.
        collator: Makes batches with `labels`; its masks must depend on the batch only, so models see the same.
        task: What `labels` mean.
        seed: Of the bootstrap.
    """
    engine = InterchangeModel(model, {})
    losses: list[float] = []
    hits: list[float] = []
    counts: list[int] = []
    for start in tqdm(range(0, len(rows), _BATCH), "held-out data", disable=None):
        batch = collator([rows[index] for index in range(start, min(start + _BATCH, len(rows)))])
        labels = batch["labels"]
        if task == "causal_lm":
            labels = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], 1)
        tokens = None if task == "sequence_classification" else labels != -100
        inputs = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
        run = engine.base_run(inputs, tokens=None if tokens is None else tokens.to(model.device))
        gold = labels if tokens is None else labels[tokens]
        logits = engine.logits(run).float().cpu()
        nll = F.cross_entropy(logits, gold, reduction="none")
        row = torch.arange(len(labels)) if tokens is None else tokens.nonzero()[:, 0]
        losses += torch.zeros(len(labels)).index_add_(0, row, nll).tolist()
        hits += torch.zeros(len(labels)).index_add_(0, row, (logits.argmax(-1) == gold).float()).tolist()
        counts += torch.bincount(row, minlength=len(labels)).tolist()
    sums = {"nll": losses, "hits": hits, "tokens": counts}
    resampled = Resampled({name: np.asarray(found, dtype=np.float64) for name, found in sums.items()}, seed=seed)
    return HeldOut(
        perplexity=resampled.ratio("nll", "tokens").mapped(math.exp), accuracy=resampled.ratio("hits", "tokens")
    )

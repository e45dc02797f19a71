"""Perplexity of one model on held-out rows, with an interval over examples."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
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


@torch.no_grad()
def perplexity(
    model: PreTrainedModel,
    rows: Any,
    collator: Callable[[Sequence[Mapping[str, Any]]], dict[str, Tensor]],
    task: Literal["masked_lm", "causal_lm", "sequence_classification"],
    *,
    seed: int = 0,
) -> Estimate:
    """Return exp of the mean negative log-likelihood of the predicted tokens (or labels).

    For masked language models this is the pseudo-perplexity at the collator's masked tokens. The interval is a
    bootstrap over rows.

    Args:
        model: The model, on its device and in eval mode.
        rows: Examples with `input_ids`.
        collator: Makes batches with `labels`; its masks must depend on the batch only, so models see the same.
        task: What `labels` mean.
        seed: Of the bootstrap.
    """
    engine = InterchangeModel(model, {})
    losses: list[float] = []
    counts: list[int] = []
    for start in tqdm(range(0, len(rows), _BATCH), "perplexity", disable=None):
        batch = collator([rows[index] for index in range(start, min(start + _BATCH, len(rows)))])
        labels = batch["labels"]
        if task == "causal_lm":
            labels = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], 1)
        tokens = None if task == "sequence_classification" else labels != -100
        inputs = {name: batch[name].to(model.device) for name in ("input_ids", "attention_mask")}
        run = engine.base_run(inputs, tokens=None if tokens is None else tokens.to(model.device))
        gold = labels if tokens is None else labels[tokens]
        nll = F.cross_entropy(engine.logits(run).float().cpu(), gold, reduction="none")
        row = torch.arange(len(labels)) if tokens is None else tokens.nonzero()[:, 0]
        losses += torch.zeros(len(labels)).index_add_(0, row, nll).tolist()
        counts += torch.bincount(row, minlength=len(labels)).tolist()
    sums = {"nll": np.asarray(losses, dtype=np.float64), "tokens": np.asarray(counts, dtype=np.float64)}
    return Resampled(sums, seed=seed).ratio("nll", "tokens").mapped(math.exp)

"""Perplexity and accuracy on held-out rows, against a plain loop in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers as tf

from iit_toolkit.analysis.held_out import measure_held_out
from tests.families import bert_config

ROWS = [{"input_ids": [2, *range(5 + index, 9 + 2 * index), 3], "label": index % 2} for index in range(40)]


def collate(rows: Any) -> dict[str, torch.Tensor]:
    """Pads, and asks for every third token."""
    length = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
    labels = torch.where((torch.arange(length) % 3 == 1) & (ids != 0), ids, -100)
    return {"input_ids": ids, "attention_mask": (ids != 0).long(), "labels": labels}


def classified(rows: Any) -> dict[str, torch.Tensor]:
    return collate(rows) | {"labels": torch.tensor([row["label"] for row in rows])}


def plainly(model: Any, collator: Any, shift: bool) -> tuple[float, float]:
    """Row by row, with the model's own forward function."""
    nll, hits, tokens = 0.0, 0, 0
    with torch.no_grad():
        for row in ROWS:
            batch = collator([row])
            labels = batch.pop("labels")
            logits = model(**batch).logits.double()
            if shift:
                logits, labels = logits[:, :-1], labels[:, 1:]
            for scores, gold in zip(logits.reshape(-1, logits.shape[-1]), labels.flatten(), strict=True):
                if gold >= 0:
                    nll -= float(scores.log_softmax(-1)[gold])
                    hits += int(scores.argmax() == gold)
                    tokens += 1
    return math.exp(nll / tokens), hits / tokens


@pytest.mark.parametrize("task", ["masked_lm", "causal_lm", "sequence_classification"])
def test_they_are_those_of_a_plain_loop(task: Any) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 120, "max_position_embeddings": 64}
    if task == "causal_lm":
        model: Any = tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=120, n_embd=16, n_layer=2, n_head=2, n_positions=64))
    else:
        kind = tf.BertForMaskedLM if task == "masked_lm" else tf.BertForSequenceClassification
        model = kind(bert_config(**sizes))
    for parameter in model.parameters():
        parameter.data *= 3  # far from uniform answers
    collator = classified if task == "sequence_classification" else collate
    found = measure_held_out(model.eval(), ROWS, collator, task)
    perplexity, accuracy = plainly(model, collator, shift=task == "causal_lm")
    assert found.perplexity.value == pytest.approx(perplexity, rel=1e-4)
    assert found.accuracy.value == pytest.approx(accuracy)
    assert found.accuracy.low < found.accuracy.value < found.accuracy.high
    assert found.accuracy.clusters == len(ROWS)

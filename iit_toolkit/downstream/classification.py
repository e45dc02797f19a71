"""GLUE: one class or value for one text or two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, DataCollatorWithPadding, PreTrainedTokenizerBase

from iit_toolkit.downstream.prepared import Evaluation, PreparedTask, names_of_classes, tokenized
from iit_toolkit.downstream.scores import Scores, classification_scores
from iit_toolkit.downstream.tasks import Task


def prepare_classification(
    task: Task,
    train: Dataset,
    evaluated: Mapping[str, Dataset],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> PreparedTask:
    """Make rows of a GLUE task. Of two texts that are too long together, the longer is cut first.

    Args:
        task: Names columns, classes and metrics.
        train: Texts, with their class or value in `label`.
        evaluated: Texts to score on, by split.
        tokenizer: The model's.
        max_length: Tokens of the longest row, special tokens included.
    """

    def tokenize(batch: Mapping[str, list[Any]]) -> dict[str, Any]:
        first, *second = [[text or "" for text in batch[column]] for column in task.columns]
        labels = batch["label"] if task.labels else [float(label) for label in batch["label"]]
        encoded = tokenizer(first, second[0] if second else None, truncation=True, max_length=max_length)
        return {**encoded, "labels": labels}

    def evaluation(examples: Dataset) -> Evaluation:
        gold = np.asarray(examples["label"])

        def score(logits: np.ndarray) -> Scores:
            predicted = logits.argmax(-1) if task.labels else logits[:, 0]
            return classification_scores(task.metrics, gold, predicted)

        return Evaluation(tokenized(examples, tokenize), score)

    return PreparedTask(
        AutoModelForSequenceClassification,
        tokenized(train, tokenize),
        {split: evaluation(examples) for split, examples in evaluated.items()},
        tokenizer,
        DataCollatorWithPadding(tokenizer),
        {**names_of_classes(list(task.labels)), "problem_type": "single_label_classification"}
        if task.labels
        else {"num_labels": 1, "problem_type": "regression"},
    )

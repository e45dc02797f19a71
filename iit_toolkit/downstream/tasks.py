"""The tasks: their data on the Hub, what is predicted, the official metrics, and the paper's hyperparameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["classification", "question_answering", "entities"]


@dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
        kind: How inputs are made and answers are read.
        path: Data set on the Hub.
        name: Its configuration.
        columns: Columns of the input: one or two texts; question and context; the words of a sentence.
        label_column: Column of what is to be predicted.
        labels: Names of the classes, by number; none for a regression, and for entities, whose tags the data names.
        metrics: The official metrics, by which the task is scored.
        eval_splits: Splits that are scored; the first gives the task's score.
        max_length: Tokens of the longest input; None: as many as the model reads.
        learning_rate: Peak of the linear schedule.
        epochs: Passes over the training data.
        batch_size: Examples of a step.
    """

    kind: Kind
    path: str
    name: str | None
    columns: tuple[str, ...]
    label_column: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    eval_splits: tuple[str, ...] = ("validation",)
    max_length: int | None = 128
    learning_rate: float = 2e-5
    epochs: int = 3
    batch_size: int = 32


def _glue(
    name: str,
    columns: tuple[str, ...],
    labels: tuple[str, ...],
    metrics: tuple[str, ...] = ("accuracy",),
    eval_splits: tuple[str, ...] = ("validation",),
) -> Task:
    return Task("classification", "nyu-mll/glue", name, columns, "label", labels, metrics, eval_splits)


_SENTENCES = ("sentence1", "sentence2")
_ENTAILMENT = ("entailment", "not_entailment")

TASKS = {
    "cola": _glue("cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews",)),
    "sst2": _glue("sst2", ("sentence",), ("negative", "positive")),
    "mrpc": _glue("mrpc", _SENTENCES, ("not_equivalent", "equivalent"), ("accuracy", "f1")),
    "rte": _glue("rte", _SENTENCES, _ENTAILMENT),
    "stsb": _glue("stsb", _SENTENCES, (), ("pearson", "spearman")),
    "wnli": _glue("wnli", _SENTENCES, ("not_entailment", "entailment")),
    "qqp": _glue("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1")),
    "qnli": _glue("qnli", ("question", "sentence"), _ENTAILMENT),
    "mnli": _glue(
        "mnli",
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        eval_splits=("validation_matched", "validation_mismatched"),
    ),
    "squad": Task(
        "question_answering",
        "rajpurkar/squad",
        None,
        ("question", "context"),
        "answers",
        (),
        ("f1",),
        max_length=384,
        learning_rate=3e-5,
        epochs=2,
        batch_size=12,
    ),
    "conll2003": Task(
        "entities",
        "lhoestq/conll2003",
        None,
        ("tokens",),
        "ner_tags",
        (),
        ("f1",),
        max_length=None,
        learning_rate=5e-5,
        batch_size=8,
    ),
}
"""The tasks by name.

Hyperparameters are those of the official code of arXiv 2112.02505: its GLUE and SQuAD scripts name them, and its
CoNLL script leaves them at the defaults of transformers. Batch sizes there are per device.
"""

DOC_STRIDE = 128
"""Tokens by which two windows of one SQuAD context overlap."""

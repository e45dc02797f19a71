"""The real data sets: the true answers, put in as a model's answers, get full marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoTokenizer

from iit_toolkit.data.batch import IGNORE_INDEX
from iit_toolkit.downstream.classification import prepare_classification
from iit_toolkit.downstream.config import FinetuneConfig, task_settings
from iit_toolkit.downstream.entities import prepare_entities
from iit_toolkit.downstream.examples import load_examples
from iit_toolkit.downstream.question_answering import prepare_question_answering
from iit_toolkit.downstream.tasks import TASKS

FOLDERS = {
    **{name: f"glue/{name}" for name in ("cola", "sst2", "mrpc", "rte", "stsb", "wnli")},
    **{name: f"glue/{name}_subset" for name in ("qqp", "qnli", "mnli")},
}


def load(shared: Path, name: str, folder: str, **data: Any) -> dict[str, Any]:
    files = {split: str(shared / "data" / folder / f"{split}.parquet") for split in ("train", "validation")}
    given = {"data": {"path": "parquet", "data_files": files, **data}, "max_train_examples": 20}
    given["max_eval_examples"] = 150
    config = FinetuneConfig.model_validate({"model": "m", "tasks": {name: given}})
    return load_examples(TASKS[name], task_settings(config, name))


def one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.eye(classes)[np.where(labels == IGNORE_INDEX, 0, labels)]


@pytest.mark.parametrize("name", FOLDERS)
def test_glue(shared: Path, name: str) -> None:
    task, splits = TASKS[name], load(shared, name, FOLDERS[name])
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "minilm-mlm")
    prepared = prepare_classification(task, splits["train"], {"validation": splits["validation"]}, tokenizer, 128)
    evaluation = prepared.evaluations["validation"]
    labels = np.asarray(evaluation.rows["labels"])
    logits = one_hot(labels, len(task.labels)) if task.labels else labels[:, None]
    assert evaluation.score(logits) == {metric: pytest.approx(100) for metric in task.metrics}
    kinds = {kind for row in evaluation.rows["token_type_ids"] for kind in row}
    assert kinds == ({0} if len(task.columns) == 1 else {0, 1})


def test_conll2003(shared: Path) -> None:
    splits = load(shared, "conll2003", "conll2003", label_column="ner")
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "minilm-mlm")
    prepared = prepare_entities(splits["train"], {"train": splits["train"]}, tokenizer, 512)
    rows = prepared.evaluations["train"].rows
    labels = np.full((len(rows), max(len(row) for row in rows["labels"])), IGNORE_INDEX)
    for index, row in enumerate(rows["labels"]):
        labels[index, : len(row)] = row
    scores = prepared.evaluations["train"].score(one_hot(labels, prepared.head["num_labels"]))
    assert scores["f1"] == scores["accuracy"] == pytest.approx(100)


def test_squad(shared: Path) -> None:
    splits = load(shared, "squad", "squad")
    tokenizer = AutoTokenizer.from_pretrained(shared / "models" / "minilm-mlm")
    examples = splits["validation"]
    prepared = prepare_question_answering(examples, {"validation": examples}, tokenizer, 128, 64)
    evaluation, labels = prepared.evaluations["validation"], prepared.train
    assert len(labels) > 1.5 * len(examples)
    starts, ends = np.zeros((len(labels), 128)), np.zeros((len(labels), 128))
    for logits, column in ((starts, "start_positions"), (ends, "end_positions")):
        tokens = np.asarray(labels[column])
        logits[np.arange(len(labels)), tokens] = np.where(tokens > 0, 9, 0)
    scores = evaluation.score((starts, ends))
    assert scores["exact_match"] > 97  # an answer may be part of a word, which a model cannot point at
    assert scores["f1"] > 99

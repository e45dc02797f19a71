from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, List, Value

from iit_toolkit.data.batch import IGNORE_INDEX
from iit_toolkit.downstream.config import FinetuneConfig, task_settings
from iit_toolkit.downstream.entities import prepare_entities
from iit_toolkit.downstream.examples import load_examples
from iit_toolkit.downstream.prepared import PreparedTask
from iit_toolkit.downstream.tasks import TASKS
from tests.downstream.tiny import tiny_tokenizer

WORDS = ["Anna", "playing", "Rome", "played"]
TAGS = ["B-PER", "O", "B-LOC", "I-LOC"]
NAMES = ["B-LOC", "B-PER", "I-LOC", "O"]


def prepared(rows: list[dict[str, Any]], evaluated: list[dict[str, Any]], max_length: int = 64) -> PreparedTask:
    splits = {"validation": Dataset.from_list(evaluated)}
    return prepare_entities(Dataset.from_list(rows), splits, tiny_tokenizer(), max_length)


def logits_of(tags: list[list[str]], positions: list[list[int]], width: int) -> np.ndarray:
    """Logits that give each word its tag at one position, and another tag everywhere else."""
    logits = np.zeros((len(tags), width, len(NAMES)))
    logits[:, :, NAMES.index("I-LOC")] = 1
    for row, (words, places) in enumerate(zip(tags, positions, strict=True)):
        for tag, place in zip(words, places, strict=True):
            logits[row, place] = 0
            logits[row, place, NAMES.index(tag)] = 2
    return logits


def test_only_the_first_subword_of_a_word_has_its_label() -> None:
    task = prepared([{"tokens": WORDS, "tags": TAGS}], [{"tokens": WORDS, "tags": TAGS}])
    tokens = tiny_tokenizer().convert_ids_to_tokens(task.train["input_ids"][0])
    assert tokens == ["[CLS]", "anna", "play", "##ing", "rome", "play", "##ed", "[SEP]"]
    assert task.head["id2label"] == dict(enumerate(NAMES))
    labels = [NAMES[label] if label != IGNORE_INDEX else "" for label in task.train["labels"][0]]
    assert labels == ["", "B-PER", "O", "", "B-LOC", "I-LOC", "", ""]


def test_predictions_are_read_at_first_subwords() -> None:
    row = {"tokens": WORDS, "tags": TAGS}
    evaluation = prepared([row], [row]).evaluations["validation"]
    right = evaluation.score(logits_of([TAGS], [[1, 2, 4, 5]], width=9))
    assert right == {name: pytest.approx(100) for name in ("f1", "precision", "recall", "accuracy")}
    wrong = [["B-PER", "O", "B-PER", "O"]]
    assert evaluation.score(logits_of(wrong, [[1, 2, 4, 5]], width=9))["f1"] == pytest.approx(50)


def test_words_that_are_cut_off_count_as_outside() -> None:
    row = {"tokens": WORDS, "tags": TAGS}
    evaluation = prepared([row], [row], max_length=5).evaluations["validation"]
    assert len(evaluation.rows["input_ids"][0]) == 5
    scores = evaluation.score(logits_of([TAGS[:2]], [[1, 2]], width=5))
    assert (scores["precision"], scores["recall"]) == (pytest.approx(100), pytest.approx(50))


def test_a_tag_that_training_lacks_is_missed_not_forgotten() -> None:
    evaluation = prepared(
        [{"tokens": WORDS, "tags": TAGS}], [{"tokens": ["Anna", "Oslo"], "tags": ["B-PER", "B-MISC"]}]
    ).evaluations["validation"]
    assert evaluation.rows["labels"][0][2] == IGNORE_INDEX
    scores = evaluation.score(logits_of([["B-PER", "O"]], [[1, 2]], width=4))
    assert (scores["precision"], scores["recall"]) == (pytest.approx(100), pytest.approx(50))


def test_tags_may_be_numbers_with_names(tmp_path: Any) -> None:
    features = Features({"tokens": List(Value("string")), "ner_tags": List(ClassLabel(names=["O", "B-PER", "I-PER"]))})
    rows = Dataset.from_dict({"tokens": [["Anna", "played"]], "ner_tags": [[1, 0]]}, features=features)
    rows.to_parquet(tmp_path / "rows.parquet")
    data = {"path": "parquet", "data_files": {s: str(tmp_path / "rows.parquet") for s in ("train", "validation")}}
    config = FinetuneConfig.model_validate({"model": "x", "tasks": {"conll2003": {"data": data}}})
    examples = load_examples(TASKS["conll2003"], task_settings(config, "conll2003"))
    assert examples["train"][0] == {"tokens": ["Anna", "played"], "tags": ["B-PER", "O"]}

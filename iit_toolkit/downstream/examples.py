"""Loads the examples of a task, and checks that they are what the task needs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from datasets import ClassLabel, Dataset, List, Value

from iit_toolkit.data.loading import TEXT, describe_split, load_split
from iit_toolkit.data.tokenization import spread_examples
from iit_toolkit.downstream.config import TaskSettings
from iit_toolkit.downstream.tasks import Task
from iit_toolkit.errors import UserError, listed
from iit_toolkit.interchange.answers import class_elsewhere

ANSWERS = {"classification": "label", "entities": "tags", "question_answering": "answers"}
"""The column of what is to be predicted, by the kind of the task."""


def load_examples(task: Task, settings: TaskSettings) -> dict[str, Dataset]:
    """Load training and evaluation splits, at most as many examples as the settings allow, evenly spread.

    Returns:
        By split, the task's columns and what is to be predicted: `label` (class number or value), `tags` (the tag of
        every word, as text) or `answers` (`text` and `answer_start`).

    Raises:
        UserError: If a split can't be loaded, lacks a column, or an example does not fit the task.
    """
    splits: dict[str, Dataset] = {}
    for split in dict.fromkeys([settings.train_split, *settings.eval_splits]):
        loaded = load_split(
            settings.path,
            split,
            name=settings.name,
            data_files=settings.data_files,
            columns=[*task.columns, settings.label_column],
        )
        limit = settings.max_train_examples if split == settings.train_split else settings.max_eval_examples
        where = f"data {describe_split(settings.path, settings.name, split)}"
        splits[split] = _checked(task, spread_examples(loaded, limit), settings.label_column, where)
    return splits


def _checked(task: Task, loaded: Dataset, label_column: str, where: str) -> Dataset:
    if not len(loaded):
        raise UserError(f"{where} has no examples")
    is_input = _is_words if task.kind == "entities" else _is_text
    for column in task.columns:
        _require_feature(loaded, column, is_input, "lists of words" if task.kind == "entities" else "text", where)
    _require_none_missing(loaded, task.columns, where)
    if task.kind == "classification":
        kind = _is_integer if task.labels else _is_number
        _require_feature(loaded, label_column, kind, "integers" if task.labels else "numbers", where)
        _require_labels(loaded[label_column], len(task.labels), where)
        _require_class_names(task, loaded.features[label_column], where)
        return _columns(loaded, task, label_column, "label")
    if task.kind == "entities":
        _require_feature(loaded, label_column, _is_tags, "lists of tags, or of numbers with tag names", where)
        _require_tags(loaded, label_column, where)
        return Dataset.from_dict({"tokens": loaded["tokens"], "tags": _tag_strings(loaded, label_column)})
    _require_feature(loaded, label_column, _is_answers, "`text` and `answer_start`", where)
    _require_answers(loaded, label_column, where)
    return _columns(loaded, task, label_column, "answers")


def _columns(loaded: Dataset, task: Task, label_column: str, name: str) -> Dataset:
    kept = loaded.select_columns([*task.columns, label_column])
    return kept if label_column == name else kept.rename_column(label_column, name)


def _require_feature(loaded: Dataset, column: str, is_right: Any, right: str, where: str) -> None:
    if column not in loaded.column_names:
        raise UserError(f'{where} has no column "{column}"; it has: {listed(loaded.column_names)}')
    feature = loaded.features[column]
    if not is_right(feature):
        raise UserError(f'{where}: column "{column}" holds {feature}, not {right}')


def _require_none_missing(loaded: Dataset, columns: Sequence[str], where: str) -> None:
    for column in columns:
        for index, value in enumerate(loaded[column]):
            if value is None or (isinstance(value, list) and None in value):
                raise UserError(f'{where}: example {index} lacks its "{column}", or a part of it')


def _require_labels(labels: list[Any], classes: int, where: str) -> None:
    for index, label in enumerate(labels):
        if label is None or not math.isfinite(label):
            raise UserError(f"{where}: example {index} has the label {label}: every example needs one")
        if classes and not 0 <= label < classes:
            raise UserError(f"{where}: example {index} has the label {label}; the task has 0 to {classes - 1}")


def _require_class_names(task: Task, feature: Any, where: str) -> None:
    named = dict(enumerate(feature.names)) if isinstance(feature, ClassLabel) else {}
    if (other := class_elsewhere(dict(enumerate(task.labels)), named)) is not None:
        name, expected, found = other
        raise UserError(
            f"{where} numbers the class {name} {found}, the task {expected}; give data with the task's numbers"
        )


def _require_tags(loaded: Dataset, column: str, where: str) -> None:
    for index, (words, tags) in enumerate(zip(loaded["tokens"], loaded[column], strict=True)):
        if tags is None or None in tags:
            raise UserError(f"{where}: example {index} has the tags {tags}: every word needs one")
        if len(words) != len(tags):
            raise UserError(f"{where}: example {index} has {len(words)} words and {len(tags)} tags")


def _require_answers(loaded: Dataset, column: str, where: str) -> None:
    for index, (context, answers) in enumerate(zip(loaded["context"], loaded[column], strict=True)):
        texts, starts = ((answers or {}).get(key) or [] for key in ("text", "answer_start"))
        if not texts:
            raise UserError(f"{where}: example {index} has no answer; SQuAD v1.1 has one to every question")
        if len(texts) != len(starts) or None in [*texts, *starts]:
            raise UserError(f"{where}: example {index} has the answers {texts} at {starts}: each needs its start")
        for text, start in zip(texts, starts, strict=True):
            found = context[start : start + len(text)]
            if found != text:
                raise UserError(f"{where}: example {index} has the answer {text!r} where its context has {found!r}")


def _tag_strings(loaded: Dataset, column: str) -> list[list[str]]:
    inner: Any = _inner(loaded.features[column])
    if isinstance(inner, ClassLabel):
        return [[inner.names[tag] for tag in tags] for tags in loaded[column]]
    return list(loaded[column])


def _is_text(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in TEXT


def _is_integer(feature: Any) -> bool:
    return isinstance(feature, ClassLabel) or (isinstance(feature, Value) and "int" in feature.dtype)


def _is_number(feature: Any) -> bool:
    return isinstance(feature, Value) and ("int" in feature.dtype or "float" in feature.dtype)


def _inner(feature: Any) -> Any:
    return feature.feature if isinstance(feature, List) else None


def _is_words(feature: Any) -> bool:
    return _is_text(_inner(feature))


def _is_tags(feature: Any) -> bool:
    return _is_words(feature) or isinstance(_inner(feature), ClassLabel)


def _is_answers(feature: Any) -> bool:
    return (
        isinstance(feature, dict)
        and _is_words(feature.get("text"))
        and isinstance(_inner(feature.get("answer_start")), Value)
    )

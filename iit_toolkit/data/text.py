"""Loads texts through `datasets`, with errors that name the file, the column and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from datasets import ClassLabel, Dataset, List, Value

from iit_toolkit.data.loading import TEXT, DataFiles, describe_split, load_split
from iit_toolkit.data.python_docs import python_documentation_splits
from iit_toolkit.data.wikitext import wikitext_articles
from iit_toolkit.errors import UserError, did_you_mean, listed

_SPANS, _TEXTS, _LISTS = "lists [start, end] of integers", "text", "lists of words"
_TAGS = "lists of tags: integers, or text"
_WORDS = f"words or {_SPANS}"
_PLACES = {"answer": _WORDS, "source_answer": _WORDS, "family": _TEXTS, "candidates": _LISTS}
"""What further columns of pairs hold, if not spans."""


def load_python_docs(split: str) -> Dataset:
    """Load the documentation of the running Python: one document per row, in the column `text`.

    Raises:
        UserError: If the split is none of train, validation and test.
    """
    splits = python_documentation_splits()
    if split not in splits:
        raise UserError(f'source python_docs has no split "{split}": {did_you_mean(split, splits)}')
    return Dataset.from_dict({"text": splits[split]})


def load_texts(
    path: str,
    split: str,
    *,
    name: str | None = None,
    data_files: DataFiles | None = None,
    text_column: str | Sequence[str] = "text",
    label_column: str | None = None,
    tags_column: str | None = None,
    source_column: str | Sequence[str] | None = None,
    place_columns: Mapping[str, str] | None = None,
) -> Dataset:
    """Load one split of whatever `datasets.load_dataset` takes.

    Args:
        path: A builder (`text`, `parquet`, `json`, ...) or a Hub id.
        split: Split, such as `train` or `validation[:1000]`.
        name: Configuration of the data set.
        data_files: Files for a builder, by split.
        text_column: Column of the texts, or two columns of the sentences of a row.
        label_column: Column of integer labels, if they are wanted.
        tags_column: Column of lists of tags, if they are wanted. The columns of texts are then ones of lists of words.
        source_column: Column of the sources, if every row is a pair and `text_column` its base; two columns if
            `text_column` is two.
        place_columns: Further columns of pairs, by what they are called in the result. `span` and `source_span`: the
            swapped characters of base and source, `[start, end]` with `end` excluded. `answer` and `source_answer`: the
            same of the answers, or a word. `candidates`: lists of words. `family`: the kind of a pair.

    Returns:
        A dataset with the column `text` and, if asked for, `text_pair` (second sentences), `label`, `tags`, `source`,
        `source_pair` and those of `place_columns`.

    Raises:
        UserError: If the data can't be read, has no such column, or the column holds no text, no integer
            labels, no words, no tags or no spans.
    """
    where = describe_split(path, name, split)
    places = dict(place_columns or {})
    texts = _named("text", text_column) | ({} if source_column is None else _named("source", source_column))
    wanted = [*texts.values(), label_column, tags_column, *places.values()]
    needed = list(dict.fromkeys(column for column in wanted if column is not None))
    dataset = load_split(path, split, name=name, data_files=data_files, columns=needed)
    for name, column in texts.items():
        key = f"data.{name.removesuffix('_pair')}_column"
        if tags_column is None:
            _require_text(dataset, column, where, key)
        else:
            _require_kind(dataset, column, where, key, _LISTS)
    columns = dict(texts)
    if tags_column is not None:
        columns["tags"] = tags_column
        _require_kind(dataset, tags_column, where, "data.tags_column", _TAGS)
    if label_column is not None:
        columns["label"] = label_column
        _require_column(dataset, label_column, where, "data.label_column")
        if not _is_label(dataset.features[label_column]):
            raise UserError(f'data {where}: column "{label_column}" holds {_kind(dataset, label_column)}, not integers')
    for name, column in places.items():
        columns[name] = column
        _require_kind(dataset, column, where, f"data.{name}_column", _PLACES.get(name, _SPANS))
    return _as_named(dataset, columns)


def join_wikitext(lines: Dataset, unknown_token: str | None) -> Dataset:
    """Join a dataset of WikiText lines into one of articles; see `wikitext_articles`."""
    texts = (text or "" for text in lines["text"])
    return Dataset.from_dict({"text": wikitext_articles(texts, unknown_token)})


def _require_text(dataset: Dataset, column: str, where: str, key: str) -> None:
    _require_column(dataset, column, where, key)
    if not _is_text(dataset.features[column]):
        raise UserError(f'data {where}: column "{column}" holds {_kind(dataset, column)}, not text')
    if not any(text and text.strip() for text in dataset[column]):
        raise UserError(f'data {where}: column "{column}" holds no text in any of its {len(dataset)} rows')


def _require_column(dataset: Dataset, column: str, where: str, key: str) -> None:
    if column not in dataset.column_names:
        raise UserError(f'data {where} has no column "{column}" ({key}); it has: {listed(dataset.column_names)}')


def _require_kind(dataset: Dataset, column: str, where: str, key: str, expected: str) -> None:
    _require_column(dataset, column, where, key)
    feature = dataset.features[column]
    if not any(holds(feature) for holds in _HOLD[expected]):
        raise UserError(f'data {where}: column "{column}" ({key}) holds {_kind(dataset, column)}, not {expected}')


def _is_text(feature: Any) -> bool:
    return isinstance(feature, Value) and feature.dtype in TEXT


def _is_label(feature: Any) -> bool:
    return isinstance(feature, ClassLabel) or (isinstance(feature, Value) and "int" in feature.dtype)


def _is_span(feature: Any) -> bool:
    return isinstance(feature, List) and isinstance(feature.feature, Value) and "int" in feature.feature.dtype


def _is_words(feature: Any) -> bool:
    return isinstance(feature, List) and _is_text(feature.feature)


def _is_tags(feature: Any) -> bool:
    return isinstance(feature, List) and (_is_label(feature.feature) or _is_text(feature.feature))


_HOLD = {
    _SPANS: (_is_span,),
    _TEXTS: (_is_text,),
    _WORDS: (_is_span, _is_text),
    _LISTS: (_is_words,),
    _TAGS: (_is_tags,),
}
"""What is a column of each kind."""


def _kind(dataset: Dataset, column: str) -> str:
    feature = dataset.features[column]
    return feature.dtype if isinstance(feature, Value) else type(feature).__name__


def _named(name: str, columns: str | Sequence[str]) -> dict[str, str]:
    """Return the columns of texts by what they are called in the result."""
    given = (columns,) if isinstance(columns, str) else columns
    return dict(zip((name, f"{name}_pair"), given, strict=False))


def _as_named(dataset: Dataset, columns: Mapping[str, str]) -> Dataset:
    """Return columns under other names; bases and sources may have a sentence in common, so one may have two names."""
    first = {old: new for new, old in reversed(list(columns.items()))}
    found = dataset.select_columns(list(first)).rename_columns({old: new for old, new in first.items() if old != new})
    for new, old in columns.items():
        if first[old] != new:
            found = cast(Any, found).add_column(new, list(found[first[old]]))
    return found

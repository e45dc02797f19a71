"""From what a config says of its data to rows of token ids."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from datasets import ClassLabel, Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from iit_toolkit.config.data_config import DataConfig
from iit_toolkit.config.task import FACTS, Task
from iit_toolkit.data.batch import IGNORE_INDEX
from iit_toolkit.data.collate import collator_for
from iit_toolkit.data.minimal_pairs import minimal_pairs
from iit_toolkit.data.pairs import PairedRows, tokenize_pairs
from iit_toolkit.data.readable import readable_tokens
from iit_toolkit.data.tables import lists_of, numbers_of
from iit_toolkit.data.tagged import numbered_tags, tokenize_tagged
from iit_toolkit.data.text import join_wikitext, load_python_docs, load_texts
from iit_toolkit.data.tokenization import first_examples, tokenize_corpus, tokenize_labelled
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.answers import class_elsewhere, class_names
from iit_toolkit.pipeline.kept_pairs import changed_pairs, kept

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedRows:
    """What `load_rows` returns.

    Attributes:
        rows: The rows.
        skipped: How many pairs cannot be used, by reason; `None` if the rows are no pairs.
    """

    rows: Dataset
    skipped: dict[str, int] | None = None


def load_rows(
    teacher: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    data: DataConfig,
    split: str,
    max_tokens: int | None = None,
    max_examples: int | None = None,
) -> LoadedRows:
    """Load one split of a data set and cut it into rows of token ids.

    Args:
        teacher: Says how long rows may be, which labels there are and, if pairs are to be kept by it, what it answers.
        tokenizer: Its tokenizer.
        task: What the rows are for.
        data: What the config says of the data.
        split: The split.
        max_tokens: Tokens of a corpus, at most.
        max_examples: Labelled rows, at most.

    Raises:
        UserError: If the data cannot be loaded or used.
    """
    texts = _texts(data, split)
    answers = None if data.label_column is None else texts.features["label"]
    if data.tags_column is not None:
        answers = texts.features["tags"].feature
        texts = numbered_tags(texts, class_names(teacher.config), f"data.tags_column {data.tags_column}: split {split}")
    texts = first_examples(texts, max_examples)
    if data.detokenize == "wikitext":
        texts = join_wikitext(texts, tokenizer.unk_token)  # pyright: ignore[reportArgumentType]
    limit, where = readable_tokens(teacher), f"data, split {split}"
    skipped: dict[str, int] | None = None
    if data.paired:
        causal = task == "causal_lm"
        pairs = tokenize_pairs(texts, tokenizer, data.max_length, causal=causal, position_limit=limit, where=where)
        rows, skipped = pairs.rows, pairs.skipped
        _warn_of_lost(split, len(texts), skipped, "pairs are skipped")
        _warn_of_candidates(split, pairs)
        if data.keep == "changed":
            rows = _changed(rows, teacher, tokenizer, task, where)
    elif FACTS[task].column == "label_column":
        rows = tokenize_labelled(texts, tokenizer, data.max_length, position_limit=limit, where=where)
    elif FACTS[task].column == "tags_column":
        dropped = Counter[str]()
        rows = tokenize_tagged(texts, tokenizer, data.max_length, position_limit=limit, dropped=dropped)
        _warn_of_lost(split, len(rows) + dropped.total(), dropped, "rows are dropped")
    else:
        dropped = Counter[str]()
        rows = tokenize_corpus(
            texts,
            tokenizer,
            data.max_length,
            packing=data.packing,
            max_tokens=max_tokens,
            position_limit=limit,
            min_length=data.min_length,
            dropped=dropped,
        )
        _warn_of_lost(split, len(rows) + dropped.total(), dropped, "rows are dropped")
    if FACTS[task].classes:
        _require_labels(teacher, data, split, _labels_of(rows), answers)
    return LoadedRows(rows, skipped)


def _labels_of(rows: Dataset) -> set[int]:
    """Return the labels, or tags, that occur."""
    if "label" in rows.column_names:
        return set(np.unique(numbers_of(rows, "label")).tolist())
    return {int(tag) for tags, _ in lists_of(rows, "tags") for tag in np.unique(tags)} - {IGNORE_INDEX}


def _texts(data: DataConfig, split: str) -> Dataset:
    if data.source == "python_docs":
        return load_python_docs(split)
    if data.families is not None:
        families = data.eval_families if split == data.eval_split else None
        return minimal_pairs(families or data.families, split, data.pairs_per_family)
    assert data.path is not None
    return load_texts(
        data.path,
        split,
        name=data.name,
        data_files=data.data_files,
        text_column=data.text_column,
        label_column=data.label_column,
        tags_column=data.tags_column,
        source_column=data.source_column,
        place_columns=data.place_columns,
    )


def _changed(
    rows: Dataset, teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task, where: str
) -> Dataset:
    """Keep the questions whose source the teacher answers otherwise than their base, and say how many there are."""
    chosen = changed_pairs(teacher, rows, collator_for(task, tokenizer), task)
    share = f"{int(chosen.sum()):,} of {len(rows):,} pairs ({chosen.mean():.1%})"
    _LOG.info("%s: the swapped words change the teacher's answer in %s; the others are dropped", where, share)
    return kept(rows, chosen, where)


def _require_labels(teacher: PreTrainedModel, data: DataConfig, split: str, found: set[int], feature: Any) -> None:
    column = f"label_column {data.label_column}" if data.tags_column is None else f"tags_column {data.tags_column}"
    where = f"data.{column}: split {split}"
    labels = cast(int, teacher.config.num_labels)
    if max(found) >= labels:
        raise UserError(
            f"{where} has the label {max(found)}, but the teacher only knows 0 to {labels - 1}; give the data that "
            "it was trained for"
        )
    named = dict(enumerate(feature.names)) if isinstance(feature, ClassLabel) else {}
    if (other := class_elsewhere(class_names(teacher.config), named)) is not None:
        name, expected, given = other
        raise UserError(
            f"{where} numbers the class {name} {given}, the teacher {expected}; give data with the teacher's "
            "numbers, or correct id2label in the teacher's config.json if that is wrong"
        )
    if len(found) == 1 and not data.paired:  # the bases of pairs may be of one class
        raise UserError(
            f"{where} has only one class, {min(found)}, so nothing can be told apart; give rows of several classes"
        )


def _warn_of_candidates(split: str, pairs: PairedRows) -> None:
    told = {
        "are asked without candidates: they need two or more, each a known token of its own": pairs.unchosen,
        "have an answer that is none of their candidates": pairs.unlisted,
    }
    for what, count in told.items():
        if count:
            _LOG.warning("data, split %s: %s of %s questions %s", split, f"{count:,}", f"{len(pairs.rows):,}", what)


def _warn_of_lost(split: str, count: int, lost: Mapping[str, int], what: str) -> None:
    if lost:
        reasons = "; ".join(lost)
        if len(lost) > 1:
            reasons = "; ".join(f"{reason} ({number:,})" for reason, number in lost.items())
        _LOG.warning("data, split %s: %s of %s %s: %s", split, f"{sum(lost.values()):,}", f"{count:,}", what, reasons)

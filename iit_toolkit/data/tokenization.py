"""Cuts texts into rows of token ids."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from torch import Tensor
from tqdm.auto import tqdm

from iit_toolkit.data.special_tokens import SpecialTokens, Wrapping
from iit_toolkit.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MINIMUM_TOKENS = 12  # the paper's code drops rows of 11 tokens and less, special tokens included
_TEXTS_AT_A_TIME = 64


def tokenize_corpus(
    texts: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    packing: bool = True,
    max_tokens: int | None = None,
    position_limit: int | None = None,
    min_length: int = MINIMUM_TOKENS,
    dropped: Counter[str] | None = None,
) -> Dataset:
    """Cuts texts into rows of at most `max_length` tokens; no row holds tokens of two texts.

    Rows are wrapped as `tokenizer(text)` wraps a text: `[CLS] ... [SEP]` for BERT, nothing for GPT-2.
    Dropped are rows of fewer than `min_length` tokens and rows of which half or more is the unknown token, as in the
    paper's code. Nothing is cached, so the same texts give the same rows.

    Args:
        texts: Texts in the column `text`.
        tokenizer: The teacher's tokenizer, which is the student's too.
        max_length: Tokens of the longest row, special tokens included.
        packing: Fill rows across the lines of a text, so that only its last row is short. Otherwise every
            line starts a row of its own, as in the paper's code.
        max_tokens: Stop before the rows hold more tokens than this, special tokens included.
        position_limit: Longest input of the model, where the tokenizer doesn't know it.
        min_length: Tokens of the shortest row that is kept, special tokens included; the paper's code drops those of
            11 and fewer.
        dropped: How many rows are dropped is added to it, by reason.

    Returns:
        A dataset of `input_ids` (lists of int32), `example_id` (0, 1, ...) and `text_id`, the number of the row's text.

    Raises:
        UserError: If `max_length` is too small or too large, or no row is left.
    """
    check_max_length(max_length, tokenizer, position_limit)
    if max_length < min_length:
        raise UserError(
            f"data.max_length is {max_length}, but rows under {min_length} tokens (data.min_length) are dropped"
        )
    dropped = Counter() if dropped is None else dropped
    special = SpecialTokens.of(tokenizer)
    content = max_length - len(special.wrapping)
    ids, ends, of_texts = array("i"), array("i", [0]), array("i")
    for text, tokens in _tokenized(texts["text"], tokenizer, by_line=not packing):
        for start in range(0, len(tokens), content):
            row = special.wrapping.around(tokens[start : start + content])
            if len(row) < min_length:
                dropped[f"fewer than {min_length} tokens (data.min_length)"] += 1
                continue
            if _mostly(special.unk, row):
                dropped["half or more unknown to the tokenizer"] += 1
                continue
            if max_tokens is not None and len(ids) + len(row) > max_tokens:
                return _rows(ids, ends, of_texts, len(texts), min_length)
            ids.extend(row)
            ends.append(len(ids))
            of_texts.append(text)
    return _rows(ids, ends, of_texts, len(texts), min_length)


def tokenize_labelled(
    texts: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, *, position_limit: int | None = None
) -> Dataset:
    """Tokenizes one row per labelled text, cut to `max_length`; no row is dropped.

    Args:
        texts: Texts and integer labels in the columns `text` and `label`.
        tokenizer: The teacher's tokenizer.
        max_length: Tokens of the longest row, special tokens included.
        position_limit: Longest input of the model, where the tokenizer doesn't know it.

    Returns:
        A dataset of `input_ids` (with the tokenizer's special tokens), `label` and `example_id` (0, 1, ...).

    Raises:
        UserError: If `max_length` is too small or too large, or a label is missing or negative (as in test sets without
            labels).
    """
    check_max_length(max_length, tokenizer, position_limit)
    labels = checked_labels(texts)
    ids: list[list[int]] = tokenizer(
        [text or "" for text in texts["text"]],
        truncation=True,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
    )["input_ids"]
    return Dataset.from_dict({"input_ids": ids, "label": labels, "example_id": list(range(len(ids)))})


def spread_examples(rows: Dataset, count: int | None) -> Dataset:
    """Takes `count` rows (None: all) at even distances, so that few rows still come from many texts."""
    if count is None or count >= len(rows):
        return rows
    return rows.select([index * len(rows) // count for index in range(count)])


def first_examples(rows: Dataset, count: int | None) -> Dataset:
    """Takes the first `count` rows (None: all) of one shuffled order.

    The order is always the same: fewer rows are part of more rows, whatever a run's seed, and sorted data come mixed.
    """
    if count is None or count >= len(rows):
        return rows
    return shuffled(rows).select(range(count))


def shuffled(rows: Dataset) -> Dataset:
    """Puts rows into a shuffled order, which is always the same."""
    return rows.select(np.random.default_rng(0).permutation(len(rows)))


def count_tokens(rows: Dataset, vocabulary: int) -> Tensor:
    """Counts each token id in the rows: (V,) int64."""
    counts = torch.zeros(vocabulary, dtype=torch.long)
    batches = rows.select_columns(["input_ids"]).iter(batch_size=1000)
    for batch in cast(Iterator[dict[str, list[list[int]]]], batches):
        ids = torch.tensor([token for row in batch["input_ids"] for token in row])
        counts += torch.bincount(ids, minlength=vocabulary)
    return counts


def _tokenized(
    texts: Sequence[str | None], tokenizer: PreTrainedTokenizerBase, *, by_line: bool
) -> Iterator[tuple[int, list[int]]]:
    """Token ids, without special tokens, of each text or of each of its lines, with the text's number."""
    for start in tqdm(range(0, len(texts), _TEXTS_AT_A_TIME), "tokenizing", disable=None):
        some = enumerate(texts[start : start + _TEXTS_AT_A_TIME], start)
        batch = [(number, text) for number, text in some if text and text.strip()]
        if by_line:
            batch = [(number, line) for number, text in batch for line in text.splitlines() if line.strip()]
        if batch:
            numbers, parts = zip(*batch, strict=True)
            tokens: list[list[int]] = tokenizer(
                list(parts),
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,  # texts are longer than the model's input: they are cut here
            )["input_ids"]
            yield from zip(numbers, tokens, strict=True)


def _rows(ids: array[int], ends: array[int], of_texts: array[int], texts: int, min_length: int) -> Dataset:
    if len(ends) == 1:
        raise UserError(
            f"no row is left of {texts} texts: each needs {min_length} tokens, most of them known to the tokenizer, "
            "and must fit into data.max_train_tokens; lower data.min_length, or give other texts"
        )
    values = pa.array(np.frombuffer(ids, dtype=np.int32))
    lists = pa.ListArray.from_arrays(pa.array(np.frombuffer(ends, dtype=np.int32)), values)
    numbers = {"example_id": range(len(lists)), "text_id": of_texts}
    columns = {name: pa.array(values, type=pa.int64()) for name, values in numbers.items()}
    return Dataset.from_dict({"input_ids": lists, **columns})


def checked_labels(texts: Dataset) -> list[int]:
    """Returns the labels, none of which may be missing or negative."""
    labels = list(texts["label"])
    for index, label in enumerate(labels):
        if label is None or label < 0:
            raise UserError(f"row {index} has the label {label}: every row needs one of 0, 1, ...")
    return labels


def check_max_length(max_length: int, tokenizer: PreTrainedTokenizerBase, position_limit: int | None) -> None:
    """Refuses a length that gives no rows, or that the model cannot read."""
    limit = min(tokenizer.model_max_length, position_limit or tokenizer.model_max_length)
    least = 1 + len(Wrapping.of(tokenizer))
    if max_length < least:
        raise UserError(
            f"data.max_length is {max_length}, but a row needs {least} tokens at least, special ones included"
        )
    if max_length > limit:
        raise UserError(f"data.max_length is {max_length}, but the model reads at most {limit} tokens")


def _mostly(token: int | None, row: list[int]) -> bool:
    return token is not None and 2 * row.count(token) >= len(row)

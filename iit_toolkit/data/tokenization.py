"""Cuts texts into rows of token ids."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from numpy.typing import NDArray
from torch import Tensor

from iit_toolkit.data.encoding import encoded
from iit_toolkit.data.sentences import TYPES, encoded_sentences, has_two, of_row
from iit_toolkit.data.shared import DIGEST, text_digest
from iit_toolkit.data.special_tokens import SpecialTokens, Wrapping
from iit_toolkit.data.tables import dataset_of, gathered, lists_of, numbers_of
from iit_toolkit.errors import UserError
from iit_toolkit.runs.progress import counted

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MINIMUM_TOKENS = 12  # the paper's code drops rows of 11 tokens and less, special tokens included
_TEXTS_AT_A_TIME = 64
_LABELLED_AT_A_TIME = 1000
_TOKENS_AT_A_TIME = 2**20
_IDS = ("input_ids", pa.list_(pa.int32()))
_CUT = pa.schema([_IDS, ("example_id", pa.int64()), ("text_id", pa.int64()), (DIGEST, pa.int64())])
_LABELLED = pa.schema([_IDS, ("label", pa.int64()), ("example_id", pa.int64()), (DIGEST, pa.int64())])


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
    """Cut texts into rows of at most `max_length` tokens; no row holds tokens of two texts.

    Rows are wrapped as `tokenizer(text)` wraps a text: `[CLS] ... [SEP]` for BERT, nothing for GPT-2.
    Rows of fewer than `min_length` tokens are dropped, and rows of which half or more is the unknown token, as in the
    paper's code. Nothing is cached, so the same texts give the same rows.

    Args:
        texts: Texts in the column `text`.
        tokenizer: The teacher's tokenizer, which is the student's too.
        max_length: Tokens of the longest row, special tokens included.
        packing: Fill rows across the lines of a text, so that only its last row is short. Otherwise every
            line starts a row of its own, as in the paper's code.
        max_tokens: Stop before the rows hold more tokens than this, special tokens included.
        position_limit: Longest input of the model, if the tokenizer doesn't know it.
        min_length: Tokens of the shortest row that is kept, special tokens included; the paper's code drops those of
            11 and fewer.
        dropped: Takes the counts of dropped rows, by reason.

    Returns:
        A dataset of `input_ids` (lists of int32), `example_id` (0, 1, ...), `text_id` (the number of the row's text)
        and `text_digest`. The digest identifies what that text says.

    Raises:
        UserError: If `max_length` is too small or too large, or no row is left.
    """
    require_max_length(max_length, tokenizer, position_limit)
    if max_length < min_length:
        raise UserError(
            f"data.max_length is {max_length}, but rows under {min_length} tokens (data.min_length) are dropped"
        )
    cut = _Cut(tokenizer, max_length, max_tokens, min_length, Counter() if dropped is None else dropped)
    table = gathered(cut.batches(_tokenized(texts["text"], tokenizer, by_line=not packing)), _CUT)
    if not len(table):
        raise UserError(
            f"no row is left of {len(texts)} texts: each needs {min_length} tokens, most of them known to the "
            "tokenizer, and must fit into data.max_train_tokens; lower data.min_length, or give other texts"
        )
    return dataset_of(table)


@dataclass(frozen=True)
class _Cut:
    """Cuts tokenized texts into rows, batch by batch; see `tokenize_corpus`."""

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    max_tokens: int | None
    min_length: int
    dropped: Counter[str]

    def batches(self, texts: Iterable[tuple[int, int, list[int]]]) -> Iterator[Any]:
        """Record batches of rows of numbered texts with their digests."""
        ids, ends, of_texts, digests = array("i"), array("i", [0]), array("q"), array("q")
        rows = tokens = 0
        for text, digest, row in self._rows(texts):
            if self.max_tokens is not None and tokens + len(row) > self.max_tokens:
                break
            tokens += len(row)
            ids.extend(row)
            ends.append(len(ids))
            of_texts.append(text)
            digests.append(digest)
            if len(ids) >= _TOKENS_AT_A_TIME:
                yield _batch(rows, ids, ends, of_texts, digests)
                rows += len(of_texts)
                ids, ends, of_texts, digests = array("i"), array("i", [0]), array("q"), array("q")
        yield _batch(rows, ids, ends, of_texts, digests)

    def _rows(self, texts: Iterable[tuple[int, int, list[int]]]) -> Iterator[tuple[int, int, list[int]]]:
        special = SpecialTokens.of(self.tokenizer)
        content = self.max_length - len(special.wrapping)
        for text, digest, tokens in texts:
            for start in range(0, len(tokens), content):
                row = special.wrapping.around(tokens[start : start + content])
                if len(row) < self.min_length:
                    self.dropped[f"fewer than {self.min_length} tokens (data.min_length)"] += 1
                elif _mostly(special.unk, row):
                    self.dropped["half or more unknown to the tokenizer"] += 1
                else:
                    yield text, digest, row


def tokenize_labelled(
    texts: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    position_limit: int | None = None,
    where: str = "data",
) -> Dataset:
    """Tokenize one row per labelled text, cut to `max_length`; no row is dropped.

    Of two sentences that are too long together, the longer one is cut, token by token, until the row fits
    (`truncation=True` of transformers).

    Args:
        texts: Texts and integer labels in the columns `text` and `label`; second sentences, if any, in `text_pair`.
        tokenizer: The teacher's tokenizer.
        max_length: Tokens of the longest row, special tokens included.
        position_limit: Longest input of the model, if the tokenizer doesn't know it.
        where: What messages call the texts.

    Returns:
        A dataset of `input_ids` (with the tokenizer's special tokens), `label`, `example_id` (0, 1, ...) and
        `text_digest`, which identifies what the row's text says. Rows of two sentences have `token_type_ids` if the
        tokenizer gives them.

    Raises:
        UserError: If `max_length` is too small or too large, or a text is missing or can't be tokenized. If a label is
            missing or negative (as in test sets without labels). As for `encoded_sentences`.
    """
    require_max_length(max_length, tokenizer, position_limit)
    labels = checked_labels(texts, where)
    typed = has_two(texts) and TYPES in tokenizer.model_input_names
    schema = _LABELLED.append(pa.field(TYPES, pa.list_(pa.int8()))) if typed else _LABELLED
    return dataset_of(gathered(_labelled(texts, labels, tokenizer, max_length, where, schema), schema))


def _labelled(
    texts: Dataset,
    labels: NDArray[np.int64],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    where: str,
    schema: Any,
) -> Iterator[Any]:
    special = SpecialTokens.of(tokenizer)
    for start in range(0, len(texts), _LABELLED_AT_A_TIME):
        rows = texts[start : start + _LABELLED_AT_A_TIME]
        first = _whole(rows["text"], start, where, "text")
        second = _whole(rows["text_pair"], start, where, "second sentence") if has_two(texts) else None
        end = start + len(first)
        made = encoded_sentences(
            tokenizer,
            first,
            second,
            range(start, end),
            special,
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
        )
        told = map(of_row, first, second or [None] * len(first))
        columns = [made["input_ids"], labels[start:end], np.arange(start, end), [text_digest(text) for text in told]]
        columns += [made[TYPES]] if TYPES in schema.names else []
        yield pa.record_batch(
            [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
        )


def _whole(texts: Sequence[str | None], first: int, where: str, what: str) -> list[str]:
    """Return the texts; refuse a missing one: its label would be learned from nothing."""
    for number, text in enumerate(texts, first):
        if text is None:
            raise UserError(
                f"{where}: row {number:,} has no {what} (null, or an empty cell); give one, or leave it out"
            )
    return cast(list[str], list(texts))


def spread_examples(rows: Dataset, count: int | None) -> Dataset:
    """Take `count` rows (None: all) at even distances, so that few rows still come from many texts."""
    if count is None or count >= len(rows):
        return rows
    return rows.select(np.arange(count) * len(rows) // count)


def first_examples(rows: Dataset, count: int | None) -> Dataset:
    """Take the first `count` rows (None: all) of one shuffled order.

    The order is always the same: fewer rows are part of more rows, whatever a run's seed, and sorted data come mixed.
    """
    if count is None or count >= len(rows):
        return rows
    return shuffled(rows).select(range(count))


def shuffled(rows: Dataset) -> Dataset:
    """Put rows into a shuffled order, which is always the same."""
    return rows.select(np.random.default_rng(0).permutation(len(rows)))


def count_tokens(rows: Dataset, vocabulary: int) -> Tensor:
    """Count each token id in the rows: (V,) int64."""
    counts = torch.zeros(vocabulary, dtype=torch.long)
    for ids, _ in lists_of(rows, "input_ids"):
        counts += torch.from_numpy(np.bincount(ids, minlength=vocabulary))
    return counts


def _tokenized(
    texts: Sequence[str | None], tokenizer: PreTrainedTokenizerBase, *, by_line: bool
) -> Iterator[tuple[int, int, list[int]]]:
    """Token ids, without special tokens, of each text or of each of its lines, with the text's number and digest."""
    for start in counted(range(0, len(texts), _TEXTS_AT_A_TIME), "tokenizing"):
        some = enumerate(texts[start : start + _TEXTS_AT_A_TIME], start)
        batch = [(number, text_digest(text), text) for number, text in some if text and text.strip()]
        if by_line:
            batch = [(*key, line) for *key, text in batch for line in text.splitlines() if line.strip()]
        if batch:
            numbers, digests, parts = zip(*batch, strict=True)
            tokens = encoded(
                tokenizer,
                parts,
                numbers,
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,  # texts are longer than the model's input: they are cut here
            )["input_ids"]
            yield from zip(numbers, digests, tokens, strict=True)


def _batch(first: int, ids: array[int], ends: array[int], texts: array[int], digests: array[int]) -> Any:
    lists = pa.ListArray.from_arrays(
        pa.array(np.frombuffer(ends, np.int32)), pa.array(np.frombuffer(ids, np.int32)), type=_CUT.field(0).type
    )
    numbers = [np.arange(first, first + len(texts)), np.frombuffer(texts, np.int64), np.frombuffer(digests, np.int64)]
    return pa.record_batch([lists, *(pa.array(column, pa.int64()) for column in numbers)], schema=_CUT)


def checked_labels(texts: Dataset, where: str = "data") -> NDArray[np.int64]:
    """Return the labels, none of which may be missing or negative."""
    start = 0
    for batch in cast(Any, texts.select_columns(["label"])).iter(batch_size=1000):
        for index, label in enumerate(batch["label"], start):
            if label is None or label < 0:
                raise UserError(f"{where}: row {index} has the label {label}: every row needs one of 0, 1, ...")
        start += len(batch["label"])
    return numbers_of(texts, "label")


def require_max_length(max_length: int, tokenizer: PreTrainedTokenizerBase, position_limit: int | None) -> None:
    """Refuse a length that gives no rows, or that the model cannot read."""
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

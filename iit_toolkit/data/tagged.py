"""Words with a tag each, and the tokens that have these tags: the first one of every word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset
from numpy.typing import NDArray

from iit_toolkit.data.batch import IGNORE_INDEX
from iit_toolkit.data.encoding import encoded
from iit_toolkit.data.shared import DIGEST, text_digest
from iit_toolkit.data.tables import dataset_of, gathered
from iit_toolkit.data.tokenization import require_max_length
from iit_toolkit.errors import UserError, listed

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

UNSEEN = -1
"""The position of a word that has no token, such as one that is cut off."""
NO_WORD = "no word has a tag"
_COMPUTE = cast(Any, pc)  # it makes most of its functions as it is imported
_AT_A_TIME = 1000
_LISTS = pa.list_(pa.int32())
_SCHEMA = pa.schema([("input_ids", _LISTS), ("tags", _LISTS), ("example_id", pa.int64()), (DIGEST, pa.int64())])


def first_tokens(words: Sequence[int | None], count: int) -> list[int]:
    """Return the position of the first token of every word, or `UNSEEN`.

    Args:
        words: (S,) the word that each token is of, as `word_ids()` of a fast tokenizer says.
        count: How many words there are.
    """
    first = [UNSEEN] * count
    for position in reversed(range(len(words))):
        word = words[position]
        if word is not None:
            first[word] = position
    return first


def tags_of_tokens(words: Sequence[int | None], tags: Sequence[int]) -> list[int]:
    """Return the tag of every token: the word's at its first token, and -100 elsewhere.

    Args:
        words: As for `first_tokens`.
        tags: The tag of every word.
    """
    found = [IGNORE_INDEX] * len(words)
    for position, tag in zip(first_tokens(words, len(tags)), tags, strict=True):
        if position != UNSEEN:
            found[position] = tag
    return found


def require_words_known(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that does not say which word a token is of.

    Raises:
        UserError: If it does not.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"tokenizer {tokenizer.name_or_path} does not say which word a token is of, so words can't be tagged; "
            "give a teacher with a fast tokenizer (tokenizer.json)"
        )


def encoded_words(
    tokenizer: PreTrainedTokenizerBase, words: Sequence[Sequence[str] | None], numbers: Sequence[int], **settings: Any
) -> Any:
    """Tokenize texts that are split into words, as `tokenizer(words, is_split_into_words=True)` does.

    Args:
        tokenizer: A fast tokenizer.
        words: The words of each text.
        numbers: What messages call each text.
        **settings: As for `tokenizer(texts)`.

    Raises:
        UserError: If a text can't be tokenized.
    """
    return encoded(
        tokenizer,
        [list(some or []) for some in words],
        numbers,
        is_split_into_words=True,
        return_token_type_ids=False,
        **settings,
    )


def tokenize_tagged(
    texts: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    position_limit: int | None = None,
    dropped: Counter[str] | None = None,
) -> Dataset:
    """Tokenize one row per text of tagged words, cut to `max_length`.

    The first token of a word has the word's tag; all others have none, nor do special tokens. Rows in which no token
    has a tag are dropped.

    Args:
        texts: Lists of words and of as many numbers in the columns `text` and `tags`, as `numbered_tags` returns them.
        tokenizer: The teacher's tokenizer, a fast one; if it has `add_prefix_space`, loaded with it.
        max_length: Tokens of the longest row, special tokens included.
        position_limit: Longest input of the model, if the tokenizer doesn't know it.
        dropped: Takes the count of dropped rows, by reason.

    Returns:
        A dataset of `input_ids` (with the tokenizer's special tokens), `tags` (as many, -100 for none), `example_id`
        (0, 1, ...) and `text_digest`, which identifies the row's words.

    Raises:
        UserError: If the tokenizer is not a fast one, `max_length` is too small or too large, a text can't be
            tokenized, or no row is left.
    """
    require_words_known(tokenizer)
    require_max_length(max_length, tokenizer, position_limit)
    counts = Counter[str]() if dropped is None else dropped
    table = gathered(_rows(texts, tokenizer, max_length, counts), _SCHEMA)
    if not len(table):
        raise UserError(f"no row is left of {len(texts)} texts: {NO_WORD} in any; give tagged words")
    return dataset_of(table)


def _rows(texts: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, dropped: Counter[str]) -> Iterator[Any]:
    number = 0
    for start in range(0, len(texts), _AT_A_TIME):
        some = texts[start : start + _AT_A_TIME]
        words = some["text"]
        made = encoded_words(
            tokenizer,
            words,
            range(start, start + len(words)),
            truncation=True,
            max_length=max_length,
            return_attention_mask=False,
        )
        kept: list[dict[str, Any]] = []
        for index, ids in enumerate(made["input_ids"]):
            tags = tags_of_tokens(made.word_ids(index), some["tags"][index] or [])
            if set(tags) == {IGNORE_INDEX}:
                dropped[NO_WORD] += 1
                continue
            row = {
                "input_ids": ids,
                "tags": tags,
                "example_id": number,
                DIGEST: text_digest(" ".join(words[index] or [])),
            }
            kept.append(row)
            number += 1
        yield pa.RecordBatch.from_pylist(kept, _SCHEMA)


def numbered_tags(texts: Dataset, classes: Mapping[int, str], where: str) -> Dataset:
    """Check tagged words, and give tags that are text the numbers of their classes.

    Args:
        texts: Lists of words in the column `text`, and of tags in `tags`: integers, or names of classes.
        classes: The names of the classes, by number: 0, 1, ...
        where: What messages call the texts.

    Returns:
        The texts, with numbers for tags.

    Raises:
        UserError: Naming the first row that has no tag for every word, a word that is missing, or a tag that is no
            class. The number -100 stands for no tag.
    """
    rows: Any = texts.with_format("arrow")[:]
    table = rows.replace_schema_metadata(None)
    words, tags = (table.column(name).combine_chunks() for name in ("text", "tags"))
    counts, given_tags = (
        _COMPUTE.fill_null(_COMPUTE.list_value_length(one), 0).to_numpy(zero_copy_only=False) for one in (words, tags)
    )
    for row in np.flatnonzero(counts != given_tags)[:1].tolist():
        raise UserError(
            f"{where}: row {row:,} has {counts[row]} words and {given_tags[row]} tags; give one tag for every word, "
            f"{IGNORE_INDEX} for none"
        )
    ends = np.cumsum(counts)
    for row, _ in _first(_COMPUTE.is_null(_COMPUTE.list_flatten(words)), ends):
        raise UserError(f"{where}: row {row:,} has a word that is null; give every word, or leave the row out")
    given = _COMPUTE.list_flatten(tags)
    numbers = _numbers_of_names(given, classes) if _is_text(given.type) else given.cast(pa.int64())
    none = _COMPUTE.equal(numbers, IGNORE_INDEX)
    known = _COMPUTE.is_in(numbers, value_set=pa.array(list(classes), pa.int64()))
    for row, place in _first(_COMPUTE.invert(_COMPUTE.fill_null(_COMPUTE.or_(none, known), False)), ends):
        told = (
            f"'s labels are {listed(classes.values())}" if _is_text(given.type) else f" only knows 0 to {max(classes)}"
        )
        raise UserError(
            f"{where}: row {row:,} has the tag {given[place].as_py()}, but the teacher{told}; give the data that "
            "it was trained for"
        )
    lists = pa.ListArray.from_arrays(pa.array(np.concatenate([[0], ends]), pa.int32()), numbers)
    return dataset_of(table.set_column(table.column_names.index("tags"), "tags", lists))


def _is_text(kind: Any) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _numbers_of_names(given: Any, classes: Mapping[int, str]) -> Any:
    """Return the numbers of classes, null where a name is of none."""
    places = _COMPUTE.index_in(given, value_set=pa.array(list(classes.values()), given.type))
    return _COMPUTE.take(pa.array(list(classes), pa.int64()), places)


def _first(wrong: Any, ends: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Yield the row and the place of the first value that is wrong, if any is."""
    for place in np.flatnonzero(wrong.to_numpy(zero_copy_only=False))[:1].tolist():
        yield int(np.searchsorted(ends, place, side="right")), place

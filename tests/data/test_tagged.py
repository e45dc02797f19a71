"""Words with tags become rows of tokens with tags: at the first token of each word, and nowhere else."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from iit_toolkit.data.batch import IGNORE_INDEX, gold_answers, predicted_positions
from iit_toolkit.data.collate import collator_for
from iit_toolkit.data.pairs import tokenize_pairs
from iit_toolkit.data.tagged import first_tokens, numbered_tags, tags_of_tokens, tokenize_tagged
from iit_toolkit.errors import UserError
from tests.taggers import LABELS, numbered, sentences, tokenizer

CLASSES = dict(enumerate(LABELS))
NONE = IGNORE_INDEX


def texts(words: list[Any], tags: list[Any], **columns: Any) -> Dataset:
    return Dataset.from_dict({"text": words, "tags": tags, **columns})


def by_hand(words: list[str], tags: list[int], limit: int) -> tuple[list[int], list[int]]:
    """Tokens and tags of a row, word by word."""
    made, ids, found = tokenizer(), [2], [NONE]
    for word, tag in zip(words, tags, strict=True):
        pieces = made.convert_tokens_to_ids(made.tokenize(word))
        ids += pieces
        found += [tag, *[NONE] * (len(pieces) - 1)]
    return [*ids[: limit - 1], 3], [*found[: limit - 1], NONE]


@pytest.mark.parametrize("limit", [32, 6])
def test_rows_are_those_of_a_loop_over_words(limit: int) -> None:
    given = numbered(sentences(40))
    rows = tokenize_tagged(texts([row["tokens"] for row in given], [row["ner"] for row in given]), tokenizer(), limit)
    assert len(rows) == 40 and rows["example_id"] == list(range(40))
    for row, one in zip(rows, given, strict=True):
        assert (row["input_ids"], row["tags"]) == by_hand(one["tokens"], one["ner"], limit)  # pyright: ignore
    assert any(word.endswith("s") for one in given for word in one["tokens"])  # two tokens


def test_a_batch_has_the_tags_where_they_are_predicted() -> None:
    rows = tokenize_tagged(texts([["w1", "w2s"], ["w3s", "w4", "w5"]], [[0, 1], [2, -100, 3]]), tokenizer(), 32)
    batch = collator_for("token_classification", tokenizer())([dict(row) for row in rows])  # pyright: ignore
    expected = [[NONE, 0, 1, NONE, NONE, NONE], [NONE, 2, NONE, NONE, 3, NONE]]
    assert batch["labels"].tolist() == gold_answers(batch, "token_classification").tolist() == expected
    at = predicted_positions(batch, "token_classification")
    assert at is not None and at.tolist() == [[one != NONE for one in row] for row in expected]
    assert predicted_positions(batch, "causal_lm") is None
    assert batch["attention_mask"].sum(1).tolist() == [5, 6]


def test_words_without_a_token_have_no_place() -> None:
    assert first_tokens([None, 0, 0, 2, None], 4) == [1, -1, 3, -1]
    assert tags_of_tokens([None, 0, 0, 2, None], [7, 8, 9, 6]) == [NONE, 7, NONE, 9, NONE]


def test_rows_without_a_tag_are_dropped_and_counted() -> None:
    dropped = Counter[str]()
    rows = tokenize_tagged(texts([["w1"], [], ["w2"]], [[4], [], [-100]]), tokenizer(), 32, dropped=dropped)
    assert rows["input_ids"] == [[2, 6, 3]] and dropped == {"no word has a tag": 2}
    with pytest.raises(UserError, match="no row is left of 1 texts: no word has a tag"):
        tokenize_tagged(texts([["w2"]], [[-100]]), tokenizer(), 32)


def test_names_of_tags_become_numbers() -> None:
    names, numbers = [["B-PER", "O"], ["I-LOC"]], [[1, 0], [4]]
    given = texts([["w1", "w2"], ["w3"]], names, family=["a", "b"])
    found = numbered_tags(given, CLASSES, "data")
    assert found["tags"] == numbers and found["text"] == given["text"] and found["family"] == ["a", "b"]
    assert numbered_tags(texts(given["text"], numbers), CLASSES, "data")["tags"] == numbers  # pyright: ignore


@pytest.mark.parametrize(
    ("words", "tags", "expected"),
    [
        ([["a"], ["a", "b"]], [[0], [0]], "data: row 1 has 2 words and 1 tags; give one tag for every word"),
        ([["a"], ["a"]], [[0], None], "data: row 1 has 1 words and 0 tags"),
        ([["a"], ["a", None]], [[0], [1, 2]], "data: row 1 has a word that is null"),
        ([["a"], [], ["a", "b"]], [[0], [], [4, 5]], "row 2 has the tag 5, but the teacher only knows 0 to 4; give"),
        ([["a"], ["a"]], [[-1], [0]], "row 0 has the tag -1, but the teacher only knows 0 to 4"),
        ([["a", "b"]], [[0, None]], "row 0 has the tag None, but the teacher only knows 0 to 4"),
        ([["a"], ["b"]], [["O"], ["B-ORG"]], "row 1 has the tag B-ORG, but the teacher's labels are O, B-PER, I-PER"),
    ],
)
def test_bad_tags_are_told_with_their_row(words: list[Any], tags: list[Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected) as told:
        numbered_tags(texts(words, tags), CLASSES, "data")
    assert "\n" not in str(told.value)


def test_pairs_of_words_swap_what_differs_and_keep_the_bases_tags() -> None:
    words, others = ["w1", "w2s", "w3"], ["w1", "w4s", "w3"]
    columns = {"source": [others, ["w1"], ["w9", "w9"]]}
    given = texts([words, ["w1", "w2"], ["w1", "w2"]], [[1, 0, 4], [0, 0], [-100, -100]], **columns)
    pairs = tokenize_pairs(given, tokenizer(), 32)
    assert len(pairs.rows) == 1 and list(pairs.skipped.values()) == [1, 1] and "no word has a tag" in pairs.skipped
    row: Any = pairs.rows[0]
    assert row["tags"] == [NONE, 1, 0, NONE, 4, NONE]
    assert row["positions"] == row["source_positions"] == [2, 3]  # both tokens of the word
    batch = collator_for("token_classification", tokenizer())([row])
    assert batch["labels"].tolist() == [row["tags"]] and batch["swapped"].nonzero()[:, 1].tolist() == [2, 3]


def test_a_slow_tokenizer_is_refused() -> None:
    class Slow(PreTrainedTokenizerFast):
        @property
        def is_fast(self) -> bool:
            return False

    slow = Slow(tokenizer_object=tokenizer().backend_tokenizer, pad_token="[PAD]")
    with pytest.raises(UserError, match="does not say which word a token is of"):
        tokenize_tagged(texts([["w1"]], [[0]]), slow, 32)

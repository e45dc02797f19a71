"""Rows of two sentences: columns, tokens, token types, and what a swap between them means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import processors
from transformers import PreTrainedTokenizerFast

from iit_toolkit.config.data_config import DataConfig
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.data.collate import ClassificationCollator
from iit_toolkit.data.pairs import tokenize_pairs
from iit_toolkit.data.text import load_texts
from iit_toolkit.data.tokenization import tokenize_labelled
from iit_toolkit.errors import UserError
from tests.data.conftest import words_of

WORDS = ("the", "cat", "dog", "sleeps", "runs", "red", "##dish", "no")


def two(*, types: bool = True, template: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer as BERT has it, for two sentences too."""
    tokenizer = words_of(*WORDS)
    if template:
        tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    tokenizer.model_input_names = ["input_ids", *(["token_type_ids"] if types else []), "attention_mask"]
    return tokenizer


def texts(*rows: tuple[str, ...], names: tuple[str, ...] = ("text", "text_pair")) -> Dataset:
    columns = {name: [row[index] for row in rows] for index, name in enumerate(names)}
    return Dataset.from_dict({**columns, "label": [index % 2 for index in range(len(rows))]})


def told(tokenizer: PreTrainedTokenizerFast, ids: Any) -> str:
    return " ".join(tokenizer.convert_ids_to_tokens(torch.as_tensor(ids).tolist()))


def test_two_sentences_are_read_as_the_tokenizer_joins_them() -> None:
    tokenizer = two()
    rows = tokenize_labelled(texts(("the cat", "the dog runs"), ("no", "no cat")), tokenizer, 16)
    for row, (first, second) in zip(rows, [("the cat", "the dog runs"), ("no", "no cat")], strict=True):
        expected = tokenizer(text=first, text_pair=second)
        assert row["input_ids"] == expected["input_ids"]
        assert row["token_type_ids"] == expected["token_type_ids"]
    assert rows[0]["token_type_ids"] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert len(set(rows["text_digest"])) == 2


def test_a_tokenizer_that_tells_no_sentences_apart_gives_no_types() -> None:
    rows = tokenize_labelled(texts(("the cat", "no")), two(types=False), 16)
    assert "token_type_ids" not in rows.column_names
    assert told(two(), rows[0]["input_ids"]) == "[CLS] the cat [SEP] no [SEP]"


def test_where_one_sentence_ends_tells_rows_apart() -> None:
    rows = tokenize_labelled(texts(("the cat", "runs"), ("the", "cat runs"), ("the  cat", "runs")), two(), 16)
    first, second, spaced = rows["text_digest"]
    assert first == spaced != second


def test_the_longer_sentence_is_cut() -> None:
    rows = tokenize_labelled(texts(("the cat sleeps the dog runs", "no cat")), two(), 8)
    assert told(two(), rows[0]["input_ids"]) == "[CLS] the cat sleeps [SEP] no cat [SEP]"
    assert rows[0]["token_type_ids"] == [0] * 5 + [1] * 3


def test_a_missing_second_sentence_is_named() -> None:
    rows = Dataset.from_dict({"text": ["no", "no"], "text_pair": ["no", None], "label": [0, 1]})
    with pytest.raises(UserError, match=r"data: row 1 has no second sentence \(null, or an empty cell\)"):
        tokenize_labelled(rows, two(), 16)


def test_a_tokenizer_without_a_template_for_two_is_refused() -> None:
    with pytest.raises(UserError, match="has no template for two sentences") as caught:
        tokenize_labelled(texts(("the cat", "no")), two(template=False), 16)
    assert "\n" not in str(caught.value)


def test_a_batch_says_which_sentence_a_token_is_of_and_spares_what_stands_between() -> None:
    tokenizer = two()
    rows = list(tokenize_labelled(texts(("the cat", "the dog runs"), ("no", "cat")), tokenizer, 16))
    batch = ClassificationCollator(tokenizer)(rows)
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0, 0]]
    specials = [[0, 3, 7], [0, 2, 4, 5, 6, 7]]
    assert [row.nonzero().flatten().tolist() for row in batch["special_tokens_mask"]] == specials


NAMES = ("text", "text_pair", "source", "source_pair")


def test_the_words_that_differ_are_found_in_either_sentence() -> None:
    rows = texts(
        ("the cat", "no dog runs", "the dog", "no dog sleeps"),
        ("the cat", "the red", "the cat", "the reddish"),
        ("the", "cat runs", "the cat", "runs"),
        names=NAMES,
    )
    found = tokenize_pairs(rows, two(), 16)
    (row,) = found.rows
    assert row["positions"] == row["source_positions"] == [2, 6]
    assert told(two(), torch.tensor(row["input_ids"])[row["positions"]]) == "cat runs"
    assert told(two(), torch.tensor(row["source_input_ids"])[row["positions"]]) == "dog sleeps"
    assert row["token_type_ids"] == row["source_token_type_ids"] == [0, 0, 0, 0, 1, 1, 1, 1]
    assert found.skipped == {
        "base and source have different numbers of tokens": 1,
        "a swapped token is special or unknown to the tokenizer": 1,  # the end of a sentence against a word
    }


def test_a_word_does_not_go_on_in_the_next_sentence() -> None:
    """Without anything between them, `red` and the next sentence's first word would be one word, swapped whole."""
    rows = texts(("the red", "cat runs", "the red", "dog runs"), names=NAMES)
    (row,) = tokenize_pairs(rows, two(), 16).rows
    assert row["positions"] == [4]


def test_a_batch_of_pairs_holds_the_types_of_both_sides() -> None:
    tokenizer = two()
    rows = texts(("the cat", "runs", "the dog", "runs"), ("no", "the cat runs", "no", "the dog runs"), names=NAMES)
    batch = ClassificationCollator(tokenizer)(list(tokenize_pairs(rows, tokenizer, 16).rows))
    assert batch["token_type_ids"].tolist() == batch["source_token_type_ids"].tolist()
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1]]


@pytest.fixture
def parquet(tmp_path: Path) -> str:
    columns = {"a": ["one", "two"], "b": ["three", "four"], "c": ["five", "six"], "n": [0, 1]}
    Dataset.from_dict(columns).to_parquet(tmp_path / "a.parquet")
    return str(tmp_path / "a.parquet")


def load(parquet: str, **options: Any) -> Dataset:
    return load_texts("parquet", "train", data_files={"train": parquet}, label_column="n", **options)


def test_columns_of_two_sentences_come_under_fixed_names(parquet: str) -> None:
    assert load(parquet, text_column=["b", "a"])[0] == {"text": "three", "text_pair": "one", "label": 0}


def test_base_and_source_may_have_a_sentence_in_common(parquet: str) -> None:
    rows = load(parquet, text_column=["a", "b"], source_column=["a", "c"])
    assert rows[1] == {"text": "two", "text_pair": "four", "source": "two", "source_pair": "six", "label": 1}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"text_column": ["a", "d"]}, 'no column "d" (data.text_column); it has: a, b, c, n'),
        ({"text_column": ["n", "a"]}, 'column "n" holds int64, not text'),
        ({"text_column": ["a", "b"], "source_column": ["a", "d"]}, 'no column "d" (data.source_column)'),
    ],
)
def test_a_wrong_column_is_named(parquet: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as caught:
        load(parquet, **options)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"text_column": ["a", "b"]}, "are for sequence classification: give label_column"),
        ({"text_column": ["a", "a"], "label_column": "n"}, "text_column names a twice"),
        ({"text_column": ["a", "b"], "label_column": "n", "source_column": "c"}, "name as many columns"),
        ({"text_column": "a", "label_column": "n", "source_column": ["b", "c"]}, "name as many columns"),
        (
            {
                "text_column": ["a", "b"],
                "label_column": "n",
                "source_column": ["a", "c"],
                "span_column": "s",
                "source_span_column": "t",
            },
            "span columns are of one text",
        ),
        (
            {"text_column": ["a", "b"], "label_column": "n", "source_column": ["a", "b"]},
            "the columns of a pair must differ; got a and b, a and b",
        ),
    ],
)
def test_keys_that_do_not_go_together(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        DataConfig.model_validate({"path": "parquet", **keys})


def test_two_sentences_are_for_classification_alone() -> None:
    data = {"path": "parquet", "text_column": ["a", "b"], "label_column": "n"}
    with pytest.raises(ValueError, match=r"evaluation\.more: two sentences \(text_column\) are for task sequence_cl"):
        RunConfig.model_validate(
            {"name": "x", "teacher": "t", "data": {"path": "parquet"}, "evaluation": {"more": data}}
        )

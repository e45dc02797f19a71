"""Pairs that are questions: where the answer stands, which pairs are refused, and what a batch of them predicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from iit_toolkit.config.loading import load_config
from iit_toolkit.config.yaml_files import dump_yaml
from iit_toolkit.data.collate import CausalLanguageCollator, MaskedLanguageCollator
from iit_toolkit.data.text import load_texts
from iit_toolkit.errors import UserError
from tests.data.conftest import words_of
from tests.data.test_pairs import paired

WORDS = words_of("the", "cat", "cats", "dog", "dogs", "near", "is", "are", "walk", "##s", "##ed", "old", ".")
MASK: Any = WORDS.mask_token_id
BASE, SOURCE = "The cats near the dog are old.", "The cat near the dog is old."
ASKED = ("answer", "source_answer")


def questions(*pairs: tuple[Any, ...], columns: tuple[str, ...] = ("answer",), **options: Any) -> Any:
    return paired(*pairs, tokenizer=options.pop("tokenizer", WORDS), columns=columns, **options)


@pytest.mark.parametrize(
    ("answers", "columns"),
    [
        (("are",), ("answer",)),
        (([22, 25],), ("answer",)),
        (("are", "is"), ASKED),
        (([22, 25], [21, 23]), ASKED),
        (("are", [21, 23]), ASKED),
    ],
)
def test_the_answer_is_a_word_or_a_span_and_no_swapped_word(answers: Any, columns: tuple[str, ...]) -> None:
    [row] = questions((BASE, SOURCE, *answers), columns=columns).rows
    assert row["answers"] == row["source_answers"] == [6]
    assert row["positions"] == row["source_positions"] == [2]


def test_a_masked_model_sees_the_mask_for_every_token_of_the_answer_and_predicts_nothing_else() -> None:
    found = questions(
        (BASE, SOURCE, "are", "is"), ("The cats walked.", "The dogs walks.", "walked", "walks"), columns=ASKED
    )
    collate = MaskedLanguageCollator(WORDS, probability=0.9)
    batch = collate(list(found.rows))
    ids = WORDS.convert_tokens_to_ids
    assert [row[row != -100].tolist() for row in batch["labels"]] == [ids(["are"]), ids(["walk", "##ed"])]
    for name, row in (("input_ids", 0), ("source_input_ids", 0), ("input_ids", 1), ("source_input_ids", 1)):
        places = [[6], [3, 4]][row]
        assert batch[name][row].eq(MASK).nonzero().flatten().tolist() == places
    differ = batch["input_ids"] != batch["source_input_ids"]
    assert differ.equal(batch["swapped"])  # the answer gives nothing away
    again = MaskedLanguageCollator(WORDS, probability=0.1, seed=7)(list(found.rows))
    assert all(batch[name].equal(again[name]) for name in batch)  # nothing is drawn


def test_the_source_is_masked_where_its_own_answer_stands() -> None:
    pair = ("The cats are old.", "The old dog is old.", [4, 8], [8, 11], [9, 12], [12, 14])
    [row] = questions(pair, columns=("span", "source_span", *ASKED)).rows
    assert (row["answers"], row["source_answers"]) == ([3], [4])
    batch = MaskedLanguageCollator(WORDS)([row])
    assert batch["source_input_ids"][0].eq(MASK).nonzero().flatten().tolist() == [4]


def test_a_source_of_another_length_must_say_where_its_answer_stands() -> None:
    """Its answer would be read, where that of the base is masked."""
    columns = ("span", "source_span", "answer")
    longer, equal = ("The old dog is old.", [8, 11]), ("The cat is old.", [4, 7])
    found = questions(
        *(("The cats are old.", text, [4, 8], span, [9, 12]) for text, span in (longer, equal)), columns=columns
    )
    assert [row["source_answers"] for row in found.rows] == [[3]]
    assert found.skipped == {"the source has another number of tokens, so its answer may stand elsewhere": 1}
    with pytest.raises(
        UserError, match="may stand elsewhere .give `source_answer`, in a config data.source_answer_column"
    ):
        questions(("The cats are old.", longer[0], [4, 8], longer[1], [9, 12]), columns=columns)


def test_of_a_causal_model_the_first_token_of_the_answer_is_asked(causal: PreTrainedTokenizerFast) -> None:
    found = questions(("w1 w2 w4 w5", "w1 w3 w4 w5", [6, 11]), tokenizer=causal, causal=True)
    [row] = found.rows
    assert row["answers"] == [2] and row["positions"] == [1]
    batch = CausalLanguageCollator(causal)([row])
    assert batch["labels"].tolist() == [[-100, -100, row["input_ids"][2], -100]]
    assert batch["input_ids"].tolist() == [row["input_ids"]]


@pytest.mark.parametrize(
    ("pair", "reason"),
    [
        ((BASE, SOURCE, "were"), "the answer is not in its text ('were')"),
        ((BASE, SOURCE, ""), "the answer is not in its text ('')"),
        ((BASE, SOURCE, None), "an answer is not [start, end) within its text (None of a text of 30 characters)"),
        ((BASE, SOURCE, "ar"), "the answer is not in its text ('ar')"),
        (
            ("the cats near the dog", "the cat near the dog", "the"),
            "the answer stands more than once in its text; give",
        ),
        ((BASE, "The cats near the dog is old.", "are"), "base and source differ in nothing but the answer"),
        (("the cats x old", "the dogs x old", "x"), "the answer is unknown to the tokenizer"),
    ],
)
def test_an_answer_that_cannot_be_asked_is_told(pair: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(UserError) as caught:
        questions(pair)
    assert f"row 0: {reason}" in str(caught.value)


def test_an_answer_is_no_swapped_word() -> None:
    pair = (BASE, SOURCE, [4, 8], [4, 7], [4, 8])
    with pytest.raises(UserError, match="row 0: the answer is among the swapped words"):
        questions(pair, columns=("span", "source_span", "answer"))


def test_of_a_causal_model_the_answer_must_follow(causal: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match="row 0: the answer stands before the swapped words, so that it cannot feel"):
        questions(("w1 w2 w4", "w1 w3 w4", "w1"), tokenizer=causal, causal=True)


def test_columns_of_answers_are_loaded_as_words_or_spans(tmp_path: Path) -> None:
    file = tmp_path / "pairs.json"
    Dataset.from_dict({"text": [BASE], "source": [SOURCE], "a": ["are"], "b": [[21, 23]], "n": [1]}).to_json(file)

    def load(**columns: str) -> Any:
        return load_texts("json", "train", data_files=str(file), source_column="source", place_columns=columns)

    [row] = load(answer="a", source_answer="b")
    assert (row["answer"], row["source_answer"]) == ("are", [21, 23])
    with pytest.raises(
        UserError, match=r'column "n" \(data.answer_column\) holds int64, not words or lists \[start, end'
    ):
        load(answer="n")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"answer_column": "a"}, "span, answer, candidates and family columns are of pairs: give source_column, too"),
        ({"source_column": "s", "source_answer_column": "a"}, "source_answer_column needs answer_column, too"),
        (
            {"source_column": "s", "answer_column": "a", "label_column": "l"},
            "give answer_column or label_column, not both: a row has one answer",
        ),
        ({"source_column": "s", "answer_column": "s"}, "the columns of a pair must differ"),
    ],
)
def test_columns_that_do_not_go_together_are_refused(tmp_path: Path, data: dict[str, str], said: str) -> None:
    path = tmp_path / "config.yaml"
    content = {"name": "n", "teacher": "t", "data": {"path": "json", **data}, "arms": {"plain": {}}}
    path.write_text(dump_yaml(content))
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert said in str(caught.value)

"""Pairs built from BLiMP's items and from tables, and what a tokenizer makes of their answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, load_dataset
from transformers import AutoTokenizer

from iit_toolkit.data.minimal_pairs import FAMILIES, SPLITS, PairRow, answer_tokens, blimp, from_columns, to_dataset
from iit_toolkit.data.pairs import tokenize_pairs
from iit_toolkit.errors import UserError

ITEM = {
    "UID": "agreement",
    "sentence_good": "The old cars near us shine.",
    "sentence_bad": "The old car near us shine.",
    "two_prefix_prefix_good": "The old cars near us",
    "two_prefix_prefix_bad": "The old car near us",
    "two_prefix_word": " shine",
}


def parts(row: PairRow) -> tuple[str, str, str, str]:
    sides = ((row.text, row.span, row.answer), (row.source, row.source_span, row.source_answer))
    base, source = ((text[slice(*span)], text[slice(*answer)]) for text, span, answer in sides)
    return (*base, *source)


def test_an_item_of_blimp_is_asked_by_its_two_prefixes() -> None:
    found = blimp([ITEM])
    assert found.skipped == {}
    assert parts(found.rows[0]) == ("cars", "shine", "car", "shine")
    assert found.rows[0].candidates == ("shine",) and found.rows[0].template == "agreement"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"two_prefix_word": None}, "the item has no two prefixes and a word after them"),
        ({"two_prefix_prefix_bad": " "}, "the item has no two prefixes and a word after them"),
        ({"two_prefix_word": "shine brightly"}, "the item asks for several words"),
        ({"two_prefix_word": "shin"}, "the item asks for a part of a word"),
        ({"sentence_bad": "The old car near us shine!"}, "the sentences differ after the word that is asked for"),
        ({"two_prefix_prefix_good": "The cars"}, "a sentence does not begin with its prefix and the word"),
        (
            {"sentence_bad": ITEM["sentence_good"], "two_prefix_prefix_bad": ITEM["two_prefix_prefix_good"]},
            "base and source differ in no word but the answer",
        ),
        (
            {"sentence_bad": "The cars near us shine.", "two_prefix_prefix_bad": "The cars near us"},
            "base or source has no word where the other has one",
        ),
    ],
)
def test_items_without_a_question_are_counted_by_reason(change: dict[str, Any], reason: str) -> None:
    found = blimp([ITEM | change, ITEM])
    assert len(found.rows) == 1 and found.skipped == {reason: 1}


def test_real_items_of_blimp(shared_data: Path) -> None:
    files = str(shared_data / "blimp" / "train.parquet")
    data = load_dataset("parquet", data_files=files, split="train")
    found = blimp(data)
    assert len(found.rows) > 10_000 and len(found.rows) + sum(found.skipped.values()) == len(data)
    for row in found.rows[::50]:
        assert row.text[: row.span[0]] == row.source[: row.source_span[0]]
        assert row.text[row.span[1] :] == row.source[row.source_span[1] :]
        assert row.answer_word == row.source_answer_word == row.candidates[0]


def table(**changes: Any) -> Dataset:
    row = {"a": "The men saw their dogs.", "b": "The man saw his dogs.", "c": "their", "d": "his"}
    return Dataset.from_list([row | changes])


def test_a_table_of_two_columns() -> None:
    found = from_columns(table(), "a", "b", "c", "d", family="mine", split="words")
    assert parts(found.rows[0]) == ("men", "their", "man", "his")
    assert found.rows[0].candidates == ("their", "his") and found.rows[0].words == ("men", "man")
    assert (found.rows[0].family, found.rows[0].split) == ("mine", "words")
    given = from_columns(table(e=["his", "their", "our"]), "a", "b", "c", "d", candidates="e").rows[0]
    assert given.candidates == ("his", "their", "our")
    same = from_columns(table(b="The kid saw their dogs."), "a", "b", "c").rows[0]
    assert parts(same) == ("men", "their", "kid", "their") and same.candidates == ("their",)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"a": "Their men saw the dogs."}, "the base does not contain the answer"),
        ({"a": "The men saw their dogs and their cats."}, "the base contains the answer more than once"),
        ({"b": "The man saw her dogs."}, "the source does not contain the answer"),
        ({"b": None}, "a text or an answer is missing"),
        ({"a": "The man saw their dogs."}, "base and source differ in no word but the answer"),
        ({"a": "The men saw their cats."}, "words differ on both sides of the answer"),
    ],
)
def test_rows_of_a_table_without_a_question_are_counted(changes: dict[str, Any], reason: str) -> None:
    found = from_columns(table(**changes), "a", "b", "c", "d")
    assert found.rows == [] and found.skipped == {reason: 1}


def test_a_wrong_candidate_and_a_missing_column_are_told() -> None:
    assert from_columns(table(), "a", "b", "c", "d", candidates=["his"]).skipped == {
        "the answer is none of the candidates": 1
    }
    with pytest.raises(UserError, match="no column answer; it has: a, b, c, d"):
        from_columns(table(), "a", "b", "answer")


def test_candidates_that_are_no_single_token_are_told(teacher: Any) -> None:
    row = from_columns(
        table(a="The men saw a zyzzyva.", b="The man saw a dog.", c="zyzzyva", d="dog"), "a", "b", "c", "d"
    )
    told = answer_tokens(teacher, row.rows)["table"]
    assert told.single == {"dog"} and told.several["zyzzyva"] > 1 and not told.unknown


def test_candidates_that_begin_alike_or_are_unknown_are_told(tiny: Any) -> None:
    rows = from_columns(table(a="w1 w5", b="w2 w6", c="w5", d="w6"), "a", "b", "c", "d", candidates=["w5", "W5", "cat"])
    told = answer_tokens(tiny, rows.rows)["table"]
    assert told.single == {"w5", "W5"} and told.alike == {("w5", "W5")} and told.unknown == {"cat"}


MODELS = {"minilm-mlm": "masked_lm", "stories260K": "causal_lm"}


@pytest.mark.parametrize("name", MODELS)
def test_pairs_can_be_swapped_with_the_tokenizers_they_are_made_for(name: str, shared_data: Path) -> None:
    folder = shared_data.parent / "models" / name
    if not folder.is_dir():
        pytest.skip(f"no model {name} beside the checkout")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for family in FAMILIES.values():
        if MODELS[name] in family.tasks:
            rows = [row for split in SPLITS for row in family.rows(split, 100)]
            found = tokenize_pairs(to_dataset(rows), tokenizer, 96, causal=MODELS[name] == "causal_lm")
            assert found.skipped == {}, family.name
            told = answer_tokens(tokenizer, rows)[family.name]
            assert not told.unknown and not told.alike, family.name
            assert MODELS[name] == "causal_lm" or not told.several, family.name

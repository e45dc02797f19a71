"""Texts with one word replaced: what differs, what is left out, and what is held out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from iit_toolkit.data.minimal_pairs import polarity, substitute
from iit_toolkit.data.minimal_pairs.polarity import OPPOSITES, opposites
from iit_toolkit.errors import UserError

ROWS: list[dict[str, Any]] = [
    {"text": "a funny, warm film", "label": 1},
    {"text": "Boring!", "label": 0},
    {"text": "it is boring and boring", "label": 0},
    {"text": "nothing here", "label": 0},
    {"text": "  ", "label": 0},
]
COUNTERPARTS = {"funny": "boring", "boring": "funny"}


def test_one_word_is_replaced_and_its_place_is_said() -> None:
    found = substitute(ROWS, COUNTERPARTS, label="label", family="f")
    assert found.rows.to_list() == [
        {"text": "a funny, warm film", "source": "a boring, warm film", "span": [2, 7], "source_span": [2, 8]}
        | {"words": ["funny", "boring"], "family": "f", "label": 1},
        {"text": "Boring!", "source": "Funny!", "span": [0, 6], "source_span": [0, 5]}
        | {"words": ["boring", "funny"], "family": "f", "label": 0},
    ]
    assert found.skipped == {
        "the text has several of the words": 1,
        "the text has none of the words": 1,
        "a text is missing": 1,
    }
    for row in found.rows.to_list():
        sides = [(row["text"], row["span"]), (row["source"], row["source_span"])]
        (before, after), others = ((text[:start], text[end:]) for text, (start, end) in sides)
        assert (before, after) == others


def test_with_classes_of_the_replaced_texts_pairs_come_in_both_directions() -> None:
    once = substitute(ROWS, COUNTERPARTS, label="label").rows.to_list()
    twice = substitute(ROWS, COUNTERPARTS, label="label", relabelled={0: 1, 1: 0}).rows.to_list()
    assert twice[::2] == once
    for one, back in zip(once, twice[1::2], strict=True):
        assert (back["text"], back["source"], back["label"]) == (one["source"], one["text"], 1 - one["label"])
        assert (back["span"], back["source_span"]) == (one["source_span"], one["span"])
        assert back["words"] == one["words"][::-1]


def test_texts_with_held_out_words_are_left_out() -> None:
    found = substitute(ROWS, COUNTERPARTS, without={"warm"})
    assert [row["text"] for row in found.rows.to_list()] == ["Boring!"]
    assert found.skipped["the text has a word that is held out"] == 1
    assert "label" not in found.rows.column_names


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match="no column sentence; it has: text, label"):
        substitute(ROWS, COUNTERPARTS, text="sentence")
    with pytest.raises(UserError, match=r"no text has one of the words to replace \(bad, good\)"):
        substitute(ROWS, {"good": "bad", "bad": "good"})


def test_no_word_of_polarity_is_in_training_and_held_out() -> None:
    train, held = set(opposites("train")), set(opposites("words"))
    assert not train & held
    for words, pairs in ((train, OPPOSITES.training), (held, OPPOSITES.held)):
        assert len(words) == 2 * len(pairs.split())
    reviews = [{"text": f"a {word} film"} for word in sorted(train | held)]
    for split, own, other in (("train", train, held), ("words", held, train)):
        rows = polarity(reviews, split).rows.to_list()  # pyright: ignore[reportArgumentType]
        assert {word for row in rows for word in row["words"]} == own
        assert not {word for row in rows for side in ("text", "source") for word in row[side].split()} & other


def test_words_of_polarity_are_single_tokens(shared_data: Path) -> None:
    folder = shared_data.parent / "models" / "minilm-mlm"
    if not folder.is_dir():
        pytest.skip("no model minilm-mlm beside the checkout")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    every = opposites("train") | opposites("words")
    assert {word: len(tokenizer.tokenize(word)) for word in every} == dict.fromkeys(every, 1)

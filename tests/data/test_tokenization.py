from __future__ import annotations

from collections import Counter

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedTokenizerFast

from iit_toolkit.data.tokenization import (
    count_tokens,
    first_examples,
    shuffled,
    spread_examples,
    tokenize_corpus,
    tokenize_labelled,
)
from iit_toolkit.errors import UserError


def corpus(*texts: str | None) -> Dataset:
    return Dataset.from_dict({"text": list(texts)})


def words(*indices: int) -> str:
    return " ".join(f"w{index}" for index in indices)


def test_a_text_is_cut_into_full_rows(tiny: PreTrainedTokenizerFast) -> None:
    rows = tokenize_corpus(corpus(words(*range(50))), tiny, 22)
    content = [token + 5 for token in range(50)]
    expected = [[2, *content[start : start + 20], 3] for start in (0, 20, 40)]
    assert list(rows["input_ids"]) == expected
    assert list(rows["example_id"]) == [0, 1, 2]
    assert rows.features["input_ids"].feature.dtype == "int32"


def test_no_row_holds_two_texts(tiny: PreTrainedTokenizerFast) -> None:
    rows = tokenize_corpus(corpus(words(*[1] * 15), None, "", " \n", words(*[2] * 15)), tiny, 32)
    assert list(rows["input_ids"]) == [[2, *[6] * 15, 3], [2, *[7] * 15, 3]]


def test_packing_fills_rows_across_lines(tiny: PreTrainedTokenizerFast) -> None:
    text = f"{words(*[1] * 12)}\n\n{words(*[2] * 12)}\n"
    packed = tokenize_corpus(corpus(text), tiny, 16)
    by_line = tokenize_corpus(corpus(text), tiny, 16, packing=False)
    assert list(packed["input_ids"]) == [[2, *[6] * 12, 7, 7, 3], [2, *[7] * 10, 3]]
    assert list(by_line["input_ids"]) == [[2, *[6] * 12, 3], [2, *[7] * 12, 3]]


@pytest.mark.parametrize(("packing", "expected"), [(True, [0, 3, 3, 66]), (False, [0, 3, 3, 66, 66])])
def test_rows_know_the_text_they_were_cut_from(
    tiny: PreTrainedTokenizerFast, packing: bool, expected: list[int]
) -> None:
    """Empty texts, a text cut in two rows, one after the first batch of texts, and dropped rows change nothing."""
    lines = f"{words(*[4] * 10)}\n{words(*[5] * 10)}"
    texts = [words(*[1] * 15), None, words(1), words(*[2] * 40), *[" "] * 62, lines]
    rows = tokenize_corpus(corpus(*texts), tiny, 22, packing=packing)
    assert list(rows["text_id"]) == expected
    first = tokenize_corpus(corpus(*texts), tiny, 22, packing=packing, max_tokens=40)
    assert list(first["text_id"]) == expected[:2]


@pytest.mark.parametrize(("length", "kept"), [(9, 0), (10, 1)])
def test_rows_under_twelve_tokens_are_dropped(tiny: PreTrainedTokenizerFast, length: int, kept: int) -> None:
    rows = tokenize_corpus(corpus(words(*range(20)), words(*range(length))), tiny, 32)
    assert len(rows) == 1 + kept


@pytest.mark.parametrize(("least", "kept"), [(1, 4), (3, 4), (4, 3), (5, 2), (6, 1)])
def test_the_shortest_row_can_be_chosen(tiny: PreTrainedTokenizerFast, least: int, kept: int) -> None:
    texts = corpus(words(1, 2, 3), words(4, 5), words(6), words(*range(10)))
    rows = tokenize_corpus(texts, tiny, 12, min_length=least)
    assert [len(row) for row in rows["input_ids"]] == [length for length in (5, 4, 3, 12) if length >= least]
    assert len(rows) == kept


def test_dropped_rows_are_counted_by_reason(tiny: PreTrainedTokenizerFast) -> None:
    unknown = " ".join(["xyz"] * 20)
    texts = corpus(words(*range(20)), words(*range(9)), unknown, words(1))
    dropped = Counter[str]()
    assert len(tokenize_corpus(texts, tiny, 32, dropped=dropped)) == 1
    assert dropped == {"fewer than 12 tokens (data.min_length)": 2, "half or more unknown to the tokenizer": 1}
    none = Counter[str]()
    tokenize_corpus(corpus(words(*range(20))), tiny, 32, dropped=none)
    assert not none


@pytest.mark.parametrize(("unknown", "kept"), [(9, 1), (10, 0)])
def test_rows_that_are_mostly_unknown_are_dropped(tiny: PreTrainedTokenizerFast, unknown: int, kept: int) -> None:
    text = " ".join(["xyz"] * unknown + ["w1"] * (18 - unknown))  # 20 tokens with [CLS] and [SEP]
    rows = tokenize_corpus(corpus(words(*range(20)), text), tiny, 32)
    assert len(rows) == 1 + kept


def test_the_unknown_token_in_a_text_is_one_token(tiny: PreTrainedTokenizerFast) -> None:
    rows = tokenize_corpus(corpus("[UNK] " + words(*range(12))), tiny, 32)
    assert rows[0]["input_ids"][:3] == [2, 1, 5]


def test_rows_of_a_tokenizer_that_adds_nothing_are_the_text_alone(causal: PreTrainedTokenizerFast) -> None:
    rows = tokenize_corpus(corpus(words(*range(30))), causal, 15)  # though it has a first token
    assert list(rows["input_ids"]) == [[*range(1, 16)], [*range(16, 31)]]


def test_max_tokens_is_never_exceeded_and_keeps_the_first_rows(tiny: PreTrainedTokenizerFast) -> None:
    texts = corpus(*[words(*range(30))] * 5)
    everything = tokenize_corpus(texts, tiny, 32)
    rows = tokenize_corpus(texts, tiny, 32, max_tokens=100)
    assert list(rows) == list(everything)[:3]
    with pytest.raises(UserError, match="no row is left"):
        tokenize_corpus(texts, tiny, 32, max_tokens=31)


def test_a_corpus_without_rows_is_a_user_error(tiny: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match="no row is left of 2 texts: each needs 12 tokens, .*; lower data.min_length"):
        tokenize_corpus(corpus("w1 w2", ""), tiny, 32)


def test_a_row_length_that_does_not_fit_is_a_user_error(tiny: PreTrainedTokenizerFast) -> None:
    texts = corpus(words(*range(90)))
    assert max(map(len, tokenize_corpus(texts, tiny, 64)["input_ids"])) == 64
    with pytest.raises(UserError, match="65, but the model reads at most 64"):
        tokenize_corpus(texts, tiny, 65)
    with pytest.raises(UserError, match="64, but the model reads at most 32"):
        tokenize_corpus(texts, tiny, 64, position_limit=32)
    with pytest.raises(UserError, match=r"11, but rows under 12 tokens \(data.min_length\) are dropped"):
        tokenize_corpus(texts, tiny, 11)
    with pytest.raises(UserError, match="2, but a row needs 3 tokens at least, special ones included"):
        tokenize_corpus(texts, tiny, 2, min_length=1)
    with pytest.raises(UserError, match="2, but a row needs 3 tokens at least, special ones included"):
        tokenize_labelled(Dataset.from_dict({"text": ["w1"], "label": [0]}), tiny, 2)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 90), min_size=1, max_size=80),
    max_length=st.integers(12, 64),
    packing=st.booleans(),
)
def test_rows_hold_each_text_in_order_and_only_short_rests_are_lost(
    tiny: PreTrainedTokenizerFast, lengths: list[int], max_length: int, packing: bool
) -> None:
    texts = [words(*(index % 100 for index in range(length))) for length in lengths]
    rests = [length % (max_length - 2) for length in lengths]
    kept = sum(length - (rest if rest < 10 else 0) for length, rest in zip(lengths, rests, strict=True))
    if kept == 0:
        with pytest.raises(UserError):
            tokenize_corpus(corpus(*texts), tiny, max_length, packing=packing)
        return
    rows = list(tokenize_corpus(corpus(*texts), tiny, max_length, packing=packing)["input_ids"])
    assert all(12 <= len(row) <= max_length and (row[0], row[-1]) == (2, 3) for row in rows)
    content = [token for row in rows for token in row[1:-1]]
    expected = [
        5 + index % 100
        for length, rest in zip(lengths, rests, strict=True)
        for index in range(length - (rest if rest < 10 else 0))
    ]
    assert content == expected
    assert len(content) == kept


def test_labelled_texts_keep_every_row(tiny: PreTrainedTokenizerFast) -> None:
    texts = Dataset.from_dict({"text": ["w1", words(*range(30)), ""], "label": [1, 0, 2]})
    rows = tokenize_labelled(texts, tiny, 12)
    assert list(rows["input_ids"]) == [[2, 6, 3], [2, *range(5, 15), 3], [2, 3]]
    assert list(rows["label"]) == [1, 0, 2]
    assert list(rows["example_id"]) == [0, 1, 2]


@pytest.mark.parametrize("label", [-1, None])
def test_a_row_without_label_is_a_user_error(tiny: PreTrainedTokenizerFast, label: int | None) -> None:
    texts = Dataset.from_dict({"text": ["w1", "w2"], "label": [1, label]})
    with pytest.raises(UserError, match="row 1 has the label"):
        tokenize_labelled(texts, tiny, 12)


def test_examples_are_spread_over_the_rows() -> None:
    rows = Dataset.from_dict({"example_id": list(range(10))})
    assert list(spread_examples(rows, 4)["example_id"]) == [0, 2, 5, 7]
    assert spread_examples(rows, None) is rows
    assert len(spread_examples(rows, 99)) == 10


def test_tokens_are_counted(tiny: PreTrainedTokenizerFast) -> None:
    rows = tokenize_corpus(corpus(words(*[1] * 15), words(*[1, 2] * 10)), tiny, 32)
    counts = count_tokens(rows, len(tiny))
    assert counts.shape == (105,)
    assert {int(token): int(counts[token]) for token in counts.nonzero()} == {2: 2, 3: 2, 6: 25, 7: 10}
    assert counts.dtype == torch.int64


def test_fewer_examples_are_part_of_more_and_mixed() -> None:
    rows = Dataset.from_dict({"label": [0] * 500 + [1] * 500, "text": [str(index) for index in range(1000)]})
    ten, hundred = (list(first_examples(rows, count)["text"]) for count in (10, 100))
    assert hundred[:10] == ten and len(set(hundred)) == 100
    assert 30 <= sum(first_examples(rows, 100)["label"]) <= 70  # of sorted data
    assert list(shuffled(rows)["text"])[:100] == hundred and sorted(shuffled(rows)["text"]) == sorted(rows["text"])
    assert list(first_examples(rows, None)["text"]) == list(first_examples(rows, 1000)["text"]) == list(rows["text"])

"""Rows of one set that are also in another."""

from __future__ import annotations

from datasets import Dataset, List, Value
from transformers import PreTrainedTokenizerFast

from iit_toolkit.data.shared import count_seen, count_shared, text_digest
from iit_toolkit.data.tokenization import tokenize_corpus, tokenize_labelled


def rows(*ids: list[int], **columns: list[list[int]]) -> Dataset:
    return Dataset.from_dict({"input_ids": list(ids), **columns})


def test_equal_rows_are_counted_as_often_as_they_are_held_out() -> None:
    train = rows([1, 2], [3], [3])
    assert count_shared(rows([3], [1], [2, 1], [3], [1, 2, 3]), train) == 2
    assert count_shared(rows([1, 2]), rows([1], [2])) == 0


def test_how_ids_are_stored_does_not_matter() -> None:
    train = rows([1, 2], [70000]).cast_column("input_ids", List(Value("int32")))
    assert count_shared(rows([70000], [4464]), train) == 1


def test_a_pair_is_shared_with_both_its_texts() -> None:
    train = rows([1], [2], source_input_ids=[[3], [4]])
    assert count_shared(rows([1], [1], [3], source_input_ids=[[3], [4], [1]]), train) == 1


def test_single_texts_are_looked_for_among_bases_and_sources() -> None:
    pairs = rows([1], [2], source_input_ids=[[3], [4]])
    assert count_shared(rows([1], [4], [5]), pairs) == 2


def test_texts_that_are_cut_otherwise_are_seen(tiny: PreTrainedTokenizerFast) -> None:
    texts = [" ".join(f"w{word % 100}" for word in range(start, start + 30)) for start in range(10)]
    train = tokenize_corpus(Dataset.from_dict({"text": texts}), tiny, 32)
    other = [*texts[:4], "w7 " * 20, texts[5].replace(" ", "\n  ")]
    held_out = tokenize_corpus(Dataset.from_dict({"text": other}), tiny, 17)
    assert len(held_out) == 11
    assert (count_shared(held_out, train), count_seen(held_out, train)) == (0, 10)
    assert count_seen(held_out.remove_columns("text_digest"), train) == 0  # rows that do not say of which text they are
    labelled = [
        tokenize_labelled(Dataset.from_dict({"text": texts, "label": [0] * 10}), tiny, size) for size in (9, 12)
    ]
    assert count_seen(*labelled) == 10
    assert count_seen(train, train) == count_shared(train, train) == 10


def test_pairs_are_seen_with_both_their_texts_and_single_texts_in_either() -> None:
    def pairs(*texts: tuple[str, str]) -> Dataset:
        numbers = [[text_digest(text) for text in side] for side in zip(*texts, strict=True)]
        lists = [[[1, index] for index in range(len(texts))] for _ in range(2)]
        names = ("text_digest", "source_text_digest")
        return rows(*lists[0], source_input_ids=lists[1], **dict(zip(names, numbers, strict=True)))  # pyright: ignore

    train = pairs(("a b", "a c"), ("d", "e"))
    other = pairs(("x", "y"), ("d", " e"), ("a b", "e"))
    single = rows([5], [6], [7], text_digest=[text_digest(text) for text in ("e", "a  b", "z")])  # pyright: ignore
    assert count_seen(other.select([1, 2]), train) == 1
    assert count_seen(single, train) == 2


def test_digests_tell_white_space_only_where_asked() -> None:
    assert text_digest("a  b\n") == text_digest("a b") != text_digest("a B")
    assert text_digest("a  b", exact=True) != text_digest("a b", exact=True)
    assert -(2**63) <= text_digest("\ud800 a lone surrogate") < 2**63

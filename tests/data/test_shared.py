"""Rows of one set that are also in another."""

from __future__ import annotations

from datasets import Dataset, List, Value

from iit_toolkit.data.shared import count_shared


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

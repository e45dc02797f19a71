"""Rows of tensors make batches of one position, alone, together and in pairs."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from iit_toolkit.data.batch import Numbered, eligible_positions, paired_sources
from iit_toolkit.data.tensor_rows import TensorRows, tensor_batch
from iit_toolkit.errors import UserError


def rows() -> TensorRows:
    return TensorRows({"inputs": torch.arange(12.0).view(4, 3), "labels": torch.tensor([0, 1, 1, 0])})


def test_a_batch_of_rows_is_the_batch_of_their_numbers() -> None:
    numbers = [2, 0, 2]
    batch, expected = tensor_batch([rows()[number] for number in numbers]), rows().batch(torch.tensor(numbers))
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[name], expected[name]) for name in batch)
    assert batch["inputs"].tolist() == [[6, 7, 8], [0, 1, 2], [6, 7, 8]]
    assert batch["example_id"].tolist() == numbers and batch["labels"].tolist() == [1, 0, 1]
    assert eligible_positions(batch).tolist() == [[True]] * 3
    assert len(rows()) == 4 and Numbered(rows())[3] is not None


def test_pairs_have_their_sources_with_them() -> None:
    paired = rows().pairs(torch.tensor([0, 1]), torch.tensor([3, 2]))
    source = paired_sources(paired.batch(torch.tensor([1, 0])))
    assert source["inputs"].tolist() == [[6, 7, 8], [9, 10, 11]] and source["example_id"].tolist() == [2, 3]
    assert eligible_positions(source).tolist() == [[True], [True]]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"labels": torch.zeros(2).long()}, "rows lack the column `inputs`; they have labels"),
        ({"inputs": torch.zeros(2)}, "rows lack the column `labels`; they have inputs"),
        (
            {"inputs": torch.zeros(2, 3), "labels": torch.zeros(3).long()},
            "column 'labels' has 3 rows, `inputs` has 2; give equally many",
        ),
        ({"inputs": torch.zeros(2, 3), "labels": torch.zeros(2)}, "labels are torch.float32 of shape"),
        (
            {"inputs": torch.zeros(2, 3), "labels": torch.zeros(2, 1).long()},
            r"of shape \[2, 1\]; give one whole",
        ),
    ],
)
def test_columns_that_do_not_fit_are_one_line(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TensorRows(columns)

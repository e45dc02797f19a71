"""What the keys of rows and batches mean."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from iit_toolkit.analysis.statistics.outcomes import NO_GOLD
from iit_toolkit.data.batch import IGNORE_INDEX, Numbered, gold_answers
from iit_toolkit.errors import UserError


def test_a_label_that_no_loss_counts_is_no_gold_answer_in_the_table_of_outcomes() -> None:
    assert IGNORE_INDEX == NO_GOLD


def test_gold_answers_of_a_causal_model_are_the_next_tokens() -> None:
    labels = torch.tensor([[5, 6, IGNORE_INDEX], [7, 8, 9]])
    assert gold_answers({"labels": labels}, "causal_lm").tolist() == [
        [6, IGNORE_INDEX, IGNORE_INDEX],
        [8, 9, IGNORE_INDEX],
    ]
    assert gold_answers({"labels": labels}, "masked_lm") is labels


@pytest.mark.parametrize(("ids", "kind"), [("a b", "str"), (None, "NoneType"), ([[1, 2]], "list"), (["a"], "list")])
def test_a_row_is_a_list_of_tokens(ids: Any, kind: str) -> None:
    with pytest.raises(UserError, match=f"input_ids of a row are a {kind}; give a list of integers, one for each"):
        Numbered([{"input_ids": ids}])
    assert Numbered([{"input_ids": torch.tensor([1, 2])}])[0]["example_id"] == 0

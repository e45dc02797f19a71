"""Candidate answers: which tokens stand for them, and where a model can't choose."""

from __future__ import annotations

from typing import Any

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerFast

from iit_toolkit.config.data_config import DataConfig
from iit_toolkit.data.collate import MaskedLanguageCollator
from iit_toolkit.data.pairs import PairedRows, tokenize_pairs
from tests.data.conftest import words_of

WORDS = words_of("the", "cat", "cats", "is", "are", "was", "walk", "##s", "##ed", "old", ".")


def found(*candidates: list[str] | list[str | None] | None) -> PairedRows:
    count = len(candidates)
    return tokenize_pairs(
        Dataset.from_dict(
            {
                "text": ["The cats are old."] * count,
                "source": ["The cat is old."] * count,
                "answer": ["are"] * count,
                "source_answer": ["is"] * count,
                "candidates": candidates,
            }
        ),
        WORDS,
        32,
    )


def rows(*candidates: list[str] | list[str | None] | None) -> Any:
    return found(*candidates).rows


@pytest.mark.parametrize(
    ("candidates", "tokens"),
    [
        (["is", "are"], ["is", "are"]),
        (["are", "was", "is"], ["are", "was", "is"]),
        (["are"], []),
        (["are", "are"], []),
        (["are", "walked"], []),
        (["are", "ran"], []),
        (["are", ""], []),
        (["are", None], []),
        ([], []),
        (None, []),
    ],
)
def test_candidates_are_single_known_tokens_that_differ(
    candidates: list[str] | list[str | None] | None, tokens: list[str]
) -> None:
    row, _ = rows(candidates, ["is", "are"])
    assert row["candidates"] == WORDS.convert_tokens_to_ids(tokens)


def test_a_batch_pads_them() -> None:
    batch = MaskedLanguageCollator(WORDS)(list(rows(["is", "are"], ["are", "was", "is"], ["are"])))
    ids: Any = WORDS.convert_tokens_to_ids
    expected = [[*ids(["is", "are"]), -100], ids(["are", "was", "is"]), [-100] * 3]
    assert batch["candidates"].tolist() == expected


@pytest.mark.parametrize(("candidates", "tokens"), [(["w4 w6", "w5"], ["w4", "w5"]), (["w4 w6", "w4"], [])])
def test_of_a_causal_model_the_first_tokens_stand_for_them(
    causal: PreTrainedTokenizerFast, candidates: list[str], tokens: list[str]
) -> None:
    table = {"text": ["w1 w2 w4"], "source": ["w1 w3 w5"], "answer": ["w4"], "source_answer": ["w5"]}
    one = tokenize_pairs(Dataset.from_dict({**table, "candidates": [candidates]}), causal, 32, causal=True)
    assert list(one.rows["candidates"]) == [causal.convert_tokens_to_ids(tokens)]


def test_questions_without_a_choice_are_counted(causal: PreTrainedTokenizerFast) -> None:
    counted = found(["is", "are"], ["are"], None, [], ["are", "ran"], ["is", "was"])
    assert (counted.unchosen, counted.unlisted) == (2, 1)
    table = {"text": ["w1 w2 w4"], "source": ["w1 w3 w5"], "answer": ["w4"], "candidates": [["w4 w6", "w5"]]}
    one = tokenize_pairs(Dataset.from_dict(table), causal, 32, causal=True)
    assert (one.unchosen, one.unlisted) == (0, 0)


def test_candidates_need_answers() -> None:
    with pytest.raises(ValueError, match="candidates_column needs answer_column, too"):
        DataConfig(path="parquet", source_column="s", candidates_column="c")

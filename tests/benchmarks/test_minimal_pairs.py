"""The page on minimal pairs says what was measured, and what is asked of a pair hides its answer."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoTokenizer, BertConfig, BertForMaskedLM

from benchmarks import minimal_pairs
from iit_toolkit.config.loading import EMBEDDED_TEACHER
from iit_toolkit.data.minimal_pairs import FAMILIES, SPLITS


def test_the_page_is_what_the_numbers_give() -> None:
    found = json.loads(minimal_pairs.NUMBERS.read_text(encoding="utf-8"))
    assert minimal_pairs.PAGE.read_text(encoding="utf-8") == minimal_pairs.document(found)
    measured = {name for families in found.values() for name in families} - {"blimp"}
    assert measured == set(FAMILIES)
    assert all(set(found[model][name]) == set(SPLITS) for model in found for name in measured & set(found[model]))


def test_swaps_of_the_last_block_change_no_answer_elsewhere() -> None:
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_TEACHER)
    torch.manual_seed(0)
    model = BertForMaskedLM(
        BertConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, initializer_range=1.0
        )
    )
    rows = FAMILIES["ranges"].rows("train", 30)
    asked = [one for one in (minimal_pairs.asked(tokenizer, row) for row in rows) if not isinstance(one, str)]
    assert asked and all(one.base[one.place] == tokenizer.mask_token_id == one.source[one.place] for one in asked)
    got = minimal_pairs.measured(model.eval(), tokenizer, rows)
    assert got["asked"] == len(asked) and got["block 1"] == 0
    assert got["input"] == pytest.approx(got["block 0"], abs=0.5) and got["input"] > 0

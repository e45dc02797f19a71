"""How many tokens a model reads, by its positions."""

from __future__ import annotations

import pytest
import torch
from transformers import PretrainedConfig

from iit_toolkit.data.readable import readable_tokens
from tests.families import FAMILIES, make_model


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_the_model_reads_what_is_told_and_no_token_more(family: str) -> None:
    model = make_model(family)
    longest = readable_tokens(model)
    assert longest is not None
    ids = torch.full((1, longest), 7)
    assert model(input_ids=ids).logits.shape[1] == longest
    with pytest.raises((IndexError, RuntimeError)):
        model(input_ids=torch.full((1, longest + 1), 7))


@pytest.mark.parametrize("family", FAMILIES)
def test_only_positions_with_a_padding_index_are_fewer(family: str) -> None:
    model = make_model(family)
    told = getattr(model.config, "max_position_embeddings", None)
    assert readable_tokens(model) == (told - 2 if family == "roberta" else told)


def test_a_model_without_a_limit() -> None:
    model = make_model("bert")
    model.config = PretrainedConfig()
    assert readable_tokens(model) is None

"""Rows mean the same alone as in a batch, whatever the padding holds; where they do not, the reason is said."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from iit_toolkit.errors import UserError
from iit_toolkit.interchange.reading import refuse_read_padding, require_order, require_padding
from tests.families import make_batch, make_model
from tests.model_classes import make_tiny


def rows(lengths: tuple[int, ...] = (11, 7, 9, 5), padding: int = 0) -> dict[str, Tensor]:
    inputs, _ = make_batch("bert", lengths=lengths)
    real = inputs["attention_mask"].bool()
    return {**inputs, "input_ids": inputs["input_ids"].masked_fill(~real, padding)}


@pytest.mark.parametrize("name", ["MPNetForMaskedLM", "MBartForConditionalGeneration", "Mamba2ForCausalLM"])
def test_sound_models_read_padded_rows(name: str) -> None:
    padding = int(name == "MPNetForMaskedLM")
    model = make_tiny(name)
    before = model.get_input_embeddings().weight.clone()
    assert "changes hidden states" in require_padding(model, rows(padding=padding), padding)
    assert torch.equal(model.get_input_embeddings().weight, before)


def test_a_padding_embedding_of_zero_does_not_hide_that_it_is_read() -> None:
    """MobileBERT reads the next token's embedding, so training moves what the last token of a row reads."""
    model = make_tiny("MobileBertForMaskedLM")
    with torch.no_grad():
        model.get_input_embeddings().weight[0] = 0.0
    with pytest.raises(UserError, match="MobileBertForMaskedLM reads what stands in padding"):
        require_padding(model, rows(), 0)
    assert not model.get_input_embeddings().weight[0].any()


@pytest.mark.parametrize("name", ["FNetForMaskedLM", "ConvBertForMaskedLM", "MobileBertForMaskedLM"])
def test_models_that_read_padding_are_refused_only_where_rows_are_padded(name: str) -> None:
    model = make_tiny(name)
    with pytest.raises(UserError, match="padding changes the hidden states.*data.packing"):
        require_padding(model, rows(), 0)
    assert "no row is padded" in require_padding(model, rows((8, 8, 8)), 0, padded=False)


def test_noise_is_not_taken_for_padding() -> None:
    class Noise(nn.Module):
        def forward(self, hidden: Tensor) -> Tensor:
            return hidden + torch.randn_like(hidden)

    model = make_model("bert").eval()
    model.bert.encoder.layer[2].output.dropout = Noise()
    with pytest.raises(UserError, match="BertForMaskedLM is not deterministic: the same row"):
        require_padding(model, rows(), 0)


def test_what_is_not_finite_is_not_taken_for_padding() -> None:
    model = make_model("bert").eval()
    with torch.no_grad():
        model.bert.encoder.layer[0].output.dense.bias[0] = torch.nan
    with pytest.raises(UserError, match="not finite"):
        require_padding(model, rows(), 0)


def test_every_row_is_compared_not_only_the_first() -> None:
    model = make_model("bert").eval()

    def spoil(_module: Any, _args: Any, output: Any) -> Any:
        return output if len(output) == 1 else torch.cat([output[:2], output[2:] + 1])

    model.bert.embeddings.register_forward_hook(spoil)
    with pytest.raises(UserError, match="padding changes"):
        require_padding(model, rows(), 0)


def test_a_row_as_long_as_the_model_reads_keeps_its_end() -> None:
    model = make_tiny("BartForSequenceClassification")
    inputs = {"input_ids": torch.randint(5, 50, (2, 40)), "attention_mask": torch.ones(2, 40, dtype=torch.long)}
    inputs["input_ids"][:, -1] = 2
    assert "padding changes" in require_padding(model, inputs, 0)


def test_reading_ahead() -> None:
    assert "left to right" in require_order(make_tiny("LlamaForCausalLM"), rows())
    with pytest.raises(UserError, match="XLNetLMHeadModel reads ahead"):
        require_order(make_tiny("XLNetLMHeadModel"), rows())


def shifted(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the same rows with their padding on the left."""
    start = inputs["attention_mask"].shape[1] - inputs["attention_mask"].sum(1)
    places = (torch.arange(inputs["input_ids"].shape[1]) - start[:, None]) % inputs["input_ids"].shape[1]
    return {name: value.gather(1, places) for name, value in inputs.items()}


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
def test_a_batch_padded_on_the_left_is_refused_if_its_places_count(family: str) -> None:
    model, inputs = make_model(family), {name: rows()[name] for name in ("input_ids", "attention_mask")}
    refuse_read_padding(model, inputs, "student")
    refuse_read_padding(model, {name: value[:1] for name, value in inputs.items()}, "student")  # nothing is padded
    left = shifted(inputs)
    assert left["attention_mask"][:, -1].all() and not left["attention_mask"].all()
    if family == "llama":  # places are relative
        refuse_read_padding(model, left, "student")
        return
    with pytest.raises(UserError, match="student: padding changes a row's logits by .* pad on the right, or give"):
        refuse_read_padding(model, left, "student")
    if family == "gpt2":
        places = (left["attention_mask"].cumsum(1) - 1).clamp(min=0)
        refuse_read_padding(model, {**left, "position_ids": places}, "student")
    assert model.training


def test_a_classifier_that_takes_another_token_for_padding_is_refused() -> None:
    model, inputs = make_tiny("GPT2ForSequenceClassification"), rows(padding=3)
    inputs.pop("token_type_ids", None)
    model.config.pad_token_id = 3
    refuse_read_padding(model, inputs, "teacher")
    model.config.pad_token_id = 0
    with pytest.raises(UserError, match="teacher: padding changes .* with the token that .* calls pad_token_id .0.$"):
        refuse_read_padding(model, inputs, "teacher")

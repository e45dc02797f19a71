"""Perplexity and accuracy of a tiny random model, against a loop in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification

from iit_toolkit.analysis.verification.evaluation import evaluate
from iit_toolkit.errors import UserError

SIZES: dict[str, Any] = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "num_labels": 3,
}


def large(model: Any) -> Any:
    """With weights so large that answers differ from row to row."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, 0, 1.0)
    return model.eval()


def rows(count: int, length: int = 6) -> list[dict[str, Any]]:
    ids = torch.randint(5, 30, (count, length), generator=torch.Generator().manual_seed(1)).tolist()
    return [{"input_ids": row, "label": index % 3} for index, row in enumerate(ids)]


def batch(chosen: Any) -> dict[str, torch.Tensor]:
    ids = torch.tensor([row["input_ids"] for row in chosen])
    labels = torch.tensor([row["label"] for row in chosen])
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": labels}


def masked(chosen: Any) -> dict[str, torch.Tensor]:
    """The second token is to be predicted, and in rows of label 0 the third, too."""
    made = batch(chosen)
    labels = torch.full_like(made["input_ids"], -100)
    labels[:, 1] = made["input_ids"][:, 1]
    labels[made["labels"] == 0, 2] = made["input_ids"][made["labels"] == 0, 2]
    return {**made, "labels": labels}


def test_classification_has_both_over_all_rows() -> None:
    torch.manual_seed(0)
    model, data = large(BertForSequenceClassification(BertConfig(**SIZES))), rows(41)  # more than one batch
    found = evaluate(model, data, batch, "sequence_classification")
    logits = model(input_ids=torch.tensor([row["input_ids"] for row in data])).logits.detach().double()
    chances = logits.softmax(-1)
    right = sum(int(logits[index].argmax()) == row["label"] for index, row in enumerate(data))
    nll = -sum(math.log(chances[index, row["label"]]) for index, row in enumerate(data)) / 41
    assert 0 < right < 41
    accuracy = found["accuracy"]
    assert accuracy.value == pytest.approx(right / 41) and (accuracy.cases, accuracy.clusters) == (41, 41)
    assert accuracy.low is not None and accuracy.high is not None
    assert accuracy.low < right / 41 < accuracy.high
    assert found["perplexity"].value == pytest.approx(math.exp(nll), rel=1e-5)


def test_language_models_have_a_perplexity_over_all_predicted_tokens() -> None:
    torch.manual_seed(0)
    model, data = large(BertForMaskedLM(BertConfig(**SIZES))), rows(7)
    found = evaluate(model, data, masked, "masked_lm")
    assert list(found) == ["perplexity"]
    made = masked(data)
    chances = model(input_ids=made["input_ids"]).logits.detach().double().softmax(-1)
    losses = [
        -math.log(chances[row, place, made["labels"][row, place]])
        for row, place in (made["labels"] != -100).nonzero().tolist()
    ]
    assert len(losses) == 7 + 3
    assert found["perplexity"].value == pytest.approx(math.exp(sum(losses) / 10), rel=1e-4)


def test_rows_of_one_text_are_resampled_together() -> None:
    """Every row three times says no more than once if the copies are of its text; as texts of their own, they do."""
    torch.manual_seed(0)
    model, data = large(BertForMaskedLM(BertConfig(**SIZES))), rows(30)
    copies = [{**row, "text_id": index} for index, row in enumerate(data) for _ in range(3)]
    apart = [{**row, "text_id": index} for index, row in enumerate(copies)]
    once, together, alone = (evaluate(model, one, masked, "masked_lm")["perplexity"] for one in (data, copies, apart))
    assert (together.low, together.high) == pytest.approx((once.low, once.high), rel=1e-4)
    assert (together.clusters, together.texts, alone.texts) == (90, 30, 90)
    assert once.low is not None and alone.low is not None and alone.low > 1.02 * once.low


def test_answers_that_are_not_finite_have_no_perplexity() -> None:
    torch.manual_seed(0)
    model, data = large(BertForMaskedLM(BertConfig(**SIZES))), rows(41)
    rare = data[37]["input_ids"][4]
    hit = [index for index, row in enumerate(data) if rare in row["input_ids"]]
    model.get_input_embeddings().weight.data[rare] = math.nan
    with pytest.raises(
        UserError, match=rf"student a: answers are NaN or infinite in .* e.g. in row {hit[0]} \(its weight"
    ):
        evaluate(model, data, masked, "masked_lm", what="student a")


def test_classes_that_a_model_forbids_are_no_fault_unless_they_are_right() -> None:
    torch.manual_seed(0)
    model, data = large(BertForSequenceClassification(BertConfig(**SIZES))), rows(12)
    model.classifier.bias.data[2] = -math.inf
    allowed = [row for row in data if row["label"] != 2]
    assert evaluate(model, allowed, batch, "sequence_classification")["perplexity"].value is not None
    with pytest.raises(UserError, match="student a: the right answer has logit -inf in row 2"):
        evaluate(model, data, batch, "sequence_classification", what="student a")

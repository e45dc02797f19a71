"""A model that rewrites itself, or has no answer to some row, is told before it is used."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers as tf

from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel
from iit_toolkit.interchange.certify import certify
from iit_toolkit.interchange.checks import refuse_failed
from iit_toolkit.interchange.sound import digests, refuse_changed, unanswered_rows
from tests.families import as_batch, make_batch, make_model

RWKV: dict[str, Any] = {"vocab_size": 50, "hidden_size": 16, "attention_hidden_size": 16, "context_length": 32}


def rwkv(rescale_every: int) -> Any:
    torch.manual_seed(0)
    config = tf.RwkvConfig(**RWKV, num_hidden_layers=4, rescale_every=rescale_every)
    return tf.RwkvForCausalLM(config).requires_grad_(False).eval()


def answers_of(model: Any) -> str:
    """What certification says of the answers of a model as its own student."""
    ids = torch.randint(3, 50, (3, 6), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    found = certify(model, model, None, {"input_ids": ids, "attention_mask": mask}, task="causal_lm")
    return next(check.detail for check in found if check.name == "teacher: answers")


def test_a_model_that_rescales_its_weights_is_refused_by_name() -> None:
    said = answers_of(rwkv(2))
    assert said.startswith("RwkvForCausalLM: rwkv.blocks.2.attention.output.weight is no longer what it was")
    assert said.endswith("set rescale_every to 0 in its config.json")
    assert answers_of(rwkv(0)) == "they are finite, and running it leaves its weights as they are"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_one_bit_of_one_tensor_is_seen(dtype: torch.dtype) -> None:
    model: Any = make_model("bert").to(dtype)
    before = digests(model)
    refuse_changed(model, before, "teacher")
    weight = model.bert.encoder.layer[1].output.dense.weight
    weight.data[0, 0] = torch.nextafter(weight[0, 0].float(), torch.tensor(math.inf)) if dtype == torch.float32 else 9
    with pytest.raises(UserError, match=r"teacher: bert.encoder.layer.1.output.dense.weight .*\(1 of \d+ tensors"):
        refuse_changed(model, before, "teacher")


def test_rows_without_an_answer_are_counted_and_padding_is_not_looked_at() -> None:
    model: Any = make_model("llama")
    inputs, _ = make_batch("llama")
    rare = int(inputs["input_ids"][1, 3])
    rows = (inputs["input_ids"] == rare).any(1)
    model.get_input_embeddings().weight.data[rare] = math.nan
    batch = {**inputs, "example_id": torch.arange(10, 10 + len(rows))}
    assert unanswered_rows(InterchangeModel(model, {}), batch) == (rows.nonzero()[:, 0] + 10).tolist()
    sound: Any = make_model("llama")
    assert unanswered_rows(InterchangeModel(sound, {}), batch) == []


@pytest.mark.parametrize("side", ["teacher", "student"])
def test_certification_names_a_spoilt_weight_before_all_else(side: str) -> None:
    models: dict[str, Any] = {
        "teacher": make_model("bert").requires_grad_(False).eval(),
        "student": make_model("bert", seed=1),
    }
    models[side].bert.encoder.layer[1].output.dense.weight.data[0, 0] = math.nan
    inputs, eligible = make_batch("bert")
    found = certify(models["teacher"], models["student"], None, as_batch(inputs, eligible))
    with pytest.raises(
        UserError, match=f"{side}: model: .* values of bert.encoder.layer.1.output.dense.weight are NaN"
    ):
        refuse_failed(found)
    assert [check.name for check in found] == ["teacher: model", "student: model"]


def test_answers_that_overflow_are_told_of_a_model_with_finite_weights() -> None:
    teacher: Any = make_model("bert").requires_grad_(False).eval()
    teacher.cls.predictions.transform.LayerNorm.weight.data[:] = 3e38
    inputs, eligible = make_batch("bert")
    with pytest.raises(
        UserError, match=r"teacher: answers: BertForMaskedLM: answers are NaN or infinite in 4 of 4 rows"
    ):
        refuse_failed(certify(teacher, make_model("bert", seed=1), None, as_batch(inputs, eligible)))

"""The engine gives what a full recomputation by hand gives: logits, hidden states, and every gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tf

from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel, Swap
from tests.cases import SITE_KINDS, both, ragged_swap, resolved, sites_of
from tests.families import BERT_LIKE, FAMILIES, LLAMA_LIKE, make_batch, make_model, with_large_weights
from tests.twin import Answers, difference, engine, gradient_difference, gradients, twin

GRADIENT_TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}
"""Relative. Logits and hidden states must agree bit for bit."""

SINGLE_INSIDE = {"modernbert": 1e-6, "llama": 1e-6, "qwen3": 1e-6}
"""These compute rotary embeddings or norms in float32 even where the model is float64."""


@pytest.mark.parametrize("dtype", GRADIENT_TOLERANCE, ids=str)
@pytest.mark.parametrize("kind", SITE_KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_engine_equals_the_twin(family: str, kind: str, dtype: torch.dtype) -> None:
    ours, our_gradients, plain, plain_gradients = both(family, kind, dtype)
    assert difference(ours, plain) == 0
    tolerance = max(GRADIENT_TOLERANCE[dtype], SINGLE_INSIDE.get(family, 0))
    assert gradient_difference(our_gradients, plain_gradients) <= tolerance
    assert (plain.counterfactual_hidden - plain.base_hidden).abs().max() > 0.1, "the swap must do something"


@pytest.mark.parametrize("kind", SITE_KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_without_prefix_sharing_gradients_too_agree_bit_for_bit(family: str, kind: str) -> None:
    """With a source run of its own, the engine does the very operations of the twin."""
    ours, our_gradients, plain, plain_gradients = both(family, kind, other_source=True, share_prefix=False)
    assert difference(ours, plain) == 0
    different = [name for name, gradient in our_gradients.items() if not torch.equal(gradient, plain_gradients[name])]
    assert different == []


@pytest.mark.parametrize("kind", ["block output", "several layers", "two ranges", "heads", "read elsewhere"])
@pytest.mark.parametrize("family", FAMILIES)
def test_sources_of_another_length(family: str, kind: str) -> None:
    ours, our_gradients, plain, plain_gradients = both(family, kind, torch.float64, other_source=True)
    assert difference(ours, plain) == 0
    assert gradient_difference(our_gradients, plain_gradients) <= SINGLE_INSIDE.get(family, 1e-13)


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "vit"])
def test_logits_at_some_tokens_only(family: str) -> None:
    model = make_model(family, torch.float64)
    inputs, eligible = make_batch(family)
    tokens = eligible & (torch.arange(eligible.shape[1]) % 2 == 1)
    sites, swap = sites_of("block output", family), ragged_swap(eligible)
    interchange = InterchangeModel(model, resolved(model, sites))
    ours = engine(interchange, "variable", inputs, swap, tokens=tokens)
    plain = twin(model, FAMILIES[family], sites, inputs, swap)
    rows = tokens.flatten()
    expected = Answers(plain.base[rows], plain.counterfactual[rows], plain.base_hidden, plain.counterfactual_hidden)
    assert len(ours.base) == tokens.sum() < rows.numel()
    assert difference(ours, expected) < 1e-14
    assert gradient_difference(gradients(model, ours), gradients(model, expected)) <= SINGLE_INSIDE.get(family, 1e-13)


def test_runs_hold_features_instead_of_logits_where_the_head_is_linear() -> None:
    model = make_model("bert")
    inputs, eligible = make_batch("bert")
    interchange = InterchangeModel(model, {})
    run = interchange.base_run(inputs, tokens=eligible)
    assert run.logits is None and run.features is not None
    assert run.features.shape == (int(eligible.sum()), 32)
    expected = model(**inputs).logits.flatten(0, 1)[eligible.flatten()]
    assert torch.allclose(interchange.logits(run), expected, atol=1e-5)


def gemma2() -> Any:
    config = tf.Gemma2Config(**LLAMA_LIKE, head_dim=8, query_pre_attn_scalar=8, final_logit_softcapping=3.0)
    return tf.Gemma2ForCausalLM(config)


def granite() -> Any:
    return tf.GraniteForCausalLM(tf.GraniteConfig(**LLAMA_LIKE, logits_scaling=4.0))


def token_classifier() -> Any:
    return tf.BertForTokenClassification(tf.BertConfig(**BERT_LIKE, num_labels=7))


@pytest.mark.parametrize("build", [gemma2, granite, token_classifier])
def test_heads_that_do_more_than_multiply(build: Any) -> None:
    """Soft-capped or scaled logits, and logits per token of a classifier, are the model's own."""
    model = with_large_weights(build())
    inputs, eligible = make_batch("bert")
    run = InterchangeModel(model, {}).base_run(inputs, tokens=eligible)
    assert run.features is None
    assert torch.equal(run.logits, model(**inputs).logits.flatten(0, 1)[eligible.flatten()])


@pytest.mark.parametrize("kind", ["block output", "several layers", "heads", "embeddings"])
@pytest.mark.parametrize("build", [tf.BertForSequenceClassification, tf.RobertaForSequenceClassification])
def test_sequence_classification(build: Any, kind: str) -> None:
    family = "bert" if build is tf.BertForSequenceClassification else "roberta"
    config = FAMILIES[family].make().config
    config.num_labels = 3
    model = with_large_weights(build(config), torch.float64)
    ours, our_gradients, plain, plain_gradients = both(family, kind, torch.float64, model=model)
    assert ours.base.shape == (4, 3)
    assert difference(ours, plain) == 0
    assert gradient_difference(our_gradients, plain_gradients) <= 1e-13


@pytest.mark.parametrize("kind", ["block output", "heads", "mlp activation", "read elsewhere"])
@pytest.mark.parametrize("family", ["bert", "gpt2", "llama", "vit"])
def test_bfloat16_autocast(family: str, kind: str) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        ours, our_gradients, plain, plain_gradients = both(family, kind)
        exact, exact_gradients, repeated, repeated_gradients = both(family, kind, other_source=True, share_prefix=False)
    assert difference(ours, plain) == difference(exact, repeated) == 0
    assert all(torch.equal(gradient, repeated_gradients[name]) for name, gradient in exact_gradients.items())
    error = sum(float((our_gradients[name] - plain_gradients[name]).square().sum()) for name in our_gradients)
    assert error < 0.02**2 * sum(float(gradient.square().sum()) for gradient in plain_gradients.values())


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("kind", ["block output", "block input", "several layers", "two ranges", "read elsewhere"])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_checkpointing_at_block_boundaries(family: str, kind: str, reentrant: bool) -> None:
    model = make_model(family, torch.float64)
    checkpoint(model, reentrant)
    sites = sites_of(kind, family)
    inputs, eligible = make_batch(family, torch.float64)
    swap = ragged_swap(eligible)
    ours = engine(InterchangeModel(model, resolved(model, sites)), "variable", inputs, swap)
    our_gradients = gradients(model, ours)
    plain_model = make_model(family, torch.float64)
    plain = twin(plain_model, FAMILIES[family], sites, inputs, swap)
    assert difference(ours, plain) == 0
    assert gradient_difference(our_gradients, gradients(plain_model, plain)) <= SINGLE_INSIDE.get(family, 1e-13)


def checkpoint(model: Any, reentrant: bool) -> None:
    model.activation_checkpointing_enable({"use_reentrant": reentrant})
    assert model.is_activation_checkpointing


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("kind", ["heads", "attention output", "mlp activation", "inner module path"])
def test_gradient_checkpointing_refuses_sites_inside_blocks(kind: str) -> None:
    model = make_model("bert")
    checkpoint(model, reentrant=True)
    inputs, eligible = make_batch("bert")
    interchange = InterchangeModel(model, resolved(model, sites_of(kind, "bert")))
    with pytest.raises(UserError, match="gradient_checkpointing"):
        interchange.base_run(inputs, ["variable"])
    with torch.no_grad():
        base = interchange.base_run(inputs, ["variable"])
    with pytest.raises(UserError, match="gradient_checkpointing"):
        interchange.counterfactual_run(base, "variable", ragged_swap(eligible))


@pytest.mark.parametrize("family", FAMILIES)
def test_teacher_in_eval_mode_without_gradients(family: str) -> None:
    model = make_model(family).eval()
    inputs, eligible = make_batch(family)
    sites, swap = sites_of("several layers", family), ragged_swap(eligible)
    with torch.no_grad():
        ours = engine(InterchangeModel(model, resolved(model, sites)), "variable", inputs, swap)
        assert difference(ours, twin(model, FAMILIES[family], sites, inputs, swap)) == 0
    assert not ours.counterfactual.requires_grad
    assert not any(module.training for module in model.modules())


def own(eligible: torch.Tensor) -> Swap:
    """Every example swapped with itself, at every ordinary position."""
    return Swap(torch.arange(len(eligible)), eligible, torch.arange(eligible.shape[1]).expand(eligible.shape))


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("kind", [kind for kind in SITE_KINDS if not kind.startswith("read")])
@pytest.mark.parametrize("family", FAMILIES)
def test_self_swap_changes_nothing(family: str, kind: str, share_prefix: bool) -> None:
    model = make_model(family)
    inputs, eligible = make_batch(family)
    interchange = InterchangeModel(model, resolved(model, sites_of(kind, family)), share_prefix=share_prefix)
    ours = engine(interchange, "variable", inputs, own(eligible))
    assert torch.equal(ours.base, ours.counterfactual)


@pytest.mark.parametrize(("share_prefix", "same"), [(True, True), (False, False)])
def test_the_shared_prefix_shares_its_dropout_masks(share_prefix: bool, same: bool) -> None:
    model = with_large_weights(tf.BertForMaskedLM(tf.BertConfig(**{**BERT_LIKE, "hidden_dropout_prob": 0.5})))
    inputs, eligible = make_batch("bert")
    sites = resolved(model, sites_of("last block output", "bert"))
    ours = engine(InterchangeModel(model, sites, share_prefix=share_prefix), "variable", inputs, own(eligible))
    assert torch.equal(ours.base, ours.counterfactual) is same


def test_several_variables_share_one_base_run() -> None:
    """Each variable's counterfactual run from a joint base run is the one from a base run of its own."""
    model = make_model("bert")
    kinds = ["several layers", "block output", "heads", "first block input", "read elsewhere"]
    sites = {kind: resolved(model, sites_of(kind, "bert"), kind)[kind] for kind in kinds}
    inputs, eligible = make_batch("bert")
    interchange, swap = InterchangeModel(model, sites), ragged_swap(eligible)
    joint = interchange.base_run(inputs, kinds)
    for kind in kinds:
        alone = engine(interchange, kind, inputs, swap).counterfactual
        assert torch.equal(interchange.logits(interchange.counterfactual_run(joint, kind, swap)), alone)


def test_the_shared_prefix_is_not_computed_again() -> None:
    model = make_model("bert")
    inputs, eligible = make_batch("bert")
    interchange = InterchangeModel(model, resolved(model, sites_of("block output", "bert")))
    base = interchange.base_run(inputs, ["variable"])
    ran = [0] * 3
    for index, block in enumerate(model.bert.encoder.layer):

        def count(*_: Any, index: int = index) -> None:
            ran[index] += 1

        block.attention.self.query.register_forward_hook(count)
    interchange.counterfactual_run(base, "variable", ragged_swap(eligible))
    assert ran == [0, 0, 1]


def test_ranges_beyond_the_width_are_refused() -> None:
    model = make_model("bert")
    inputs, eligible = make_batch("bert")
    site = {"layer": 1, "component": "block_output", "neurons": [30, 33]}
    interchange = InterchangeModel(model, resolved(model, [site]))
    base = interchange.base_run(inputs, ["variable"])
    with pytest.raises(UserError, match="beyond its 32 neurons"):
        interchange.counterfactual_run(base, "variable", ragged_swap(eligible))


@pytest.mark.parametrize("component", ["bert.encoder.output", "bert.output"])
def test_places_that_hold_no_sequence_are_refused(component: str) -> None:
    model = make_model("bert")
    inputs, _ = make_batch("bert")
    interchange = InterchangeModel(model, resolved(model, [{"component": component}]))
    with pytest.raises(UserError, match="tensor|module path"):
        interchange.base_run(inputs, ["variable"])


def test_places_that_hold_no_positions_are_refused() -> None:
    model = with_large_weights(tf.BertForSequenceClassification(tf.BertConfig(**BERT_LIKE)))
    inputs, _ = make_batch("bert")
    interchange = InterchangeModel(model, resolved(model, [{"component": "bert.pooler.output"}]))
    with pytest.raises(UserError, match=r"shape \[4, 32\]"):
        interchange.base_run(inputs, ["variable"])

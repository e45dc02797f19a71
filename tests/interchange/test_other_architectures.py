"""Architectures beside the nine of `tests.families`: a swap at a block's output equals hooks written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as tf
from torch import Tensor, nn

from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel, draw_swap, other_rows
from iit_toolkit.interchange.certify import certify
from tests.families import BERT_LIKE, LLAMA_LIKE, VOCABULARY, as_batch, make_batch, with_large_weights

ALIGNMENT = Alignment.from_dict(
    {
        "name": "x",
        "variables": [
            {
                "name": "v",
                "teacher": [{"component": "block_output", "layer": 1}],
                "student": [{"component": "block_output", "layer": 1}],
            }
        ],
    }
)
SMALL: dict[str, Any] = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_attention_heads": 4, "pad_token_id": 0}
ENDS: dict[str, Any] = {"bos_token_id": 1, "eos_token_id": 2}
BART: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
    "dropout": 0.0,
}

ARCHITECTURES: dict[str, tuple[Callable[[], Any], str]] = {
    "opt": (
        lambda: tf.OPTForCausalLM(
            tf.OPTConfig(**SMALL, **ENDS, num_hidden_layers=3, ffn_dim=48, max_position_embeddings=32, dropout=0.0)
        ),
        "model.decoder.layers",
    ),
    "gpt-neox": (lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**BERT_LIKE, **ENDS)), "gpt_neox.layers"),
    "gpt-neo": (
        lambda: tf.GPTNeoForCausalLM(
            tf.GPTNeoConfig(
                vocab_size=VOCABULARY,
                hidden_size=32,
                num_layers=3,
                num_heads=4,
                max_position_embeddings=32,
                attention_types=[[["global", "local", "global"], 1]],
                window_size=4,
                pad_token_id=0,
                **ENDS,
            )
        ),
        "transformer.h",
    ),
    "bloom": (
        lambda: tf.BloomForCausalLM(tf.BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=3, n_head=4, **ENDS)),
        "transformer.h",
    ),
    "falcon": (
        lambda: tf.FalconForCausalLM(tf.FalconConfig(**SMALL, **ENDS, num_hidden_layers=3, ffn_hidden_size=48)),
        "transformer.h",
    ),
    "phi": (lambda: tf.PhiForCausalLM(tf.PhiConfig(**LLAMA_LIKE, **ENDS)), "model.layers"),
    "mistral": (lambda: tf.MistralForCausalLM(tf.MistralConfig(**LLAMA_LIKE, sliding_window=4)), "model.layers"),
    "gemma2": (
        lambda: tf.Gemma2ForCausalLM(tf.Gemma2Config(**LLAMA_LIKE, head_dim=8, sliding_window=4)),
        "model.layers",
    ),
    "camembert": (
        lambda: tf.CamembertForMaskedLM(tf.CamembertConfig(**{**BERT_LIKE, "pad_token_id": 1})),
        "roberta.encoder.layer",
    ),
    "deberta-v2": (
        lambda: tf.DebertaV2ForMaskedLM(
            tf.DebertaV2Config(**BERT_LIKE, relative_attention=True, pos_att_type=["c2p", "p2c"])
        ),
        "deberta.encoder.layer",
    ),
    "roformer": (
        lambda: tf.RoFormerForMaskedLM(tf.RoFormerConfig(**BERT_LIKE, embedding_size=32)),
        "roformer.encoder.layer",
    ),
    "esm": (
        lambda: tf.EsmForMaskedLM(
            tf.EsmConfig(**BERT_LIKE, mask_token_id=3, position_embedding_type="rotary", token_dropout=False)
        ),
        "esm.encoder.layer",
    ),
    "bart, its encoder": (lambda: tf.BartForConditionalGeneration(tf.BartConfig(**BART)), "model.encoder.layers"),
}


def swapped_by_hand(
    model: Any, block: nn.Module, inputs: dict[str, Tensor], mask: Tensor, rows: Tensor, positions: Tensor
) -> Tensor:
    """Logits of a run in which a block's output is another row's, position by position."""
    kept: list[Tensor] = []

    def first(output: Any) -> Tensor:
        return output[0] if isinstance(output, tuple) else output

    handle = block.register_forward_hook(lambda _m, _a, output: kept.append(first(output)))
    model(**inputs)
    handle.remove()

    def swap(_module: nn.Module, _args: Any, output: Any) -> Any:
        changed = first(output).clone()
        for row, position in mask.nonzero().tolist():
            changed[row, position] = kept[0][int(rows[row]), int(positions[row, position])]
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = block.register_forward_hook(swap)
    logits = model(**inputs).logits
    handle.remove()
    return logits


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_a_swap_equals_hooks_written_by_hand(name: str) -> None:
    make, path = ARCHITECTURES[name]
    model = with_large_weights(make()).eval()
    inputs, eligible = make_batch("roberta" if name == "camembert" else "bert")
    generator = torch.Generator().manual_seed(0)
    swap = draw_swap(ALIGNMENT.positions, other_rows(4, generator), eligible, eligible, generator)
    engine = InterchangeModel(model, resolve(ALIGNMENT, model, "teacher"))
    base = engine.base_run(inputs, ["v"])
    changed = engine.logits(engine.counterfactual_run(base, "v", swap))
    block = model.get_submodule(f"{path}.1")
    by_hand = swapped_by_hand(model, block, inputs, swap.mask, swap.source, swap.source_position).flatten(0, 1)
    plain = model(**inputs).logits.flatten(0, 1)
    scale = float(by_hand.abs().max())
    assert float((engine.logits(base) - plain).abs().max()) <= 1e-5 * scale
    assert float((changed - by_hand).abs().max()) <= 1e-5 * scale
    assert float((by_hand - plain).abs().max()) > 1e-2 * scale  # the swap did something


@torch.no_grad()
def test_a_site_whose_rows_are_positions_is_refused() -> None:
    """XLNet's blocks hold (positions, batch, neurons): where both are equal, the wrong example would be swapped."""
    config = tf.XLNetConfig(vocab_size=VOCABULARY, d_model=32, n_layer=3, n_head=4, d_inner=48, dropout=0.0)
    model = with_large_weights(tf.XLNetLMHeadModel(config)).requires_grad_(False).eval()
    place = {"component": "transformer.layer[1].output"}
    alignment = Alignment.from_dict({"name": "x", "variables": [{"name": "v", "teacher": [place], "student": [place]}]})
    inputs = {"input_ids": torch.arange(5, 21).reshape(4, 4), "attention_mask": torch.ones(4, 4, dtype=torch.long)}
    checks = certify(model, model, alignment, as_batch(inputs, torch.ones(4, 4, dtype=torch.bool)))
    fault = next(check for check in checks if check.name == "teacher: sites fire once")
    assert not fault.passed and "[4, 3, 32] for inputs of 3 rows and 4 tokens" in fault.detail
    engine = InterchangeModel(model, resolve(alignment, model, "teacher"))
    with pytest.raises(UserError, match=r"sites need \(batch, positions, neurons\)"):
        engine.base_run({name: value[:3] for name, value in inputs.items()}, ["v"])

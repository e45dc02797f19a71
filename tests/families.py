"""Tiny random models of nine architectures, their batches, and their module paths written out by hand.

Weights are large, so that swapping activations changes the logits by much; dropout is 0, so that a run in
training mode can be repeated.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import transformers as tf
from torch import Tensor

VOCABULARY = 50
LAYERS = 3
HIDDEN = 32
HEADS = 4
LENGTHS = (11, 7, 9, 5)
"""Length of each row of a batch, first and last token included; the rest is padding."""

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BERT_LIKE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
    **NO_DROPOUT,
}
LLAMA_LIKE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}


@dataclass(frozen=True)
class Family:
    """One architecture.

    Attributes:
        make: Builds the model, with weights as the library draws them.
        blocks: Module path of the list of blocks.
        attention: Below a block, the linear layer that ends attention; its input is the heads' outputs.
        mlp: Below a block, the linear layer that ends the MLP.
        inner: Below a block, some other module inside it.
        embeddings: Module whose output enters the first block.
    """

    make: Callable[[], Any]
    blocks: str
    attention: str
    mlp: str
    inner: str
    embeddings: str

    def module(self, place: dict[str, Any]) -> tuple[str, str]:
        """Return (module path, `input` or `output`) of a place as an alignment file writes it."""
        component = place["component"]
        if "layer" not in place:
            path, _, kind = component.rpartition(".")
            return path.replace("[", ".").replace("]", ""), kind
        block = f"{self.blocks}.{place['layer']}"
        return {
            "block_input": (block, "input"),
            "block_output": (block, "output"),
            "attention_output": (f"{block}.{self.attention}", "output"),
            "attention_value_output": (f"{block}.{self.attention}", "input"),
            "mlp_output": (f"{block}.{self.mlp}", "output"),
            "mlp_activation": (f"{block}.{self.mlp}", "input"),
        }[component]


def bert_config(**changed: Any) -> tf.BertConfig:
    return tf.BertConfig(**{**BERT_LIKE, **changed})


def _distilbert() -> Any:
    return tf.DistilBertForMaskedLM(
        tf.DistilBertConfig(
            vocab_size=VOCABULARY,
            dim=HIDDEN,
            n_layers=LAYERS,
            n_heads=HEADS,
            hidden_dim=48,
            max_position_embeddings=32,
            dropout=0.0,
            attention_dropout=0.0,
        )
    )


def _modernbert() -> Any:
    return tf.ModernBertForMaskedLM(
        tf.ModernBertConfig(
            **{**BERT_LIKE, "num_hidden_layers": LAYERS},
            local_attention=4,
            global_attn_every_n_layers=2,
            cls_token_id=1,
            sep_token_id=2,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def _gpt2() -> Any:
    return tf.GPT2LMHeadModel(
        tf.GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=HIDDEN,
            n_layer=LAYERS,
            n_head=HEADS,
            n_inner=48,
            n_positions=32,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def _vit() -> Any:
    return tf.ViTForImageClassification(
        tf.ViTConfig(
            hidden_size=HIDDEN,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            intermediate_size=48,
            image_size=12,
            patch_size=4,
            num_labels=5,
            **NO_DROPOUT,
        )
    )


FAMILIES = {
    "bert": Family(
        lambda: tf.BertForMaskedLM(bert_config()),
        "bert.encoder.layer",
        "attention.output.dense",
        "output.dense",
        "attention.self.query",
        "bert.embeddings",
    ),
    "distilbert": Family(
        _distilbert,
        "distilbert.transformer.layer",
        "attention.out_lin",
        "ffn.lin2",
        "sa_layer_norm",
        "distilbert.embeddings",
    ),
    "roberta": Family(
        lambda: tf.RobertaForMaskedLM(tf.RobertaConfig(**{**BERT_LIKE, "pad_token_id": 1})),
        "roberta.encoder.layer",
        "attention.output.dense",
        "output.dense",
        "attention.self.key",
        "roberta.embeddings",
    ),
    "electra": Family(
        lambda: tf.ElectraForMaskedLM(tf.ElectraConfig(**BERT_LIKE, embedding_size=24)),
        "electra.encoder.layer",
        "attention.output.dense",
        "output.dense",
        "intermediate",
        "electra.embeddings_project",
    ),
    "modernbert": Family(_modernbert, "model.layers", "attn.Wo", "mlp.Wo", "attn", "model.embeddings"),
    "gpt2": Family(_gpt2, "transformer.h", "attn.c_proj", "mlp.c_proj", "ln_1", "transformer.drop"),
    "llama": Family(
        lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**LLAMA_LIKE)),
        "model.layers",
        "self_attn.o_proj",
        "mlp.down_proj",
        "self_attn",
        "model.embed_tokens",
    ),
    "qwen3": Family(
        lambda: tf.Qwen3ForCausalLM(tf.Qwen3Config(**LLAMA_LIKE, head_dim=16)),
        "model.layers",
        "self_attn.o_proj",
        "mlp.down_proj",
        "self_attn.v_proj",
        "model.embed_tokens",
    ),
    "vit": Family(_vit, "vit.layers", "attention.o_proj", "mlp.fc2", "attention.q_proj", "vit.embeddings"),
}


def with_large_weights(model: Any, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """Give a model large random weights, and put it in training mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.3, generator=generator)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.1, generator=generator)
    return model.to(dtype).train()


def make_model(family: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """A model of the caller's own: a copy, which takes a fraction of the time of making it."""
    return copy.deepcopy(_made(family, dtype, seed))


@cache
def _made(family: str, dtype: torch.dtype, seed: int) -> Any:
    return with_large_weights(FAMILIES[family].make(), dtype, seed)


def make_batch(
    family: str, dtype: torch.dtype = torch.float32, seed: int = 0, lengths: tuple[int, ...] = LENGTHS
) -> tuple[dict[str, Tensor], Tensor]:
    """Return (inputs, (B, S) boolean: positions that are neither padding nor first or last)."""
    generator = torch.Generator().manual_seed(1000 + seed)
    if family == "vit":
        inputs = {"pixel_values": torch.randn(len(lengths), 3, 12, 12, generator=generator).to(dtype)}
        eligible = torch.ones(len(lengths), 10, dtype=torch.bool)
        eligible[:, 0] = False
        return inputs, eligible
    position = torch.arange(max(lengths))
    real = position[None] < torch.tensor(lengths)[:, None]
    tokens = torch.randint(5, VOCABULARY, real.shape, generator=generator)
    padding = 1 if family == "roberta" else 0
    inputs = {"input_ids": tokens.masked_fill(~real, padding), "attention_mask": real.long()}
    eligible = real & (position > 0) & (position[None] < torch.tensor(lengths)[:, None] - 1)
    return inputs, eligible


def as_batch(inputs: dict[str, Tensor], eligible: Tensor) -> dict[str, Tensor]:
    """Return model inputs as the batch of a collator, with their special tokens and padding."""
    return {**inputs, "special_tokens_mask": ~eligible}

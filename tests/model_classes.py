"""Tiny random models of many classes of transformers: what each is made of, and where its blocks are.

Four blocks each, so that models of two kinds of blocks hold two of either. Dropout is 0, so that a run in training
mode can be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import transformers as tf

VOCABULARY = 50
DEPTH = 4
HIDDEN = 32

ENDS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
NO_DROPOUT: dict[str, Any] = {
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "attention_dropout": 0.0,
    "dropout": 0.0,
}
BERT: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    **ENDS,
    **NO_DROPOUT,
}
LLAMA: dict[str, Any] = {**BERT, "num_key_value_heads": 2, "head_dim": 8}
GPT2: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "n_embd": HIDDEN,
    "n_layer": DEPTH,
    "n_head": 4,
    "n_inner": 48,
    "n_positions": 40,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    **ENDS,
}
BART: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": HIDDEN,
    "encoder_layers": DEPTH,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 40,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": None,
    **ENDS,
    **NO_DROPOUT,
}
T5: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "d_model": HIDDEN,
    "d_ff": 48,
    "d_kv": 8,
    "num_layers": DEPTH,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "dropout_rate": 0.0,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 2,
}
EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
}
STATES: dict[str, Any] = {
    "mamba_d_state": 8,
    "mamba_d_conv": 4,
    "mamba_expand": 2,
    "mamba_n_heads": 4,
    "mamba_d_head": 16,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 8,
}
LATENT: dict[str, Any] = {
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4,
    "v_head_dim": 8,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
    **EXPERTS,
    **{"num_key_value_heads": 4, "head_dim": 4},
}
SLIDING: dict[str, Any] = {"sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"] * 2}


@dataclass(frozen=True)
class ModelClass:
    """One class of models.

    Attributes:
        kind: What is special about it.
        config: The class of its configuration.
        entries: What its configuration is made of.
        task: What it is for.
        padding: The id that rows are filled with.
    """

    kind: str
    config: str
    entries: dict[str, Any] = field(default_factory=dict[str, Any])
    task: str = "causal_lm"
    padding: int = 0

    @property
    def rows(self) -> str:
        """Kind of rows that it reads."""
        return "pixels" if "image_size" in self.entries else "tokens"


def _encoder(name: str, kind: str = "encoder", **entries: Any) -> ModelClass:
    return ModelClass(kind, name, {**BERT, **entries}, "masked_lm", entries.get("pad_token_id", 0))


def _decoder(name: str, kind: str = "decoder", **entries: Any) -> ModelClass:
    return ModelClass(kind, name, {**LLAMA, **entries})


def _classifier(name: str, kind: str, **entries: Any) -> ModelClass:
    return ModelClass(kind, name, {**entries, "num_labels": 3}, "sequence_classification")


def _seq2seq(name: str, **entries: Any) -> ModelClass:
    return ModelClass("encoder-decoder", name, {**BART, **entries}, "masked_lm", entries.get("pad_token_id", 0))


MODEL_CLASSES: dict[str, ModelClass] = {
    # encoders
    "BertForMaskedLM": _encoder("BertConfig"),
    "BertForSequenceClassification": _classifier("BertConfig", "encoder", **BERT),
    "RobertaForMaskedLM": _encoder("RobertaConfig", pad_token_id=1, bos_token_id=0),
    "CamembertForMaskedLM": _encoder("CamembertConfig", pad_token_id=1, bos_token_id=0),
    "XLMRobertaForMaskedLM": _encoder("XLMRobertaConfig", pad_token_id=1, bos_token_id=0),
    "RobertaPreLayerNormForMaskedLM": _encoder("RobertaPreLayerNormConfig", pad_token_id=1, bos_token_id=0),
    "ElectraForMaskedLM": _encoder("ElectraConfig", embedding_size=24),
    "DistilBertForMaskedLM": _encoder("DistilBertConfig", dim=HIDDEN, n_layers=DEPTH, n_heads=4, hidden_dim=48),
    "MPNetForMaskedLM": _encoder("MPNetConfig", pad_token_id=1, bos_token_id=0),
    "DebertaForMaskedLM": _encoder("DebertaConfig", relative_attention=True, pos_att_type=["c2p", "p2c"]),
    "DebertaV2ForMaskedLM": _encoder("DebertaV2Config", relative_attention=True, pos_att_type=["c2p", "p2c"]),
    "AlbertForMaskedLM": _encoder("AlbertConfig", "shared layers", embedding_size=16),
    "ModernBertForMaskedLM": _encoder(
        "ModernBertConfig", "sliding window", local_attention=4, global_attn_every_n_layers=2
    ),
    "NomicBertForMaskedLM": _encoder("NomicBertConfig"),
    "EuroBertForMaskedLM": _encoder("EuroBertConfig", mask_token_id=3),
    "RoFormerForMaskedLM": _encoder("RoFormerConfig", embedding_size=HIDDEN),
    "NystromformerForMaskedLM": _encoder("NystromformerConfig"),
    "MegatronBertForMaskedLM": _encoder("MegatronBertConfig"),
    "RemBertForMaskedLM": _encoder("RemBertConfig", input_embedding_size=16, output_embedding_size=24),
    "LayoutLMForMaskedLM": _encoder("LayoutLMConfig"),
    "EsmForMaskedLM": _encoder("EsmConfig", mask_token_id=3, position_embedding_type="rotary", token_dropout=False),
    "SqueezeBertForMaskedLM": _encoder("SqueezeBertConfig", embedding_size=HIDDEN),
    "IBertForMaskedLM": _encoder("IBertConfig", pad_token_id=1, bos_token_id=0),
    "XLMWithLMHeadModel": _encoder("XLMConfig", emb_dim=HIDDEN, n_layers=DEPTH, n_heads=4, pad_index=0),
    "FlaubertWithLMHeadModel": _encoder("FlaubertConfig", emb_dim=HIDDEN, n_layers=DEPTH, n_heads=4, pad_index=0),
    "MobileBertForMaskedLM": _encoder(
        "MobileBertConfig", embedding_size=HIDDEN, intra_bottleneck_size=16, true_hidden_size=16
    ),
    "ConvBertForMaskedLM": _encoder("ConvBertConfig", "mixes positions", embedding_size=HIDDEN, head_ratio=2),
    "FNetForMaskedLM": _encoder("FNetConfig", "mixes positions"),
    "FunnelForMaskedLM": ModelClass(
        "other lengths inside",
        "FunnelConfig",
        {
            "vocab_size": VOCABULARY,
            "d_model": HIDDEN,
            "n_head": 4,
            "d_head": 8,
            "d_inner": 48,
            "block_sizes": [2, 2],
            "hidden_dropout": 0.0,
            "attention_dropout": 0.0,
            "pad_token_id": 0,
        },
        "masked_lm",
    ),
    "BigBirdForMaskedLM": _encoder("BigBirdConfig", attention_type="original_full"),
    "LongformerForMaskedLM": _encoder("LongformerConfig", "other lengths inside", attention_window=4),
    "XLNetLMHeadModel": ModelClass(
        "positions first",
        "XLNetConfig",
        {
            "vocab_size": VOCABULARY,
            "d_model": HIDDEN,
            "n_layer": DEPTH,
            "n_head": 4,
            "d_inner": 48,
            "dropout": 0.0,
            **ENDS,
        },
    ),
    # vision
    "ViTForImageClassification": ModelClass(
        "vision", "ViTConfig", {**BERT, "image_size": 12, "patch_size": 4, "num_labels": 3}, "sequence_classification"
    ),
    # decoders
    "GPT2LMHeadModel": ModelClass("decoder", "GPT2Config", GPT2),
    "GPT2ForSequenceClassification": _classifier("GPT2Config", "decoder", **GPT2),
    "OpenAIGPTLMHeadModel": ModelClass("decoder", "OpenAIGPTConfig", GPT2),
    "CTRLLMHeadModel": ModelClass("decoder", "CTRLConfig", {**GPT2, "dff": 48}),
    "GPTJForCausalLM": ModelClass("decoder", "GPTJConfig", {**GPT2, "rotary_dim": 4}),
    "CodeGenForCausalLM": ModelClass("decoder", "CodeGenConfig", {**GPT2, "rotary_dim": 4}),
    "GPTBigCodeForCausalLM": ModelClass("decoder", "GPTBigCodeConfig", GPT2),
    "GPTNeoForCausalLM": ModelClass(
        "sliding window",
        "GPTNeoConfig",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "num_layers": DEPTH,
            "num_heads": 4,
            "max_position_embeddings": 40,
            "attention_types": [[["global", "local"], 2]],
            "window_size": 4,
            "resid_dropout": 0.0,
            "embed_dropout": 0.0,
            **ENDS,
            **NO_DROPOUT,
        },
    ),
    "GPTNeoXForCausalLM": _decoder("GPTNeoXConfig"),
    "OPTForCausalLM": _decoder("OPTConfig", ffn_dim=48, word_embed_proj_dim=24),
    "BloomForCausalLM": _decoder("BloomConfig", n_layer=DEPTH, n_head=4),
    "MptForCausalLM": _decoder("MptConfig", d_model=HIDDEN, n_layers=DEPTH, n_heads=4, max_seq_len=40),
    "FalconForCausalLM": ModelClass("decoder", "FalconConfig", {**BERT, "ffn_hidden_size": 48}),
    "XGLMForCausalLM": _decoder("XGLMConfig", d_model=HIDDEN, num_layers=DEPTH, attention_heads=4, ffn_dim=48),
    "BioGptForCausalLM": _decoder("BioGptConfig"),
    "LlamaForCausalLM": _decoder("LlamaConfig"),
    "LlamaForCausalLM, tied": _decoder("LlamaConfig", tie_word_embeddings=True),
    "LlamaForSequenceClassification": _classifier("LlamaConfig", "decoder", **LLAMA),
    "MistralForCausalLM": _decoder("MistralConfig", "sliding window", sliding_window=4),
    "Qwen2ForCausalLM": _decoder("Qwen2Config"),
    "Qwen3ForCausalLM": _decoder("Qwen3Config"),
    "PhiForCausalLM": _decoder("PhiConfig"),
    "Phi3ForCausalLM": _decoder("Phi3Config"),
    "StableLmForCausalLM": _decoder("StableLmConfig"),
    "OlmoForCausalLM": _decoder("OlmoConfig"),
    "Olmo2ForCausalLM": _decoder("Olmo2Config"),
    "Olmo3ForCausalLM": _decoder("Olmo3Config", "sliding window", **SLIDING),
    "CohereForCausalLM": _decoder("CohereConfig", "head with scale", logit_scale=0.5),
    "Cohere2ForCausalLM": _decoder("Cohere2Config", "head with scale", **SLIDING),
    "GraniteForCausalLM": _decoder("GraniteConfig", "head with scale", logits_scaling=2.0),
    "Starcoder2ForCausalLM": _decoder("Starcoder2Config"),
    "GemmaForCausalLM": _decoder("GemmaConfig"),
    "Gemma2ForCausalLM": _decoder("Gemma2Config", "head with soft cap", **SLIDING),
    "Gemma3ForCausalLM": _decoder("Gemma3TextConfig", "sliding window", **SLIDING),
    "SmolLM3ForCausalLM": _decoder("SmolLM3Config"),
    "NemotronForCausalLM": _decoder("NemotronConfig"),
    "Glm4ForCausalLM": _decoder("Glm4Config"),
    # blocks that hand on more than hidden states
    "Gemma3nForCausalLM": _decoder(
        "Gemma3nTextConfig",
        "shares keys",
        **SLIDING,
        num_kv_shared_layers=2,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=VOCABULARY,
        laurel_rank=4,
        altup_num_inputs=2,
        activation_sparsity_pattern=[0.0] * DEPTH,
        intermediate_size=[48] * DEPTH,
    ),
    "Gemma4ForCausalLM": _decoder(
        "Gemma4TextConfig",
        "shares keys",
        **SLIDING,
        global_head_dim=8,
        num_kv_shared_layers=2,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=VOCABULARY,
    ),
    # mixtures of experts
    "MixtralForCausalLM": _decoder("MixtralConfig", "experts", **EXPERTS),
    "Qwen2MoeForCausalLM": _decoder("Qwen2MoeConfig", "experts", **EXPERTS, shared_expert_intermediate_size=24),
    "Qwen3MoeForCausalLM": _decoder("Qwen3MoeConfig", "experts", **EXPERTS),
    "OlmoeForCausalLM": _decoder("OlmoeConfig", "experts", **EXPERTS),
    "GptOssForCausalLM": _decoder("GptOssConfig", "experts", **EXPERTS, **SLIDING),
    "DeepseekV2ForCausalLM": _decoder("DeepseekV2Config", "experts", **LATENT),
    "DeepseekV3ForCausalLM": _decoder("DeepseekV3Config", "experts", **LATENT),
    "PhimoeForCausalLM": _decoder("PhimoeConfig", "experts", **EXPERTS),
    # state spaces and recurrences
    "MambaForCausalLM": ModelClass(
        "state space",
        "MambaConfig",
        {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": DEPTH, "state_size": 8, **ENDS},
    ),
    "Mamba2ForCausalLM": ModelClass(
        "state space",
        "Mamba2Config",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "num_hidden_layers": DEPTH,
            "state_size": 8,
            "num_heads": 4,
            "head_dim": 16,
            "n_groups": 1,
            "chunk_size": 8,
            **ENDS,
        },
    ),
    "FalconMambaForCausalLM": ModelClass(
        "state space",
        "FalconMambaConfig",
        {"vocab_size": VOCABULARY, "hidden_size": HIDDEN, "num_hidden_layers": DEPTH, "state_size": 8, **ENDS},
    ),
    "RwkvForCausalLM": ModelClass(
        "recurrence",
        "RwkvConfig",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "attention_hidden_size": HIDDEN,
            "num_hidden_layers": DEPTH,
            "intermediate_size": 48,
            "context_length": 40,
            "rescale_every": 0,
            **ENDS,
        },
    ),
    "RecurrentGemmaForCausalLM": _decoder("RecurrentGemmaConfig", "hybrid", attention_window_size=4, lru_width=HIDDEN),
    # hybrids
    "JambaForCausalLM": _decoder(
        "JambaConfig",
        "hybrid",
        **EXPERTS,
        **STATES,
        attn_layer_period=2,
        attn_layer_offset=1,
        expert_layer_period=2,
        expert_layer_offset=1,
        use_mamba_kernels=False,
        mamba_dt_rank=4,
    ),
    "BambaForCausalLM": _decoder("BambaConfig", "hybrid", **STATES, attn_layer_indices=[1, 3]),
    "FalconH1ForCausalLM": _decoder("FalconH1Config", "hybrid", **{**STATES, "mamba_d_ssm": 64}),
    "GraniteMoeHybridForCausalLM": _decoder(
        "GraniteMoeHybridConfig",
        "hybrid",
        **EXPERTS,
        **STATES,
        shared_intermediate_size=24,
        layer_types=["mamba", "attention"] * 2,
        position_embedding_type="rope",
    ),
    "Zamba2ForCausalLM": _decoder(
        "Zamba2Config",
        "hybrid",
        **STATES,
        n_mamba_heads=4,
        mamba_ngroups=1,
        mamba_headdim=16,
        chunk_size=8,
        layers_block_type=["mamba", "hybrid"] * 2,
        num_mem_blocks=1,
        adapter_rank=4,
        attention_head_dim=16,
        use_mem_rope=True,
    ),
    "Lfm2ForCausalLM": _decoder("Lfm2Config", "hybrid", layer_types=["conv", "full_attention"] * 2),
    "Qwen3NextForCausalLM": _decoder(
        "Qwen3NextConfig",
        "hybrid",
        **EXPERTS,
        shared_expert_intermediate_size=24,
        layer_types=["linear_attention", "full_attention"] * 2,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    ),
    "OlmoHybridForCausalLM": _decoder(
        "OlmoHybridConfig",
        "hybrid",
        layer_types=["linear_attention", "full_attention"] * 2,
        linear_num_key_heads=4,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    ),
    "NemotronHForCausalLM": _decoder(
        "NemotronHConfig",
        "hybrid",
        layers_block_type=["mamba", "attention", "mamba", "mlp"],
        mamba_num_heads=4,
        mamba_head_dim=16,
        n_groups=1,
        ssm_state_size=8,
        chunk_size=8,
    ),
    # encoder-decoders
    "T5ForConditionalGeneration": ModelClass("encoder-decoder", "T5Config", T5, "masked_lm"),
    "T5ForSequenceClassification": _classifier("T5Config", "encoder-decoder", **T5),
    "MT5ForConditionalGeneration": ModelClass("encoder-decoder", "MT5Config", T5, "masked_lm"),
    "BartForConditionalGeneration": _seq2seq("BartConfig"),
    "BartForSequenceClassification": _classifier("BartConfig", "encoder-decoder", **BART),
    "MBartForConditionalGeneration": _seq2seq("MBartConfig"),
    "PegasusForConditionalGeneration": _seq2seq("PegasusConfig"),
    "MarianMTModel": _seq2seq("MarianConfig"),
    "M2M100ForConditionalGeneration": _seq2seq("M2M100Config"),
    "ProphetNetForConditionalGeneration": ModelClass(
        "encoder-decoder",
        "ProphetNetConfig",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": HIDDEN,
            "num_encoder_layers": DEPTH,
            "num_decoder_layers": 2,
            "num_encoder_attention_heads": 4,
            "num_decoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "max_position_embeddings": 40,
            "decoder_start_token_id": 2,
            "ngram": 2,
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
            **ENDS,
        },
        "masked_lm",
    ),
}


def make_tiny(name: str, dtype: torch.dtype = torch.float32, seed: int = 0) -> Any:
    """Make the model of a class, with large random weights, so that a swap changes much; in eval mode."""
    made = MODEL_CLASSES[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = getattr(tf, name.split(",")[0])(getattr(tf, made.config)(**made.entries))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 2:
                    parameter.normal_(0, 0.25)
    return model.to(dtype).eval()

"""Students of teachers whose blocks are of several kinds: every copied block computes what it did in its teacher."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf

from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.distillation.students import student_from_checkpoint, student_from_teacher
from iit_toolkit.errors import UserError
from tests.families import BERT_LIKE, FAMILIES, make_batch, make_model, with_large_weights
from tests.model_classes import make_tiny

SIZES: dict[str, Any] = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ENCODER = {key: value for key, value in SIZES.items() if key != "num_key_value_heads"}


def gpt2(**changed: Any) -> Any:
    sizes = {"vocab_size": 50, "n_embd": 16, "n_layer": 4, "n_head": 2, "n_positions": 64}
    return tf.GPT2LMHeadModel(tf.GPT2Config(**sizes, bos_token_id=1, eos_token_id=2, **changed))


def gpt_neo() -> Any:
    return tf.GPTNeoForCausalLM(
        tf.GPTNeoConfig(
            vocab_size=50,
            hidden_size=16,
            num_layers=4,
            num_heads=2,
            max_position_embeddings=64,
            window_size=4,
            attention_types=[[["global", "local"], 2]],
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def granite_swa() -> Any:
    config = tf.GraniteSWAConfig(**SIZES, sliding_window=4, layer_rope_theta=[0, 10000.0, 5.0, 70.0])
    return tf.GraniteSWAForCausalLM(config)


def laguna() -> Any:
    return tf.LagunaForCausalLM(
        tf.LagunaConfig(
            **SIZES,
            head_dim=8,
            num_attention_heads_per_layer=[2, 4, 2, 4],
            layer_types=["full_attention", "sliding_attention"] * 2,
            sliding_window=4,
            mlp_layer_types=["dense"] * 4,
        )
    )


def three_ends() -> Any:
    """Llama 3 has a list of tokens, which may be as long as the model is deep."""
    return tf.LlamaForCausalLM(tf.LlamaConfig(**{**SIZES, "eos_token_id": [2, 3, 4, 5]}))


MIXED: dict[str, Callable[[], Any]] = {
    "gpt_neo": gpt_neo,
    "granite_swa": granite_swa,
    "longformer": lambda: tf.LongformerForMaskedLM(tf.LongformerConfig(**ENCODER, attention_window=[4, 8, 16, 32])),
    "laguna": laguna,
    "recurrent_gemma": lambda: tf.RecurrentGemmaForCausalLM(tf.RecurrentGemmaConfig(**SIZES, attention_window_size=4)),
    "smollm3": lambda: tf.SmolLM3ForCausalLM(tf.SmolLM3Config(**SIZES)),
    "olmo3": lambda: tf.Olmo3ForCausalLM(tf.Olmo3Config(**SIZES, sliding_window=4)),
    "lfm2": lambda: tf.Lfm2ForCausalLM(tf.Lfm2Config(**SIZES, full_attn_idxs=[1, 3])),
    "three_ends": three_ends,
    "gpt2": gpt2,
}
LONG_BATCH = {"input_ids": torch.arange(3, 45).view(1, 42)}


def logits(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    model.config.use_cache = False  # some models cannot make one if all their attention is linear
    with torch.no_grad():
        return model.eval()(**inputs).logits


def logits_without_the_other_blocks(model: Any, layers: Sequence[int], inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """The logits of a model of which only some blocks compute; the others hand on what they are given."""

    def hand_on(_block: Any, args: Any, named: Any, output: Any) -> Any:
        hidden = args[0] if args else named["hidden_states"]
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    handles = [
        block.register_forward_hook(hand_on, with_kwargs=True)
        for layer, block in enumerate(blocks(model))
        if layer not in layers
    ]
    try:
        return logits(model, inputs)
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", [(0, 2), (0, 1)])
def test_a_student_answers_as_its_teacher_without_the_other_blocks(family: str, layers: Sequence[int]) -> None:
    teacher, (inputs, _) = make_model(family), make_batch(family)
    expected = logits_without_the_other_blocks(teacher, layers, inputs)
    assert torch.equal(logits(student_from_teacher(teacher, layers), inputs), expected)


@pytest.mark.parametrize("kind", MIXED)
@pytest.mark.parametrize("layers", [(0, 2), (0, 3), (0, 1, 2, 3)])
def test_a_student_of_mixed_blocks_does_too_and_can_be_saved(kind: str, layers: Sequence[int], tmp_path: Path) -> None:
    teacher = with_large_weights(MIXED[kind]())
    student = student_from_teacher(teacher, layers)
    expected = logits_without_the_other_blocks(teacher, layers, LONG_BATCH)
    assert torch.equal(logits(student, LONG_BATCH), expected)
    assert student.config.eos_token_id == teacher.config.eos_token_id
    student.save_pretrained(tmp_path)
    assert torch.equal(logits(student_from_checkpoint(teacher, tmp_path), LONG_BATCH), expected)


def test_the_kinds_of_gpt_neos_blocks_are_kept() -> None:
    config = student_from_teacher(gpt_neo(), (0, 2)).config
    assert config.attention_layers == ["global", "global"]
    assert config.attention_types == [[["global"], 1], [["global"], 1]]


def test_blocks_that_compute_by_their_place_keep_it() -> None:
    teacher = with_large_weights(gpt2(scale_attn_by_inverse_layer_idx=True))
    student = student_from_teacher(teacher, (0, 1))
    assert torch.equal(logits(student, LONG_BATCH), logits_without_the_other_blocks(teacher, (0, 1), LONG_BATCH))
    with pytest.raises(UserError, match=r"block 2 of GPT2LMHeadModel.*as block 1 \(`attn.scaling`.*\[0, 1\], or all"):
        student_from_teacher(teacher, (0, 2))


def gemma3() -> Any:
    vision = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = tf.Gemma3Config(
        text_config={**SIZES, "head_dim": 8}, vision_config={**vision, "image_size": 28, "patch_size": 14}
    )
    return tf.Gemma3ForConditionalGeneration(config)


def gemma4() -> Any:
    sizes = {"head_dim": 8, "global_head_dim": 8, "hidden_size_per_layer_input": 4, "vocab_size_per_layer_input": 50}
    return tf.Gemma4ForCausalLM(tf.Gemma4TextConfig(**SIZES, **sizes, num_kv_shared_layers=0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (gemma3, "Gemma3ForConditionalGeneration: its configuration has no num_hidden_layers"),
        (lambda: make_tiny("OlmoHybridForCausalLM"), "OlmoHybridForCausalLM.*at least one attention layer"),
    ],
    ids=["gemma3", "olmo_hybrid"],
)
def test_teachers_that_no_part_can_be_taken_of_are_refused_in_one_line(make: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        student_from_teacher(make(), (0, 2))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "layers", "entries"),
    [
        ("JambaForCausalLM", (0, 2), {"layers_block_type": ["mamba", "mamba"], "layers_num_experts": [1, 1]}),
        ("JambaForCausalLM", (1, 2), {"layers_block_type": ["attention", "mamba"], "layers_num_experts": [4, 1]}),
        ("BambaForCausalLM", (0, 3), {"attn_layer_indices": [1]}),
        ("DeepseekV3ForCausalLM", (0, 2), {"first_k_dense_replace": 1}),
        ("DeepseekV3ForCausalLM", (1, 2), {"first_k_dense_replace": 0}),
        ("Gemma4ForCausalLM", (0, 1, 3), {"num_kv_shared_layers": 1}),
    ],
)
def test_what_is_counted_or_numbered_goes_with_the_blocks(
    name: str, layers: Sequence[int], entries: dict[str, Any], tmp_path: Path
) -> None:
    teacher, inputs = make_tiny(name), {"input_ids": LONG_BATCH["input_ids"][:, :12]}
    student = student_from_teacher(teacher, layers)
    assert {key: getattr(student.config, key) for key in entries} == entries
    expected = logits_without_the_other_blocks(teacher, layers, inputs)
    assert torch.equal(logits(student, inputs), expected)
    student.save_pretrained(tmp_path)
    assert torch.equal(logits(student_from_checkpoint(teacher, tmp_path), inputs), expected)


@pytest.mark.parametrize("make", [gemma4, lambda: make_tiny("EsmForMaskedLM")], ids=["gemma4", "esm"])
def test_weights_that_hold_a_part_for_every_block_are_cut_along(make: Any) -> None:
    """Embeddings of Gemma 4's blocks, and what ESM's contact head reads of every block's attention."""
    teacher, inputs = with_large_weights(make()), {"input_ids": LONG_BATCH["input_ids"][:, :12]}
    student = student_from_teacher(teacher, (0, 3))
    expected = logits_without_the_other_blocks(teacher, (0, 3), inputs)
    torch.testing.assert_close(logits(student, inputs), expected, rtol=0, atol=1e-5)


def test_the_contact_head_keeps_its_own_blocks() -> None:
    teacher = make_tiny("EsmForMaskedLM")
    weight = teacher.esm.contact_head.regression.weight
    student = student_from_teacher(teacher, (1, 3))
    assert torch.equal(student.esm.contact_head.regression.weight, torch.cat([weight[:, 4:8], weight[:, 12:]], 1))


def test_keys_that_come_from_another_block_are_refused() -> None:
    """Block 3 of the teacher takes keys from its block 1, which the student lacks."""
    with pytest.raises(UserError):
        student_from_teacher(make_tiny("Gemma4ForCausalLM"), (0, 3))


def test_what_a_run_sets_on_a_model_is_no_part_of_its_blocks() -> None:
    """BigBird switches to full attention for good when it reads a short row."""
    config = tf.BigBirdConfig(**BERT_LIKE, block_size=4, num_random_blocks=1, attention_type="block_sparse")
    teacher = tf.BigBirdForMaskedLM(config).eval()
    teacher(**make_batch("bert")[0])
    assert teacher.bert.attention_type == "original_full"
    student = student_from_teacher(teacher, (0, 2))
    assert student.config.num_hidden_layers == 2

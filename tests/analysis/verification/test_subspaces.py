"""A planted subspace of four dimensions is found in models of different width; random ones of its size are not it.

In the student's last block, keys and values read only four directions of what enters it, so that what the block below
hands to other positions lies in these. The teacher computes the same in a wider residual stream, rotated at random,
with an identity block after each of the student's.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

from iit_toolkit.alignment.positions import RandomPositions
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.analysis.statistics.summary import VariableSummary, summarise
from iit_toolkit.analysis.statistics.verdict import judge
from iit_toolkit.analysis.verification.cases import DrawnPairs, draw_pairs
from iit_toolkit.analysis.verification.subspaces import (
    LEARNED,
    RANDOM,
    WHOLE,
    Sites,
    Subspaces,
    learn_subspaces,
    verify_subspaces,
    verify_teacher_subspace,
)
from iit_toolkit.analysis.verification.verify import Verification
from iit_toolkit.errors import UserError
from tests.analysis.verification.test_planted_truth import WORDS, collate, rows

NARROW, WIDE, RANK = 16, 24, 4
POSITIONS = RandomPositions(fraction=0.4)
ROWS = rows(320)
LEARNING, CONFIRMING = ROWS[:160], ROWS[160:]
READS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "embed_tokens", "lm_head")


def llama(width: int, layers: int, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=width, num_hidden_layers=layers, num_attention_heads=2, num_key_value_heads=2,
        head_dim=8, intermediate_size=32, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.5)
    return model


def orthonormal(height: int, width: int, seed: int) -> Tensor:
    return torch.linalg.qr(torch.randn(height, width, generator=torch.Generator().manual_seed(seed)))[0]


def narrowed(student: LlamaForCausalLM, directions: Tensor) -> LlamaForCausalLM:
    """Make the last block's keys and values read only some directions."""
    attention = student.model.layers[-1].self_attn
    for layer in (attention.k_proj, attention.v_proj):
        layer.weight.data = layer.weight.data @ directions @ directions.T
    return student


def widened(student: LlamaForCausalLM, rotation: Tensor) -> LlamaForCausalLM:
    """The same function, its residual stream put into a wider one by `rotation` (wide, narrow), of twice the depth."""
    teacher = llama(WIDE, 2 * student.config.num_hidden_layers)
    weights = {}
    for name, value in student.state_dict().items():
        if name.startswith("model.layers."):
            layer, rest = name.removeprefix("model.layers.").split(".", 1)
            name = f"model.layers.{2 * int(layer)}.{rest}"
        if "norm" in name:
            value = torch.full((WIDE,), (NARROW / WIDE) ** 0.5)  # the mean square is taken over more neurons
        elif any(part in name for part in READS):
            value = value @ rotation.T
        elif "o_proj" in name or "down_proj" in name:
            value = rotation @ value
        weights[name] = value
    teacher.load_state_dict(weights, strict=False)
    for block in teacher.model.layers[1::2]:
        block.self_attn.o_proj.weight.data.zero_()
        block.mlp.down_proj.weight.data.zero_()
    return teacher


@dataclass(frozen=True)
class Planted:
    sites: Sites
    in_teacher: Tensor
    in_student: Tensor
    learned: Subspaces


def learn(sites: Sites, passes: int = 14, learning: Any = LEARNING) -> Subspaces:
    return learn_subspaces(sites, learning, collate, task="causal_lm", positions=POSITIONS, passes=passes)


def confirming() -> DrawnPairs:
    return draw_pairs(
        CONFIRMING, collate, POSITIONS, Sources(), task="causal_lm", pairs=160, batch_size=16, seed=5, what="confirming"
    )


def summary(verification: Verification, student: str, variable: str) -> VariableSummary:
    return summarise(verification.outcomes, resamples=200).students[student].variables[variable]


def overlap(basis: Tensor, planted: Tensor) -> float:
    """Share of the planted subspace that lies in the basis: 1 if they are the same, rank / width by chance."""
    return float((basis.T @ planted).square().sum()) / planted.shape[1]


@pytest.fixture(scope="module")
def planted() -> Planted:
    directions, rotation = orthonormal(NARROW, RANK, 101), orthonormal(WIDE, NARROW, 102)
    student = narrowed(llama(NARROW, 3), directions)
    sites = Sites(widened(student, rotation), 3, student, 1, RANK)
    return Planted(sites, rotation @ directions, directions, learn(sites))


def test_the_teacher_is_the_student_in_a_wider_stream(planted: Planted) -> None:
    ids = torch.stack([row["input_ids"] for row in rows(5)])
    with torch.no_grad():
        ours, theirs = planted.sites.student(ids).logits, planted.sites.teacher(ids).logits
    assert float((ours - theirs).abs().max()) < 1e-3


def test_the_planted_subspace_is_found_on_both_sides(planted: Planted) -> None:
    learned = planted.learned
    assert learned.teacher.basis().shape == (WIDE, RANK) and learned.student.basis().shape == (NARROW, RANK)
    assert overlap(learned.teacher.basis(), planted.in_teacher) > 0.75
    assert overlap(learned.student.basis(), planted.in_student) > 0.75
    for model, truth in ((planted.sites.teacher, planted.in_teacher), (planted.sites.student, planted.in_student)):
        assert overlap(planted.sites.new_subspace(model, seed=1).basis(), truth) < 0.5
    assert learned.teacher_losses[-1] < learned.teacher_losses[0] / 3
    assert learned.student_losses[-1] < learned.student_losses[0] / 3


def test_it_is_confirmed_on_other_pairs_and_a_random_one_is_not(planted: Planted) -> None:
    verification = verify_subspaces(planted.sites, planted.learned, confirming(), seed=1)
    learned, random = (summary(verification, name, planted.sites.variable) for name in (LEARNED, RANDOM))
    assert learned.effective_iia.outside.value is not None and learned.effective_iia.outside.value > 0.85
    assert random.effective_iia.outside.value is not None and random.effective_iia.outside.value < 0.5
    assert learned.changed.outside.cases == random.changed.outside.cases > 0
    assert judge(verification.outcomes, LEARNED, untrained=RANDOM, resamples=300).label == "SUPPORTED"
    assert judge(verification.outcomes, RANDOM, untrained=LEARNED, resamples=300).label == "NOT SUPPORTED"
    assert verification.self_swap.cases and verification.self_swap.changed == 0


def test_the_teachers_subspace_is_not_one_whose_swap_changes_nothing(planted: Planted) -> None:
    verification = verify_teacher_subspace(planted.sites, planted.learned, confirming(), seed=1)
    learned, random = (summary(verification, name, WHOLE).effective_iia.outside for name in (LEARNED, RANDOM))
    assert learned.value is not None and learned.value > 0.7
    assert random.value is not None and random.value < 0.45


def test_an_unrelated_student_gets_no_confirmed_subspace(planted: Planted) -> None:
    stranger = replace(planted.sites, student=llama(NARROW, 3, seed=9))
    verification = verify_subspaces(stranger, learn(stranger), confirming(), seed=1)
    assert judge(verification.outcomes, LEARNED, untrained=RANDOM, resamples=300).label != "SUPPORTED"


def test_the_same_seed_learns_the_same(planted: Planted) -> None:
    first, second = (learn(planted.sites, passes=1, learning=LEARNING[:32]) for _ in range(2))
    assert torch.equal(first.teacher.basis(), second.teacher.basis())
    assert torch.equal(first.student.basis(), second.student.basis())
    assert (first.teacher_losses, first.student_losses) == (second.teacher_losses, second.student_losses)


def test_the_models_are_as_before(planted: Planted) -> None:
    student = llama(NARROW, 3)  # its parameters are trainable
    before = {name: value.clone() for name, value in student.state_dict().items()}
    learn(replace(planted.sites, student=student), passes=1, learning=LEARNING[:32])
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in student.parameters())
    assert not any(module._forward_hooks for module in student.modules())


def test_what_cannot_be_learned_is_refused(planted: Planted) -> None:
    few: Any = LEARNING[:32]
    with pytest.raises(UserError, match="16 wide; choose a rank of 1 to 15"):
        learn(replace(planted.sites, rank=16), learning=few)
    with pytest.raises(UserError, match="rank of 1 to 23"):
        learn(replace(planted.sites, rank=0), learning=few)
    with pytest.raises(UserError, match="layer 6 .* has layers 0 to 5"):
        learn(replace(planted.sites, teacher_layer=6), learning=few)
    with pytest.raises(UserError, match="teacher layer 5 changes no answer outside"):
        learn(replace(planted.sites, teacher_layer=5), learning=few)

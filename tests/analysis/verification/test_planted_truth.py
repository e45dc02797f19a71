"""Verification on planted truths: a teacher built from its student scores 1.0, a sabotaged alignment does not.

The teacher is the student with identity blocks put between its own and every neuron of the residual stream moved to
another place, so it computes the same function, neuron by neuron, at other depths and indices.
"""

from __future__ import annotations

import copy
from typing import Any

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from iit_toolkit.alignment import Alignment, Site, Variable
from iit_toolkit.alignment.positions import RandomPositions
from iit_toolkit.alignment.spec import Sources
from iit_toolkit.analysis.statistics.summary import VariableSummary, summarise
from iit_toolkit.analysis.verification.verify import Verification, verify
from iit_toolkit.errors import UserError

WIDTH, WORDS, LENGTH = 16, 40, 12
LEFT, RIGHT = tuple(range(8)), tuple(range(8, WIDTH))


def llama(layers: int) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=WORDS, hidden_size=WIDTH, num_hidden_layers=layers, num_attention_heads=2, num_key_value_heads=2,
        intermediate_size=32, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config).double().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.5)
    return model


def teacher_of(student: LlamaForCausalLM, order: torch.Tensor) -> LlamaForCausalLM:
    """Build the teacher: its neuron order[i] is the student's neuron i; its odd blocks are identities."""
    teacher = llama(2 * student.config.num_hidden_layers)
    inverse = order.argsort()
    weights = {}
    for name, value in student.state_dict().items():
        if name.startswith("model.layers."):
            layer, rest = name.removeprefix("model.layers.").split(".", 1)
            name = f"model.layers.{2 * int(layer)}.{rest}"
        reads = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "embed_tokens", "lm_head")
        if any(part in name for part in reads):
            value = value[:, inverse]
        elif "o_proj" in name or "down_proj" in name or "norm" in name:
            value = value[inverse]
        weights[name] = value
    teacher.load_state_dict(weights, strict=False)
    for block in teacher.model.layers[1::2]:
        block.self_attn.o_proj.weight.data.zero_()
        block.mlp.down_proj.weight.data.zero_()
    return teacher


def aligned(pairs: dict[int, int], layer: int = 1) -> Alignment:
    """Align student neurons (keys) of block `layer` with teacher neurons (values) of block 2 * layer + 1."""

    def sites(neurons: Any, at: int) -> tuple[Site, ...]:
        return tuple(Site(component="block_output", layer=at, neurons=(n, n + 1)) for n in neurons)

    variable = Variable(name="half", teacher=sites(pairs.values(), 2 * layer + 1), student=sites(pairs, layer))
    return Alignment(name="planted", variables=(variable,), positions=RandomPositions(fraction=0.4))


def rows(count: int) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(7)
    ids = torch.randint(1, WORDS, (count, LENGTH), generator=generator)
    return [{"input_ids": row, "example_id": index} for index, row in enumerate(ids)]


def collate(batch: Any) -> dict[str, torch.Tensor]:
    ids = torch.stack([row["input_ids"] for row in batch])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "labels": ids,
        "special_tokens_mask": torch.zeros_like(ids, dtype=torch.bool),
        "example_id": torch.tensor([row["example_id"] for row in batch]),
    }


def padded(batch: Any) -> dict[str, torch.Tensor]:
    """As `collate`, of rows of several lengths."""
    longest = max(len(row["input_ids"]) for row in batch)
    filled = [{**row, "input_ids": F.pad(row["input_ids"], (0, longest - len(row["input_ids"])))} for row in batch]
    made = collate(filled)
    real = torch.tensor([[place < len(row["input_ids"]) for place in range(longest)] for row in batch])
    labels = made["labels"].masked_fill(~real, -100)
    return made | {"attention_mask": real.long(), "special_tokens_mask": ~real, "labels": labels}


def verified(students: dict[str, LlamaForCausalLM], teacher: LlamaForCausalLM, alignment: Alignment) -> Verification:
    return verify(teacher, students, alignment, rows(60), collate, task="causal_lm", pairs=60, batch_size=10)


def summary(verification: Verification, student: str = "student") -> VariableSummary:
    return summarise(verification.outcomes, resamples=200).students[student].variables["half"]


@pytest.fixture(scope="module")
def planted() -> tuple[LlamaForCausalLM, LlamaForCausalLM, dict[int, int]]:
    student = llama(3)
    order = torch.randperm(WIDTH, generator=torch.Generator().manual_seed(3))
    return student, teacher_of(student, order), {index: int(order[index]) for index in LEFT}


@pytest.mark.parametrize("sources", ["in_batch", "dataset"])
def test_cases_know_the_texts_of_base_and_source(planted: Any, sources: str) -> None:
    """With rows of ten texts; without, every row is a text of its own, and the same cases have other intervals."""
    student, teacher, pairs = planted
    broken = llama(3)
    broken.load_state_dict(student.state_dict())
    torch.nn.init.normal_(broken.model.layers[2].mlp.down_proj.weight, 0, 0.3)
    alignment = aligned(pairs).model_copy(update={"sources": Sources(kind=sources)})  # pyright: ignore

    def in_texts(batch: Any) -> dict[str, torch.Tensor]:
        return {**collate(batch), "text_id": torch.tensor([100 + row["example_id"] // 6 for row in batch])}

    def run(collator: Any) -> Any:
        students = {"student": broken}
        return verify(teacher, students, alignment, rows(60), collator, task="causal_lm", pairs=60, batch_size=10)

    given, own = run(in_texts).outcomes, run(collate).outcomes
    assert (given["base_text"] == 100 + given["base"] // 6).all()
    assert (given["source_text"] == 100 + given["source"] // 6).all()
    assert (own["base_text"] == own["base"]).all() and (own["source_text"] == own["source"]).all()
    texts = ["base_text", "source_text"]
    assert given.drop(columns=texts).equals(own.drop(columns=texts))
    of_texts, of_rows = (
        summarise(one, resamples=200).students["student"].variables["half"].iia.outside for one in (given, own)
    )
    assert (of_texts.value, of_texts.clusters) == (of_rows.value, of_rows.clusters)
    assert (of_texts.texts, of_rows.texts) == (10, of_rows.sources)
    assert (of_texts.low, of_texts.high) != (of_rows.low, of_rows.high)


def test_a_student_that_its_teacher_was_built_from_scores_one(planted: Any) -> None:
    student, teacher, pairs = planted
    verification = verified({"student": student}, teacher, aligned(pairs))
    found = summary(verification)
    assert found.iia.all.value == found.effective_iia.all.value == found.effective_iia.outside.value == 1.0
    assert found.base_agreement.value == 1.0
    assert found.changed.inside.value and found.changed.outside.value and found.changed.outside.value > 0.05
    assert found.effect_correlation.all.value == pytest.approx(1.0)
    assert found.effective_floor.all.value == 0.0  # it agrees with the base, so never with a changed answer
    assert verification.self_swap.changed == 0 and verification.self_swap.max_difference == 0.0
    assert verification.self_swap.cases > 0


def test_swapping_two_neurons_of_the_alignment_breaks_it(planted: Any) -> None:
    student, teacher, pairs = planted
    wrong = next(neuron for neuron in range(WIDTH) if neuron not in pairs.values())
    found = summary(verified({"student": student}, teacher, aligned({**pairs, 0: wrong})))
    assert found.base_agreement.value == 1.0  # the models are as they were
    assert found.effective_iia.all.value is not None and found.effective_iia.all.value < 0.9


def test_the_wrong_layer_breaks_it(planted: Any) -> None:
    student, teacher, pairs = planted
    right = aligned(pairs).variables[0]
    wrong = Variable(name="half", teacher=right.teacher, student=aligned(pairs, layer=0).variables[0].student)
    alignment = aligned(pairs).model_copy(update={"variables": (wrong,)})
    found = summary(verified({"student": student}, teacher, alignment))
    assert found.effective_iia.all.value is not None and found.effective_iia.all.value < 0.7


def test_an_unrelated_student_scores_near_nothing(planted: Any) -> None:
    student, teacher, pairs = planted
    stranger = llama(3)
    torch.manual_seed(99)
    for parameter in stranger.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.5)
    verification = verified({"student": student, "stranger": stranger}, teacher, aligned(pairs))
    assert summary(verification).effective_iia.all.value == 1.0
    found = summary(verification, "stranger").effective_iia.all
    assert found.value is not None and found.value < 0.3


def test_sources_from_another_batch_score_one_too(planted: Any) -> None:
    student, teacher, pairs = planted
    alignment = Alignment.from_dict({**aligned(pairs).to_dict(), "sources": {"kind": "dataset"}})
    found = summary(verified({"student": student}, teacher, alignment))
    assert found.effective_iia.all.value == 1.0


def test_one_example_is_refused(planted: Any) -> None:
    student, teacher, pairs = planted
    with pytest.raises(UserError, match="at least 2"):
        verify(teacher, {"student": student}, aligned(pairs), rows(1), collate, task="causal_lm")


def test_pairs_that_cannot_be_swapped_are_some_among_many(planted: Any) -> None:
    """Their cases are unchanged, and the others are as they were; if no pair can be swapped, it is refused."""
    student, teacher, pairs = planted
    given = {**aligned(pairs).to_dict(), "positions": {"kind": "fixed", "base": [6]}}
    alignment, options = Alignment.from_dict(given), {"task": "causal_lm", "pairs": 60, "batch_size": 10}

    def short(row: dict[str, Any], from_row: int) -> dict[str, torch.Tensor]:
        return {**row, "input_ids": row["input_ids"][: 4 if row["example_id"] >= from_row else None]}

    def found(from_row: int) -> Any:
        some = [short(row, from_row) for row in rows(60)]
        return verify(teacher, {"student": student}, alignment, some, padded, **options).outcomes  # pyright: ignore

    whole, cut = found(60), found(50)
    long, short_pairs = (cut[["base", "source"]].max(axis=1) < 50), cut[cut[["base", "source"]].max(axis=1) >= 50]
    expected = whole[whole[["base", "source"]].max(axis=1) < 50].reset_index(drop=True)
    pd.testing.assert_frame_equal(cut[long].reset_index(drop=True), expected, rtol=1e-3, atol=1e-5)
    unchanged = short_pairs["teacher_base"] == short_pairs["teacher_cf"]
    assert len(short_pairs) and unchanged.all() and not short_pairs["inside"].any()
    with pytest.raises(UserError, match="fixed positions begin at 6, but the batch has 4 positions"):
        found(0)


def test_a_mask_of_special_tokens_may_hold_integers(planted: Any) -> None:
    student, teacher, pairs = planted

    def as_tokenizers_return_it(batch: Any) -> dict[str, torch.Tensor]:
        made = collate(batch)
        return made | {"special_tokens_mask": made["special_tokens_mask"].long()}

    options: dict[str, Any] = {"task": "causal_lm", "pairs": 60, "batch_size": 10, "judged": "student"}
    one, other = (
        verify(teacher, {"student": student}, aligned(pairs), rows(60), collator, **options).outcomes
        for collator in (collate, as_tokenizers_return_it)
    )
    assert one.equals(other)


@pytest.mark.parametrize("kind", ["in_batch", "dataset", "fixed"])
def test_the_examples_say_what_was_read_and_swapped(planted: Any, kind: str) -> None:
    student, teacher, pairs = planted
    positions = {"kind": "fixed", "base": [2, 5], "source": [7, 1]}
    given = {**aligned(pairs).to_dict(), "positions": positions, "sources": {"kind": kind}}
    verification = verified({"student": student}, teacher, Alignment.from_dict(given))
    tokens = {row["example_id"]: row["input_ids"].tolist() for row in rows(60)}
    assert set(verification.examples["base"]) == set(verification.examples["source"]) == set(tokens)
    for example in verification.examples.itertuples():
        assert example.base != example.source
        assert list(example.base_tokens) == tokens[example.base]
        assert list(example.source_tokens) == tokens[example.source]
        assert (example.swapped, example.taken) == ([2, 5], [7, 1])
    cases = set(zip(verification.outcomes["base"], verification.outcomes["source"], strict=True))
    assert cases == set(zip(verification.examples["base"], verification.examples["source"], strict=True))


def test_positions_that_a_collator_gives_are_read(planted: Any) -> None:
    student, teacher, pairs = planted

    def apart(batch: Any) -> dict[str, torch.Tensor]:
        made = collate(batch)
        return made | {"position_ids": 3 * torch.arange(LENGTH).expand_as(made["input_ids"])}

    options: dict[str, Any] = {"task": "causal_lm", "pairs": 60, "batch_size": 10}
    near, far = (
        verify(teacher, {"student": student}, aligned(pairs), rows(60), one, **options).outcomes
        for one in (collate, apart)
    )
    assert not near["teacher_base"].equals(far["teacher_base"])


def test_no_case_of_an_answer_that_is_not_finite_is_tabulated(
    planted: tuple[LlamaForCausalLM, LlamaForCausalLM, dict[int, int]],
) -> None:
    student, teacher, pairs = planted
    spoilt = copy.deepcopy(student)
    rare = int(rows(60)[33]["input_ids"][4])
    spoilt.get_input_embeddings().weight.data[rare] = torch.nan
    for models, who in (((teacher, spoilt), "student spoilt"), ((spoilt, student), "teacher")):
        with pytest.raises(
            UserError, match=rf"^{who}( with half swapped)?: answers are NaN or infinite in \d+ of 10 rows"
        ):
            verified({"spoilt": models[1]}, models[0], aligned(pairs) if who != "teacher" else aligned_with_itself())


def aligned_with_itself() -> Alignment:
    site = (Site(component="block_output", layer=1),)
    return Alignment(name="own", variables=(Variable(name="half", teacher=site, student=site),))


def test_answers_that_all_models_forbid_count_for_nothing(
    planted: tuple[LlamaForCausalLM, LlamaForCausalLM, dict[int, int]],
) -> None:
    """The head of each gives -inf to a token that never occurs, as a model that forbids it does."""
    student, teacher, pairs = planted
    forbidding = [copy.deepcopy(model) for model in (student, teacher)]
    for model in forbidding:
        model.register_forward_hook(_forbid)
    found = verified({"student": forbidding[0]}, forbidding[1], aligned(pairs)).outcomes
    assert found[["kl", "kl_cf", "teacher_nll", "effect_xy"]].notna().all().all()
    assert (found[["kl", "kl_cf"]].abs() < 1e-6).all().all()  # the student computes what its teacher does
    with pytest.raises(UserError, match="student student: its logits are -inf for some of the teacher's answers"):
        verified({"student": forbidding[0]}, teacher, aligned(pairs))


def _forbid(_model: Any, _args: Any, output: Any) -> Any:
    output.logits = output.logits.masked_fill(torch.arange(WORDS) == 0, -torch.inf)  # token 0 is padding
    return output

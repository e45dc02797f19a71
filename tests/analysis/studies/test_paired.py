"""Verification on pairs: sources are those given, answers are read where they can tell, planted truths are found."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import BertConfig, BertForMaskedLM, LlamaForCausalLM

from iit_toolkit.alignment import Alignment, resolve
from iit_toolkit.analysis.statistics.summary import summarise
from iit_toolkit.analysis.verification.cases import Pairs, draw_pairs
from iit_toolkit.analysis.verification.measured_runs import Runs
from iit_toolkit.analysis.verification.search import answer_layers, layer_matrix
from iit_toolkit.analysis.verification.verify import Verification, verify
from iit_toolkit.data.collate import CausalLanguageCollator, MaskedLanguageCollator
from iit_toolkit.data.pairs import tokenize_pairs
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel
from tests.analysis.verification.test_planted_truth import LEFT, WIDTH, aligned, llama, teacher_of
from tests.data.conftest import words_of

TOKENIZER = words_of(*(f"w{index}" for index in range(35)))
POSITIONS: dict[str, dict[str, Any]] = {
    "differing": {"kind": "differing"},
    "span": {"kind": "span"},
    "random": {"kind": "random"},
    "all": {"kind": "all"},
    "fixed": {"kind": "fixed", "base": [3]},
}


def rows(count: int = 60, causal: bool = False) -> list[dict[str, Any]]:
    """Pairs of 10 words that differ in one word, at place 2 to 6, or (every third) in two."""
    generator = torch.Generator().manual_seed(5)
    texts: dict[str, list[str]] = {"text": [], "source": []}
    for index in range(count):
        base = torch.randint(35, (10,), generator=generator).tolist()
        source = list(base)
        for place in {2 + index % 5, 2} if index % 3 == 0 else {2 + index % 5}:
            source[place] = (base[place] + 1 + index % 30) % 35
        for name, words in (("text", base), ("source", source)):
            texts[name].append(" ".join(f"w{word}" for word in words))
    return list(tokenize_pairs(Dataset.from_dict(texts), TOKENIZER, 16, causal=causal).rows)


def on_pairs(alignment: Alignment, positions: str = "differing") -> Alignment:
    changed = {"positions": POSITIONS[positions], "sources": {"kind": "paired"}}
    return Alignment.from_dict({**alignment.to_dict(), **changed})


def drawn(alignment: Alignment, task: Any, collator: Any, pairs: list[dict[str, Any]]) -> list[Pairs]:
    options: dict[str, Any] = {"task": task, "pairs": len(pairs), "batch_size": 8, "seed": 0, "what": "testing"}
    return list(draw_pairs(pairs, collator, alignment.positions, alignment.sources, **options))


def bert() -> BertForMaskedLM:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=16, attn_implementation="eager",
    )  # fmt: skip
    model = BertForMaskedLM(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.normal_(0, 0.5)
    return model


def block_input(layer: int = 0) -> Alignment:
    site = {"layer": layer, "component": "block_input"}
    return Alignment.from_dict({"name": "x", "variables": [{"name": "v", "teacher": [site], "student": [site]}]})


@torch.no_grad()
def test_swapping_the_differing_words_at_the_input_turns_the_base_into_its_source() -> None:
    model, alignment = bert(), on_pairs(block_input())
    sites = verify_sites(model, alignment)
    evaluated = 0
    for pairs in drawn(alignment, "masked_lm", MaskedLanguageCollator(TOKENIZER), rows()):
        assert pairs.source is not None and pairs.cases.tokens is not None
        counterfactual = Runs(sites, pairs, ["v"]).counterfactual("v")
        inputs = {name: pairs.source[name] for name in ("input_ids", "attention_mask")}
        assert torch.allclose(counterfactual, model(**inputs).logits[pairs.cases.tokens], atol=1e-5)
        assert pairs.cases.tokens.any(1).all() and not pairs.cases.inside.any()
        evaluated += len(counterfactual)
    assert evaluated >= 60


def verify_sites(model: Any, alignment: Alignment) -> InterchangeModel:
    return InterchangeModel(model, resolve(alignment, model, "teacher"))


def test_each_base_meets_its_own_source_once() -> None:
    outcomes = verified_masked(block_input(1)).outcomes
    assert (outcomes["source"] - outcomes["base"] == 60).all()
    assert set(outcomes["base"]) == set(range(60))


def verified_masked(alignment: Alignment) -> Verification:
    model, collator = bert(), MaskedLanguageCollator(TOKENIZER)
    options: dict[str, Any] = {"task": "masked_lm", "pairs": 60, "batch_size": 8}
    return verify(model, {"student": model}, on_pairs(alignment), rows(), collator, **options)


def test_a_teacher_compared_with_itself_scores_one() -> None:
    found = verified_masked(block_input(1))
    measured = summarise(found.outcomes, resamples=200).students["student"].variables["v"]
    assert measured.effective_iia.outside.value == 1.0
    assert measured.effective_iia.outside.cases > 5 and measured.effective_iia.inside.cases == 0
    assert (found.self_swap.cases > 0, found.self_swap.changed) == (True, 0)


@pytest.fixture(scope="module")
def planted() -> tuple[LlamaForCausalLM, LlamaForCausalLM, dict[int, int]]:
    student = llama(3)
    order = torch.randperm(WIDTH, generator=torch.Generator().manual_seed(3))
    return student, teacher_of(student, order), {index: int(order[index]) for index in LEFT}


def score(planted: Any, alignment: Alignment) -> Any:
    student, teacher, _ = planted
    collator, options = CausalLanguageCollator(TOKENIZER), {"task": "causal_lm", "pairs": 60, "batch_size": 8}
    found = verify(teacher, {"student": student}, alignment, rows(causal=True), collator, **options)  # pyright: ignore
    return summarise(found.outcomes, resamples=200).students["student"].variables["half"]


@pytest.mark.parametrize("positions", POSITIONS)
def test_a_planted_student_scores_one_by_every_policy_and_a_sabotaged_one_does_not(
    planted: Any, positions: str
) -> None:
    pairs = planted[2]
    wrong = next(neuron for neuron in range(WIDTH) if neuron not in pairs.values())
    right = score(planted, on_pairs(aligned(pairs), positions)).effective_iia.all
    assert right.value == 1.0 and right.cases > 20
    sabotaged = score(planted, on_pairs(aligned({**pairs, 0: wrong}), positions)).effective_iia.all
    assert sabotaged.value < 0.9


def test_a_causal_model_is_asked_from_the_first_swapped_token_on() -> None:
    for pairs in drawn(on_pairs(aligned({0: 0})), "causal_lm", CausalLanguageCollator(TOKENIZER), rows(causal=True)):
        assert pairs.cases.tokens is not None
        for row, tokens in enumerate(pairs.cases.tokens):
            first = int(pairs.swap.mask[row].nonzero()[0])
            length = int(pairs.base["attention_mask"][row].sum())
            assert tokens.nonzero().flatten().tolist() == list(range(first, length - 1))
        assert torch.equal(pairs.cases.inside, pairs.swap.mask[pairs.cases.tokens])


def test_layers_are_searched_on_pairs() -> None:
    model, alignment = bert(), on_pairs(block_input())
    options: dict[str, Any] = {"positions": alignment.positions, "sources": alignment.sources, "pairs": 240}
    answers = answer_layers(model, model, rows(240), MaskedLanguageCollator(TOKENIZER), task="masked_lm", **options)
    cell = layer_matrix(answers, measure="effective_iia").cell(0, 0)
    assert cell.outside.score == 1.0 and cell.outside.counted > 20


def test_rows_without_sources_are_refused() -> None:
    single = [{"input_ids": row["input_ids"], "example_id": row["example_id"]} for row in rows()]
    with pytest.raises(UserError, match="sources `paired` need a source text for every row; .*data.source_column"):
        drawn(on_pairs(block_input()), "masked_lm", MaskedLanguageCollator(TOKENIZER), single)


def test_differing_positions_need_the_pairs() -> None:
    alignment = on_pairs(block_input())
    with pytest.raises(UserError, match="`differing` needs sources `paired`"):
        draw = draw_pairs(
            rows(), MaskedLanguageCollator(TOKENIZER), alignment.positions, block_input().sources,
            task="masked_lm", pairs=8, batch_size=8, seed=0, what="testing",
        )  # fmt: skip
        next(iter(draw))


def test_texts_that_pairs_share_hang_together() -> None:
    """Cases know the texts of base and source; rows that name none are texts of their own."""
    data = rows(20)
    assert {"text_id", "source_text_id"} <= set(data[0])
    for row in data:
        row["text_id"], row["source_text_id"] = row["example_id"] // 5, 100 + row["example_id"] // 4
    alignment = Alignment.from_dict(
        {
            "name": "n",
            "variables": [
                {"name": "v", **dict.fromkeys(("teacher", "student"), [{"component": "block_output", "layer": 0}])}
            ],
            "positions": {"kind": "differing"},
            "sources": {"kind": "paired"},
        }
    )

    def texts(given: list[dict[str, Any]]) -> list[tuple[int, int, int]]:
        drawn = draw_pairs(
            given,
            MaskedLanguageCollator(TOKENIZER),
            alignment.positions,
            alignment.sources,
            task="masked_lm",
            pairs=20,
            batch_size=8,
            seed=0,
            what="drawing",
        )
        cases = [pairs.cases for pairs in drawn]
        return [
            case
            for one in cases
            for case in zip(one.base.tolist(), one.base_text.tolist(), one.source_text.tolist(), strict=True)
        ]

    assert texts(data) and all((text, source) == (base // 5, 100 + base // 4) for base, text, source in texts(data))
    half = [{name: value for name, value in row.items() if name != "source_text_id"} for row in data]
    with pytest.raises(UserError, match="pairs have `text_id` but no `source_text_id`; give both, or neither"):
        texts(half)
    without = [{name: value for name, value in row.items() if name != "text_id"} for row in half]
    assert all((text, source) == (base, 20 + base) for base, text, source in texts(without))

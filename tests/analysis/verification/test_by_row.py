"""What a verification measures does not depend on its batch size, nor on the rows beside a row, nor on padding."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
import transformers as tf
from torch import Tensor

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.verification.cases import DrawnPairs, draw_pairs
from iit_toolkit.analysis.verification.evaluation import evaluate
from iit_toolkit.analysis.verification.search import answer_layers, layer_matrix
from iit_toolkit.analysis.verification.verify import Verification, verify
from iit_toolkit.data.collate import CausalLanguageCollator, ClassificationCollator, MaskedLanguageCollator
from iit_toolkit.errors import UserError
from tests.data.conftest import words_of
from tests.families import with_large_weights

TOKENIZER = words_of(*(f"w{index}" for index in range(35)))
CLS, SEP, UNK, WORD = TOKENIZER.cls_token_id, TOKENIZER.sep_token_id, TOKENIZER.unk_token_id, len(TOKENIZER) - 35
SIZES: dict[str, Any] = {
    "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 16,
}  # fmt: skip
COUNT, BATCH_SIZES = 12, (2, 5, 16)
EXACT = ["student", "variable", "base", "source", "position", "inside", "base_text", "source_text", "gold"]
ANSWERS = ["teacher_base", "teacher_cf", "student_base", "student_cf", "effect_n"]


def rows() -> list[dict[str, Any]]:
    """Rows of 4 to 16 tokens, of which two have the same words, and one source of as many tokens each."""
    draws = torch.Generator().manual_seed(3)
    found: list[dict[str, Any]] = []
    for index in range(COUNT):
        words = torch.randint(WORD, WORD + 35, (2 + index * 5 % 13,), generator=draws).tolist()
        other = [words[0], WORD + (words[1] - WORD + 1 + index) % 35, *words[2:]]
        found.append(
            {
                "input_ids": [CLS, *words, SEP],
                "example_id": 5 * index % COUNT,
                "text_id": index // 2,
                "label": index % 3,
                "source_input_ids": [CLS, *other, SEP],
                "source_example_id": 100 + index,
                "source_text_id": 50 + index,
                "positions": [2],
                "source_positions": [2],
            }
        )
    found[5]["input_ids"] = list(found[4]["input_ids"])
    return found


def unpaired() -> list[dict[str, Any]]:
    names = ("input_ids", "example_id", "text_id", "label")
    return [{name: row[name] for name in names} for row in rows()]


def models(task: str) -> tuple[Any, Any]:
    """Two random models in float64, in which no rounding decides an answer."""
    made: list[Any] = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        if task == "causal_lm":
            model: Any = tf.LlamaForCausalLM(tf.LlamaConfig(**SIZES, num_key_value_heads=2))
        elif task == "masked_lm":
            model = tf.BertForMaskedLM(tf.BertConfig(**SIZES, max_position_embeddings=20))
        else:
            model = tf.BertForSequenceClassification(tf.BertConfig(**SIZES, num_labels=3, max_position_embeddings=20))
        made.append(with_large_weights(model, torch.float64, seed).eval())
    return made[0], made[1]


COLLATORS: dict[str, Any] = {
    "masked_lm": MaskedLanguageCollator(TOKENIZER, probability=0.3),
    "causal_lm": CausalLanguageCollator(TOKENIZER),
    "sequence_classification": ClassificationCollator(TOKENIZER),
}


def alignment(kind: str, positions: str = "span") -> Alignment:
    def variable(name: str, **site: Any) -> dict[str, Any]:
        return {"name": name, "teacher": [site], "student": [site]}

    whole = variable("whole", component="block_output", layer=0)
    part = variable("part", component="block_output", layer=1, neurons=[0, 5])
    given = {"name": "x", "variables": [whole, part], "positions": {"kind": positions}, "sources": {"kind": kind}}
    return Alignment.from_dict(given)


def verified(task: Any, kind: str, batch_size: int, collator: Any = None, positions: str = "span") -> Verification:
    teacher, student = models(task)
    return verify(
        teacher,
        {"student": student},
        alignment(kind, positions),
        rows() if kind == "paired" else unpaired(),
        collator or COLLATORS[task],
        task=task,
        pairs=COUNT - 1,
        batch_size=batch_size,
        seed=5,
        judged="student",
    )


CASES = [
    ("masked_lm", "in_batch", "masked"),
    ("masked_lm", "paired", "differing"),
    ("causal_lm", "in_batch", "span"),
    ("causal_lm", "fixed", "all"),
    ("causal_lm", "paired", "random"),
    ("sequence_classification", "dataset", "random"),
]


@pytest.mark.parametrize(("task", "kind", "positions"), CASES)
def test_a_verification_measures_the_same_with_every_batch_size(task: Any, kind: str, positions: str) -> None:
    first, *others = (verified(task, kind, size, positions=positions) for size in BATCH_SIZES)
    assert len(first.outcomes) and first.controls is not None and len(first.controls)
    for other in others:
        assert other.controls is not None
        for one, two in ((first.outcomes, other.outcomes), (first.controls, other.controls)):
            pd.testing.assert_frame_equal(one[EXACT + ANSWERS], two[EXACT + ANSWERS])
            pd.testing.assert_frame_equal(one, two, rtol=1e-3, atol=1e-4)  # log-probabilities are of float32
        pd.testing.assert_frame_equal(first.examples, other.examples)
        assert other.absent == first.absent and other.ceiling == first.ceiling
        assert (other.self_swap.cases, other.self_swap.changed) == (first.self_swap.cases, 0)


def test_outcomes_are_in_the_order_of_their_bases() -> None:
    found = verified("causal_lm", "in_batch", 4)
    assert found.outcomes["base"].is_monotonic_increasing and found.examples["base"].is_monotonic_increasing
    of_first = found.outcomes[found.outcomes["base"] == found.outcomes["base"][0]]
    assert of_first["variable"].drop_duplicates().tolist() == ["whole", "part"]
    assert set(found.outcomes["base"]) == {row["example_id"] for row in rows()[: COUNT - 1]}


class Padded:
    """Another collator's batches with padding on the left, or with more of it."""

    def __init__(self, collator: Any, left: bool, more: int = 0) -> None:
        self._collator, self._left, self._more = collator, left, more

    def __call__(self, chosen: Any) -> dict[str, Tensor]:
        batch = self._collator(chosen)
        filler = {"labels": -100, "special_tokens_mask": 1, "input_ids": 0, "attention_mask": 0}
        for name in filler:
            if batch[name].dim() == 2:
                more = batch[name].new_full((len(chosen), self._more), filler[name])
                batch[name] = torch.cat([batch[name], more], 1)
        if self._left:
            lengths = batch["attention_mask"].sum(1).tolist()
            for name in filler:
                if batch[name].dim() == 2:
                    rolled = [row.roll(len(row) - n) for row, n in zip(batch[name], lengths, strict=True)]
                    batch[name] = torch.stack(rolled)
        return batch


@pytest.mark.parametrize(("left", "more"), [(True, 0), (False, 3)])
def test_padding_changes_nothing_of_what_is_drawn(left: bool, more: int) -> None:
    plain = verified("causal_lm", "in_batch", 6)
    padded = verified("causal_lm", "in_batch", 6, Padded(COLLATORS["causal_lm"], left, more))
    pd.testing.assert_frame_equal(plain.outcomes[EXACT + ANSWERS], padded.outcomes[EXACT + ANSWERS])
    pd.testing.assert_frame_equal(plain.examples, padded.examples)
    first = plain.examples.iloc[0]
    assert first["base_tokens"].tolist() == next(
        row["input_ids"] for row in rows() if row["example_id"] == first["base"]
    )


def drawn(data: list[dict[str, Any]], collator: Any = None, **options: Any) -> DrawnPairs:
    settings: dict[str, Any] = {"task": "masked_lm", "pairs": 100, "batch_size": 4, "seed": 0, "what": "testing"}
    given, settings = alignment("in_batch"), {**settings, **options}
    return draw_pairs(data, collator or COLLATORS["masked_lm"], given.positions, given.sources, **settings)


def masks(data: list[dict[str, Any]], collator: Any = None) -> dict[int, tuple[list[int], list[int]]]:
    """What every row's tokens and labels are, by example."""
    found: dict[int, tuple[list[int], list[int]]] = {}
    for pairs in drawn(data, collator):
        for row, number in enumerate(pairs.base["example_id"].tolist()):
            real = pairs.base["attention_mask"][row].bool()
            seen = pairs.base["input_ids"][row, real].tolist(), pairs.base["labels"][row, real].tolist()
            assert found.setdefault(number, seen) == seen, "as a source, a row is masked as it is as a base"
    return found


def test_the_masks_of_a_row_follow_from_the_row_alone() -> None:
    data = unpaired()
    every = masks(data)
    some = masks(data[3:9])
    assert len(some) == 6 and all(every[number] == seen for number, seen in some.items())
    for row in data:
        ordinary = len(row["input_ids"]) - 2
        predicted = sum(label != -100 for label in every[row["example_id"]][1])
        assert predicted == max(1, round(0.3 * ordinary))
    assert every[data[4]["example_id"]] == every[data[5]["example_id"]], "equal rows have equal masks"


def test_a_collator_that_draws_from_torch_s_own_generator_masks_by_row_too() -> None:
    def careless(chosen: Any) -> dict[str, Tensor]:
        batch = COLLATORS["causal_lm"](chosen)
        hidden = (torch.rand(batch["labels"].shape) < 0.4) & ~batch["special_tokens_mask"]
        return {**batch, "labels": batch["labels"].masked_fill(~hidden, -100)}

    data = unpaired()
    first = masks(data, careless)
    torch.manual_seed(99)
    assert all(first[number] == seen for number, seen in masks(data[3:9], careless).items())


def test_every_row_is_base_once_and_source_once() -> None:
    data = unpaired()
    for seed in range(5):
        batches = list(drawn(data, seed=seed))
        bases = [n for one in batches for n in one.base["example_id"][: one.bases].tolist()]
        sources = [n for one in batches for n in one.base["example_id"][one.swap.source[: one.bases]].tolist()]
        assert sorted(bases) == sorted(sources) == list(range(COUNT))
        assert sources == [*bases[1:], bases[0]], "one circle, so no row is its own source"
        assert all(len(one.base["input_ids"]) == one.bases + 1 for one in batches), "one more row than bases"


@pytest.mark.parametrize("paired", [False, True])
def test_another_source_is_neither_the_base_nor_its_source(paired: bool) -> None:
    data = rows() if paired else unpaired()
    given = alignment("paired" if paired else "in_batch")
    for seed in range(3):
        found: dict[int, int] = {}
        for size in (2, 5, 50):
            settings: dict[str, Any] = {"task": "masked_lm", "pairs": 100, "batch_size": size, "seed": seed, "what": ""}
            collator = COLLATORS["masked_lm"]
            for one in draw_pairs(data, collator, given.positions, given.sources, **settings, shuffled=True):
                assert one.shuffled is not None
                ids = (one.source or one.base)["example_id"]
                for row, base in enumerate(one.base["example_id"][: one.bases].tolist()):
                    other = int(ids[one.shuffled.source[row]])
                    assert other not in (base, int(ids[one.swap.source[row]]))
                    assert found.setdefault(base, other) == other
        assert len(set(found.values())) == COUNT


def test_a_row_without_a_position_to_take_is_no_other_source() -> None:
    data = unpaired()
    for row in data[::2]:
        row["input_ids"] = [CLS, UNK, SEP]
    causal: dict[str, Any] = {"collator": COLLATORS["causal_lm"], "task": "causal_lm", "shuffled": True}
    for one in drawn(data, **causal):
        assert one.shuffled is not None
        taken = one.base["special_tokens_mask"][one.shuffled.source[: one.bases]]
        assert not taken.all(1).any()


def test_rows_that_hold_nothing_to_predict_are_left_out() -> None:
    data = unpaired()
    for row in data[::2]:
        row["input_ids"] = [CLS, UNK, SEP]
    for size in (1, 4, 64):
        bases = [n for one in drawn(data, batch_size=size) for n in one.base["example_id"][: one.bases].tolist()]
        assert sorted(bases) == sorted(row["example_id"] for row in data[1::2])
    with pytest.raises(UserError, match="1 of 3 examples hold a token to predict, too few; give longer texts"):
        drawn(data[:3])
    found = evaluate(models("masked_lm")[0], data, COLLATORS["masked_lm"], "masked_lm")
    assert found["perplexity"].clusters == len({row["text_id"] for row in data[1::2]})
    with pytest.raises(UserError, match="none of the 2 rows holds a token to predict; give longer texts"):
        evaluate(models("masked_lm")[0], data[:3:2], COLLATORS["masked_lm"], "masked_lm")


def test_a_search_finds_the_same_with_every_batch_size() -> None:
    teacher, student = models("masked_lm")
    options: dict[str, Any] = {"task": "masked_lm", "pairs": COUNT, "seed": 5}
    found = [
        layer_matrix(answer_layers(teacher, student, unpaired(), COLLATORS["masked_lm"], batch_size=size, **options), 1)
        for size in (1, 4, 50)
    ]
    assert found[0] == found[1] == found[2] and found[0].cell(0, 0).outside.cases > 10


def test_a_perplexity_does_not_depend_on_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = models("masked_lm")[0], unpaired()
    values: list[float] = []
    for size in (1, 5, 64):
        monkeypatch.setattr("iit_toolkit.analysis.verification.evaluation._BATCH", size)
        found = evaluate(model, data, COLLATORS["masked_lm"], "masked_lm")["perplexity"]
        assert found.value is not None
        values.append(found.value)
    assert values[0] == pytest.approx(values[1], rel=1e-5) and values[0] == pytest.approx(values[2], rel=1e-5)

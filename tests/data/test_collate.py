from __future__ import annotations

import functools
import math
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from iit_toolkit.data.batch import paired_sources
from iit_toolkit.data.collate import CausalLanguageCollator, ClassificationCollator, MaskedLanguageCollator
from iit_toolkit.data.special_tokens import SpecialTokens
from iit_toolkit.errors import UserError


def make_rows(tokenizer: PreTrainedTokenizerBase, lengths: list[int], seed: int = 0) -> list[dict[str, Any]]:
    """Rows of random ordinary tokens between [CLS] and [SEP]; lengths without the two."""
    generator = torch.Generator().manual_seed(seed)
    ordinary = torch.tensor(sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids)))
    rows = []
    for index, length in enumerate(lengths):
        content = ordinary[torch.randint(len(ordinary), (length,), generator=generator)].tolist()
        ids = [tokenizer.cls_token_id, *content, tokenizer.sep_token_id]
        rows.append({"input_ids": ids, "example_id": 100 + index, "label": index % 2})
    return rows


def original_of(rows: list[dict[str, Any]], padding: int) -> Tensor:
    width = max(len(row["input_ids"]) for row in rows)
    return torch.tensor([row["input_ids"] + [padding] * (width - len(row["input_ids"])) for row in rows])


def test_shapes_types_and_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = make_rows(tokenizer, [20, 10])
    batch = MaskedLanguageCollator(tokenizer)(rows)
    assert set(batch) == {"input_ids", "attention_mask", "special_tokens_mask", "labels", "example_id"}
    assert {name: value.dtype for name, value in batch.items() if name != "special_tokens_mask"} == dict.fromkeys(
        ["input_ids", "attention_mask", "labels", "example_id"], torch.int64
    )
    assert batch["special_tokens_mask"].dtype == torch.bool
    assert batch["attention_mask"].sum(dim=1).tolist() == [22, 12]
    assert (batch["input_ids"][1, 12:] == tokenizer.pad_token_id).all()
    assert batch["example_id"].tolist() == [100, 101]
    special = torch.zeros(2, 22, dtype=torch.bool)
    special[:, 0] = special[0, 21] = special[1, 11] = True
    special[1, 12:] = True
    assert torch.equal(batch["special_tokens_mask"], special)  # a [MASK]ed ordinary token is not special


def test_texts_of_rows_are_in_the_batch_where_rows_have_them(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{**row, "text_id": 7 + index // 2} for index, row in enumerate(make_rows(tokenizer, [12, 13, 14]))]
    assert MaskedLanguageCollator(tokenizer)(rows)["text_id"].tolist() == [7, 7, 8]


def test_rows_without_example_ids_need_none(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"input_ids": row["input_ids"]} for row in make_rows(tokenizer, [12])]
    assert "example_id" not in MaskedLanguageCollator(tokenizer)(rows)


def test_labels_restore_the_original_and_nothing_special_is_chosen(
    tokenizer: PreTrainedTokenizerBase,
) -> None:
    rows = make_rows(tokenizer, [60, 5, 33])
    rows[1]["input_ids"][2] = tokenizer.unk_token_id
    rows[1]["input_ids"][3] = tokenizer.mask_token_id
    batch = MaskedLanguageCollator(tokenizer, probability=0.9)(rows)
    original = original_of(rows, tokenizer.pad_token_id)
    chosen = batch["labels"] != -100
    assert torch.equal(torch.where(chosen, batch["labels"], batch["input_ids"]), original)
    assert not (chosen & batch["special_tokens_mask"]).any()
    assert batch["special_tokens_mask"][1, 2:4].all()
    assert int(chosen.sum()) == round(0.9 * (60 + 3 + 33))


@pytest.fixture
def specials_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests that make thousands of collators of one tokenizer."""
    monkeypatch.setattr(SpecialTokens, "of", functools.cache(SpecialTokens.of))


@pytest.mark.usefixtures("specials_found_once")
def test_the_share_is_exact_and_every_place_equally_likely(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = make_rows(tokenizer, [40, 20])
    times = torch.zeros(2, 42)
    draws = 500
    for seed in range(draws):
        chosen = MaskedLanguageCollator(tokenizer, seed=seed)(rows)["labels"] != -100
        assert int(chosen.sum()) == 9  # 15 % of 60
        times += chosen
    places = torch.cat([times[0, 1:41], times[1, 1:21]]) / draws
    assert times.sum() == 9 * draws
    # 60 places, each off by more than 4.5 standard deviations in fewer than 1 of 2000 runs of this test
    assert (places - 0.15).abs().max() < 4.5 * math.sqrt(0.15 * 0.85 / draws)


def test_eighty_ten_ten(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = make_rows(tokenizer, [2000] * 20)
    batch = MaskedLanguageCollator(tokenizer, probability=0.5)(rows)
    chosen = batch["labels"] != -100
    total = int(chosen.sum())
    assert total == 20000
    before, after = batch["labels"][chosen], batch["input_ids"][chosen]
    masked = after == tokenizer.mask_token_id
    same = after == before
    spread = 4.5 * math.sqrt(0.8 * 0.2 * total)
    assert abs(int(masked.sum()) - 0.8 * total) < spread
    by_chance = 0.1 / (len(tokenizer) - len(tokenizer.all_special_ids))  # a random token that is the old one
    assert abs(int(same.sum()) - (0.1 + by_chance) * total) < spread
    other = after[~masked & ~same]
    assert not torch.isin(other, torch.tensor(tokenizer.all_special_ids)).any()
    assert len(other.unique()) > 0.5 * min(len(tokenizer), len(other))


def test_the_same_batch_gets_the_same_mask_whatever_else_is_drawn(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = make_rows(tokenizer, [30, 25])
    collator = MaskedLanguageCollator(tokenizer, seed=3)
    first = collator(rows)
    state = torch.get_rng_state()
    collator(make_rows(tokenizer, [30, 25], seed=1))
    assert torch.equal(torch.get_rng_state(), state)  # nor is the global generator touched
    torch.rand(7)
    again = MaskedLanguageCollator(tokenizer, seed=3)(rows)
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_another_seed_or_batch_gets_another_mask(tokenizer: PreTrainedTokenizerBase) -> None:
    def mask(seed: int, rows: list[dict[str, Any]]) -> tuple[int, ...]:
        labels = MaskedLanguageCollator(tokenizer, seed=seed)(rows)["labels"]
        return tuple((labels[0] != -100).nonzero().flatten().tolist())

    rows = make_rows(tokenizer, [60, 60])
    swapped = [rows[1], rows[0]]
    other = make_rows(tokenizer, [60, 60], seed=1)
    masks = [mask(1, rows), mask(2, rows), mask(12, rows), mask(1, other), mask(1, swapped)]
    assert len(set(masks)) == len(masks)


def test_at_least_one_token_is_chosen(tokenizer: PreTrainedTokenizerBase) -> None:
    for seed in range(20):
        labels = MaskedLanguageCollator(tokenizer, probability=0.01, seed=seed)(make_rows(tokenizer, [3]))["labels"]
        assert int((labels != -100).sum()) == 1


def test_a_batch_of_special_tokens_only_is_a_user_error(tokenizer: PreTrainedTokenizerBase) -> None:
    with pytest.raises(UserError, match="no token but special ones"):
        MaskedLanguageCollator(tokenizer)(make_rows(tokenizer, [0, 0]))


@pytest.mark.usefixtures("specials_found_once")
def test_smoothing_draws_in_proportion_to_the_count_s_power(tiny: PreTrainedTokenizerFast) -> None:
    counts = torch.full((len(tiny),), 1000)
    counts[6] = 10  # w1 is rare
    counts[7] = 0  # w2 never occurred: it counts as one
    rows = [{"input_ids": [2, 6, 7, *range(8, 28), 3]}]
    weights = torch.tensor([10**-0.7, 1.0, *[1000**-0.7] * 20], dtype=torch.float64)
    expected = weights / weights.sum()
    draws = 4000
    times = torch.zeros(22, dtype=torch.float64)
    for seed in range(draws):
        collator = MaskedLanguageCollator(tiny, 0.04, smoothing=0.7, token_counts=counts, seed=seed)
        labels = collator(rows)["labels"][0, 1:-1]
        assert int((labels != -100).sum()) == 1  # 4 % of 22: one draw, so its chances are the weights themselves
        times += labels != -100
    spread = (expected * (1 - expected) / draws).sqrt()
    assert ((times / draws - expected).abs() < 4.5 * spread).all()


def test_smoothing_zero_is_no_smoothing(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = make_rows(tokenizer, [50])
    counts = torch.arange(len(tokenizer))
    smoothed = MaskedLanguageCollator(tokenizer, smoothing=0.0, token_counts=counts)(rows)
    assert torch.equal(smoothed["labels"], MaskedLanguageCollator(tokenizer)(rows)["labels"])


def test_what_masking_lacks_is_a_user_error(tiny: PreTrainedTokenizerFast, causal: PreTrainedTokenizerFast) -> None:
    with pytest.raises(UserError, match="no mask token"):
        MaskedLanguageCollator(causal)
    with pytest.raises(UserError, match="needs the counts"):
        MaskedLanguageCollator(tiny, smoothing=0.7)


def test_causal_labels_are_the_unshifted_ids(causal: PreTrainedTokenizerFast) -> None:
    batch = CausalLanguageCollator(causal)([{"input_ids": [0, 5, 6, 7]}, {"input_ids": [0, 8]}])
    assert batch["input_ids"].tolist() == [[0, 5, 6, 7], [0, 8, 0, 0]]
    assert batch["labels"].tolist() == [[0, 5, 6, 7], [0, 8, -100, -100]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert batch["special_tokens_mask"].tolist() == [[True, False, False, False], [True, False, True, True]]


def test_tokens_are_integers(causal: PreTrainedTokenizerFast) -> None:
    assert CausalLanguageCollator(causal)([{"input_ids": []}, {"input_ids": [5]}])["input_ids"].shape == (2, 1)
    with pytest.raises(UserError, match="input_ids hold 5.0, which is no integer; give tokens as integers"):
        CausalLanguageCollator(causal)([{"input_ids": [5.0, 6.5]}])


@pytest.mark.parametrize(("name", "value"), [("example_id", 1), ("text_id", 1), ("token_type_ids", [0, 0])])
def test_what_one_row_has_all_have(causal: PreTrainedTokenizerFast, name: str, value: Any) -> None:
    rows = [{"input_ids": [0, 5, 6, 7]}, {"input_ids": [0, 8], name: value}]
    with pytest.raises(UserError, match=f"some rows have `{name}`, and others have none; give it to all rows"):
        CausalLanguageCollator(causal)(rows)


@pytest.mark.parametrize(
    ("given", "missing", "value", "padded"),
    [
        ("text_id", "source_text_id", 3, 3),
        ("source_text_id", "text_id", 3, 3),
        ("token_type_ids", "source_token_type_ids", [0, 1], [0, 1, 0]),
        ("source_token_type_ids", "token_type_ids", [0, 1, 1], [0, 1, 1]),
    ],
)
def test_a_column_of_one_side_is_kept_and_pairs_need_both(
    causal: PreTrainedTokenizerFast, given: str, missing: str, value: Any, padded: Any
) -> None:
    pair = {"input_ids": [0, 5], "source_input_ids": [0, 6, 7], "positions": [1], "source_positions": [1]}
    batch = CausalLanguageCollator(causal)([{**pair, given: value}])
    assert batch[given].tolist() == [padded] and missing not in batch
    with pytest.raises(UserError, match=f"pairs have `{given}` but no `{missing}`; give both, or neither"):
        paired_sources(batch)


def test_padding_is_excluded_even_where_its_id_is_an_ordinary_token() -> None:
    words = Tokenizer(models.WordLevel({"w0": 0, "w1": 1}))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words)  # no special token at all
    batch = CausalLanguageCollator(tokenizer)([{"input_ids": [0, 1, 0]}, {"input_ids": [0]}])
    assert batch["special_tokens_mask"].tolist() == [[False, False, False], [False, True, True]]


def test_classification_labels(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = make_rows(tokenizer, [4, 2, 3])
    batch = ClassificationCollator(tokenizer)(rows)
    assert batch["labels"].tolist() == [0, 1, 0]
    assert batch["labels"].dtype == torch.int64
    assert torch.equal(batch["input_ids"], original_of(rows, tokenizer.pad_token_id))
    assert batch["example_id"].tolist() == [100, 101, 102]

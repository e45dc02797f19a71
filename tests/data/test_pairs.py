"""Pairs of base and source: which positions are swapped, which pairs are refused, and what a batch of them holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from iit_toolkit.data.collate import CausalLanguageCollator, ClassificationCollator, MaskedLanguageCollator
from iit_toolkit.data.pairs import PairedRows, tokenize_pairs
from iit_toolkit.data.text import load_texts
from iit_toolkit.errors import UserError
from tests.data.conftest import words_of

WORDS = words_of(
    "the", "cat", "cats", "dog", "dogs", "sleep", "sleeps", "see", "sees", "walk", "##s", "##ed", "talk", ".", "a"
)  # fmt: skip


def paired(
    *pairs: tuple[Any, ...], tokenizer: Any = WORDS, columns: tuple[str, ...] = (), **options: Any
) -> PairedRows:
    """Tokenize pairs of base, source and further columns."""
    names = ("text", "source", *columns)
    texts = Dataset.from_dict({name: [pair[index] for pair in pairs] for index, name in enumerate(names)})
    return tokenize_pairs(texts, tokenizer, **{"max_length": 16, **options})


def swapped(row: dict[str, Any], tokenizer: Any = WORDS) -> list[tuple[str, str]]:
    """Each swapped token of the base with that of the source that is taken."""
    base, source = (tokenizer.convert_ids_to_tokens(row[name]) for name in ("input_ids", "source_input_ids"))
    places = zip(row["positions"], row["source_positions"], strict=True)
    return [(base[place], source[source_place]) for place, source_place in places]


@pytest.mark.parametrize(
    ("base", "source", "positions", "tokens"),
    [
        ("The cats sleep.", "The cats sleeps.", [3], [("sleep", "sleeps")]),
        ("The cat sees the dog.", "The dog sees the cat.", [2, 5], [("cat", "dog"), ("dog", "cat")]),
        ("The cat sees the dog.", "A cat sees the dogs.", [1, 5], [("the", "a"), ("dog", "dogs")]),
        ("The dogs walked.", "The dogs walks.", [3, 4], [("walk", "walk"), ("##ed", "##s")]),
        ("The dog walks.", "The dog talks.", [3, 4], [("walk", "talk"), ("##s", "##s")]),
        ("The dogs walk a.", "The dogs walks.", [3, 4], [("walk", "walk"), ("a", "##s")]),
        ("the  cat sleeps .", "the cats   sleeps.", [2], [("cat", "cats")]),
    ],
)
def test_the_words_that_differ_are_swapped_whole(
    base: str, source: str, positions: list[int], tokens: list[tuple[str, str]]
) -> None:
    found = paired((base, source))
    [row] = found.rows
    assert found.skipped == {}
    assert row["positions"] == row["source_positions"] == positions
    assert swapped(row) == tokens
    ids = {name: WORDS(text)["input_ids"] for name, text in (("input_ids", base), ("source_input_ids", source))}
    assert {name: row[name] for name in ids} == ids


def test_a_hyphen_or_a_point_is_no_part_of_a_word() -> None:
    tokenizer = words_of("the", "cat", "dog", "-", ".")
    [row] = paired(("the cat-cat.", "the cat-dog."), tokenizer=tokenizer).rows
    assert row["positions"] == [4]


def test_byte_level_tokens_with_their_space_belong_to_one_word() -> None:
    vocabulary = {token: index for index, token in enumerate(["<|end|>", *"abcde.", "Ġ", "Ġb", "Ġe"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ġ", "b"), ("Ġ", "e")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|end|>", model_max_length=64)
    [row] = paired(("a bc e.", "a bd e."), tokenizer=fast, causal=True).rows
    assert swapped(row, fast) == [("Ġb", "Ġb"), ("c", "d")]
    assert row["input_ids"][0] == 1 and row["positions"] == [1, 2]


def test_words_that_overlap_across_the_two_texts_are_swapped_whole_in_both() -> None:
    """`a gc` begins with `ab`, and cuts `cd` of the base, whose tokens are the same in both texts."""
    tokenizer = Tokenizer(
        models.WordLevel({token: index for index, token in enumerate(["[UNK]", "[CLS]", "[SEP]", *"abcdefg"])}, "[UNK]")
    )
    parts = [pre_tokenizers.Whitespace(), pre_tokenizers.Split("", "isolated")]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)  # pyright: ignore
    letters = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    [row] = paired(("ab cd e f", "a gc d e f"), tokenizer=letters).rows
    assert row["positions"] == [0, 1, 2, 3]


def test_pairs_that_cannot_be_used_are_counted_by_reason() -> None:
    found = paired(
        ("The cats sleep.", "The cats sleeps."),
        ("The cats sleep.", "The cats walks."),
        ("The dogs sleep.", "The dogs talked."),
        ("The cats sleep.", "THE cats sleep."),
        ("The cats sleep.", ""),
        (None, "The cats sleep."),
        ("The cats sleep.", "The birds sleep."),
        ("cats", "dogs"),
        ("The cat" + " sees" * 20, "A cat" + " sees" * 20),
        ("The dog sleeps.", "The dogs sleeps."),
    )
    assert found.skipped == {
        "base and source have different numbers of tokens": 2,
        "base and source have the same tokens": 1,
        "a text is missing": 2,
        "a swapped token is special or unknown to the tokenizer": 1,
        "no token is outside the swapped ones": 1,
        "longer than data.max_length": 1,
    }
    assert [row["input_ids"] for row in found.rows] == [
        WORDS(text)["input_ids"] for text in ("The cats sleep.", "The dog sleeps.")
    ]
    assert list(found.rows["example_id"]) == [0, 1]
    assert list(found.rows["source_example_id"]) == [2, 3]


def test_a_sentence_that_occurs_twice_is_one_text() -> None:
    """As base or as source; every base and every source is an example of its own all the same."""
    found = paired(
        ("The cats sleep.", "The dogs sleep."),
        ("The dogs sleep.", "The cats sleep."),
        ("The cats sleep.", "The birds sleep."),
        ("The cats sleep.", "The cats sleeps."),
        ("The dog sleeps.", "The dogs sleeps."),
    ).rows
    assert list(found["example_id"]) + list(found["source_example_id"]) == list(range(2 * len(found)))
    numbers: dict[str, int] = {}
    texts = [
        numbers.setdefault(str(ids), len(numbers))
        for pair in found
        for ids in (pair["input_ids"], pair["source_input_ids"])
    ]
    assert len(found) >= 3 and len(numbers) < len(texts)
    assert [number for pair in found for number in (pair["text_id"], pair["source_text_id"])] == texts


def test_where_no_pair_can_be_used_the_first_is_explained() -> None:
    with pytest.raises(UserError) as caught:
        paired(("The cats sleep.", "The cats walks."), ("", "The cats"))
    assert str(caught.value) == (
        "data: none of 2 pairs of base and source can be used; row 0: base and source have different numbers of tokens "
        "(6 and 7); give pairs that differ in words of as many tokens, or name the swapped characters in span columns"
    )


SPANS = ("span", "source_span")


def test_spans_are_swapped_token_by_token_though_texts_differ_elsewhere() -> None:
    # the cats | sleep .            a dog sees the | dogs walk ##ed |
    found = paired(
        ("The cats sleep.", "A dog sees dogs.", [4, 8], [11, 15]),
        ("The walked cat", "The cat sees talks", [4, 10], [13, 18]),
        ("The walked cat", "The cat sees talks", [8, 9], [13, 14]),
        columns=SPANS,
    )
    assert [swapped(row) for row in found.rows] == [
        [("cats", "dogs")],
        [("walk", "talk"), ("##ed", "##s")],
        [("##ed", "talk")],
    ]
    assert found.rows[0]["positions"] == [2] and found.rows[0]["source_positions"] == [4]


@pytest.mark.parametrize(
    ("span", "source_span", "said"),
    [
        ([4, 10], [4, 7], "the spans of base and source have different numbers of tokens (2 and 1)"),
        ([4, 99], [4, 7], "a span is not [start, end) within its text ([4, 99] of a text of 14 characters)"),
        ([4, 4], [4, 7], "a span is not [start, end)"),
        ([4, 8, 9], [4, 7], "a span is not [start, end)"),
        (None, [4, 7], "a span is not [start, end)"),
        ([10, 11], [3, 4], "the span holds no token"),
    ],
)
def test_spans_that_do_not_fit_are_told(span: Any, source_span: Any, said: str) -> None:
    with pytest.raises(UserError) as caught:
        paired(("The walked cat", "The cat sees talks", span, source_span), columns=SPANS)
    assert f"row 0: {said}" in str(caught.value)


def test_in_a_causal_model_a_token_must_follow(causal: PreTrainedTokenizerFast) -> None:
    found = paired(("w1 w2", "w1 w3"), ("w1 w2 w4", "w1 w3 w4"), ("w1", "w2"), tokenizer=causal, causal=True)
    assert found.skipped == {"no token follows the swapped ones": 2}
    [row] = found.rows
    assert row["input_ids"] == [2, 3, 5] and row["positions"] == [1]


def test_labelled_pairs_keep_their_label_and_may_differ_everywhere() -> None:
    rows = paired(("cats", "dogs", 1), ("the cat", "a cat", 0), columns=("label",)).rows
    assert list(rows["label"]) == [1, 0] and list(rows["positions"]) == [[1], [1]]
    batch = ClassificationCollator(WORDS)(list(rows))
    assert batch["labels"].tolist() == [1, 0]
    assert batch["swapped"].tolist() == [[False, True, False, False], [False, True, False, False]]
    with pytest.raises(UserError, match="row 0 has the label -1"):
        paired(("cats", "dogs", -1), columns=("label",))


def test_a_tokenizer_without_offsets_is_refused() -> None:
    class Slow:
        is_fast = False
        name_or_path = "slow"
        model_max_length = 64

    with pytest.raises(UserError, match="tokenizer slow does not say .* give a teacher with a fast tokenizer"):
        paired(("cats", "dogs"), tokenizer=Slow())


@pytest.fixture
def rows(tiny: PreTrainedTokenizerFast) -> list[dict[str, Any]]:
    """Twenty pairs of 6 to 12 words, of which the second and third differ."""
    pairs: list[tuple[str, str]] = []
    for index in range(20):
        rest = [f"w{50 + (7 * index + place) % 40}" for place in range(4 + index % 7)]
        pairs.append((" ".join(["w1", "w2", "w3", *rest]), " ".join(["w1", "w12", "w13", *rest])))
    return list(paired(*pairs, tokenizer=tiny).rows)


def test_a_batch_of_pairs_holds_sources_and_what_is_swapped(rows: list[dict[str, Any]], causal: Any) -> None:
    batch = CausalLanguageCollator(causal)(rows)
    assert batch["source_input_ids"].shape == batch["input_ids"].shape == (20, 15)
    for index, row in enumerate(rows):
        length = len(row["input_ids"])
        assert batch["source_input_ids"][index, :length].tolist() == row["source_input_ids"]
        assert batch["source_attention_mask"][index].sum() == length
        assert batch["swapped"][index].nonzero().flatten().tolist() == [2, 3]
        assert batch["swapped_from"][index, 2:4].tolist() == [2, 3]
    assert batch["example_id"].tolist() == list(range(20))
    assert batch["source_example_id"].tolist() == list(range(20, 40))


def test_masks_spare_the_swapped_tokens_and_reach_every_row_and_its_source(
    rows: list[dict[str, Any]], tiny: PreTrainedTokenizerFast
) -> None:
    for probability in (0.15, 0.4, 0.95):
        batch = MaskedLanguageCollator(tiny, probability)(rows)
        chosen = batch["labels"] != -100
        assert not (chosen & (batch["swapped"] | batch["special_tokens_mask"])).any()
        counts = [max(1, round(probability * (len(row["input_ids"]) - 4))) for row in rows]
        assert chosen.sum(1).tolist() == counts
        assert (batch["input_ids"][chosen] == tiny.mask_token_id).sum() > 0.5 * sum(counts)
        differ = batch["input_ids"] != batch["source_input_ids"]
        assert torch.equal(differ, batch["swapped"])  # masked and replaced alike


def test_where_the_source_has_another_token_it_is_not_masked(tiny: PreTrainedTokenizerFast) -> None:
    row = paired(("w1 w2 w3 w4", "w9 w2 w8 w7", [0, 2], [0, 2]), tokenizer=tiny, columns=SPANS).rows[0]
    batch = MaskedLanguageCollator(tiny, 0.99)([row])
    assert (batch["labels"] != -100).nonzero()[:, 1].tolist() == [2, 3, 4]
    assert batch["source_input_ids"][0, 1:5].tolist()[2:] == row["source_input_ids"][3:5]
    assert batch["source_input_ids"][0, 2] == batch["input_ids"][0, 2]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source_column": "bad"}, 'no column "bad" (data.source_column)'),
        ({"source_column": "label"}, 'column "label" holds int64, not text'),
        (
            {"source_column": "source", "place_columns": {"span": "at", "source_span": "from"}},
            'no column "from" (data.source_span_column)',
        ),
        (
            {"source_column": "source", "place_columns": {"span": "at", "source_span": "label"}},
            'column "label" (data.source_span_column) holds int64, not lists [start, end] of integers',
        ),
    ],
)
def test_a_wrong_column_of_pairs_is_named(tmp_path: Path, options: dict[str, Any], said: str) -> None:
    file = tmp_path / "pairs.json"
    Dataset.from_dict({"good": ["a"], "source": ["b"], "at": [[0, 1]], "label": [1]}).to_json(file)
    with pytest.raises(UserError) as caught:
        load_texts("json", "train", data_files=str(file), text_column="good", **options)
    assert said in str(caught.value)


def test_columns_of_pairs_come_under_fixed_names(tmp_path: Path) -> None:
    file = tmp_path / "pairs.json"
    Dataset.from_dict({"text": ["bad"], "good": ["a b"], "at": [[0, 1]], "there": [[2, 3]]}).to_json(file)
    loaded = load_texts(
        "json",
        "train",
        data_files=str(file),
        text_column="good",
        source_column="text",
        place_columns={"span": "at", "source_span": "there"},
    )
    assert list(loaded) == [{"source": "bad", "text": "a b", "span": [0, 1], "source_span": [2, 3]}]


def test_real_minimal_pairs(shared_data: Path, teacher: Any) -> None:
    texts = load_texts(
        "parquet",
        "train[1000:2000]",
        data_files={"train": str(shared_data / "blimp" / "train.parquet")},
        text_column="sentence_good",
        source_column="sentence_bad",
    )
    found = tokenize_pairs(texts, teacher, 64)
    assert len(found.rows) + sum(found.skipped.values()) == 1000 and len(found.rows) > 100
    for row in found.rows.select(range(50)):
        pairs = zip(row["input_ids"], row["source_input_ids"], strict=True)
        differ = {place for place, (token, other) in enumerate(pairs) if token != other}
        assert differ and differ <= set(row["positions"])

"""Tokenizers are compared by what they make of texts; what changes no ids may differ."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from iit_toolkit.data.same_tokenizer import tokenizer_difference
from tests.data.conftest import words_of

WORDS = ("one", "two", "One", "cafe", "café", "x", "y", "xy", "_", "1", "12", ".")


def changed(change: Callable[[Any], None]) -> PreTrainedTokenizerBase:
    """The tokenizer of `WORDS` with another part."""
    tokenizer = words_of(*WORDS)
    change(tokenizer.backend_tokenizer)
    return tokenizer


def by_digits(core: Any) -> None:
    core.pre_tokenizer = pre_tokenizers.Sequence([core.pre_tokenizer, pre_tokenizers.Digits(True)])


def test_the_same_tokenizer_has_no_difference_whatever_else_is_set(teacher: PreTrainedTokenizerBase) -> None:
    other = copy.deepcopy(words_of(*WORDS))
    other.model_max_length = 7
    other.padding_side = other.truncation_side = "left"
    other.chat_template = "{{ messages }}"
    other.name_or_path = "elsewhere"
    other.backend_tokenizer.enable_truncation(4)
    other.backend_tokenizer.enable_padding(length=9)
    assert tokenizer_difference(words_of(*WORDS), other, ["one two three"]) is None
    assert tokenizer_difference(teacher, copy.deepcopy(teacher)) is None


def test_vocabulary_and_special_tokens_are_compared() -> None:
    tokenizer = words_of("one", "two")
    assert tokenizer_difference(tokenizer, words_of("two", "one")) in ("token 'one' differs", "token 'two' differs")
    assert tokenizer_difference(tokenizer, words_of("one")) == "token 'two' differs"
    other = words_of("one", "two")
    other.mask_token = "[UNK]"
    assert tokenizer_difference(tokenizer, other) == "special tokens differ"


@pytest.mark.parametrize(
    "change",
    [
        lambda core: setattr(core, "normalizer", normalizers.NFC()),
        lambda core: setattr(core, "normalizer", normalizers.BertNormalizer(strip_accents=True)),
        lambda core: setattr(core, "pre_tokenizer", pre_tokenizers.WhitespaceSplit()),
        by_digits,
        lambda core: setattr(core, "post_processor", None),
        lambda core: setattr(
            core, "post_processor", processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
        ),
        lambda core: setattr(core.model, "max_input_chars_per_word", 2),
    ],
    ids=["case", "accents", "splits at white space only", "digits", "adds nothing", "adds no end", "long words"],
)  # fmt: skip
def test_another_part_with_the_same_vocabulary_is_a_difference(change: Callable[[Any], None]) -> None:
    found = tokenizer_difference(words_of(*WORDS), changed(change))
    assert found is not None and "for the teacher's, [" in found
    assert len(found) < 200


@pytest.mark.parametrize(
    "normalizer",
    [
        None,
        normalizers.BertNormalizer(lowercase=False, strip_accents=False),
        normalizers.BertNormalizer(lowercase=True, strip_accents=True),
        normalizers.Sequence([normalizers.Lowercase(), normalizers.NFC()]),
        normalizers.Sequence([normalizers.Lowercase(), normalizers.NFKC()]),
    ],
)
def test_another_normaliser_is_found_by_the_words_of_a_small_vocabulary(normalizer: Any) -> None:
    """Of every probe they make the unknown token, as of most texts."""
    words = ("\u00e9t\u00e9", "zzq", "vvx")
    other = words_of(*words)
    if normalizer is None:
        other.backend_tokenizer.normalizer = normalizers.NFC()
    else:
        other.backend_tokenizer.normalizer = normalizer
    found = tokenizer_difference(words_of(*words), other)
    assert found is not None and "for the teacher's, [" in found


def merging(*merges: tuple[str, str]) -> PreTrainedTokenizerFast:
    vocabulary = {token: number for number, token in enumerate(["<unk>", *"abc", "ab", "bc"])}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocabulary, list(merges), unk_token="<unk>")), unk_token="<unk>"
    )


def test_another_order_of_merges_is_found_in_the_run_s_own_texts() -> None:
    one, other = merging(("a", "b"), ("b", "c")), merging(("b", "c"), ("a", "b"))
    found = tokenizer_difference(one, other, ["ab", "c abc"])
    assert found == "'abc' is [4, 3] for the teacher's, [1, 5] for its own"

"""Rows are wrapped as the tokenizer itself wraps a text, whatever its special tokens are called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    ByT5Tokenizer,
    EsmTokenizer,
    GPT2Tokenizer,
    LlamaTokenizer,
    MBartTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    T5Tokenizer,
    XLNetTokenizer,
)

from iit_toolkit.data.collate import CausalLanguageCollator, MaskedLanguageCollator
from iit_toolkit.data.encoding import ids_spanned, known_ids
from iit_toolkit.data.pairs import tokenize_pairs
from iit_toolkit.data.pretrained import load_tokenizer
from iit_toolkit.data.special_tokens import SpecialTokens, Wrapping
from iit_toolkit.data.tokenization import count_tokens, tokenize_corpus
from iit_toolkit.errors import UserError

LETTERS = [
    "<unk>",
    "<s>",
    "</s>",
    "<pad>",
    "<sep>",
    "<cls>",
    "<mask>",
    *"abcdefgh",
    "▁",
    *(f"▁{c}" for c in "abcdefgh"),
]
VOCABULARY = {token: number for number, token in enumerate(LETTERS)}
SCORED: Any = [(token, -float(number)) for number, token in enumerate(LETTERS)]


def templated(template: str | None, **tokens: str) -> PreTrainedTokenizerFast:
    """A tokenizer of letters with a template, and names for some of its tokens."""
    core = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Whitespace(), pre_tokenizers.Split("", "isolated")])  # pyright: ignore
    if template is not None:
        used = [(token, VOCABULARY[token]) for token in dict.fromkeys(template.split()) if token != "$A"]
        core.post_processor = processors.TemplateProcessing(single=template, special_tokens=used)
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", model_max_length=64, **tokens)


def esm(folder: Path) -> PreTrainedTokenizerBase:
    """As the protein models' own: written in Python, `<cls> ... <eos>`, and no sep token."""
    (folder / "vocab.txt").write_text("\n".join(["<cls>", "<pad>", "<eos>", "<unk>", *"abcdefgh", "<mask>"]))
    return EsmTokenizer(str(folder / "vocab.txt"))


KINDS: dict[str, tuple[Callable[[Path], PreTrainedTokenizerBase], int, int]] = {
    "esm": (esm, 1, 1),
    "t5": (lambda _: T5Tokenizer(vocab=SCORED), 0, 1),
    "xlnet": (lambda _: XLNetTokenizer(vocab=SCORED), 0, 2),
    "mbart": (lambda _: MBartTokenizer(vocab=SCORED), 0, 2),
    "gpt2": (lambda _: GPT2Tokenizer(vocab=dict(VOCABULARY), merges=[]), 0, 0),
    "gpt2, add_bos_token": (lambda _: GPT2Tokenizer(vocab=dict(VOCABULARY), merges=[], add_bos_token=True), 1, 0),
    "llama": (lambda _: LlamaTokenizer(vocab=dict(VOCABULARY), merges=[], add_bos_token=True), 1, 0),
    "llama, add_eos_token": (
        lambda _: LlamaTokenizer(vocab=dict(VOCABULARY), merges=[], add_bos_token=True, add_eos_token=True), 1, 1
    ),
    "bytes, in Python": (lambda _: ByT5Tokenizer(), 0, 1),
    "has cls and sep, adds neither": (lambda _: templated(None, cls_token="<cls>", sep_token="<sep>"), 0, 0),
    "two before, one after": (lambda _: templated("<cls> <s> $A </s>", bos_token="<s>"), 2, 1),
    "the same token twice": (lambda _: templated("<s> $A <s>", bos_token="<s>"), 1, 1),
    "names another end than it adds": (lambda _: templated("<s> $A </s>", cls_token="<cls>", sep_token="<sep>"), 1, 1),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_what_the_tokenizer_makes_of_a_text(kind: str, tmp_path: Path) -> None:
    make, before, after = KINDS[kind]
    tokenizer = make(tmp_path)
    text = "a b c d e f g h a b c d"
    wrapping = Wrapping.of(tokenizer)
    assert (len(wrapping.prefix), len(wrapping.suffix)) == (before, after)
    whole = list(tokenizer(text)["input_ids"])
    [row] = tokenize_corpus(Dataset.from_dict({"text": [text]}), tokenizer, 64, min_length=1)["input_ids"]
    assert row == whole
    content = whole[before : len(whole) - after]
    cut = 6 + before + after
    rows = tokenize_corpus(Dataset.from_dict({"text": [text]}), tokenizer, cut, min_length=1)["input_ids"]
    assert list(rows)[:2] == [wrapping.around(content[:6]), wrapping.around(content[6:12])]
    [mask] = CausalLanguageCollator(tokenizer)([{"input_ids": rows[0]}])["special_tokens_mask"].tolist()
    assert mask == [True] * before + [False] * 6 + [True] * after


def test_pairs_are_wrapped_alike() -> None:
    tokenizer = templated("<cls> <s> $A </s>")
    [row] = tokenize_pairs(Dataset.from_dict({"text": ["a b c"], "source": ["a d c"]}), tokenizer, 16).rows
    assert row["input_ids"] == tokenizer("a b c")["input_ids"]
    assert row["source_input_ids"] == tokenizer("a d c")["input_ids"]
    assert row["positions"] == [3]


def test_a_token_that_wraps_is_special_at_the_ends_of_a_row_only() -> None:
    tokenizer = templated("a $A b", mask_token="<mask>")  # ordinary letters, as far as its special tokens say
    rows = [{"input_ids": tokenizer("b a c a b")["input_ids"]}, {"input_ids": tokenizer("d")["input_ids"]}]
    batch = MaskedLanguageCollator(tokenizer, probability=0.5)(rows)
    special = batch["special_tokens_mask"].tolist()
    assert special == [[True, *[False] * 5, True], [True, False, True, *[True] * 4]]
    alone = CausalLanguageCollator(tokenizer)([{"input_ids": [VOCABULARY["c"]]}, {"input_ids": rows[0]["input_ids"]}])
    assert alone["special_tokens_mask"][0].tolist() == [False, *[True] * 6]  # a row that nothing wraps


class Odd(ByT5Tokenizer):
    """Puts one token more before a text that begins with a small letter."""

    def build_inputs_with_special_tokens(self, *ids: Any) -> list[int]:
        return [1] * (2 if max(ids[0], default=0) > 100 else 1) + ids[0]


def test_a_tokenizer_without_a_fixed_template_is_refused() -> None:
    with pytest.raises(UserError, match="does not put the same special tokens around every text"):
        Wrapping.of(Odd())
    nothing = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<s>": 0})), bos_token="<s>")
    with pytest.raises(UserError, match="tokenizes nothing"):
        SpecialTokens.of(nothing)


def test_a_tokenizer_that_draws_its_tokens_is_refused(tmp_path: Path) -> None:
    core = Tokenizer(models.BPE({**VOCABULARY, "ab": len(VOCABULARY)}, [("a", "b")]))
    PreTrainedTokenizerFast(tokenizer_object=core).save_pretrained(tmp_path)
    assert load_tokenizer(str(tmp_path))("ab")["input_ids"] == [len(VOCABULARY)]
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text())
    for dropout in (0.5, 1e-9):
        content["model"]["dropout"] = dropout
        path.write_text(json.dumps(content))
        with pytest.raises(UserError, match="draws other tokens of a text each time .* set dropout to null"):
            load_tokenizer(str(tmp_path))


def test_ids_may_have_gaps() -> None:
    vocabulary = {"<unk>": 0, "<mask>": 1, "a": 5, "b": 900}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", mask_token="<mask>")
    assert (len(tokenizer), ids_spanned(tokenizer), known_ids(tokenizer)) == (4, 901, [0, 1, 5, 900])
    counts = count_tokens(Dataset.from_dict({"input_ids": [[5, 900]]}), ids_spanned(tokenizer))
    assert counts.nonzero().flatten().tolist() == [5, 900]
    collator = MaskedLanguageCollator(tokenizer, probability=0.9)
    seen = {
        token
        for number in range(40)
        for token in collator([{"input_ids": [5] * (9 + number)}])["input_ids"][0].tolist()
    }
    assert seen == {1, 5, 900}  # the mask, the token itself, and any other that there is

"""Texts of tokens: put together they are the text again, however a tokenizer marks its words."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from iit_toolkit.config.loading import ASSETS
from iit_toolkit.pipeline.texts import token_texts

TEXT = "a class of hash tables, unhashable keys: café ##x"


def bytes_of_gpt2() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([TEXT] * 9, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def pieces_of_llama() -> Any:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator([TEXT] * 9, trainers.BpeTrainer(vocab_size=60))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


@pytest.mark.parametrize("make", [bytes_of_gpt2, pieces_of_llama])
def test_the_texts_of_a_texts_tokens_are_the_text(make: Any) -> None:
    tokenizer = make()
    tokens = tokenizer.encode(TEXT, add_special_tokens=False)
    texts = token_texts(tokenizer, tokens)
    assert len(set(tokens)) > 5
    assert "".join(texts[token] for token in tokens).strip() == TEXT


def test_pieces_of_words_and_special_tokens() -> None:
    tokenizer = AutoTokenizer.from_pretrained(ASSETS / "teacher")
    tokens = tokenizer.encode("hash tables, unhashable [MASK] keys", add_special_tokens=False)
    texts = token_texts(tokenizer, tokens)
    joined = "".join(texts[token] for token in tokens)
    assert joined.strip().replace(" ,", ",") == "hash tables, unhashable [MASK] keys"
    pieces = tokenizer.convert_ids_to_tokens(tokens)
    assert any(piece.startswith("##") for piece in pieces)
    assert all(texts[token][0] != " " for token, piece in zip(tokens, pieces, strict=True) if piece.startswith("##"))

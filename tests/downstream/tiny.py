"""A tiny BERT with a tokenizer for pairs and subwords, and tiny data of each kind of task."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
import transformers as tf
from datasets import Dataset
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.families import bert_config

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
FILLERS = [f"w{index}" for index in range(20)]
WORDS = [*FILLERS, "good", "bad", "anna", "bert", "rome", "oslo", "play", "##ing", "##ed", "where", "?", ".", ","]
MAX_LENGTH = 64


def tiny_tokenizer() -> tf.PreTrainedTokenizerFast:
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, mask_token="[MASK]", model_max_length=MAX_LENGTH, **names
    )


def save_tiny_model(folder: Path, seed: int = 0) -> Path:
    """A masked language model with dropout, so that a fine-tuning depends on its seed throughout."""
    torch.manual_seed(seed)
    config = bert_config(
        vocab_size=len(SPECIAL) + len(WORDS),
        max_position_embeddings=MAX_LENGTH,
        num_hidden_layers=2,
        hidden_dropout_prob=0.1,
    )
    tf.BertForMaskedLM(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def sentences(count: int, seed: int) -> list[dict[str, Any]]:
    """Class 1 where a sentence holds "good", 0 where it holds "bad"."""
    draw = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for _ in range(count):
        words, label = draw.choices(FILLERS, k=draw.randint(2, 6)), draw.randint(0, 1)
        words.insert(draw.randint(0, len(words)), ("bad", "good")[label])
        rows.append({"sentence": " ".join(words), "label": label})
    return rows


def pairs(count: int, seed: int) -> list[dict[str, Any]]:
    """The similarity of two sentences is 5 where the first holds "good", else 0."""
    return [
        {"sentence1": row["sentence"], "sentence2": "play", "label": 5.0 * row["label"]}
        for row in sentences(count, seed)
    ]


def questions(count: int, seed: int, length: int = 30) -> list[dict[str, Any]]:
    """The answer is the one place in the context."""
    draw = random.Random(seed)
    rows: list[dict[str, Any]] = []
    for _ in range(count):
        words, place = draw.choices(FILLERS, k=length), draw.choice(["Rome", "Oslo", "Rome Oslo"])
        at = draw.randint(0, length)
        context = " ".join([*words[:at], place, *words[at:]])
        answers = {"text": [place], "answer_start": [context.index(place)]}
        rows.append({"question": "Where?", "context": context, "answers": answers})
    return rows


def tagged(count: int, seed: int) -> list[dict[str, Any]]:
    """Names are persons, places are locations, and "playing" is neither."""
    draw = random.Random(seed)
    tags = {"Anna": "B-PER", "Bert": "B-PER", "Rome": "B-LOC", "playing": "O"}
    rows: list[dict[str, Any]] = []
    for _ in range(count):
        words = [draw.choice([*tags, *FILLERS[:4]]) for _ in range(draw.randint(3, 8))]
        rows.append({"tokens": words, "ner_tags": [tags.get(word, "O") for word in words]})
    return rows


def save_data(folder: Path, train: list[dict[str, Any]], validation: list[dict[str, Any]]) -> dict[str, Any]:
    """Write two splits; return the `data` section of a task."""
    files: dict[str, str] = {}
    for split, rows in (("train", train), ("validation", validation)):
        files[split] = str(folder / f"{split}.parquet")
        Dataset.from_list(rows).to_parquet(files[split])
    return {"path": "parquet", "data_files": files}

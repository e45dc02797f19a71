"""Tiny classifiers of tokens, and words that they tag: some words are one token, some are two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForTokenClassification, PreTrainedTokenizerFast

from tests.data.conftest import words_of
from tests.families import NO_DROPOUT

STEMS = [f"w{index}" for index in range(24)]
WORDS = [*STEMS, *(f"{stem}s" for stem in STEMS[:8])]
"""The last eight are two tokens each: `w3s` is `w3` and `##s`."""
LABELS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def tokenizer() -> PreTrainedTokenizerFast:
    made = words_of(*STEMS, "##s")
    made.model_max_length = 32
    return made


def tagger(seed: int = 0, labels: tuple[str, ...] = LABELS, blocks: int = 2) -> BertForTokenClassification:
    """A classifier whose answers depend on the words around a token, too."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=2,
        num_hidden_layers=blocks,
        max_position_embeddings=32,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        **NO_DROPOUT,
    )
    model = BertForTokenClassification(config).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(15)
    return model


def saved(model: Any, folder: Path) -> str:
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return str(folder)


def sentences(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Lists of words with tags by name; about one word in six has none if tags are numbers (`numbered`)."""
    generator = torch.Generator().manual_seed(seed)
    rows: list[dict[str, Any]] = []
    for _ in range(count):
        length = int(torch.randint(3, 9, (1,), generator=generator))
        words, tags = (torch.randint(len(of), (length,), generator=generator) for of in (WORDS, LABELS))
        rows.append({"tokens": [WORDS[one] for one in words], "ner": [LABELS[one] for one in tags]})
    return rows


def numbered(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with numbers for tags, -100 for every sixth."""
    return [
        {
            **row,
            "ner": [-100 if (place + index) % 6 == 5 else LABELS.index(tag) for place, tag in enumerate(row["ner"])],
        }
        for index, row in enumerate(rows)
    ]


def written(rows: list[dict[str, Any]], file: Path) -> str:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(file)

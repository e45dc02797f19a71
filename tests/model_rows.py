"""Rows and batches for the model classes, with a tokenizer of fifty words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor

from iit_toolkit.data.collate import CausalLanguageCollator, ClassificationCollator, MaskedLanguageCollator
from tests.model_classes import VOCABULARY, ModelClass


def rows_of(made: ModelClass) -> list[dict[str, Any]]:
    """Return twelve rows of different lengths, each with one token at its end; or pictures."""
    generator = torch.Generator().manual_seed(1)
    rows: list[dict[str, Any]] = []
    for number in range(12):
        row: dict[str, Any] = {"example_id": number, "text_id": number, "label": number % 3}
        if made.rows == "pixels":
            row["pixel_values"] = torch.randn(3, 12, 12, generator=generator)
        else:
            length = (9, 5, 7, 4)[number % 4]
            row["input_ids"] = [1 - made.padding, *torch.randint(5, VOCABULARY, (length,), generator=generator), 2]
            row["input_ids"] = [int(token) for token in row["input_ids"]]
        rows.append(row)
    return rows


def collator_of(made: ModelClass) -> Callable[[Any], dict[str, Tensor]]:
    """Return what makes batches of a class's rows, with a tokenizer of fifty words."""
    if made.rows == "pixels":
        return _pictures
    special = ["[PAD]", "[CLS]"] if made.padding == 0 else ["[CLS]", "[PAD]"]
    words = [*special, "[SEP]", "[MASK]", "[UNK]", *(f"w{number}" for number in range(5, VOCABULARY))]
    tokenizer = tf.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]")),
        pad_token="[PAD]",
        cls_token="[CLS]",
        bos_token="[CLS]",
        sep_token="[SEP]",
        eos_token="[SEP]",
        mask_token="[MASK]",
        unk_token="[UNK]",
    )
    if made.task == "masked_lm":
        return MaskedLanguageCollator(tokenizer, probability=0.3)
    return CausalLanguageCollator(tokenizer) if made.task == "causal_lm" else ClassificationCollator(tokenizer)


def _pictures(rows: Any) -> dict[str, Tensor]:
    special = torch.zeros(len(rows), 10, dtype=torch.bool)
    special[:, 0] = True
    return {
        "pixel_values": torch.stack([row["pixel_values"] for row in rows]),
        "labels": torch.tensor([row["label"] for row in rows]),
        "special_tokens_mask": special,
        **{name: torch.tensor([row[name] for row in rows]) for name in ("example_id", "text_id")},
    }

"""CoNLL-2003: a tag for every word, given at its first subword."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import AutoModelForTokenClassification, DataCollatorForTokenClassification, PreTrainedTokenizerBase

from iit_toolkit.data.batch import IGNORE_INDEX
from iit_toolkit.data.tagged import UNSEEN, first_tokens, tags_of_tokens
from iit_toolkit.downstream.prepared import Evaluation, PreparedTask, names_of_classes, tokenized
from iit_toolkit.downstream.scores import Scores, entity_scores

OUTSIDE = "O"


def prepare_entities(
    train: Dataset, evaluated: Mapping[str, Dataset], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> PreparedTask:
    """Make rows of tagged words.

    The first subword of a word has the word's label, everything else none. Words beyond `max_length` are not seen, and
    "O" is predicted for them.

    Args:
        train: Sentences: `tokens`, and `tags` as text. The tags in them are the ones that can be predicted.
        evaluated: Sentences to score on, by split.
        tokenizer: A fast tokenizer.
        max_length: Tokens of the longest row, special tokens included.
    """
    names = sorted({tag for tags in train["tags"] for tag in tags})
    numbers = {name: number for number, name in enumerate(names)}

    def tokenize(batch: Mapping[str, list[Any]]) -> dict[str, Any]:
        encoded = tokenizer(batch["tokens"], is_split_into_words=True, truncation=True, max_length=max_length)
        labels: list[list[int]] = []
        first_subwords: list[list[int]] = []
        for index, tags in enumerate(batch["tags"]):
            words = encoded.word_ids(index)
            labels.append(tags_of_tokens(words, [numbers.get(tag, IGNORE_INDEX) for tag in tags]))
            first_subwords.append(first_tokens(words, len(tags)))
        return {**encoded, "labels": labels, "first_subwords": first_subwords}

    def evaluation(examples: Dataset) -> Evaluation:
        rows = tokenized(examples, tokenize)
        gold: list[list[str]] = list(examples["tags"])
        first_subwords: list[list[int]] = list(rows["first_subwords"])

        def score(logits: np.ndarray) -> Scores:
            predicted = [
                [OUTSIDE if position == UNSEEN else names[best[position]] for position in first]
                for best, first in zip(logits.argmax(-1), first_subwords, strict=True)
            ]
            return entity_scores(gold, predicted)

        return Evaluation(rows, score)

    return PreparedTask(
        AutoModelForTokenClassification,
        tokenized(train, tokenize),
        {split: evaluation(examples) for split, examples in evaluated.items()},
        tokenizer,
        DataCollatorForTokenClassification(tokenizer),
        names_of_classes(names),
    )

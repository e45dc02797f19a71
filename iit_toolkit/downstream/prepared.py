"""A task as the trainer needs it, of whatever kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from iit_toolkit.downstream.scores import Scores
from iit_toolkit.errors import UserError, one_line


@dataclass(frozen=True)
class Evaluation:
    """Inputs to score a model on.

    Attributes:
        rows: What the model reads.
        score: The scores of the model's answers, as `Trainer.predict` returns them for the rows.
    """

    rows: Dataset
    score: Callable[[Any], Scores]


@dataclass(frozen=True)
class PreparedTask:
    """What to train on, what to score on, and what head a model needs for it.

    Attributes:
        auto_class: Loads a model with that head.
        train: Rows with labels.
        evaluations: Inputs to score on, by split.
        tokenizer: What made the rows.
        collator: Makes batches of rows.
        head: What the model's config says of the head, such as the number of classes.
        logits: How many tensors of logits the head gives; whatever else a model returns is not scored.
    """

    auto_class: Any
    train: Dataset
    evaluations: dict[str, Evaluation]
    tokenizer: PreTrainedTokenizerBase
    collator: Callable[..., Any]
    head: dict[str, Any] = field(default_factory=dict[str, Any])
    logits: int = 1

    def only_logits(self, outputs: Any, _labels: Any = None) -> Any:
        """Return the logits of what a model returned: a tensor, or a tuple of several."""
        if not isinstance(outputs, tuple | list):
            return outputs
        some = tuple(cast(Sequence[Any], outputs)[: self.logits])
        return some[0] if self.logits == 1 else some


def names_of_classes(names: list[str]) -> dict[str, Any]:
    """Return what a model's config says of named classes."""
    numbers = {name: number for number, name in enumerate(names)}
    return {"num_labels": len(names), "id2label": dict(enumerate(names)), "label2id": numbers}


def tokenized(examples: Dataset, function: Callable[..., Any], *, with_indices: bool = False) -> Dataset:
    """Apply a function to batches of examples and keep what it returns in memory, not in a cache.

    Raises:
        UserError: If the function cannot take an example, naming the first such one.
    """

    def run(batch: Any, indices: list[int]) -> Any:
        return function(batch, indices) if with_indices else function(batch)

    def named(batch: Any, indices: list[int]) -> Any:
        try:
            return run(batch, indices)
        except MemoryError:
            raise
        except Exception as error:  # tokenizers raises no class of its own
            number, said = indices[0], error
            for place, index in enumerate(indices):
                try:
                    run({key: values[place : place + 1] for key, values in batch.items()}, [index])
                except Exception as its_own:
                    number, said = index, its_own
                    break
            raise UserError(
                f"example {number:,} can't be tokenized ({one_line(said)[:150]}); give a tokenizer with an unk_token "
                "for what it does not know, or leave that example out"
            ) from None

    return examples.map(
        named,
        with_indices=True,
        batched=True,
        batch_size=500,
        remove_columns=examples.column_names,
        keep_in_memory=True,
        load_from_cache_file=False,
        new_fingerprint="tokenized",  # none is computed: it would hash the tokenizer, and nothing asks for it
    )

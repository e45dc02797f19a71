"""Turns rows of token ids into batches, the masking of tokens included.

Every collator takes rows with `input_ids`, pads them on the right to the longest, and returns

* `input_ids`, `attention_mask`: (B, S) int64,
* `special_tokens_mask`: (B, S) bool, true for special tokens and for padding: these are never masked or
  swapped,
* `labels`, and `example_id` and `text_id` (B,) int64 if the rows have them,
* `token_type_ids` (B, S) int64 if the rows have them: which of two sentences a token is of.

For rows that are pairs (`iit_toolkit.data.pairs`) it also returns

* `source_input_ids`, `source_attention_mask`, `source_special_tokens_mask`, `source_example_id`, `source_text_id` and
  `source_token_type_ids`: row i is the source of base row i; S is the same; in language modelling also `source_labels`,
* `swapped` (B, S) bool, true at the base's swapped positions, and `swapped_from` (B, S) int64, the source position
  that is taken there.

Pairs that are questions are predicted at their answers, and nowhere else. Those with candidates have `candidates`
(B, K) int64, tokens and -100 after them.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from iit_toolkit.config.task import Task, refuse_unknown_task
from iit_toolkit.data.batch import IGNORE_INDEX, Collator
from iit_toolkit.data.encoding import known_ids
from iit_toolkit.data.sentences import TYPES
from iit_toolkit.data.special_tokens import SpecialTokens, Wrapping
from iit_toolkit.errors import NothingToPredictError, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Rows = Sequence[Mapping[str, Any]]
_COLUMNS = (TYPES, "example_id", "text_id")
"""What rows may have beside tokens, and all of them if one has it."""


class MaskedLanguageCollator:
    """Masks tokens for masked language modelling, as BERT does.

    Of the batch's ordinary tokens, `round(probability * count)` and at least one are chosen. Of these 80%
    become the mask token, 10% a random ordinary token, and 10% stay; `labels` holds their ids, and -100
    elsewhere.

    In pairs, the share is taken of the tokens outside the swapped ones, row by row, and at least one of each row. If
    the source has the same token at the same position, it changes alike. So base and source still differ in the
    swapped words only.

    In pairs that are questions, the answers are chosen. The mask token stands for each, in base and source.

    The masks are a pure function of the seed and the batch: resumed runs and runs that are compared see the
    same ones, whatever other random numbers were drawn. A batch with the same rows is masked as before; the
    shuffling between epochs brings new masks.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        probability: float = 0.15,
        smoothing: float | None = None,
        token_counts: Tensor | None = None,
        seed: int = 42,
    ) -> None:
        """Prepare the draws.

        Args:
            tokenizer: Must have a mask token.
            probability: Share of the ordinary tokens that is chosen.
            smoothing: Draw tokens in proportion to `max(count, 1) ** -smoothing`, so that rare ones are
                chosen more often (the paper's code: 0.7); None draws all alike.
            token_counts: (V,) count of each token in the training data; needed for smoothing.
            seed: Seed of the masks.

        Raises:
            UserError: If the tokenizer has no mask token, or smoothing no counts.
        """
        special = SpecialTokens.of(tokenizer)
        if special.mask is None:
            raise UserError(
                f"tokenizer {tokenizer.name_or_path} has no mask token: use task causal_lm, or another model"
            )
        if smoothing is not None and token_counts is None:
            raise UserError("mlm.smoothing needs the counts of the tokens in the training data")
        self._special = special
        self._mask = special.mask
        self._probability = probability
        self._seed = seed
        self._ordinary = torch.tensor(sorted(set(known_ids(tokenizer)) - set(special.every) - set(_added(special))))
        self._weights: Tensor | None = None
        if smoothing is not None and token_counts is not None:
            self._weights = token_counts.clamp(min=1).double() ** -smoothing

    def __call__(self, rows: Rows) -> dict[str, Tensor]:
        """Make a batch; `labels` are (B, S).

        Raises:
            UserError: If the batch holds no ordinary token.
        """
        batch = _pad(rows, self._special)
        if "answers" in rows[0]:
            return _asked(batch, rows, self._mask)
        ids = batch["input_ids"]
        ordinary, generator = ~batch["special_tokens_mask"], self._generator(ids)
        if "swapped" in batch:
            outside = zip(ids.split(1), (ordinary & ~batch["swapped"]).split(1), strict=True)
            chosen = torch.cat([self._choose(*row, generator) for row in outside])
        else:
            chosen = self._choose(ids, ordinary, generator)
        original = ids[chosen]
        batch["labels"] = torch.full_like(ids, IGNORE_INDEX).masked_scatter_(chosen, original)
        batch["input_ids"] = ids.masked_scatter(chosen, self._corrupt(original, generator))
        if "source_input_ids" in batch:
            source = batch["source_input_ids"]
            alike = chosen & (source == ids)
            batch["source_labels"] = source.masked_fill(~alike, IGNORE_INDEX)
            batch["source_input_ids"] = torch.where(alike, batch["input_ids"], source)
        return batch

    def _generator(self, ids: Tensor) -> torch.Generator:
        seed = zlib.crc32(ids.numpy().tobytes(), zlib.crc32(str(self._seed).encode()))
        return torch.Generator().manual_seed(seed)

    def _choose(self, ids: Tensor, ordinary: Tensor, generator: torch.Generator) -> Tensor:
        """Return the tokens to predict: (B, S) bool."""
        places = ordinary.flatten().nonzero().squeeze(1)
        if not len(places):
            raise NothingToPredictError("a batch holds no token but special ones: nothing can be masked")
        tokens = ids.flatten()[places]
        weights = torch.ones(len(tokens)) if self._weights is None else self._weights[tokens]
        count = max(1, round(self._probability * len(tokens)))
        drawn = torch.multinomial(weights, count, generator=generator)
        chosen = torch.zeros(ids.numel(), dtype=torch.bool)
        chosen[places[drawn]] = True
        return chosen.view_as(ids)

    def _corrupt(self, original: Tensor, generator: torch.Generator) -> Tensor:
        """Return what the chosen tokens become: (N,)."""
        share = torch.rand(len(original), generator=generator)
        other = self._ordinary[torch.randint(len(self._ordinary), (len(original),), generator=generator)]
        corrupted = torch.where(share < 0.9, other, original)
        return corrupted.masked_fill(share < 0.8, self._mask)


class CausalLanguageCollator:
    """Makes batches for causal language modelling.

    `labels` (B, S) are the input ids themselves, with -100 at padding. They are not shifted: the label of
    position p is the token at p, which the logits of p - 1 predict. The loss has to shift, as those of
    transformers do. In pairs that are questions, only the answers have labels.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take the teacher's tokenizer."""
        self._special = SpecialTokens.of(tokenizer)

    def __call__(self, rows: Rows) -> dict[str, Tensor]:
        """Make a batch."""
        batch = _pad(rows, self._special)
        if "answers" in rows[0]:
            return _asked(batch, rows, None)
        for side in ("", "source_") if "source_input_ids" in batch else ("",):
            padding = batch[f"{side}attention_mask"] == 0
            batch[f"{side}labels"] = batch[f"{side}input_ids"].masked_fill(padding, IGNORE_INDEX)
        return batch


class ClassificationCollator:
    """Makes batches for sequence classification from rows with a `label`; `labels` are (B,) int64."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take the teacher's tokenizer."""
        self._special = SpecialTokens.of(tokenizer)

    def __call__(self, rows: Rows) -> dict[str, Tensor]:
        """Make a batch."""
        batch = _pad(rows, self._special)
        batch["labels"] = torch.tensor([row["label"] for row in rows])
        return batch


class TokenClassificationCollator:
    """Makes batches for token classification from rows with `tags`; `labels` are (B, S), -100 where there is no tag."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take the teacher's tokenizer."""
        self._special = SpecialTokens.of(tokenizer)

    def __call__(self, rows: Rows) -> dict[str, Tensor]:
        """Make a batch."""
        batch = _pad(rows, self._special)
        labels = torch.full_like(batch["input_ids"], IGNORE_INDEX)
        for index, row in enumerate(rows):
            labels[index, : len(row["tags"])] = torch.as_tensor(row["tags"])
        return {**batch, "labels": labels}


_COLLATORS = {
    "causal_lm": CausalLanguageCollator,
    "sequence_classification": ClassificationCollator,
    "token_classification": TokenClassificationCollator,
}


def collator_for(task: Task, tokenizer: PreTrainedTokenizerBase, seed: int = 42) -> Collator:
    """Return the collator of a task, with its defaults.

    Args:
        task: What the models are trained for.
        tokenizer: The teacher's.
        seed: Seed of the masks of `masked_lm`.

    Raises:
        UserError: If there is no such task, or the tokenizer lacks what it needs.
    """
    refuse_unknown_task(task, "task")
    if task == "masked_lm":
        return MaskedLanguageCollator(tokenizer, seed=seed)
    return _COLLATORS[task](tokenizer)


def _pad(rows: Rows, special: SpecialTokens) -> dict[str, Tensor]:
    """Pad rows to the longest; in pairs, bases and sources alike."""
    if "source_input_ids" not in rows[0]:
        return _padded(rows, special, max(len(row["input_ids"]) for row in rows))
    names = ("input_ids", *_COLUMNS)
    sources = [{name: row[f"source_{name}"] for name in names if f"source_{name}" in row} for row in rows]
    longest = max(len(row["input_ids"]) for row in (*rows, *sources))
    batch = _padded(rows, special, longest)
    batch |= {f"source_{name}": value for name, value in _padded(sources, special, longest).items()}
    batch["swapped"] = torch.zeros_like(batch["special_tokens_mask"])
    batch["swapped_from"] = torch.zeros_like(batch["input_ids"])
    for index, row in enumerate(rows):
        batch["swapped"][index, row["positions"]] = True
        batch["swapped_from"][index, row["positions"]] = torch.as_tensor(row["source_positions"])
    return batch


def _asked(batch: dict[str, Tensor], rows: Rows, mask: int | None) -> dict[str, Tensor]:
    """Label the answers of questions, and hide them behind the mask token if there is one."""
    for name in ("", "source_"):
        ids = batch[f"{name}input_ids"]
        chosen = torch.zeros_like(ids, dtype=torch.bool)
        for index, row in enumerate(rows):
            chosen[index, row[f"{name}answers"]] = True
        batch[f"{name}labels"] = ids.masked_fill(~chosen, IGNORE_INDEX)
        if mask is not None:
            batch[f"{name}input_ids"] = ids.masked_fill(chosen, mask)
    if "candidates" in rows[0]:
        candidates = [torch.as_tensor(row["candidates"], dtype=torch.long) for row in rows]
        batch["candidates"] = pad_sequence(candidates, batch_first=True, padding_value=IGNORE_INDEX)
    return batch


def _padded(rows: Rows, special: SpecialTokens, longest: int) -> dict[str, Tensor]:
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    ids = torch.full((len(rows), longest), special.pad)
    for index, row in enumerate(rows):
        given = torch.as_tensor(row["input_ids"])
        if given.is_floating_point() and len(given):
            raise UserError(f"input_ids hold {float(given[0])}, which is no integer; give tokens as integers")
        ids[index, : len(given)] = given
    real = torch.arange(ids.shape[1]) < lengths[:, None]
    excluded = torch.isin(ids, torch.tensor(special.every, dtype=torch.long)) | ~real
    if _added(special):
        _exclude_wrapping(excluded, ids, lengths, special.wrapping)
    batch = {"input_ids": ids, "attention_mask": real.long(), "special_tokens_mask": excluded}
    for name in _COLUMNS:
        if not any(name in row for row in rows):
            continue
        if not all(name in row for row in rows):
            raise UserError(f"some rows have `{name}`, and others have none; give it to all rows, or to none")
        if name == TYPES:
            types = torch.zeros_like(ids)
            for index, row in enumerate(rows):
                types[index, : len(row[name])] = torch.as_tensor(row[name])
            batch[name] = types
        else:
            batch[name] = torch.tensor([row[name] for row in rows])
    return batch


def _added(special: SpecialTokens) -> tuple[int, ...]:
    """Return the tokens that wrap a text and are not registered as special."""
    return tuple({*special.wrapping.prefix, *special.wrapping.suffix}.difference(special.every))


def _exclude_wrapping(excluded: Tensor, ids: Tensor, lengths: Tensor, wrapping: Wrapping) -> None:
    """Exclude the tokens of the wrapping at a row's ends; the same ones inside a text are ordinary."""
    prefix, suffix = (torch.tensor(side, dtype=torch.long) for side in (wrapping.prefix, wrapping.suffix))
    for row, length in enumerate(lengths.tolist()):
        if length >= len(wrapping):
            begin, end = slice(0, len(prefix)), slice(length - len(suffix), length)
            excluded[row, begin] |= ids[row, begin] == prefix
            excluded[row, end] |= ids[row, end] == suffix

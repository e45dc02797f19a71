"""SQuAD v1.1: contexts in overlapping windows, answers as spans of their tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import AutoModelForQuestionAnswering, DataCollatorWithPadding, PreTrainedTokenizerBase

from iit_toolkit.downstream.prepared import Evaluation, PreparedTask, tokenized
from iit_toolkit.downstream.scores import Scores, answer_scores
from iit_toolkit.errors import UserError

BEST = 20
"""Starts and ends of each window that are looked at, as in BERT's code."""
MAX_ANSWER_TOKENS = 30
NO_ANSWER_HERE = 0
"""Position that a window without the whole answer points to: its first token."""


def require_windows(examples: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, doc_stride: int) -> None:
    """Check that every question leaves room for windows that are longer than their overlap.

    Raises:
        UserError: If one does not.
    """
    questions = tokenizer([question.lstrip() for question in examples["question"]], add_special_tokens=False)
    longest = max(len(ids) for ids in questions["input_ids"])
    room = max_length - longest - tokenizer.num_special_tokens_to_add(pair=True)
    if room <= doc_stride:
        raise UserError(
            f"tasks.squad: max_length {max_length} leaves {max(room, 0)} tokens of context for the longest question "
            f"({longest} tokens), and windows must be longer than doc_stride {doc_stride}; raise one or lower the other"
        )


def prepare_question_answering(
    train: Dataset,
    evaluated: Mapping[str, Dataset],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    doc_stride: int,
) -> PreparedTask:
    """Make rows of questions and windows of their contexts.

    Args:
        train: Examples: `question`, `context`, and `answers` with `text` and `answer_start`.
        evaluated: Examples to score on, by split.
        tokenizer: A fast tokenizer.
        max_length: Tokens of the longest row: question, window and special tokens.
        doc_stride: Tokens by which the windows of a context overlap; see `require_windows`.
    """

    def windows(batch: Mapping[str, list[Any]]) -> Any:
        return tokenizer(
            [question.lstrip() for question in batch["question"]],  # some begin with much blank space
            batch["context"],
            truncation="only_second",
            max_length=max_length,
            stride=doc_stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )

    def tokenize_train(batch: Mapping[str, list[Any]]) -> dict[str, Any]:
        encoded = windows(batch)
        starts: list[int] = []
        ends: list[int] = []
        for row, example in enumerate(encoded.pop("overflow_to_sample_mapping")):
            answers = batch["answers"][example]
            begin: int = answers["answer_start"][0]
            offsets = context_offsets(encoded, row)
            first, last = answer_tokens(offsets, begin, begin + len(answers["text"][0]))
            starts.append(first)
            ends.append(last)
        encoded.pop("offset_mapping")
        return {**encoded, "start_positions": starts, "end_positions": ends}

    def tokenize_evaluated(batch: Mapping[str, list[Any]], indices: list[int]) -> dict[str, Any]:
        encoded = windows(batch)
        offsets = [context_offsets(encoded, row) for row in range(len(encoded["input_ids"]))]
        encoded.pop("offset_mapping")
        example = [indices[index] for index in encoded.pop("overflow_to_sample_mapping")]
        return {**encoded, "offsets": offsets, "example": example}

    def evaluation(examples: Dataset) -> Evaluation:
        rows = tokenized(examples, tokenize_evaluated, with_indices=True)
        true = [answers["text"] for answers in examples["answers"]]

        def score(logits: tuple[np.ndarray, np.ndarray]) -> Scores:
            return answer_scores(true, best_answers(list(examples["context"]), rows, *logits))

        return Evaluation(rows, score)

    return PreparedTask(
        AutoModelForQuestionAnswering,
        tokenized(train, tokenize_train),
        {split: evaluation(examples) for split, examples in evaluated.items()},
        tokenizer,
        DataCollatorWithPadding(tokenizer),
        logits=2,
    )


def context_offsets(encoded: Any, row: int) -> list[list[int]]:
    """Return where each token of a row is in the context: [start, end] in characters; [-1, -1] for other tokens."""
    spans = zip(encoded["offset_mapping"][row], encoded.sequence_ids(row), strict=True)
    return [list(span) if sequence == 1 else [-1, -1] for span, sequence in spans]


def answer_tokens(offsets: list[list[int]], begin: int, end: int) -> tuple[int, int]:
    """Return the first and last token of the characters from `begin` to before `end`.

    Both are the first token of the row if the window does not hold all these characters.
    """
    window = [(token, start, stop) for token, (start, stop) in enumerate(offsets) if start >= 0]
    inside = [token for token, start, stop in window if start < end and stop > begin]
    if not inside or window[0][1] > begin or window[-1][2] < end:
        return NO_ANSWER_HERE, NO_ANSWER_HERE
    return inside[0], inside[-1]


def best_answers(contexts: list[str], rows: Dataset, starts: np.ndarray, ends: np.ndarray) -> list[str]:
    """Read the answer to every question from the logits of all windows of its context.

    In each window, the 20 best starts are paired with the 20 best ends. A pair counts if its tokens are of the context,
    in order, and at most 30. The one with the largest sum of logits is the answer, in the letters of the context.

    Args:
        contexts: The context of every example.
        rows: One row per window, with `example` and `offsets`, as `prepare_question_answering` makes them.
        starts: (windows, S) logits of the first token; what lies beyond a row's tokens is ignored.
        ends: (windows, S) logits of the last token.

    Returns:
        One answer per example, empty if no pair counts.
    """
    answers = [""] * len(contexts)
    scores = np.full(len(contexts), -np.inf)
    for row, (example, offsets) in enumerate(zip(rows["example"], rows["offsets"], strict=True)):
        score, first, last = _best_span(np.asarray(offsets), starts[row], ends[row])
        if score > scores[example]:
            scores[example] = score
            answers[example] = contexts[example][offsets[first][0] : offsets[last][1]]
    return answers


def _best_span(offsets: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> tuple[float, int, int]:
    """Return (score, first token, last token); the score is -inf if no span counts."""
    first = np.argsort(-starts[: len(offsets)], kind="stable")[:BEST]
    last = np.argsort(-ends[: len(offsets)], kind="stable")[:BEST]
    tokens = last[None] - first[:, None] + 1
    counts = (tokens >= 1) & (tokens <= MAX_ANSWER_TOKENS)
    counts &= (offsets[first, 0] >= 0)[:, None] & (offsets[last, 0] >= 0)[None]
    sums = np.where(counts, starts[first][:, None] + ends[last][None], -np.inf)
    one, other = np.unravel_index(sums.argmax(), sums.shape)
    return float(sums[one, other]), int(first[one]), int(last[other])

"""The texts of a verification, written beside its outcomes for the report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from iit_toolkit.analysis.report.examples import Answers, write_answers, write_examples
from iit_toolkit.analysis.statistics.outcomes import NO_GOLD
from iit_toolkit.analysis.verification.verify import Verification
from iit_toolkit.config.task import FACTS
from iit_toolkit.data.encoding import ids_spanned
from iit_toolkit.data.tables import numbers_of
from iit_toolkit.data.tokenization import count_tokens
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.runs.folder import RunFolder

_ANSWERS = ["gold", "teacher_base", "teacher_cf", "student_base", "student_cf"]


def write_texts(
    prepared: Prepared, folder: RunFolder, verification: Verification, counted_in: str, counted: Dataset
) -> None:
    """Write `examples.parquet` and `answers.parquet`.

    Args:
        prepared: Gives tokenizer, task and the teacher's labels.
        folder: The run folder.
        verification: What was verified.
        counted_in: The split whose tokens are counted.
        counted: Its rows.
    """
    tokenizer = prepared.tokenizer
    write_read_examples(folder, verification, tokenizer, _families(prepared.eval_rows))
    answers = answer_ids(verification)
    if FACTS[prepared.config.task].classes:
        write_answers(Answers(class_texts(prepared.teacher, answers), {}, counted_in), folder.answers)
        return
    counts = count_tokens(counted, max(ids_spanned(tokenizer), max(answers) + 1))
    per_million = (counts.double() / max(1, int(counts.sum())) * 1e6).tolist()
    frequencies = {number: per_million[number] for number in answers}
    write_answers(Answers(token_texts(tokenizer, answers), frequencies, counted_in), folder.answers)


def write_read_examples(
    folder: RunFolder,
    verification: Verification,
    tokenizer: PreTrainedTokenizerBase,
    families: Mapping[int, str],
) -> None:
    """Write `examples.parquet`: every example with its tokens as texts, and its family if it has one."""
    examples = verification.examples
    lists = ["base_tokens", "source_tokens"]
    used = np.unique(np.concatenate([np.concatenate(examples[name].to_list()) for name in lists]))
    read = token_texts(tokenizer, used.tolist())
    spelt = {name: [[read[token] for token in row.tolist()] for row in examples[name]] for name in lists}
    write_examples(examples.assign(**spelt, family=examples["base"].map(families.get)), folder.examples)


def answer_ids(verification: Verification) -> list[int]:
    """Return the numbers of all answers that were given or right."""
    numbers = np.unique(verification.outcomes[_ANSWERS].to_numpy())
    return numbers[numbers != NO_GOLD].tolist()


def class_texts(teacher: PreTrainedModel, answers: Iterable[int]) -> dict[int, str]:
    """Return what classes are called."""
    labels = cast(dict[int, str], teacher.config.id2label)
    return {number: str(labels[number]) for number in answers}


def _families(rows: Dataset) -> dict[int, str]:
    """Return the kind of each pair by its number; none if the data do not say."""
    if "family" not in rows.column_names:
        return {}
    return dict(zip(numbers_of(rows, "example_id").tolist(), rows["family"], strict=True))


def token_texts(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> dict[int, str]:
    """Return what each token adds to a text that it continues, the space before a word included.

    Tokenizers mark the beginnings or the ends of words in ways of their own; what they have in common is how they
    decode.
    """
    first = tokenizer.encode("a", add_special_tokens=False)[-1]

    def decoded(ids: list[int]) -> str:
        return str(cast(Any, tokenizer).decode(ids, clean_up_tokenization_spaces=False))

    before = decoded([first])
    return {token: decoded([first, token]).removeprefix(before) for token in tokens}

"""What a minimal pair with a question is, and a dataset of such pairs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from datasets import Dataset

Span = tuple[int, int]
"""Characters from the first to before the second."""


@dataclass(frozen=True)
class PairRow:
    """A base, a source that differs from it in the swapped words, and the word that is asked for.

    Outside the swapped words, the two sentences differ at most in the answer.

    Attributes:
        text: The base, complete, with its answer in it.
        source: The source, complete, with its answer in it.
        span: Where the swapped words stand in the base.
        source_span: Where they stand in the source.
        answer: Where the word stands in the base that is asked for.
        source_answer: Where it stands in the source.
        candidates: The words between which the question decides; the base's answer is one of them.
        family: Name of the family.
        template: Name of the template.
        words: The words of the lexicon that the pair was made of.
        split: `train`, `words` (held-out words) or `templates` (held-out words in held-out templates).
    """

    text: str
    source: str
    span: Span
    source_span: Span
    answer: Span
    source_answer: Span
    candidates: tuple[str, ...]
    family: str
    template: str
    words: tuple[str, ...]
    split: str

    @property
    def answer_word(self) -> str:
        """The base's answer."""
        return self.text[slice(*self.answer)]

    @property
    def source_answer_word(self) -> str:
        """The source's answer."""
        return self.source[slice(*self.source_answer)]

    @property
    def flips(self) -> bool:
        """Whether the swap changes the right answer."""
        return self.answer_word != self.source_answer_word


def to_dataset(rows: Iterable[PairRow]) -> Dataset:
    """Make a dataset of pairs, with a column for each attribute of a pair."""
    columns = [one.name for one in fields(PairRow)]
    made = [asdict(row) for row in rows]
    return Dataset.from_dict({name: [row[name] for row in made] for name in columns})

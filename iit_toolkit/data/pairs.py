"""Turns pairs of base and source texts into rows of token ids with the positions that are swapped."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from datasets import Dataset
from numpy.typing import NDArray

from iit_toolkit.data.batch import IGNORE_INDEX
from iit_toolkit.data.candidates import candidate_tokens
from iit_toolkit.data.pair_places import TokenizedText, Unusable, answer_places, answer_span, swapped_places
from iit_toolkit.data.sentences import TYPES, encoded_sentences, has_two, of_row
from iit_toolkit.data.shared import DIGEST, text_digest
from iit_toolkit.data.special_tokens import SpecialTokens
from iit_toolkit.data.tables import dataset_of, gathered
from iit_toolkit.data.tagged import NO_WORD, encoded_words, tags_of_tokens
from iit_toolkit.data.tokenization import checked_labels, require_max_length
from iit_toolkit.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class PairedRows:
    """What `tokenize_pairs` returns.

    Attributes:
        rows: The pairs that can be used.
        skipped: How many cannot, by reason.
        unchosen: How many questions have candidates between which no model can choose, so that they have none.
        unlisted: How many questions have an answer that is none of their candidates.
    """

    rows: Dataset
    skipped: dict[str, int]
    unchosen: int
    unlisted: int


def tokenize_pairs(
    texts: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    causal: bool = False,
    position_limit: int | None = None,
    where: str = "data",
) -> PairedRows:
    """Tokenize pairs and find the positions whose activations are swapped between them.

    Without spans, these are the tokens of the words in which the two texts differ, and both texts must have the same
    number of tokens. With spans, they are the tokens that touch the span of each text, as many in both.

    Rows are not packed, and wrapped as `tokenizer(text)` wraps a text. A pair that cannot be used is skipped. Such a
    pair does not align, is longer than `max_length`, lacks a text, or swaps an unknown or no token. Or it leaves no
    token whose answer could differ: outside the swapped ones or, for a causal model, after the first of them.

    Texts with answers are questions: the answer's tokens are what is predicted, and no others. Of a causal model it is
    the answer's first token, since the answer itself gives away the rest.

    Args:
        texts: Columns `text` (the bases) and `source`. Optionally: `text_pair` and `source_pair`, the second sentences
            of both; `span` and `source_span`, each `[start, end)` in
            characters; `label`, the base's; `tags`, the number of every word of the base, whereupon `text` and `source`
            are lists of words (`numbered_tags`); `family`, what kind a pair is of; `answer` and `source_answer`, each
            `[start, end)` or a word that its text has once. Without `source_answer`, the source's stands at the base's
            positions; pairs of unequally many tokens are then left out. `candidates`: the words between which a
            question decides.
        tokenizer: The teacher's tokenizer, a fast one.
        max_length: Tokens of the longest row, special tokens included.
        causal: The pairs are for a model that reads from left to right.
        position_limit: Longest input of the model, if the tokenizer doesn't know it.
        where: What messages call the pairs.

    Returns:
        Rows of `input_ids` and `source_input_ids`, `positions` and `source_positions` (as many; the k-th of the source
        goes to the k-th of the base), `example_id` and `source_example_id` (all different), `text_id` and
        `source_text_id` (alike if the texts are), `label` and `family` if the texts have them, `tags` of the base's
        tokens as `tokenize_tagged` gives them, and `answers` and
        `source_answers` if they are questions: the positions of the answers' tokens. Questions with candidates have
        `candidates`, as `candidate_tokens` says. Rows of two sentences have `token_type_ids` and
        `source_token_type_ids` if the tokenizer gives them.

    Raises:
        UserError: If the tokenizer is not a fast one, or `max_length` is too small or too large. If a label is missing
            or negative, or no pair can be used. As for `encoded_sentences`.
    """
    if not tokenizer.is_fast:
        raise UserError(
            f"tokenizer {tokenizer.name_or_path} does not say which characters a token stands for, so pairs can't be "
            "aligned; give a teacher with a fast tokenizer (tokenizer.json)"
        )
    require_max_length(max_length, tokenizer, position_limit)
    labels = checked_labels(texts, where) if "label" in texts.column_names else None
    asks, chooses, families = (name in texts.column_names for name in ("answer", "candidates", "family"))
    typed, tagged = has_two(texts) and TYPES in tokenizer.model_input_names, "tags" in texts.column_names
    found = _Found(tokenizer, max_length, causal, labels, asks, asks and chooses, families, typed, tagged)
    table = gathered(found.batches(texts), found.schema)
    if not len(table):
        raise UserError(f"{where}: none of {len(texts)} pairs of base and source can be used; {found.first}; {_REMEDY}")
    base, source = _numbered(found.texts).reshape(-1, 2).T
    added = {"text_id": base, "source_text_id": source, "source_example_id": np.arange(len(table), 2 * len(table))}
    for name, column in added.items():
        table = table.append_column(name, pa.array(column, pa.int64()))
    return PairedRows(dataset_of(table), dict(found.skipped), found.unchosen, found.unlisted)


@dataclass
class _Found:
    """The pairs that can be used, found batch by batch, with what is to be said about all; see `tokenize_pairs`."""

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    causal: bool
    labels: NDArray[np.int64] | None
    asks: bool
    chooses: bool
    families: bool
    typed: bool
    tagged: bool
    skipped: Counter[str] = field(default_factory=Counter[str])
    unchosen: int = 0
    unlisted: int = 0
    first: str = ""
    texts: array[int] = field(default_factory=lambda: array("q"))

    def batches(self, texts: Dataset) -> Iterator[Any]:
        """Record batches of rows, without the numbers of texts and sources."""
        schema, number = self.schema, 0
        special = SpecialTokens.of(self.tokenizer)
        for start in range(0, len(texts), _PAIRS_AT_A_TIME):
            kept: list[dict[str, Any]] = []
            for row in self._rows(texts[start : start + _PAIRS_AT_A_TIME], start, special):
                kept.append(row | {"example_id": number})
                number += 1
            if self.chooses:
                self._choose(kept)
            yield pa.RecordBatch.from_pylist(kept, schema)

    def _choose(self, rows: list[dict[str, Any]]) -> None:
        """Put tokens in the place of each row's candidates."""
        before, candidates = ([row.pop(name) for row in rows] for name in ("before", "candidates"))
        tokens = candidate_tokens(self.tokenizer, before, candidates, causal=self.causal)
        for row, words, one in zip(rows, candidates, tokens, strict=True):
            row["candidates"] = one if len(row["answers"]) == 1 else []
            if words and not row["candidates"]:
                self.unchosen += 1
            elif words and row["input_ids"][row["answers"][0]] not in one:
                self.unlisted += 1

    def _rows(self, some: dict[str, list[Any]], start: int, special: SpecialTokens) -> Iterator[dict[str, Any]]:
        unknown = {*special.every, *special.wrapping.prefix, *special.wrapping.suffix}
        bases, sources = (
            _tokenized_words(some[name], self.tokenizer, start)
            if self.tagged
            else _tokenized(some[name], some.get(f"{name}_pair"), self.tokenizer, start, special)
            for name in ("text", "source")
        )
        for index, (base, source) in enumerate(zip(bases, sources, strict=True), start):
            given = {name: some[name][index - start] for name in _PLACES if name in some}
            try:
                places = self._places(base, source, given, unknown)
                if self.tagged:
                    places |= {"tags": _tags(base, some["tags"][index - start])}
            except Unusable as error:
                self.skipped[error.reason] += 1
                self.first = self.first or f"row {index}: {error}"
                continue
            self.texts.extend(text_digest(side.text, exact=True) for side in (base, source))
            row = {"input_ids": base.ids, "source_input_ids": source.ids, **places}
            row |= {TYPES: base.types, f"source_{TYPES}": source.types} if self.typed else {}
            row |= {"family": some["family"][index - start]} if self.families else {}
            if self.chooses:
                start_of_answer = answer_span(base.text, given["answer"])[0]
                row |= {
                    "before": base.text[:start_of_answer],
                    "candidates": [word or "" for word in some["candidates"][index - start] or []],
                }
            row |= {DIGEST: text_digest(base.text), f"source_{DIGEST}": text_digest(source.text)}
            yield row if self.labels is None else row | {"label": int(self.labels[index])}

    def _places(
        self, base: TokenizedText, source: TokenizedText, given: dict[str, Any], unknown: set[int]
    ) -> dict[str, list[int]]:
        """Return the positions that a row holds."""
        answers, source_answers = self._answers(base, source, given) if self.asks else ([], [])
        spans = (given["span"], given["source_span"]) if "span" in given else None
        positions, source_positions = swapped_places(base, source, spans, {*answers, *source_answers})
        _require_usable(base, positions, self.max_length, unknown)
        _require_usable(source, source_positions, self.max_length, unknown)
        found = {"positions": positions, "source_positions": source_positions}
        if self.asks:
            _require_answered(base, answers, positions, unknown, self.causal)
            return found | {"answers": answers, "source_answers": source_answers}
        if self.labels is None and not self.tagged:
            _require_answers(base, positions, unknown, self.causal)
        return found

    def _answers(
        self, base: TokenizedText, source: TokenizedText, given: dict[str, Any]
    ) -> tuple[list[int], list[int]]:
        answers = answer_places(base, given["answer"])
        if "source_answer" in given:
            source_answers = answer_places(source, given["source_answer"])
        else:
            source_answers = answers
            if "span" in given and len(source.ids) != len(base.ids):
                raise Unusable(
                    "the source has another number of tokens, so its answer may stand elsewhere",
                    " (give `source_answer`, in a config data.source_answer_column)",
                )
        return (answers[:1], source_answers[:1]) if self.causal else (answers, source_answers)

    @property
    def schema(self) -> Any:
        """The columns of rows, without the numbers of texts and sources."""
        lists = ["input_ids", "source_input_ids", "positions", "source_positions"]
        lists += ["answers", "source_answers"] if self.asks else []
        lists += ["tags"] if self.tagged else []
        lists += ["candidates"] if self.chooses else []
        lists += [TYPES, f"source_{TYPES}"] if self.typed else []
        numbers = ("example_id", DIGEST, f"source_{DIGEST}", *(["label"] if self.labels is not None else []))
        columns = [*((name, pa.list_(pa.int32())) for name in lists), *((name, pa.int64()) for name in numbers)]
        return pa.schema([*columns, *([("family", pa.string())] if self.families else [])])


def _numbered(digests: array[int]) -> NDArray[np.int64]:
    """Give texts numbers in the order in which they first occur."""
    _, first, inverse = np.unique(np.frombuffer(digests, np.int64), return_index=True, return_inverse=True)
    return first.argsort().argsort()[inverse]


_PAIRS_AT_A_TIME = 1000
_PLACES = ("span", "source_span", "answer", "source_answer")
_REMEDY = "give pairs that differ in words of as many tokens, or name the swapped characters in span columns"


def _tokenized(
    texts: Sequence[str | None],
    second: Sequence[str | None] | None,
    tokenizer: PreTrainedTokenizerBase,
    first: int,
    special: SpecialTokens,
) -> list[TokenizedText]:
    given = [text or "" for text in texts]
    pairs = None if second is None else [text or "" for text in second]
    numbers = range(first, first + len(given))
    made = encoded_sentences(
        tokenizer, given, pairs, numbers, special, return_offsets_mapping=True, verbose=False
    )  # what wraps has empty ranges
    found: list[TokenizedText] = []
    for index, (ids, offsets) in enumerate(zip(made["input_ids"], made["offset_mapping"], strict=True)):
        places, whole = list(map(tuple, offsets)), given[index]
        if pairs is not None:
            whole = of_row(whole, pairs[index])
            behind = len(whole) - len(pairs[index])
            places = [
                (low + behind, high + behind) if sentence == 1 else (low, high)
                for (low, high), sentence in zip(places, made.sequence_ids(index), strict=True)
            ]
        types = made[TYPES][index] if pairs is not None and TYPES in made else None
        found.append(TokenizedText(whole, ids, places, types))
    return found


def _tokenized_words(
    texts: Sequence[Sequence[str] | None], tokenizer: PreTrainedTokenizerBase, first: int
) -> list[TokenizedText]:
    made = encoded_words(
        tokenizer, texts, range(first, first + len(texts)), return_offsets_mapping=True, verbose=False
    )  # what wraps has empty ranges
    found: list[TokenizedText] = []
    for index, (ids, offsets) in enumerate(zip(made["input_ids"], made["offset_mapping"], strict=True)):
        text, words = list(texts[index] or []), list(made.word_ids(index))
        begins = np.cumsum([0, *(len(word) + 1 for word in text)]).tolist()
        places = [
            (0, 0) if word is None else (begins[word] + low, begins[word] + high)
            for (low, high), word in zip(offsets, words, strict=True)
        ]
        found.append(TokenizedText(" ".join(text), ids, places, words=words))
    return found


def _tags(base: TokenizedText, tags: Sequence[int] | None) -> list[int]:
    assert base.words is not None
    found = tags_of_tokens(base.words, tags or [])
    if set(found) == {IGNORE_INDEX}:
        raise Unusable(NO_WORD)
    return found


def _require_usable(side: TokenizedText, positions: list[int], max_length: int, unknown: set[int]) -> None:
    if not positions:
        raise Unusable("the span holds no token")
    if len(side.ids) > max_length:
        raise Unusable("longer than data.max_length", f" ({len(side.ids)} tokens)")
    if any(side.ids[place] in unknown for place in positions):
        raise Unusable("a swapped token is special or unknown to the tokenizer")


def _require_answers(base: TokenizedText, positions: list[int], unknown: set[int], causal: bool) -> None:
    ordinary = {place for place, token in enumerate(base.ids) if token not in unknown}
    if causal and positions[0] == len(base.ids) - 1:
        raise Unusable("no token follows the swapped ones")
    if not causal and ordinary <= set(positions):
        raise Unusable("no token is outside the swapped ones")


def _require_answered(
    base: TokenizedText, answers: list[int], positions: list[int], unknown: set[int], causal: bool
) -> None:
    if set(answers) & set(positions):
        raise Unusable("the answer is among the swapped words")
    if causal and answers[0] <= positions[0]:
        raise Unusable("the answer stands before the swapped words, so that it cannot feel the swap")
    if any(base.ids[place] in unknown for place in answers):
        raise Unusable("the answer is unknown to the tokenizer")

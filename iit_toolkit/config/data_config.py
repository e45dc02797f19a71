"""The fields of a config's sections of data, and which of them go together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from iit_toolkit.config.section import Positive, Section
from iit_toolkit.errors import listed
from iit_toolkit.files.paths import ARE_PATHS, IS_PATH

Columns = str | Annotated[list[str], Field(min_length=2, max_length=2)]
"""A column of texts, or two of sentences that are read together."""


def columns_of(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns that a key names: one, two or none."""
    if given is None:
        return ()
    return (given,) if isinstance(given, str) else tuple(given)


class DataConfig(Section):
    """What the models read."""

    source: Literal["python_docs", "datasets", "minimal_pairs"] = "datasets"
    """`python_docs`: the documentation of the running Python; `datasets`: whatever `load_dataset` takes;
    `minimal_pairs`: pairs with questions, made from templates. Their splits are train, words (held-out words),
    templates (held-out words in held-out templates), and words+templates."""
    families: Annotated[list[str], Field(min_length=1)] | None = None
    """Families of minimal pairs, such as agreement."""
    eval_families: Annotated[list[str], Field(min_length=1)] | None = None
    """Families of the held-out pairs, if they are others: does what is learned of one family hold for another?"""
    pairs_per_family: Positive = 2000
    """Pairs of each family in a split, at most."""
    path: Annotated[str | None, IS_PATH] = None
    """First argument of `load_dataset`: a builder (`text`, `parquet`, ...) or a Hub id."""
    name: str | None = None
    """Configuration of the data set, such as `wikitext-103-raw-v1`."""
    data_files: Annotated[dict[str, str | list[str]] | str | list[str] | None, ARE_PATHS] = None
    """Files for a builder, by split; relative paths start at the working directory."""
    train_split: str = "train"
    eval_split: str = "validation"
    text_column: Columns = "text"
    """Column of the texts. `[a, b]`: a row is two sentences, which a sequence classifier reads together."""
    label_column: str | None = None
    """Column of integer labels, for sequence classification."""
    tags_column: str | None = None
    """Column of lists of tags, for token classification: one for every word of `text_column`, whose rows are then lists
    of words. Tags are the teacher's labels, by number or by name; the number -100 stands for none."""
    source_column: Columns | None = None
    """Column of source texts: every row is then a pair, with its base in `text_column`. `[c, d]` if that is two."""
    span_column: str | None = None
    """Column of the base's swapped characters, [start, end] with end excluded; null: the words that differ."""
    source_span_column: str | None = None
    """The same of the source."""
    answer_column: str | None = None
    """Column of the answers of pairs, as a word that the base has once, or as [start, end]. Every row is then a
    question: its answer is predicted, and nothing else. A masked LM sees the mask token there, in base and source."""
    source_answer_column: str | None = None
    """The same of the source; null: the answer stands at the same tokens as the base's."""
    candidates_column: str | None = None
    """Column of lists of words: the answers between which a question decides. What models answer among these is
    verified, too."""
    family_column: str | None = None
    """Column of a name for the kind of each pair; the report tells kinds apart."""
    keep: Literal["all", "changed"] = "all"
    """`changed`: keep only questions whose source the teacher answers otherwise than their base."""
    detokenize: Literal["none", "wikitext"] = "none"
    """`wikitext`: undo WikiText's tokenisation and join its lines to articles."""
    max_length: Positive = 128
    """Tokens of the longest row, special tokens included."""
    min_length: Positive = 12
    """Tokens of the shortest row that is kept, special tokens included; the paper's code drops those of 11 and fewer.
    Pairs and labelled rows are kept at any length."""
    packing: bool = True
    """Fill rows across the lines of a document; otherwise every line starts a row of its own."""
    max_train_tokens: Positive | None = None
    max_train_examples: Positive | None = None
    """Train on this many labelled rows: the first of an order that is the same for all numbers and seeds."""
    max_eval_examples: Positive | None = None
    shuffle_eval: bool = True
    """Take held-out rows in a fixed shuffled order; otherwise in their own. Shuffled neighbours, each other's sources,
    come from different texts, the first rows come from many texts, and a sorted split comes mixed."""

    @property
    def two_sentences(self) -> bool:
        """Whether a row is two sentences."""
        return not isinstance(self.text_column, str)

    @property
    def labelled(self) -> bool:
        """Whether a column holds what is right of a row, or of its words."""
        return self.label_column is not None or self.tags_column is not None

    @property
    def place_columns(self) -> dict[str, str]:
        """The columns that say where something stands in the texts of pairs, by what it is."""
        columns = {
            "span": self.span_column,
            "source_span": self.source_span_column,
            "answer": self.answer_column,
            "source_answer": self.source_answer_column,
            "candidates": self.candidates_column,
            "family": self.family_column,
        }
        return {name: column for name, column in columns.items() if column is not None}

    @field_validator("families", "eval_families")
    @classmethod
    def _distinct(cls, given: list[str] | None) -> list[str] | None:
        if given is not None and len(set(given)) < len(given):
            raise ValueError(f"a family is given twice: {listed(given)}")
        return given

    @model_validator(mode="after")
    def _source_fields(self) -> DataConfig:
        if self.source == "datasets" and self.path is None:
            raise ValueError("source datasets needs a path: a builder such as parquet, or a Hub id")
        if self.source != "datasets":
            loading = ("path", "name", "data_files", "label_column", "tags_column", "source_column")
            given = [name for name in loading if getattr(self, name) is not None]
            if given:
                raise ValueError(f"source {self.source} takes no {' or '.join(given)}")
        if (self.families is None) == (self.source == "minimal_pairs"):
            raise ValueError("families and source minimal_pairs need each other: give both, or none")
        if self.eval_families is not None and self.families is None:
            raise ValueError("eval_families are of source minimal_pairs: give families, too, or leave them out")
        return self

    @property
    def paired(self) -> bool:
        """Whether every row is a pair of base and source."""
        return self.source_column is not None or self.source == "minimal_pairs"

    @property
    def asks(self) -> bool:
        """Whether every row is a question."""
        return self.answer_column is not None or self.source == "minimal_pairs"

    @model_validator(mode="after")
    def _limits(self) -> DataConfig:
        if self.keep == "changed" and not self.asks:
            raise ValueError("keep: changed is of questions: give answer_column, or leave it out")
        if self.label_column is not None and self.tags_column is not None:
            raise ValueError("give label_column or tags_column, not both: a row has one label, or one for every word")
        if self.max_train_examples is not None and not self.labelled:
            raise ValueError("max_train_examples is of labelled rows: give label_column, or use max_train_tokens")
        return self

    @model_validator(mode="after")
    def _sentences(self) -> DataConfig:
        for key in ("text_column", "source_column"):
            given = columns_of(getattr(self, key))
            if len(set(given)) < len(given):
                raise ValueError(f"{key} names {given[0]} twice; give the columns of two sentences, or one")
        if self.two_sentences and self.label_column is None:
            raise ValueError("two sentences (text_column) are for sequence classification: give label_column, too")
        if self.source_column is not None and isinstance(self.source_column, str) == self.two_sentences:
            raise ValueError(
                "text_column and source_column must name as many columns, one or two; got "
                f"{listed(columns_of(self.text_column))} and {listed(columns_of(self.source_column))}"
            )
        if self.two_sentences and "span" in self.place_columns:
            raise ValueError("span columns are of one text, not of two sentences: the words that differ are swapped")
        if self.tags_column is not None and "span" in self.place_columns:
            raise ValueError("span columns are of texts, not of lists of words: the words that differ are swapped")
        return self

    @model_validator(mode="after")
    def _pairs(self) -> DataConfig:
        places = self.place_columns
        if self.source_column is None:
            if places:
                raise ValueError("span, answer, candidates and family columns are of pairs: give source_column, too")
            return self
        if ("span" in places) != ("source_span" in places):
            raise ValueError("give both span_column and source_span_column, or none")
        if "source_answer" in places and "answer" not in places:
            raise ValueError("source_answer_column needs answer_column, too")
        if "candidates" in places and "answer" not in places:
            raise ValueError("candidates_column needs answer_column, too")
        if "answer" in places and self.labelled:
            column = "label_column" if self.tags_column is None else "tags_column"
            raise ValueError(f"give answer_column or {column}, not both: a row has one answer")
        texts = [" and ".join(columns_of(given)) for given in (self.text_column, self.source_column)]
        columns = [*texts, *places.values()]
        if len(set(columns)) < len(columns):
            raise ValueError(f"the columns of a pair must differ; got {listed(columns)}")
        return self

    @model_validator(mode="after")
    def _unread(self) -> DataConfig:
        """Refuse settings that these rows do not read: they would change nothing."""
        kind, unread = f"source {self.source}", list[str]()
        if self.source != "minimal_pairs":
            unread += ["pairs_per_family"]
        if self.source != "datasets":
            unread += ["text_column"]
        if self.paired or self.labelled:
            unread += ["detokenize", "max_train_tokens", "min_length"]
        if self.source == "datasets" and (self.paired or self.labelled):
            kind = "a pair (source_column)" if self.paired else "a labelled row"
        given = [name for name in unread if getattr(self, name) != type(self).model_fields[name].default]
        if given:
            remedy = "leave it out"
            if self.labelled and "max_train_tokens" in given:
                remedy = "use max_train_examples"
            raise ValueError(f"{kind} takes no {' or '.join(given)}; {remedy}")
        return self


class MixedConfig(DataConfig):
    """Further data that every training step reads beside the config's `data`, such as text beside pairs."""

    weight: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """Factor on the loss of these rows."""
    batch_size: Positive | None = None
    """Rows per micro-step; null: as many as of `data`."""
    positions: dict[str, Any] | None = None
    """What is swapped between rows of a batch, such as {kind: span}; null: nothing, or, of pairs, what differs."""

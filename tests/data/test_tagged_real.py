"""CoNLL-2003: every word of the real sentences keeps its tag."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from iit_toolkit.data.batch import IGNORE_INDEX
from iit_toolkit.data.tagged import numbered_tags, tokenize_tagged
from iit_toolkit.data.text import load_texts
from iit_toolkit.errors import UserError
from tests.data.conftest import TEACHER

NAMES = ["O", *(f"{place}-{kind}" for kind in ("PER", "ORG", "LOC", "MISC") for place in "BI")]
CLASSES = dict(enumerate(NAMES))


def test_the_tags_of_real_sentences(shared_data: Path) -> None:
    file = shared_data / "conll2003" / "validation.parquet"
    if not file.is_file():
        pytest.skip("no conll2003/validation.parquet among the real data")
    columns = {"text_column": "tokens", "tags_column": "ner"}
    texts = load_texts("parquet", "validation[:300]", data_files={"validation": str(file)}, **columns)
    numbered = numbered_tags(texts, CLASSES, "CoNLL-2003")
    tokenizer = AutoTokenizer.from_pretrained(TEACHER)
    rows = tokenize_tagged(numbered, tokenizer, 128)
    assert len(rows) == len(texts) == 300
    for words, tags, row in zip(texts["text"], texts["tags"], rows, strict=True):
        tagged = [CLASSES[tag] for tag in row["tags"] if tag != IGNORE_INDEX]  # pyright: ignore
        cut = len(row["input_ids"]) == 128  # pyright: ignore
        assert tagged == (tags[: len(tagged)] if cut else tags), words
    with pytest.raises(UserError, match="but the teacher's labels are O, B-PER"):
        numbered_tags(texts, dict(enumerate(NAMES[:-2])), "CoNLL-2003")

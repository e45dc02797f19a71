from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from iit_toolkit.data import text as module
from iit_toolkit.data.text import join_wikitext, load_python_docs, load_texts
from iit_toolkit.data.tokenization import tokenize_corpus
from iit_toolkit.errors import UserError


@pytest.fixture
def parquet(tmp_path: Path) -> str:
    path = tmp_path / "a.parquet"
    columns = {
        "text": [1, 2],
        "sentence": ["one", "two"],
        "label": [0, 1],
        "blank": ["", " "],
        "words": [["a"], []],
    }
    Dataset.from_dict(columns).to_parquet(path)
    return str(path)


def load(parquet: str, **options: str) -> Dataset:
    return load_texts("parquet", "train", data_files={"train": parquet}, **options)


def test_the_wanted_columns_come_under_fixed_names(parquet: str) -> None:
    rows = load(parquet, text_column="sentence", label_column="label")
    assert list(rows) == [{"text": "one", "label": 0}, {"text": "two", "label": 1}]
    assert load(parquet, text_column="sentence").column_names == ["text"]


def test_lines_of_a_text_file_are_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\n")
    assert list(load_texts("text", "train", data_files=str(path))["text"]) == ["one", "two"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_column": "body"}, 'no column "body" (data.text_column); it has: text, sentence, label'),
        ({"text_column": "text"}, 'column "text" holds int64, not text'),
        ({"text_column": "words"}, 'column "words" holds List, not text'),
        ({"text_column": "blank"}, 'column "blank" holds no text in any of its 2 rows'),
        ({"text_column": "sentence", "label_column": "class"}, 'no column "class" (data.label_column)'),
        ({"text_column": "sentence", "label_column": "blank"}, 'column "blank" holds string, not integers'),
    ],
)
def test_a_wrong_column_is_named(parquet: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(UserError) as caught:
        load(parquet, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_data_that_cannot_be_loaded_are_a_user_error(tmp_path: Path, parquet: str) -> None:
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"no parquet at all")
    cases = [
        ("parquet", "train", {"train": str(broken)}),
        ("parquet", "train", {"train": str(tmp_path / "missing.parquet")}),
        ("parquet", "validation", {"train": parquet}),
        ("no/such-set", "train", None),
    ]
    for path, split, files in cases:
        with pytest.raises(UserError, match=f"data {path}, split {split} can't be loaded: .") as caught:
            load_texts(path, split, data_files=files)
        assert "\n" not in str(caught.value)


def test_the_splits_of_python_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    splits = {"train": ["a", "b"], "validation": ["c"], "test": ["d"]}
    monkeypatch.setattr(module, "python_documentation_splits", lambda: splits)
    assert list(load_python_docs("validation")) == [{"text": "c"}]
    with pytest.raises(UserError, match='no split "valid": did you mean "validation"'):
        load_python_docs("valid")


def test_real_wikitext_becomes_rows(shared_data: Path, teacher: PreTrainedTokenizerBase) -> None:
    path = shared_data / "wikitext" / "wikitext-103-v1" / "test.txt"
    lines = load_texts("text", "test", data_files={"test": str(path)})
    articles = join_wikitext(lines, teacher.unk_token)
    assert len(articles) == 60  # as many as the set has, for all the formulas in it that look like headings
    joined = "".join(articles["text"])
    assert "@-@" not in joined and "@,@" not in joined and "@.@" not in joined
    assert " ," not in joined
    assert "<unk>" not in joined
    rows = tokenize_corpus(articles.select(range(2)), teacher, 64)
    lengths = [len(row) for row in rows["input_ids"]]
    assert lengths.count(64) >= len(lengths) - 2  # only the last row of an article is short


def test_real_labelled_data(shared_data: Path) -> None:
    path = shared_data / "glue" / "sst2" / "validation.parquet"
    rows = load_texts(
        "parquet",
        "validation",
        data_files={"validation": str(path)},
        text_column="sentence",
        label_column="label",
    )
    assert (len(rows), sum(rows["label"])) == (872, 444)

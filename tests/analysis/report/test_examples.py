"""The tables of texts come back as they were written."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from iit_toolkit.analysis.report.examples import Answers, read_answers, read_examples, write_answers, write_examples
from iit_toolkit.errors import UserError

ROWS = pd.DataFrame(
    [
        {"base": 3, "source": 5, "base_tokens": ["[CLS]", " é"], "source_tokens": [" b"], "swapped": [1], "taken": [0]},
        {"base": 4, "source": 3, "base_tokens": ["x"], "source_tokens": ["[CLS]", " é"], "swapped": [], "taken": []},
    ]
).assign(family=["agreement", None])


def test_examples(tmp_path: Path) -> None:
    path = tmp_path / "examples.parquet"
    assert read_examples(path) is None
    write_examples(ROWS, path)
    found = read_examples(path)
    assert found is not None and list(found.columns) == list(ROWS.columns)
    for name in ROWS.columns.drop("family"):
        assert [list(one) if hasattr(one, "__len__") else one for one in found[name]] == list(ROWS[name])
    assert list(found["family"].fillna("none")) == ["agreement", "none"]


@pytest.mark.parametrize("per_million", [{7: 12.5, 9: 0.0}, {}])
def test_answers(tmp_path: Path, per_million: dict[int, float]) -> None:
    path = tmp_path / "answers.parquet"
    assert read_answers(path) is None
    answers = Answers({7: " seven", 9: "nine"}, per_million, "train")
    write_answers(answers, path)
    assert read_answers(path) == answers


def test_what_is_something_else_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_text("no parquet")
    with pytest.raises(UserError, match=r"x\.parquet: not a readable parquet file") as caught:
        read_examples(path)
    assert "\n" not in str(caught.value)
    write_answers(Answers({}, {}, "train"), path)
    with pytest.raises(UserError, match="the schema is iit_toolkit/answers/1; this version reads iit_toolkit/examples"):
        read_examples(path)
    ROWS[["base"]].to_parquet(path)
    with pytest.raises(UserError, match="the schema is none"):
        read_answers(path)

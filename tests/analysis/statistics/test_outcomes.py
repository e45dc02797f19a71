from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from iit_toolkit.analysis.statistics.outcomes import SCHEMA, SCHEMA_NAME, Table, read_outcomes, write_outcomes
from iit_toolkit.errors import UserError
from tests.analysis.synthetic import make_outcomes


def test_what_is_written_is_read_back(tmp_path):
    written = make_outcomes(bases=5)
    write_outcomes(written.sample(frac=1.0, axis="columns", random_state=1), tmp_path / "outcomes.parquet")
    found = read_outcomes(tmp_path / "outcomes.parquet")
    assert list(found.columns) == SCHEMA.names
    pd.testing.assert_frame_equal(found, written[SCHEMA.names], check_dtype=False)
    assert np.isnan(found["student_nll"].to_numpy()).sum() == np.isnan(written["student_nll"].to_numpy()).sum() > 0
    assert pq.read_schema(tmp_path / "outcomes.parquet").metadata[b"iit_toolkit.schema"].decode() == SCHEMA_NAME


def test_a_table_holds_the_rows_of_all_batches_by_base_and_variable():
    batches = [make_outcomes(variables=("a", "b"), bases=bases, seed=bases) for bases in (3, 1, 4)]
    table = Table()
    for batch in batches:
        table.add(batch)
        batch["base"] = -1  # what was added is a copy
    expected = pd.concat(
        [make_outcomes(variables=("a", "b"), bases=bases, seed=bases) for bases in (3, 1, 4)], ignore_index=True
    )
    names = ["b", "a"]
    found = table.frame(names)
    expected["rank"] = expected["variable"].map(names.index)
    expected = expected.sort_values(["base", "rank"], kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(found, expected[SCHEMA.names], check_dtype=False)


def test_nothing_is_left_behind_and_the_old_file_stays_when_writing_fails(tmp_path, monkeypatch):
    path = tmp_path / "outcomes.parquet"
    write_outcomes(make_outcomes(bases=3), path)
    before = path.read_bytes()

    def fail(*_args, **_kwargs):
        raise OSError("disk full")

    monkeypatch.setattr(pq, "write_table", fail)
    with pytest.raises(OSError, match="disk full"):
        write_outcomes(make_outcomes(bases=4), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["outcomes.parquet"]


def test_a_case_that_stands_twice_is_refused(tmp_path):
    frame = make_outcomes(bases=3)
    doubled = pd.concat([frame, frame.iloc[[4]]])
    with pytest.raises(UserError, match="1 cases stand twice, first student=causal, variable=middle, base=0"):
        write_outcomes(doubled, tmp_path / "outcomes.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns=["kl"]), "missing columns: kl"),
        (lambda frame: frame.assign(extra=1), "unknown columns: extra"),
        (lambda frame: frame.assign(gold="cat"), "wrong type"),
        (lambda frame: frame.assign(teacher_cf=0.5), "wrong type"),
        (lambda frame: frame.assign(student=None), "a case without student"),
        (lambda frame: frame.iloc[:0], "no cases"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(tmp_path, change, message):
    with pytest.raises(UserError, match=message) as caught:
        write_outcomes(change(make_outcomes(bases=2)), tmp_path / "outcomes.parquet")
    assert "\n" not in str(caught.value)


def test_unreadable_files_are_refused_in_one_line(tmp_path):
    path = tmp_path / "outcomes.parquet"
    with pytest.raises(UserError, match="no outcomes table there"):
        read_outcomes(path)
    path.write_bytes(b"PAR1 but not really")
    with pytest.raises(UserError, match="not a readable parquet file") as caught:
        read_outcomes(path)
    assert "\n" not in str(caught.value)
    make_outcomes(bases=2).to_parquet(path)
    with pytest.raises(UserError, match=re.escape(f"the schema is none; this version reads {SCHEMA_NAME}")):
        read_outcomes(path)

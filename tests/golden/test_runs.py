"""Whole runs give the tables and results that are recorded, and these the recorded reports, to the last character."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.golden import runs
from tests.golden.record import EXPERIMENTS, RECORDS, made_on, read

EXACT = read("runs")["made_on"] == made_on()
TIMES = ("seconds", "cpu_seconds")
DRAWN = ["student", "variable", "base", "source", "position", "inside", "base_text", "source_text", "gold"]
ANSWERS = ["teacher_base", "teacher_cf", "student_base", "student_cf"]


@pytest.mark.parametrize("name", runs.REPORTED)
def test_a_run_is_as_recorded(name: str, tmp_path: Path) -> None:
    folder, recorded = runs.run(name, tmp_path), RECORDS / "runs" / name
    for file in ("config.yaml", "alignment.yaml"):
        assert (folder / file).read_text() == (recorded / file).read_text()
    for file in runs.OUTCOMES:
        ours, theirs = (pd.read_parquet(where / file) for where in (folder, recorded))
        if EXACT:
            pd.testing.assert_frame_equal(ours, theirs, check_exact=True, obj=file)
        else:  # another processor rounds otherwise, and an answer or two may differ
            assert ours[DRAWN].equals(theirs[DRAWN])
            assert (ours[ANSWERS] == theirs[ANSWERS]).to_numpy().mean() > 0.97
    assert pd.read_parquet(folder / "examples.parquet").equals(pd.read_parquet(recorded / "examples.parquet"))
    if EXACT:
        results = json.loads((folder / "results.json").read_text())
        assert runs.plain(results) == json.loads((recorded / "results.json").read_text())


def test_reports_tables_and_cards_are_as_recorded(tmp_path: Path) -> None:
    written = runs.written_from(RECORDS / "runs", EXPERIMENTS, tmp_path)
    digests: dict[str, str] = read("reports")["record"]
    texts = {path.relative_to(RECORDS / "reports").as_posix(): path for path in (RECORDS / "reports").rglob("*.*")}
    committed = {name: EXPERIMENTS / runs.committed(name) for name in written}
    texts |= {name: path for name, path in committed.items() if path.is_file()}
    assert sorted(written) == sorted([*texts, *digests])
    for name, path in texts.items():
        if EXACT or path.suffix in (".md", ".tex"):  # of other files, the last digits are another processor's
            assert written[name].read_text() == path.read_text(), name
    assert not EXACT or [name for name, digest in digests.items() if runs.digest(written[name]) != digest] == []


def test_a_result_that_moves_by_a_bit_is_seen() -> None:
    recorded: dict[str, Any] = json.loads((RECORDS / "runs" / "masked_lm-42" / "results.json").read_text())
    other = copy.deepcopy(recorded)
    estimate = other["summary"]["students"]["causal"]["variables"]["early"]["effective_iia"]["outside"]
    estimate["value"] = float(torch.nextafter(torch.tensor(estimate["value"], dtype=torch.float64), torch.tensor(2.0)))
    assert runs.plain(copy.deepcopy(recorded)) == recorded != runs.plain(other)

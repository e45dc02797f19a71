"""Pairs through the command line: one config trains and verifies with them, and an export is reproduced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from iit_toolkit.analysis.statistics.outcomes import read_outcomes
from iit_toolkit.config.loading import load_config
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import certify
from iit_toolkit.pipeline import check
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.runs.folder import RunFolder
from iit_toolkit.runs.provenance import fingerprint
from tests.pipeline.test_run import call

CONFIG = """\
name: pairs
teacher: embedded
student: {layers: 3}
data: {path: json, data_files: {train: train.json, validation: pairs.json}, source_column: source, max_length: 24}
arms:
  plain: {}
  causal: {alignment: pairs.yaml}
training: {max_steps: 2, per_device_train_batch_size: 4}
verification: {pairs: 48, resamples: 200}
"""
ALIGNMENT = """\
name: on-pairs
variables:
  - name: middle
    teacher: [{layer: 2, component: block_output}]
    student: [{layer: 1, component: block_output}]
positions: {kind: differing}
sources: {kind: paired}
"""
NOUNS = ("file", "list", "module", "value", "string", "class", "object", "path", "name", "line", "method", "function")
SWAPS = (("first", "last"), ("the", "this"), ("returns", "returned"), ("and", "or"))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The working directory, with 48 pairs and two that do not align."""
    place = tmp_path_factory.mktemp("pairs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", place / ".cache")
        lines = [{"text": "the file is closed", "source": "the file is not closed"}] * 2
        for noun in NOUNS:
            base = f"it returns the first {noun} of the list and closes the {noun} when it is empty"
            lines += [{"text": base, "source": base.replace(f" {one} ", f" {other} ", 1)} for one, other in SWAPS]
        text = "".join(f"{json.dumps(line)}\n" for line in lines)
        (place / "pairs.json").write_text(text)
        (place / "train.json").write_text(text.replace("it returns", "she returns"))
        (place / "config.yaml").write_text(CONFIG)
        (place / "pairs.yaml").write_text(ALIGNMENT)
        yield place


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    call("run", "config.yaml", "-o", "run")
    return place / "run"


@pytest.mark.usefixtures("place")
def test_sources_are_among_the_rows_that_both_models_are_checked_on(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def spied(_: Any, inputs: Any) -> str:
        seen.append(inputs)
        raise UserError("not asked")

    monkeypatch.setattr(certify, "refuse_unsound", spied)
    prepared = Prepared(load_config("config.yaml"))
    check.certify_on_rows(prepared, prepared.new_student(), None)
    [inputs] = seen
    rows = [prepared.eval_rows[index] for index in range(4)]
    half = len(inputs["input_ids"]) // 2
    for row, source in zip(rows, inputs["input_ids"][half:], strict=False):  # where bases differ, nothing is masked
        taken = row["source_positions"]
        assert taken and source[taken].tolist() == [row["source_input_ids"][position] for position in taken]
        assert source[taken].tolist() != [row["input_ids"][position] for position in row["positions"]]
    assert {len(value) for value in inputs.values()} == {2 * half}


def test_results_say_how_many_pairs_were_used_and_skipped(run: Path) -> None:
    results = RunFolder(run).read_results()
    train = results["data"]["train"]
    assert train["examples"] == 48
    assert train["skipped_pairs"] == {"base and source have different numbers of tokens": 2}
    assert results["alignment"]["sources"] == {"kind": "paired"}
    assert "2 pairs skipped: base and source have different numbers of tokens" in (run / "report.md").read_text()
    outcomes = read_outcomes(run / "outcomes.parquet")
    assert (outcomes["source"] - outcomes["base"] == 48).all() and outcomes["base"].nunique() == 48
    assert not outcomes["inside"].any()
    assert set(outcomes["student"]) == {"plain", "causal", "untrained"}


def test_the_fingerprint_is_of_bases_and_sources(run: Path) -> None:
    rows = Prepared(load_config(run / "config.yaml")).eval_rows
    expected = fingerprint([*rows["input_ids"], *rows["source_input_ids"]])
    assert RunFolder(run).read_results()["data"]["validation"]["fingerprint"] == expected


def test_a_finished_student_is_verified_on_the_same_pairs(run: Path, caplog: pytest.LogCaptureFixture) -> None:
    call("verify", "config.yaml", "--student", "run/causal", "--alignment", "pairs.yaml", "-o", "again")
    assert "data, split validation: 2 of 50 pairs are skipped: base and source have" in caplog.text
    before, after = (read_outcomes(folder / "outcomes.parquet") for folder in (run, run.parent / "again"))
    arm = before[before["student"] == "causal"].reset_index(drop=True)
    one = after[after["student"] == "student"].reset_index(drop=True)
    columns = ["base", "source", "position", "teacher_cf", "student_cf"]
    assert arm[columns].equals(one[columns])


def test_an_export_is_reproduced(run: Path) -> None:
    call("export", str(run), "--arm", "causal", "-o", "exported")
    assert call("verify", "--from", "exported", "-o", "reproduced").splitlines()[-1].startswith("REPRODUCED")


@pytest.mark.usefixtures("place")
def test_the_config_is_explained_and_validated() -> None:
    explained = call("explain", "config.yaml")
    assert "positions differing; sources paired" in explained
    assert "teacher, source" in explained
    assert "FAIL" not in call("validate", "config.yaml")

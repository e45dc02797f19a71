"""A run folder with one damage: its report is one line, naming file and entry, and writes nothing elsewhere."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from iit_toolkit.analysis.report import report
from iit_toolkit.analysis.report.report import write_report
from iit_toolkit.analysis.statistics import parquet_files
from iit_toolkit.analysis.statistics.outcomes import WRONG_LAYER, write_outcomes
from iit_toolkit.analysis.statistics.stored_results import read_stored
from iit_toolkit.errors import UserError
from iit_toolkit.runs.folder import RunFolder
from tests.analysis.synthetic import make_controls, make_outcomes, make_run, make_texts

CAUSAL = "summary.students.causal"
OUTSIDE = f"{CAUSAL}.variables.middle.effective_iia.outside"
PLANTED = {"value": 0.5, "low": 0.4, "high": 0.6, "cases": 9, "clusters": 9}
ROOT = Path(__file__).resolve().parents[3]
DELETE = object()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("whole") / "run", make_outcomes(bases=24, per_base=4))


@pytest.fixture
def run(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(report, "write_figures", lambda *_: [])
    shutil.copytree(whole, tmp_path / "run")
    return tmp_path / "run"


def refused(run: Path) -> str:
    before = sorted(run.parent.rglob("*"))
    with pytest.raises(UserError) as caught:
        write_report(run)
    assert sorted(run.parent.rglob("*")) == before
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300 + len(str(run))
    return str(caught.value)


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("provenance.hardware", DELETE, "provenance.hardware: field required"),
        ("teacher", True, "teacher: "),
        ("arms.causal.cost.step_seconds", [1, 2, 3], "arms.causal.cost.step_seconds: "),
        ("arms.causal.cost.plain_flops", 0, "arms.causal.cost.plain_flops: input should be greater than 0"),
        ("arms.causal.seconds", None, "arms.causal.seconds: "),
        ("arms.causal.steps", "130", "arms.causal.steps: input should be a valid integer"),
        ("arms.causal.history", {"step": 1}, "arms.causal.history: "),
        ("arms.causal.history", [{"step": "one"}], "history: a logged value is no number"),
        ("alignment.variables.0.teacher", 0.2, "alignment.variables.0.teacher: "),
        ("evaluation", "..", "evaluation: "),
        ("evaluation.encyclopedia.perplexity.teacher.value", "20", "evaluation.encyclopedia.perplexity.teacher.value"),
        ("summary.resamples", 1_000_001, "summary.resamples must lie between"),
        ("summary.level", 1, "summary.level must lie between 0.5 and 0.9999"),
        ("summary.level", 1e-17, "summary.level must lie between 0.5 and 0.9999"),
        ("arms.causal.cost.flops", 0, "arms.causal.cost.flops: input should be greater than 0"),
        ("arms.causal.cost.flops", 1e308, "arms.causal.cost.flops: input should be less than"),
        ("arms.causal.micro_batches_run", 0, "arms.causal.micro_batches_run: input should be greater than 0"),
        ("arms.causal.history", [{"loss": 1.0}], "history: a line without its step"),
        ("arms.causal.history", [{"step": None, "loss": 1.0}], "history: a line without its step"),
        ("arms.causal.history", [{"step": 1, "loss": -1e308}], "history: a logged value lies beyond 1e+100"),
        ("controls.absent", [{"control": "x", "variable": "", "reason": ""}], "controls.absent.0.reason: string"),
        ("controls.self_swap.changed", 401, "controls.self_swap: value error, 401 of 400 cases"),
        ("controls.ceiling.same", 101, "controls.ceiling: value error, 101 of 100 answers"),
        (f"{OUTSIDE}.cases", -5, "effective_iia.outside: value error, a number of cases"),
        (f"{OUTSIDE}.low", 0.99, "does not hold the value"),
        (f"{OUTSIDE}.high", None, "an interval has two ends and a value"),
        (f"{OUTSIDE}.high", 7.0, "7 does not lie between 0 and 1"),
        (f"{CAUSAL}.variables.middle.margin", {**PLANTED, "value": 1.5, "low": 1.4, "high": 1.6}, "1.5 does not lie"),
        (f"{CAUSAL}.behaviour.student_perplexity.low", 0.0, "a perplexity is above 0"),
        (f"{CAUSAL}.behaviour.kl", {**PLANTED, "value": -1.0, "low": -2.0}, "a mean divergence is not negative"),
        ("evaluation.encyclopedia.perplexity.teacher.low", -1, "a perplexity is above 0"),
        (f"{CAUSAL}.variables", {}, "summary.students.causal.variables: other variables than in the alignment"),
        ("verdict.variables", {}, "verdict.variables: other variables than in the alignment"),
        ("alignment.variables", [], "alignment.variables: empty"),
        ("summary.students.plain\x07", {}, "summary.students.plain\ufffd: a key with control characters"),
        ("verdict.margin", -1, "verdict.margin must lie between 0 and 1"),
        ("verdict.student", "gone", 'no student "gone"'),
        ("data", {}, "data: dictionary should have at least 1 item"),
        ("created", None, "created: "),
        ("seed", -1, "seed: "),
    ],
)
def test_results(run: Path, place: str, value: Any, said: str) -> None:
    document = json.loads((run / "results.json").read_text())
    *outer, last = [int(key) if key.isdecimal() else key for key in place.split(".")]
    entry = functools.reduce(lambda found, key: found[key], outer, document)
    if value is DELETE:
        del entry[last]
    else:
        entry[last] = value
    (run / "results.json").write_text(json.dumps(document))
    message = refused(run)
    assert said in message and "results.json" in message


def retyped(run: Path, name: str, column: str, kind: Any) -> None:
    table = pq.read_table(run / name)
    place = table.schema.names.index(column)
    pq.write_table(table.set_column(place, pa.field(column, kind), pa.nulls(len(table), kind)), run / name)


def changed(run: Path, name: str, column: str, value: Any) -> None:
    table = pq.read_table(run / name)
    place = table.schema.names.index(column)
    values = [value, *table.column(place).to_pylist()[1:]]
    field = table.schema.field(column)
    pq.write_table(table.set_column(place, field, pa.array(values, field.type)), run / name)


@pytest.mark.parametrize(
    ("name", "column", "value", "said"),
    [
        ("examples.parquet", "taken", pa.null(), "column taken is of type null"),
        ("answers.parquet", "text", pa.dictionary(pa.int8(), pa.string()), "column text is of type dictionary"),
        ("outcomes.parquet", "kl", pa.float32(), "column kl is of type float, not double"),
        ("answers.parquet", "text", None, "column text lacks 1 values"),
        ("answers.parquet", "per_million", float("inf"), "no frequency"),
        ("examples.parquet", "swapped", [10**9], "column swapped holds a position outside base_tokens"),
        ("examples.parquet", "taken", [-1], "column taken holds a position outside source_tokens"),
        ("examples.parquet", "base_tokens", [None], "column base_tokens lacks 1 values"),
        ("outcomes.parquet", "position", -2, "column position holds -2; the least is -1"),
        ("outcomes.parquet", "base", None, "a case without student"),
        ("outcomes.parquet", "inside", None, "column inside lacks 1 values"),
        ("outcomes.parquet", "kl", -5.0, "column kl holds what no models give there"),
        ("outcomes.parquet", "kl_cf", float("nan"), "column kl_cf holds what no models give there"),
        ("outcomes.parquet", "student_nll", float("inf"), "column student_nll holds what no models give there"),
        ("outcomes.parquet", "effect_xx", -1.0, "column effect_xx holds what no models give there"),
        ("outcomes.parquet", "base_text", 23, "column base_text names two texts of one base"),
        ("answers.parquet", "answer", 1, "column answer holds a number twice"),
        ("outcomes.parquet", "effect_n", -1.0, "column effect_n holds what is no number of tokens"),
        ("outcomes.parquet", "variable", "", "column variable holds the name ''"),
        ("outcomes.parquet", "student", "\x1b[2J", "holds the name '\ufffd[2J'"),
        ("outcomes.parquet", "student", "x" * 501, "a name has 1 to 500 characters"),
    ],
)
def test_tables(run: Path, name: str, column: str, value: Any, said: str) -> None:
    if isinstance(value, pa.DataType):
        retyped(run, name, column, value)
    else:
        changed(run, name, column, value)
    message = refused(run)
    assert said in message and name in message


@pytest.mark.parametrize("name", ["outcomes.parquet", "examples.parquet", "answers.parquet"])
def test_names_of_schemas_and_cut_files(run: Path, name: str) -> None:
    table = pq.read_table(run / name)
    pq.write_table(table.replace_schema_metadata({b"iit_toolkit.schema": b"\xff"}), run / name)
    assert "the schema is \ufffd; this version reads" in refused(run)
    content = (run / name).read_bytes()
    (run / name).write_bytes(content[: len(content) // 2])
    assert "not a readable parquet file" in refused(run)


def test_a_small_file_that_declares_many_rows_is_not_read(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = 500_000
    numbers, texts, shares = pa.repeat(0, rows), pa.repeat("x", rows), pa.repeat(1.0, rows)
    table = pa.table({"answer": numbers, "text": texts, "per_million": shares})
    named = table.replace_schema_metadata({b"iit_toolkit.schema": b"iit_toolkit/answers/1"})
    pq.write_table(named, run / "answers.parquet", compression="zstd")
    monkeypatch.setattr(parquet_files, "MOST_VALUES", 1_000_000)
    assert "declares 1,500,000 values" in refused(run)


@pytest.mark.parametrize(("rows", "length"), [(300_000, 100), (1, 10_001)])
def test_a_small_file_of_long_texts_is_not_written_out(
    run: Path, monkeypatch: pytest.MonkeyPatch, rows: int, length: int
) -> None:
    numbers, texts, shares = pa.array(range(rows)), pa.repeat("x" * length, rows), pa.repeat(1.0, rows)
    table = pa.table({"answer": numbers, "text": texts, "per_million": shares})
    named = table.replace_schema_metadata({b"iit_toolkit.schema": b"iit_toolkit/answers/1"})
    pq.write_table(
        named,
        run / "answers.parquet",
        compression="zstd",
        column_encoding={"answer": "DELTA_BINARY_PACKED"},
        use_dictionary=["text"],
    )
    monkeypatch.setattr(parquet_files, "MOST_TEXT", 2**20)
    said = "holds over " if rows > 1 else "column text holds a text of 10,001 characters; the most is 10,000"
    assert said in refused(run)


def test_figures_are_not_written_through_a_link(run: Path) -> None:
    (run.parent / "other").mkdir()
    (run / "figures").symlink_to(run.parent / "other")
    assert "figures: a symbolic link leads out of" in refused(run)
    (run / "figures").unlink()
    (run / "results.json").rename(run.parent / "results.json")
    (run / "results.json").symlink_to("../results.json")
    assert "results.json: a symbolic link leads out of" in refused(run)
    linked = run.parent / "linked"
    (run / "results.json").unlink()
    (run.parent / "results.json").rename(run / "results.json")
    linked.symlink_to(run)
    assert write_report(linked).is_file()


def test_names_are_shown_as_they_are_written(run: Path) -> None:
    vicious = '<script>alert(1)</script>](javascript:x) |$x^{"'
    outcomes = make_outcomes(bases=24, per_base=4, variables=(vicious, "other"))
    make_run(run, outcomes, name=vicious)
    make_texts(run, outcomes)
    page = write_report(run).read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "default-src 'none'" in page
    markdown = (run / "report.md").read_text()
    assert "<script" not in markdown and "](javascript" not in markdown.replace(r"\]", "") and r"\|\$x^{" in markdown


def test_committed_results_are_read() -> None:
    files = sorted((ROOT / "experiments" / "paper-claims" / "results").glob("*/seed-42/results.json"))
    assert files and all(read_stored(file).document["seed"] == 42 for file in files)


@pytest.mark.parametrize(
    ("measure", "value"),
    [("perplexity", None), ("perplexity", {"causal": {**PLANTED, "a further entry": 1}}), ("accuracy", None)],
)
def test_measures_on_held_out_data_may_be_missing_and_hold_more(run: Path, measure: str, value: Any) -> None:
    document = RunFolder(run).read_results()
    document["evaluation"]["encyclopedia"][measure] = value
    (run / "results.json").write_text(json.dumps(document))
    assert write_report(run).is_file()


def test_fewer_controls_than_the_verdict_was_held_against(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "write_figures", lambda *_: [])
    run = make_run(tmp_path / "run", make_outcomes(bases=30), make_controls(bases=30))
    table = pd.read_parquet(run / "controls.parquet")
    write_outcomes(table[table["student"] != WRONG_LAYER], run / "controls.parquet")
    message = refused(run)
    assert 'controls.parquet: variable "middle" has the controls no-intervention floor, shuffled sources' in message
    assert f"{WRONG_LAYER}; verify the run again" in message


@pytest.mark.parametrize("other", [{"variables": ("late",)}, {"follows": {"causal": 0.6, "plain": 0.2}}])
def test_outcomes_of_another_run(run: Path, other: dict[str, Any]) -> None:
    write_outcomes(make_outcomes(bases=24, per_base=4, **other), run / "outcomes.parquet")
    assert "outcomes.parquet: other students or variables than" in refused(run)


def test_outcomes_with_other_numbers_are_told(run: Path) -> None:
    changed(run, "outcomes.parquet", "student_cf", 7)
    write_report(run)
    assert "stale" not in (run / "report.md").read_text()  # that case is at a swapped position
    write_outcomes(make_outcomes(bases=24, per_base=4, seed=1), run / "outcomes.parquet")
    write_report(run)
    assert "results.json has another effect R² outside than the outcomes table" in (run / "report.md").read_text()


def test_a_long_config_is_shown_in_part(run: Path) -> None:
    (run / "config.yaml").write_text("# " + "x" * 300_000)
    assert "[...: 300,002 characters in all]" in write_report(run).read_text()


@pytest.mark.parametrize("name", ["examples.parquet", "answers.parquet", "config.yaml", "search/search.json"])
def test_what_is_no_file_is_not_taken_for_nothing(run: Path, name: str) -> None:
    (run / name).unlink(missing_ok=True)
    (run / name).mkdir(parents=True)
    assert f"{name}: no plain file" in refused(run)

"""Damaged files end in a result or in one line: no traceback, no hang, nothing written elsewhere."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from iit_toolkit.analysis.report import report
from iit_toolkit.analysis.report.examples import read_answers, read_examples
from iit_toolkit.analysis.report.figures.training import training
from iit_toolkit.analysis.report.gate import gate, to_junit, to_markdown
from iit_toolkit.analysis.report.model_card import model_card
from iit_toolkit.analysis.report.shown_cases import shown_cases
from iit_toolkit.analysis.statistics.outcomes import read_outcomes
from iit_toolkit.analysis.statistics.stored_results import read_stored
from iit_toolkit.analysis.statistics.summary import summarise
from iit_toolkit.analysis.studies import text
from iit_toolkit.analysis.studies.comparison import compare_arms, compare_study
from iit_toolkit.analysis.studies.figures import training_curves
from iit_toolkit.analysis.studies.read_runs import read_runs
from iit_toolkit.analysis.studies.read_suite import read_suite
from iit_toolkit.downstream.folder import FinetuneFolder
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.student_files import copy_student
from tests.analysis.studies.suite_tree import TASKS, write_tree
from tests.analysis.synthetic import make_outcomes, make_run
from tests.fuzz.damage import damage_histories, damage_json, damage_parquet
from tests.fuzz.guard import Hangs

PATIENCE = 20  # seconds for one file
SETTINGS = {"weights": "w"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_run(tmp_path_factory.mktemp("run"), make_outcomes(bases=24, per_base=4), task="masked_lm")
    results = json.loads((folder / "results.json").read_text())
    results["summary"]["resamples"] = 100
    for arm in results["arms"].values():
        del arm["history"][3:]
    (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_tree(tmp_path_factory.mktemp("suite"))
    for arm in ("late", "middle", "narrow"):
        shutil.rmtree(root / arm)
    return root


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "write_figures", lambda *_: [])


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """Lets a `UserError` of one line pass; anything else, a hang included, fails and names the file."""

    def expired(*_: Any) -> None:
        raise Hangs  # no code takes it for an error of its own, as it would a TimeoutError

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(PATIENCE)
    try:
        yield
    except UserError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000, what
    except BaseException as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def damaged_copies(
    source: Path, target: Path, name: str, damage: Callable[[Path, int], None], seeds: range
) -> Iterator[tuple[str, Path]]:
    """One copy of a folder after the other, each with another damage to one file."""
    for seed in seeds:
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
        damage(target / name, seed)
        yield f"{name}, seed {seed}", target
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_results(run: Path, tmp_path: Path) -> None:
    for what, folder in damaged_copies(run, tmp_path / "run", "results.json", damage_json, range(200)):
        with bounded(what):
            stored = read_stored(folder)
            checked = gate(stored, 0.1)
            assert to_markdown(checked) and to_junit(checked)
            for arm in stored.document["arms"]:
                if arm in stored.summary.students:
                    model_card(stored.document, arm)


@pytest.mark.usefixtures("no_figures")
def test_reports(run: Path, tmp_path: Path) -> None:
    for what, folder in damaged_copies(run, tmp_path / "run", "results.json", damage_json, range(1000, 1040)):
        with bounded(what):
            report.write_report(folder)
            page = (folder / "report.html").read_text()
            assert "<script>alert" not in page and "\x1b" not in page
            assert "](javascript:" not in (folder / "report.md").read_text()


def test_figures_of_training(run: Path, tmp_path: Path) -> None:
    for what, folder in damaged_copies(run, tmp_path / "run", "results.json", damage_histories, range(8)):
        with bounded(what):
            arms = read_stored(folder).document["arms"]
            for drawing in training({arm: details["history"] for arm, details in arms.items()})[:1]:
                drawing.figure.draw_without_rendering()


@pytest.mark.parametrize("name", ["outcomes.parquet", "examples.parquet", "answers.parquet"])
def test_tables(run: Path, tmp_path: Path, name: str) -> None:
    for what, folder in damaged_copies(run, tmp_path / "run", name, damage_parquet, range(50)):
        with bounded(what):
            outcomes = read_outcomes(folder / "outcomes.parquet")
            examples, answers = read_examples(folder / "examples.parquet"), read_answers(folder / "answers.parquet")
            if name == "outcomes.parquet":
                summarise(outcomes, resamples=20)
            if examples is not None and answers is not None:
                shown_cases(outcomes, examples, answers, "causal", 0)


def test_comparisons(run: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", make_outcomes(bases=24, per_base=4, seed=1), task="masked_lm", seed=8)
    home = tmp_path / "copies"
    for what, folder in damaged_copies(run, home / "run", "results.json", damage_json, range(2000, 2012)):
        with bounded(what):
            text.to_latex(compare_arms(read_runs([other, folder]), "causal", "plain"))


@pytest.mark.parametrize("name", ["full/seed-66/results.json", "plain/seed-42/finetune/finetune.json"])
def test_suites(suite: Path, tmp_path: Path, name: str) -> None:
    for what, folder in damaged_copies(suite, tmp_path / "suite", name, damage_json, range(30)):
        with bounded(what):
            compared = compare_study(read_suite(folder), ["plain"])
            assert text.to_markdown(compared) and len(training_curves(compared))


def test_scores(tmp_path: Path) -> None:
    source = FinetuneFolder(tmp_path / "source")
    scores = {"score": 50.0, "scores": {"validation": {"accuracy": 50.0}}, "settings": SETTINGS}
    source.write_scores(TASKS[0], 1, {**scores, "data": {"validation": {"rows": 3}}, "training": {"seconds": 1.0}})
    name = f"scores/{TASKS[0]}-1.json"
    home = tmp_path / "copies"
    for what, folder in damaged_copies(source.path, home / "one", name, damage_json, range(60)):
        with bounded(what):
            FinetuneFolder(folder).read_scores(TASKS[0], 1, SETTINGS)


@pytest.mark.parametrize("name", ["model.safetensors.index.json", "config.json"])
def test_exported_files(tmp_path: Path, name: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    index = {"metadata": {"total_size": 7}, "weight_map": {"a": "one.safetensors", "b": "one.safetensors"}}
    (source / "one.safetensors").write_text("weights")
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    (source / "config.json").write_text(json.dumps({"model_type": "bert", "auto_map": {"AutoModel": "org/m--m.M"}}))
    for what, folder in damaged_copies(source, tmp_path / "copies" / "one", name, damage_json, range(40)):
        out = tmp_path / "out"
        shutil.rmtree(out, ignore_errors=True)
        with bounded(what):
            copy_student(folder, out)

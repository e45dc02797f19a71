"""Suites: which pieces there are, what a killed one becomes, and what is printed, on tiny models."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
import yaml
from filelock import FileLock, SoftFileLock
from safetensors.torch import load_file
from transformers import AutoModelForMaskedLM

from iit_toolkit.alignment import preset
from iit_toolkit.cli import main
from iit_toolkit.cli.ending import terminating_gently
from iit_toolkit.config.loading import dump_config
from iit_toolkit.distillation.checkpoints import WholeCheckpoints
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.inputs import begin_inputs
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.suite.check import require_sound
from iit_toolkit.pipeline.suite.collect import collect
from iit_toolkit.pipeline.suite.config import SuiteConfig, load_suite
from iit_toolkit.pipeline.suite.pieces import Piece, SuiteFolder, pieces
from iit_toolkit.pipeline.suite.plan import plan
from iit_toolkit.pipeline.suite.report import compared
from iit_toolkit.pipeline.suite.work import _launch, _place, _say_time_left, work
from iit_toolkit.runs import folder as folders
from iit_toolkit.runs.folder import RunFolder, write_atomically
from iit_toolkit.runs.progress import PIECE
from tests.downstream.tiny import save_data, save_tiny_model, sentences
from tests.forked import forked
from tests.pipeline.test_run import call

TIMES = {"created", "seconds", "cpu_seconds", "step_seconds", "resumed_at_step", "path", "model"}
"""The keys of result files that hold times and places."""


def suite_killed_at_a_checkpoint() -> None:
    """Kill this process when the second run has made its first checkpoint."""
    complete = WholeCheckpoints._complete

    def killed(self: Any, target: Path) -> Any:
        reason = complete(self, target)
        if "seed-2" in target.parts:
            os.kill(os.getpid(), signal.SIGKILL)
        return reason

    WholeCheckpoints._complete = killed
    main(["suite", "run", "suite.yaml", "-o", "killed"])


def without_times(document: Any) -> Any:
    """The document without the keys of `TIMES`."""
    if isinstance(document, dict):
        return {key: without_times(value) for key, value in document.items() if key not in TIMES}
    return [without_times(one) for one in document] if isinstance(document, list) else document


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder with a suite of two arms, and what it reads; it is the working directory."""
    folder = tmp_path_factory.mktemp("suite")
    save_tiny_model(folder / "teacher")
    words = [one["sentence"] for one in sentences(180, 3)]
    (folder / "text.txt").write_text("\n".join(" ".join(words[at : at + 4]) for at in range(0, len(words), 4)))
    (folder / "tasks").mkdir()
    task = save_data(folder / "tasks", sentences(16, 0), sentences(8, 1))
    words = [one["sentence"] for one in sentences(180, 4)]
    (folder / "held-out.txt").write_text("\n".join(" ".join(words[at : at + 4]) for at in range(0, len(words), 4)))
    text = {"path": "text", "data_files": {"train": "text.txt", "validation": "held-out.txt"}, "packing": False}
    run = {
        "name": "tiny",
        "teacher": "teacher",
        "student": {"layers": 2},
        "data": text | {"max_length": 32},
        "arms": {"plain": {}, "causal": {"alignment": "diito/middle", "training": {"max_steps": 6}}},
        "training": {
            "max_steps": 4,
            "per_device_train_batch_size": 4,
            "logging_steps": 1,
            "save_strategy": "steps",
            "save_steps": 2,
        },
        "verification": {"pairs": 16, "resamples": 200},
        "evaluation": {"data": text | {"max_length": 16}},
    }
    suite = {
        "name": "tiny-suite",
        "run": "run.yaml",
        "seeds": [1, 2],
        "arm_seeds": {"causal": [2]},
        "baseline": "plain",
        "finetune": "tasks.yaml",
    }
    tasks = {"tasks": {"sst2": {"data": task, "max_length": 32}}, "seeds": [7], "training": {"max_steps": 2}}
    (folder / "tasks.yaml").write_text(yaml.safe_dump(tasks))
    (folder / "run.yaml").write_text(yaml.safe_dump(run, sort_keys=False))
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / ".cache")
        yield folder


@pytest.fixture(scope="module")
def suite(place: Path) -> SuiteConfig:
    return load_suite(place / "suite.yaml")


@pytest.fixture(scope="module")
def whole(place: Path) -> SuiteFolder:
    """The folder of a suite that nothing stopped."""
    assert call("suite", "run", "suite.yaml", "-o", "whole") == "whole: 7 of 7 pieces are done\n"
    return SuiteFolder(place / "whole")


def test_pieces_are_arms_times_seeds_seed_by_seed(suite: SuiteConfig) -> None:
    assert [str(piece) for piece in pieces(suite)] == [
        "run-plain-seed-1",
        "finetune-plain-seed-1",
        "run-plain-seed-2",
        "finetune-plain-seed-2",
        "run-causal-seed-2",
        "finetune-causal-seed-2",
        "finetune-teacher",
    ]


def test_lines_name_the_piece_and_what_is_left_is_judged_by_its_like(
    suite: SuiteConfig, caplog: pytest.LogCaptureFixture
) -> None:
    every = pieces(suite)
    places = ["piece 1/7 · seed 1", "piece 2/7 · plain, seed 1", "piece 7/7 · teacher"]
    assert [_place(suite, every[at]) for at in (0, 1, 6)] == places
    with caplog.at_level(logging.INFO):
        _say_time_left(suite, {every[0]: 60.0}, every[1:])
        _say_time_left(suite, {every[0]: 60.0, every[1]: 10.0, every[2]: 70.0}, [every[3], every[6]])
        _say_time_left(suite, {every[0]: 60.0}, [])
        _say_time_left(suite, {every[0]: 60.0}, [every[6]])
    assert caplog.messages == [
        "suite tiny-suite: 6 pieces left; similar pieces took 1 min 00 s for 1 of them",
        "suite tiny-suite: 2 pieces left; similar pieces took 20 s",
    ]


def test_a_suite_is_written_so_that_it_reads_back(suite: SuiteConfig, tmp_path: Path) -> None:
    (tmp_path / "again.yaml").write_text(dump_config(suite))
    assert load_suite(tmp_path / "again.yaml") == suite


def test_a_section_can_be_overridden_by_a_file(suite: SuiteConfig, place: Path) -> None:
    """The file is looked for beside the suite, as in the suite; later overrides change what it says."""
    short = ["run.training.max_steps=1", "run=run.yaml", "run.training.save_steps=1"]
    given = load_suite(place / "suite.yaml", ["finetune=null", *short, "finetune=tasks.yaml"])
    assert given.run.training == suite.run.training | {"save_steps": 1}
    assert given.finetune == suite.finetune


def test_every_arm_has_its_own_steps_and_all_are_verified_alike(whole: SuiteFolder, suite: SuiteConfig) -> None:
    read = {piece: json.loads(whole.results(piece).read_text()) for piece in pieces(suite) if piece.stage == "run"}
    assert {piece.arm: results["arms"][piece.arm]["steps"] for piece, results in read.items()} == {
        "plain": 4,
        "causal": 6,
    }
    assert {results["alignment"]["name"] for results in read.values()} == {"diito-middle"}
    assert {piece: results["seed"] for piece, results in read.items()} == {piece: piece.seed for piece in read}
    assert {path.name for path in whole.home(Piece("run", "plain", 1)).iterdir()} >= {"plain", "finetune"}
    assert not list(whole.path.rglob("checkpoints"))


def test_a_killed_suite_is_the_uninterrupted_one(whole: SuiteFolder, suite: SuiteConfig, tmp_path: Path) -> None:
    killed = SuiteFolder(whole.path.with_name("killed"))
    done = forked(suite_killed_at_a_checkpoint, tmp_path)
    assert done.code == -signal.SIGKILL, done.stderr
    assert killed.is_done(suite, pieces(suite)[1])
    assert not killed.is_done(suite, pieces(suite)[2])
    assert work(suite, killed.path) == []
    for piece in pieces(suite):
        one, two = (json.loads(folder.results(piece).read_text()) for folder in (whole, killed))
        assert without_times(one) == without_times(two)
        if piece.stage == "run":
            home, other = whole.home(piece), killed.home(piece)
            pd.testing.assert_frame_equal(*(pd.read_parquet(at / "outcomes.parquet") for at in (home, other)))
            weights = [load_file(at / piece.arm / "model.safetensors") for at in (home, other)]
            assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    assert json.loads(killed.results(pieces(suite)[2]).read_text())["arms"]["plain"]["resumed_at_step"] == 2


def test_what_is_done_is_not_done_again(whole: SuiteFolder, suite: SuiteConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.path.rglob("*.json")}
    assert work(suite, whole.path) == []
    assert {path: path.stat().st_mtime_ns for path in whole.path.rglob("*.json")} == before


def test_a_run_without_its_report_is_not_done(whole: SuiteFolder, suite: SuiteConfig) -> None:
    first = pieces(suite)[0]
    report = RunFolder(whole.home(first)).report_html
    kept = report.rename(report.with_suffix(".kept"))
    assert not whole.is_done(suite, first)
    kept.rename(report)
    assert whole.is_done(suite, first)


def test_no_piece_begins_after_the_time_and_none_that_another_process_does(suite: SuiteConfig, place: Path) -> None:
    folder = SuiteFolder(place / "late")
    assert work(suite, folder.path, minutes=0) == pieces(suite)
    locks = [FileLock(folder.lock(piece)) for piece in pieces(suite)]
    folder.lock(pieces(suite)[0]).parent.mkdir()
    for lock in locks:
        lock.acquire()
    assert work(suite, folder.path) == pieces(suite)
    for lock in locks:
        lock.release()


def test_a_student_that_another_process_makes_is_not_waited_for(suite: SuiteConfig, place: Path) -> None:
    folder = SuiteFolder(place / "beside")
    being_made = folder.lock(Piece("run", "causal", 2))
    being_made.parent.mkdir(parents=True)
    folder.config.write_text(dump_config(suite))
    with FileLock(being_made):
        left = work(suite, folder.path, arms=["causal"])
    assert [str(piece) for piece in left if piece.arm == "causal"] == ["run-causal-seed-2", "finetune-causal-seed-2"]
    assert not folder.home(Piece("run", "causal", 2)).exists()


def test_only_named_arms_are_done(suite: SuiteConfig, place: Path) -> None:
    left = work(suite, place / "one", arms=["causal"])
    assert [piece for piece in pieces(suite) if piece not in left] == [
        Piece("run", "causal", 2),
        Piece("finetune", "causal", 2),
    ]
    with pytest.raises(UserError, match='no arm "causl", did you mean "causal"'):
        work(suite, place / "two", arms=["causl"])
    assert not (place / "two").exists()


def test_only_named_seeds_are_done(suite: SuiteConfig, place: Path) -> None:
    left = work(suite, place / "one-seed", arms=["plain"], seeds=[1])
    assert [piece for piece in pieces(suite) if piece not in left] == [
        Piece("run", "plain", 1),
        Piece("finetune", "plain", 1),
    ]
    with pytest.raises(UserError, match="no seed 7; its seeds are 1, 2"):
        work(suite, place / "none", seeds=[7])
    assert not (place / "none").exists()


def test_an_arm_may_have_a_student_of_its_own(whole: SuiteFolder, place: Path) -> None:
    narrow = ["arm_students.causal={config: {hidden_size: 16, num_hidden_layers: 2}}"]
    of_all, of_own = (
        {one.piece.arm: one.flops for one in plan(load_suite("suite.yaml", ["finetune=null", *own]), "narrow")}
        for own in ([], narrow)
    )
    assert of_own["plain"] == of_all["plain"]
    assert of_own["causal"] is not None and of_all["causal"] is not None and of_own["causal"] < of_all["causal"]
    call("suite", "run", "suite.yaml", *narrow, "finetune=null", "--arm", "causal", "-o", "narrow")
    made = SuiteFolder(place / "narrow").home(Piece("run", "causal", 2)) / "causal"
    wide = whole.home(Piece("run", "causal", 2)) / "causal"
    assert [AutoModelForMaskedLM.from_pretrained(path).config.hidden_size for path in (made, wide)] == [16, 32]


def test_another_setting_is_told_before_anything_is_trained(suite: SuiteConfig, whole: SuiteFolder) -> None:
    other = suite.model_copy(update={"run": suite.run.model_copy(update={"training": {"max_steps": 5}})})
    before = whole.config.read_text()
    for changes, arms in (({}, ()), ({}, ("causal",)), ({"seeds": [3], "arm_seeds": {}}, ())):
        with pytest.raises(UserError, match="has other settings than the suite's run-plain-seed-1;"):
            work(other.model_copy(update=changes), whole.path, arms=arms)
    assert whole.config.read_text() == before  # a refused call leaves the suite as it was


def test_another_alignment_in_the_same_file_is_another_suite(place: Path, tmp_path: Path) -> None:
    given, file = ["run.arms.causal.alignment=aligned.yaml", "run.verification.alignment=aligned.yaml"], "aligned.yaml"
    (place / file).write_text(preset("diito/middle", 4, 2).to_yaml())
    before, piece = load_suite("suite.yaml", given), Piece("run", "causal", 2)
    assert file not in dump_config(before)
    home = SuiteFolder(tmp_path).home(piece)
    write_atomically(RunFolder(home).config, dump_config(before.run_config("causal", 2)))
    SuiteFolder(tmp_path).refuse_other(before, piece)
    (place / file).write_text(preset("diito/late", 4, 2).to_yaml())
    with pytest.raises(UserError, match="has other settings than the suite's run-causal-seed-2"):
        SuiteFolder(tmp_path).refuse_other(load_suite("suite.yaml", given), piece)


def test_other_settings_of_the_tasks_are_not_taken_for_done(suite: SuiteConfig, whole: SuiteFolder) -> None:
    assert suite.finetune is not None
    other = suite.model_copy(update={"finetune": suite.finetune.model_copy(update={"training": {"max_steps": 3}})})
    tuned = [piece for piece in pieces(suite) if piece.stage == "finetune"]
    assert all(whole.is_done(suite, piece) and not whole.is_done(other, piece) for piece in tuned)
    for arms in ((), ("causal",)):
        with pytest.raises(UserError, match="has other settings than the suite's finetune-teacher;"):
            work(other, whole.path, arms=arms)
    assert suite.finetune.tasks.keys() == {"sst2"}
    elsewhere = suite.model_copy(update={"run": suite.run.model_copy(update={"teacher": "other"})})
    assert whole.is_done(suite, Piece("finetune", "teacher")) and not whole.is_done(
        elsewhere, Piece("finetune", "teacher")
    )


def test_a_plan_tells_steps_and_what_the_like_took(whole: SuiteFolder, suite: SuiteConfig) -> None:
    one = next(one for one in plan(suite, whole.path) if one.piece == Piece("run", "plain", 1))
    results = json.loads(whole.results(one.piece).read_text())
    parts = [results["arms"]["plain"]["seconds"], results["verification"]["seconds"]]
    assert min(parts) > 0 and one.seconds == sum(parts)
    fewer = call("suite", "plan", "suite.yaml", "-o", "whole")
    assert "7 of 7 pieces are done" in fewer and "to do: 0;" in fewer
    more = call("suite", "plan", "suite.yaml", "seeds=[1, 2, 3]", "-o", "whole")
    [line] = [line.split() for line in more.splitlines() if "run-plain-seed-3" in line]
    assert line[1:4] == ["to", "do", "4"]
    assert "7 of 9 pieces are done" in more and "by what the like of 2 of them took" in more


@pytest.mark.usefixtures("whole")
def test_a_suite_written_by_hand_is_not_overwritten(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = (place / "suite.yaml").read_text()
    for verb in (["run", "suite.yaml", "-o", "."], ["collect", "suite.yaml", ".", "-o", "whole"]):
        with pytest.raises(SystemExit) as ended:
            main(["suite", *verb])
        assert ended.value.code == 2 and "suite.yaml would be overwritten: . keeps the" in capsys.readouterr().err
    assert (place / "suite.yaml").read_text() == written
    (place / "own").mkdir()
    (place / "own" / "suite.yaml").write_text(dump_config(load_suite("suite.yaml")))
    assert call("suite", "collect", "own/suite.yaml", "own", "-o", "whole").endswith("results of 7 pieces\n")


def test_a_plan_counts_the_micro_batches_of_an_epochs_last_step(suite: SuiteConfig, place: Path) -> None:
    every = {"max_steps": -1, "num_train_epochs": 2, "gradient_accumulation_steps": 8}
    run = suite.run.model_copy(update={"training": suite.run.training | every})
    batches, left = divmod(len(Prepared(run).train_rows), 4)
    assert batches % 8 and left == 1  # it is dropped
    step = next(one.flops for one in plan(suite, place / "none") if one.piece == Piece("run", "plain", 1))
    planned = next(
        one for one in plan(suite.model_copy(update={"run": run}), place / "none") if one.piece.arm == "plain"
    )
    assert planned.steps == 2 * -(-batches // 8) and step is not None
    assert planned.flops == 2 * batches * step / 4  # the step is one of 4


def test_a_plan_counts_a_resumed_training_whole(whole: SuiteFolder, suite: SuiteConfig, tmp_path: Path) -> None:
    moved, piece = SuiteFolder(tmp_path / "moved"), Piece("run", "plain", 1)
    shutil.copytree(whole.path, moved.path)
    results = json.loads(moved.results(piece).read_text())
    arm = results["arms"]["plain"]
    assert (arm["steps"], arm["resumed_at_step"]) == (4, 0)
    arm |= {"resumed_at_step": 3, "seconds": 2.0}
    moved.results(piece).write_text(json.dumps(results))
    took = {one.piece: one.seconds for one in plan(suite, moved.path)}
    assert took[piece] == pytest.approx(8.0 + results["verification"]["seconds"])
    arm |= {"resumed_at_step": 4}
    moved.results(piece).write_text(json.dumps(results))
    assert {one.piece: one.seconds for one in plan(suite, moved.path)}[piece] != took[piece]
    arm |= {"resumed_at_step": 0}
    del results["verification"]
    moved.results(piece).write_text(json.dumps(results))
    like = took[Piece("run", "plain", 2)]  # what is not known of one is taken from the other seed
    assert {one.piece: one.seconds for one in plan(suite, moved.path)}[piece] == like


def test_a_plan_names_pieces_in_full_on_a_narrow_screen(
    whole: SuiteFolder, suite: SuiteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "50")
    printed = call("suite", "plan", "suite.yaml", "-o", str(whole.path))
    assert [str(piece) for piece in pieces(suite) if str(piece) not in printed] == []


def test_results_are_collected_without_models(whole: SuiteFolder, suite: SuiteConfig, place: Path) -> None:
    assert call("suite", "collect", "suite.yaml", "kept", "-o", "whole") == "kept: results of 7 pieces\n"
    kept = SuiteFolder(place / "kept")
    assert {path.suffix for path in kept.path.rglob("*") if path.is_file()} == {".json", ".yaml"}
    for piece in pieces(suite):
        written = json.loads(whole.results(piece).read_text())
        if piece.stage == "finetune" and piece.seed is not None:  # where the suite lay is not told
            assert written["model"]["path"] == str(whole.student(piece).relative_to(place))
            written["model"]["path"] = f"{piece.arm}/seed-{piece.seed}/{piece.arm}"
        assert json.loads(kept.results(piece).read_text()) == written


def test_results_of_other_settings_are_not_kept_beside_those_collected(suite: SuiteConfig, place: Path) -> None:
    call("suite", "collect", "suite.yaml", "mixed", "-o", "whole")
    others = {
        "run-plain-seed-1": ["run.arms.plain.temperature=3.0"],
        "finetune-plain-seed-1": ["finetune.training.max_steps=3"],
        "run-causal-seed-2": ["arm_seeds.causal=[1]"],
    }
    for piece, other in others.items():
        with pytest.raises(UserError, match=f"is of other settings than the suite's {piece};"):
            collect(load_suite("suite.yaml", other), "nothing", "mixed")
    (place / "mixed" / "plain" / "seed-1" / "results.json").rename(place / "aside.json")
    with pytest.raises(UserError, match="is of other settings than the suite's finetune-plain-seed-1;"):
        collect(load_suite("suite.yaml", others["run-plain-seed-1"]), "nothing", "mixed")  # its student was another
    (place / "aside.json").rename(place / "mixed" / "plain" / "seed-1" / "results.json")
    assert load_suite("mixed/suite.yaml") == suite
    assert collect(suite, "nothing", "mixed") == []  # of the same settings, all stays
    assert len(list((place / "mixed").rglob("*.json"))) == 7


def test_a_report_tells_all_arms_and_is_the_same_of_what_was_collected(whole: SuiteFolder, place: Path) -> None:
    call("suite", "collect", "suite.yaml", "for-report", "-o", "whole")
    printed = call("suite", "report", "for-report", "-o", "tables")
    assert printed == call("suite", "report", str(whole.path))
    assert all(name in printed for name in ("plain", "causal", "perplexity, data", "sst2", "INCONCLUSIVE"))
    assert {path.name for path in (place / "tables").iterdir()} == {"suite.json", "suite.md", "suite.tex", "figures"}
    assert {path.suffix for path in (place / "tables" / "figures").iterdir()} == {".svg", ".png", ".csv"}
    numbers = json.loads((place / "tables" / "suite.json").read_text())
    assert numbers["baseline"] == "plain" and numbers["schema"] == "iit_toolkit/study/1"
    other = compared("for-report", "causal")
    assert other.baseline == "causal" and {one.arm for one in other.comparisons} == {"plain"}
    assert call("suite", "report", "for-report", "--baseline", "causal") != printed
    with pytest.raises(UserError, match="holds no suite.yaml"):
        compared(place / "tables")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        (["baseline=plan"], 'baseline: no arm "plan"'),
        (["arm_seeds.late=[1]"], 'arm_seeds.late: no arm "late"'),
        (["arm_students.late={layers: 1}"], 'arm_students.late: no arm "late"'),
        (["seeds=[1, 1]"], "a seed is given twice"),
        (["run.training.max_step=1"], "training.max_step: unknown setting"),
        (["run.arms.finetune={}"], 'arm "finetune": this name is taken by the toolkit; choose another'),
        (["run.arms.plain.training.output_dir=x"], "arms.plain.training.output_dir: this is set by"),
        (["run.training.seed=7"], "training.seed: this is set by the config's task, arms, output and seed; leave it"),
        (["finetune.tasks.sst={}"], 'no task "sst"'),
        (["finetune=nowhere.yaml"], "nowhere.yaml: can't be read"),
        (["equal_computed=plain"], "equal_computed: unknown key"),
        (["equal_compute=plain"], "equal_compute: plain is the baseline"),
        (["variables=[nowhere]"], 'variables: the runs are not verified on "nowhere"'),
        (
            ["arm_students.causal={layers: 1}"],
            "arm_students.causal: its runs would be verified by another alignment than those of plain; give "
            "run.verification.alignment as a file that fits both, or the arm a suite of its own",
        ),
        (["run.arms.causal.alignment=nowhere.yaml"], "alignment nowhere.yaml: no such file"),
        (["run.arms.causal.alignment=diito/ful"], "diito/full"),
        (["run.arms.causal.weights={causal_cee: 1}"], "arms.causal.weights.causal_cee: no such loss term"),
        (["finetune.training.learning_rat=1"], "tasks.sst2.training.learning_rat"),
        (["finetune.tasks.sst2.data.data_files.train=nowhere.parquet"], "nowhere.parquet"),
        (["finetune.tasks.sst2.max_length=1000"], "tasks.sst2.max_length is 1000"),
    ],
)
def test_mistakes_are_told_in_one_line(place: Path, overrides: list[str], told: str) -> None:
    with pytest.raises(UserError) as caught:
        work(load_suite(place / "suite.yaml", overrides), place / "wrong")
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert not (place / "wrong").exists()


def test_students_of_other_depths_are_fine_where_one_alignment_fits_all(place: Path) -> None:
    site = {"layer": 0, "component": "block_output"}
    given = {"name": "x", "variables": [{"name": "v", "teacher": [site], "student": [site]}]}
    (place / "fits.yaml").write_text(yaml.safe_dump(given))
    arm = ["arm_students.causal={layers: 1}", "run.arms.causal.alignment=fits.yaml"]
    deep = load_suite(place / "suite.yaml", [*arm, "run.verification.alignment=fits.yaml"])
    require_sound(deep, pieces(deep))
    other = load_suite(place / "suite.yaml", ["arm_students.causal={config: {intermediate_size: 8}}"])
    require_sound(other, pieces(other))


def test_alignments_are_compared_with_those_of_arms_that_are_done(place: Path) -> None:
    deep = load_suite(place / "suite.yaml", ["arm_students.causal={layers: 1}"])
    with pytest.raises(UserError, match="arm_students.causal: its runs would be verified by another alignment"):
        require_sound(deep, [piece for piece in pieces(deep) if piece.arm == "causal"])
    require_sound(deep, [piece for piece in pieces(deep) if piece.stage == "finetune"])


def test_a_launcher_that_is_no_command_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["suite", "run", "suite.yaml", "-o", "unquoted", "--launcher", 'torchrun "x'])
    assert ended.value.code == 2 and not (place / "unquoted").exists()
    assert '--launcher torchrun "x: No closing quotation; quote it as a shell command' in capsys.readouterr().err


def test_a_folder_of_something_else_is_refused(suite: SuiteConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="holds no suite"):
        work(suite, tmp_path)


def test_a_changed_teacher_is_told_before_anything_is_done(suite: SuiteConfig, tmp_path: Path) -> None:
    folder, piece = SuiteFolder(tmp_path), Piece("run", "plain", 1)
    home = RunFolder(folder.home(piece))
    for path, text in ((folder.config, dump_config(suite)), (home.config, dump_config(suite.run_config("plain", 1)))):
        write_atomically(path, text)
    begin_inputs(home, {"teacher weights": "sha256:0"})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="seed-1 was begun with another teacher: the weights of teacher changed since;"):
        work(suite, tmp_path, arms=["causal"])
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["plain", "plain/seed-1", "plain/seed-1/finetune", "locks"])
def test_a_suite_writes_through_no_link_out_of_its_folder(suite: SuiteConfig, tmp_path: Path, name: str) -> None:
    folder, other = SuiteFolder(tmp_path / "out"), tmp_path / "other"
    other.mkdir()
    write_atomically(folder.config, dump_config(suite))
    (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
    (folder.path / name).symlink_to(other)
    with pytest.raises(UserError, match=f"{name}: a symbolic link leads out of"):
        work(suite, folder.path)
    assert not list(other.iterdir())


def test_a_suite_needs_locks(suite: SuiteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "FileLock", SoftFileLock)
    with pytest.raises(
        UserError, match="could not lock run-plain-seed-1 of the suite .*: its file system has no locks"
    ):
        work(suite, tmp_path / "out")


@pytest.mark.parametrize("ends", [True, False], ids=["ends its processes", "does not end"])
def test_what_a_launcher_started_ends_with_the_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    """The launcher is told to end, as torchrun is, and killed if it does not."""
    told, script = tmp_path / "told", tmp_path / "launch.py"
    handler = f'open("{told}", "a").write("ended ")' + ("; sys.exit(0)" if ends else "")
    script.write_text(
        f"import os, signal, sys, time\ndef end(*_):\n    {handler}\n"
        f'signal.signal(signal.SIGTERM, end)\nopen("{told}", "w").write(f"{{os.getpid()}} ")\n'
        "while True:\n    time.sleep(0.05)\n"
    )
    monkeypatch.setattr("iit_toolkit.pipeline.suite.work._ENDING", 10.0 if ends else 0.5)

    def interrupt() -> None:
        until = time.monotonic() + 60
        while not (told.exists() and told.read_text()) and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    waiting = threading.Thread(target=interrupt)
    with pytest.raises(SystemExit), terminating_gently():
        waiting.start()
        _launch([sys.executable, str(script)], "x: 1\n", tmp_path / "seed-1", "piece 1/1")
    waiting.join()
    pid, *rest = told.read_text().split()
    assert rest == ["ended"]
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_a_launcher_makes_the_runs(suite: SuiteConfig, tmp_path: Path) -> None:
    """The command gets the run's config and folder; what it does not do is told."""
    script = tmp_path / "launch"
    keep = f'print(*sys.argv[1:], os.environ["{PIECE}"], sep="\\n", file=open("{tmp_path}/told", "w"))'
    script.write_text(f"#!{sys.executable}\nimport os, sys\n{keep}\nexit(3)\n")
    script.chmod(0o755)
    with pytest.raises(UserError, match="failed with exit code 3"):
        work(suite, tmp_path / "out", launcher=[str(script)])
    *told, place = (tmp_path / "told").read_text().splitlines()
    assert place == "piece 1/7 · seed 1"
    home = tmp_path / "out" / "plain" / "seed-1"
    assert told == ["-m", "iit_toolkit", "run", str(home) + ".yaml", "--resume", "--output", str(home)]
    with pytest.raises(UserError, match="nowhere: No such file"):
        work(suite, tmp_path / "out", launcher=["nowhere"])

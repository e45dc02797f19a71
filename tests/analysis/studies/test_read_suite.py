"""Suites read back: what is found, what may be missing, and which are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from iit_toolkit.analysis.studies.read_suite import read_suite
from iit_toolkit.errors import UserError
from tests.analysis.studies.suite_tree import PERPLEXITY, SEEDS, TEACHER_SCORE, change, write_tree


def test_arms_and_seeds_are_read_and_some_may_be_missing(tmp_path: Path) -> None:
    suite = read_suite(write_tree(tmp_path))
    assert set(suite.records) == set(PERPLEXITY)
    assert suite.seeds == SEEDS
    assert list(suite.records["middle"]) == [42, 66] and list(suite.records["full"]) == [42, 66, 88]
    assert suite.records["full"][66].training["steps"] == 100
    assert suite.records["full"][66].flops == 3.5e14
    assert suite.records["full"][88].tasks == {} and suite.records["late"][42].tasks == {}
    squad = suite.records["full"][66].tasks["squad"]
    assert (squad.score, squad.metrics, squad.seeds) == (72.5, {"exact_match": 62.5, "f1": 72.5}, (0, 1, 2))
    assert suite.teacher["cola"].score == TEACHER_SCORE


def test_flops_are_those_of_all_micro_batches(tmp_path: Path) -> None:
    file = write_tree(tmp_path) / "full" / "seed-66" / "results.json"
    change(file, arms__full__micro_batches=6, arms__full__micro_batches_run=580)  # some steps had fewer
    run = read_suite(tmp_path).records["full"][66]
    assert run.flops == 5.8 * 3.5e14 and run.step_flops == run.flops / 100


def test_seeds_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "full" / "seed-88").rename(tmp_path / "full" / "seed-101")
    change(tmp_path / "full" / "seed-101" / "results.json", seed=101)
    suite = read_suite(tmp_path)
    assert list(suite.records["full"]) == [42, 66, 101] and suite.seeds == (42, 66, 88, 101)


def test_a_teacher_need_not_be_fine_tuned(tmp_path: Path) -> None:
    write_tree(tmp_path)
    (tmp_path / "teacher" / "finetune" / "finetune.json").unlink()
    assert read_suite(tmp_path).teacher == {}


FINGERPRINT = "sha256:0"
ACCURACY = {"full": {"value": 0.5, "low": None, "high": None, "cases": 9, "clusters": 9}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"teacher__name": "other"}, "other teacher"),
        ({"data__validation__fingerprint": FINGERPRINT}, "other held-out data"),
        ({"data__train__fingerprint": FINGERPRINT}, "data.train is sha256:0, not sha256:00"),
        ({"evaluation__encyclopedia__fingerprint": FINGERPRINT}, "evaluation.encyclopedia is sha256:0, not sha256:00"),
        ({"evaluation": {}}, "evaluation.encyclopedia is None, not sha256:00"),
        ({"alignment__positions": {"kind": "all"}}, "other alignment"),
        ({"arms__full__student_parameters": 7}, "arms.full.student_parameters is 7, not 11900000"),
        ({"arms__full__steps": 99}, "arms.full.steps is 99, not 100"),
        ({"arms__full__objective": {"ce": 1.0}}, "arms.full.objective is {'ce': 1.0}, not {"),
        ({"seed": 42}, "its seed is 42, not 66 as its folder says"),
        ({"arms": {}}, "its arms are none; a run in full trains full alone"),
        ({"arms__full": {"steps": 100}}, "arms.full.alignment: field required"),
        ({"arms__full__cost": {}}, "arms.full.cost.flops: field required"),
        (
            {"evaluation__encyclopedia__perplexity": {}},
            "evaluation.encyclopedia has no perplexity of full; run it again",
        ),
        ({"evaluation__encyclopedia__perplexity": None}, "evaluation.encyclopedia has no perplexity of full"),
        ({"evaluation__encyclopedia__accuracy": ACCURACY}, "evaluation.encyclopedia has no accuracy of teacher"),
        (
            {"evaluation__encyclopedia__accuracy": {**ACCURACY, "teacher": ACCURACY["full"]}},
            "evaluation.encyclopedia, its measures is accuracy, perplexity, not perplexity",
        ),
        ({"evaluation__encyclopedia__perplexity__full__low": 0.0}, "a perplexity is above 0"),
        ({"arms__full__cost": None}, "arms.full.cost: input should be"),
        ({"summary__students__full__variables": {}}, "summary.students.full.variables: other variables"),
        ({"schema": "iit_toolkit/results/0"}, "this version reads"),
    ],
)
def test_runs_that_are_of_no_suite(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    write_tree(tmp_path)
    change(tmp_path / "full" / "seed-66" / "results.json", **changes)
    with pytest.raises(UserError) as caught:
        read_suite(tmp_path)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert "full/seed-66/results.json" in str(caught.value)


@pytest.mark.parametrize(("perplexity", "refused"), [(60.0, True), (52.02, False)])  # seed 66 has 52
def test_a_seed_whose_arms_were_masked_otherwise(tmp_path: Path, perplexity: float, refused: bool) -> None:
    path = write_tree(tmp_path) / "late" / "seed-66" / "results.json"
    measured = {"value": perplexity, "low": None, "high": None, "cases": 9, "clusters": 9}
    change(path, evaluation__encyclopedia__perplexity__teacher=measured)
    if refused:
        with pytest.raises(
            UserError, match="late/seed-66.* the teacher's perplexity on encyclopedia is 60, not 52, so"
        ):
            read_suite(tmp_path)
    else:
        assert read_suite(tmp_path).seeds == (42, 66, 88)


def test_seeds_of_an_arm_with_other_batches(tmp_path: Path) -> None:
    write_tree(tmp_path)
    change(tmp_path / "full" / "seed-88" / "results.json", arms__full__effective_batch=16)
    with pytest.raises(
        UserError, match="full/seed-88/results.json can't be compared .*: a step had 16 rows, not 8; run"
    ):
        read_suite(tmp_path)
    change(tmp_path / "full" / "seed-88" / "results.json", arms__full__effective_batch=8)
    assert list(read_suite(tmp_path).records["full"]) == [42, 66, 88]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schema": "x"}, "has the schema 'x'; this version reads"),
        ({"tasks__cola": {}}, "tasks.cola.seeds: field required; another version wrote this file"),
        ({"tasks__cola__splits": {}}, "tasks.cola.splits: dictionary should have at least 1 item"),
    ],
)
def test_scores_that_cannot_be_read(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    write_tree(tmp_path)
    change(tmp_path / "full" / "seed-66" / "finetune" / "finetune.json", **changes)
    with pytest.raises(UserError) as caught:
        read_suite(tmp_path)
    assert said in str(caught.value) and "seed-66/finetune/finetune.json" in str(caught.value)


@pytest.mark.parametrize("home", ["full/seed-66", "teacher"])
def test_medians_over_other_fine_tuning_seeds_are_not_compared(tmp_path: Path, home: str) -> None:
    change(write_tree(tmp_path) / home / "finetune" / "finetune.json", tasks__squad__seeds=[42])
    with pytest.raises(
        UserError, match=f"{home}/finetune can't be compared .*: the fine-tuning seeds of squad are 42, n"
    ):
        read_suite(tmp_path)


def test_weights_of_the_teacher_are_compared_among_those_that_say_them(tmp_path: Path) -> None:
    write_tree(tmp_path)  # of runs that say none
    for seed, weights in ((66, "sha256:12"), (88, "sha256:34")):
        path = tmp_path / "full" / f"seed-{seed}" / "results.json"
        change(path, teacher={**json.loads(path.read_text())["teacher"], "weights": weights})
    with pytest.raises(UserError, match="full/seed-88/results.json can't be compared .*: other weights of the teacher"):
        read_suite(tmp_path)


def test_a_seed_stands_once(tmp_path: Path) -> None:
    write_tree(tmp_path)
    shutil.copytree(tmp_path / "full" / "seed-42", tmp_path / "full" / "seed-042")
    with pytest.raises(UserError, match="full/seed-042: a seed has no zeros before it; rename it to seed-42"):
        read_suite(tmp_path)


def test_scores_are_not_read_through_a_link(tmp_path: Path) -> None:
    file = write_tree(tmp_path / "suite") / "full" / "seed-66" / "finetune" / "finetune.json"
    file.rename(tmp_path / "finetune.json")
    file.symlink_to(tmp_path / "finetune.json")
    with pytest.raises(UserError, match="finetune.json: a symbolic link leads out of"):
        read_suite(tmp_path / "suite")


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_a_folder_without_runs(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="no finished run; give a folder that holds ARM/seed-N/results.json"):
        read_suite(tmp_path / name)

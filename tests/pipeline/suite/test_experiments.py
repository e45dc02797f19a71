"""The committed suites."""

from __future__ import annotations

from pathlib import Path

import pytest

from iit_toolkit.alignment import alignment_from_file
from iit_toolkit.config.loading import load_config, parse_config, read_mapping
from iit_toolkit.downstream.config import FinetuneTasks
from iit_toolkit.pipeline.suite.config import load_suite
from iit_toolkit.pipeline.suite.pieces import pieces

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
FOLDER = EXPERIMENTS / "paper-claims"


@pytest.mark.parametrize("name", ["suite.yaml", "paper-suite.yaml"])
def test_a_suite_is_of_its_run_config_and_every_main_arm_has_the_papers_seeds(name: str) -> None:
    suite = load_suite(FOLDER / name)
    written = load_config(FOLDER / read_mapping(FOLDER / name)["run"])
    assert suite.run.model_copy(update={"arms": written.arms}) == written
    for arm, settings in written.arms.items():
        given = settings.alignment
        read = alignment_from_file(given) if isinstance(given, str) else None
        assert suite.run.arms[arm].alignment == (given if read is None else read.to_dict())
    for arm in ("plain", "middle", "late", "full", "full-cos"):
        assert suite.seeds_of(arm) == [42, 66, 88]
        assert {piece.seed for piece in pieces(suite) if piece.arm == arm} == {42, 66, 88}
    assert suite.run.arms["full-cos"].weights == dict.fromkeys(["task", "ce", "cos", "causal_ce", "causal_cos"], 0.2)


def test_the_arms_of_causal_weight_differ_in_their_interchanges_alone() -> None:
    suite = load_suite(EXPERIMENTS / "causal-weight" / "suite.yaml")
    none, most = (suite.run.arms[arm] for arm in ("none", "most"))
    assert none.alignment == most.alignment == suite.run.verification.alignment
    assert none.training | {"counterfactual_tokens": "labelled", "interchanges": 2} == most.training
    assert sum(none.weights.values()) == sum(most.weights.values()) and "causal_ce" not in none.weights


def test_all_tasks_of_the_paper_are_there() -> None:
    tasks = parse_config(FinetuneTasks, read_mapping(FOLDER / "tasks.yaml")).tasks
    assert set(load_suite(FOLDER / "paper-suite.yaml").finetune.tasks) == set(tasks) - {"wnli"}  # pyright: ignore

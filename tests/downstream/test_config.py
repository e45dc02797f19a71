from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iit_toolkit.config.loading import dump_config
from iit_toolkit.downstream.config import (
    FinetuneConfig,
    load_finetune_config,
    task_settings,
)
from iit_toolkit.downstream.tasks import TASKS
from iit_toolkit.errors import UserError

LOCAL = {"path": "parquet", "data_files": {"train": "a.parquet", "validation": "b.parquet"}}


def config(**tasks: Any) -> FinetuneConfig:
    return FinetuneConfig.model_validate({"model": "m", "tasks": tasks, "training": {"bf16": True, "max_steps": 7}})


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("cola", (128, None, 2e-5, 3, 32)),
        ("mnli", (128, None, 2e-5, 3, 32)),
        ("squad", (384, 128, 3e-5, 2, 12)),
        ("conll2003", (None, None, 5e-5, 3, 8)),
    ],
)
def test_the_defaults_are_the_papers(task: str, expected: tuple[Any, ...]) -> None:
    settings = task_settings(FinetuneConfig.model_validate({"model": "m", "tasks": {task: {}}}), task)
    names = ("learning_rate", "num_train_epochs", "per_device_train_batch_size")
    assert (settings.max_length, settings.doc_stride, *(settings.training[name] for name in names)) == expected


def test_a_task_wins_over_all_tasks_and_these_over_the_defaults() -> None:
    settings = task_settings(config(rte={"training": {"max_steps": 9}, "max_length": 32}), "rte")
    assert (settings.training["max_steps"], settings.training["bf16"], settings.max_length) == (9, True, 32)


def test_data_comes_from_the_hub_or_whole_from_elsewhere() -> None:
    hub = task_settings(config(mnli={}), "mnli")
    assert (hub.path, hub.name, hub.eval_splits) == (
        "nyu-mll/glue",
        "mnli",
        ["validation_matched", "validation_mismatched"],
    )
    local = task_settings(config(mnli={"data": LOCAL}), "mnli")
    assert (local.path, local.name, local.eval_splits, local.label_column) == ("parquet", None, ["validation"], "label")
    one = task_settings(config(mnli={"data": {"eval_splits": ["validation_matched"]}}), "mnli")
    assert (one.path, one.name, one.eval_splits) == ("nyu-mll/glue", "mnli", ["validation_matched"])


def test_a_config_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = config(rte={"data": LOCAL, "max_train_examples": 5}, squad={"doc_stride": 64})
    (tmp_path / "c.yaml").write_text(dump_config(written))
    assert load_finetune_config(tmp_path / "c.yaml") == written
    changed = load_finetune_config(tmp_path / "c.yaml", ["seeds=[1]", "tasks.rte.max_train_examples=6"])
    assert (changed.seeds, changed.tasks["rte"].max_train_examples) == ([1], 6)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["tasks.rtee={}"], r'tasks: no task "rtee", did you mean "rte"\?'),
        (["task={}"], r'task: unknown key, did you mean "tasks"\?'),
        (["tasks.rte.max_lenght=8"], r'tasks.rte.max_lenght: unknown key, did you mean "max_length"\?'),
        (["tasks.rte.data.pth=x"], r'tasks.rte.data.pth: unknown key, did you mean "path"\?'),
        (["tasks.rte.data.data_files=x"], "tasks.rte.data: data_files need a path"),
        (["tasks.rte.doc_stride=8"], "tasks: rte.doc_stride: only squad"),
        (["tasks.rte.max_train_examples=0"], "tasks.rte.max_train_examples: .*greater than 0"),
        (["tasks={}"], "tasks: .*at least 1"),
        (["seeds=[1, 1]"], "seeds: a seed is given twice: 1, 1"),
        (["seeds=[]"], "seeds: .*at least 1"),
        (["model=null"], "model: .*string"),
        (["name=a/b"], "name: "),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, overrides: list[str], message: str) -> None:
    (tmp_path / "c.yaml").write_text("model: m\ntasks: {rte: {}}\n")
    with pytest.raises(UserError, match=message) as caught:
        load_finetune_config(tmp_path / "c.yaml", overrides)
    assert "\n" not in str(caught.value)


def test_every_task_has_metrics_and_its_inputs() -> None:
    for task in TASKS.values():
        assert task.metrics and task.columns and task.eval_splits
    assert [name for name, task in TASKS.items() if task.kind == "classification" and not task.labels] == ["stsb"]

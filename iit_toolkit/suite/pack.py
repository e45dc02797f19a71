"""A suite with all that it reads in one small folder, to be carried to another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset

from iit_toolkit.data.rows import write_rows, write_small
from iit_toolkit.downstream.config import TaskConfig, TaskDataConfig, task_settings
from iit_toolkit.downstream.examples import load_examples
from iit_toolkit.downstream.tasks import TASKS
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.runs.config import dump_config
from iit_toolkit.runs.folder import write_atomically
from iit_toolkit.runs.schema import DataConfig
from iit_toolkit.suite.config import SuiteConfig


def pack(config: SuiteConfig, target: str | Path) -> Path:
    """Writes the teacher in half precision, the rows of token ids, the tasks' examples, and a suite that reads these.

    The packed suite gives the results of this one where the teacher's weights are numbers of half precision.

    Args:
        config: The suite.
        target: A new or empty folder; the packed suite names it as given here, so it is to be run from where it lies
            at the same relative path.

    Returns:
        The packed suite's file.

    Raises:
        UserError: If the target holds something, the data are pairs, a student begins from a checkpoint on this
            machine, or models or data can't be loaded.
    """
    folder = Path(target)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty: choose another folder")
    if config.run.data.source_column is not None:
        raise UserError(f"suite {config.name}: data of pairs (source_column) is not packed; carry its files")
    for student in (config.run.student, *config.arm_students.values()):
        if student.checkpoint is not None and Path(student.checkpoint).exists():
            raise UserError(f"suite {config.name}: the checkpoint {student.checkpoint} is not packed; carry its files")
    prepared = Prepared(config.run)
    run = {
        "teacher": str(folder / "teacher"),
        "data": _packed(config.run.data, folder / "rows" / "data", train=prepared.train_rows, eval=prepared.eval_rows),
        "evaluation": {
            name: _packed(data, folder / "rows" / "evaluation" / name, eval=prepared.evaluation_rows[name])
            for name, data in config.run.evaluation.items()
        },
    }
    tasks = {} if config.finetune is None else {name: _task(config, name, folder) for name in config.finetune.tasks}
    finetune = None if config.finetune is None else config.finetune.model_copy(update={"tasks": tasks})
    prepared.tokenizer.save_pretrained(folder / "teacher")
    prepared.teacher.half().save_pretrained(folder / "teacher")
    packed = config.model_copy(update={"run": config.run.model_copy(update=run), "finetune": finetune})
    write_atomically(folder / "suite.yaml", dump_config(packed))
    return folder / "suite.yaml"


def _packed(data: DataConfig, folder: Path, **rows: Dataset) -> DataConfig:
    """Write the rows of a data set by split, and return the section that reads them."""
    files: dict[str, Any] = {}
    for split, one in rows.items():
        files[split] = str(folder / f"{split}.parquet")
        write_rows(one, folder / f"{split}.parquet")
    return DataConfig(
        source="rows",
        data_files=files,
        train_split="train",
        eval_split="eval",
        label_column=data.label_column,
        max_length=data.max_length,
    )


def _task(config: SuiteConfig, name: str, folder: Path) -> TaskConfig:
    """Write a task's examples by split, and return the section that reads them."""
    made = config.finetune_config("unused")
    settings = task_settings(made, name)
    files: dict[str, str | list[str]] = {}
    for split, examples in load_examples(TASKS[name], settings).items():
        files[split] = str(folder / "tasks" / name / f"{split}.parquet")
        write_small(examples, folder / "tasks" / name / f"{split}.parquet")
    label = {"classification": "label", "entities": "tags", "question_answering": "answers"}[TASKS[name].kind]
    data = TaskDataConfig(
        path="parquet",
        data_files=files,
        train_split=settings.train_split,
        eval_splits=settings.eval_splits,
        label_column=label,
    )
    return made.tasks[name].model_copy(update={"data": data})

"""A suite with all that it reads in one small folder, to be carried to another machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset

from iit_toolkit.config.loading import dump_config
from iit_toolkit.config.run_config import DataConfig
from iit_toolkit.data.rows import write_rows, write_small
from iit_toolkit.downstream.config import TaskConfig, TaskDataConfig, task_settings
from iit_toolkit.downstream.examples import ANSWERS, load_examples
from iit_toolkit.downstream.tasks import TASKS
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.suite.config import SuiteConfig
from iit_toolkit.runs.folder import folder_written_whole, is_free, remove_empty, write_atomically


def pack(config: SuiteConfig, target: str | Path) -> Path:
    """Write the teacher in half precision, the rows of token ids, the tasks' examples, and a suite that reads these.

    The packed suite gives the results of this one where the teacher's weights are numbers of half precision.

    Args:
        config: The suite.
        target: A new or empty folder; the packed suite names it as given here, so it is to be run from where it lies
            at the same relative path.

    Returns:
        The packed suite's file.

    Raises:
        UserError: If the target holds something, the data are pairs, a student begins from a checkpoint on this
            machine, models or data can't be loaded, or the folder can't be written, which then is as it was.
    """
    folder = Path(target)
    if folder.is_file() or not is_free(folder):
        raise UserError(f"{folder} is not empty: choose another folder")
    if config.run.data.source_column is not None:
        raise UserError(f"suite {config.name}: data of pairs (source_column) is not packed; carry its files")
    for student in (config.run.student, *config.arm_students.values()):
        if student.checkpoint is not None and Path(student.checkpoint).exists():
            raise UserError(f"suite {config.name}: the checkpoint {student.checkpoint} is not packed; carry its files")
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with folder_written_whole(folder / "packing") as written:
            _write(config, _Place(written, folder))
        for part in (folder / "packing").iterdir():
            part.rename(folder / part.name)
        (folder / "packing").rmdir()
    finally:
        remove_empty(*missing)
    return folder / "suite.yaml"


@dataclass(frozen=True)
class _Place:
    """Where a folder is written, and where it will be."""

    written: Path
    named: Path

    def __truediv__(self, name: str) -> _Place:
        return _Place(self.written / name, self.named / name)


def _write(config: SuiteConfig, place: _Place) -> None:
    prepared = Prepared(config.run)
    data = {"train": prepared.train_rows, "eval": prepared.eval_rows}
    run = {
        "teacher": str((place / "teacher").named),
        "data": _packed(config.run.data, place / "rows" / "data", **data),
        "evaluation": {
            name: _packed(data, place / "rows" / "evaluation" / name, eval=prepared.evaluation_rows[name])
            for name, data in config.run.evaluation.items()
        },
    }
    tasks = {} if config.finetune is None else {name: _task(config, name, place) for name in config.finetune.tasks}
    finetune = None if config.finetune is None else config.finetune.model_copy(update={"tasks": tasks})
    prepared.tokenizer.save_pretrained(place.written / "teacher")
    prepared.teacher.half().save_pretrained(place.written / "teacher")
    packed = config.model_copy(update={"run": config.run.model_copy(update=run), "finetune": finetune})
    write_atomically(place.written / "suite.yaml", dump_config(packed))


def _packed(data: DataConfig, place: _Place, **rows: Dataset) -> DataConfig:
    """Write the rows of a data set by split, and return the section that reads them."""
    files: dict[str, Any] = {}
    for split, one in rows.items():
        file = place / f"{split}.parquet"
        files[split] = str(file.named)
        write_rows(one, file.written)
    return DataConfig(
        source="rows",
        data_files=files,
        train_split="train",
        eval_split="eval",
        label_column=data.label_column,
        max_length=data.max_length,
        shuffle_eval=False,  # they are already
    )


def _task(config: SuiteConfig, name: str, place: _Place) -> TaskConfig:
    """Write a task's examples by split, and return the section that reads them."""
    made = config.finetune_config("unused")
    settings = task_settings(made, name)
    files: dict[str, str | list[str]] = {}
    for split, examples in load_examples(TASKS[name], settings).items():
        file = place / "tasks" / name / f"{split}.parquet"
        files[split] = str(file.named)
        write_small(examples, file.written)
    data = TaskDataConfig(
        path="parquet",
        data_files=files,
        train_split=settings.train_split,
        eval_splits=settings.eval_splits,
        label_column=ANSWERS[TASKS[name].kind],
    )
    return made.tasks[name].model_copy(update={"data": data})

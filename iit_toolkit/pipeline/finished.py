"""The config of a verification of two finished models, of which only their names are given."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig

from iit_toolkit.config.loading import EMBEDDED_TEACHER, parse_config
from iit_toolkit.config.run_config import RunConfig
from iit_toolkit.config.task import TASKS, Task
from iit_toolkit.errors import UserError, listed
from iit_toolkit.models.loading import load_config
from iit_toolkit.models.task import task_of_classes

HELD_OUT = "validation"
_BUILDERS = {
    ".txt": "text",
    ".md": "text",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}
"""What `load_dataset` calls the kinds of files."""
_NAME = re.compile(r"[^\w-]+")


def finished_config(teacher: str, student: str, data: str, overrides: Sequence[str] = ()) -> RunConfig:
    """Make the config that verifies a finished student against a finished teacher; nothing is trained.

    The task is what the teacher's configuration says that it was saved for.

    Args:
        teacher: Folder or Hub id; `embedded` is the bundled one.
        student: Folder or Hub id; names the run.
        data: A file of texts (.txt, .md, .json, .jsonl, .csv, .parquet), `python_docs`, or a data set of the Hub.
        overrides: Further settings, as `dotted.key=value`.

    Raises:
        UserError: If the teacher has no configuration or does not say its task, or a setting is wrong.
    """
    document: dict[str, Any] = {
        "name": _NAME.sub("-", Path(student).name).strip("-") or "student",
        "teacher": teacher,
        "data": _data(data),
    }
    given = {override.partition("=")[0] for override in overrides}
    if "task" not in given:
        found = load_config(EMBEDDED_TEACHER if teacher == "embedded" else teacher, f"teacher {teacher}")
        document["task"] = _task(found, teacher)
    return parse_config(RunConfig, document, overrides, "verify")


def _data(data: str) -> dict[str, Any]:
    path = Path(data)
    if data == "python_docs":
        return {"source": data}
    if not path.is_file():
        if path.is_dir():
            raise UserError(f"--data {data} is a folder; give a file of texts, or a CONFIG that says how to read it")
        if path.suffix in _BUILDERS:
            raise UserError(f"--data {data}: no such file")
        return {"path": data}
    if path.suffix not in _BUILDERS:
        raise UserError(f"--data {data}: no kind of file that is known; give one of {', '.join(_BUILDERS)}")
    return {"path": _BUILDERS[path.suffix], "data_files": {HELD_OUT: data}, "eval_split": HELD_OUT}


def _task(config: PreTrainedConfig, teacher: str) -> Task:
    """Return the task of the head that a model was saved with."""
    names = list(config.architectures or [])
    task = task_of_classes(set(names))
    if task is None:
        raise UserError(
            f"teacher {teacher}: its config.json says {', '.join(names) or 'no architecture'}, which names no task; "
            f"give {listed(f'task={one}' for one in TASKS)}"
        )
    return task

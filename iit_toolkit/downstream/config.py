"""What to fine-tune, on which tasks, with which seeds: the config, and its settings with all defaults filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from iit_toolkit.config.loading import parse_config, read_mapping
from iit_toolkit.downstream.tasks import DOC_STRIDE, TASKS
from iit_toolkit.errors import did_you_mean, listed
from iit_toolkit.files.paths import ARE_PATHS, IS_PATH, Name

Positive = Annotated[int, Field(gt=0, lt=2**31)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
SEEDS = (111, 222, 333, 444, 555)
"""The fine-tuning seeds of the paper's official code."""


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class TaskDataConfig(_Section):
    """Where a task's examples are; without `path`: where they are on the Hub."""

    path: Annotated[str | None, IS_PATH] = None
    """First argument of `load_dataset`: a builder (`parquet`, `json`, ...) or a Hub id."""
    name: str | None = None
    """Configuration of the data set."""
    data_files: Annotated[dict[str, str | list[str]] | str | list[str] | None, ARE_PATHS] = None
    """Files for a builder, by split; relative paths start at the working directory."""
    train_split: str = "train"
    eval_splits: Annotated[list[str], Field(min_length=1)] | None = None
    """Splits that are scored; the first gives the task's score."""
    label_column: str | None = None
    """Column of labels, tags or answers; null: as on the Hub."""

    @model_validator(mode="after")
    def _path_first(self) -> TaskDataConfig:
        given = [name for name in ("name", "data_files") if getattr(self, name) is not None]
        if self.path is None and given:
            raise ValueError(f"{' and '.join(given)} need a path: a builder such as parquet, or a Hub id")
        return self


class TaskConfig(_Section):
    """What differs from a task's defaults."""

    data: TaskDataConfig = Field(default_factory=TaskDataConfig)
    max_train_examples: Positive | None = None
    max_eval_examples: Positive | None = None
    max_length: Positive | None = None
    """Tokens of the longest input, special tokens included."""
    doc_stride: Positive | None = None
    """Tokens by which windows of one context overlap (squad only)."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings of `transformers.TrainingArguments` for this task."""


class FinetuneTasks(_Section):
    """Tasks that a model is fine-tuned on, and the seeds of each."""

    tasks: Annotated[dict[str, TaskConfig], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)] = Field(default_factory=lambda: list(SEEDS))
    """Each task is fine-tuned once per seed, which draws the new head, dropout and the order of examples."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings of `transformers.TrainingArguments` for every task."""

    @field_validator("tasks")
    @classmethod
    def _known_tasks(cls, tasks: dict[str, TaskConfig]) -> dict[str, TaskConfig]:
        for name, task in tasks.items():
            if name not in TASKS:
                raise ValueError(f'no task "{name}", {did_you_mean(name, TASKS)}')
            if task.doc_stride is not None and name != "squad":
                raise ValueError(f"{name}.doc_stride: only squad has contexts that are cut into windows")
        return tasks

    @field_validator("seeds")
    @classmethod
    def _distinct_seeds(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"a seed is given twice: {listed(map(str, seeds))}")
        return seeds


class FinetuneConfig(FinetuneTasks):
    """A model, the tasks it is fine-tuned on, and the seeds of each."""

    name: Name = "finetune"
    """Names the folder it is written to."""
    model: Annotated[str, IS_PATH]
    """Local path or Hub id, with a tokenizer."""
    save_models: bool = False
    """Keep the fine-tuned models."""


def load_finetune_config(path: str | Path, overrides: Sequence[str] = ()) -> FinetuneConfig:
    """Read a config; overrides (`dotted.key=value`) win over the file, and the file over the defaults.

    Raises:
        UserError: If there is no such file, it is not valid YAML, or a key or value is wrong.
    """
    return parse_config(FinetuneConfig, read_mapping(Path(path)), overrides, f"config {path}")


@dataclass(frozen=True)
class TaskSettings:
    """Everything that, with model and seed, determines a fine-tuning; no default is left open."""

    path: str
    name: str | None
    data_files: dict[str, str | list[str]] | str | list[str] | None
    train_split: str
    eval_splits: list[str]
    label_column: str
    max_train_examples: int | None
    max_eval_examples: int | None
    max_length: int | None
    doc_stride: int | None
    training: dict[str, Any]


def task_settings(config: FinetuneConfig, name: str) -> TaskSettings:
    """Fill in what a config leaves open for one task: the Hub's data, the paper's hyperparameters."""
    task, given = TASKS[name], config.tasks[name]
    data = given.data
    on_hub = data.path is None
    return TaskSettings(
        path=task.path if data.path is None else data.path,
        name=task.name if on_hub else data.name,
        data_files=data.data_files,
        train_split=data.train_split,
        eval_splits=data.eval_splits or (list(task.eval_splits) if on_hub else ["validation"]),
        label_column=data.label_column or task.label_column,
        max_train_examples=given.max_train_examples,
        max_eval_examples=given.max_eval_examples,
        max_length=given.max_length or task.max_length,
        doc_stride=(given.doc_stride or DOC_STRIDE) if task.kind == "question_answering" else None,
        training={
            "learning_rate": task.learning_rate,
            "num_train_epochs": task.epochs,
            "per_device_train_batch_size": task.batch_size,
            **config.training,
            **given.training,
        },
    )

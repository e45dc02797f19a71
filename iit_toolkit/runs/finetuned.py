"""What a fine-tuning wrote, read back: the scores of one task and seed, and their summary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from iit_toolkit.files.json_files import read_object, refuse_other_schema, validated

SUMMARY_SCHEMA = "iit_toolkit/finetune/1"
SCORES_SCHEMA = "iit_toolkit/finetuned/1"
_REMEDY = "remove it and run `iit-toolkit finetune` again"
_Seed = Annotated[int, Field(ge=0)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)


class _Spread(_Part):
    mean: float | None
    median: float | None
    std: float | None
    values: list[float | None]


class TaskSummary(_Part):
    """One task over its seeds."""

    seeds: Annotated[list[_Seed], Field(min_length=1)]
    score: _Spread
    splits: Annotated[dict[str, dict[str, _Spread]], Field(min_length=1)]


class Summary(_Part):
    """A finetune.json."""

    model: dict[str, Any]
    tasks: dict[str, TaskSummary]


class _Training(_Part):
    seconds: Annotated[float, Field(ge=0)]


class Scores(_Part):
    """The scores of one task and seed."""

    seed: _Seed
    score: float
    scores: Annotated[dict[str, dict[str, float]], Field(min_length=1)]
    settings: dict[str, Any]
    data: dict[str, dict[str, Any]]
    training: _Training


_SUMMARY = TypeAdapter(Summary)
_SCORES = TypeAdapter(Scores)


def read_summary(path: Path) -> tuple[dict[str, Any], Summary]:
    """Read a finetune.json: its content, and the entries of it that are known.

    Raises:
        FileNotFoundError: If there is none.
        UserError: If it can't be read, or is of another schema or layout.
    """
    document = read_object(path)
    refuse_other_schema(path, document, SUMMARY_SCHEMA)
    return document, validated(path, document, _SUMMARY, _REMEDY)


def read_scores(path: Path) -> dict[str, Any]:
    """Read the scores of one task and seed.

    Raises:
        FileNotFoundError: If there are none.
        UserError: If they can't be read, or are of another schema or layout.
    """
    document = read_object(path)
    refuse_other_schema(path, document, SCORES_SCHEMA)
    validated(path, document, _SCORES, _REMEDY)
    return document

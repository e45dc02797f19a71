"""The folder of a fine-tuning: one file of scores per task and seed, and a summary of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iit_toolkit.errors import UserError
from iit_toolkit.files.paths import require_path
from iit_toolkit.files.plain_files import refuse_links_out
from iit_toolkit.runs.finetuned import SCORES_SCHEMA, read_scores
from iit_toolkit.runs.folder import folder_written_whole, is_free, write_json
from iit_toolkit.runs.working import working_in

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class FinetuneFolder:
    """Names, and files that are written whole or not at all."""

    path: Path

    @property
    def config(self) -> Path:
        """The config, with all defaults spelled out."""
        return self.path / "finetune.yaml"

    @property
    def summary(self) -> Path:
        """Mean, median and spread over the seeds."""
        return self.path / "finetune.json"

    def scores(self, task: str, seed: int) -> Path:
        """Return the scores of one fine-tuning."""
        return self.path / "scores" / f"{task}-{seed}.json"

    def model(self, task: str, seed: int) -> Path:
        """Return the fine-tuned model, if it is kept."""
        return self.path / "models" / f"{task}-{seed}"

    def refuse_foreign(self) -> None:
        """Refuse a folder that holds something, but no fine-tuning.

        Raises:
            UserError: If it does, is not a folder, or cannot be one.
        """
        require_path(self.path, "folder")
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file; give a folder with --output")
        if not is_free(self.path) and not self.config.is_file():
            raise UserError(
                f"the folder {self.path} is not empty and holds no fine-tuning: choose another with --output"
            )

    @contextmanager
    def alone(self) -> Generator[None]:
        """Keep other processes from fine-tuning in the folder; make it, and clear it of what killed ones left.

        Raises:
            UserError: If another does, the folder can't be made, written or locked, or a link leads out of it.
        """
        with working_in(self.path, "the fine-tunings in"):
            refuse_links_out(self.path, self.path / "scores", self.path / "models")
            yield

    def read_scores(self, task: str, seed: int, settings: Mapping[str, Any]) -> dict[str, Any] | None:
        """Read the scores of a finished fine-tuning; None if it is not finished.

        Raises:
            UserError: If it was made with other settings, or the file can't be read.
        """
        path = self.scores(task, seed)
        try:
            document = read_scores(path)
        except FileNotFoundError:
            return None
        wanted: dict[str, Any] = json.loads(json.dumps(settings))
        made_with = document["settings"]
        differing = [key for key in {**made_with, **wanted} if wanted.get(key) != made_with.get(key)]
        if differing:
            raise UserError(
                f"{path} was made with another {' and another '.join(differing)}; choose another --output, or remove it"
            )
        return document

    def refuse_other_data(self, task: str, seed: int, data: Mapping[str, Any]) -> None:
        """Refuse scores that were made with other rows than those now at the same place.

        Raises:
            UserError: If they were.
        """
        path = self.scores(task, seed)
        made_with = read_scores(path)["data"]
        differing = [split for split in {**made_with, **data} if made_with.get(split) != data.get(split)]
        if differing:
            raise UserError(
                f"{path} was made with other data ({', '.join(differing)}); choose another --output, or remove it"
            )

    def write_scores(self, task: str, seed: int, document: Mapping[str, Any]) -> None:
        """Write the scores of one fine-tuning, which finishes it.

        Raises:
            UserError: If they can't be written.
        """
        write_json(self.scores(task, seed), {"schema": SCORES_SCHEMA, "task": task, "seed": seed, **document})

    def save_model(self, task: str, seed: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        """Save a fine-tuned model whole or not at all.

        Raises:
            UserError: If it can't be written.
        """
        with folder_written_whole(self.model(task, seed)) as folder:
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)


def summarise(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Combine the scores of one task over its seeds.

    Args:
        runs: What `FinetuneFolder.read_scores` gives, one per seed.

    Returns:
        `score` (the task's official metrics, averaged, on its first split) and `splits` (every metric of every split),
        each as `mean`, `median`, `std` (of the sample; None for one seed) and `values`, in the order of `seeds`.
    """
    first = runs[0]["scores"]
    for run in runs:
        if _names(run["scores"]) != _names(first):
            raise UserError(
                f"the scores of seed {run['seed']} are of other splits or metrics than those of seed "
                f"{runs[0]['seed']}; remove the file of one, and run `iit-toolkit finetune` again"
            )
    return {
        "seeds": [run["seed"] for run in runs],
        "score": _spread([run["score"] for run in runs]),
        "splits": {
            split: {metric: _spread([run["scores"][split][metric] for run in runs]) for metric in first[split]}
            for split in first
        },
    }


def _names(scores: Mapping[str, Mapping[str, float]]) -> dict[str, set[str]]:
    return {split: set(metrics) for split, metrics in scores.items()}


def _spread(values: list[float]) -> dict[str, Any]:
    return {
        "mean": statistics.fmean(values),
        "median": statistics.median(values),
        "std": statistics.stdev(values) if len(values) > 1 else None,
        "values": values,
    }

"""The pieces of a suite, where each is written, and which are done."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from iit_toolkit.analysis.studies.study import TEACHER
from iit_toolkit.config.loading import load_config
from iit_toolkit.downstream.config import load_finetune_config, task_settings
from iit_toolkit.downstream.folder import FinetuneFolder
from iit_toolkit.errors import UserError
from iit_toolkit.pipeline.prepare import Prepared
from iit_toolkit.pipeline.suite.config import SuiteConfig
from iit_toolkit.runs.finetuned import read_summary
from iit_toolkit.runs.folder import RunFolder


@dataclass(frozen=True)
class Piece:
    """One part of a suite that is done or not.

    Attributes:
        stage: `run`: train, measure perplexity or accuracy, and verify; `finetune`: fine-tune on every task.
        arm: An arm, or `teacher`.
        seed: The arm's seed; None for the teacher.
    """

    stage: Literal["run", "finetune"]
    arm: str
    seed: int | None = None

    def __str__(self) -> str:
        """Return the name of a piece, which can be that of a file."""
        return f"{self.stage}-{self.arm}" if self.seed is None else f"{self.stage}-{self.arm}-seed-{self.seed}"


def pieces(config: SuiteConfig) -> list[Piece]:
    """Return every piece in the order of work: seed by seed, so that all arms of one are done early."""
    found: list[Piece] = []
    for seed in dict.fromkeys([*config.seeds, *itertools.chain(*config.arm_seeds.values())]):
        for arm in config.run.arms:
            if seed in config.seeds_of(arm):
                found.append(Piece("run", arm, seed))
                if config.finetune is not None:
                    found.append(Piece("finetune", arm, seed))
    if config.finetune is not None:
        found.append(Piece("finetune", TEACHER))
    return found


def alike(one: Piece, other: Piece) -> bool:
    """Whether one piece takes about as long as the other: the same arm with another seed, or any other fine-tuning."""
    return one.stage == other.stage and (one.stage == "finetune" or one.arm == other.arm)


@dataclass(frozen=True)
class SuiteFolder:
    """The folder of a suite. Only names are known here, and what they say of the pieces."""

    path: Path

    @property
    def config(self) -> Path:
        """The suite, with all defaults spelled out."""
        return self.path / "suite.yaml"

    def home(self, piece: Piece) -> Path:
        """Return the folder of an arm with one seed, which is that of its run; or the teacher's."""
        return self.path / piece.arm if piece.seed is None else self.path / piece.arm / f"seed-{piece.seed}"

    def student(self, piece: Piece) -> Path:
        """Return the folder of a run's student."""
        return self.home(piece) / piece.arm

    def finetuning(self, piece: Piece) -> FinetuneFolder:
        """Return the folder of a fine-tuning."""
        return FinetuneFolder(self.home(piece) / "finetune")

    def results(self, piece: Piece) -> Path:
        """Return the file of results."""
        return RunFolder(self.home(piece)).results if piece.stage == "run" else self.finetuning(piece).summary

    def lock(self, piece: Piece) -> Path:
        """Return the file that is locked by the process that works on a piece."""
        return self.path / "locks" / f"{piece}.lock"

    def begun(self, config: SuiteConfig) -> list[Piece]:
        """Return what has begun of the suite's arms and teacher, with its seeds or others."""
        found = [Piece("finetune", TEACHER)]
        for arm in config.run.arms:
            for home in sorted((self.path / arm).glob("seed-*")):
                seed = home.name.removeprefix("seed-")
                if seed.isdecimal():
                    found += [Piece("run", arm, int(seed)), Piece("finetune", arm, int(seed))]
        return [piece for piece in found if self._written(piece).is_file()]

    def refuse_other(self, config: SuiteConfig, piece: Piece) -> None:
        """Refuse a piece that was begun with other settings than the suite's.

        Raises:
            UserError: If it was.
        """
        is_the_suites = self._is_the_suites_run if piece.stage == "run" else self._has_the_suites_tasks
        if not is_the_suites(config, piece):
            written = self._written(piece)
            raise UserError(
                f"{written} has other settings than the suite's {piece}; choose another --output, or remove "
                f"{written.parent}"
            )

    def is_done(self, config: SuiteConfig, piece: Piece) -> bool:
        """Whether a piece is done as the suite has it."""
        if not self.results(piece).is_file():
            return False
        if piece.stage == "run":
            reported = RunFolder(self.home(piece)).report_html.is_file()  # the last file that is written
            return reported and self._is_the_suites_run(config, piece)
        written = load_finetune_config(self.finetuning(piece).config)
        model = Prepared(config.texts).teacher_path if piece.seed is None else written.model  # the suite may be moved
        if written != config.finetune_config(model).model_copy(update={"name": written.name}):
            return False
        assert config.finetune is not None
        _, summary = read_summary(self.results(piece))
        seeds = {name: task.seeds for name, task in summary.tasks.items()}
        return seeds == {name: config.finetune.seeds for name in config.finetune.tasks}

    def _is_the_suites_run(self, config: SuiteConfig, piece: Piece) -> bool:
        assert piece.seed is not None
        return load_config(RunFolder(self.home(piece)).config) == config.run_config(piece.arm, piece.seed)

    def _has_the_suites_tasks(self, config: SuiteConfig, piece: Piece) -> bool:
        """Whether the tasks that both have are the same; tasks and seeds may be added."""
        if config.finetune is None:
            return True
        written = load_finetune_config(self._written(piece))
        wanted = config.finetune_config(written.model)
        return all(
            task_settings(written, name) == task_settings(wanted, name) for name in {*written.tasks} & {*wanted.tasks}
        )

    def _written(self, piece: Piece) -> Path:
        """Return the config of what was begun."""
        return RunFolder(self.home(piece)).config if piece.stage == "run" else self.finetuning(piece).config

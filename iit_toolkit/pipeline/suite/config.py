"""What a suite is made of: a run config of either kind, its seeds, and the tasks that students are fine-tuned on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from iit_toolkit.config.loading import AnyRunConfig, RunSection, apply_override, parse_config, read_mapping
from iit_toolkit.config.run_config import RunConfig, StudentConfig
from iit_toolkit.downstream.config import FinetuneConfig, FinetuneTasks, Seed
from iit_toolkit.errors import UserError, did_you_mean, listed
from iit_toolkit.files.paths import Name
from iit_toolkit.pipeline.alignment_files import with_alignments_read
from iit_toolkit.pipeline.networks.prepare import with_alignment_files_read

Seeds = Annotated[list[Seed], Field(min_length=1)]


class SuiteConfig(BaseModel):
    """Arms times seeds: each is a run of its own, and its student is fine-tuned."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    name: Name
    """Names the folder it is written to."""
    run: RunSection
    """Everything but the seeds; in a file: the run config, or the path of its file, beside the suite's. It is one of
    programs and networks if its `teacher` holds keys."""
    seeds: Seeds
    """Every arm is run with each of these."""
    arm_seeds: dict[str, Seeds] = Field(default_factory=dict)
    """The seeds of arms that are run with others."""
    arm_students: dict[str, StudentConfig] = Field(default_factory=dict)
    """Where the student comes from, by arm, if not from where `run.student` says; of models of transformers only."""
    baseline: str
    """The arm that the others are compared with, at equal steps."""
    equal_compute: str | None = None
    """The arm with the others' compute, if there is one."""
    variables: list[str] | None = None
    """Variables of the verification whose mean is compared; null: all."""
    finetune: FinetuneTasks | None = None
    """Tasks that teacher and students are fine-tuned on, if any; in a file: these, or the path of their file. Only
    models of transformers are fine-tuned."""

    @field_validator("finetune", mode="before")
    @classmethod
    def _of_tasks(cls, given: Any) -> Any:
        more = [name for name in FinetuneConfig.model_fields if name not in FinetuneTasks.model_fields]
        if isinstance(given, dict) and (found := [name for name in more if name in given]):
            raise ValueError(f"{listed(found)}: a suite fine-tunes its own models; leave it out")
        return given

    @field_validator("seeds", "arm_seeds")
    @classmethod
    def _distinct(cls, given: Any) -> Any:
        for seeds in given.values() if isinstance(given, dict) else [given]:
            if len(set(seeds)) < len(seeds):
                raise ValueError(f"a seed is given twice: {listed(map(str, seeds))}")
        return given

    @model_validator(mode="after")
    def _known_arms(self) -> SuiteConfig:
        if not isinstance(self.run, RunConfig):
            for name, given in (("finetune", self.finetune), ("arm_students", self.arm_students)):
                if given:
                    raise ValueError(
                        f"{name} is for models of transformers, but the run's teacher is a program or a network of "
                        "torch; leave it out"
                    )
        named = {"baseline": self.baseline, "equal_compute": self.equal_compute}
        named |= {f"arm_seeds.{arm}": arm for arm in self.arm_seeds}
        named |= {f"arm_students.{arm}": arm for arm in self.arm_students}
        for where, arm in named.items():
            if arm is not None and arm not in self.run.arms:
                raise ValueError(f'{where}: no arm "{arm}", {did_you_mean(arm, self.run.arms)}')
        if self.equal_compute == self.baseline:
            raise ValueError(f"equal_compute: {self.baseline} is the baseline; give an arm that had more compute")
        return self

    def seeds_of(self, arm: str) -> list[int]:
        """Return the seeds that an arm is run with."""
        return self.arm_seeds.get(arm, self.seeds)

    @property
    def texts(self) -> RunConfig:
        """The run config of a suite of models of transformers, which alone has what is asked of it."""
        assert isinstance(self.run, RunConfig)
        return self.run

    def student_of(self, arm: str) -> StudentConfig:
        """Return where the student of an arm comes from, in a suite of models of transformers."""
        return self.arm_students.get(arm, self.texts.student)

    def run_config(self, arm: str, seed: int) -> AnyRunConfig:
        """Return the config of one arm's run with one seed; all arms are verified by one alignment."""
        settings = self.run.verification
        aligned = (one.alignment for one in self.run.arms.values() if one.alignment is not None)
        alignment = settings.alignment if settings.alignment is not None else next(aligned, None)
        verification = settings.model_copy(update={"alignment": alignment, "baseline": None, "treatment": None})
        return self.run.model_copy(
            update={
                "name": self.name,
                "seed": seed,
                "student": self.student_of(arm) if isinstance(self.run, RunConfig) else self.run.student,
                "arms": {arm: self.run.arms[arm]},
                "verification": verification,
            }
        )

    def finetune_config(self, model: str) -> FinetuneConfig:
        """Return the config that fine-tunes a model on the suite's tasks."""
        assert self.finetune is not None
        return FinetuneConfig(model=model, **dict(self.finetune))


def load_suite(path: str | Path, overrides: Sequence[str] = ()) -> SuiteConfig:
    """Read a suite; overrides (`dotted.key=value`) win over the file, and the file over the defaults.

    Alignment files are read into the suite: if one is changed later, the suite is another.

    Raises:
        UserError: If there is no such file, it is not valid YAML, or a key or value is wrong.
    """
    document = read_mapping(Path(path))
    _read_sections(document, Path(path).parent)
    for override in overrides:
        _refuse_replaced(override)
        apply_override(document, override)
        _read_sections(document, Path(path).parent)
    config = parse_config(SuiteConfig, document, where=f"suite {path}")
    run = config.run
    read = with_alignments_read(run) if isinstance(run, RunConfig) else with_alignment_files_read(run)
    return config.model_copy(update={"run": read})


_REPLACED = {"seed": "seeds", "name": "name", "verification.baseline": "baseline", "verification.treatment": "baseline"}
"""What a suite gives its runs, and its own key for it."""


def _refuse_replaced(override: str) -> None:
    """Refuse to override what the suite gives its runs."""
    section, _, key = override.partition("=")[0].partition(".")
    if section == "run" and key in _REPLACED:
        raise UserError(f"run.{key}: the suite gives it to its runs; override {_REPLACED[key]}")


def _read_sections(document: dict[str, Any], folder: Path) -> None:
    """Replace paths of files with what these say."""
    for section in ("run", "finetune"):
        given = document.get(section)
        if isinstance(given, str):
            document[section] = read_mapping(folder / given)

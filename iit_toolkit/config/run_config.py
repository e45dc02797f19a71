"""The fields of a run config: what a YAML file may say, with its defaults."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import AfterValidator, Field, field_validator, model_validator

from iit_toolkit.config.data_config import DataConfig, MixedConfig
from iit_toolkit.config.recipes import RecipeName
from iit_toolkit.config.section import Positive, Section
from iit_toolkit.config.task import FACTS, Column, Task
from iit_toolkit.errors import UserError, listed, shown
from iit_toolkit.files.paths import IS_PATH, Name
from iit_toolkit.runs.folder import require_arm_name

Share = Annotated[float, Field(gt=0, lt=1)]
MOST_RESAMPLES = 1_000_000
MAX_BLOCKS = 1000
"""The most blocks of a student. They are made one by one, and no model has more."""
MAX_SIZE = 10**8
"""The largest other size in a student's config. Weights of one such size alone take 400 MB."""


class StudentConfig(Section):
    """Where the student comes from: teacher layers (the default), a fresh model, or a checkpoint."""

    layers: Positive | list[Annotated[int, Field(ge=0, lt=2**31)]] | None = None
    """Teacher layers that the student copies: how many, or which ones; null: half of them, spread evenly."""
    fresh_blocks: bool = False
    """Draw the blocks' weights at random: embeddings and head alone are the teacher's."""
    config: dict[str, Any] | None = None
    """Changes to the teacher's config; the student then starts from random weights."""
    checkpoint: Annotated[str | None, IS_PATH] = None
    """Local path or Hub id of a model to start from."""

    @model_validator(mode="after")
    def _one_origin(self) -> StudentConfig:
        given = [name for name in ("layers", "config", "checkpoint") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"give only one of layers, config and checkpoint (there are {' and '.join(given)})")
        if self.fresh_blocks and given not in ([], ["layers"]):
            raise ValueError(f"fresh_blocks is of students made of layers; leave it out with {given[0]}")
        return self

    @field_validator("config")
    @classmethod
    def _buildable(cls, config: dict[str, Any] | None) -> dict[str, Any] | None:
        for key, value in (config or {}).items():
            most = MAX_BLOCKS if "layer" in key else MAX_SIZE
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{shown(key)} is {value}; models are built of finite numbers")
            if isinstance(value, int) and abs(value) > most:
                raise ValueError(f"{shown(key)} is {shown(value)}; models are built of at most {most:,}")
        return config


class MaskingConfig(Section):
    """How masked language modelling chooses its tokens."""

    probability: Share = 0.15
    smoothing: Annotated[float, Field(ge=0, le=10)] | None = None
    """Draw tokens in proportion to count ** -smoothing; the paper's code uses 0.7; null: all alike."""


class ArmConfig(Section):
    """One student to train: its alignment and its losses."""

    alignment: Annotated[str | dict[str, Any] | None, IS_PATH] = None
    """A preset, a file or the alignment itself; null: an arm without interventions."""
    recipe: RecipeName | None = None
    """Weights and settings by name: `plain`, `paper`, `fast` or `targeted`. What the arm gives itself wins."""
    weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(default_factory=dict)
    """Weight of each loss term; if empty, the recipe's. Without a recipe: the paper's, causal if there is an alignment.
    """
    temperature: Annotated[float, Field(ge=1e-3, le=1e3)] = 2.0
    """Temperature of the distillation losses; beyond these bounds they under- or overflow."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings of the trainer that differ from the config's, such as `max_steps`."""


class VerificationConfig(Section):
    """How students are compared with their teacher after training."""

    alignment: Annotated[str | dict[str, Any] | None, IS_PATH] = None
    """The alignment that every student is verified by; null: that of the first arm that has one."""
    pairs: Positive = 512
    """Pairs of base and source, per variable."""
    batch_size: Annotated[int, Field(gt=0, lt=2**20)] = 16
    """Base rows per batch. No mask, pair or swap depends on it; logits do in their last bits, as rows of a batch are
    padded to one length and multiplied together."""
    top_k: Positive = 10
    """Tokens of each model that the effect correlation looks at."""
    resamples: Annotated[int, Field(ge=100, le=MOST_RESAMPLES)] = 2000
    """Bootstrap resamples behind each interval."""
    measure: Literal["effect_r2", "kl_recovered", "effective_iia", "iia"] = "effect_r2"
    """What the verdict rests on. The report shows all of them."""
    margin: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """How far the measure must lie above every control."""
    baseline: str | None = None
    """The arm that `treatment` is compared with."""
    treatment: str | None = None


_Arm = TypeVar("_Arm")


def _with_names(arms: dict[str, _Arm]) -> dict[str, _Arm]:
    for name in arms:
        require_arm_name(name)
    return arms


Arms = Annotated[dict[str, _Arm], AfterValidator(_with_names)]
"""Arms by name."""


def refuse_no_arms(name: str, arms: Collection[str]) -> None:
    """Check that there is something to train.

    Args:
        name: The config's name.
        arms: Its arms.

    Raises:
        UserError: If there is no arm.
    """
    if not arms:
        raise UserError(
            f"config {name} has no arms, so there is nothing to train; give arms, such as arms.plain={{}}, or "
            "verify a finished student with `iit-toolkit verify`"
        )


class _Aligned(Protocol):
    @property
    def alignment(self) -> Any: ...


def first_causal(arms: Mapping[str, _Aligned]) -> str | None:
    """Return the first arm with an alignment: the one that is judged if no other is named."""
    return next((name for name, arm in arms.items() if arm.alignment is not None), None)


def refuse_unknown_roles(verification: VerificationConfig, arms: Mapping[str, _Aligned]) -> None:
    """Check that the arms to compare are two arms.

    Raises:
        ValueError: If they are not.
    """
    for role in ("baseline", "treatment"):
        arm = getattr(verification, role)
        if arm is not None and arm not in arms:
            raise ValueError(f'verification.{role} "{arm}" is no arm (arms: {listed(arms)})')
    judged = verification.treatment or first_causal(arms) or next(iter(arms), None)
    if verification.baseline is not None and verification.baseline == judged:
        raise ValueError(f"verification.baseline {judged} is the judged arm (treatment); give another")


class RunConfig(Section):
    """A whole run: teacher, student, data, the arms to train, and their verification."""

    name: Name
    """Names the run, and the folder it is written to."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    task: Task = "masked_lm"
    teacher: Annotated[str, IS_PATH]
    """Local path or Hub id; `embedded`: the small model that comes with the package."""
    student: StudentConfig = Field(default_factory=StudentConfig)
    data: DataConfig
    mixture: dict[Name, MixedConfig] = Field(default_factory=dict)
    """Further training data, by name."""
    mlm: MaskingConfig = Field(default_factory=MaskingConfig)
    arms: Arms[ArmConfig] = Field(default_factory=dict)
    """The students to train, by name; none if finished students are verified only."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings of the trainer, checked there."""
    verification: VerificationConfig = Field(default_factory=VerificationConfig)
    evaluation: dict[Name, DataConfig] = Field(default_factory=dict)
    """Further held-out data, by name, on whose evaluation split every model's perplexity (and, in classification,
    accuracy) is measured."""

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        column = FACTS[self.task].column
        if column is not None:
            self._require_labelled(column)
        for where, data in self._sections().items():
            if data.two_sentences and column != "label_column":
                raise ValueError(f"{where}: two sentences (text_column) are for task sequence_classification")
            if data.label_column is not None and column != "label_column":
                raise ValueError(f"{where}: label_column is for task sequence_classification")
            if data.tags_column is not None and column != "tags_column":
                raise ValueError(f"{where}: tags_column is for task token_classification")
        refuse_unknown_roles(self.verification, self.arms)
        if self.mlm != MaskingConfig() and self.task != "masked_lm":
            raise ValueError("mlm is for task masked_lm; leave it out")
        return self

    def _sections(self) -> dict[str, DataConfig]:
        """Return every section of data, by where it stands."""
        sections = {"data": self.data} | {f"evaluation.{name}": data for name, data in self.evaluation.items()}
        return sections | {f"mixture.{name}": data for name, data in self.mixture.items()}

    def _require_labelled(self, column: Column) -> None:
        if getattr(self.data, column) is None:
            raise ValueError(f"task {self.task} needs data.{column}")
        if self.data.eval_split in self.evaluation:
            raise ValueError(f"evaluation.{self.data.eval_split}: data.eval_split is measured under that name already")
        for where, data in self._sections().items():
            if getattr(data, column) is None:
                raise ValueError(f"{where}: task {self.task} needs a {column}")

"""What results.json holds, as far as it is read back: every entry that a verb looks at, with its type and range.

Further entries are allowed. An entry with a default may be absent.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from iit_toolkit.analysis.statistics.comparison import Comparison
from iit_toolkit.analysis.statistics.control_results import ControlResults
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.numbers import EVALUATED
from iit_toolkit.analysis.statistics.ranges import Perplexity, Share
from iit_toolkit.analysis.statistics.summary import Summary
from iit_toolkit.analysis.statistics.verdict import Verdict
from iit_toolkit.config.run_config import MAX_BLOCKS, MOST_RESAMPLES
from iit_toolkit.runs.folder import require_arm_name

LEVELS = 0.5, 0.9999
_Count = Annotated[int, Field(ge=0)]
_Positive = Annotated[int, Field(gt=0)]
_Number = Annotated[float, Field(ge=0, lt=1e30)]
_Operations = Annotated[float, Field(gt=0, lt=1e30)]
_MOST_LOGGED = 1e100  # far beyond what single precision holds, and its differences can be drawn
_Name = Annotated[str, Field(min_length=1, max_length=500)]
_Fact = str | float | bool | None


class _Part(BaseModel):
    """Entries that are known; others are let through."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True, allow_inf_nan=False)


class _Hardware(_Part):
    cpu: str | None
    cores: int | None
    cuda: list[str]


class _Provenance(_Part):
    git_commit: str | None
    git_dirty: bool | None
    versions: dict[str, _Fact]
    hardware: _Hardware
    platform: str


class _Rows(_Part):
    examples: _Count
    tokens: _Count
    fingerprint: str
    skipped_pairs: dict[str, _Count] = Field(default_factory=dict)
    sentences: list[str] = Field(default_factory=list)


class Evaluated(_Part):
    """What was measured on one held-out set: by measure and model."""

    rows: _Count
    fingerprint: str
    perplexity: dict[str, Perplexity] | None = None
    accuracy: dict[str, Share] | None = None


class _Teacher(_Part):
    """The teacher; the fingerprint of its weights may be absent, and is then not compared."""

    name: str
    parameters: _Count
    weights: str | None = None


class _Variable(_Part):
    name: _Name
    teacher: list[dict[str, Any]]
    student: list[dict[str, Any]]


class _Alignment(_Part):
    name: str
    variables: list[_Variable]
    positions: dict[str, Any]
    sources: dict[str, Any]


class _Cost(_Part):
    flops: _Operations
    plain_flops: _Operations
    step_seconds: _Number | None


class Training(_Part):
    """An arm's training, which is training.json as well."""

    alignment: str | None
    objective: dict[str, float]
    student_parameters: _Count
    steps: _Count
    tokens: _Count
    seconds: _Number
    history: list[dict[str, _Fact]]
    cost: _Cost
    cpu_seconds: _Number
    micro_batches: _Positive
    micro_batches_run: _Positive
    effective_batch: _Count
    resumed_at_step: _Count
    provenance: _Provenance

    @model_validator(mode="after")
    def _logged(self) -> Training:
        for line in self.history:
            if any(isinstance(value, str | bool) for value in line.values()):
                raise ValueError("history: a logged value is no number")
            if any(isinstance(value, int | float) and abs(value) > _MOST_LOGGED for value in line.values()):
                raise ValueError(f"history: a logged value lies beyond {_MOST_LOGGED:g}")
            step = line.get("step")
            if not isinstance(step, int | float) or not 0 <= step < 2**53 or step != int(step):
                raise ValueError("history: a line without its step, which is a whole number from 0")
        return self


class _ProgramVariable(_Part):
    name: _Name
    reads: list[str]
    values: list[str]


class _Checked(_Part):
    name: str
    passed: bool
    detail: str


class _Program(_Part):
    """A program that teaches, or that the teacher was taught, and its certification on the held-out rows."""

    name: str
    answer: str
    variables: list[_ProgramVariable]
    checks: list[_Checked]


class _Linked(_Part):
    iia: Estimate
    effective_iia: Estimate
    effect_r2: Estimate


class Link(_Part):
    """One network of a chain against the program at its head, or against its teacher."""

    upper: str
    lower: str
    variables: dict[_Name, _Linked]


class _Verification(_Part):
    seconds: _Number


class Results(_Part):
    """A results.json; how long the verification took, and how many blocks models have, may be absent."""

    name: str
    created: str
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    task: str
    provenance: _Provenance
    data: Annotated[dict[str, _Rows], Field(min_length=1)]
    teacher: _Teacher
    arms: dict[Annotated[str, AfterValidator(require_arm_name)], Training]
    alignment: _Alignment
    summary: Summary
    controls: ControlResults
    verdict: Verdict
    comparison: Comparison | None = None
    evaluation: dict[str, Evaluated] | None = None
    verification: _Verification | None = None
    choices: Summary | None = None
    blocks: dict[str, Annotated[int, Field(ge=1, le=MAX_BLOCKS)]] | None = None
    program: _Program | None = None
    chain: list[Link] | None = None

    @model_validator(mode="after")
    def _ranges(self) -> Results:
        summary, margin = self.summary, self.verdict.margin
        if not 1 <= summary.resamples <= MOST_RESAMPLES:
            raise ValueError(f"summary.resamples must lie between 1 and {MOST_RESAMPLES:,}")
        if summary.seed < 0 or not LEVELS[0] <= summary.level <= LEVELS[1]:
            raise ValueError("summary.seed must not be negative, and summary.level must lie between 0.5 and 0.9999")
        if not 0 <= margin < 1:
            raise ValueError("verdict.margin must lie between 0 and 1")
        if not summary.students:
            raise ValueError("summary.students is empty")
        if self.verdict.student not in summary.students:
            there = ", ".join(summary.students)
            raise ValueError(f'verdict: no student "{self.verdict.student}"; there are: {there:.60}')
        return self

    @model_validator(mode="after")
    def _same_variables(self) -> Results:
        """Refuse what is said of fewer variables than were aligned: it could pass for being said of all."""
        aligned = [one.name for one in self.alignment.variables]
        if not aligned or len(set(aligned)) != len(aligned):
            raise ValueError("alignment.variables: empty, or a name stands twice")
        measured = {f"summary.students.{name:.60}": one.variables for name, one in self.summary.students.items()}
        for place, variables in {**measured, "verdict": self.verdict.variables}.items():
            if set(variables) != set(aligned):
                raise ValueError(f"{place}.variables: other variables than in the alignment")
        return self

    @model_validator(mode="after")
    def _same_models(self) -> Results:
        """Check that every held-out set was measured of the same models: a table has a line for each of them."""
        for measure in EVALUATED:
            first: set[str] | None = None
            for name, found in (self.evaluation or {}).items():
                if (measured := getattr(found, measure)) is not None:
                    first = set(measured) if first is None else first
                    if set(measured) != first:
                        raise ValueError(f"evaluation.{name:.60}.{measure}: of other models than in the first set")
        return self


RESULTS = TypeAdapter(Results)
TRAINING = TypeAdapter(Training)

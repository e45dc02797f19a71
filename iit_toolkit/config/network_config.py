"""The fields of a run config whose teacher is a program or a network, and whose students are networks of torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from iit_toolkit.config.run_config import Arms, VerificationConfig, refuse_unknown_roles
from iit_toolkit.config.section import Positive, Section
from iit_toolkit.files.paths import IS_PATH, Name

PythonName = Annotated[str, IS_PATH]
"""An object of the user's Python: `path/to/file.py:name` or `package.module:name`. Loading it executes the file."""


class NetworkConfig(Section):
    """A network of torch."""

    network: PythonName
    """A function without arguments that returns the `torch.nn.Module`: file.py:name or package.module:name."""
    weights: Annotated[str | None, IS_PATH] = None
    """Folder of trained weights, such as that of an arm of an earlier run; null: those that the function makes."""


class NetworkTeacherConfig(Section):
    """The teacher: a program, or a network."""

    program: PythonName | None = None
    """A `CausalModel` (or `pyvene.CausalModel`), or a function that returns it: file.py:name or package.module:name."""
    network: PythonName | None = None
    """A function without arguments that returns the `torch.nn.Module`."""
    weights: Annotated[str | None, IS_PATH] = None
    """Folder of the network's trained weights, such as that of an arm of an earlier run."""

    @model_validator(mode="after")
    def _one_kind(self) -> NetworkTeacherConfig:
        if (self.program is None) == (self.network is None):
            raise ValueError("give one of program and network, such as {program: file.py:name}")
        if self.weights is not None and self.network is None:
            raise ValueError("weights are of a network; a program has none")
        return self

    @property
    def name(self) -> str:
        """What reports call the teacher."""
        return " ".join(filter(None, [self.program or self.network, self.weights and f"({self.weights})"]))


class RowsConfig(Section):
    """What program and networks read."""

    source: Literal["function", "program"] = "function"
    """`function`: what the function at `path` returns; `program`: every input of the program, drawn from its domain.
    Networks then read `inputs`, the numbers of all inputs side by side."""
    path: PythonName | None = None
    """A function without arguments that returns training rows and held-out rows: two mappings of columns of tensors
    (N, ...). `inputs` is what networks read. The other columns are what the program reads, and `labels`; if there are
    none, they are the program's answers."""
    train_rows: Positive | None = None
    """Training rows; null: all that the function returns, or 20,000 of a program."""
    eval_rows: Positive | None = None
    """Held-out rows; null: all that the function returns, or 1,000 of a program."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Of rows that are drawn, and of balancing. It is not that of the run, so that seeds share their data."""
    balance: Literal["none", "answers", "changed"] = "none"
    """`answers`: keep as many rows of every answer. `changed`: make pairs of base and source that are balanced by the
    answer under the interchange and by whether it is another one, an equal share for every variable."""

    @model_validator(mode="after")
    def _path_of_function(self) -> RowsConfig:
        if (self.source == "function") != (self.path is not None):
            raise ValueError("source function and path need each other: give path: file.py:name, or source: program")
        return self


class NetworkArmConfig(Section):
    """One student to train: its alignment and its losses."""

    alignment: Annotated[str | dict[str, Any] | None, IS_PATH] = None
    """A file or the alignment itself; null: an arm without interventions."""
    weights: dict[str, Annotated[float, Field(ge=0, le=1e6)]] = Field(default_factory=dict)
    """Weight of each loss term. If empty: `task` with a program as the teacher, `ce` with a network; and `causal_ce`,
    if there is an alignment."""
    temperature: Annotated[float, Field(ge=1e-3, le=1e3)] = 1.0
    """Temperature of the distillation losses; at 1, `causal_ce` to a program is plain cross entropy."""
    training: dict[str, Any] = Field(default_factory=dict)
    """Settings of the training that differ from the config's, such as `steps`."""


class NetworkVerificationConfig(VerificationConfig):
    """How students are compared with their teacher after training."""

    batch_size: Annotated[int, Field(gt=0, lt=2**20)] = 256
    """Base rows per batch; no number depends on it, but for rounding."""
    program: PythonName | None = None
    """With a network as the teacher: the program that it was taught. Teacher and students are verified against it,
    too, by the variables of the alignment, which then have the names of the program's."""


class NetworkRunConfig(Section):
    """A whole run: teacher, student, data, the arms to train, and their verification."""

    name: Name
    """Names the run, and the folder it is written to."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    teacher: NetworkTeacherConfig
    student: NetworkConfig
    data: RowsConfig
    arms: Arms[NetworkArmConfig] = Field(default_factory=dict)
    """The students to train, by name; none if finished students are verified only."""
    training: dict[str, Any] = Field(default_factory=dict)
    """`steps`, `batch_size` and `learning_rate`."""
    verification: NetworkVerificationConfig = Field(default_factory=NetworkVerificationConfig)

    @property
    def program(self) -> str | None:
        """The program that teaches, or that the teacher was taught; none if no program is named."""
        return self.teacher.program or self.verification.program

    @model_validator(mode="after")
    def _consistent(self) -> NetworkRunConfig:
        refuse_unknown_roles(self.verification, self.arms)
        if self.teacher.program is not None and self.verification.program is not None:
            raise ValueError("verification.program is for a network as the teacher; the teacher is a program already")
        if self.program is None and self.data.source == "program":
            raise ValueError("data.source program needs a program: give verification.program, or data.path")
        if self.program is None and self.data.balance == "changed":
            raise ValueError("data.balance changed needs a program: give verification.program, or another balance")
        return self

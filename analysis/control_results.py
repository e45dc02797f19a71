"""What results.json says of controls, beside the verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, TypeAdapter

from iit_toolkit.analysis.leak import Leak


@dataclass(frozen=True)
class SelfSwap:
    """The self-swap control: every example swapped with itself, which must change nothing.

    Attributes:
        cases: Evaluated tokens (or examples) of the first 16 pairs, over models and variables.
        changed: How many answers changed.
        max_difference: Largest absolute change of a logit.
    """

    cases: int
    changed: int
    max_difference: float


@dataclass(frozen=True)
class Ceiling:
    """The teacher as its own student, run a second time: every answer must be the same.

    Attributes:
        cases: Evaluated tokens (or examples) of the first 16 pairs, over variables.
        same: How many answers of the two runs, both with the intervention, are equal.
    """

    cases: int
    same: int


@dataclass(frozen=True)
class Absent:
    """A control that these models and this alignment do not allow.

    Attributes:
        control: Its name.
        variable: The variable that it is absent for; empty where it is for all.
        reason: Why.
    """

    control: str
    variable: str
    reason: str


@dataclass(frozen=True)
class ControlResults:
    """The entry `controls`.

    Attributes:
        self_swap: The self-swap control.
        ceiling: The teacher as its own student; `None` in results of a version that did not run it.
        absent: The controls that the judged student does not allow; `None` where its controls were not run.
        leaks: The leak check; `None` where it was not run.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    self_swap: SelfSwap
    ceiling: Ceiling | None = None
    absent: list[Absent] | None = None
    leaks: list[Leak] | None = None

    @staticmethod
    def from_dict(data: dict[str, Any]) -> ControlResults:
        """Reads what `dataclasses.asdict` made of it.

        Raises:
            pydantic.ValidationError: Where the data is something else.
        """
        return TypeAdapter(ControlResults).validate_python(data)

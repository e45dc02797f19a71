"""The cases of a verdict: those of the student and its controls, and those that tell a control from the alignment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
import pandas as pd

from iit_toolkit.analysis.statistics import verdict_words
from iit_toolkit.analysis.statistics.outcomes import IN_TEACHER, SHUFFLED
from iit_toolkit.analysis.statistics.quantities import (
    cases_of,
    distinguishing,
    require_same_cases,
    resample_variable,
    students,
    variables,
)
from iit_toolkit.analysis.statistics.resampling import Resampled

COLLAPSED = 0.99
"""A student has collapsed if it gives one answer in this share of cases."""
_CASE = ["base", "source", "position"]

Elsewhere = Mapping[str, Mapping[str, Resampled | None]]
"""By variable and control: the distinguishing cases of student and control; None if there are none."""


class JudgedCases:
    """A student's cases, with those of its controls.

    Args:
        outcomes: The outcomes table.
        student: The student that is judged.
        controls: The table of its controls, if there is one.
        untrained: The student before training, a control if the table holds it.

    Raises:
        UserError: If a student is not in the table, or was verified on other cases than its control.
    """

    def __init__(self, outcomes: pd.DataFrame, student: str, controls: pd.DataFrame | None, untrained: str) -> None:
        require_same_cases(outcomes, student, student)
        self._student = student
        self._table, self._names = outcomes, list[str]()
        if untrained in students(outcomes) and untrained != student:
            require_same_cases(outcomes, student, untrained)
            self._names.append(untrained)
        if controls is not None:
            self._table = pd.concat([outcomes, controls], ignore_index=True)
            for name in (name for name in SHUFFLED if name in students(controls)):
                tested = self._among(student, name) & self._table["variable"].isin(variables(controls, name))
                require_same_cases(cast(pd.DataFrame, self._table[tested]), student, name)
                self._names.append(name)
        self.variables = variables(outcomes, student)
        self.controls = {
            variable: [name for name in self._names if variable in variables(self._table, name)]
            for variable in self.variables
        }
        """The names of the controls of each variable."""

    def resampled(self, *, resamples: int, seed: int, level: float) -> dict[str, Resampled]:
        """Return all cases of each variable, resampled."""
        settings = {"resamples": resamples, "seed": seed}
        return {one: resample_variable(self._table, one, **settings, level=level) for one in self.variables}

    def distinguishing(self, *, graded: bool, resamples: int, seed: int, level: float) -> Elsewhere:
        """Return the distinguishing cases of student and control, resampled, by variable and control.

        Args:
            graded: Whether effects are asked, not answers.
            resamples: Bootstrap resamples behind each interval.
            seed: Of the resampling.
            level: Coverage of the intervals.
        """
        found: dict[str, dict[str, Resampled | None]] = {}
        for variable, names in self.controls.items():
            found[variable] = {}
            of_variable = (self._table["variable"] == variable).to_numpy()
            for name in (name for name in names if name in IN_TEACHER):
                elsewhere = self._rows(of_variable & self._among(IN_TEACHER[name]).to_numpy())
                if not len(elsewhere):
                    continue
                columns = {str(column): elsewhere[column].to_numpy() for column in elsewhere.columns}
                telling = _cases(elsewhere)[distinguishing(columns, graded=graded)]
                both = self._rows(of_variable & self._among(self._student, name).to_numpy())
                some = cast(pd.DataFrame, both[_cases(both).isin(telling)])
                settings = {"resamples": resamples, "seed": seed}
                found[variable][name] = (
                    resample_variable(some, variable, **settings, level=level) if len(some) else None
                )
        return found

    def collapsed(self) -> list[str]:
        """Return, if the student gives hardly any answer but one and its teacher does not, a sentence that says so."""
        shares: dict[str, float] = {}
        for side in ("student", "teacher"):
            answers = [cases_of(self._table, self._student, one)[f"{side}_cf"] for one in self.variables]
            counts = np.unique(np.concatenate(answers), return_counts=True)[1]
            shares[side] = float(counts.max() / counts.sum())
        if shares["student"] < COLLAPSED or shares["teacher"] >= COLLAPSED:
            return []
        return [verdict_words.collapsed(self._student, shares["student"], shares["teacher"])]

    def _among(self, *names: str) -> pd.Series:
        return self._table["student"].isin(names)

    def _rows(self, chosen: np.ndarray) -> pd.DataFrame:
        return cast(pd.DataFrame, self._table[chosen])


def _cases(rows: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_arrays([rows[name] for name in _CASE])

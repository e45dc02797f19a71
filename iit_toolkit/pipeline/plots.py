"""The figures of a report, each on axes of the caller's."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes

from iit_toolkit.analysis.report.figures import summary as of_summary
from iit_toolkit.analysis.report.figures.cases import draw_scatter
from iit_toolkit.analysis.report.figures.style import STYLE
from iit_toolkit.analysis.statistics.input_words import words_of
from iit_toolkit.analysis.statistics.quantities import Region
from iit_toolkit.analysis.statistics.summary import Summary
from iit_toolkit.analysis.statistics.verdict import Verdict
from iit_toolkit.errors import UserError, did_you_mean
from iit_toolkit.pictures.axes import new_axes

_SIZE = (5.2, 2.4)
_MARGIN = 0.05


@dataclass(frozen=True)
class Plots:
    """Figures of one verification. Each method draws one variable, by default the first, and returns the axes.

    Args:
        outcomes: The outcomes table.
        summary: Of the outcomes.
        verdict: The verdict; None if no student is judged.
    """

    outcomes: pd.DataFrame
    summary: Summary
    verdict: Verdict | None

    def effects(self, variable: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw effect R² (filled) and KL recovered (hollow) of every student, outside the swapped positions."""
        return of_summary.draw_effects(_axes(ax), self.summary, self._variable(variable))

    def accuracy(self, variable: str | None = None, region: Region = "outside", ax: Axes | None = None) -> Axes:
        """Draw effective IIA (filled) and IIA (hollow) of every student, with its floor."""
        return of_summary.draw_accuracy(
            _axes(ax), self.summary, self._variable(variable), region, words_of(self.outcomes)
        )

    def above_floor(self, variable: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw effective IIA minus its floor of every student, with the margin of the verdict."""
        margin = _MARGIN if self.verdict is None else self.verdict.margin
        return of_summary.draw_above_floor(_axes(ax), self.summary, self._variable(variable), margin)

    def cases(self, variable: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw how often the swap changes the teacher's answer, and agreement without it."""
        return of_summary.draw_cases(_axes(ax), self.summary, self._variable(variable), words_of(self.outcomes))

    def scatter(self, variable: str | None = None, student: str | None = None, ax: Axes | None = None) -> Axes:
        """Draw the teacher's change of log-probability against a student's, by default the first."""
        name = next(iter(self.summary.students)) if student is None else student
        if name not in self.summary.students:
            raise UserError(f'no student "{name}", {did_you_mean(name, self.summary.students)}')
        return draw_scatter(_axes(ax), self.outcomes, name, self._variable(variable))

    def _variable(self, name: str | None) -> str:
        known = list(dict.fromkeys(name for one in self.summary.students.values() for name in one.variables))
        if name is not None and name not in known:
            raise UserError(f'no variable "{name}", {did_you_mean(name, known)}')
        return known[0] if name is None else name


def _axes(given: Axes | None) -> Axes:
    """Return the given axes, or those of a new figure of pyplot in the report's style, which a notebook shows."""
    if given is not None:
        return given
    with rc_context(STYLE):
        return new_axes(_SIZE, layout="constrained")

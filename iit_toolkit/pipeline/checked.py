"""A verification in Python: its verdict, table, plots and report, for scripts and notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from iit_toolkit.alignment import Alignment
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.summary import Summary, summarise
from iit_toolkit.analysis.statistics.verdict import Verdict, judge
from iit_toolkit.analysis.statistics.verdict_lines import verdict_lines
from iit_toolkit.analysis.verification.verify import Verification, answered_task
from iit_toolkit.analysis.verification.verify import verify as verify_students
from iit_toolkit.config.task import Task
from iit_toolkit.data.batch import Collator, Rows
from iit_toolkit.data.tensor_rows import TensorRows
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.learned import LearnedSubspaces
from iit_toolkit.interchange.sides import Teacher
from iit_toolkit.pipeline.run import blocks_of

if TYPE_CHECKING:
    from iit_toolkit.pipeline.plots import Plots

_RESAMPLES = 2000
_TONES = {"SUPPORTED": "#1a7f37", "NOT SUPPORTED": "#b42318", "INCONCLUSIVE": "#8a6100"}
"""Readable on white and on black."""


@dataclass(frozen=True, repr=False)
class Check(Verification):
    """What `iit.verify` returns: a `Verification` that can judge, tabulate, draw and report itself.

    Attributes:
        alignment: The alignment that was verified.
        teacher: The teacher.
        task: What was answered.
        seed: Of the verification.
        blocks: How many blocks each model has.
        rows: What was verified on, if it is rows of numbers.
        tokenizer: That of the rows, if it was given; a report without it shows no texts.
        subspaces: What the learned subspaces of students are, by student (`LearnedSubspaces.described`).
    """

    alignment: Alignment | None = None
    teacher: Teacher | None = None
    task: Task = "masked_lm"
    seed: int = 0
    blocks: Mapping[str, int] = field(default_factory=dict[str, int])
    rows: TensorRows | None = None
    tokenizer: PreTrainedTokenizerBase | None = None
    subspaces: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict on the judged student, by effect R² and the default margin; `iit.judge` takes others.

        Raises:
            UserError: If no student was judged.
        """
        if self.judged is None:
            raise UserError("no student was judged: give verify one student, or judged=...")
        return judge(self, resamples=_RESAMPLES, seed=self.seed)

    @cached_property
    def summary(self) -> Summary:
        """Every measure of every student, with its interval."""
        return summarise(self.outcomes, resamples=_RESAMPLES, seed=self.seed)

    @cached_property
    def among_candidates(self) -> Summary | None:
        """The same of the questions with candidate answers, if models choose among these; `None` without any."""
        return None if self.choices is None else summarise(self.choices, resamples=_RESAMPLES, seed=self.seed)

    @property
    def measures(self) -> dict[str, dict[str, Estimate]]:
        """By variable and name: the judged student's measures outside the swapped positions, or of all cases."""
        found = self.summary.students[self.verdict.student].variables
        return {
            variable: {one.name: one.estimate for one in rows if one.region in ("outside", "all", "")}
            for variable, rows in ((variable, list(_measured(one))) for variable, one in found.items())
        }

    @property
    def plot(self) -> Plots:
        """The figures of the report, each a function that takes and returns axes: `check.plot.effects(ax=ax)`."""
        from iit_toolkit.pipeline.plots import Plots

        return Plots(self.outcomes, self.summary, None if self.judged is None else self.verdict)

    def to_frame(self) -> pd.DataFrame:
        """Return a row per student, variable, measure and region, with value, interval and cases."""
        rows = [
            {
                "student": student,
                "variable": variable,
                "measure": one.name,
                "region": one.region,
                **{name: getattr(one.estimate, name) for name in ("value", "low", "high", "cases")},
            }
            for student, measured in self.summary.students.items()
            for variable, found in measured.variables.items()
            for one in _measured(found)
        ]
        return pd.DataFrame(rows)

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the report as one self-contained page.

        Args:
            path: The file.

        Returns:
            The file.

        Raises:
            UserError: If its name does not end in .html, no student was judged, the file cannot be written, or the
                teacher is neither a model of transformers nor was verified on `TensorRows`.
        """
        from iit_toolkit.pipeline.checked_report import write_checked

        return write_checked(self, path)

    def __repr__(self) -> str:
        """Return the verdict with a line per variable."""
        if self.judged is None:
            return f"Check of {', '.join(self.summary.students)}: no student was judged"
        lines = [f"  {one.label} {one.name}: {one.facts}" for one in verdict_lines(self.verdict)]
        return "\n".join([f"{self.verdict.label} for {self.verdict.student}", *lines])

    __str__ = __repr__

    def _repr_html_(self) -> str:
        """Return the verdict as HTML, as notebooks show it."""
        if self.judged is None:
            return f"<p>{escape(repr(self))}</p>"
        label = self.verdict.label
        rows = "".join(
            f'<tr><td style="color:{_TONES[one.label]}"><b>{one.label}</b></td>'
            f"<td>{escape(one.name)}</td><td>{escape(one.facts)}</td></tr>"
            for one in verdict_lines(self.verdict)
        )
        return (
            f'<p><b style="color:{_TONES[label]}">{label}</b> for {escape(self.verdict.student)}, by '
            f"{escape(self.verdict.measure)}</p><table><tbody>{rows}</tbody></table>"
        )


@dataclass(frozen=True)
class _Measured:
    name: str
    region: str
    estimate: Estimate


def _measured(found: Any) -> list[_Measured]:
    """Return every measure of a variable; one that has no regions has an empty one."""
    rows: list[_Measured] = []
    for measure in fields(found):
        value = getattr(found, measure.name)
        if isinstance(value, Estimate):
            rows.append(_Measured(measure.name, "", value))
        elif value is not None:
            rows += [_Measured(measure.name, region.name, getattr(value, region.name)) for region in fields(value)]
    return rows


def verify(
    teacher: Teacher,
    students: Mapping[str, nn.Module] | nn.Module,
    alignment: Alignment,
    rows: Rows,
    collator: Collator | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    task: Task | None = None,
    pairs: int = 512,
    batch_size: int = 16,
    top_k: int = 10,
    seed: int = 0,
    judged: str | None = None,
    subspaces: LearnedSubspaces | Mapping[str, LearnedSubspaces] | None = None,
) -> Check:
    """Intervene on teacher and students at their sides of every variable, and return what can be asked of it.

    `check = iit.verify(...)` has `check.verdict`, `check.to_frame()`, `check.plot.effects()` and
    `check.report("report.html")`.

    Args:
        teacher: The teacher: a model of transformers, another module, or a program.
        students: The students, by name; or one, which is then called `student` and judged. Any module of torch, beside
            models of transformers.
        alignment: The alignment that is verified.
        rows: At least two examples with `input_ids`, such as a `datasets.Dataset`; further columns as
            `iit_toolkit.analysis.verification.cases.draw_pairs` says. Or `TensorRows`, which need no tokenizer.
        collator: Makes a batch of rows; by default the task's own.
        tokenizer: Needed if there is no collator, and for texts in the report.
        task: What is answered; by default, what the teacher's class says.
        pairs: Pairs of base and source per variable; at most the number of rows is used.
        batch_size: Base rows per batch; no number depends on it, but for rounding.
        top_k: Tokens of each run that the effect correlation looks at.
        seed: Of sources, positions, evaluated tokens, controls and resampling.
        judged: The student whose controls are run, too, and that is judged.
        subspaces: Those of learned sites, by student; or those of the only one.

    Raises:
        UserError: If there are fewer than two rows, the alignment does not fit a model, no student is called
            `judged`, or there is neither a collator nor a tokenizer. If sites are learned, and there is no student
            `untrained` whose subspaces were trained for as many steps as those of the judged one.
    """
    found = verify_students(
        teacher,
        students,
        alignment,
        rows,
        collator,
        tokenizer=tokenizer,
        task=task,
        pairs=pairs,
        batch_size=batch_size,
        top_k=top_k,
        seed=seed,
        judged=judged,
        subspaces=subspaces,
    )
    known = {one.name: getattr(found, one.name) for one in fields(found)}
    given = {"student": students} if isinstance(students, nn.Module) else students
    models = {"teacher": teacher, **given}
    learned = (
        subspaces if isinstance(subspaces, Mapping) else {name: subspaces for name in given if subspaces is not None}
    )
    of_transformers = {name: one for name, one in models.items() if isinstance(one, PreTrainedModel)}
    return Check(
        **known,
        alignment=alignment,
        teacher=teacher,
        task=answered_task(teacher, task),
        seed=seed,
        blocks=blocks_of(of_transformers),
        rows=rows if isinstance(rows, TensorRows) else None,
        tokenizer=tokenizer,
        subspaces={name: one.described() for name, one in learned.items()},
    )

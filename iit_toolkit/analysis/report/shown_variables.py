"""Which of many variables a page shows: the others stand in its tables, and their figures in files."""

from __future__ import annotations

from collections.abc import Sequence

from iit_toolkit.analysis.statistics.numbers import count
from iit_toolkit.analysis.statistics.variable_verdict import VariableVerdict
from iit_toolkit.analysis.statistics.verdict import Verdict

SHOWN, PANELS = 8, 24
"""Variables of a figure in a page; and variables times students, for which a figure grows as well."""


def most_shown(students: int) -> int:
    """Return how many variables a figure of so many students shows."""
    return max(1, min(SHOWN, PANELS // max(1, students)))


def telling(verdict: Verdict, names: Sequence[str], most: int) -> list[str]:
    """Return the variables that say most of the judged student, in their own order.

    Those are half as many as are wanted with the smallest leads over their hardest controls, and as many with the
    largest.
    """
    leads = {name: lead for name in names if (lead := _lead(verdict.variables.get(name))) is not None}
    ordered = sorted(leads, key=lambda name: leads[name]) + [name for name in names if name not in leads]
    weakest = ordered[: most - most // 2]
    strongest = [name for name in reversed(ordered) if name in leads and name not in weakest][: most // 2]
    rest = [name for name in ordered if name not in weakest and name not in strongest]
    chosen = {*weakest, *strongest, *rest[: max(0, most - len(weakest) - len(strongest))]}
    return [name for name in names if name in chosen]


def left_out(files: Sequence[str], every: int, student: str, most: int) -> str:
    """Says what a figure does not show; nothing if it shows all.

    Args:
        files: Names of the figures of the other variables, in their order; there may be none of a kind.
        every: How many variables there are.
        student: The judged student.
        most: How many are shown.
    """
    if every <= most:
        return ""
    strongest = f" and the {most // 2} in which it leads it most" if most > 1 else ""
    where = f"; the others: figures/{files[0]}.svg" if files else ""
    where += f" to {files[-1]}.svg" if len(files) > 1 else ""
    return (
        f" Shown: of {count(every, 'variable')}, the {most - most // 2} in which {student} leads its hardest control "
        f"least{strongest}{where}."
    )


def _lead(judged: VariableVerdict | None) -> float | None:
    leads = [] if judged is None else [one.difference.value for one in judged.controls]
    return min((lead for lead in leads if lead is not None), default=None)

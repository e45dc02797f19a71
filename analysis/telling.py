"""Which of many variables a page shows: the others stand in its tables, and their figures in files."""

from __future__ import annotations

from collections.abc import Sequence

from iit_toolkit.analysis.numbers import count
from iit_toolkit.analysis.verdict import VariableVerdict, Verdict

SHOWN = 8
"""Variables of a figure in a page."""


def telling(verdict: Verdict, names: Sequence[str], most: int = SHOWN) -> list[str]:
    """Returns the variables that say most of the judged student, in their own order.

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


def left_out(name: str, every: int, student: str, most: int = SHOWN) -> str:
    """Says what a figure does not show; nothing if it shows all."""
    if every <= most:
        return ""
    pages = -(-(every - most) // most)
    files = f"figures/{name}-2.svg" + (f" to {name}-{pages + 1}.svg" if pages > 1 else "")
    return (
        f" Shown: of {count(every, 'variable')}, the {most - most // 2} in which {student} leads its hardest control "
        f"least and the {most // 2} in which it leads it most; the others: {files}."
    )


def _lead(judged: VariableVerdict | None) -> float | None:
    leads = [] if judged is None else [one.difference.value for one in judged.controls]
    return min((lead for lead in leads if lead is not None), default=None)

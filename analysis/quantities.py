"""From the outcomes table to resampled sums; which case counts as what is decided only here.

Definitions (IIA: Geiger et al. 2021, "Causal Abstractions of Neural Networks"; the rest is this project's):

* hit: student and teacher, each intervened at its side of the variable, give the same answer. Share: IIA.
* changed: the intervention changes the teacher's own answer. IIA on these cases: effective IIA.
* floor: the student's answer without intervention is the teacher's answer with it.
* moved: the intervention changes the student's own answer.
* outside: the evaluated position is not swapped, or the answer belongs to the whole input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iit_toolkit.analysis.outcomes import NO_GOLD, NO_POSITION
from iit_toolkit.analysis.statistics import NO_SOURCE, Floats, Ints, Resampled, sum_by_cluster
from iit_toolkit.errors import UserError

REGIONS = ("all", "inside", "outside")
_EFFECT = ("n", "x", "y", "xx", "yy", "xy")
_BEHAVIOUR = ("student_base", "teacher_base", "kl", "student_nll", "teacher_nll")
_INPUTS = ("base", "source", "base_text", "source_text")
_SAME_CASES = ("base", "source", "position", "inside")

Columns = dict[str, NDArray[Any]]


def students(outcomes: pd.DataFrame) -> list[str]:
    """The students of the table, in order of appearance."""
    return [str(name) for name in pd.unique(outcomes["student"])]


def variables(outcomes: pd.DataFrame, student: str | None = None) -> list[str]:
    """The variables of the table, or those a student was verified on, in order of appearance."""
    rows = outcomes if student is None else _where(outcomes, outcomes["student"] == student)
    return [str(name) for name in pd.unique(rows["variable"])]


def resample_variable(
    outcomes: pd.DataFrame, variable: str, *, resamples: int, seed: int, level: float = 0.95
) -> Resampled:
    """Resamples what concerns interventions on one variable, for all students over the same examples.

    Quantities are named `{student}/{quantity}/{region}`: `cases`, `hits`, `changed`, `effective`, `floor`,
    `effective_floor`, `above_floor` (effective - effective_floor), `moved`, `effect_cases`; and `{student}/agree/all`,
    `{student}/effect/{region}/n` .. `xy`.
    """
    rows = _where(outcomes, outcomes["variable"] == variable)
    pairs = _Pairs(rows)
    sums: dict[str, Floats] = {}
    for student in students(rows):
        mine = (rows["student"] == student).to_numpy()
        quantities = _intervention_quantities(cases_of(rows, student, variable))
        sums |= pairs.summed(student, mine, quantities)
    return pairs.resampled(sums, resamples=resamples, seed=seed, level=level)


def resample_behaviour(outcomes: pd.DataFrame, *, resamples: int, seed: int, level: float = 0.95) -> Resampled:
    """Resamples what concerns runs without intervention, for all students over the same examples.

    These rows repeat for each variable, so those of a student's first variable are taken, as cases without a source;
    only `kl_cf` is of pairs, and of all variables. Quantities are named `{student}/{quantity}`: `cases`, `agree`, `kl`,
    `gold`, `student_nll`, `teacher_nll`, `cf_cases`, `kl_cf`.
    """
    first = outcomes["variable"] == outcomes.groupby("student")["variable"].transform("first")
    plain = _where(outcomes, first).assign(source=NO_SOURCE)
    rows = pd.concat([plain, outcomes], ignore_index=True)
    pairs = _Pairs(rows)
    swapped = (rows["source"] != NO_SOURCE).to_numpy()
    sums: dict[str, Floats] = {}
    for student in students(outcomes):
        mine = (rows["student"] == student).to_numpy()
        without = _columns(_where(rows, mine & ~swapped), ("gold", *_BEHAVIOUR))
        sums |= pairs.summed(student, mine & ~swapped, _behaviour_quantities(without))
        kl_cf = _columns(_where(rows, mine & swapped), ("kl_cf",))["kl_cf"]
        sums |= pairs.summed(student, mine & swapped, {"cf_cases": np.ones_like(kl_cf), "kl_cf": kl_cf})
    return pairs.resampled(sums, resamples=resamples, seed=seed, level=level)


def cases_of(outcomes: pd.DataFrame, student: str, variable: str) -> Columns:
    """The columns of one student's cases on one variable, each (N,)."""
    chosen = (outcomes["student"] == student) & (outcomes["variable"] == variable)
    return _columns(_where(outcomes, chosen), tuple(str(name) for name in outcomes.columns[2:]))


def check_same_cases(outcomes: pd.DataFrame, first: str, second: str) -> None:
    """Checks that two students can be compared pairwise: verified on the same variables and cases.

    Raises:
        UserError: Where one is not in the table, or their cases differ.
    """
    known = students(outcomes)
    for student in (first, second):
        if student not in known:
            raise UserError(f'no student "{student}" in the outcomes; there are: {", ".join(known)}')
    if set(variables(outcomes, first)) != set(variables(outcomes, second)):
        raise UserError(f'students "{first}" and "{second}" were verified on different variables; use the same')
    for variable in variables(outcomes, first):
        one, two = (_sorted_cases(cases_of(outcomes, student, variable)) for student in (first, second))
        if one.shape != two.shape or bool((one != two).any()):
            raise UserError(
                f'students "{first}" and "{second}" were verified on different cases of variable '
                f'"{variable}"; verify both with the same data and seed'
            )


def _sorted_cases(cases: Columns) -> Ints:
    table = np.stack([cases[name].astype(np.int64) for name in _SAME_CASES])
    return table[:, np.lexsort(table)]


def _where(frame: pd.DataFrame, chosen: Any) -> pd.DataFrame:
    return cast(pd.DataFrame, frame[chosen])


def _columns(frame: pd.DataFrame, names: Sequence[str]) -> Columns:
    return {name: frame[name].to_numpy() for name in names}


class _Pairs:
    """The pairs of base and source of a table."""

    def __init__(self, rows: pd.DataFrame) -> None:
        groups = rows.groupby(["base", "source"])
        self._pairs = groups[["base_text", "source_text"]].first().reset_index()
        self._codes = groups.ngroup().to_numpy()

    def summed(self, student: str, chosen: NDArray[np.bool_], quantities: Columns) -> dict[str, Floats]:
        """Sums the quantities of the chosen rows within pairs."""
        sums = sum_by_cluster(self._codes[chosen], quantities, len(self._pairs))
        return {f"{student}/{name}": values for name, values in sums.items()}

    def resampled(self, sums: dict[str, Floats], *, resamples: int, seed: int, level: float) -> Resampled:
        """Resamples the pairs, whole texts at a time."""
        return Resampled(sums, **_columns(self._pairs, _INPUTS), resamples=resamples, seed=seed, level=level)


def _intervention_quantities(cases: Columns) -> Columns:
    quantities = counted(cases)
    quantities["agree/all"] = cases["student_base"] == cases["teacher_base"]
    for region, chosen in _regions(cases).items():
        quantities[f"effect_cases/{region}"] = chosen & (cases["effect_n"] > 0)
        for suffix in _EFFECT:
            quantities[f"effect/{region}/{suffix}"] = np.where(chosen, cases[f"effect_{suffix}"], 0.0)
    return quantities


def counted(cases: Columns) -> Columns:
    """Say of every case what it counts as, by the definitions above: each (N,), named `{quantity}/{region}`.

    Args:
        cases: The columns `position`, `inside` and the four answers of the outcomes table.
    """
    hit = cases["student_cf"] == cases["teacher_cf"]
    changed = cases["teacher_cf"] != cases["teacher_base"]
    floor = cases["student_base"] == cases["teacher_cf"]
    moved = cases["student_cf"] != cases["student_base"]
    quantities: Columns = {}
    for region, chosen in _regions(cases).items():
        quantities |= {
            f"cases/{region}": chosen,
            f"hits/{region}": chosen & hit,
            f"changed/{region}": chosen & changed,
            f"effective/{region}": chosen & changed & hit,
            f"floor/{region}": chosen & floor,
            f"effective_floor/{region}": chosen & changed & floor,
            f"above_floor/{region}": (chosen & changed) * (hit.astype(np.int64) - floor),
            f"moved/{region}": chosen & moved,
        }
    return quantities


def _regions(cases: Columns) -> Columns:
    inside = cases["inside"] & (cases["position"] != NO_POSITION)
    return dict(zip(REGIONS, (np.ones_like(inside), inside, ~inside), strict=True))


def _behaviour_quantities(cases: Columns) -> Columns:
    gold = cases["gold"] != NO_GOLD
    return {
        "cases": np.ones_like(gold),
        "agree": cases["student_base"] == cases["teacher_base"],
        "kl": cases["kl"],
        "gold": gold,
        "student_nll": np.where(gold, cases["student_nll"], 0.0),
        "teacher_nll": np.where(gold, cases["teacher_nll"], 0.0),
    }

"""From the outcomes table to resampled sums; which case counts as what is decided only here.

Definitions (IIA: Geiger et al. 2021, "Causal Abstractions of Neural Networks"; the rest is this project's):

* hit: student and teacher, each intervened at its side of the variable, give the same answer. Share: IIA.
* changed: the intervention changes the teacher's own answer. IIA on these cases: effective IIA.
* floor: the student's answer without intervention is the teacher's answer with it.
* moved: the intervention changes the student's own answer.
* effect: what the intervention changes of a model's answer probabilities, dp. Its size is |dp|^2; a case has an effect
  if the teacher's is above `NOTICEABLE`.
* explained: the size of the teacher's effect minus |dp of the student - dp of the teacher|^2. Over the size of all
  effects: effect R2, in all cases, since to react where the teacher does not is an error, too.
* recovered: KL(teacher's counterfactual run || student's base run) minus the same to the student's counterfactual run.
  Over the first: KL recovered.
* distinguishing: the teacher, swapped elsewhere or from another source, does otherwise than swapped as it should be: it
  gives another answer or, for graded measures, the effects differ by more than half of the larger one.
* outside: the evaluated position is not swapped, or the answer belongs to the whole input.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from iit_toolkit.analysis.statistics.outcomes import NO_GOLD, NO_POSITION
from iit_toolkit.analysis.statistics.resampling import NO_SOURCE, Resampled
from iit_toolkit.analysis.statistics.sums import Floats, Ints, Numbers, sum_by_cluster
from iit_toolkit.errors import UserError

Region = Literal["all", "inside", "outside"]
REGIONS: tuple[Region, ...] = ("all", "inside", "outside")
NOTICEABLE = 1e-8
"""Size of an effect that is no rounding: a change of one answer's probability by 0.0001."""
_EFFECT = ("n", "x", "y", "xx", "yy", "xy")
_BEHAVIOUR = ("gold", "student_base", "teacher_base", "kl", "student_nll", "teacher_nll")
_ANSWERS = ("teacher_base", "teacher_cf", "student_base", "student_cf")
_GRADED = ("teacher_effect", "effect_error", "teacher_moved", "student_moved", "kl_cf", "kl_ignored")
_SWAPPED = ("position", "inside", *_ANSWERS, *(f"effect_{suffix}" for suffix in _EFFECT), *_GRADED)
_INPUTS = ("base", "source", "base_text", "source_text")
_SAME_CASES = ("base", "source", "position", "inside")

Columns = dict[str, NDArray[Any]]


def students(outcomes: pd.DataFrame) -> list[str]:
    """Return the students of the table, in order of appearance."""
    return [str(name) for name in pd.unique(outcomes["student"])]


def variables(outcomes: pd.DataFrame, student: str | None = None) -> list[str]:
    """Return the variables of the table, or those a student was verified on, in order of appearance."""
    rows = outcomes if student is None else _where(outcomes, outcomes["student"] == student)
    return [str(name) for name in pd.unique(rows["variable"])]


def resample_variable(
    outcomes: pd.DataFrame, variable: str, *, resamples: int, seed: int, level: float = 0.95
) -> Resampled:
    """Resamples what concerns interventions on one variable, for all students over the same examples.

    Quantities are named `{student}/{quantity}/{region}`: `cases`, `hits`, `changed`, `effective`, `floor`,
    `effective_floor`, `hits_above_floor` (hits - floor), `above_floor` (effective - effective_floor), `moved`,
    `effect_cases`, `affected` (cases with an effect), `effect_size` (the teacher's), `explained`, `moved_in_teacher`
    and `moved_in_student` (how much probability), `kl_ignored`, `recovered`; and `{student}/agree/all`,
    `{student}/effect/{region}/n` .. `xy`.
    """
    chosen = _rows(outcomes["variable"] == variable)
    pairs = _Pairs(_columns(outcomes, _INPUTS, chosen))
    named = outcomes["student"].iloc[chosen]
    sums: dict[str, Numbers] = {}
    for student in (str(name) for name in pd.unique(named)):
        mine = _rows(named == student)
        sums |= pairs.summed(student, mine, _intervention_quantities(_columns(outcomes, _SWAPPED, chosen[mine])))
    return pairs.resampled(sums, resamples=resamples, seed=seed, level=level)


def resample_parts(
    cases: pd.DataFrame,
    parts: Mapping[str, NDArray[np.bool_]],
    quantities: Collection[str],
    *,
    resamples: int,
    seed: int,
    level: float = 0.95,
) -> Resampled:
    """Resamples parts of one student's cases on one variable, all over the same examples.

    Args:
        cases: Rows of the outcomes table.
        parts: Which cases are of each part, (N,); parts may overlap.
        quantities: Those of `resample_variable` that are wanted, as `explained/outside`. A part stands in the place of
            the student in their names.
        resamples: As in `resample_variable`.
        seed: The same.
        level: The same.
    """
    pairs = _Pairs(_columns(cases, _INPUTS, np.arange(len(cases))))
    every = _intervention_quantities(_columns(cases, _SWAPPED, np.arange(len(cases))))
    wanted = {name: values for name, values in every if name in quantities}
    sums: dict[str, Numbers] = {}
    for part, chosen in parts.items():
        rows = _rows(chosen)
        sums |= pairs.summed(part, rows, ((name, values[rows]) for name, values in wanted.items()))
    return pairs.resampled(sums, resamples=resamples, seed=seed, level=level)


def resample_behaviour(outcomes: pd.DataFrame, *, resamples: int, seed: int, level: float = 0.95) -> Resampled:
    """Resamples what concerns runs without intervention, for all students over the same examples.

    These rows repeat for each variable, so those of a student's first variable are taken, as cases without a source;
    only `kl_cf` is of pairs, and of all variables. Quantities are named `{student}/{quantity}`: `cases`, `agree`, `kl`,
    `gold`, `student_nll`, `teacher_nll`, `cf_cases`, `kl_cf`.
    """
    named = outcomes["student"]
    plain = _rows(_of_first_variable(outcomes))
    every = np.arange(len(outcomes))
    inputs = {name: np.concatenate([outcomes[name].to_numpy()[plain], outcomes[name].to_numpy()]) for name in _INPUTS}
    inputs["source"][: len(plain)] = NO_SOURCE
    pairs = _Pairs(inputs)
    del inputs
    sums: dict[str, Numbers] = {}
    for student in students(outcomes):
        mine = (named == student).to_numpy()
        without, swapped = _rows(mine[plain]), every[mine]
        sums |= pairs.summed(student, without, _behaviour_quantities(_columns(outcomes, _BEHAVIOUR, plain[without])))
        kl_cf = outcomes["kl_cf"].to_numpy()[swapped]
        counterfactual = {"cf_cases": np.ones_like(kl_cf, dtype=np.bool_), "kl_cf": kl_cf}
        sums |= pairs.summed(student, len(plain) + swapped, counterfactual.items())
    return pairs.resampled(sums, resamples=resamples, seed=seed, level=level)


def _of_first_variable(outcomes: pd.DataFrame) -> NDArray[np.bool_]:
    """Which rows are of the variable that stands first among their student's."""
    found = np.zeros(len(outcomes), dtype=np.bool_)
    for student in students(outcomes):
        mine = (outcomes["student"] == student).to_numpy()
        found |= mine & (outcomes["variable"] == variables(outcomes, student)[0]).to_numpy()
    return found


def cases_of(outcomes: pd.DataFrame, student: str, variable: str) -> Columns:
    """Return the columns of one student's cases on one variable, each (N,)."""
    chosen = _rows((outcomes["student"] == student) & (outcomes["variable"] == variable))
    return _columns(outcomes, tuple(str(name) for name in outcomes.columns[2:]), chosen)


def require_same_cases(outcomes: pd.DataFrame, first: str, second: str) -> None:
    """Check that two students can be compared pairwise: verified on the same variables and cases.

    Raises:
        UserError: If one is not in the table, or their cases differ.
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


def _rows(chosen: Any) -> Ints:
    """Return the numbers of the rows that are chosen."""
    return np.flatnonzero(np.asarray(chosen, dtype=np.bool_))


def _columns(frame: pd.DataFrame, names: Sequence[str], rows: Ints) -> Columns:
    """Return some columns in some rows; the frame is never copied as a whole, as it may have millions of rows."""
    return {name: frame[name].to_numpy()[rows] for name in names}


class _Pairs:
    """The pairs of base and source of a table."""

    def __init__(self, inputs: Columns) -> None:
        groups = pd.DataFrame(inputs, copy=False).groupby(["base", "source"])
        self._pairs = groups[["base_text", "source_text"]].first().reset_index()
        self._codes = groups.ngroup().to_numpy()

    def summed(self, student: str, rows: Ints, quantities: Iterable[tuple[str, NDArray[Any]]]) -> dict[str, Numbers]:
        """Sum the quantities of some rows within pairs, one after the other."""
        codes, pairs = self._codes[rows], len(self._pairs)
        return {
            f"{student}/{name}": _compact(sum_by_cluster(codes, {name: values}, pairs)[name], values.dtype)
            for name, values in quantities
        }

    def resampled(self, sums: dict[str, Numbers], *, resamples: int, seed: int, level: float) -> Resampled:
        """Resamples the pairs, whole texts at a time."""
        inputs = {name: self._pairs[name].to_numpy() for name in _INPUTS}
        return Resampled(sums, **inputs, resamples=resamples, seed=seed, level=level)


def _compact(sums: Floats, kind: np.dtype[Any]) -> Numbers:
    """Sum of counts as small integers: there are about fifty quantities of every student in every pair."""
    if kind.kind not in "bi":
        return sums
    for smaller in (np.int16, np.int32):
        if len(sums) and max(-sums.min(), sums.max()) < np.iinfo(smaller).max:
            return cast(Numbers, sums.astype(smaller))
    return sums


def _intervention_quantities(cases: Columns) -> Iterator[tuple[str, NDArray[Any]]]:
    yield from counted(cases).items()
    yield from graded(cases).items()
    yield from _moved(cases)
    yield "agree/all", cases["student_base"] == cases["teacher_base"]
    for region, chosen in _regions(cases).items():
        yield f"effect_cases/{region}", chosen & (cases["effect_n"] > 0)
        for suffix in _EFFECT:
            yield f"effect/{region}/{suffix}", np.where(chosen, cases[f"effect_{suffix}"], 0.0)


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
            f"hits_above_floor/{region}": chosen * (hit.astype(np.int8) - floor),
            f"above_floor/{region}": (chosen & changed) * (hit.astype(np.int8) - floor),
            f"moved/{region}": chosen & moved,
        }
    return quantities


def graded(cases: Columns) -> Columns:
    """Return what graded measures sum of every case: each (N,), named `{quantity}/{region}`.

    Args:
        cases: The columns `position`, `inside`, `kl_cf`, `kl_ignored` and of effects of the outcomes table.
    """
    size = cases["teacher_effect"]
    sums = {
        "affected": size > NOTICEABLE,
        "effect_size": size,
        "explained": size - cases["effect_error"],
        "kl_ignored": cases["kl_ignored"],
        "recovered": cases["kl_ignored"] - cases["kl_cf"],
    }
    return {
        f"{name}/{region}": values & chosen if values.dtype == np.bool_ else np.where(chosen, values, 0.0)
        for region, chosen in _regions(cases).items()
        for name, values in sums.items()
    }


def _moved(cases: Columns) -> Iterator[tuple[str, NDArray[Any]]]:
    """How much probability a swap moves in each model, in each region."""
    for region, chosen in _regions(cases).items():
        for side in ("teacher", "student"):
            yield f"moved_in_{side}/{region}", np.where(chosen, cases[f"{side}_moved"], 0.0)


def distinguishing(elsewhere: Columns, *, graded: bool) -> NDArray[np.bool_]:
    """Return which cases tell two ways of swapping the teacher apart, (N,).

    Args:
        elsewhere: Columns of the outcomes table, in which the teacher that is swapped in the other way is the student.
        graded: Whether effects are asked, not answers.
    """
    if not graded:
        return elsewhere["student_cf"] != elsewhere["teacher_cf"]
    larger = np.maximum(elsewhere["teacher_effect"], elsewhere["student_effect"])
    return (larger > NOTICEABLE) & (elsewhere["effect_error"] > larger / 2)


def _regions(cases: Columns) -> Columns:
    inside = cases["inside"] & (cases["position"] != NO_POSITION)
    return dict(zip(REGIONS, (np.ones_like(inside), inside, ~inside), strict=True))


def _behaviour_quantities(cases: Columns) -> Iterator[tuple[str, NDArray[Any]]]:
    gold = cases["gold"] != NO_GOLD
    yield "cases", np.ones_like(gold)
    yield "agree", cases["student_base"] == cases["teacher_base"]
    yield "kl", cases["kl"]
    yield "gold", gold
    yield "student_nll", np.where(gold, cases["student_nll"], 0.0)
    yield "teacher_nll", np.where(gold, cases["teacher_nll"], 0.0)

"""Arms compared over seeds: runs of one config that differ in their seed only, paired by seed.

Within a run, cases are resampled; that says nothing of how much a student differs from one training to the next.
Here the runs are the sample: a measure's difference between two arms of the same run is one observation, and the
interval is Student's t interval of the mean of these differences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from iit_toolkit.analysis.statistics.numbers import count
from iit_toolkit.analysis.studies.paired import EQUAL_COMPUTE, EQUAL_STEPS, LEVEL, Basis, Row, pair
from iit_toolkit.analysis.studies.seed_runs import SeedRun, measure_rows
from iit_toolkit.errors import UserError, did_you_mean

COMPUTE_TOLERANCE = 0.1
"""Up to this share, costs count as equal."""
SCOPE = (
    "Seeds vary the training, the verified pairs and the masks; teacher, data and alignment are the same throughout, "
    "and each interval stands for itself alone."
)


@dataclass(frozen=True)
class SeedComparison:
    """Arms over seeds.

    Attributes:
        runs: The runs' names, in the order of the seeds.
        seeds: The seeds, ascending.
        treatment: The arm that is hoped to be better.
        rows: Every measure of every arm.
        bases: The comparisons.
        level: Coverage of the intervals.
        scope: What the intervals speak of.
    """

    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    treatment: str
    rows: tuple[Row, ...]
    bases: tuple[Basis, ...]
    level: float
    scope: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON data; undefined values are None."""
        return {"schema": "iit_toolkit/compare/1", **asdict(self)}


def compare_seeds(runs: Sequence[SeedRun], treatment: str | None = None, baseline: str | None = None) -> SeedComparison:
    """Compare two arms over seeds, at equal steps and at equal compute.

    At equal steps, the treatment is compared with the baseline. At equal compute, it is compared with the arm of the
    baseline's objective whose cost (CPU time, or time where there is a GPU) over all runs is nearest to the
    treatment's, if that is within `COMPUTE_TOLERANCE`.

    Args:
        runs: What `read_runs` returned.
        treatment: An arm; by default the one that the runs compare.
        baseline: An arm; by default the one that the runs compare the treatment with.

    Raises:
        UserError: If the arms are not given and the runs compare none, or they are not in the runs, or the
            treatment did not make as many steps in every run.
    """
    treatment, baseline = _arms(runs[0], treatment, baseline)
    for run in runs[1:]:
        if _steps(run, treatment) != _steps(runs[0], treatment):
            raise UserError(
                f"{run.results.path} can't be compared with {runs[0].results.path}: {treatment} made "
                f"{count(_steps(run, treatment), 'step')}, not {_steps(runs[0], treatment):,}; "
                "give runs of one config that differ in the seed only"
            )
    rows = measure_rows(runs)
    bases = (_equal_steps(runs, rows, treatment, baseline), _equal_compute(runs, rows, treatment, baseline))
    return SeedComparison(
        runs=tuple(run.results.document["name"] for run in runs),
        seeds=tuple(run.seed for run in runs),
        treatment=treatment,
        rows=tuple(rows),
        bases=bases,
        level=LEVEL,
        scope=SCOPE,
    )


def _equal_steps(runs: Sequence[SeedRun], rows: Sequence[Row], treatment: str, baseline: str) -> Basis:
    for run in runs:
        if (note := unlike_steps(run.arms, treatment, baseline)) is not None:
            return Basis(EQUAL_STEPS, None, note, ())
    note = f"{treatment} and {baseline} each made {count(_steps(runs[0], treatment), 'step')}."
    return Basis(EQUAL_STEPS, baseline, note, tuple(pair(row, treatment, baseline) for row in rows))


def unlike_steps(arms: Mapping[str, Mapping[str, Any]], treatment: str, baseline: str) -> str | None:
    """Why the trainings of two arms did not take equal steps: their number, or the rows of each."""
    one, other = arms[treatment], arms[baseline]
    if one["steps"] != other["steps"]:
        return f"n/a: {treatment} made {count(one['steps'], 'step')}, {baseline} {other['steps']:,}."
    rows = "effective_batch"
    if one[rows] != other[rows]:
        return f"n/a: a step of {treatment} had {count(one[rows], 'row')}, one of {baseline} {other[rows]:,}."
    return None


def _steps(run: SeedRun, arm: str) -> int:
    return run.arms[arm]["steps"]


def _equal_compute(runs: Sequence[SeedRun], rows: Sequence[Row], treatment: str, baseline: str) -> Basis:
    on_gpu = any(run.results.document.get("provenance", {}).get("hardware", {}).get("cuda") for run in runs)
    key, what = ("seconds", "time") if on_gpu else ("cpu_seconds", "CPU time")
    arms = runs[0].arms
    same = [
        arm
        for arm in arms
        if arm != treatment and all(arms[arm][name] == arms[baseline][name] for name in ("objective", "alignment"))
    ]
    if any(run.arms[arm].get("resumed_at_step") for run in runs for arm in (treatment, *same)):
        note = f"n/a: an arm was resumed, and its {what} is that of its last part."
        return Basis(EQUAL_COMPUTE, None, note, ())
    costs = {arm: sum(run.arms[arm][key] for run in runs) for arm in (treatment, *same)}
    ratios = {arm: costs[arm] / costs[treatment] for arm in same if costs[treatment] > 0}
    if not ratios:
        return Basis(EQUAL_COMPUTE, None, f"n/a: {treatment} took no {what}.", ())
    nearest = min(ratios, key=lambda arm: abs(ratios[arm] - 1))
    fact = f"{nearest} took {ratios[nearest]:.2f} times the {what} of {treatment}"
    if abs(ratios[nearest] - 1) > COMPUTE_TOLERANCE:
        return Basis(EQUAL_COMPUTE, None, f"n/a: no arm of the baseline's objective had it; {fact}.", ())
    fact += f" (seed {runs[0].seed}: {_steps(runs[0], nearest):,} against {count(_steps(runs[0], treatment), 'step')})."
    return Basis(EQUAL_COMPUTE, nearest, fact, tuple(pair(row, treatment, nearest) for row in rows))


def _arms(run: SeedRun, treatment: str | None, baseline: str | None) -> tuple[str, str]:
    compared = run.results.document.get("comparison") or {}
    chosen = treatment or compared.get("treatment"), baseline or compared.get("baseline")
    for role, arm in zip(("treatment", "baseline"), chosen, strict=True):
        if arm is None:
            raise UserError(f"{run.results.path} compares no two arms; give --{role} (arms: {', '.join(run.arms)})")
        if arm not in run.arms:
            raise UserError(f'--{role}: {run.results.path} has no arm "{arm}", {did_you_mean(arm, run.arms)}')
    if chosen[0] == chosen[1]:
        raise UserError(f"treatment and baseline are both {chosen[0]}; choose two arms (arms: {', '.join(run.arms)})")
    return str(chosen[0]), str(chosen[1])

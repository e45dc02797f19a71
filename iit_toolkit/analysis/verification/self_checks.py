"""Two controls that every verification must pass: swaps that change nothing, and runs that repeat."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from iit_toolkit.analysis.statistics.control_results import Ceiling, SelfSwap
from iit_toolkit.analysis.verification.cases import Pairs
from iit_toolkit.analysis.verification.measured_runs import Runs, groups
from iit_toolkit.interchange import Side

SELF_CHECK_PAIRS = 16
"""Both controls are run on the first so many pairs."""


def self_checks(
    teacher: Side,
    students: Iterable[Side],
    variables: Sequence[str],
    batches: Iterable[Pairs],
) -> tuple[SelfSwap, Ceiling]:
    """Swap every example with itself, in all models, and repeat the teacher's counterfactual runs.

    Variables that read elsewhere than they write are not swapped with themselves: that is meant to change answers.
    """
    swaps, repeated = SelfSwap(0, 0, 0.0), Ceiling(0, 0)
    models = [teacher, *students]
    own = {variable: [variable] for variable in variables}
    grouped = groups(variables, [(side, own) for side in models])
    for pairs in batches:
        for group in grouped:
            for side in models:
                swaps = _self_swapped(swaps, Runs(side, pairs, group), group)
            repeated = _repeated(repeated, [Runs(teacher, pairs, group) for _ in range(2)], group)
    return swaps, repeated


def _self_swapped(so_far: SelfSwap, runs: Runs, variables: Sequence[str]) -> SelfSwap:
    base = runs.base()
    for variable in variables:
        if not runs.side.reads_what_it_writes(variable):
            continue
        swapped = runs.self_swapped(variable)
        so_far = SelfSwap(
            so_far.cases + len(base),
            so_far.changed + int((base.argmax(-1) != swapped.argmax(-1)).sum()),
            max(so_far.max_difference, float((base - swapped).masked_fill(base == swapped, 0.0).abs().max())),
        )
    return so_far


def _repeated(so_far: Ceiling, runs: Sequence[Runs], variables: Sequence[str]) -> Ceiling:
    for variable in variables:
        first, again = (run.counterfactual(variable).argmax(-1) for run in runs)
        so_far = Ceiling(so_far.cases + len(first), so_far.same + int((first == again).sum()))
    return so_far

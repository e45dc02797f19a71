"""The plan of a verification as tables on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from iit_toolkit.analysis.statistics.planning import Plan
    from iit_toolkit.analysis.statistics.power import PairsNeeded


def print_plan(plan: Plan, rows: int) -> None:
    """Print how many pairs each variable needs.

    Args:
        plan: The plan.
        rows: How many held-out rows there are.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from iit_toolkit.analysis.statistics.control_words import describe_control
    from iit_toolkit.analysis.statistics.measures import MEASURES
    from iit_toolkit.analysis.statistics.power import POWER

    console = Console(highlight=False, markup=False)
    title = MEASURES[plan.measure].title
    for name, one in plan.variables.items():
        if one.reason:
            console.print(f'Variable "{name}": {one.reason}.')
            continue
        table = Table(box=SIMPLE_HEAD, title=f'Variable "{name}": pairs needed', title_justify="left")
        for head in (f"true lead\nin {title}", f"to be SUPPORTED\n(margin {plan.margin:g})", "to be shown\nabove zero"):
            table.add_column(head, justify="right", no_wrap=True)
        for supported, above in zip(one.supported, one.above_zero, strict=True):
            table.add_row(f"{supported.lead:g}", _cell(supported), _cell(above))
        console.print(table)
        console.print(f"Lead over the best control, the {describe_control(one.control)}, in the pilot: {one.pilot}.")
    console.print(
        f"Pilot: {plan.pairs} pairs. Power: {POWER:.0%}; level of a variable: {100 * plan.level:.3g}%. "
        f"In brackets: the range that the pilot leaves open. "
        f"The data have {rows:,} held-out rows, one per pair at most."
    )


def _cell(needed: PairsNeeded) -> str:
    if needed.pairs is None:
        return "never"
    return f"{needed.pairs:,} [{needed.low:,}, {needed.high:,}]"

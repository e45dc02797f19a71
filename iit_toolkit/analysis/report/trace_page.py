"""A trace in words: the line that names the place to swap, and the page beside its files."""

from __future__ import annotations

from iit_toolkit.analysis.report.figures.style import Plot
from iit_toolkit.analysis.report.markdown import markdown_cell, markdown_table
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.numbers import count, inputs
from iit_toolkit.analysis.statistics.teacher_neurons import NEARLY, TraceNeurons
from iit_toolkit.analysis.statistics.teacher_trace import BLOCK, ENOUGH, POSITIONS, STILL, Trace, TraceCell

RULE = (
    f"The place to swap is the last block whose swap still moves {STILL:.0%} of the probability that the strongest "
    "block's moves: as much as possible has been computed there, and it is still read."
)
_MOST_NAMED = 32  # neurons that the page names one by one
_READ_FROM = "What a swap changes tells what is read from a place, not what is stored there."


def place_line(found: Trace) -> str:
    """Say in one line where to swap, at the positions that an alignment can swap."""
    kind, part = found.positions[0], found.main_part
    row, last = found.row(part, kind), found.held_until(part, kind)
    if last is None:
        return f"Nowhere: swaps of {kind} positions change nothing of the teacher's answers."
    line = f"Swap {_named(row[last])}: {_share(row[last])} of answers change there at {kind} positions"
    if last + 1 < len(row):
        line += f"; above it, at most {max(cell.changed.value or 0.0 for cell in row[last + 1 :]):.1%}"
    if (row[last].changed.value or 0.0) < ENOUGH:
        return f"{line}. That is under {ENOUGH:.0%}: give data whose answers depend on these positions."
    return f"{line}."


def neurons_line(found: TraceNeurons) -> str:
    """Say in one line how many neurons suffice, and what as many random ones do."""
    every, least = found.shares[-1], found.enough
    if least is None:
        return f"No answer changes if all {every.neurons} neurons are swapped."
    if least.random is None:
        return f"It takes all {every.neurons} neurons: no fewer that were tried reach {NEARLY:.0%} of what all change."
    shares = [f"{share.value or 0.0:.1%}" for share in (least.chosen, every.chosen, least.random)]
    return (
        f"{least.neurons} of {every.neurons} neurons are enough for {NEARLY:.0%} of what all change: they change "
        f"{shares[0]} of answers, all {shares[1]}, as many random ones {shares[2]}."
    )


def trace_page(found: Trace, title: str, plot: Plot, proposal: str | None, neurons: TraceNeurons | None = None) -> str:
    """Return the page as Markdown.

    Args:
        found: The trace.
        title: The teacher.
        plot: The figure, in `figures/`.
        proposal: The text of the proposed alignment file, if there is one.
        neurons: The neurons that carry the effect, if they were looked for.
    """
    parts = [
        f"# Trace of {markdown_cell(title)}",
        place_line(found),
        f"![{markdown_cell(plot.alt)}](figures/{plot.name}.svg)",
        f"{plot.caption} {_READ_FROM}",
    ]
    for kind in found.positions:
        cells = [cell for cell in found.cells if cell.place.positions == kind]
        names = list(dict.fromkeys(cell.place.part for cell in cells))
        rows = [
            [str(layer), *(percent(found.row(name, kind)[layer].changed) for name in names)]
            for layer in range(found.layers)
        ]
        basis = f"{count(cells[0].changed.cases, 'case')} of {inputs(cells[0].changed)}"
        parts += [f"## Swapped: {kind}", f"{POSITIONS[kind].capitalize()}; {basis}. Answers that change, by block:"]
        parts.append(markdown_table(["block", *(name.replace("_", " ") for name in names)], rows))
    if neurons is not None:
        parts += _neurons(neurons)
    parts += ["## How the place is chosen", RULE]
    if proposal is not None:
        parts += ["## Proposed alignment", f"```yaml\n{proposal.rstrip()}\n```"]
    return "\n\n".join(parts) + "\n"


def _neurons(found: TraceNeurons) -> list[str]:
    every, place, least = found.shares[-1], found.place, found.enough
    basis = f"{count(every.chosen.cases, 'case')} of {inputs(every.chosen)}"
    rows = [
        [
            str(one.neurons),
            percent(one.chosen),
            *("" if two is None else percent(two) for two in (one.random, one.lead)),
        ]
        for one in found.shares
    ]
    named = found.order[: min(_MOST_NAMED, every.neurons if least is None else least.neurons)]
    return [
        f"## Neurons of block {place.layer}",
        f"The {every.neurons} neurons of {place.component.replace('_', ' ')}, swapped at {place.positions} positions. "
        f"Attribution ranks them on {count(found.cases, 'case')} of other rows: gradient times change of the "
        f"activation, a first-order estimate. Answers that change in {basis}:",
        markdown_table(["neurons", "largest attribution", "random", "difference"], rows),
        f"{neurons_line(found)} Intervals are over texts, not over draws of random neurons.",
        f"First in order: {', '.join(map(str, named))}. `trace.json` has all, with their attribution.",
    ]


def percent(share: Estimate) -> str:
    """`28.3% [22.9, 34.3]`."""
    if share.value is None:
        return "n/a"
    ends = "" if share.low is None or share.high is None else f" [{100 * share.low:.1f}, {100 * share.high:.1f}]"
    return f"{share.value:.1%}{ends}"


def _named(cell: TraceCell) -> str:
    what = "" if cell.place.part == BLOCK else f"{cell.place.part} of "
    return f"{what}block {cell.place.layer}"


def _share(cell: TraceCell) -> str:
    return f"{cell.changed.value or 0.0:.1%}"

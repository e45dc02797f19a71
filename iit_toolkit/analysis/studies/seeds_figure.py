"""One figure of a whole study: every measure's value per arm, the arms of one seed joined by a line."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from iit_toolkit.analysis.report.figures.style import MARKERS, PALETTE, STYLE, Drawing, save
from iit_toolkit.analysis.statistics.numbers import count
from iit_toolkit.analysis.studies.comparison import StudyComparison
from iit_toolkit.analysis.studies.paired import Row
from iit_toolkit.analysis.studies.rows import COST

_COLUMNS = 3


def write_figure(compared: StudyComparison, folder: Path) -> None:
    """Write the figure as `folder/compare.svg` and `.png`, and its numbers as `.csv`.

    Shares (accuracies of interchange interventions) are drawn on one scale, perplexities each on its own.
    """
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "y"}):
        save(folder, Drawing("compare", _draw(compared), "", "", _table(compared)))


def _table(compared: StudyComparison) -> pd.DataFrame:
    values = [
        {"measure": row.measure.name, "arm": arm, "seed": seed, "value": value}
        for row in compared.rows.values()
        for arm, values in row.values.items()
        for seed, value in zip(compared.study.seeds, values, strict=True)
        if seed in compared.study.records[arm]
    ]
    return pd.DataFrame(values)


def _draw(compared: StudyComparison) -> Figure:
    rows = [row for group, found in compared.groups.items() if group != COST for row in found]
    arms = list(compared.arms)
    columns = min(_COLUMNS, len(rows))
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(3.3 * columns, 2.5 * lines + 0.4), layout="constrained")
    shares = _limits([row for row in rows if row.measure.higher_is_better])
    for number, row in enumerate(rows):
        axes = figure.add_subplot(lines, columns, number + 1)
        for place, seed in enumerate(compared.study.seeds):
            values = [row.values[arm][place] for arm in arms]
            axes.plot(
                range(len(arms)),
                [float("nan") if value is None else value for value in values],  # a gap in the line
                color=PALETTE[place % len(PALETTE)],
                marker=MARKERS[place % len(MARKERS)],
                ms=5,
                lw=1.3,
                label=f"seed {seed}",
            )
        defined = min(sum(value is not None for value in values) for values in row.values.values())
        axes.set_title(f"{row.measure.name}: n = {count(defined, 'seed')}")
        axes.set_xticks(range(len(arms)), labels=arms)
        axes.set_xlim(-0.3, len(arms) - 0.7)
        if row.measure.higher_is_better and shares is not None:
            axes.set_ylim(*shares)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(6, len(labels)), fontsize=8.5)
    return figure


def _limits(rows: list[Row]) -> tuple[float, float] | None:
    values = [value for row in rows for arm in row.values.values() for value in arm if value is not None]
    if not values:
        return None
    room = 0.05 * (max(values) - min(values)) + 0.01
    return min(values) - room, max(values) + room

"""Figures of the cases themselves: by position, by frequency, by number of texts, change against change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iit_toolkit.analysis.report.figures.style import GREY, INK, MARKERS, Drawing, hover, legend, student_colour
from iit_toolkit.analysis.statistics.decision import MINIMUM_CLUSTERS
from iit_toolkit.analysis.statistics.input_words import words_of
from iit_toolkit.analysis.statistics.measures import Measure, judged_measure
from iit_toolkit.analysis.statistics.numbers import decimal, first_upper
from iit_toolkit.analysis.statistics.quantities import cases_of, students, variables
from iit_toolkit.analysis.statistics.subsets import Settings, by_frequency, by_position, by_size
from iit_toolkit.analysis.statistics.verdict import Verdict

_CELLS = 48
_LIMIT_QUANTILE = 0.995


def position(outcomes: pd.DataFrame, measure: str, settings: Settings) -> list[Drawing]:
    """Return a measure by token position; nothing if answers have no position."""
    shown = judged_measure(measure)
    caption = (
        f"{first_upper(shown.title)} outside the swapped positions by the token's position in the input, counted from "
        "0. Black lines: each student's floor on the same cases."
    )
    return _groups("by_position", by_position(outcomes, settings, measure), shown, "position", caption)


def frequency(
    outcomes: pd.DataFrame, measure: str, per_million: Mapping[int, float], counted_in: str, settings: Settings
) -> list[Drawing]:
    """Return a measure by frequency of the gold token; nothing if no frequency is known."""
    shown = judged_measure(measure)
    caption = (
        f"{first_upper(shown.title)} outside the swapped positions by how often the gold token occurs in a million "
        f"tokens of the data ({counted_in}). Black lines: each student's floor on the same cases."
    )
    table = by_frequency(outcomes, per_million, settings, measure)
    return _groups("by_frequency", table, shown, "occurrences of the gold token per million", caption)


def reliability(outcomes: pd.DataFrame, verdict: Verdict, settings: Settings) -> Drawing:
    """Return how the interval of the judged student narrows with the number of texts."""
    measure, student, margin = judged_measure(verdict.measure), verdict.student, verdict.margin
    words = words_of(outcomes)
    table = by_size(outcomes, student, settings, verdict.measure)
    names = list(dict.fromkeys(table["variable"]))
    figure, panels = _panels(names, measure)
    for variable, axes in panels.items():
        rows = _of(table, variable)
        last = rows[-1]
        if last["floor"] is not None:
            axes.axhline(last["floor"], color=INK, lw=1.4)
            axes.axhline(last["floor"] + margin, color=GREY, lw=1, ls=(0, (4, 3)))
        for row in (row for row in rows if row["value"] is not None):
            _interval(axes, row["drawn"], row, INK if row is last else GREY, "o", f"{row['drawn']:,} {words.texts}")
        axes.set_xscale("log")
        axes.set_xticks([row["drawn"] for row in rows], labels=[f"{row['drawn']:,}" for row in rows])
        axes.tick_params(axis="x", which="minor", bottom=False, labelbottom=False)
        axes.set_title(f"{variable}: n = {last['drawn']:,} {words.texts}")
    panels[names[-1]].set_xlabel("texts of bases used" if words.region else "bases used")
    legend(
        figure,
        [
            Line2D([], [], color=INK, lw=1.4, label="floor"),
            Line2D([], [], color=GREY, lw=1, ls=(0, (4, 3)), label=f"floor and margin ({margin:g})"),
        ],
    )
    fewer = "on bases of fewer texts" if words.region else "on fewer bases"
    caption = (
        f"{first_upper(measure.title)} of {student}{words.outside}, {fewer}: how much "
        f"of the interval the amount of data explains. {first_upper(measure.units)} of fewer than {MINIMUM_CLUSTERS} "
        f"{words.texts} give no verdict."
    )
    values = "; ".join(f"{row['variable']}, {row['drawn']:,} {words.texts}: {_words(row)}" for row in _records(table))
    alt = f"{first_upper(measure.title)} by number of {words.texts}. {values}."
    return Drawing("reliability", figure, caption, alt, _named(table, measure))


def scatter(outcomes: pd.DataFrame) -> Drawing:
    """Return the teacher's change of log-probability against each student's, case by case, counted in cells."""
    names, rows = students(outcomes), variables(outcomes)
    changes = {(variable, name): _changes(outcomes, name, variable) for variable in rows for name in names}
    limit = max(_limit(values) for values in changes.values())
    edges = np.linspace(-limit, limit, _CELLS + 1)
    counts = {key: _counted(values, limit) for key, values in changes.items()}
    norm = LogNorm(1, max(2.0, *(float(one.max()) for one in counts.values())))
    figure = Figure(figsize=(min(10.4, 2.9 * len(names) + 1.1), 2.9 * len(rows) + 0.3), layout="constrained")
    grid = figure.subplots(len(rows), len(names), squeeze=False, sharex=True, sharey=True)
    for (variable, name), cells in counts.items():
        axes: Axes = grid[rows.index(variable), names.index(name)]
        _draw_counted(axes, cells, limit, norm)
        axes.set_title(f"{name}, {variable}: n = {int(cells.sum()):,}")
    figure.supxlabel("teacher's change (nats)", fontsize=9)
    figure.supylabel("student's change (nats)", fontsize=9)
    bar = figure.colorbar(ScalarMappable(norm, "cividis_r"), ax=list(grid.flat), shrink=0.8)
    bar.set_label("cases")
    caption = (
        "Change of log-probability under the intervention, teacher against student, of every case"
        f"{words_of(outcomes).outside}: the mean over the likeliest answers of the four runs. On the diagonal the "
        "student moves as its teacher does, on the dashed line it does not move. What lies beyond the axes "
        "is drawn at their ends."
    )
    alt = f"Cells of cases, the teacher's change of log-probability against that of {', '.join(names)}."
    centres = (edges[:-1] + edges[1:]) / 2
    table = pd.DataFrame(
        [
            {
                "variable": variable,
                "student": name,
                "teacher_change": round(float(centres[x]), 4),
                "student_change": round(float(centres[y]), 4),
                "cases": int(cells[x, y]),
            }
            for (variable, name), cells in counts.items()
            for x, y in zip(*np.nonzero(cells), strict=True)
        ]
    )
    return Drawing("effect_scatter", figure, caption, alt, table)


def draw_scatter(axes: Axes, outcomes: pd.DataFrame, student: str, variable: str) -> Axes:
    """Draw the teacher's change of log-probability against a student's on given axes; return them."""
    changes = _changes(outcomes, student, variable)
    limit = _limit(changes)
    cells = _counted(changes, limit)
    _draw_counted(axes, cells, limit, LogNorm(1, max(2.0, float(cells.max()))))
    axes.set_title(f"{student}, {variable}: n = {int(cells.sum()):,}")
    axes.set_xlabel("teacher's change (nats)")
    axes.set_ylabel("student's change (nats)")
    return axes


def _counted(changes: tuple[Any, Any], limit: float) -> Any:
    """Count the cases in each cell, those beyond the limit in the outermost (X, Y)."""
    edges = np.linspace(-limit, limit, _CELLS + 1)
    return np.histogram2d(*(np.clip(side, -limit, limit) for side in changes), bins=[edges, edges])[0]


def _draw_counted(axes: Axes, cells: Any, limit: float, norm: LogNorm) -> None:
    shown, extent = np.ma.masked_equal(cells.T, 0), (-limit, limit, -limit, limit)
    axes.imshow(shown, origin="lower", extent=extent, norm=norm, cmap="cividis_r", interpolation="none")
    axes.plot([-limit, limit], [-limit, limit], color=INK, lw=0.8)
    axes.axhline(0, color=GREY, lw=0.8, ls=(0, (4, 3)))
    axes.grid(False)


def _changes(outcomes: pd.DataFrame, student: str, variable: str) -> tuple[Any, Any]:
    """Mean changes of log-probability of the cases outside, teacher's and student's, each (N,)."""
    cases = cases_of(outcomes, student, variable)
    chosen = ~cases["inside"] & (cases["effect_n"] > 0)
    teacher, own = (cases[f"effect_{side}"][chosen] / cases["effect_n"][chosen] for side in ("x", "y"))
    finite = np.isfinite(teacher) & np.isfinite(own)
    return teacher[finite], own[finite]


def _limit(changes: tuple[Any, Any]) -> float:
    both = np.abs(np.concatenate(changes))
    return max(0.01, float(np.quantile(both, _LIMIT_QUANTILE))) if len(both) else 0.01


def _groups(name: str, table: pd.DataFrame, measure: Measure, axis: str, caption: str) -> list[Drawing]:
    if table.empty:
        return []
    rows, everyone = list(dict.fromkeys(table["variable"])), list(dict.fromkeys(table["student"]))
    figure, panels = _panels(rows, measure)
    for variable, axes in panels.items():
        records = _of(table, variable)
        labels = list(dict.fromkeys(record["group"] for record in records))
        changed = {record["group"]: record["cases"] for record in records}
        for record in (record for record in records if record["value"] is not None):
            number = everyone.index(record["student"])
            place = labels.index(record["group"]) + 0.6 * ((number + 0.5) / len(everyone) - 0.5)
            axes.plot([place - 0.1, place + 0.1], [record["floor"]] * 2, color=INK, lw=1.6, zorder=2)
            colour = student_colour(everyone, record["student"])
            shown = f"{record['student']}, {record['group']}"
            _interval(axes, place, record, colour, MARKERS[number % len(MARKERS)], shown)
        axes.set_xticks(range(len(labels)), labels=[_tick(label, changed[label]) for label in labels], fontsize=7.5)
        axes.set_xlim(-0.5, len(labels) - 0.5)
        axes.set_title(f"{variable}: n = {sum(changed.values()):,} {measure.units}")
    panels[rows[-1]].set_xlabel(axis)
    legend(
        figure,
        [
            Line2D([], [], color=student_colour(everyone, one), marker=MARKERS[place % len(MARKERS)], label=one)
            for place, one in enumerate(everyone)
        ],
    )
    values = "; ".join(
        f"{record['variable']}, {record['group']}, {record['student']}: {_words(record)}" for record in _records(table)
    )
    alt = f"{first_upper(measure.title)} by {axis}. {values}."
    return [Drawing(name, figure, caption, alt, _named(table, measure))]


def _named(table: pd.DataFrame, measure: Measure) -> pd.DataFrame:
    """Return a table with the measure's name over its values."""
    return table.rename(columns={"value": measure.name, "cases": measure.units.replace(" ", "_")})


def _panels(names: Sequence[str], measure: Measure) -> tuple[Figure, dict[str, Axes]]:
    """One panel per variable, all from 0 to 1."""
    figure = Figure(figsize=(3.6, 2.3 * len(names) + 0.5), layout="constrained")
    panels = {name: figure.add_subplot(len(names), 1, number + 1) for number, name in enumerate(names)}
    for axes in panels.values():
        axes.set_ylim(-0.02, 1.02)
        axes.grid(True, axis="y")
        axes.grid(False, axis="x")
        axes.set_ylabel(measure.title)
    return figure, panels


def _tick(label: str, changed: int) -> str:
    return label.replace(" to ", " to\n").replace(" or ", " or\n") + f"\nn = {changed:,}"


def _interval(axes: Axes, place: float, row: Mapping[str, Any], colour: str, marker: str, label: str) -> None:
    if row["low"] is not None and row["high"] is not None:
        axes.plot([place, place], [row["low"], row["high"]], color=colour, lw=2, alpha=0.55, zorder=3)
    shown = hover(f"{label}: {_words(row)}, floor {decimal(row['floor'])}, n = {row['cases']:,}")
    axes.plot([place], [row["value"]], marker, color=colour, ms=5, zorder=4, **shown)


def _words(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "undefined"
    ends = "" if row["low"] is None else f" [{decimal(row['low'])}, {decimal(row['high'])}]"
    return decimal(row["value"]) + ends


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows, with None for what is undefined."""
    return [
        {name: None if value != value else value for name, value in record.items()}
        for record in cast(list[dict[str, Any]], table.to_dict("records"))
    ]


def _of(table: pd.DataFrame, variable: str) -> list[dict[str, Any]]:
    return [record for record in _records(table) if record["variable"] == variable]

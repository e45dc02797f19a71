"""Figures of a run: numbers in, SVG and PNG out.

Matplotlib is imported here, in `heatmap` and in `seeds_figure` (never pyplot).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iit_toolkit.analysis.metrics import Split, Summary, VariableSummary
from iit_toolkit.analysis.statistics import Estimate
from iit_toolkit.runs.folder import write_atomically

History = Sequence[Mapping[str, Any]]

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, distinct to colour-blind readers; students differ in place and label, too."""
_GREY, _INK = "#767676", "#22272e"
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": "#b8bec6",
    "axes.labelcolor": _INK,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "grid.color": "#e6e9ed",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "iit_toolkit",
}


@dataclass(frozen=True)
class Plot:
    """One figure: its name (of the files), a caption, a text for who cannot see it, and the SVG itself."""

    name: str
    caption: str
    alt: str
    svg: str


def write_figures(summary: Summary, histories: Mapping[str, History], margin: float, folder: Path) -> list[Plot]:
    """Draws every figure there is data for and writes each as `folder/{name}.svg` and `.png`.

    Args:
        summary: Of the outcomes.
        histories: Per arm the logged steps of its training (`history` of results.json).
        margin: The margin of the verdict, marked where it applies.
        folder: Made where it does not exist.

    Returns:
        The figures in the order in which a report shows them.
    """
    with matplotlib.rc_context(STYLE):
        drawn = [_accuracy(summary), _above_floor(summary, margin), _effects(summary), _cases(summary)]
        for name, prefix, caption in (
            ("training", "loss", "Training loss and its terms, as logged; each has a scale of its own."),
            ("balance", "gradient_share", "Share of each loss term in the norm of the gradient."),
        ):
            if any(_terms(history, prefix) for history in histories.values()):
                drawn.append((name, *_curves(histories, prefix, caption)))
        return [save(folder, *one) for one in drawn]


def save(folder: Path, name: str, figure: Figure, caption: str, alt: str) -> Plot:
    """Writes a figure that was drawn in `STYLE` as `folder/{name}.svg` and `.png`."""
    FigureCanvasAgg(figure)
    contents: dict[str, bytes] = {}
    for kind, options in {"svg": {"metadata": {"Date": None}}, "png": {"dpi": 160}}.items():
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, **options)  # pyright: ignore[reportArgumentType]
        contents[kind] = buffer.getvalue()
        write_atomically(folder / f"{name}.{kind}", contents[kind])
    return Plot(name, caption, alt, contents["svg"].decode())


def _accuracy(summary: Summary) -> tuple[str, Figure, str, str]:
    regions = [
        region
        for region in ("outside", "inside")
        if any(getattr(one.iia, region).cases for _, _, one in _rows(summary))
    ]
    figure, panels = _panels(summary, regions)

    for (variable, region), axes in panels.items():
        rows = _of(summary, variable)
        for place, (student, one) in enumerate(rows):
            colour = _colour(summary, student)
            floor = _region(one.effective_floor, region).value
            if floor is not None:
                axes.plot([floor] * 2, [place - 0.34, place + 0.34], color=_INK, lw=1.6, zorder=2)
            _point(axes, _region(one.iia, region), place + 0.16, colour, hollow=True)
            _point(axes, _region(one.effective_iia, region), place - 0.16, colour)
        axes.set_xlim(-0.02, 1.02)
        changed, cases = (_region(getattr(rows[0][1], name), region).cases for name in ("effective_iia", "iia"))
        axes.set_title(f"{variable}, {region}: n = {changed:,} changed of {cases:,}")
        _label_students(axes, [student for student, _ in rows])
    _legend(
        figure,
        [
            Line2D([], [], color=_GREY, marker="o", label="effective IIA (changed cases)"),
            Line2D([], [], color=_GREY, marker="o", mfc="white", label="IIA (all cases)"),
            Line2D([], [], color=_INK, marker="|", ms=11, mew=1.6, lw=0, label="floor of the changed cases"),
        ],
    )
    caption = (
        "Interchange intervention accuracy per student, outside and inside the swapped positions, "
        f"with {summary.level:.0%} intervals. A student that does not react scores its floor."
    )
    return (
        "accuracy",
        figure,
        caption,
        _alt(summary, "Effective IIA outside", lambda one: one.effective_iia.outside),
    )


def _above_floor(summary: Summary, margin: float) -> tuple[str, Figure, str, str]:
    figure, panels = _panels(summary, ["outside"])
    for (variable, _), axes in panels.items():
        rows = _of(summary, variable)
        axes.axvline(0, color=_INK, lw=1)
        axes.axvline(margin, color=_GREY, lw=1, ls=(0, (4, 3)))
        for place, (student, one) in enumerate(rows):
            _point(axes, one.margin, place, _colour(summary, student))
        axes.set_title(f"{variable}: n = {rows[0][1].margin.cases:,} changed cases")
        _label_students(axes, [student for student, _ in rows])
    ends = [end for _, _, one in _rows(summary) for end in (one.margin.low, one.margin.high) if end is not None]
    for axes in panels.values():
        axes.set_xlim(min([*ends, 0.0]) - 0.02, max([*ends, margin]) + 0.02)
    _legend(figure, [Line2D([], [], color=_GREY, ls=(0, (4, 3)), label=f"margin of the verdict ({margin:g})")])
    caption = "Effective IIA less its own no-intervention floor, outside the swapped positions (paired)."
    return "above_floor", figure, caption, _alt(summary, "Margin over the floor", lambda one: one.margin)


def _effects(summary: Summary) -> tuple[str, Figure, str, str]:
    figure, panels = _panels(summary, ["outside"])
    for (variable, _), axes in panels.items():
        rows = _of(summary, variable)
        for place, (student, one) in enumerate(rows):
            colour = _colour(summary, student)
            _point(axes, one.effect_correlation.outside, place - 0.16, colour)
            _point(axes, one.effect_correlation.inside, place + 0.16, colour, hollow=True)
        axes.axvline(0, color=_INK, lw=1)
        axes.set_xlim(-1.02 if _any_negative(summary) else -0.02, 1.02)
        axes.set_title(f"{variable}: n = {rows[0][1].effect_correlation.all.cases:,} cases")
        _label_students(axes, [student for student, _ in rows])
    _legend(
        figure,
        [
            Line2D([], [], color=_GREY, marker="o", label="outside"),
            Line2D([], [], color=_GREY, marker="o", mfc="white", label="inside"),
        ],
    )
    caption = "Correlation of the teacher's and the student's changes of log-probability under the intervention."
    return (
        "effects",
        figure,
        caption,
        _alt(summary, "Effect correlation", lambda one: one.effect_correlation.outside),
    )


def _cases(summary: Summary) -> tuple[str, Figure, str, str]:
    figure, panels = _panels(summary, [""])
    for (variable, _), axes in panels.items():
        rows = _of(summary, variable)
        bars = [("changed, inside", rows[0][1].changed.inside, _GREY)]
        bars.append(("changed, outside", rows[0][1].changed.outside, _GREY))
        bars += [(f"agreement, {name}", one.base_agreement, _colour(summary, name)) for name, one in rows]
        for place, (_, estimate, colour) in enumerate(bars):
            axes.barh(place, estimate.value or 0.0, height=0.62, color=colour, alpha=0.8)
            if estimate.low is not None and estimate.high is not None:
                axes.plot([estimate.low, estimate.high], [place, place], color=_INK, lw=1.4)
        axes.set_xlim(0, 1.02)
        axes.set_title(f"{variable}: n = {rows[0][1].iia.all.cases:,} cases")
        _label_students(axes, [label for label, _, _ in bars])
    caption = (
        "Share of cases in which the intervention changes the teacher's answer, "
        "and agreement of student and teacher without intervention."
    )
    return "cases", figure, caption, _alt(summary, "Base agreement", lambda one: one.base_agreement)


def _curves(histories: Mapping[str, History], prefix: str, caption: str) -> tuple[Figure, str, str]:
    terms = list(dict.fromkeys(term for history in histories.values() for term in _terms(history, prefix)))
    figure = Figure(figsize=(2.6 * max(2, len(terms)), 2.3), layout="constrained")
    for number, term in enumerate(terms):
        axes = figure.add_subplot(1, len(terms), number + 1)
        for place, (arm, history) in enumerate(histories.items()):
            points = [(row["step"], row[term]) for row in history if row.get(term) is not None and "step" in row]
            if points:
                axes.plot(*zip(*points, strict=True), color=PALETTE[place % len(PALETTE)], lw=1.5, label=arm)
        steps = max(row["step"] for history in histories.values() for row in history if "step" in row)
        axes.set_title(f"{term.removeprefix(prefix + '/')}, n = {steps:,} steps")
        if prefix != "loss":
            axes.set_ylim(0, 1.02)
        axes.set_xlabel("step")
        axes.grid(True, axis="y")
        axes.legend(loc="best", fontsize=8)
    return figure, caption, f"Curves of {', '.join(terms)} over training steps for {', '.join(histories)}."


def _terms(history: History, prefix: str) -> list[str]:
    names = dict.fromkeys(name for row in history for name in row)
    return [name for name in names if name == prefix or name.startswith(f"{prefix}/")]


def _panels(summary: Summary, regions: Sequence[str]) -> tuple[Figure, dict[tuple[str, str], Axes]]:
    names = list(dict.fromkeys(name for _, name, _ in _rows(summary)))
    height = (0.36 * len(summary.students) + 0.75) * len(names) + 0.35
    figure = Figure(figsize=(3.6 if len(regions) == 1 else 10.4, height), layout="constrained")
    grid = figure.subplots(len(names), len(regions), squeeze=False, sharey="row")
    return figure, {
        (name, region): grid[row, column] for row, name in enumerate(names) for column, region in enumerate(regions)
    }


def _point(axes: Axes, estimate: Estimate, place: float, colour: str, *, hollow: bool = False) -> None:
    if estimate.value is None:
        return
    if estimate.low is not None and estimate.high is not None:
        axes.plot([estimate.low, estimate.high], [place, place], color=colour, lw=2.2, alpha=0.55, zorder=3)
    fill = "white" if hollow else colour
    axes.plot([estimate.value], [place], "o", color=colour, mfc=fill, ms=6, mew=1.5, zorder=4)


def _label_students(axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), labels=list(names))
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.tick_params(length=0)


def _legend(figure: Figure, handles: list[Line2D]) -> None:
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8.5)


def _colour(summary: Summary, student: str) -> str:
    trained = [name for name in summary.students if name != "untrained"]
    return _GREY if student == "untrained" else PALETTE[trained.index(student) % len(PALETTE)]


def _rows(summary: Summary) -> list[tuple[str, str, VariableSummary]]:
    return [(name, v, one) for name, student in summary.students.items() for v, one in student.variables.items()]


def _of(summary: Summary, variable: str) -> list[tuple[str, VariableSummary]]:
    return [(student, one) for student, name, one in _rows(summary) if name == variable]


def _region(split: Split, region: str) -> Estimate:
    return split.inside if region == "inside" else split.outside


def _any_negative(summary: Summary) -> bool:
    lows = [one.effect_correlation.all.low for _, _, one in _rows(summary)]
    return any(low is not None and low < -0.02 for low in lows)


def _alt(summary: Summary, what: str, pick: Callable[[VariableSummary], Estimate]) -> str:
    values = (
        f"{student}, {variable}: {'undefined' if pick(one).value is None else f'{pick(one).value:.3f}'}"
        for student, variable, one in _rows(summary)
    )
    return f"{what}. {'; '.join(values)}."

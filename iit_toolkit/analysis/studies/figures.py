"""The figures of a study: perplexity while training, the headline measure against perplexity, gains on tasks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from iit_toolkit.analysis.report.figures.style import GREY, LINES, MARKERS, PALETTE, STYLE, Drawing, save
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.input_words import NETWORKS
from iit_toolkit.analysis.statistics.measures import MEASURES
from iit_toolkit.analysis.statistics.numbers import count, first_upper
from iit_toolkit.analysis.studies.comparison import StudyComparison
from iit_toolkit.analysis.studies.paired import EQUAL_STEPS, Paired
from iit_toolkit.analysis.studies.rows import TASKS, flop_unit, measured

_COLUMNS = 4
_HANDLE, _LETTER, _LINE = 0.6, 0.075, 0.19  # inches in the legend: of a mark, of a letter of a name, of a line
_PREDICTED = {
    "causal_lm": "tokens",
    "sequence_classification": "labels",
    "token_classification": "tags",
    NETWORKS: "labels",
}
"""What is predicted; of masked language models, masked tokens."""
_FILES = {"effective_iia": "iia"}
"""What the figure against perplexity is called, if not as its measure."""
_HIGHEST = 100.0  # a loss in nats whose exp can be drawn
_FILLS = ("full", "none", "left", "right", "top", "bottom")


def write_figures(comparison: StudyComparison, folder: Path) -> None:
    """Write every figure that the study has numbers for as `.svg` and `.png`, and its numbers as `.csv`.

    `training-perplexity`: exp of the logged loss of the task, such as of masked tokens, over steps and training FLOPs.
    `iia-perplexity`: effective IIA outside against perplexity, per arm and seed, with the intervals of the run;
    `effect_r2-perplexity` and so on, if the comparison shows another measure. Of networks, the same against accuracy:
    `effect_r2-accuracy`.
    `task-gains`: differences of task scores from the baseline at equal steps, paired by seed.

    Raises:
        UserError: If they can't be written.
    """
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "both"}):
        for drawing in (_training(comparison), _against_behaviour(comparison), _gains(comparison)):
            if drawing is not None:
                save(folder, drawing)


def _training(comparison: StudyComparison) -> Drawing | None:
    data = training_curves(comparison)
    if data.empty:
        return None
    predicted = _PREDICTED.get(str(comparison.study.first.results.document.get("task")), "masked tokens")
    figure = Figure(figsize=(9.2, 4.0), layout="constrained")
    arms = [arm for arm in comparison.arms if arm in set(data["arm"])]
    unit, size = flop_unit(comparison.study)
    panels = {"steps": ("step", 1.0), f"training {unit}": ("pflop", 1e15 / size)}
    for number, (label, (column, scale)) in enumerate(panels.items()):
        axes = figure.add_subplot(1, 2, number + 1)
        for arm in arms:
            rows = data[data["arm"] == arm]
            for part, alpha in ((rows, 0.4), (rows[~(rows["epoch"] > 1)], 1.0)):
                look: dict[str, Any] = arm_look(comparison, arm) | {"alpha": alpha, "ms": 4, "lw": 1.2}
                axes.plot(part[column] * scale, part["perplexity"], markevery=max(1, len(rows) // 8), **look)
        axes.set_yscale("log")
        axes.set_xlabel(label)
        axes.set_ylabel(f"perplexity of {predicted} in training")
        axes.set_title(f"Over {label}")
    caption = (
        f"Perplexity of the {predicted} of training batches: exp of the mean over seeds of the logged loss, which is "
        "itself a mean over the steps since the last line. Arms without this loss have no curve."
    )
    title = f"{predicted.capitalize()} of training batches"
    if not comparison.study.of_networks:  # their rows are drawn with replacement, and their dropout is their own
        seen = "pale: seen before" if (data["epoch"] > 1).any() else "none seen before"
        title += f", {seen}; with dropout"
        caption += " Pale past epoch 1, where rows were seen before. Dropout is on, so it is higher than in evaluation."
    figure.suptitle(title, fontsize=9)
    add_legend(figure, comparison, arms)
    return Drawing("training-perplexity", figure, caption, "Curves of perplexity while training, per arm.", data)


def training_curves(comparison: StudyComparison) -> pd.DataFrame:
    """Return the loss of the task by arm and step, as means over seeds; a loss that no curve can show is left out."""
    rows: list[dict[str, Any]] = []
    for arm in comparison.arms:
        runs = list(comparison.study.records[arm].values())
        logged: dict[int, list[tuple[float, float, float]]] = {}
        for run in runs:
            for line in run.training["history"]:
                loss, epoch = line.get("loss/task"), line.get("epoch")
                if loss is not None and loss < _HIGHEST:
                    pflop = run.step_flops * line["step"] / 1e15
                    logged.setdefault(line["step"], []).append((loss, pflop, math.nan if epoch is None else epoch))
        for step, found in sorted(logged.items()):
            loss, pflop, epoch = (math.fsum(column) / len(found) for column in zip(*found, strict=True))
            row = {"arm": arm, "step": step, "pflop": pflop, "epoch": epoch, "perplexity": math.exp(loss)}
            rows.append({**row, "seeds": len(found)})
    return pd.DataFrame(rows)


def _against_behaviour(comparison: StudyComparison) -> Drawing | None:
    measure, title = comparison.measure, MEASURES[comparison.measure].title
    sets = list(comparison.study.first.evaluation)
    if not sets:
        return None
    kind = "accuracy" if comparison.study.of_networks else "perplexity"
    rows: list[dict[str, Any]] = []
    for arm in comparison.arms:
        for seed, run in comparison.study.records[arm].items():
            if not measured(run, measure):
                continue
            measured_of_arm: Estimate = getattr(run.evaluation[sets[0]], kind)[arm]
            for variable in comparison.variables:
                found = run.student.variables[variable].estimate(measure)
                rows.append(
                    {
                        "arm": arm,
                        "seed": seed,
                        "variable": variable,
                        **{f"{kind}{end}": getattr(measured_of_arm, key) for end, key in _ENDS.items()},
                        **{f"{measure}{end}": getattr(found, key) for end, key in _ENDS.items()},
                    }
                )
    data = pd.DataFrame(rows)
    lines = -(-len(comparison.variables) // _COLUMNS)
    columns = min(_COLUMNS, len(comparison.variables))
    figure = Figure(figsize=(max(5.6, 3.6 * columns), 3.6 * lines + 0.5), layout="constrained")
    for number, variable in enumerate(comparison.variables):
        axes = figure.add_subplot(lines, columns, number + 1)
        for arm in comparison.arms:
            for row in rows:
                if (row["arm"], row["variable"]) == (arm, variable) and row[measure] is not None:
                    look: dict[str, Any] = arm_look(comparison, arm) | {"ls": "none", "ms": 5, "elinewidth": 0.8}
                    bars = _bars(row, kind), _bars(row, measure)
                    axes.errorbar(row[kind], row[measure], xerr=bars[0], yerr=bars[1], **look)
        if kind == "perplexity":
            axes.set_xscale("log")
        axes.set_xlabel(f"{kind}, {sets[0]}")
        axes.set_ylabel(f"{title} outside")
        points = sum(row["variable"] == variable and row[measure] is not None for row in rows)
        axes.set_title(f"{variable}, n = {count(points, 'run')}")
    add_legend(figure, comparison, comparison.arms)
    what = f"{first_upper(title)} outside against {kind}"
    caption = f"{what}: one point per arm and seed, with the 95% intervals of the run."
    name = f"{_FILES.get(measure, measure)}-{kind}"
    return Drawing(name, figure, caption, f"{what}, per arm.", data)


def _gains(comparison: StudyComparison) -> Drawing | None:
    names = [row.measure.name for row in comparison.groups[TASKS]]
    gains: dict[str, list[Paired]] = {}
    for one in comparison.comparisons:
        if one.basis.name == EQUAL_STEPS:
            found = [paired for paired in one.basis.measures if paired.measure.name in names and paired.seeds]
            if found:
                gains[one.arm] = found
    if not gains:
        return None
    columns = min(_COLUMNS, len(gains))
    lines = -(-len(gains) // columns)
    figure = Figure(figsize=(2.6 * columns + 1.6, (0.24 * len(names) + 0.9) * lines + 0.2), layout="constrained")
    panels: Any = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for axes in panels.flat[len(gains) :]:
        axes.set_visible(False)
    for axes, (arm, found) in zip(panels.flat, gains.items(), strict=False):
        axes.axvline(0, color=GREY, lw=1)
        for paired in found:
            place = names.index(paired.measure.name)
            if paired.low is not None and paired.high is not None:
                axes.plot([paired.low, paired.high], [place, place], color=PALETTE[0], lw=1.6)
            axes.plot([paired.difference], [place], color=PALETTE[0], marker="o", ms=4.5)
        seeds = sorted({paired.seeds for paired in found})
        axes.set_title(f"{arm}, n = {' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))}")
        axes.set_yticks(range(len(names)), labels=[name.removeprefix("score, ") for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(labelbottom=True)  # a panel of the line before the last may have none below it
        axes.set_xlabel(f"score minus {comparison.baseline}'s")
    data = pd.DataFrame(
        [
            {
                "arm": arm,
                "measure": paired.measure.name,
                "seeds": paired.seeds,
                "gain": paired.difference,
                "low": paired.low,
                "high": paired.high,
            }
            for arm, found in gains.items()
            for paired in found
        ]
    )
    caption = f"Task scores minus those of {comparison.baseline} at equal steps, paired by seed, with 95% intervals."
    return Drawing("task-gains", figure, caption, "Gains on tasks over the baseline, per arm.", data)


_ENDS = {"": "value", "_low": "low", "_high": "high"}


def _bars(row: dict[str, Any], name: str) -> list[list[float]] | None:
    value, low, high = (row[f"{name}{end}"] for end in _ENDS)
    if low is None or high is None:
        return None
    return [[max(0.0, value - low)], [max(0.0, high - value)]]  # rounding may put an end past the value


def arm_look(comparison: StudyComparison, arm: str) -> dict[str, Any]:
    """Return an arm's colour, marker, filling and line: the same in every figure, shared with no other arm."""
    turn, place = divmod(comparison.arms.index(arm), len(PALETTE))
    return {
        "color": PALETTE[place],
        "marker": MARKERS[place],
        "fillstyle": _FILLS[turn % len(_FILLS)],
        "ls": LINES[turn % len(LINES)],
    }


def add_legend(figure: Figure, comparison: StudyComparison, arms: Sequence[str]) -> None:
    """Names the arms below all panels, with how many seeds each has."""
    labels = {arm: f"{arm} (n = {len(comparison.study.records[arm])})" for arm in arms}
    handles = [Line2D([], [], label=labels[arm], ms=5, lw=1.2, **arm_look(comparison, arm)) for arm in arms]
    widest = _HANDLE + _LETTER * max(map(len, labels.values()))
    columns = min(len(handles), max(1, int(figure.get_figwidth() // widest)))
    figure.set_figheight(figure.get_figheight() + _LINE * -(-len(handles) // columns))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=8.5)

"""The gallery: what every arm of its tasks reaches.

    python -m analysis.gallery

It reads `experiments/gallery/results`, and writes the tables of `experiments/gallery/README.md`, between
`<!-- gallery:NAME -->` and `<!-- /gallery -->`, and the figure `experiments/gallery/gallery.svg`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from iit_toolkit.analysis.report.figures.style import GREY, PALETTE, STYLE, Drawing, save
from iit_toolkit.analysis.report.markdown import markdown_table
from iit_toolkit.analysis.studies.paired import Row, StudyMeasure, difference, pair

FOLDER = Path(__file__).resolve().parents[1] / "experiments" / "gallery"
_PROGRAM_ARMS = ("iit", "strict", "task", "augmentation", "multi-task", "wrong-map", "untrained")
_VISION_ARMS = ("iit", "strict", "task", "wrong-map", "untrained")
_STUDENT_ARMS = (
    "causal",
    "causal-strict",
    "plain",
    "plain-compute",
    "aligned-mse",
    "aligned-mse-compute",
    "aligned-mse-100-compute",
    "layer-mse-100-compute",
    "wrong-map",
    "untrained",
)
TASKS = {
    "equality-program": ("iit", "strict", "iit-left", "strict-left", *_PROGRAM_ARMS[2:]),
    "equality-student": _STUDENT_ARMS,
    "mnist-pvr": _PROGRAM_ARMS,
    "carry": _PROGRAM_ARMS,
    "carry-student": _STUDENT_ARMS,
    "mqnli": _PROGRAM_ARMS,
    "mqnli-student": _STUDENT_ARMS,
    "two-choice": _PROGRAM_ARMS,
    "two-choice-student": _STUDENT_ARMS,
    "vision-vit": _VISION_ARMS,
    "vision-resnet": _VISION_ARMS,
}
"""The arms of each task, in the order of its table."""
STUDENTS = tuple(task for task in TASKS if task.endswith("-student"))
TREATMENT, RIVALS = "causal", _STUDENT_ARMS[3:-1]
"""What the table of leads compares."""
SEARCHES = {"handset": ("planted", "other-circuit", "untrained")}
"""The same of tasks in which blocks are searched for, and nothing is trained."""
TITLES = {
    "equality-program": "equality, by a program",
    "equality-student": "equality, by a network",
    "mnist-pvr": "MNIST-PVR",
    "carry": "addition, by a program",
    "carry-student": "addition, by a network",
    "mqnli": "MQNLI, by a program",
    "mqnli-student": "MQNLI, by a network",
    "two-choice": "two choices, by a program",
    "two-choice-student": "two choices, by a network",
    "vision-vit": "two digits, ViT",
    "vision-resnet": "two digits, ResNet",
}
MEASURE = {"equality-program": "iia", "vision-vit": "iia", "vision-resnet": "iia"}
"""What the figure shows, if not effective IIA. Each of these variables changes the answer in half of all pairs."""
_MEASURES = {"iia": "IIA", "effective_iia": "effective IIA"}
CHANCE = {
    "equality-program": 0.5,
    "equality-student": 0.5,
    "mnist-pvr": 0.1,
    "carry": 0.005,
    "carry-student": 0.005,
    "mqnli": 1 / 7,
    "mqnli-student": 1 / 7,
    "two-choice": 1 / 8,
    "two-choice-student": 1 / 8,
    "vision-vit": 0.5,
    "vision-resnet": 0.5,
}
"""What a network reaches that answers at random."""
NONE = "No results yet: `make gallery` makes them."
_COLOURS = (*PALETTE, "#000000")
"""Of variables."""
_EACH = 2
"""The table shows each variable of so many; of more, the lowest."""
_TABLE = re.compile(r"(<!-- gallery:([\w-]+) -->\n).*?(<!-- /gallery -->)", re.DOTALL)
Records = Sequence[dict[str, Any]]


def read(task: str, folder: Path = FOLDER) -> list[dict[str, Any]]:
    """Return the records of a task's arms and seeds, in the order of its arms; none if it was not run."""
    paths = sorted((folder / "results" / task).glob("*.json"))
    records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
    arms = {**TASKS, **SEARCHES}[task]
    return sorted(records, key=lambda record: (arms.index(record["arm"]), record["seed"]))


def table(records: Records) -> str:
    """Return the table of a task: means over seeds with standard deviations, and how many seeds are SUPPORTED."""
    arms = list(dict.fromkeys(record["arm"] for record in records))
    variables = list(records[0]["variables"])
    measures: dict[str, Callable[[dict[str, Any]], float | None]] = {"accuracy": lambda one: one["accuracy"]}
    for other in records[0].get("other_accuracy", ()):
        measures[f"accuracy, {other}"] = lambda one, other=other: one["other_accuracy"][other]
    for title, name in (("IIA", "iia"), ("effective IIA", "effective_iia"), ("effect R²", "effect_r2")):
        if len(variables) > _EACH:
            measures[f"{title}, lowest"] = lambda one, name=name: min(it[name] for it in one["variables"].values())
            continue
        for variable in variables:
            measures[f"{title}, {variable}"] = lambda one, name=name, variable=variable: one["variables"][variable][
                name
            ]
    measures["leak"] = lambda one: one["leak"]
    lines: list[list[str]] = []
    for arm in arms:
        own = [record for record in records if record["arm"] == arm]
        seconds = mean(record["cpu_seconds"] for record in own)
        cells = [_cell([measure(record) for record in own]) for measure in measures.values()]
        lines.append([arm, *cells, _supported(own), f"{seconds:.0f}"])
    return markdown_table(["arm", *measures, "SUPPORTED", "CPU s"], lines)


def search_table(records: Records) -> str:
    """Return the table of a search: in how many seeds the planted blocks were found, and what was confirmed."""
    lines: list[list[str]] = []
    for arm in dict.fromkeys(record["arm"] for record in records):
        own = [record for record in records if record["arm"] == arm]
        cells = [_cell([record[name] for record in own]) for name in ("accuracy", "effect_r2")]
        found = sum(record["found"] == record["planted"] for record in own)
        lines.append([arm, cells[0], f"{found} of {len(own)}", cells[1], _supported(own)])
    return markdown_table(["arm", "accuracy", "planted blocks found", "effect R², lowest", "SUPPORTED"], lines)


def leads_table(tasks: dict[str, Records]) -> str:
    """Return `causal` minus its rivals by task, a mean over variables, paired by seed, with 95% t intervals."""
    lines: list[list[str]] = []
    for task in STUDENTS:
        by_seed = {(one["arm"], one["seed"]): one["variables"].values() for one in tasks[task]}
        for rival in RIVALS:
            seeds = sorted(seed for arm, seed in by_seed if arm == rival and (TREATMENT, seed) in by_seed)
            if not seeds:
                continue
            line = [task.removesuffix("-student"), rival, str(len(seeds))]
            for title, name in (("effective IIA", "effective_iia"), ("effect R²", "effect_r2")):
                values: dict[str, tuple[float | None, ...]] = {
                    arm: tuple(_mean(by_seed[arm, seed], name) for seed in seeds) for arm in (TREATMENT, rival)
                }
                line.append(difference(pair(Row(StudyMeasure(title, True, 3), values), TREATMENT, rival)))
            lines.append(line)
    return markdown_table(["teacher of", "causal minus", "seeds", "effective IIA", "effect R²"], lines)


def _mean(variables: Iterable[Mapping[str, float]], measure: str) -> float:
    return mean(one[measure] for one in variables)


def _supported(records: Records) -> str:
    return f"{sum(record['label'] == 'SUPPORTED' for record in records)} of {len(records)}"


def _cell(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return "n/a"
    return f"{mean(known):.3f} ± {stdev(known):.3f}" if len(known) > 1 else f"{known[0]:.3f}"


def draw(tasks: dict[str, Records]) -> Drawing:
    """Draw, by task, arm and variable, every seed and the mean."""
    tasks = {task: records for task, records in tasks.items() if records}
    high = (len(tasks) + 1) // 2
    figure = Figure(figsize=(8.8, 3.5 * high), layout="constrained")
    rows: list[tuple[str, str, int, str, float]] = []
    for place, (task, records) in enumerate(tasks.items()):
        arms = list(dict.fromkeys(record["arm"] for record in records))
        axes = figure.add_subplot(high, 2, place + 1)
        axes.axvline(CHANCE[task], color=GREY, lw=1, ls=(0, (2, 2)))
        for line, arm in enumerate(arms):
            variables = list(records[0]["variables"])
            for offset, variable in enumerate(variables):
                own = [record for record in records if record["arm"] == arm]
                found = [record["variables"][variable][MEASURE.get(task, "effective_iia")] for record in own]
                rows += [(task, arm, one["seed"], variable, value) for one, value in zip(own, found, strict=True)]
                height, colour = line + 0.6 * (offset + 0.5) / len(variables) - 0.3, _COLOURS[offset]
                label = variable if not line else None
                axes.plot(found, [height] * len(found), "o", ms=4.5, color=colour, alpha=0.7, label=label)
                axes.plot([mean(found)], [height], "|", ms=11, mew=2, color=colour)
        axes.set_yticks(range(len(arms)), labels=arms)
        axes.set_ylim(len(arms) - 0.5, -0.5)
        axes.set_xlim(0, 1.03)
        axes.set_title(TITLES[task])
        axes.set_xlabel(_MEASURES[MEASURE.get(task, "effective_iia")])
        if task == "mqnli":  # many variables: beside the arms that reach little
            axes.legend(loc="center right", bbox_to_anchor=(1.02, 4 / 7), fontsize=7, labelspacing=0.2)
        elif not task.endswith("-student"):  # its variables are the program's
            axes.legend(loc="lower left" if place == 0 else "lower right", fontsize=8)
    data = pd.DataFrame(rows, columns=["task", "arm", "seed", "variable", "value"])
    return Drawing("gallery", figure, "", "", data)


def page(text: str, tasks: dict[str, Records]) -> str:
    """Return the page with its tables written anew."""

    def written(found: re.Match[str]) -> str:
        if found[2] == "leads":
            return f"{found[1]}{leads_table(tasks)}\n{found[3]}"
        records, made = tasks[found[2]], search_table if found[2] in SEARCHES else table
        return f"{found[1]}{made(records) if records else NONE}\n{found[3]}"

    return _TABLE.sub(written, text)


def main() -> None:
    """Write tables and figure."""
    tasks: dict[str, Records] = {task: read(task) for task in (*TASKS, *SEARCHES)}
    readme = FOLDER / "README.md"
    readme.write_text(page(readme.read_text(encoding="utf-8"), tasks), encoding="utf-8")
    with matplotlib.rc_context({**STYLE, "axes.grid.axis": "x"}):
        save(FOLDER, draw({task: tasks[task] for task in TASKS}))


if __name__ == "__main__":
    main()

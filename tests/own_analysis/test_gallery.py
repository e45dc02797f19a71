"""The tables and the figure of the gallery, and the committed results that they are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis import gallery


def record(arm: str, seed: int, iia: float, **changes: Any) -> dict[str, Any]:
    variable = {"iia": iia, "effective_iia": iia - 0.1, "changed": 0.5, "effect_r2": iia - 0.2}
    plain = {"arm": arm, "seed": seed, "label": "SUPPORTED", "accuracy": 1.0, "leak": None, "cpu_seconds": 12.0}
    return {**plain, "variables": {"left": variable, "right": {**variable, "iia": 0.5}}, **changes}


def test_a_table_has_means_and_deviations_of_every_arm() -> None:
    records = [record("iit", 0, 1.0), record("iit", 1, 0.8, label="NOT SUPPORTED"), record("task", 0, 0.4, leak=0.25)]
    head, _, iit, task = gallery.table(records).splitlines()
    assert head.startswith("| arm | accuracy | IIA, left | IIA, right | effective IIA, left |")
    assert iit.startswith("| iit | 1.000 ± 0.000 | 0.900 ± 0.141 | 0.500 ± 0.000 | 0.800 ± 0.141 |")
    assert iit.endswith("| n/a | 1 of 2 | 12 |")
    assert task.endswith("| 0.200 | 0.200 | 0.250 | 1 of 1 | 12 |")


def test_of_many_variables_the_lowest_is_told_and_every_test_set_has_its_accuracy() -> None:
    values = {"iia": 0.5, "effective_iia": 0.4, "changed": 0.5, "effect_r2": 0.3}
    variables = {name: {**values, "iia": iia} for name, iia in (("a", 0.9), ("b", 0.7), ("c", 0.8))}
    head, _, row = gallery.table([record("iit", 0, 1.0, variables=variables, other_accuracy={"hard": 0.25})]).split(
        "\n"
    )
    assert head.startswith(
        "| arm | accuracy | accuracy, hard | IIA, lowest | effective IIA, lowest | effect R², lowest |"
    )
    assert row.startswith("| iit | 1.000 | 0.250 | 0.700 | 0.400 | 0.300 |")


def test_leads_are_means_over_variables_paired_by_seed() -> None:
    records = [record(arm, seed, iia) for seed in (0, 1) for arm, iia in (("causal", 0.9), ("aligned-mse", 0.5))]
    tasks = {task: records if task == "mqnli-student" else [] for task in gallery.STUDENTS}
    *_, line = gallery.leads_table({**tasks, "mqnli-student": [*records, record("causal", 2, 0.1)]}).splitlines()
    assert line == "| mqnli | aligned-mse | 2 | +0.400 [no interval] | +0.400 [no interval] |"


def test_the_table_of_a_search_counts_the_seeds_in_which_the_planted_blocks_are_found() -> None:
    right = {"arm": "planted", "label": "SUPPORTED", "accuracy": 1.0, "planted": [0, 2], "effect_r2": 1.0}
    records = [{**right, "found": [0, 2]}, {**right, "found": [0, 3], "label": "NOT SUPPORTED", "effect_r2": 0.5}]
    assert gallery.search_table(records).splitlines() == [
        "| arm | accuracy | planted blocks found | effect R², lowest | SUPPORTED |",
        "| --- | --- | --- | --- | --- |",
        "| planted | 1.000 ± 0.000 | 1 of 2 | 0.750 ± 0.354 | 1 of 2 |",
    ]


def test_the_figure_holds_every_seed() -> None:
    tasks = {task: [record(arms[0], seed, 0.9) for seed in (0, 1)] for task, arms in gallery.TASKS.items()}
    data = gallery.draw(tasks).data
    assert len(data) == len(gallery.TASKS) * 2 * 2
    left = data[(data["variable"] == "left") & data["task"].str.startswith("equality")]["value"]
    assert left.tolist() == pytest.approx([0.9, 0.9, 0.8, 0.8])


def test_the_page_is_that_of_the_committed_results() -> None:
    readme = (gallery.FOLDER / "README.md").read_text(encoding="utf-8")
    every = {**gallery.TASKS, **gallery.SEARCHES}
    tasks = {task: gallery.read(task) for task in every}
    assert gallery.page(readme, tasks) == readme
    for task, arms in every.items():
        assert {one["arm"] for one in tasks[task]} <= set(arms)
        assert len({str(one["settings"]) for one in tasks[task]}) == bool(tasks[task])
    assert tasks["equality-program"] and tasks["equality-student"]
    assert Path(gallery.FOLDER / "gallery.svg").is_file()

"""A suite with planted numbers, as the toolkit's commands would leave it."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from iit_toolkit.downstream.folder import summarise
from iit_toolkit.runs.finetuned import SUMMARY_SCHEMA
from tests.analysis.synthetic import make_outcomes, make_results

SEEDS = (42, 66, 88)
VARIABLES = ("early", "middle", "last")
PERPLEXITY: dict[str, tuple[float | None, ...]] = {
    "plain": (100.0, 110.0, 90.0),
    "full": (90.0, 96.0, 84.0),
    "plain-compute": (91.0, 95.0, 85.0),
    "late": (120.0, 131.0, 109.5),
    "middle": (95.0, 100.0, None),
    "narrow": (150.0, 160.0, 140.0),
}
"""By arm and seed; None: there is no such run."""
FLOPS = {"plain": 2e12, "full": 3.5e12, "plain-compute": 2e12, "late": 3e12, "middle": 3e12, "narrow": 1e12}
STEPS = {arm: 172 if arm == "plain-compute" else 100 for arm in PERPLEXITY}
EFFECTIVE = {"plain": 0.2, "full": 0.5, "plain-compute": 0.25, "late": 0.3, "middle": 0.4, "narrow": 0.1}
"""At the first variable and seed; each further variable has 0.1 more, each further seed 0.01."""
SCORES = {"plain": 60.0, "full": 62.0, "plain-compute": 61.0, "middle": 62.5}
"""Of the first task and seed; each further task has 5 more, each further seed 0.5; of arms that were fine-tuned."""
TASKS = ("cola", "conll2003", "squad", "sst2")
UNTUNED = ("full", 88)
TEACHER_PERPLEXITY, TEACHER_SCORE = (50.0, 52.0, 48.0), 80.0


def write_tree(root: Path) -> Path:
    """Writes the suite."""
    for arm, values in PERPLEXITY.items():
        for place, perplexity in enumerate(values):
            if perplexity is not None:
                folder = root / arm / f"seed-{SEEDS[place]}"
                write(folder / "results.json", results(arm, place, perplexity))
                if arm in SCORES and (arm, SEEDS[place]) != UNTUNED:
                    write(folder / "finetune" / "finetune.json", scores(SCORES[arm] + 0.5 * place))
    write(root / "teacher" / "finetune" / "finetune.json", scores(TEACHER_SCORE))
    (root / "middle" / "seed-88").mkdir(parents=True)  # not finished
    return root


def write(path: Path, document: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")


def change(path: Path, **changes: Any) -> None:
    """Replaces entries of a document, named like `arms__full__steps`."""
    document = json.loads(path.read_text(encoding="utf-8"))
    for name, value in changes.items():
        *outer, last = name.split("__")
        functools.reduce(lambda entry, key: entry[key], outer, document)[last] = value
    write(path, document)


@functools.cache
def _template() -> str:
    outcomes = make_outcomes({"ARM": 0.5, "untrained": 0.0}, variables=VARIABLES, bases=12)
    return json.dumps(make_results(outcomes, "ARM"))


def results(arm: str, place: int, perplexity: float) -> dict[str, Any]:
    """The results of one run, the seed being that at `place`."""
    document = json.loads(_template().replace("ARM", arm)) | {"seed": SEEDS[place], "task": "masked_lm"}
    student = document["summary"]["students"][arm]
    for number, name in enumerate(VARIABLES):
        effective = EFFECTIVE[arm] + 0.1 * number + 0.01 * place
        variable = student["variables"][name]
        variable["effective_iia"]["outside"] |= {"value": effective, "low": effective - 0.05, "high": effective + 0.02}
        variable["margin"] |= {"value": effective - 0.15, "low": effective - 0.25, "high": effective - 0.05}
    found = document["evaluation"]["encyclopedia"]["perplexity"]
    found[arm] |= {"value": perplexity, "low": perplexity - 2, "high": perplexity + 3}
    found["teacher"] |= {"value": (value := TEACHER_PERPLEXITY[place]), "low": value - 2, "high": value + 3}
    training = document["arms"][arm]
    training |= {"steps": STEPS[arm], "tokens": 6400 * STEPS[arm], "cpu_seconds": 50.0 + place}
    training |= {"micro_batches_run": STEPS[arm]}
    training |= {"student_parameters": 5_000_000 if arm == "narrow" else 11_900_000}
    training["cost"] |= {"flops": FLOPS[arm]}
    training["history"] = [
        {"step": step, "epoch": step / 120, "loss": 1.0, "loss/task": 7.0 - step / 100 + 0.1 * place}
        for step in range(20, STEPS[arm] + 1, 20)
    ]
    return document


def scores(first: float) -> dict[str, Any]:
    """A finetune.json with three fine-tuning seeds: the median is planted, the mean is not it."""
    tasks: dict[str, Any] = {}
    for number, task in enumerate(TASKS):
        median = first + 5 * number
        runs = []
        for seed, value in enumerate((median - 20, median, median + 1)):
            metrics = {"exact_match": value - 10, "f1": value} if task == "squad" else {"metric": value}
            runs.append({"seed": seed, "score": value, "scores": {"validation": metrics}})
        tasks[task] = summarise(runs)
    return {"schema": SUMMARY_SCHEMA, "model": {}, "tasks": tasks, "provenance": {}}

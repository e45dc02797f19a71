"""Measures of the runs of a suite on minimal pairs: what `analysis.targeted` makes its tables of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd

from iit_toolkit.analysis.report.examples import read_examples
from iit_toolkit.analysis.statistics.outcomes import read_outcomes
from iit_toolkit.analysis.statistics.quantities import counted, graded
from iit_toolkit.files.json_files import read_object
from iit_toolkit.runs.folder import RunFolder

_SUMS = ("cases", "changed", "effective", "effective_floor", "effect_size", "explained", "kl_ignored", "recovered")
Records = list[dict[str, Any]]


def measured(suite: Path, arms: list[str]) -> Records:
    """Measure every finished run of a suite: one arm and seed each, with the sums of every family and split.

    Args:
        suite: The folder of its runs.
        arms: The arms, in the order of the tables.
    """
    homes = sorted(home for home in suite.glob("*/seed-*") if (home / "report.html").is_file())
    homes.sort(key=lambda home: arms.index(home.parent.name))
    return [_record(RunFolder(home), home.parent.name, int(home.name.removeprefix("seed-"))) for home in homes]


def merged(found: Records, stored: Records, arms: list[str]) -> Records:
    """Return what was measured now, and what was stored of other arms and seeds.

    Args:
        found: Measured now.
        stored: Measured before.
        arms: The arms, in the order of the tables; others are left out.
    """
    now = {(one["arm"], one["seed"]) for one in found}
    every = [*found, *(one for one in stored if (one["arm"], one["seed"]) not in now and one["arm"] in arms)]
    return sorted(every, key=lambda one: (arms.index(one["arm"]), one["seed"]))


def _record(run: RunFolder, arm: str, seed: int) -> dict[str, Any]:
    results, outcomes, examples = run.read_results(), read_outcomes(run.outcomes), read_examples(run.examples)
    assert examples is not None
    trained, verdict = results["arms"][arm], results["verdict"]
    [variable] = verdict["variables"].values()
    kinds: dict[int, str] = dict(zip(examples["base"].tolist(), examples["family"].tolist(), strict=True))
    cases = cast(pd.DataFrame, outcomes[outcomes["student"] == arm])
    of_case = np.array([kinds[base] for base in cases["base"].tolist()])
    return {
        "arm": arm,
        "seed": seed,
        "verdict": {
            "label": verdict["label"],
            "score": _interval(variable["score"]),
            "leads": {
                one["name"]: {**_interval(one["difference"]), "passed": one["passed"]}
                for one in variable["controls"]
                if one["applies"]
            },
        },
        "steps": trained["steps"],
        "tflop": trained["cost"]["flops"] * trained["micro_batches_run"] / 1e12,
        "cpu_seconds": trained["cpu_seconds"],
        "general": dict(_general(name, found, arm) for name, found in results.get("evaluation", {}).items()),
        "hardware": trained["provenance"]["hardware"]["cpu"],
        **_scores(run.path / "finetune" / "finetune.json"),
        "groups": {name: _sums(cast(pd.DataFrame, cases[of_case == name])) for name in sorted(set(kinds.values()))},
    }


def _scores(path: Path) -> dict[str, dict[str, float]]:
    """Return the scores of a student that was fine-tuned."""
    if not path.is_file():
        return {}
    tasks = read_object(path)["tasks"]
    return {"tasks": {name: found["score"]["mean"] for name, found in tasks.items()}}


def _general(name: str, found: Mapping[str, Any], arm: str) -> tuple[str, float]:
    """Return how good a student is on an `evaluation` set: its accuracy in classification, else its perplexity."""
    kind = "accuracy" if "accuracy" in found else "perplexity"
    return f"{kind}, {name}", found[kind][arm]["value"]


def _interval(estimate: Mapping[str, Any]) -> dict[str, Any]:
    return {name: estimate[name] for name in ("value", "low", "high")}


def _sums(cases: pd.DataFrame) -> dict[str, float]:
    columns = {name: cases[name].to_numpy() for name in cases.columns}
    quantities = {**counted(columns), **graded(columns)}
    return {name: float(quantities[f"{name}/outside"].sum()) for name in _SUMS}

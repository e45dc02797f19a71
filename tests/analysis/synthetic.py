"""Outcomes and run folders with planted truths, for every test of the analysis."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from iit_toolkit.analysis.report.examples import Answers, write_answers, write_examples
from iit_toolkit.analysis.statistics.comparison import compare
from iit_toolkit.analysis.statistics.control_results import Absent
from iit_toolkit.analysis.statistics.outcomes import (
    RANDOM_NEURONS,
    SHUFFLED_SOURCES,
    UNALIGNED,
    WRONG_LAYER,
    write_outcomes,
)
from iit_toolkit.analysis.statistics.summary import summarise
from iit_toolkit.analysis.statistics.verdict import judge, without_controls

FOLLOWS = {"causal": 0.6, "plain": 0.2, "untrained": 0.0}
"""Share of bases on which a student gives the teacher's counterfactual answer (1: always, 0: never moves)."""
SHUFFLED = {WRONG_LAYER: 0.1, SHUFFLED_SOURCES: 0.0}
"""The same of the judged student's controls."""
CONTROLS: dict[str, Any] = {
    "self_swap": {"cases": 400, "changed": 0, "max_difference": 0.0},
    "ceiling": {"cases": 100, "same": 100},
    "absent": None,
}
"""What results.json says of controls, where those of the judged student were not run."""


def make_outcomes(
    follows: Mapping[str, float] = FOLLOWS,
    *,
    variables: tuple[str, ...] = ("middle",),
    bases: int = 120,
    per_base: int = 10,
    changed: float = 0.5,
    classification: bool = False,
    seed: int = 0,
) -> pd.DataFrame:
    """One table: half of the positions inside, `changed` of the cases with another counterfactual answer.

    A student answers like its teacher in the base run. Under the intervention it follows the teacher on a
    share `follows` of the bases (so that cases of one base hang together) and keeps its base answer on the
    others: effective IIA is `follows`, its floor 0. Answers are certain, so effect R2 is `follows`, too, and so is the
    correlation of effects.
    """
    frames = []
    for number, variable in enumerate(variables):
        generator = np.random.default_rng([seed, number])
        base = np.repeat(np.arange(bases), 1 if classification else per_base)
        cases = len(base)
        teacher_base = generator.integers(0, 50, cases)
        teacher_cf = np.where(generator.random(cases) < changed, teacher_base + 100, teacher_base)
        x = generator.normal(size=(cases, 8))
        noise = generator.normal(size=(cases, 8))
        luck = generator.random(bases)[base]
        for student, strength in follows.items():
            y = strength * x + np.sqrt(1 - strength**2) * noise
            position = np.full(cases, -1) if classification else np.tile(np.arange(per_base), bases)
            frames.append(
                pd.DataFrame(
                    {
                        "student": student,
                        "variable": variable,
                        "base": base,
                        "source": (base + 1) % bases,
                        "base_text": base,
                        "source_text": (base + 1) % bases,
                        "position": position,
                        "inside": (position % 2 == 0) & (position >= 0),
                        "gold": np.where(np.arange(cases) % 4 == 3, -100, teacher_base),
                        "teacher_base": teacher_base,
                        "teacher_cf": teacher_cf,
                        "student_base": teacher_base,
                        "student_cf": np.where(luck < strength, teacher_cf, teacher_base),
                        "effect_n": 8.0,
                        "effect_x": x.sum(1),
                        "effect_y": y.sum(1),
                        "effect_xx": (x**2).sum(1),
                        "effect_yy": (y**2).sum(1),
                        "effect_xy": (x * y).sum(1),
                        "kl": 1.5 - strength,
                        "kl_cf": 1.8 - strength,
                        "teacher_nll": np.where(np.arange(cases) % 4 == 3, np.nan, np.log(4.0)),
                        "student_nll": np.where(np.arange(cases) % 4 == 3, np.nan, np.log(8.0 - 4 * strength)),
                    }
                )
            )
    return graded(pd.concat(frames, ignore_index=True))


def graded(outcomes: pd.DataFrame) -> pd.DataFrame:
    """The same with the sizes of effects of models that are sure of their answers; call it after answers change."""
    teacher, teacher_cf, student, student_cf = (
        outcomes[name].to_numpy() for name in ("teacher_base", "teacher_cf", "student_base", "student_cf")
    )
    product = (
        1.0 * (teacher_cf == student_cf) - (teacher_cf == student) - (teacher == student_cf) + (teacher == student)
    )
    size, of_student = 2.0 * (teacher != teacher_cf), 2.0 * (student != student_cf)
    return outcomes.assign(
        teacher_effect=size,
        student_effect=of_student,
        teacher_moved=size / 2,
        student_moved=of_student / 2,
        effect_error=size + of_student - 2 * product,
        kl_ignored=1.8,
    )


def make_controls(shuffled: Mapping[str, float] = SHUFFLED, *, leak: bool = False, bases: int = 120) -> pd.DataFrame:
    """Controls of the cases that `make_outcomes` gives for one variable; `leak` says whether one place leaks.

    Beside the alignment, a swap changes half of the teacher's answers, and of the student's a tenth of that; where it
    leaks, the other way round.
    """
    unaligned = make_outcomes({UNALIGNED: 0.1}, variables=("block 0 (in the teacher: block 1)",), bases=bases)
    if leak:
        unaligned = graded(unaligned.rename(columns={"student_cf": "teacher_cf", "teacher_cf": "student_cf"}))
    return pd.concat([make_outcomes(shuffled, bases=bases), unaligned], ignore_index=True)


def make_results(
    outcomes: pd.DataFrame, treatment: str = "causal", baseline: str = "plain", controls: pd.DataFrame | None = None
) -> dict[str, Any]:
    """What a run would write to results.json for these outcomes."""
    settings: dict[str, Any] = {"resamples": 300, "seed": 0}
    verdict = judge(outcomes, treatment, controls=controls, **settings)
    present = set(outcomes["student"])
    arms = [arm for arm in (treatment, baseline) if arm in present]
    return {
        "schema": "iit_toolkit/results/1",
        "name": "synthetic <run> & more",
        "created": "2026-01-02T03:04:05+00:00",
        "seed": 7,
        "task": "masked_lm",
        "provenance": _provenance(),
        "data": {
            "train": {"examples": 2048, "tokens": 131072, "fingerprint": f"sha256:{17:064x}"},
            "validation": {"examples": 120, "tokens": 7680, "fingerprint": f"sha256:{34:064x}"},
        },
        "alignment": {
            "name": "diito/middle",
            "variables": [
                {
                    "name": name,
                    "teacher": [{"component": "block_output", "layer": 6}],
                    "student": [{"component": "block_output", "layer": 3, "neurons": [0, 64]}],
                }
                for name in dict.fromkeys(outcomes["variable"])
            ],
            "positions": {"kind": "span", "fraction": 0.3},
            "sources": {"kind": "in_batch"},
            "draw": "uniform",
        },
        "evaluation": {
            "encyclopedia": {
                "rows": 100,
                "fingerprint": f"sha256:{51:064x}",
                "perplexity": {
                    model: {"value": 20.5, "low": 19.25, "high": 21.75, "cases": 900, "clusters": 100}
                    for model in ["teacher", *dict.fromkeys(outcomes["student"])]
                },
            }
        },
        "teacher": {"name": "example/teacher-12l", "parameters": 22_500_000},
        "arms": {arm: _arm(number, arm == treatment) for number, arm in enumerate(arms)},
        "summary": summarise(outcomes, **settings).to_dict(),
        "controls": CONTROLS
        if controls is None
        else {
            **CONTROLS,
            "absent": [asdict(Absent(RANDOM_NEURONS, "middle", "it swaps whole layers"))],
        },
        "comparison": compare(outcomes, treatment, baseline, **settings).to_dict() if len(arms) == 2 else None,
        "verdict": (without_controls(verdict) if controls is None else verdict).to_dict(),
    }


def make_run(
    folder: Path, outcomes: pd.DataFrame | None = None, shuffled: pd.DataFrame | None = None, **changes: Any
) -> Path:
    """Writes a run folder, with the table of `make_controls` if given; `changes` replace entries of results.json."""
    outcomes = make_outcomes() if outcomes is None else outcomes
    folder.mkdir(parents=True, exist_ok=True)
    write_outcomes(outcomes, folder / "outcomes.parquet")
    make_texts(folder, outcomes)
    if shuffled is not None:
        write_outcomes(shuffled, folder / "controls.parquet")
    results = make_results(outcomes, controls=shuffled) | changes
    (folder / "results.json").write_text(json.dumps(results, allow_nan=False), encoding="utf-8")
    return folder


def make_texts(folder: Path, outcomes: pd.DataFrame) -> None:
    """Writes texts: base b reads ` b.0 b.1 ...`, its even positions are swapped, and answer n reads ` <n>`."""
    pairs = outcomes[["base", "source"]].drop_duplicates()
    length = max(4, int(outcomes["position"].max()) + 1)
    even = list(range(0, length, 2))
    rows = [
        {
            "base": base,
            "source": source,
            "base_tokens": [f" {base}.{place}" for place in range(length)],
            "source_tokens": [f" {source}.{place}" for place in range(length)],
            "swapped": even,
            "taken": [place + 1 for place in even if place + 1 < length],
            "family": None,
        }
        for base, source in pairs.itertuples(index=False, name=None)
    ]
    write_examples(pd.DataFrame(rows), folder / "examples.parquet")
    names = ["gold", "teacher_base", "teacher_cf", "student_base", "student_cf"]
    numbers = [int(number) for number in np.unique(outcomes[names].to_numpy()) if number >= 0]
    words = (outcomes["position"] >= 0).any()
    frequency = {number: 3.0 * 10 ** (number % 5) for number in numbers} if words else {}
    answers = Answers({number: f" <{number}>" for number in numbers}, frequency, "train")
    write_answers(answers, folder / "answers.parquet")


def _provenance() -> dict[str, Any]:
    return {
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "git_dirty": False,
        "versions": {"torch": "2.13.0", "transformers": "5.23.0", "pyvene": "0.1.8"},
        "hardware": {"cpu": "some cpu", "cores": 2, "memory_gb": 8.0, "cuda": []},
        "platform": "Linux-x86_64",
    }


def _arm(number: int, causal: bool) -> dict[str, Any]:
    terms = {"kl": 1.0, "mlm": 0.5} | ({"interchange": 1.0} if causal else {})
    history = []
    for step in range(0, 130, 5):
        losses = {f"loss/{term}": (2.5 + number) * 0.98**step + 0.3 * place for place, term in enumerate(terms)}
        shares = {f"gradient_share/{term}": 1 / len(terms) for term in terms}
        history.append({"step": step, "loss": sum(losses.values()), **losses, **shares, "effect_size": 0.4})
    return {
        "alignment": "diito/middle" if causal else None,
        "student_parameters": 11_900_000,
        "effective_batch": 8,
        "micro_batches": 1,
        "micro_batches_run": 130,
        "steps": 130,
        "resumed_at_step": 0,
        "tokens": 1_064_960,
        "seconds": 312.5 if causal else 214.2,
        "cpu_seconds": 300.0 if causal else 200.0,
        "cost": {
            "parts": {"student, base": 2e9},
            "flops": 3e9 if causal else 2e9,
            "plain_flops": 2e9,
            "step_seconds": 0.04,
            "threads": 1,
        },
        "objective": terms,
        "provenance": _provenance(),
        "history": history,
    }

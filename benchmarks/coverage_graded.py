"""How often intervals of effect R² and KL recovered cover the truth, on simulated and on real cases."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.coverage_populations import LEVEL, MARGIN, RESAMPLES, TAILS, Setting, draw_amounts
from benchmarks.real_population import CONTROL, ROWS, STUDENT, real_population
from iit_toolkit.analysis.statistics.control_words import FLOOR
from iit_toolkit.analysis.statistics.decision import too_few
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.measures import MEASURES, Score, estimate, lead
from iit_toolkit.analysis.statistics.quantities import graded
from iit_toolkit.analysis.statistics.resampling import Resampled
from iit_toolkit.analysis.statistics.sums import Floats, Ints, sum_by_cluster
from iit_toolkit.analysis.statistics.variable_verdict import judge_variables

GRADED_SIMULATIONS, GRADED_NULL_SIMULATIONS, REAL_SIMULATIONS = 2000, 1000, 500
GRADED = {name: Score(MEASURES["effect_r2"], name) for name in ("s", "c")}


@dataclass(frozen=True)
class GradedSetting:
    """A population of amounts; the setting's share is the true effect R²."""

    setting: Setting
    tail: str


GRADED_SETTINGS = [
    *(GradedSetting(Setting("batch", 32), tail) for tail in TAILS),
    *(GradedSetting(Setting("batch", 128), tail) for tail in TAILS),
    *(
        GradedSetting(Setting("batch", 128, share), tail)
        for share in (0.1, 0.9, 0.98)
        for tail in ("moderate", "heavy", "decisions")
    ),
    *(GradedSetting(Setting("batch", 512), tail) for tail in ("moderate", "heavy", "decisions")),
    GradedSetting(Setting("batch", 128, 0.02), "moderate"),
    *(GradedSetting(Setting("pairs", 128, tokens=1), tail) for tail in ("moderate", "heavy", "decisions")),
    *(GradedSetting(Setting("pairs", 512, 0.98, tokens=1), tail) for tail in ("moderate", "heavy", "decisions")),
    *(GradedSetting(Setting("dataset", 128), tail) for tail in ("moderate", "heavy")),
    *(GradedSetting(Setting("crossed", 128), tail) for tail in ("moderate", "heavy", "decisions")),
    *(GradedSetting(Setting("batch", 480, rows=12, text=0.2), tail) for tail in ("moderate", "heavy", "decisions")),
    *(GradedSetting(Setting("batch", 480, rows=12, text=0.2, largest=60), tail) for tail in ("moderate", "heavy")),
]


@dataclass(frozen=True)
class GradedNull:
    """Variables that are judged together; each has a lead of exactly the margin over the control, or over the floor."""

    setting: Setting
    tail: str
    variables: int = 1
    floor: bool = False


GRADED_NULLS = [
    *(GradedNull(Setting("batch", 128), tail, variables=3) for tail in ("heavy", "decisions")),
    GradedNull(Setting("batch", 480, rows=12, text=0.2), "moderate"),
    *(GradedNull(Setting("batch", 128, MARGIN), tail, floor=True) for tail in ("moderate", "heavy", "decisions")),
    GradedNull(Setting("batch", 128, MARGIN), "heavy", variables=3, floor=True),
    GradedNull(Setting("crossed", 128, MARGIN), "heavy", floor=True),
    GradedNull(Setting("batch", 480, MARGIN, rows=12, text=0.2), "moderate", floor=True),
]
REAL_SAMPLES = [("pairs", pairs) for pairs in (64, 128, 256)] + [("texts", pairs) for pairs in (128, 256)]


def graded_part() -> dict[str, Any]:
    """Run the simulations of effect R² and KL recovered."""
    return {
        "graded_simulations": GRADED_SIMULATIONS,
        "graded_coverage": [
            asdict(setting) | graded_coverage(setting, number) for number, setting in enumerate(GRADED_SETTINGS)
        ],
        "graded_false_support": [
            asdict(null) | graded_false_support(null, number) for number, null in enumerate(GRADED_NULLS)
        ],
        "real": real_coverage(),
    }


class _Covered:
    """Counts on which side of the truth intervals lie, by the name of what they estimate."""

    def __init__(self, truths: dict[str, float]) -> None:
        self.truths = truths
        self.above, self.below = dict.fromkeys(truths, 0), dict.fromkeys(truths, 0)
        self.false, self.judged, self.simulations = dict.fromkeys(truths, 0), 0, 0

    def add(self, found: dict[str, Estimate], judged: bool) -> None:
        self.simulations += 1
        self.judged += judged
        for name, one in found.items():
            above = one.low is not None and self.truths[name] < one.low
            self.above[name] += above
            self.false[name] += above and judged
            self.below[name] += one.high is not None and self.truths[name] > one.high

    def shares(self) -> dict[str, float]:
        """Return the rates; `false`: the interval lies above the truth, and there are enough texts for a verdict."""
        counts = {"judged": self.judged}
        for name in self.truths:
            counts[f"{name}_covered"] = self.simulations - self.above[name] - self.below[name]
            counts[f"{name}_interval_above"] = self.above[name]
            counts[f"{name}_interval_below"] = self.below[name]
            counts[f"{name}_false"] = self.false[name]
        return {name: round(count / self.simulations, 4) for name, count in counts.items()}


def graded_coverage(population: GradedSetting, number: int, simulations: int = GRADED_SIMULATIONS) -> dict[str, float]:
    """How often the intervals of effect R² and of its lead cover the truth."""
    covered = _Covered({"score": population.setting.share, "lead": population.setting.lead})
    for simulation in range(simulations):
        generator = np.random.default_rng([4, number, simulation])
        resampled = draw_amounts(population.setting, TAILS[population.tail], generator, simulation).resampled()
        score = estimate(resampled, GRADED["s"])
        covered.add({"score": score, "lead": lead(resampled, GRADED["s"], GRADED["c"])}, not too_few(score))
    return covered.shares()


def graded_false_support(null: GradedNull, number: int, simulations: int = GRADED_NULL_SIMULATIONS) -> dict[str, float]:
    """How often any variable whose true lead is exactly the margin is called SUPPORTED."""
    false = 0
    rival = GRADED["s"].floor if null.floor else GRADED["c"]
    for simulation in range(simulations):
        resampled: dict[str, Resampled] = {}
        for variable in range(null.variables):
            generator = np.random.default_rng([5, number, simulation, variable])
            resampled[str(variable)] = draw_amounts(null.setting, TAILS[null.tail], generator, simulation).resampled()
        controls = dict.fromkeys(resampled, {FLOOR: rival})
        judged = judge_variables(resampled, GRADED["s"], controls, margin=MARGIN, level=LEVEL)
        false += any(one.label == "SUPPORTED" for one in judged.values())
    return {"false_supported": round(false / simulations, 4)}


def real_coverage(simulations: int = REAL_SIMULATIONS) -> list[dict[str, Any]] | None:
    """How often intervals from samples of real cases cover what all cases give; None if there are no real cases."""
    outcomes = real_population()
    return (
        None
        if outcomes is None
        else [one for name in ("effect_r2", "kl_recovered") for one in _real_coverage(outcomes, name, simulations)]
    )


def _real_coverage(outcomes: pd.DataFrame, measure: str, simulations: int) -> list[dict[str, Any]]:
    scores = [Score(MEASURES[measure], name) for name in (STUDENT, CONTROL)]
    names = [*scores[0].parts, *scores[1].parts, scores[0].counted]
    columns: dict[str, Floats] = {}
    bases, codes = np.unique(outcomes["base"], return_inverse=True)
    for score in scores:
        mine = (outcomes["student"] == score.student).to_numpy()
        cases = {name: outcomes[name].to_numpy()[mine] for name in outcomes.columns}
        quantities = {f"{score.student}/{name}": values for name, values in graded(cases).items()}
        columns |= sum_by_cluster(
            codes[mine], {name: quantities[name] for name in names if name in quantities}, len(bases)
        )
    text = outcomes.groupby("base")["base_text"].first().to_numpy()
    score, control = (columns[one.parts[0]].sum() / columns[one.parts[1]].sum() for one in scores)
    weight = columns[scores[0].parts[1]]
    found: list[dict[str, Any]] = []
    for number, (drawn, size) in enumerate(REAL_SAMPLES):
        covered = _Covered({"score": float(score), "lead": float(score - control)})
        for simulation in range(simulations):
            generator = np.random.default_rng([6, number, simulation])
            if drawn == "pairs":
                chosen = generator.integers(0, len(bases), size)
                group = np.arange(size)
            else:
                chosen, group = _rows_of(generator.choice(np.unique(text), size // ROWS), text)
            sums = {name: columns[name][chosen] for name in columns}
            resampled = Resampled(
                sums,
                base=np.arange(len(chosen)),
                source=len(chosen) + np.arange(len(chosen)),
                base_text=group,
                source_text=len(chosen) + np.arange(len(chosen)),
                resamples=RESAMPLES,
                seed=simulation,
                level=LEVEL,
            )
            one = estimate(resampled, scores[0])
            covered.add({"score": one, "lead": lead(resampled, scores[0], scores[1])}, not too_few(one))
        facts = {
            "measure": measure,
            "population": len(bases),
            "equal_pairs": round(float(weight.sum() ** 2 / (weight @ weight)), 1),
            "drawn": drawn,
            "pairs": size,
            "score": round(float(score), 4),
            "lead": round(float(score - control), 4),
        }
        found.append(facts | covered.shares())
    return found


def _rows_of(texts: Ints, text: Ints) -> tuple[Ints, Ints]:
    """Return the rows of some texts, and as which of these each row's text was drawn."""
    order = np.argsort(text, kind="stable")
    starts, ends = (np.searchsorted(text[order], texts, side) for side in ("left", "right"))
    rows = [order[start:end] for start, end in zip(starts, ends, strict=True)]
    return np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(one) for one in rows])

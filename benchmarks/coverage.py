"""How often the intervals cover the truth, and how often a null is called SUPPORTED, on simulated cases.

Run from the repository root:

    python -m benchmarks.coverage           everything
    python -m benchmarks.coverage graded    only effect R² and KL recovered; the other numbers stay

Writes `docs/interval-calibration.md` and `docs/interval-calibration.json`.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from benchmarks.real_population import CONTROL as REAL_CONTROL
from benchmarks.real_population import ROWS as REAL_ROWS
from benchmarks.real_population import STUDENT as REAL_STUDENT
from benchmarks.real_population import real_population
from iit_toolkit.analysis.statistics.control_words import FLOOR
from iit_toolkit.analysis.statistics.decision import too_few
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.measures import MEASURES, Score, estimate, lead
from iit_toolkit.analysis.statistics.quantities import graded
from iit_toolkit.analysis.statistics.resampling import Resampled
from iit_toolkit.analysis.statistics.sums import Floats, Ints, sum_by_cluster
from iit_toolkit.analysis.statistics.variable_verdict import judge_variables

DOCS = Path(__file__).resolve().parents[1] / "docs"
SIMULATIONS, CONTRAST_SIMULATIONS = 2000, 500
GRADED_SIMULATIONS, GRADED_NULL_SIMULATIONS, REAL_SIMULATIONS = 2000, 1000, 500
RESAMPLES = 500
LEVEL = 0.95
MARGIN = 0.05
BAR = (0.93, 0.97)
BATCH = 16
TEXTS = ("rows", "text", "largest")
SCORES = {name: Score(MEASURES["effective_iia"], name) for name in ("s", "c")}
STUDENT, CONTROL = SCORES["s"].parts, SCORES["c"].parts
GRADED = {name: Score(MEASURES["effect_r2"], name) for name in ("s", "c")}
DESIGNS = {
    "batch": "each base's source is another row of its batch of 16",
    "dataset": "each base's source is drawn from the next batch",
    "crossed": "20 sources, each used for many bases",
    "few": "10 sources, each used for many bases",
    "grid": "every base with each of 20 sources",
    "pairs": "each base has a source that occurs nowhere else",
}


@dataclass(frozen=True)
class Setting:
    """One simulated population.

    Attributes:
        design: How bases are paired with sources, one of `DESIGNS`.
        bases: How many bases there are.
        share: True share of hits of the first student.
        tokens: Mean number of cases of a pair (1 + Poisson).
        base, source: Shares of the variance of a case's latent score that cases of one base, of one source, share.
        roles: Correlation of what an example does as a base with what it does as a source.
        lead: True lead of the first student over the second.
        rows: How many successive examples are cut from one text.
        text: Share of that variance that comes from the texts, half from the base's and half from the source's.
        largest: How many examples the first text has, if not as many as the others.
    """

    def texts(self, examples: Ints) -> Ints:
        """Return the texts of examples."""
        if not self.largest:
            return examples // self.rows
        return np.where(examples < self.largest, 0, 1 + (examples - self.largest) // self.rows)

    design: str
    bases: int
    share: float = 0.5
    tokens: int = 5
    base: float = 0.2
    source: float = 0.2
    roles: float = 0.0
    lead: float = 0.05
    rows: int = 1
    text: float = 0.0
    largest: int = 0


SETTINGS = [
    *(Setting("batch", bases, share) for bases in (32, 128, 512) for share in (0.1, 0.5, 0.9)),
    *(
        Setting("batch", 128, base=base, source=source)
        for base, source in ((0.0, 0.0), (0.6, 0.0), (0.0, 0.6), (0.4, 0.4))
    ),
    Setting("batch", 128, 0.02, lead=0.0),
    *(Setting("batch", bases, roles=roles) for bases in (32, 128) for roles in (0.6, -0.6)),
    *(Setting("batch", bases, share, tokens=1) for bases in (32, 128, 512) for share in (0.1, 0.5, 0.9)),
    *(Setting("dataset", 128, share) for share in (0.1, 0.5, 0.9)),
    *(Setting("pairs", bases, share, tokens=1) for bases in (32, 128) for share in (0.1, 0.5, 0.9)),
    *(Setting("crossed", 128, share) for share in (0.1, 0.5, 0.9)),
    *(Setting("grid", 32, share, tokens=1) for share in (0.1, 0.5, 0.9)),
    Setting("few", 128),
    Setting("batch", 12),
    *(Setting("batch", 480, share, rows=12, text=0.2) for share in (0.1, 0.5, 0.9)),
    Setting("batch", 480, rows=12),
    Setting("batch", 480, rows=12, text=0.5),
    Setting("batch", 480, rows=24, text=0.2),
    Setting("batch", 480, tokens=1, rows=12, text=0.2),
    Setting("dataset", 480, rows=12, text=0.2),
    *(Setting("batch", 480, rows=12, text=0.2, largest=largest) for largest in (60, 120, 240)),
]


@dataclass(frozen=True)
class Null:
    """Variables that are judged together; all but the last `true` have a lead of exactly the margin.

    The true ones' control reaches 0.01.
    """

    setting: Setting
    variables: int = 3
    true: int = 0


NULLS = [
    *(Null(Setting("batch", bases, share)) for bases in (32, 128) for share in (0.1, 0.5, 0.9)),
    *(Null(Setting("batch", bases, share, tokens=1)) for bases in (32, 128) for share in (0.1, 0.5, 0.9)),
    *(Null(Setting("crossed", 128, share)) for share in (0.1, 0.5, 0.9)),
    *(
        Null(Setting("batch", 128, base=base, source=source))
        for base, source in ((0.0, 0.0), (0.6, 0.0), (0.0, 0.6), (0.4, 0.4))
    ),
    Null(Setting("batch", 512)),
    Null(Setting("grid", 32, tokens=1)),
    Null(Setting("batch", 128), true=2),
    Null(Setting("batch", 128), variables=1),
    Null(Setting("batch", 128), variables=6),
    *(Null(Setting("batch", 480, share, rows=12, text=0.2)) for share in (0.1, 0.5, 0.9)),
    Null(Setting("batch", 480, rows=12, text=0.2, largest=120)),
]
CONTRASTS = [
    Setting("batch", 128),
    Setting("dataset", 128),
    Setting("crossed", 128),
    Setting("grid", 128, tokens=1),
    Setting("batch", 480, rows=12, text=0.2),
]


@dataclass(frozen=True)
class Tail:
    """How amounts are distributed over cases.

    Attributes:
        effect: Standard deviation of the logarithm of an effect.
        error: Standard deviation of the logarithm of the error as a share of the effect.
        decisions: Whether models answer with certainty. An effect is then 0 or 2, and an error none or all of it.
    """

    effect: float = 0.0
    error: float = 0.0
    decisions: bool = False


TAILS = {
    "light": Tail(0.3, 0.3),
    "moderate": Tail(0.5, 0.5),
    "heavy": Tail(1.0, 1.0),
    "decisions": Tail(decisions=True),
}


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


def main() -> None:
    """Run the simulations, print the tables, and write them to `docs/`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["graded"], help="run this part only")
    only = parser.parse_args().part
    page, numbers = DOCS / "interval-calibration.md", DOCS / "interval-calibration.json"
    content: dict[str, Any] = json.loads(numbers.read_text(encoding="utf-8")) if only else counted_part()
    content |= graded_part()
    text = document(content)
    page.write_text(text, encoding="utf-8")
    numbers.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(text)


def counted_part() -> dict[str, Any]:
    """Run the simulations of shares."""
    return {
        "settings": {"simulations": SIMULATIONS, "resamples": RESAMPLES, "level": LEVEL, "margin": MARGIN, "bar": BAR},
        "coverage": [asdict(setting) | coverage(setting, number) for number, setting in enumerate(SETTINGS)],
        "false_support": [asdict(null) | false_support(null, number) for number, null in enumerate(NULLS)],
        "other_resampling": [
            asdict(setting) | other_resampling(setting, number) for number, setting in enumerate(CONTRASTS)
        ],
    }


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


def coverage(setting: Setting, number: int, simulations: int = SIMULATIONS) -> dict[str, float]:
    """How often the intervals of share and lead cover the truth, and how often they lie above or below it."""
    above, below = np.zeros(2), np.zeros(2)
    truths = (setting.share, setting.lead)
    for simulation in range(simulations):
        resampled = draw(setting, np.random.default_rng([1, number, simulation]), simulation).resampled()
        found = (resampled.share(*STUDENT), resampled.lead(STUDENT, CONTROL))
        above += [one.low is not None and truth < one.low for one, truth in zip(found, truths, strict=True)]
        below += [one.high is not None and truth > one.high for one, truth in zip(found, truths, strict=True)]
    return {
        f"{name}_{what}": round(float(value) / simulations, 4)
        for place, name in enumerate(("share", "lead"))
        for what, value in (
            ("covered", simulations - above[place] - below[place]),
            ("interval_above", above[place]),
            ("interval_below", below[place]),
        )
    }


def false_support(null: Null, number: int, simulations: int = SIMULATIONS) -> dict[str, float]:
    """How often any variable whose true lead is exactly the margin is called SUPPORTED."""
    false, true = 0, 0
    for simulation in range(simulations):
        resampled: dict[str, Resampled] = {}
        for variable in range(null.variables):
            setting = (
                null.setting
                if variable < null.variables - null.true
                else replace(null.setting, lead=null.setting.share - 0.01)
            )
            generator = np.random.default_rng([2, number, simulation, variable])
            resampled[str(variable)] = draw(setting, generator, simulation).resampled()
        controls = dict.fromkeys(resampled, {FLOOR: SCORES["c"]})
        judged = judge_variables(resampled, SCORES["s"], controls, margin=MARGIN, level=LEVEL)
        labels = [one.label == "SUPPORTED" for one in judged.values()]
        nulls = null.variables - null.true
        false += any(labels[:nulls])
        true += sum(labels[nulls:])
    return {
        "false_supported": round(false / simulations, 4),
        "true_supported": round(true / simulations / null.true, 4) if null.true else None,
    }


def other_resampling(setting: Setting, number: int, simulations: int = CONTRAST_SIMULATIONS) -> dict[str, float]:
    """How often the share's percentile interval covers the truth when cases are resampled in other ways."""
    inside = dict.fromkeys(("here", "single_rows", "bases_only", "pigeonhole"), 0)
    for simulation in range(simulations):
        generator = np.random.default_rng([3, number, simulation])
        drawn = draw(setting, generator, simulation)
        one_way = Resampled(drawn.sums, base=drawn.base, resamples=RESAMPLES, seed=simulation, level=LEVEL)
        found = {
            "here": drawn.resampled().ratio(*STUDENT),
            "single_rows": replace(drawn, base_text=drawn.base, source_text=drawn.source).resampled().ratio(*STUDENT),
            "bases_only": one_way.ratio(*STUDENT),
            "pigeonhole": pigeonhole(drawn, generator),
        }
        for name, one in found.items():
            low, high = (one.low, one.high) if isinstance(one, Estimate) else one
            inside[name] += low is not None and high is not None and low <= setting.share <= high
    return {name: round(hits / simulations, 4) for name, hits in inside.items()}


def pigeonhole(drawn: Drawn, generator: np.random.Generator) -> tuple[float, float]:
    """Percentile interval of the share by the pigeonhole bootstrap: counts of base times counts of source."""

    def counts(codes: Ints) -> Floats:
        examples, codes = np.unique(codes, return_inverse=True)
        even = np.full(len(examples), 1 / len(examples))
        return generator.multinomial(len(examples), even, size=RESAMPLES)[:, codes].astype(np.float64)

    weights = counts(drawn.base) * counts(drawn.source)
    shares = (weights @ drawn.sums[STUDENT[0]]) / (weights @ drawn.sums[STUDENT[1]])
    tail = (1 - LEVEL) / 2
    low, high = np.nanquantile(shares, [tail, 1 - tail])
    return float(low), float(high)


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
    scores = [Score(MEASURES[measure], name) for name in (REAL_STUDENT, REAL_CONTROL)]
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
                chosen, group = _rows_of(generator.choice(np.unique(text), size // REAL_ROWS), text)
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


@dataclass(frozen=True)
class Drawn:
    """Simulated cases, summed by pair; base and source (P,) are the pairs' examples, with the texts of both."""

    sums: dict[str, Floats]
    base: Ints
    source: Ints
    base_text: Ints
    source_text: Ints
    seed: int

    def resampled(self) -> Resampled:
        """Return the same, resampled."""
        texts = {"base_text": self.base_text, "source_text": self.source_text}
        return Resampled(
            self.sums, base=self.base, source=self.source, **texts, resamples=RESAMPLES, seed=self.seed, level=LEVEL
        )


def draw(setting: Setting, generator: np.random.Generator, seed: int) -> Drawn:
    """Simulate the changed cases of a student `s` and its control `c`, which share what is hard about an example."""
    base, source = pairs(setting, generator)
    examples = int(max(base.max(), source.max())) + 1
    case = np.repeat(np.arange(len(base)), 1 + generator.poisson(setting.tokens - 1, len(base)))
    as_base, other = generator.normal(size=(2, examples))
    as_source = setting.roles * as_base + math.sqrt(1 - setting.roles**2) * other
    common = math.sqrt(setting.base) * as_base[base[case]] + math.sqrt(setting.source) * as_source[source[case]]
    own, noise = generator.normal(size=(2, len(case)))
    of_base, of_source = math.sqrt(setting.text / 2) * generator.normal(size=(2, examples))
    base_text, source_text = setting.texts(base), setting.texts(source)
    common = common + of_base[base_text[case]] + of_source[source_text[case]]
    rest = math.sqrt(1 - setting.base - setting.source - setting.text)
    hits = common + rest * own < ndtri(setting.share)
    control = common + rest * (0.7 * own + math.sqrt(0.51) * noise) < ndtri(setting.share - setting.lead)
    columns = {
        "s/effective/outside": hits,
        "s/changed/outside": np.ones(len(case)),
        "s/cases/outside": np.ones(len(case)),
        "c/effective/outside": control,
        "c/changed/outside": np.ones(len(case)),
    }
    sums = sum_by_cluster(case, columns, len(base))
    return Drawn(sums, base, source, base_text, source_text, seed)


def draw_amounts(setting: Setting, tail: Tail, generator: np.random.Generator, seed: int) -> Drawn:
    """Simulate the effects of cases, and what a student `s` and its control `c` explain of them."""
    base, source = pairs(setting, generator)
    examples = int(max(base.max(), source.max())) + 1
    case = np.repeat(np.arange(len(base)), 1 + generator.poisson(setting.tokens - 1, len(base)))
    base_text, source_text = setting.texts(base), setting.texts(source)
    rest = math.sqrt(1 - setting.base - setting.source - setting.text)

    def latent() -> Floats:
        as_base, as_source, of_base, of_source = generator.normal(size=(4, examples))
        common = math.sqrt(setting.base) * as_base[base[case]] + math.sqrt(setting.source) * as_source[source[case]]
        of_text = of_base[base_text[case]] + of_source[source_text[case]]
        return common + math.sqrt(setting.text / 2) * of_text + rest * generator.normal(size=len(case))

    size, own, other = latent(), latent(), latent()
    scores = {"s": (own, setting.share), "c": (0.7 * own + math.sqrt(0.51) * other, setting.share - setting.lead)}
    columns: dict[str, Any] = {"s/cases/outside": np.ones(len(case))}
    for name, (score, true) in scores.items():
        if tail.decisions:
            effect, missed = 2.0 * (size < ndtri(0.4)), score > ndtri(true)
        else:
            effect = 0.1 * np.exp(tail.effect * size - tail.effect**2 / 2)
            missed = (1 - true) * np.exp(tail.error * score - tail.error**2 / 2)
        columns[f"{name}/explained/outside"] = effect * (1.0 - missed)
        columns[f"{name}/effect_size/outside"] = effect
        columns[f"{name}/affected/outside"] = effect > 0
    return Drawn(sum_by_cluster(case, columns, len(base)), base, source, base_text, source_text, seed)


def pairs(setting: Setting, generator: np.random.Generator) -> tuple[Ints, Ints]:
    """Return base and source of every pair."""
    base = np.arange(setting.bases)
    if setting.design == "batch":
        source = base.copy()
        for start in range(0, setting.bases, BATCH):
            order = start + generator.permutation(min(BATCH, setting.bases - start))
            source[order] = np.roll(order, 1)
        return base, source
    if setting.design == "dataset":
        return base, (base // BATCH * BATCH + BATCH + generator.integers(0, BATCH, len(base))) % setting.bases
    if setting.design == "grid":
        return np.repeat(base, 20), setting.bases + np.tile(np.arange(20), setting.bases)
    if setting.design == "pairs":
        return base, setting.bases + base
    return base, setting.bases + generator.permutation(base) % {"crossed": 20, "few": 10}[setting.design]


HEADER = """# Calibration of the intervals

A 95% interval should contain the true value in 95% of repetitions. This page measures how often it does, on simulated
cases with known rates for a student and for a control.

A case is a hit if a normal score lies below a threshold. Base, source and case each contribute to the score. The
columns *of base* and *of source* give their shares of the variance. The columns mean:

* *share*: the student's true rate, from 0.1 to 0.9.
* *lead*: the student's lead over its control. Their scores are correlated, and the true lead is {margin}.
* *roles*: the correlation between what an example contributes as a base and as a source.
* *rows*: rows that are cut from one text. *Of text* is the share of the variance that the text contributes.
* *largest*: rows in the first text, if it has more rows than the others.
* *cases per pair*: the mean. A pair has 1 + Poisson cases, or exactly one.
* *too high*: the whole interval lies above the truth. This makes a verdict falsely SUPPORTED. The target is 2.5%.

Every line has {simulations:,} simulations, {resamples:,} resamples and intervals at {level:.0%}. So a coverage of 95%
is measured to within {error:.1f} points (two standard errors). The bar is {low:.0%} to {high:.0%}. Values that miss it
are bold.

`python -m benchmarks.coverage` writes this page. `interval-calibration.json` holds all numbers. The docstring of
[resampling.py](../iit_toolkit/analysis/statistics/resampling.py) describes the method.
`tests/analysis/statistics/test_coverage.py` repeats a small part.

| design | |
|---|---|
"""


NOTES = """
Most intervals that miss the bar are too wide. There are three reasons:

* There are few bases with one case each. A share of 0.1 or 0.9 then rests on a handful of cases.
* An example pulls one way as a base and the other way as a source (negative *roles*). The interval ignores this.
* There are fewer than 20 bases or sources. A verdict is then INCONCLUSIVE.

Intervals of shares are too narrow if one text holds much of the data. A verdict is INCONCLUSIVE if the cases count as
fewer than 10 texts of equal size. In the last line they count as 3.8.
"""

VERDICTS = """
## False SUPPORTED

Here the true lead over the only control is exactly the margin of {margin}. So every SUPPORTED is false. The table
counts how often *any* variable is SUPPORTED. The bar is at most 2.5%. More controls can only lower this rate, because
a student must pass all of them.

The column *true* counts variables with a real lead: their control reaches 0.01. They test whether Holm's procedure lets
a null variable through beside them. Every line has {simulations:,} simulations, which measure 2.5% to within
{error:.1f} points (two standard errors).

| design | bases | cases | share | rows | of text | largest | variables | true | false SUPPORTED | true SUPPORTED |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
"""

OTHERS = """
## Other ways to resample

This table shows the coverage of percentile intervals for the same share, with four ways to resample:

* *here*: the toolkit's way.
* *single*: single rows, whatever their texts. It misses what rows of one text have in common.
* *bases only*: it misses what cases with one source have in common.
* *pigeonhole*: the pigeonhole bootstrap (count of base times count of source). It overestimates the variance threefold
  if every base has its own source.

| design | bases | cases | of base | of source | rows | of text | largest | here | single | bases only | pigeonhole |
|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
"""


GRADED_NOTES = """
## Effect R² and KL recovered

These measures divide an amount that is explained by an amount that there is to explain. Amounts have heavy tails: few
cases hold most of the effect. The cases here have the structure of those above, and these tails:

* *light*, *moderate*, *heavy*: the logarithm of an effect has a standard deviation of 0.3, 0.5 or 1. So has the
  logarithm of the error as a share of the effect.
* *decisions*: models answer with certainty. An effect is 0 or 2, and the student reproduces all of it or nothing.

*Judged* is the share of samples with enough texts for a verdict. *False* counts intervals above the truth among
them, as a share of all samples. Every line has {simulations:,} simulations, so a coverage of 95% is measured to within
{error:.1f} points (two standard errors), and a rate of 2.5% to within {alpha_error:.1f} points.

| design | bases | cases per pair | rows | of text | largest | tail | effect R² | judged \
| score: covered | too high | too low | false | lead: covered | too high | too low | false |
|---|--:|--:|--:|--:|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
"""

GRADED_LIMITS = """
Most intervals that miss the bar are too wide. Intervals of a single score are too often too high in two kinds of line:

* *Heavy* tails: up to 6% of the intervals lie above the truth. A sample often lacks the few cases of large error. Even
  512 bases leave 3.5%, and all of these samples have enough texts for a verdict.
* Texts of 12 rows, and crossed sources: 3.5% to 3.7% with *moderate* tails.

Intervals of leads lie above the truth in at most 2.8%.
"""

GRADED_VERDICTS = """
### False SUPPORTED

The true lead is exactly the margin of {margin}: over a control, or over the floor of 0. In the second case the true
effect R² is {margin}. Every line has {simulations:,} simulations, which measure 2.5% to within {error:.1f} points.
Higher rates are bold.

| design | bases | cases per pair | rows | tail | effect R² | against | variables | false SUPPORTED |
|---|--:|--:|--:|---|--:|---|--:|--:|
"""

REAL = """
### Samples of real cases

The population is {population:,} pairs of a real masked language model (6 blocks, 22.7 M parameters) on rows of
Wikipedia. The student has its blocks 0, 2 and 4, without training. The control has random weights. Teacher block 1 is
aligned with student block 0. The effects are as uneven as if {equal:.0f} pairs held all of them alike.

Samples are single pairs, or texts with all their {rows} pairs. The control reproduces nothing, so the lead equals the
score. Every line has {simulations:,} samples, which measure a coverage of 95% to within {error:.1f} points.

| measure | drawn | pairs | score | judged | score: covered | too high | too low | lead \
| lead: covered | too high | too low |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|
"""
NO_REAL = """
### Samples of real cases

Not run: the model and the texts are not beside the repository.
"""


def document(content: dict[str, Any]) -> str:
    """Return the page, in Markdown."""
    covered, verdicts, others = (content[name] for name in ("coverage", "false_support", "other_resampling"))
    text = HEADER.format(
        margin=MARGIN,
        simulations=SIMULATIONS,
        resamples=RESAMPLES,
        level=LEVEL,
        error=200 * math.sqrt(LEVEL * (1 - LEVEL) / SIMULATIONS),
        low=BAR[0],
        high=BAR[1],
    )
    text += "".join(f"| {name} | {meaning} |\n" for name, meaning in DESIGNS.items())
    text += "\n## Coverage\n\n"
    text += "| design | bases | cases per pair | share | of base | of source | roles | rows | of text | largest "
    text += "| share: covered | too high | too low | lead: covered | too high | too low |\n"
    text += "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
    for one in covered:
        facts = [one[name] for name in ("design", "bases", "tokens", "share", "base", "source", "roles", *TEXTS)]
        for name in ("share", "lead"):
            facts += [_marked(one[f"{name}_covered"], *BAR)]
            facts += [_percent(one[f"{name}_interval_{side}"]) for side in ("above", "below")]
        text += f"| {' | '.join(map(str, facts))} |\n"
    met = sum(BAR[0] <= one[f"{name}_covered"] <= BAR[1] for one in covered for name in ("share", "lead"))
    text += f"\n{met} of {2 * len(covered)} intervals meet the bar.\n"
    text += NOTES
    alpha = (1 - LEVEL) / 2
    error = 200 * math.sqrt(alpha * (1 - alpha) / SIMULATIONS)
    text += VERDICTS.format(margin=MARGIN, simulations=SIMULATIONS, error=error)
    for one in verdicts:
        setting = one["setting"]
        facts = [setting[name] for name in ("design", "bases", "tokens", "share", *TEXTS)]
        facts += [one["variables"], one["true"], _marked(one["false_supported"], 0, alpha)]
        facts += ["" if one["true_supported"] is None else _percent(one["true_supported"])]
        text += f"| {' | '.join(map(str, facts))} |\n"
    text += OTHERS
    for one in others:
        facts = [one[name] for name in ("design", "bases", "tokens", "base", "source", *TEXTS)]
        facts += [_marked(one[name], *BAR) for name in ("here", "single_rows", "bases_only", "pigeonhole")]
        text += f"| {' | '.join(map(str, facts))} |\n"
    return text + _graded_document(content)


def _graded_document(content: dict[str, Any]) -> str:
    alpha, simulations = (1 - LEVEL) / 2, content["graded_simulations"]
    alpha_error = 2 * math.sqrt(alpha * (1 - alpha) / simulations)
    error = 200 * math.sqrt(LEVEL * (1 - LEVEL) / simulations)
    text = GRADED_NOTES.format(simulations=simulations, error=error, alpha_error=100 * alpha_error)
    for one in content["graded_coverage"]:
        setting = one["setting"]
        facts = [setting[name] for name in ("design", "bases", "tokens", *TEXTS)]
        facts += [one["tail"], setting["share"], _percent(one["judged"])]
        for name in ("score", "lead"):
            facts += [*_sides(one, name), _marked(one[f"{name}_false"], 0, alpha + alpha_error)]
        text += f"| {' | '.join(map(str, facts))} |\n"
    text += GRADED_LIMITS
    null_error = 2 * math.sqrt(alpha * (1 - alpha) / GRADED_NULL_SIMULATIONS)
    text += GRADED_VERDICTS.format(margin=MARGIN, simulations=GRADED_NULL_SIMULATIONS, error=100 * null_error)
    for one in content["graded_false_support"]:
        setting = one["setting"]
        facts = [setting[name] for name in ("design", "bases", "tokens", "rows")]
        facts += [one["tail"], setting["share"], "floor" if one["floor"] else "control", one["variables"]]
        facts += [_marked(one["false_supported"], 0, alpha + null_error)]
        text += f"| {' | '.join(map(str, facts))} |\n"
    if content["real"] is None:
        return text + NO_REAL
    first = content["real"][0]
    text += REAL.format(
        population=first["population"],
        equal=first["equal_pairs"],
        rows=REAL_ROWS,
        simulations=REAL_SIMULATIONS,
        error=200 * math.sqrt(LEVEL * (1 - LEVEL) / REAL_SIMULATIONS),
    )
    for one in content["real"]:
        facts = [MEASURES[one["measure"]].title, one["drawn"], one["pairs"], one["score"], _percent(one["judged"])]
        facts += [*_sides(one, "score"), one["lead"], *_sides(one, "lead")]
        text += f"| {' | '.join(map(str, facts))} |\n"
    return text


def _sides(one: dict[str, Any], name: str) -> list[str]:
    """Return how often an interval covers the truth, and lies above and below it."""
    sides = [_percent(one[f"{name}_interval_{side}"]) for side in ("above", "below")]
    return [_marked(one[f"{name}_covered"], *BAR), *sides]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _marked(share: float, low: float, high: float) -> str:
    return _percent(share) if low <= share <= high else f"**{_percent(share)}**"


if __name__ == "__main__":
    main()

"""How often the intervals cover the truth, and how often a null is called SUPPORTED, on simulated cases.

Run from the repository root: `python -m benchmarks.coverage`.
Writes `docs/interval-calibration.md` and `docs/interval-calibration.json`.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtri

from iit_toolkit.analysis.statistics.control_words import FLOOR
from iit_toolkit.analysis.statistics.measures import MEASURES, Score
from iit_toolkit.analysis.statistics.resampling import Estimate, Floats, Ints, Resampled, sum_by_cluster
from iit_toolkit.analysis.statistics.verdict import judge_variables

DOCS = Path(__file__).resolve().parents[1] / "docs"
SIMULATIONS, CONTRAST_SIMULATIONS = 2000, 500
RESAMPLES = 500
LEVEL = 0.95
MARGIN = 0.05
BAR = (0.93, 0.97)
BATCH = 16
TEXTS = ("rows", "text", "largest")
SCORES = {name: Score(MEASURES["effective_iia"], name) for name in ("s", "c")}
STUDENT, CONTROL = SCORES["s"].parts, SCORES["c"].parts
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


def main() -> None:
    """Run every simulation, print the tables, and write them to `docs/`."""
    covered = [asdict(setting) | coverage(setting, number) for number, setting in enumerate(SETTINGS)]
    verdicts = [asdict(null) | false_support(null, number) for number, null in enumerate(NULLS)]
    others = [asdict(setting) | other_resampling(setting, number) for number, setting in enumerate(CONTRASTS)]
    text = document(covered, verdicts, others)
    (DOCS / "interval-calibration.md").write_text(text, encoding="utf-8")
    content = {
        "settings": {"simulations": SIMULATIONS, "resamples": RESAMPLES, "level": LEVEL, "margin": MARGIN, "bar": BAR},
        "coverage": covered,
        "false_support": verdicts,
        "other_resampling": others,
    }
    (DOCS / "interval-calibration.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(text)


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


def document(covered: list[dict[str, Any]], verdicts: list[dict[str, Any]], others: list[dict[str, Any]]) -> str:
    """Return the page, in Markdown."""
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
    return text


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _marked(share: float, low: float, high: float) -> str:
    return _percent(share) if low <= share <= high else f"**{_percent(share)}**"


if __name__ == "__main__":
    main()

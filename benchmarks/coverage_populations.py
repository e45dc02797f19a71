"""Simulated cases whose true rates and effects are known, for `benchmarks.coverage`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri

from iit_toolkit.analysis.statistics.resampling import Resampled
from iit_toolkit.analysis.statistics.sums import Floats, Ints, sum_by_cluster

RESAMPLES = 500
LEVEL = 0.95
MARGIN = 0.05
BATCH = 16
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

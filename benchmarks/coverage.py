"""How often the intervals cover the truth, and how often a null is called SUPPORTED, on simulated cases.

Run from the repository root:

    python -m benchmarks.coverage           everything
    python -m benchmarks.coverage graded    only effect R² and KL recovered; the other numbers stay

Writes `docs/interval-calibration.md` and `docs/interval-calibration.json`.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.coverage_graded import graded_part
from benchmarks.coverage_page import BAR, document
from benchmarks.coverage_populations import LEVEL, MARGIN, RESAMPLES, Drawn, Setting, draw
from iit_toolkit.analysis.statistics.control_words import FLOOR
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.measures import MEASURES, Score
from iit_toolkit.analysis.statistics.resampling import Resampled
from iit_toolkit.analysis.statistics.sums import Floats, Ints
from iit_toolkit.analysis.statistics.variable_verdict import judge_variables

DOCS = Path(__file__).resolve().parents[1] / "docs"
SIMULATIONS, CONTRAST_SIMULATIONS = 2000, 500
SCORES = {name: Score(MEASURES["effective_iia"], name) for name in ("s", "c")}
STUDENT, CONTROL = SCORES["s"].parts, SCORES["c"].parts
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


if __name__ == "__main__":
    main()

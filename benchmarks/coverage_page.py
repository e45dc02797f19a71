"""The page of `benchmarks.coverage`, written from its numbers."""

from __future__ import annotations

import math
from typing import Any

from benchmarks.coverage_graded import GRADED_NULL_SIMULATIONS, REAL_SIMULATIONS
from benchmarks.coverage_populations import DESIGNS, LEVEL, MARGIN, RESAMPLES
from benchmarks.real_population import ROWS
from iit_toolkit.analysis.statistics.measures import MEASURES

BAR = (0.93, 0.97)
TEXTS = ("rows", "text", "largest")
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
    simulations = content["settings"]["simulations"]
    text = HEADER.format(
        margin=MARGIN,
        simulations=simulations,
        resamples=RESAMPLES,
        level=LEVEL,
        error=200 * math.sqrt(LEVEL * (1 - LEVEL) / simulations),
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
    error = 200 * math.sqrt(alpha * (1 - alpha) / simulations)
    text += VERDICTS.format(margin=MARGIN, simulations=simulations, error=error)
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
        rows=ROWS,
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

"""The claims of "Causal Distillation for Language Models" (arXiv 2112.02505), held against a suite.

One rule gives every verdict, at equal steps and at equal compute. A claim holds where the 95% interval of the
difference, paired by seed, lies wholly on the claimed side of zero; it does not hold where the interval lies nowhere
on that side; else, and with fewer than three seeds, it is inconclusive. Where plain distillation had more than a tenth
more compute, it is inconclusive instead of not holding. Where an arm or a task has no run, or no arm had the compute,
it is not run. As there are many claims, it is said besides how many of those that hold, and of those that do not,
are so after Holm's correction over all that were tested on the same basis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from iit_toolkit.analysis.report.markdown import markdown_cell, markdown_table
from iit_toolkit.analysis.statistics.numbers import count, decimal
from iit_toolkit.analysis.studies.comparison import StudyComparison
from iit_toolkit.analysis.studies.paired import (
    EQUAL_COMPUTE,
    EQUAL_STEPS,
    LEVEL,
    MINIMUM_SEEDS,
    Outcome,
    difference,
)

Verdict = Literal["holds", "does not hold", "inconclusive", "not run"]

_VERDICTS: dict[Outcome, Verdict] = {
    "BEATS": "holds",
    "WORSE": "does not hold",
    "INCONCLUSIVE": "inconclusive",
}
_PERPLEXITY, _GLUE, _EXACT, _F1, _ENTITIES = (
    "perplexity",
    "score, mean of GLUE tasks",
    "exact match, squad",
    "score, squad",
    "score, conll2003",
)


@dataclass(frozen=True)
class Claim:
    """One number of the paper against that of plain distillation.

    Attributes:
        what: What is claimed to be better.
        arm: The arm of the suite that stands for the paper's.
        measure: How the suite names the measure; perplexity is claimed of every evaluation set, GLUE's mean is over
            the tasks that the suite has.
        plain: The paper's number for plain distillation.
        claimed: The paper's number for the arm.
    """

    what: str
    arm: str
    measure: str
    plain: float
    claimed: float


CLAIMS = (
    Claim("lower perplexity, MIDDLE", "middle", _PERPLEXITY, 15.69, 14.32),
    Claim("lower perplexity, LATE", "late", _PERPLEXITY, 15.69, 14.93),
    Claim("lower perplexity, FULL", "full", _PERPLEXITY, 15.69, 13.59),
    Claim("lower perplexity, FULL+COS", "full-cos", _PERPLEXITY, 15.69, 13.45),
    Claim("higher GLUE mean, MIDDLE", "middle", _GLUE, 75.67, 76.49),
    Claim("higher GLUE mean, LATE", "late", _GLUE, 75.67, 76.74),
    Claim("higher GLUE mean, FULL", "full", _GLUE, 75.67, 76.55),
    Claim("higher GLUE mean, FULL+COS", "full-cos", _GLUE, 75.67, 77.04),
    Claim("higher SQuAD exact match, MIDDLE", "middle", _EXACT, 70.23, 71.93),
    Claim("higher SQuAD exact match, LATE", "late", _EXACT, 70.23, 71.47),
    Claim("higher SQuAD exact match, FULL", "full", _EXACT, 70.23, 71.96),
    Claim("higher SQuAD F1, MIDDLE", "middle", _F1, 79.99, 81.32),
    Claim("higher SQuAD F1, LATE", "late", _F1, 79.99, 81.01),
    Claim("higher SQuAD F1, FULL", "full", _F1, 79.99, 81.33),
    Claim("higher CoNLL-2003 F1, MIDDLE", "middle", _ENTITIES, 92.12, 92.47),
    Claim("higher CoNLL-2003 F1, LATE", "late", _ENTITIES, 92.12, 92.36),
    Claim("higher CoNLL-2003 F1, FULL", "full", _ENTITIES, 92.12, 92.36),
    Claim("higher CoNLL-2003 F1, FULL+COS", "full-cos", _ENTITIES, 92.12, 92.35),
)
"""The authors' own numbers for 6-layer students, 0.1 B tokens of WikiText-103, 3 seeds with 5 fine-tuning seeds each.

They stand in the notebook `performance_analysis.ipynb` of 11 January 2022 in the history of the official code
(commit 8dccd02 of github.com/frankaging/Causal-Distill), which has no SQuAD of FULL+COS. The GLUE mean is that of its
medians over eight tasks, WNLI and the mismatched split of MNLI left out.
"""

RULE = (
    "The paper's: 6-layer students of BERT base, 0.1 B tokens, perplexity on WikiText-103, from the authors' notebook "
    "(history of github.com/frankaging/Causal-Distill, commit 8dccd02); over its three seeds, perplexity had standard "
    "deviations of 1.51 (plain), 0.12 (MIDDLE), 0.23 (LATE), 0.25 (FULL) and 0.19 (FULL+COS). Ours: means over the "
    "seeds that both arms have, then the mean difference with its 95% interval (Student's t, paired by seed), and n "
    "seeds. Holds: the interval lies wholly on the claimed side of zero. Does not hold: nowhere on it. "
    "Inconclusive: neither, or fewer than three seeds; and, at equal compute, where plain distillation had over a "
    "tenth more and the claim would not hold. Not run: there is no such arm or task, or no arm that had the compute."
)


@dataclass(frozen=True)
class Judged:
    """A claim on one measure and one basis.

    Attributes:
        claim: What is claimed.
        measure: The suite's measure.
        numbers: Ours, in words.
        verdict: By the rule above.
        p: Two-sided p value of the difference, paired by seed; None if there are too few seeds.
    """

    claim: Claim
    measure: str
    numbers: str
    verdict: Verdict
    p: float | None


def claims_table(comparison: StudyComparison) -> str:
    """Return every claim with the paper's number, ours, and the verdicts, in Markdown."""
    asked = [(claim, name) for claim in CLAIMS for name in _measures(comparison, claim)]
    bases = {
        basis: [judge_claim(comparison, claim, name, basis) for claim, name in asked]
        for basis in (EQUAL_STEPS, EQUAL_COMPUTE)
    }
    cells = [
        [claim.what, name, _paper(claim), *(text for one in ours for text in (one.numbers, one.verdict))]
        for (claim, name), *ours in zip(asked, *bases.values(), strict=True)
    ]
    heads = ["claim", "measure", "the paper", *(text for basis in bases for text in (f"ours, {basis}", "verdict"))]
    corrected = "\n".join(f"* {_corrected(basis, judged)}" for basis, judged in bases.items())
    arms = {claim.arm for claim in CLAIMS}
    notes = [one.basis for one in comparison.comparisons if one.arm in arms]
    listed = "\n".join(f"* {basis.name[:1].upper()}{basis.name[1:]}: {markdown_cell(basis.note)}" for basis in notes)
    return "\n\n".join(part for part in (markdown_table(heads, cells), RULE, corrected, listed) if part)


def judge_claim(comparison: StudyComparison, claim: Claim, name: str, basis: str) -> Judged:
    """Hold a claim against a suite.

    Args:
        comparison: The suite.
        claim: One of `CLAIMS`.
        name: The suite's measure.
        basis: `equal steps` or `equal compute`.
    """
    found = comparison.find(claim.arm, basis)
    measures = () if found is None else found.basis.measures
    paired = next((one for one in measures if one.measure.name == name and one.seeds), None)
    if found is None or found.basis.baseline is None or paired is None:
        return Judged(claim, name, "-", "not run", None)
    values = comparison.rows[name].values
    both = zip(values[found.basis.baseline], values[claim.arm], strict=True)
    common = [(one, two) for one, two in both if one is not None and two is not None]
    means = (float(np.mean(side)) for side in zip(*common, strict=True))
    written = f"{_numbers(*means, relative=claim.measure == _PERPLEXITY)}; {difference(paired)}, n = {paired.seeds}"
    p = paired.p if paired.seeds >= MINIMUM_SEEDS else None
    return Judged(claim, name, written, _VERDICTS[paired.outcome], p)


def _corrected(basis: str, judged: Sequence[Judged]) -> str:
    """Which verdicts are left after Holm's correction, in words."""
    tested = [one for one in judged if one.p is not None]
    differ = holm([one.p for one in tested if one.p is not None], 1 - LEVEL)
    differing = [one for one, differs in zip(tested, differ, strict=True) if differs]
    holding = [one for one in judged if one.verdict == "holds"]
    failing = [one for one in judged if one.verdict == "does not hold"]
    lost = [one for one in holding if one not in differing]
    names = f" (not: {'; '.join(one.claim.what for one in lost)})" if lost else ""
    left = f"; after the correction, in {sum(one in differing for one in failing)}" if failing else ""
    return (
        f"Of {count(len(tested), 'test')} at {basis}, the claim holds in {len(holding)}; "
        f"after Holm's correction over all of them, in {len(holding) - len(lost)}{names}. "
        f"It does not hold in {len(failing)}{left}."
    )


def _measures(comparison: StudyComparison, claim: Claim) -> list[str]:
    """Return the suite's measures that a claim is about; where there is none, what it would be about."""
    if claim.measure == _PERPLEXITY:
        found = [name for name in comparison.rows if name.startswith("perplexity, ")]
    elif claim.measure == _GLUE:
        found = [name for name in comparison.rows if name.endswith(" GLUE tasks")]
    else:
        found = [claim.measure]
    return found or [claim.measure]


def _paper(claim: Claim) -> str:
    return _numbers(claim.plain, claim.claimed, relative=claim.measure == _PERPLEXITY)


def _numbers(plain: float, claimed: float, *, relative: bool) -> str:
    change = f" ({decimal(100 * (claimed / plain - 1), 1, signed=True)}%)" if relative else ""
    return f"{decimal(plain, 2)} → {decimal(claimed, 2)}{change}"


def holm(p_values: Sequence[float], level: float) -> list[bool]:
    """Says which of several tests find a difference, such that all do so falsely with probability `level` at most.

    Holm 1979, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6.
    """
    found = [False] * len(p_values)
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        if p_values[place] > level / (len(p_values) - rank):
            break
        found[place] = True
    return found

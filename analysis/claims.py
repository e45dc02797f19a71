"""The claims of "Causal Distillation for Language Models" (arXiv 2112.02505), held against a suite.

One rule gives every verdict, at equal steps and at equal compute. A claim holds where the 95 % interval of the
difference, paired by seed, lies wholly on the claimed side of zero; it does not hold where the interval lies nowhere
on that side; else, and with fewer than three seeds, it is inconclusive. Where plain distillation had more than a tenth
more compute, it is inconclusive instead of not holding. Where an arm or a task has no run, or no arm had the compute,
it is not run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from iit_toolkit.analysis.markdown import markdown_cell, markdown_table
from iit_toolkit.analysis.numbers import decimal
from iit_toolkit.analysis.seeds import Outcome, difference
from iit_toolkit.analysis.suite_comparison import EQUAL_COMPUTE, EQUAL_STEPS, SuiteComparison

Verdict = Literal["holds", "does not hold", "inconclusive", "not run"]

_VERDICTS: dict[Outcome, Verdict] = {
    "BEATS": "holds",
    "DOES NOT BEAT": "does not hold",
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
    Claim("higher SQuAD exact match, FULL", "full", _EXACT, 70.23, 71.96),
    Claim("higher SQuAD F1, FULL", "full", _F1, 79.99, 81.33),
    Claim("higher CoNLL-2003 F1, MIDDLE", "middle", _ENTITIES, 92.12, 92.47),
    Claim("higher CoNLL-2003 F1, FULL", "full", _ENTITIES, 92.12, 92.36),
)
"""The authors' own numbers for 6-layer students, 0.1 B tokens of WikiText-103, 3 seeds with 5 fine-tuning seeds each.

They stand in the notebook `performance_analysis.ipynb` of 11 January 2022 in the history of the official code
(commit 8dccd02 of github.com/frankaging/Causal-Distill). The GLUE mean is that of its medians over eight tasks, WNLI
and the mismatched split of MNLI left out.
"""

RULE = (
    "The paper's: 6-layer students of BERT base, 0.1 B tokens, perplexity on WikiText-103, from the authors' notebook "
    "(history of github.com/frankaging/Causal-Distill, commit 8dccd02). Ours: means over the seeds that both arms "
    "have, then the mean difference with its 95 % interval (Student's t, paired by seed), and n seeds. "
    "Holds: the interval lies wholly on the claimed side of zero. Does not hold: nowhere on it. "
    "Inconclusive: neither, or fewer than three seeds; and, at equal compute, where plain distillation had over a "
    "tenth more and the claim would not hold. Not run: there is no such arm or task, or no arm that had the compute."
)


def claims_table(comparison: SuiteComparison) -> str:
    """Returns every claim with the paper's number, ours, and the verdicts, in Markdown."""
    bases = (EQUAL_STEPS, EQUAL_COMPUTE)
    cells = [
        [claim.what, name, _paper(claim), *(text for basis in bases for text in judge(comparison, claim, name, basis))]
        for claim in CLAIMS
        for name in _measures(comparison, claim)
    ]
    heads = ["claim", "measure", "the paper", *(text for basis in bases for text in (f"ours, {basis}", "verdict"))]
    arms = {claim.arm for claim in CLAIMS}
    notes = [one.basis for one in comparison.comparisons if one.arm in arms]
    listed = "\n".join(f"* {basis.name[:1].upper()}{basis.name[1:]}: {markdown_cell(basis.note)}" for basis in notes)
    return "\n\n".join(part for part in (markdown_table(heads, cells), RULE, listed) if part)


def judge(comparison: SuiteComparison, claim: Claim, name: str, basis: str) -> tuple[str, Verdict]:
    """Returns our numbers in words, and the verdict on a claim.

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
        return "-", "not run"
    values = comparison.rows[name].values
    both = zip(values[found.basis.baseline], values[claim.arm], strict=True)
    common = [(one, two) for one, two in both if one is not None and two is not None]
    means = (float(np.mean(side)) for side in zip(*common, strict=True))
    written = _numbers(*means, relative=claim.measure == _PERPLEXITY)
    return f"{written}; {difference(paired)}, n = {paired.seeds}", _VERDICTS[paired.outcome]


def _measures(comparison: SuiteComparison, claim: Claim) -> list[str]:
    """The suite's measures that a claim is about; where there is none, what it would be about."""
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
    change = f" ({decimal(100 * (claimed / plain - 1), 1, signed=True)} %)" if relative else ""
    return f"{decimal(plain, 2)} → {decimal(claimed, 2)}{change}"

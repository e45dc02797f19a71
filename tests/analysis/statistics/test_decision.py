"""One place compares an interval with a threshold, and the words of all who ask are mappings of its answer."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from iit_toolkit.analysis.statistics.decision import decide, reaches, too_few
from iit_toolkit.analysis.statistics.estimates import Estimate


def estimate(low: float | None, high: float | None, *, bases: int = 100, equal_texts: float | None = None) -> Estimate:
    return Estimate(0.5, low, high, cases=200, clusters=bases, equal_texts=equal_texts)


@pytest.mark.parametrize(
    ("low", "high", "decision"),
    [
        (0.11, 0.3, "above"),
        (0.1, 0.3, "undecided"),
        (0.05, 0.3, "undecided"),
        (0.0, 0.1, "undecided"),
        (0.0, 0.09, "below"),
        (None, None, "undecided"),
    ],
)
def test_an_interval_lies_above_below_or_holds_the_threshold(
    low: float | None, high: float | None, decision: str
) -> None:
    assert decide(estimate(low, high), 0.1) == decision
    assert reaches(estimate(low, high), 0.1) == (low is not None and low >= 0.1)


def test_nan_decides_nothing() -> None:
    assert decide(estimate(math.nan, math.nan), 0.1) == "undecided"
    assert not reaches(estimate(math.nan, math.nan), 0.1)


def test_few_or_uneven_texts_are_too_few() -> None:
    assert too_few(estimate(0.1, 0.2, bases=19)) and not too_few(estimate(0.1, 0.2, bases=20))
    assert too_few(estimate(0.1, 0.2, equal_texts=9.9)) and not too_few(estimate(0.1, 0.2, equal_texts=10.0))


def test_no_other_module_compares_the_end_of_an_interval_with_a_threshold() -> None:
    """Looks for `x.low > bound` and the like; an end compared with the other end of its interval decides nothing."""
    compared = re.compile(r"\.(?:low|high)\b\s*(?:[<>]=?)|[<>]=?\s*[a-z_.]+\.(?:low|high)\b")
    package = Path(__file__).parents[3] / "iit_toolkit"
    found = {
        f"{path.relative_to(package)}: {line.strip()}"
        for path in package.rglob("*.py")
        if path.name != "decision.py"
        for line in path.read_text(encoding="utf-8").splitlines()
        if compared.search(line)
    }
    assert found == {
        "analysis/statistics/resampling.py: trials = estimate.cases if estimate.low < estimate.high else examples",
    }

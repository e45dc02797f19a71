from __future__ import annotations

from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.power import detectable_lead


def test_a_score_below_zero_has_a_detectable_lead():
    """Effect R² is negative if a student moves the wrong way; only its lead's error then counts."""
    score = Estimate(-0.5, -0.8, -0.2, 400, 100)
    found = detectable_lead(score, score, 0.05, 0.95)
    assert found is not None and 0.4 < found < 0.6

"""Many claims are corrected for their number."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from analysis.paper_claims import holm


@given(st.lists(st.floats(0, 0.1), max_size=6))
def test_many_tests_are_corrected_as_by_closed_testing(p_values: list[float]) -> None:
    """A test stands if every set of tests that it belongs to is refused by Bonferroni's bound."""
    places = range(len(p_values))
    sets = [chosen for size in range(1, len(p_values) + 1) for chosen in combinations(places, size)]
    refused = {chosen: min(p_values[one] for one in chosen) <= 0.05 / len(chosen) for chosen in sets}
    assert holm(p_values, 0.05) == [all(refused[chosen] for chosen in sets if place in chosen) for place in places]

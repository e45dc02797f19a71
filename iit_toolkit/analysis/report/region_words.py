"""The map of regions in words."""

from __future__ import annotations

from collections.abc import Collection

from iit_toolkit.analysis.statistics.input_words import InputWords
from iit_toolkit.analysis.statistics.measures import MEASURES
from iit_toolkit.analysis.statistics.numbers import count, first_upper
from iit_toolkit.analysis.statistics.regions import Label, RegionMap


def map_title(found: RegionMap) -> str:
    """Return what the map shows of each region."""
    measure = MEASURES[found.measure]
    return first_upper(measure.title) + (" above its floor" if measure.floor else "")


def map_words(found: RegionMap, shown: Collection[str], inputs: InputWords) -> list[str]:
    """Say what became of the regions, and of the cases.

    Args:
        found: The map.
        shown: The variables that the table shows.
        inputs: The words for the inputs.
    """
    labels: dict[Label, str] = {
        "HOLDS": "hold",
        "FAILS": "fail",
        "REFUTED": "refuted",
        "NOT CONFIRMED": "not confirmed",
        "OPEN": "undecided in the half that finds",
    }
    parts = ", ".join(f"{found.count(label)} {words}" for label, words in labels.items())
    words = [f"{count(len(found.regions), 'region')} with enough {inputs.texts}: {parts}."]
    if not found.regions:
        words = [f"No region has enough {inputs.texts} in both halves."]
    if found.too_few:
        words.append(f"Too few {inputs.texts} in one of the halves: {count(found.too_few, 'region')}, not listed.")
    if found.across:
        words.append(
            f"{found.across:,} of {count(found.cases, 'case')} have base and source in different halves and count in "
            "neither."
        )
    if left := len({one.variable for one in found.regions} - set(shown)):
        words.append(f"The regions of {count(left, 'other variable')} are in figures/ and in the report as JSON.")
    return words

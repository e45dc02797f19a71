"""What differs between two settings, by place, and which settings change nothing that a run computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

COSMETIC = frozenset(
    {
        "dataloader_num_workers",
        "dataloader_pin_memory",
        "disable_tqdm",
        "log_level",
        "logging_dir",
        "logging_first_step",
        "logging_steps",
        "logging_strategy",
        "report_to",
        "run_name",
        "save_steps",
        "save_strategy",
        "save_total_limit",
    }
)
"""Settings of the trainer that say what is shown and kept, and not what is learned."""
_SHOWN = 3
_LONGEST = 60


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their dotted places; empty mappings count as values."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return found


def without_cosmetic(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return flat settings without those of trainers that are `COSMETIC`."""
    return {
        place: value
        for place, value in settings.items()
        if not (place.rpartition(".")[2] in COSMETIC and "training" in place.split("."))
    }


def different(one: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    """Say in which places the second of two flat settings differs from the first; empty if in none."""
    places = [place for place in sorted({*one, *two}) if one.get(place) != two.get(place)]
    said = [f"{place} is {_short(two.get(place))}, not {_short(one.get(place))}" for place in places[:_SHOWN]]
    if len(places) > _SHOWN:
        said.append(f"and {len(places) - _SHOWN} more differ")
    return "; ".join(said)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."

"""How a report's numbers and texts become Markdown and HTML."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from iit_toolkit.analysis.numbers import decimal, duration, interval
from iit_toolkit.analysis.statistics import Estimate


def environment() -> Environment:
    """The templates with their filters."""
    made = Environment(
        loader=PackageLoader("iit_toolkit.analysis", "templates"),
        autoescape=select_autoescape(enabled_extensions=("html.j2",)),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(
        interval=interval,
        decimal=decimal,
        duration=duration,
        cell=_cell,
        bounds=_bounds,
        facts=_facts,
        plain=_plain,
    )
    return made


def _cell(text: object) -> str:
    """Text that cannot break out of a cell of a Markdown table."""
    return str(text).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def _facts(facts: dict[str, Any]) -> str:
    """`cores 2, cuda none` of a dictionary of facts; lists are spelt out."""
    spelt = {name: ", ".join(map(str, one)) if isinstance(one, list) else one for name, one in facts.items()}
    return "; ".join(f"{name} {'none' if one in (None, '') else one}" for name, one in spelt.items())


def _bounds(estimate: Estimate, digits: int = 3, *, signed: bool = False) -> str:
    """Only the interval of an estimate, for the small print under its value; empty where it has none."""
    if estimate.value is None or estimate.low is None:
        return ""
    return interval(estimate, digits, signed=signed).split(" ", 1)[1]


def _plain(value: object) -> str:
    """A value of a figure's data; empty where there is none."""
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)

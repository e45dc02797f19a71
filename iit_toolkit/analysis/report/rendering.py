"""How a report's numbers and texts become Markdown and HTML."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from iit_toolkit.analysis.report.markdown import markdown_cell
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.numbers import decimal, first_upper, interval
from iit_toolkit.files.printable import printable
from iit_toolkit.runs.progress import duration


def render(name: str, context: dict[str, Any]) -> str:
    """Render a report: `report.html` or `report.md`; no text in the context can be markup of it."""
    made = _environment(name.endswith(".html"))
    return made.get_template(f"{name}.j2").render(context | _script(made))


@cache
def _environment(html: bool) -> Environment:
    """Return what reads the templates, each of them once in a process."""
    made = Environment(
        loader=PackageLoader("iit_toolkit.analysis.report", "templates"),
        autoescape=html,
        finalize=_printed if html else _markdown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(
        first_upper=first_upper,
        interval=interval,
        decimal=decimal,
        duration=duration,
        bounds=_bounds,
        facts=_facts,
        plain=_plain,
    )
    return made


def _script(made: Environment) -> dict[str, str]:
    """Return the page's own script and its digest: a browser runs no other."""
    assert made.loader is not None
    source = f"\n{made.loader.get_source(made, 'report.js')[0]}\n"
    return {"script": Markup(source), "digest": base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}


def _printed(value: Any) -> Any:
    return printable(value) if type(value) is str else value


def _markdown(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    before, after = (" " if end.isspace() else "" for end in (value[:1], value[-1:]))
    return f"{before}{markdown_cell(value)}{after}" if value.strip() else before


def _facts(facts: dict[str, Any]) -> str:
    """`cores 2, cuda none` of a dictionary of facts; lists are spelt out."""
    spelt = {name: ", ".join(map(str, one)) if isinstance(one, list) else one for name, one in facts.items()}
    return "; ".join(f"{name} {'none' if one in (None, '') else one}" for name, one in spelt.items())


def _bounds(estimate: Estimate, digits: int = 3, *, signed: bool = False) -> str:
    """Only the interval of an estimate, for the small print under its value; empty where it has none."""
    if estimate.value is None or estimate.low is None:
        return ""
    return interval(estimate, digits, signed=signed).partition(" ")[2]


def _plain(value: object) -> str:
    """Return a value of a figure's data; empty where there is none."""
    if value is None or value != value:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)

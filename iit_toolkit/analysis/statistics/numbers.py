"""Numbers and intervals in words, the same way in the verdict, the report and the model card."""

from __future__ import annotations

from iit_toolkit.analysis.statistics.estimates import Estimate

EVALUATED = {"accuracy": 3, "perplexity": 2}
"""What is measured of models on held-out data, where the task has it: digits after the decimal point."""


def decimal(value: float, digits: int = 3, *, signed: bool = False) -> str:
    """`0.213`, or `+0.213` where signed; never `-0.000`."""
    return f"{round(value, digits) + 0.0:{'+' if signed else ''},.{digits}f}"


def interval(estimate: Estimate, digits: int = 3, *, signed: bool = False, of: str = "cases") -> str:
    """`0.213 [0.190, 0.236]`.

    Args:
        estimate: What to write.
        digits: After the decimal point.
        signed: Whether to write the sign of positive numbers (differences).
        of: What it is undefined for the lack of, as in `n/a (no changed cases)`.
    """
    if estimate.value is None:
        return f"n/a (no {of})" if estimate.cases == 0 else "n/a (not defined on these cases)"
    value = decimal(estimate.value, digits, signed=signed)
    if estimate.low is None or estimate.high is None:
        return f"{value} [no interval]"
    if estimate.low == estimate.high == estimate.value:
        return value  # exact by definition
    low, high = (decimal(end, digits, signed=signed) for end in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def first_upper(text: str) -> str:
    """`Effective IIA` of `effective IIA`: the rest stays as it is."""
    return f"{text[:1].upper()}{text[1:]}"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """`1 case`, `1,234 cases`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def basis(estimate: Estimate, unit: str = "changed case") -> str:
    """`491 changed cases, 305 base examples, 47 texts`; source examples and texts only where they are fewer."""
    return f"{count(estimate.cases, unit)}, {inputs(estimate)}"


def inputs(estimate: Estimate) -> str:
    """`305 base examples, 47 texts`; source examples and texts only where they are fewer."""
    least, parts = estimate.clusters, [count(estimate.clusters, "base example")]
    for number, what in ((estimate.sources, "source example"), (estimate.texts, "text")):
        if number is not None and number < least:
            least = number
            parts.append(count(number, what))
    return ", ".join(parts)

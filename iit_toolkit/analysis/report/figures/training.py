"""Figures of training: loss terms and their shares of the gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from iit_toolkit.analysis.report.figures.style import LINES, PALETTE, Drawing

_MOST_TERMS = 12
"""Panels of a figure."""

History = Sequence[Mapping[str, Any]]
"""The logged steps of one arm's training."""


def training(histories: Mapping[str, History]) -> list[Drawing]:
    """Draws what the histories hold: the loss and its terms, and the terms' shares of the gradient."""
    given = {
        "training": ("loss", "Training loss and its terms, as logged; each has a scale of its own."),
        "balance": ("gradient_share", "Share of each loss term in the norm of the gradient."),
    }
    return [
        _curves(name, histories, prefix, caption)
        for name, (prefix, caption) in given.items()
        if any(_terms(history, prefix) for history in histories.values())
    ]


def _curves(name: str, histories: Mapping[str, History], prefix: str, caption: str) -> Drawing:
    terms = list(dict.fromkeys(term for history in histories.values() for term in _terms(history, prefix)))
    if len(terms) > _MOST_TERMS:
        caption = f"{caption} Shown: the first {_MOST_TERMS} of {len(terms):,} terms."
        terms = terms[:_MOST_TERMS]
    figure = Figure(figsize=(2.6 * max(2, len(terms)), 2.3), layout="constrained")
    for number, term in enumerate(terms):
        axes = figure.add_subplot(1, len(terms), number + 1)
        for place, (arm, history) in enumerate(histories.items()):
            points = [(row["step"], row[term]) for row in history if row.get(term) is not None]
            if points:
                axes.plot(
                    *zip(*points, strict=True),
                    color=PALETTE[place % len(PALETTE)],
                    ls=LINES[place % len(LINES)],
                    lw=1.5,
                    label=arm,
                )
        steps = max(row["step"] for history in histories.values() for row in history)
        axes.set_title(f"{term.removeprefix(prefix + '/')}, n = {steps:,} steps")
        if prefix != "loss":
            axes.set_ylim(0, 1.02)
        axes.set_xlabel("step")
        axes.grid(True, axis="y")
        axes.legend(loc="best", fontsize=8)
    alt = f"Curves of {', '.join(terms)} over training steps for {', '.join(histories)}."
    rows = [
        {"arm": arm, **{column: row.get(column) for column in ("step", *terms)}}
        for arm, history in histories.items()
        for row in history
    ]
    return Drawing(name, figure, caption, alt, pd.DataFrame(rows))


def _terms(history: History, prefix: str) -> list[str]:
    names = dict.fromkeys(name for row in history for name in row)
    return [name for name in names if name == prefix or name.startswith(f"{prefix}/")]

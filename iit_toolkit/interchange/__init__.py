"""Interchange interventions: swaps, and the engine that runs them on a live model."""

from iit_toolkit.interchange.engine import InterchangeModel, Run
from iit_toolkit.interchange.pyvene_guard import SubspaceInterchange
from iit_toolkit.interchange.swap import (
    Swap,
    draw_paired_swap,
    draw_swap,
    other_rows,
    other_sources,
    paired_sources,
    refuse_empty,
)

__all__ = [
    "InterchangeModel",
    "Run",
    "SubspaceInterchange",
    "Swap",
    "draw_paired_swap",
    "draw_swap",
    "other_rows",
    "other_sources",
    "paired_sources",
    "refuse_empty",
]

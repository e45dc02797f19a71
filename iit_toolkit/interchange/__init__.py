"""Interchange interventions: swaps, and the engine that runs them on a live model."""

from iit_toolkit.interchange.engine import InterchangeModel
from iit_toolkit.interchange.pyvene_guard import SubspaceInterchange
from iit_toolkit.interchange.sampling import Interchange, Sampler
from iit_toolkit.interchange.side import Run, Side
from iit_toolkit.interchange.swap import Swap, draw_swap, other_rows, other_sources, refuse_empty

__all__ = [
    "Interchange",
    "InterchangeModel",
    "Run",
    "Sampler",
    "Side",
    "SubspaceInterchange",
    "Swap",
    "draw_swap",
    "other_rows",
    "other_sources",
    "refuse_empty",
]

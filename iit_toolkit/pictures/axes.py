"""Axes of a new figure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def new_axes(size: tuple[float, float], **settings: Any) -> Axes:
    """Return the axes of a new figure of pyplot: a notebook shows it when the cell ends, a script with `plt.show()`.

    Args:
        size: Width and height in inches.
        **settings: As for `matplotlib.pyplot.subplots`.
    """
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=size, **settings)[1]

"""What an alignment leaves out at the places of its sites: the neurons, or directions, that no variable holds.

Strict training (`distillation`) and the leak check (`analysis.verification.controls`) swap the same neurons. So does
what learned subspaces are held against: the whole of their sites.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from iit_toolkit.alignment.resolve import ResolvedSite
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.engine import InterchangeModel
from iit_toolkit.interchange.network import NetworkSide
from iit_toolkit.interchange.side import Run, Side
from iit_toolkit.interchange.sited import Sited


def left_out(side: Sited, variable: str, widths: Mapping[str, int]) -> tuple[ResolvedSite, ...]:
    """Return the neurons that no variable holds, at the places where one variable holds a part.

    If variables hold learned subspaces of a place, these are all directions that are orthogonal to them. If others hold
    neurons of it, too, nothing counts as left out there.

    Args:
        side: The side with the sites of all variables, and their learned subspaces. One whose boundary is still learned
            may hold one direction only.
        variable: The variable at whose places they are.
        widths: How many neurons every place has that the variables read.

    Returns:
        One site per place that has such neurons or directions.
    """
    every = [site for several in side.sites.values() for site in several]
    rest: list[ResolvedSite] = []
    for site in {site.write: site for site in side.sites[variable]}.values():
        width = widths[site.read]
        here = [one for one in every if one.write == site.write]
        learned = tuple(one.subspace.key for one in here if one.subspace is not None)
        if learned and len(learned) == len(here):
            assert side.subspaces is not None  # or it swaps no such site
            if sum(side.subspaces[key].fewest for key in learned) < width:
                rest.append(replace(site, subspace=None, without=learned))
            continue
        left = ~torch.stack([one.neurons(width) for one in here]).any(0)
        if left.any():
            rest.append(replace(site, ranges=neuron_ranges(left)))
    return tuple(rest)


def left_out_side(side: Side, run: Run, variable: str) -> Side:
    """Return the same model with what the alignment leaves out at one variable's places, under that variable's name.

    A run that was made with the variable holds all that a swap there takes.

    Args:
        side: The side with the alignment's variables.
        run: A run of it that was made with the variable.
        variable: The variable.

    Raises:
        UserError: If a place of the variable has no such neurons.
    """
    assert isinstance(side, InterchangeModel | NetworkSide)  # what is trained
    widths = {place: activation.shape[-1] for place, activation in run.activations.items()}
    rest = left_out(side, variable, widths)
    whole = {site.write for site in side.sites[variable]} - {site.write for site in rest}
    if whole:
        raise UserError(
            f"variable {variable!r}: the `strict` term swaps what the alignment leaves out, but it leaves out no "
            f"neurons of {min(whole)}; align a part of them, or set the weight of `strict` to 0"
        )
    return _at_the_same_places(side, variable, rest)


def whole_side(side: Side, variable: str) -> Side | None:
    """Return the same model with one variable whose learned subspaces are replaced by the whole of their sites.

    Args:
        side: The side with the alignment's variables.
        variable: The variable.

    Returns:
        The side, whose runs start from those of the first; `None` if no site of the variable is a learned subspace.
    """
    if not isinstance(side, InterchangeModel | NetworkSide):
        return None
    sites = side.sites[variable]
    if all(site.subspace is None for site in sites):
        return None
    return _at_the_same_places(side, variable, tuple(replace(site, subspace=None) for site in sites))


def _at_the_same_places(
    side: InterchangeModel | NetworkSide, variable: str, sites: tuple[ResolvedSite, ...]
) -> InterchangeModel | NetworkSide:
    """Return the same model with other sites of a variable, at places where it has some."""
    found = side.with_sites({variable: sites})
    if isinstance(side, InterchangeModel) and isinstance(found, InterchangeModel):
        found.restart_blocks[variable] = side.restart_blocks[variable]  # as measured
    return found


def neuron_ranges(mask: Tensor) -> tuple[tuple[int, int], ...]:
    """Return the runs of neurons that are true in a mask (D,), as `[low, high)`."""
    edges = torch.diff(mask.int(), prepend=torch.zeros(1, dtype=torch.int), append=torch.zeros(1, dtype=torch.int))
    lows, highs = ((edges == sign).nonzero()[:, 0].tolist() for sign in (1, -1))
    return tuple(zip(lows, highs, strict=True))

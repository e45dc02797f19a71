"""What sides with resolved sites have in common, whatever runs them.

Legend of shapes: B rows, S positions, D neurons.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from iit_toolkit.alignment.resolve import ResolvedSite
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.learned import Subspaces
from iit_toolkit.interchange.pyvene_guard import Directions, OtherDirectionsInterchange
from iit_toolkit.interchange.side import Run
from iit_toolkit.interchange.swap import Swap


class Sited:
    """The variables of a side, as sites.

    Args:
        sites: The sites of each variable.
        subspaces: The learned subspaces of those sites that swap one.
    """

    def __init__(self, sites: Mapping[str, Sequence[ResolvedSite]], subspaces: Subspaces | None = None) -> None:
        """Keep the sites."""
        self.sites = {name: tuple(variable) for name, variable in sites.items()}
        self.subspaces = subspaces

    def directions(self, site: ResolvedSite) -> Directions | None:
        """Return what swaps a site's learned subspace, or all but such ones; `None` if it swaps neurons.

        Raises:
            UserError: If the site is about a subspace that was not given.
        """
        if site.subspace is None and not site.without:
            return None
        if self.subspaces is None:
            raise UserError(f"site {site.write} swaps a learned subspace, but none was given; give `subspaces`")
        if site.subspace is not None:
            return self.subspaces[site.subspace.key]
        return OtherDirectionsInterchange([self.subspaces[key] for key in site.without])

    @property
    def variables(self) -> Collection[str]:
        """The variables whose sites are known."""
        return self.sites.keys()

    def places(self, variable: str) -> Collection[str]:
        """Return the places that a variable reads."""
        return {site.read for site in self.sites[variable]}

    def reads_what_it_writes(self, variable: str) -> bool:
        """Say whether every site of a variable is read where it is written."""
        return all(site.read == site.write for site in self.sites[variable])

    def last_site(self, variable: str) -> ResolvedSite:
        """Return a variable's site in the highest block, the last one declared if there are several."""
        return max(
            reversed(self.sites[variable]),
            key=lambda site: -1 if site.last_read_block is None else site.last_read_block,
        )

    def aligned_activation(self, run: Run, variable: str) -> Tensor:
        """Return (B, S, D) the activation at a variable's last site, where it is read."""
        site = self.last_site(variable)
        activation = run.activations[site.read]
        if site.ranges is None:
            return activation
        return torch.cat([activation[..., low:high] for low, high in site.ranges], dim=-1)


def swapped_neurons(swap: Swap, site: ResolvedSite, width: int) -> Tensor:
    """Return what a swap overwrites at a site: boolean, (B, S, 1) for whole vectors, else (B, S, D)."""
    positions = swap.mask[:, :, None]
    return positions if site.ranges is None else positions & site.neurons(width, swap.mask.device)

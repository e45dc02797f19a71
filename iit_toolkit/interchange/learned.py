"""Learned subspaces of an alignment's sites: their weights, beside the models, and the file that keeps them.

A subspace of rank r of a site with D neurons is spanned by the orthonormal columns of W (D, r), after Geiger et al.,
"Finding Alignments Between Interpretable Causal Variables and Distributed Neural Representations" (arXiv 2303.02536).
Legend of shapes: B rows, S positions, D neurons.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from iit_toolkit.alignment.resolve import OF_TEACHER, ResolvedSite, SideName
from iit_toolkit.errors import UserError, one_line
from iit_toolkit.interchange.pyvene_guard import SubspaceInterchange

SUBSPACES_SCHEMA = "iit_toolkit/learned-subspaces/1"
"""Of the file that `LearnedSubspaces.save` writes."""


@dataclass(frozen=True)
class LearnedPlace:
    """Where a learned subspace is.

    Attributes:
        component: The component whose activation it is of, in pyvene's module-path form.
        width: D, neurons of the component.
        rank: r, directions of the subspace.
    """

    component: str
    width: int
    rank: int


class LearnedSubspaces(nn.Module):
    """The learned subspaces of an alignment's sites, by key: the variable's name and the number of its site, `left/0`.

    Those of a teacher's sites are called `left/teacher-0`. They belong to one student: each finds its own in the
    teacher. Subspaces start at random. `iit_toolkit.new_subspaces` makes them for models and an alignment.

    Args:
        places: Where each is.
        seed: Of the start.

    Attributes:
        places: Where each is.
        steps: How many updates they have been trained for.

    Raises:
        UserError: If a rank is not between 1 and the width less 1.
    """

    def __init__(self, places: Mapping[str, LearnedPlace], seed: int = 0) -> None:
        """Draw the start."""
        super().__init__()
        for key, place in places.items():
            if not 1 <= place.rank < place.width:
                raise UserError(
                    f"subspace {key} of {place.component}: its rank is {place.rank}, but the site has {place.width} "
                    f"neurons; give a rank of 1 to {place.width - 1}"
                )
        self.places = dict(places)
        self.steps = 0
        self._learned = nn.ModuleList(
            SubspaceInterchange(place.width, place.rank, seed + number) for number, place in enumerate(places.values())
        )

    def __getitem__(self, key: str) -> SubspaceInterchange:
        """Return one subspace.

        Raises:
            UserError: If there is none of this name.
        """
        if key not in self.places:
            raise UserError(f"no subspace {key!r} is learned; there are {', '.join(self.places) or 'none'}")
        found = self._learned[list(self.places).index(key)]
        assert isinstance(found, SubspaceInterchange)
        return found

    def __iter__(self) -> Iterator[str]:
        """Go through the keys."""
        return iter(self.places)

    def basis(self, key: str) -> Tensor:
        """Return the orthonormal directions of one subspace, (D, r), without gradient."""
        return self[key].basis()

    def keys_of(self, side: SideName) -> list[str]:
        """Return the keys of one side's subspaces."""
        return [key for key in self.places if _is_of_teacher(key) == (side == "teacher")]

    def fits(self, sites: Mapping[str, Sequence[ResolvedSite]], side: SideName) -> bool:
        """Say whether those of one side are subspaces of just its sites that swap one, of the same ranks."""
        wanted = {
            site.subspace.key: (site.write, site.subspace.rank)
            for several in sites.values()
            for site in several
            if site.subspace is not None
        }
        own = {key: self.places[key] for key in self.keys_of(side)}
        return wanted == {key: (place.component, place.rank) for key, place in own.items()}

    def save(self, path: str | Path) -> None:
        """Write the subspaces to a file, from which `load` reads them bit for bit.

        It is a file of safetensors. The tensors of a subspace are called by its key, a slash, and their names in the
        state of a `pyvene.LowRankRotatedSpaceIntervention`, so stock pyvene can load them, too.
        """
        weights = {
            f"{key}/{name}": value.detach().cpu().contiguous()
            for key in self
            for name, value in self[key].state_dict().items()
        }
        places = {key: vars(place) for key, place in self.places.items()}
        facts = {"schema": SUBSPACES_SCHEMA, "places": json.dumps(places), "steps": str(self.steps)}
        safetensors.torch.save_file(weights, path, facts)

    @classmethod
    def load(cls, path: str | Path) -> LearnedSubspaces:
        """Read the subspaces of a file that `save` wrote.

        Raises:
            UserError: If the file cannot be read, or holds something else.
        """
        try:
            with safe_open(path, "pt") as file:
                facts: Mapping[str, str] = file.metadata() or {}
                weights: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if facts.get("schema") != SUBSPACES_SCHEMA:
                raise ValueError(f"its schema is {facts.get('schema')!r:.60}, not {SUBSPACES_SCHEMA!r}")
            places = {key: LearnedPlace(**place) for key, place in json.loads(facts["places"]).items()}
            found = cls(places)
            found.steps = int(facts["steps"])
            for key in found:
                state = {name: weights.pop(f"{key}/{name}") for name in found[key].state_dict()}
                [kind] = {value.dtype for value in state.values() if value.is_floating_point()}
                found[key].to(kind).load_state_dict(state)
            if weights:
                raise ValueError(f"it also holds {next(iter(weights))!r:.60}")
        except (OSError, SafetensorError, ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
            raise UserError(
                f"{path}: no file of learned subspaces ({one_line(error)[:150]}); give one that was saved beside a "
                "student"
            ) from None
        return found


def _is_of_teacher(key: str) -> bool:
    return key.rpartition("/")[2].startswith(OF_TEACHER)


Subspaces: TypeAlias = LearnedSubspaces | Mapping[str, SubspaceInterchange]
"""Subspaces by key."""


SitesWithActivations: TypeAlias = tuple[Mapping[str, Sequence[ResolvedSite]], Mapping[str, Tensor]]
"""The resolved sites of each variable of one side, and (B, S, D) what a run holds at the places that they read."""


def subspaces_at(*sides: SitesWithActivations, seed: int = 0) -> LearnedSubspaces:
    """Return random subspaces of the sites that swap one, on the device of the first side's activations.

    Args:
        *sides: The student's sites, and the teacher's if some of them swap one.
        seed: Of the start.

    Raises:
        UserError: If a rank is not between 1 and the width less 1.
    """
    places = {
        site.subspace.key: LearnedPlace(site.write, activations[site.read].shape[-1], site.subspace.rank)
        for sites, activations in sides
        for several in sites.values()
        for site in several
        if site.subspace is not None
    }
    found = LearnedSubspaces(places, seed)
    for activation in sides[0][1].values():
        precise = activation.dtype == torch.float64
        return found.to(activation.device, torch.float64 if precise else torch.float32)
    return found

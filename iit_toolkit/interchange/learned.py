"""Learned subspaces of an alignment's sites: their weights, beside the models, and the file that keeps them.

A subspace of rank r of a site with D neurons is spanned by the orthonormal columns of W (D, r), after Geiger et al.,
"Finding Alignments Between Interpretable Causal Variables and Distributed Neural Representations" (arXiv 2303.02536).
Those that share a rotation hold different columns of it. If the boundary of one is learned, the first k columns are
swapped, after Wu et al., "Interpretability at Scale: Identifying Causal Mechanisms in Alpaca" (arXiv 2305.08809).
Legend of shapes: B rows, S positions, D neurons.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from iit_toolkit.alignment.resolve import OF_TEACHER, ResolvedSite, SideName
from iit_toolkit.errors import UserError, one_line
from iit_toolkit.interchange.pyvene_guard import SubspaceInterchange

SUBSPACES_SCHEMA = "iit_toolkit/learned-subspaces/1"
"""Of the file that `LearnedSubspaces.save` writes."""
_SOFTEST = 1 / 8
"""Temperature of a boundary when training begins, in ranks; but 1 direction at least."""
_HARDEST = 0.1
"""Temperature of a boundary when training ends, in directions."""


@dataclass(frozen=True)
class LearnedPlace:
    """Where a learned subspace is.

    Attributes:
        component: The component whose activation it is of, in pyvene's module-path form.
        width: D, neurons of the component.
        rank: r, directions of the subspace; at most, if the boundary is learned.
        boundary: Whether training learns how many of them are swapped.
        shared: Whether it shares the rotation of its side's place with others.
        kept: k, how many directions are swapped, once that is `decided`; `None` before, or if nothing is to decide.
    """

    component: str
    width: int
    rank: int
    boundary: bool = False
    shared: bool = False
    kept: int | None = None


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
        UserError: If a rank is not between 1 and the width less 1, or the ranks of those that share a rotation are more
            than the width in all.
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
        rotations = _shared_rotations(places, seed)

        def subspace(number: int, key: str, place: LearnedPlace) -> SubspaceInterchange:
            rotation, first = rotations.get(key, (None, 0))
            return SubspaceInterchange(
                place.width,
                place.rank if place.kept is None else place.kept,
                seed + number,
                boundary=place.boundary and place.kept is None,
                rotation=rotation,
                first=first,
            )

        self._learned = nn.ModuleList(subspace(number, *one) for number, one in enumerate(places.items()))

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
        """Return the orthonormal directions of one subspace that are swapped, (D, k), without gradient."""
        return self[key].basis()

    def share(self) -> Tensor:
        """Return the share of directions inside of the learned boundaries, b / r, as a mean; with gradient.

        It is what the term `boundary` of the objective holds down.
        """
        shares = [share for key in self if (share := self[key].share()) is not None]
        return torch.stack(shares).mean()

    def set_progress(self, done: float | None) -> None:
        """Set how hard learned boundaries are, which training makes ever harder.

        Args:
            done: The share of the training that is done, from 0 to 1; `None` after it, for swaps of whole directions.
        """
        for key, place in self.places.items():
            softest = max(1.0, _SOFTEST * place.rank)
            self[key].temperature = None if done is None else softest * (_HARDEST / softest) ** done

    def decided(self) -> LearnedSubspaces:
        """Return the subspaces as training left them: each of its k directions, with a rotation of its own.

        They are these themselves, if no boundary was learned and no rotation is shared.
        """
        if all(place.kept is not None or not (place.boundary or place.shared) for place in self.places.values()):
            return self
        places = {key: replace(place, kept=self[key].directions) for key, place in self.places.items()}
        found = LearnedSubspaces(places)
        found.steps = self.steps
        found._learned = nn.ModuleList(self[key].alone() for key in self)
        return found

    def refuse_decided(self) -> None:
        """Refuse subspaces that cannot be trained as they are declared, since they are those of a file or `decided`.

        Raises:
            UserError: If one has lost its boundary, or its part in a shared rotation.
        """
        for key, place in self.places.items():
            if place.kept is not None and (place.boundary or place.shared):
                what = "how many directions are swapped" if place.boundary else "its part of a shared rotation"
                raise UserError(
                    f"subspace {key} of {place.component} can't be trained further: {what} was decided when it was "
                    "saved; make new ones with new_subspaces"
                )

    def keys_of(self, side: SideName) -> list[str]:
        """Return the keys of one side's subspaces."""
        return [key for key in self.places if _is_of_teacher(key) == (side == "teacher")]

    def fits(self, sites: Mapping[str, Sequence[ResolvedSite]], side: SideName) -> bool:
        """Say whether those of one side are subspaces of just its sites that swap one, declared alike."""
        wanted = {
            site.subspace.key: (site.write, site.subspace.rank, site.subspace.boundary, site.subspace.shared)
            for several in sites.values()
            for site in several
            if site.subspace is not None
        }
        own = {key: self.places[key] for key in self.keys_of(side)}
        return wanted == {
            key: (place.component, place.rank, place.boundary, place.shared) for key, place in own.items()
        }

    def described(self) -> dict[str, dict[str, int | str]]:
        """Return, by key, where every subspace is and how many of its directions are swapped, as plain data."""
        return {
            key: {
                "component": place.component,
                "neurons": place.width,
                "rank": place.rank,
                "directions": self[key].directions,
            }
            for key, place in self.places.items()
        }

    def save(self, path: str | Path) -> None:
        """Write the subspaces, as they are `decided`, to a file, from which `load` reads them bit for bit.

        It is a file of safetensors. The tensors of a subspace are called by its key, a slash, and their names in the
        state of a `pyvene.LowRankRotatedSpaceIntervention`, so stock pyvene can load them, too.
        """
        decided = self.decided()
        weights = {
            f"{key}/{name}": value.detach().cpu().contiguous()
            for key in decided
            for name, value in decided[key].state_dict().items()
        }
        places = {key: vars(place) for key, place in decided.places.items()}
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


def _shared_rotations(places: Mapping[str, LearnedPlace], seed: int) -> dict[str, tuple[nn.Module, int]]:
    """Return new rotations by the keys of the subspaces that share them, with the first column of each."""
    together: dict[tuple[bool, str], list[str]] = {}
    for key, place in places.items():
        if place.shared and place.kept is None:
            together.setdefault((_is_of_teacher(key), place.component), []).append(key)
    found: dict[str, tuple[nn.Module, int]] = {}
    for keys in together.values():
        first = places[keys[0]]
        ends = list(itertools.accumulate(places[key].rank for key in keys))
        if ends[-1] > first.width:
            raise UserError(
                f"subspaces {', '.join(keys)} share a rotation of {first.component}: their ranks add up to {ends[-1]}, "
                f"but the site has {first.width} neurons; give ranks that add up to {first.width} at most"
            )
        rotation: Any = SubspaceInterchange(first.width, ends[-1], seed + list(places).index(keys[0])).rotate_layer
        for key, start in zip(keys, [0, *ends], strict=False):
            found[key] = (rotation, start)
    return found


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
        UserError: As for `LearnedSubspaces`.
    """
    places = {
        site.subspace.key: LearnedPlace(
            site.write,
            activations[site.read].shape[-1],
            site.subspace.rank,
            site.subspace.boundary,
            site.subspace.shared,
        )
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

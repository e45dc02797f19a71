"""pyvene 0.1.8 with its silent traps closed: the one file that touches pyvene's private members.

Bare pyvene 0.1.8 raises no error in any of these cases. After a call with an integer position, it keeps using one
example's positions for the whole batch. It deletes every forward hook on the model (users', FSDP's, transformers' own).
It writes in place into tensors that sibling modules share. It ignores sites whose module never runs. Building a view on
a model freezes the model. It empties the dictionaries and extends the lists it is called with, and mixes up threads.
See `docs/gotchas.md`; `tests/traps` holds a test for each.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from iit_toolkit.errors import UserError

with contextlib.redirect_stdout(io.StringIO()):  # importing pyvene prints a notice about an optional package
    import pyvene as pv

_locks: WeakKeyDictionary[nn.Module, threading.RLock] = WeakKeyDictionary()


def lock(model: nn.Module) -> threading.RLock:
    """Return the model's lock: hooks belong to the model, so two interventions on it must not run at once."""
    return _locks.setdefault(model, threading.RLock())


class SwapIntervention(pv.Intervention):
    """Replaces the base's activation with the source's wherever a mask says so.

    Unlike pyvene's `VanillaIntervention`, it takes a mask instead of index lists. So rows may differ in the number of
    swapped positions, and gradients stay right if lists would have to repeat one.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{**settings, "keep_last_dim": True})

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, base: Tensor, source: Tensor, subspaces: Tensor, **_: Any
    ) -> Tensor:
        """Return the base with the source's values where the mask is true.

        Args:
            base: (B, S, D) activation of the base.
            source: (B, S, D) activation of the source, already moved to the base's positions.
            subspaces: Boolean mask that broadcasts to (B, S, D).
        """
        return torch.where(subspaces, source.to(base.dtype), base)


class SafeIntervenableModel(pv.IntervenableModel):
    """A `pyvene.IntervenableModel` that does what its caller means or raises."""

    _own_handles: list[RemovableHandle]
    _armed: set[str]
    representations: dict[str, Any]
    sorted_keys: list[str]

    def __init__(self, config: Any, model: PreTrainedModel) -> None:
        pv.type_to_dimension_mapping.setdefault(type(model), {})  # pyright: ignore[reportArgumentType]
        trainable = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        modes = [(module, module.training) for module in model.modules()]
        super().__init__(config, model)
        for parameter, flag in trainable:
            parameter.requires_grad_(flag)
        for module, mode in modes:
            if module.training != mode:
                module.training = mode
        self.__dict__["_own_handles"] = []
        self.__dict__["_armed"] = set()

    def _remove_forward_hooks(self) -> None:
        for handle in self._own_handles:
            handle.remove()
        self._own_handles.clear()
        self._armed.clear()

    def _intervention_getter(self, keys: Sequence[str], unit_locations: Any) -> Any:
        handlers = super()._intervention_getter(keys, unit_locations)
        self._own_handles.extend(handlers.handlers)
        return handlers

    def _intervention_setter(self, keys: Sequence[str], *rest: Any, **named: Any) -> Any:
        for key in keys:
            self._own_handles.append(_clone_first(self.intervention_hooks[key], self._component(key)))
        handlers = super()._intervention_setter(keys, *rest, **named)
        self._own_handles.extend(handlers.handlers)
        self._armed.update(keys)
        return handlers

    def _component(self, key: str) -> str:
        return self.representations[key].component

    def _output_validation(self) -> None:
        for key in self._armed:
            collects = isinstance(self.interventions[key], pv.CollectIntervention)
            times = len(self.activations.get(key, [])) if collects else self._intervention_state[key].setter_version()
            if times != 1:
                raise UserError(
                    f"site {self._component(key)} ran {times} times in one forward pass; "
                    "declare a module that runs once"
                )
        for key in self.sorted_keys:
            constant = getattr(self.interventions[key], "is_source_constant", False)
            if key not in self._armed and not constant:
                raise UserError(f"site {self._component(key)} was given no source activation")

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        base: Any,
        sources: Any = None,
        unit_locations: Any = None,
        source_representations: Any = None,
        **named: Any,
    ) -> Any:
        """Run pyvene's forward on copies of the caller's containers, one thread at a time."""
        self.use_fast = False
        if isinstance(source_representations, dict):
            source_representations = dict(source_representations)
        if isinstance(sources, list):
            sources = list(sources)
        with lock(self.model):
            try:
                return super().forward(base, sources, unit_locations, source_representations, **named)
            finally:
                self.use_fast = False


def _clone_first(register: Callable[..., RemovableHandle], component: str) -> RemovableHandle:
    """Make what a site's hook edits a copy, so that whoever else holds the tensor is not changed."""

    def cloned(value: Any) -> Any:
        first = value[0] if isinstance(value, tuple) and value else value
        if not isinstance(first, Tensor):
            raise UserError(
                f"site {component} holds a {type(first).__name__}, not a tensor; "
                "declare a module that takes or gives one"
            )
        return (first.clone(), *value[1:]) if isinstance(value, tuple) else first.clone()

    if register.__name__ == "register_forward_hook":

        def clone_output(_module: nn.Module, _args: Any, output: Any) -> Any:
            return cloned(output)

        return register(clone_output)

    def clone_input(_module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if args:
            return cloned(args), named
        first = next(iter(named))
        return args, {**named, first: cloned(named[first])}

    return register(clone_input, with_kwargs=True)


def collecting_view(model: PreTrainedModel, components: Sequence[str]) -> SafeIntervenableModel:
    """Return a view whose run is the base run and collects these components' whole activations, with gradient."""
    return SafeIntervenableModel(
        pv.IntervenableConfig(
            [{"component": name, "intervention": pv.CollectIntervention(keep_last_dim=True)} for name in components]
        ),
        model,
    )


class SubspaceInterchange(pv.LowRankRotatedSpaceIntervention):
    """Replaces the base's part in a subspace with the source's wherever a mask says so: base + (source - base) W W'.

    The columns of W (D, r) are orthonormal and start at random; they can be learned. They may be some of the columns of
    a rotation that several subspaces share.

    If the boundary is learned, the swap is that of the first k columns of W, where k is 1 or more. In training, k gives
    way to a boundary b between 0 and r, and column j counts sigmoid((b - j - 1/2) / temperature): the mask of Boundless
    DAS (Wu et al. 2023, arXiv 2305.08809) with its lower boundary fixed. A low temperature makes it that of k = b.

    Args:
        width: D, neurons of the site.
        rank: r, dimensions of the subspace.
        seed: Seed of the start.
        boundary: Whether k is learned; else it is r.
        rotation: The rotation that is shared, if one is; its columns are orthonormal.
        first: The first of its columns that is one of W.

    Attributes:
        temperature: That of the boundary; `None` for the swap of k columns.
    """

    def __init__(
        self,
        width: int,
        rank: int,
        seed: int,
        *,
        boundary: bool = False,
        rotation: nn.Module | None = None,
        first: int = 0,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            super().__init__(embed_dim=width, low_rank_dimension=rank, keep_last_dim=True)
        if rotation is not None:
            self.rotate_layer = rotation
        self.temperature: float | None = None
        self._part = slice(first, first + rank)
        self.boundary_logit = nn.Parameter(torch.zeros(())) if boundary else None

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, base: Tensor, source: Tensor, subspaces: Tensor, **_: Any
    ) -> Tensor:
        """Return the base with the source's part in the subspace where the mask is true.

        Args:
            base: (B, S, D) activation of the base.
            source: (B, S, D) activation of the source, already moved to the base's positions.
            subspaces: Boolean mask that broadcasts to (B, S, D).
        """
        soft = self._soft_mask()
        columns = self.swapped_columns() if soft is None else self._columns()
        change = torch.matmul(source.to(columns.dtype), columns) - torch.matmul(base.to(columns.dtype), columns)
        change = torch.matmul(change if soft is None else change * soft, columns.T)
        return (base + torch.where(subspaces, change, 0)).to(base.dtype)

    @property
    def rank(self) -> int:
        """The dimensions r."""
        return self._part.stop - self._part.start

    @property
    def directions(self) -> int:
        """How many directions are swapped: k, or r if the boundary is not learned."""
        if self.boundary_logit is None:
            return self.rank
        boundary = self._boundary(self.boundary_logit.detach())
        return max(1, int(boundary.round().nan_to_num()))  # whoever trains refuses what is not finite

    @property
    def fewest(self) -> int:
        """How many directions are swapped at least: 1, or r if the boundary is not learned."""
        return self.rank if self.boundary_logit is None else 1

    def share(self) -> Tensor | None:
        """Return b / r, with gradient; `None` if the boundary is not learned."""
        return None if self.boundary_logit is None else self._boundary(self.boundary_logit) / self.rank

    def swapped_columns(self) -> Tensor:
        """Return the columns of W that are swapped, (D, k), with gradient."""
        return self._columns()[:, : self.directions]

    def basis(self) -> Tensor:
        """Return the columns of W that are swapped, (D, k), without gradient."""
        return self.swapped_columns().detach().clone()

    def alone(self) -> SubspaceInterchange:
        """Return the subspace of the k columns, with a rotation of its own and no boundary."""
        basis = self.basis()
        found = SubspaceInterchange(len(basis), basis.shape[1], 0).to(basis.device, basis.dtype)
        rotation: Any = found.rotate_layer
        rotation.weight = basis
        return found

    def _columns(self) -> Tensor:
        """Return W (D, r), with gradient."""
        rotation: Any = self.rotate_layer
        return rotation.weight[:, self._part]

    def _boundary(self, logit: Tensor) -> Tensor:
        return self.rank * logit.sigmoid()

    def _soft_mask(self) -> Tensor | None:
        """Return how much each column counts (r,), in training with a learned boundary."""
        if self.boundary_logit is None or self.temperature is None:
            return None
        places = torch.arange(self.rank, dtype=self.boundary_logit.dtype, device=self.boundary_logit.device) + 0.5
        return ((self._boundary(self.boundary_logit) - places) / self.temperature).sigmoid()


class OtherDirectionsInterchange(pv.Intervention):
    """Replaces the base's part outside of some subspaces with the source's wherever a mask says so.

    With d = source - base, and an orthonormal basis Q of what the subspaces span together: base + d - d Q Q'. Of one
    whose boundary is learned, these are the columns inside of it.

    Args:
        subspaces: The subspaces, all of one site; they are linearly independent.
    """

    def __init__(self, subspaces: Sequence[SubspaceInterchange]) -> None:
        super().__init__(keep_last_dim=True)
        self.subspaces = nn.ModuleList(subspaces)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, base: Tensor, source: Tensor, subspaces: Tensor, **_: Any
    ) -> Tensor:
        """Return the base with the source's part outside of the subspaces where the mask is true.

        Args:
            base: (B, S, D) activation of the base.
            source: (B, S, D) activation of the source, already moved to the base's positions.
            subspaces: Boolean mask that broadcasts to (B, S, D).
        """
        learned: list[Any] = list(self.subspaces)
        together = torch.cat([one.swapped_columns() for one in learned], dim=1)
        basis = torch.linalg.qr(together).Q
        difference = source.to(basis.dtype) - base.to(basis.dtype)
        change = difference - torch.matmul(torch.matmul(difference, basis), basis.T)
        return (base + torch.where(subspaces, change, 0)).to(base.dtype)


Directions: TypeAlias = SubspaceInterchange | OtherDirectionsInterchange


def swapping_view(
    model: PreTrainedModel, components: Sequence[str], subspaces: Sequence[Directions | None]
) -> SafeIntervenableModel:
    """Return a view whose run swaps the activations of these components, or a subspace, wherever a mask says so."""
    return SafeIntervenableModel(
        pv.IntervenableConfig(
            [
                {"component": name, "intervention": subspace or SwapIntervention()}
                for name, subspace in zip(components, subspaces, strict=True)
            ]
        ),
        model,
    )


def collect(view: SafeIntervenableModel, inputs: dict[str, Tensor]) -> tuple[Any, list[Tensor]]:
    """Run a collecting view; return the model's outputs and each component's activation, in order."""
    (_, activations), outputs = view(inputs)
    return outputs, activations


def swap(view: SafeIntervenableModel, inputs: dict[str, Tensor], sources: list[Tensor], masks: list[Tensor]) -> Any:
    """Run a swapping view; return the model's outputs.

    Args:
        view: What `swapping_view` returned.
        inputs: The base inputs.
        sources: Per component, the (B, S, D) source activation at the base's positions.
        masks: Per component, a boolean mask that broadcasts to (B, S, D).
    """
    representations = dict(zip(view.sorted_keys, sources, strict=True))
    with parametrize.cached():  # pyvene asks for a rotation three times, and it would be computed each time
        _, outputs = view(inputs, source_representations=representations, subspaces=masks)
    return outputs

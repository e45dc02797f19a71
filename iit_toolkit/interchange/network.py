"""The side of any module of torch that is no model of transformers: an MLP, a CNN, an LSTM.

Its sites are module paths. Legend of shapes: B rows, S positions, D neurons, K classes; C channels of H x W places.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from iit_toolkit.alignment.resolve import ResolvedSite, get_module, split_component
from iit_toolkit.data.batch import Batch
from iit_toolkit.errors import UserError, one_line
from iit_toolkit.interchange.learned import Subspaces
from iit_toolkit.interchange.side import Run
from iit_toolkit.interchange.sited import Sited, swapped_neurons
from iit_toolkit.interchange.swap import Swap

_READ = ("inputs", "input_ids", "pixel_values")
Edit = Callable[[Tensor], Tensor]


class NetworkSide(Sited):
    """A module of torch that takes one tensor and gives the logits (B, K) of classes.

    It reads `inputs` (B, ...) of a batch, or else `input_ids` or `pixel_values`. With `input_ids` (B, S), its sites
    hold (B, S, D). Else rows have one position. Feature maps (B, C, H, W) are held as (B, H * W, C): their neurons are
    channels, and a swap moves a channel at every place. A site's (B, D) or (B, T, D) is flattened to one vector per
    row, (B, 1, ...).

    Args:
        model: The module. It is not changed: hooks live only as long as a run.
        sites: The resolved sites of each variable (`iit_toolkit.alignment.resolve`).
        subspaces: The learned subspaces of those sites that swap one.
    """

    head: nn.Module | None = None

    def __init__(
        self,
        model: nn.Module,
        sites: Mapping[str, Sequence[ResolvedSite]],
        subspaces: Subspaces | None = None,
    ) -> None:
        """Keep the module and the sites."""
        super().__init__(sites, subspaces)
        self.model = model

    def with_sites(self, sites: Mapping[str, Sequence[ResolvedSite]]) -> NetworkSide:
        """Return the same module with other variables."""
        return NetworkSide(self.model, sites, self.subspaces)

    @property
    def module(self) -> nn.Module:
        """The module."""
        return self.model

    @property
    def device(self) -> torch.device:
        """That of the first weight; the CPU if there is none."""
        return next((weight.device for weight in self.model.parameters()), torch.device("cpu"))

    def eval(self) -> None:
        """Set the module to eval mode."""
        if any(module.training for module in self.model.modules()):
            self.model.eval()

    def reads(self, batch: Batch) -> dict[str, Tensor]:
        """Return the one tensor that the module takes.

        Raises:
            UserError: If the batch has none.
        """
        name = next((name for name in _READ if name in batch), None)
        if name is None:
            raise UserError(f"rows need one of {', '.join(_READ)}, which a network reads; they have {', '.join(batch)}")
        return {name: batch[name]}

    def base_run(
        self, inputs: Mapping[str, Tensor], variables: Iterable[str] = (), tokens: Tensor | None = None
    ) -> Run:
        """Run the module, and keep what the variables read.

        Args:
            inputs: What `reads` returns.
            variables: Variables that will be swapped from or into this run.
            tokens: Ignored: there is one answer per row.

        Raises:
            UserError: If a site does not run exactly once, holds no tensor of these rows, or the module gives no logits
                (B, K) or cannot be run.
        """
        del tokens
        activations: dict[str, Tensor] = {}

        def keeping(component: str) -> Edit:
            def keep(value: Tensor) -> Tensor:
                # a copy, as what comes after may change the value in place: blocks of a ResNet add to it
                activations[component] = self._positioned(value, component, inputs).clone()
                return value

            return keep

        components = dict.fromkeys(site.read for name in variables for site in self.sites[name])
        with contextlib.ExitStack() as stack:
            for component in components:
                stack.enter_context(self._editing(component, keeping(component)))
            run = self._run(inputs)
        run.activations = activations
        return run

    def source_run(self, inputs: Mapping[str, Tensor], variables: Iterable[str]) -> Run:
        """Run as `base_run`."""
        return self.base_run(inputs, variables)

    def counterfactual_run(
        self, base: Run, variable: str, swap: Swap, *, source: Run | None = None, tokens: Tensor | None = None
    ) -> Run:
        """Run the base again with the source's activations at the sites of one variable.

        Args:
            base: The base run, made with this variable.
            variable: The variable that is swapped.
            swap: The rows and positions that activations move between.
            source: The source run, made with this variable; the base run itself if absent (in-batch sources).
            tokens: Ignored: there is one answer per row.

        Raises:
            UserError: As for `base_run`, or if a site has fewer neurons than its range names, or is a subspace that
                was not given.
        """
        del tokens
        activations = (source or base).activations

        def putting(component: str) -> Edit:
            def put(value: Tensor) -> Tensor:
                rows = self._positioned(value, component, base.inputs)
                tokens = "input_ids" in base.inputs
                spread = swap if tokens else _at_every_place(swap, rows.shape[1])
                for site in self.sites[variable]:
                    if site.write == component:
                        taken = activations[site.read]
                        if taken.shape[-1] != rows.shape[-1] or not (tokens or taken.shape[1] == rows.shape[1]):
                            raise UserError(
                                f"site {component} holds (rows, positions, neurons) {list(rows.shape)}, but "
                                f"{site.read}, which it takes from, holds {list(taken.shape)}; read a site of its size"
                            )
                        mask, directions = swapped_neurons(spread, site, rows.shape[-1]), self.directions(site)
                        swapped = spread.take(taken).to(rows.dtype)
                        if directions is None:
                            rows = torch.where(mask, swapped, rows)
                        else:
                            rows = directions(rows, swapped, mask)
                changed = (rows.transpose(1, 2) if value.dim() > 3 else rows).reshape(value.shape)
                if changed.stride() == value.stride():
                    return changed
                return torch.empty_like(value).copy_(changed)  # laid out as before, or convolutions round otherwise

            return put

        with contextlib.ExitStack() as stack:
            for component in {site.write for site in self.sites[variable]}:
                stack.enter_context(self._editing(component, putting(component)))
            return self._run(base.inputs)

    def aligned_activation(self, run: Run, variable: str) -> Tensor:
        """Return (B, S, D) the activation at a variable's last site, where it is read; (B, 1, D) without tokens."""
        activation = super().aligned_activation(run, variable)
        return activation if "input_ids" in run.inputs else activation.flatten(1)[:, None]

    def logits(self, run: Run) -> Tensor:
        """Return a run's logits (B, K)."""
        assert run.logits is not None
        return run.logits

    def _run(self, inputs: Mapping[str, Tensor]) -> Run:
        """Run the module; its `hidden` is what the module that gives the logits reads, or else the logits."""
        last: list[tuple[object, object]] = [(None, None)]

        def keep(_module: nn.Module, args: tuple[object, ...], output: object) -> None:
            last[0] = args[0] if args else None, output

        ((name, given),) = inputs.items()
        handles = [one.register_forward_hook(keep) for one in self.model.modules() if not any(one.children())]
        try:
            logits = self.model(given)
        except UserError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise UserError(
                f"{type(self.model).__name__} cannot be run on {name} of shape {list(given.shape)} and type "
                f"{str(given.dtype).removeprefix('torch.')} ({type(error).__name__}: {one_line(error)}); give it what "
                "it reads"
            ) from error
        finally:
            for handle in handles:
                handle.remove()
        if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(given):
            shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise UserError(
                f"{type(self.model).__name__} gives {shape} for {len(given)} rows; give a network whose output are "
                "the logits of classes, (rows, classes)"
            )
        read, output = last[0]
        whole = isinstance(read, Tensor) and output is logits and len(read) == len(logits)
        hidden = read if whole and isinstance(read, Tensor) else logits
        return Run(dict(inputs), None, logits, hidden.flatten(1)[:, None])

    def _positioned(self, value: Tensor, component: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return a site's tensor as (B, S, D)."""
        ids = inputs.get("input_ids")
        if ids is not None:
            if value.dim() != 3 or value.shape[:2] != ids.shape:
                raise UserError(
                    f"site {component} holds a tensor of shape {list(value.shape)} for {len(ids)} rows and "
                    f"{ids.shape[1]} tokens; sites need (batch, positions, neurons)"
                )
            return value
        rows = len(next(iter(inputs.values())))
        if not value.dim() or len(value) != rows:
            raise UserError(
                f"site {component} holds a tensor of shape {list(value.shape)} for {rows} rows; sites need "
                "(batch, neurons)"
            )
        return in_places(value)

    @contextlib.contextmanager
    def _editing(self, component: str, edit: Edit) -> Generator[None, None, None]:
        """Put a site's tensor through a function in the next run, and refuse a site that does not run once."""
        ran: list[None] = []

        def edited(value: Any) -> Any:
            ran.append(None)
            first = value[0] if isinstance(value, tuple) and value else value
            if not isinstance(first, Tensor):
                raise UserError(
                    f"site {component} holds a {type(first).__name__}, not a tensor; declare a module that takes or "
                    "gives one"
                )
            return (edit(first), *value[1:]) if isinstance(value, tuple) else edit(first)

        def of_input(_module: nn.Module, args: Any) -> Any:
            return edited(args)

        def of_output(_module: nn.Module, _args: Any, output: Any) -> Any:
            return edited(output)

        module, kind = get_module(self.model, component), split_component(component)[1]
        handle = (
            module.register_forward_hook(of_output) if kind == "output" else module.register_forward_pre_hook(of_input)
        )
        try:
            yield
        finally:
            handle.remove()
        if len(ran) != 1:
            raise UserError(f"site {component} ran {len(ran)} times in a forward pass; declare a module that runs once")


def in_places(value: Tensor) -> Tensor:
    """Return what a site without tokens holds as (B, S, D).

    Feature maps (B, C, H, W) have H * W places with C neurons. Anything else, (B, ...), has one place.
    """
    return value.flatten(2).transpose(1, 2) if value.dim() > 3 else value.flatten(1)[:, None]


def _at_every_place(swap: Swap, places: int) -> Swap:
    """Return a swap of rows that have one position as a swap of every place of their feature maps."""
    rows = len(swap.source)
    own = torch.arange(places, device=swap.mask.device).expand(rows, places)
    return Swap(swap.source, swap.mask.expand(rows, places), own)

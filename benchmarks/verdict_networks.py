"""Small networks with known insides, as sides whose variables are neurons of a layer.

A state is the same at all positions, so a swap overwrites all of it or nothing. Legend of shapes: B rows, S positions,
W neurons of a layer, C answers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from iit_toolkit.data.batch import Batch, model_inputs
from iit_toolkit.interchange import Run, Swap

Stage = Callable[[Tensor], Tensor]
"""Makes a layer's state of the one before; the first makes it of the objects (B, 4), the last one makes logits."""


@dataclass(frozen=True)
class Site:
    """Some neurons of a layer.

    Attributes:
        layer: The layer; 0 is the first.
        neurons: The neurons.
        basis: (W, W) orthogonal; the neurons are coordinates in it. `None`: the layer's own neurons.
    """

    layer: int
    neurons: tuple[int, ...]
    basis: Tensor | None = None

    def overwrite(self, state: Tensor, taken: Tensor) -> Tensor:
        """Return a state (B, W) with these neurons of another."""
        chosen = torch.zeros(state.shape[1], dtype=torch.bool)
        chosen[list(self.neurons)] = True
        if self.basis is None:
            return torch.where(chosen, taken, state)
        return state + ((taken - state) @ self.basis * chosen) @ self.basis.T


@dataclass(frozen=True)
class Network:
    """Stages, and where the variables are in the states between them.

    Attributes:
        stages: One per layer, and the last for the logits.
        sites: The variables.
    """

    stages: tuple[Stage, ...]
    sites: Mapping[str, Site]

    def states(self, objects: Tensor) -> list[Tensor]:
        """Return the state (B, W) of every layer."""
        found = [objects]
        for stage in self.stages[:-1]:
            found.append(stage(found[-1]))
        return found[1:]

    def logits(self, layer: int, state: Tensor) -> Tensor:
        """Return the logits (B, C) that follow from a layer's state."""
        for stage in self.stages[layer + 1 :]:
            state = stage(state)
        return state


@dataclass(frozen=True)
class NetworkSide:
    """A network as a side, as `iit_toolkit.interchange.Side` describes it.

    Attributes:
        network: The network.
        first_token: The token of object 0.
        controls: Further sites.
    """

    network: Network
    first_token: int
    controls: Mapping[str, Site] = field(default_factory=dict[str, Site])
    module: nn.Module | None = None
    head: nn.Module | None = None
    device: torch.device = torch.device("cpu")

    @property
    def sites(self) -> dict[str, Site]:
        """The sites of variables and controls."""
        return {**self.controls, **self.network.sites}

    @property
    def variables(self) -> Collection[str]:
        """What can be swapped."""
        return self.sites.keys()

    def eval(self) -> None:
        """Do nothing: runs are always those of evaluation."""

    def reads(self, batch: Batch) -> dict[str, Tensor]:
        """Return the tokens, with their mask."""
        return model_inputs(batch)

    def places(self, variable: str) -> Collection[str]:
        """Return the layer of a variable."""
        return [_place(self.sites[variable].layer)]

    def reads_what_it_writes(self, variable: str) -> bool:
        """Return true: every site is read where it is written."""
        return variable in self.sites

    def aligned_activation(self, run: Run, variable: str) -> Tensor:
        """Return the layer's state (B, S, W)."""
        return run.activations[_place(self.sites[variable].layer)]

    def base_run(
        self,
        inputs: Mapping[str, Tensor],
        variables: Iterable[str] = (),
        tokens: Tensor | None = None,  # noqa: ARG002
    ) -> Run:
        """Run the inputs, and keep the states that the variables read."""
        ids = inputs["input_ids"]
        states = self.network.states(ids - self.first_token)
        layers = {self.sites[name].layer for name in variables}
        held = {_place(layer): _everywhere(states[layer], ids.shape[1]) for layer in layers}
        return self._run(dict(inputs), len(states) - 1, states[-1], held)

    def source_run(self, inputs: Mapping[str, Tensor], variables: Iterable[str]) -> Run:
        """Run the inputs, and keep the states that the variables read."""
        return self.base_run(inputs, variables)

    def counterfactual_run(
        self,
        base: Run,
        variable: str,
        swap: Swap,
        *,
        source: Run | None = None,
        tokens: Tensor | None = None,  # noqa: ARG002
    ) -> Run:
        """Run the base again with the source's neurons at one site."""
        site = self.sites[variable]
        place = _place(site.layer)
        state, taken = base.activations[place][:, 0], swap.take((source or base).activations[place])[:, 0]
        swapped = torch.where(swap.mask[:, :1], site.overwrite(state, taken), state)
        return self._run(base.inputs, site.layer, swapped, {})

    def logits(self, run: Run) -> Tensor:
        """Return a run's logits (B, C)."""
        assert run.logits is not None
        return run.logits

    def _run(self, inputs: dict[str, Any], layer: int, state: Tensor, held: dict[str, Tensor]) -> Run:
        hidden = _everywhere(state, inputs["input_ids"].shape[1])
        return Run(inputs, None, self.network.logits(layer, state), hidden, held)


def _place(layer: int) -> str:
    return f"layer {layer}"


def _everywhere(state: Tensor, positions: int) -> Tensor:
    return state[:, None].expand(-1, positions, -1)


@dataclass(frozen=True)
class Dense:
    """A linear map with a ReLU.

    Attributes:
        weight: (W', W).
        bias: (W',).
        relu: Whether there is the ReLU.
    """

    weight: Tensor
    bias: Tensor
    relu: bool = True

    def __call__(self, state: Tensor) -> Tensor:
        """Map a state (B, W) to the next (B, W')."""
        found = torch.nn.functional.linear(state, self.weight, self.bias)
        return found.relu() if self.relu else found


def wired(
    shape: tuple[int, int],
    weights: Mapping[tuple[int, int], float],
    biases: Mapping[int, float] | None = None,
    relu: bool = True,
) -> Dense:
    """Return a linear map that is zero but for some weights and biases.

    Args:
        shape: (W', W).
        weights: By neuron of the new layer and of the old one.
        biases: By neuron of the new layer.
        relu: Whether there is a ReLU.
    """
    weight, bias = torch.zeros(shape), torch.zeros(shape[0])
    for place, value in weights.items():
        weight[place] = value
    for place, value in (biases or {}).items():
        bias[place] = value
    return Dense(weight, bias, relu)


def permuted(network: Network, generator: torch.Generator) -> Network:
    """Return a network of dense stages with the neurons of all layers but the first in another order."""
    stages, order = [network.stages[0]], None
    orders: list[Tensor | None] = [None]
    for number, stage in enumerate(network.stages[1:], 1):
        assert isinstance(stage, Dense)
        weight, bias = stage.weight if order is None else stage.weight[:, order], stage.bias
        last = number == len(network.stages) - 1
        order = torch.arange(len(bias)) if last else torch.randperm(len(bias), generator=generator)
        stages.append(Dense(weight[order], bias[order], stage.relu))
        orders.append(order)
    sites = {name: _reordered(site, orders[site.layer]) for name, site in network.sites.items()}
    return Network(tuple(stages), sites)


def _reordered(site: Site, order: Tensor | None) -> Site:
    if order is None:
        return site
    place = order.argsort().tolist()
    return Site(site.layer, tuple(place[neuron] for neuron in site.neurons))


def rotated(network: Network, layer: int, width: int, generator: torch.Generator) -> Network:
    """Return a network with a layer in a rotated basis, and with its sites in that basis."""
    rotation = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
    write, read = network.stages[layer], network.stages[layer + 1]
    stages = list(network.stages)
    stages[layer] = partial(_then, write, Dense(rotation.T, torch.zeros(width), relu=False))
    stages[layer + 1] = partial(_then, Dense(rotation, torch.zeros(width), relu=False), read)
    sites = {
        name: Site(layer, site.neurons, rotation.T) if site.layer == layer else site
        for name, site in network.sites.items()
    }
    return Network(tuple(stages), sites)


def _then(first: Stage, second: Stage, state: Tensor) -> Tensor:
    return second(first(state))


def noisy(network: Network, sizes: Sequence[float], generator: torch.Generator) -> Network:
    """Return a network with errors that follow from the state before, but look like noise.

    Args:
        network: The network.
        sizes: Standard deviation of the errors of each stage.
        generator: Draws what the errors are.
    """
    seeds = torch.randint(2**31, (len(network.stages),), generator=generator).tolist()
    stages = [
        _with_errors(stage, size, seed) if size else stage
        for stage, size, seed in zip(network.stages, sizes, seeds, strict=True)
    ]
    return Network(tuple(stages), network.sites)


def _with_errors(stage: Stage, size: float, seed: int) -> Stage:
    def with_errors(state: Tensor) -> Tensor:
        made = stage(state)
        generator = torch.Generator().manual_seed(seed)
        directions = 40 * torch.randn(state.shape[1], made.shape[1], generator=generator)
        return made + size * 2**0.5 * torch.sin(state.float() @ directions + 1)

    return with_errors

"""Students of `equality` that learned by interchange interventions, on the right map or on a wrong one."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from benchmarks.verdict_equality import equality_teacher
from benchmarks.verdict_networks import Network, Site
from benchmarks.verdict_tasks import OBJECTS, V1, V2, bits

WIDTH, STEPS, BATCH = 64, 1500, 512
_SITES = {V1: Site(1, tuple(range(8))), V2: Site(1, tuple(range(8, 16)))}


class _Layer(nn.Sequential):
    """A linear map with a ReLU; the first layer reads the bits of objects."""

    def __init__(self, width: int, first: bool = False) -> None:
        """Make the layer for states of this width."""
        super().__init__(nn.Linear(width, WIDTH), nn.ReLU())
        self._first = first

    def forward(self, input: Tensor) -> Tensor:
        """Return the next state."""
        return super().forward(2 * bits(input) - 1 if self._first else input)


@cache
def trained(crossed: bool = False) -> Network:
    """Train a student to answer as the teacher does, without interventions and with one of V1 and one of V2.

    Args:
        crossed: Whether it is trained with V1 at its neurons of V2, and the other way round.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        stages = nn.ModuleList([_Layer(16, first=True), *(_Layer(WIDTH) for _ in range(3)), nn.Linear(WIDTH, 2)])
        student, teacher = Network(tuple(stages), _SITES), equality_teacher()
        optimizer = torch.optim.Adam(stages.parameters(), lr=2e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
        for _ in range(STEPS):
            objects = drawn_objects(BATCH)
            loss = torch.zeros(())
            for variable in (None, V1, V2):
                theirs = {V1: V2, V2: V1}.get(variable or "") if crossed else variable
                with torch.no_grad():
                    truth = swapped(teacher, objects, theirs).softmax(1)
                loss = loss + nn.functional.cross_entropy(swapped(student, objects, variable), truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    stages.requires_grad_(False)
    return student


def drawn_objects(count: int) -> Tensor:
    """Draw objects (B, 4) from torch's generator; the four patterns are about equally often there."""
    objects = torch.randint(OBJECTS, (count, 4))
    for first in (0, 2):
        other = (objects[:, first] + torch.randint(1, OBJECTS, (count,))) % OBJECTS
        objects[:, first + 1] = torch.where(torch.rand(count) < 0.5, objects[:, first], other)
    return objects


def swapped(network: Network, objects: Tensor, variable: str | None) -> Tensor:
    """Return the logits (B, C), with a variable of the row before if one is given."""
    states = network.states(objects)
    layer = len(states) - 1 if variable is None else network.sites[variable].layer
    state = states[layer]
    if variable is not None:
        state = network.sites[variable].overwrite(state, state.roll(1, 0))
    return network.logits(layer, state)

"""How many swapped states lie farther from natural ones than natural ones do.

Interventions can put a model into states that no input leads to, and an answer from there says little about how it
computes (arXiv 2511.04638 measures this by the distance between natural and intervened states). Here states are those
that answers are read from: the last hidden states at the evaluated tokens, or their mean over the tokens of a row in
classification. Their distance is that to the nearest natural state of another text, with every neuron scaled to unit
variance. The null are natural states: by definition, `NATURAL` of them lie farther than its threshold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from iit_toolkit.analysis.statistics.control_results import NATURAL, OffManifold
from iit_toolkit.analysis.statistics.estimates import Estimate
from iit_toolkit.analysis.statistics.resampling import Resampled
from iit_toolkit.analysis.statistics.sums import sum_by_cluster
from iit_toolkit.analysis.verification.cases import Cases, Pairs
from iit_toolkit.analysis.verification.measured_runs import Runs, groups
from iit_toolkit.interchange import Side

MANIFOLD_PAIRS = 128
"""States of so many pairs are compared."""


@dataclass
class _States:
    """States of some cases, (N, D), with the inputs and texts that they come from, (N,)."""

    state: list[Tensor] = field(default_factory=list[Tensor])
    base: list[Tensor] = field(default_factory=list[Tensor])
    source: list[Tensor] = field(default_factory=list[Tensor])
    base_text: list[Tensor] = field(default_factory=list[Tensor])
    source_text: list[Tensor] = field(default_factory=list[Tensor])

    def add(self, state: Tensor, cases: Cases) -> None:
        """Add the states of a batch, of answers outside the swapped positions."""
        outside = ~cases.inside
        self.state.append(state.float().cpu()[outside])
        for name in ("base", "source", "base_text", "source_text"):
            getattr(self, name).append(getattr(cases, name)[outside])

    def column(self, name: str) -> Tensor:
        """Return a column of all batches."""
        return torch.cat(getattr(self, name))


def off_manifold(
    models: Mapping[str, Side], variables: Sequence[str], batches: Iterable[Pairs], seed: int = 0
) -> list[OffManifold]:
    """Return the share of swapped states that lie off the natural ones, by variable and model.

    Args:
        models: The teacher, whose name is empty, and a student.
        variables: The variables that are swapped.
        batches: Pairs of base and source.
        seed: Of the bootstrap.
    """
    natural = {model: _States() for model in models}
    swapped = {(variable, model): _States() for variable in variables for model in models}
    grouped = groups(variables, [(side, {one: [one] for one in variables}) for side in models.values()])
    for pairs in batches:
        for group in grouped:
            for model, side in models.items():
                runs = Runs(side, pairs, group, f"student {model}" if model else "teacher")
                if group is grouped[0]:
                    natural[model].add(runs.states(), pairs.cases)
                for variable in group:
                    swapped[variable, model].add(runs.counterfactual_states(variable), pairs.cases)
    return [
        OffManifold(variable, model, _share(_far(states, natural[model]), states, seed))
        for (variable, model), states in swapped.items()
        if len(states.column("base"))
    ]


def _far(states: _States, natural: _States) -> Tensor:
    """Return which states lie farther from natural ones than all but `NATURAL` of the natural ones do."""
    deviation = natural.column("state").std(0)
    scale = torch.where(deviation > 0, 1 / deviation, 0.0)
    null = _distances(natural, natural, scale)
    threshold = null.sort().values[math.ceil((1 - NATURAL) * len(null)) - 1]
    return _distances(states, natural, scale) > threshold


def _distances(states: _States, natural: _States, scale: Tensor) -> Tensor:
    """Return how far each state lies from the nearest natural one of a text other than its base's and its source's.

    Returns:
        (N,); infinite if there is no other text, and so never off.
    """
    distances = torch.cdist(states.column("state") * scale, natural.column("state") * scale)
    texts = natural.column("base_text")
    for name in ("base_text", "source_text"):
        distances.masked_fill_(states.column(name)[:, None] == texts, torch.inf)
    return distances.amin(1)


def _share(far: Tensor, states: _States, seed: int) -> Estimate:
    columns = {name: states.column(name).numpy() for name in ("base", "source", "base_text", "source_text")}
    pairs, codes = np.unique(np.stack(list(columns.values())), axis=1, return_inverse=True)
    cases = {"far": far.numpy(), "cases": np.ones(len(far))}
    sums = sum_by_cluster(codes, cases, pairs.shape[1])
    return Resampled(sums, **dict(zip(columns, pairs, strict=True)), seed=seed).share("far", "cases")

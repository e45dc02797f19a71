"""One side of an alignment, as everything above the engine sees it: something that runs with interventions.

`InterchangeModel` is the side of a transformers model, `NetworkSide` of any other module, `ProgramSide` of a program.
Rows that have no positions count as rows of one position. Legend of shapes: B rows, S positions, D neurons, N evaluated
tokens, V words, C classes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from iit_toolkit.data.batch import Batch
from iit_toolkit.interchange.swap import Swap


@dataclass
class Run:
    """What one run of a side gave.

    Attributes:
        inputs: The inputs.
        features: (N, D) what enters the output embedding at the N evaluated tokens, in row-major order; `None` for
            models whose logits are not a linear function of it.
        logits: (N, V) logits at the evaluated tokens, if `features` is `None`; (B, C) for classification.
        hidden: (B, S, D) last hidden state.
        activations: (B, S, D) activation of every place that the run's variables read.
        block_outputs: What the blocks returned from which counterfactual runs restart.
    """

    inputs: dict[str, Any]
    features: Tensor | None
    logits: Tensor | None
    hidden: Tensor
    activations: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    block_outputs: dict[int, Any] = field(default_factory=dict[int, Any])

    def at(self, rows: Tensor | slice) -> Run:
        """Return this run with its answers at some of the N evaluated tokens, chosen by (N,) booleans or a slice."""
        features, logits = (None if given is None else given[rows] for given in (self.features, self.logits))
        return replace(self, features=features, logits=logits)


class Side(Protocol):
    """A teacher or a student whose named variables can be swapped between inputs."""

    @property
    def module(self) -> nn.Module | None:
        """What holds the weights, if there are any."""
        ...

    @property
    def device(self) -> torch.device:
        """Where inputs are read."""
        ...

    @property
    def variables(self) -> Collection[str]:
        """The variables that can be swapped."""
        ...

    @property
    def head(self) -> nn.Module | None:
        """The output embedding, if there is one: its `weight` (V, D) maps a run's features to logits."""
        ...

    def eval(self) -> None:
        """Let runs be those of evaluation, without dropout."""
        ...

    def reads(self, batch: Batch) -> dict[str, Tensor]:
        """Return the part of a batch that a run of this side reads."""
        ...

    def places(self, variable: str) -> Collection[str]:
        """Return the places whose activations a run keeps for a variable."""
        ...

    def reads_what_it_writes(self, variable: str) -> bool:
        """Say whether swapping an input with itself changes nothing by construction."""
        ...

    def aligned_activation(self, run: Run, variable: str) -> Tensor:
        """Return (B, S, D) what a run made with a variable holds of it; if several places do, at the last."""
        ...

    def base_run(
        self, inputs: Mapping[str, Tensor], variables: Iterable[str] = (), tokens: Tensor | None = None
    ) -> Run:
        """Run the inputs, and keep what counterfactual runs of these variables need.

        Args:
            inputs: What is read, as `reads` returns it.
            variables: Variables that will be swapped from or into this run.
            tokens: (B, S) boolean, where logits are evaluated; everywhere if absent. Ignored in classification.
        """
        ...

    def source_run(self, inputs: Mapping[str, Tensor], variables: Iterable[str]) -> Run:
        """Run inputs as far as counterfactual runs take activations from them; the logits are not meaningful."""
        ...

    def counterfactual_run(
        self, base: Run, variable: str, swap: Swap, *, source: Run | None = None, tokens: Tensor | None = None
    ) -> Run:
        """Run the base again with the source's activations at the places of one variable.

        Args:
            base: The base run, made with this variable.
            variable: The variable that is swapped.
            swap: The rows and positions that activations move between.
            source: The source run, made with this variable; the base run itself if absent (in-batch sources).
            tokens: As for `base_run`.
        """
        ...

    def logits(self, run: Run) -> Tensor:
        """Return a run's logits at its evaluated tokens (N, V), or per example (B, C) in classification."""
        ...

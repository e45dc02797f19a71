"""The runs that are measured: a model on a batch of pairs, without and with interventions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from iit_toolkit.analysis.verification.cases import Pairs
from iit_toolkit.interchange import Run, Side, Swap
from iit_toolkit.models.finite import refuse_non_finite_answers

_NOTICEABLE = 1e-4  # a change of hidden states that is no rounding, relative to the largest of the row
_PLACES = 8  # a base run keeps the activations of at most so many places for its variables


class Runs:
    """One model's base run on a batch of pairs, from which its counterfactual runs start.

    Args:
        side: The model with its variables.
        pairs: The batch.
        variables: The variables that will be swapped.
        what: What messages call the model.
    """

    def __init__(self, side: Side, pairs: Pairs, variables: Sequence[str], what: str = "the model") -> None:
        side.eval()
        device = side.device
        self.side = side
        self._what = what
        self._rows = pairs.cases.base
        self.swap = pairs.swap.to(device)
        self._bases = pairs.bases
        self._tokens = None if pairs.cases.tokens is None else pairs.cases.tokens.to(device)
        self._base = side.base_run(_inputs(side, pairs.base), variables, self._tokens)
        self._source = None if pairs.source is None else side.source_run(_inputs(side, pairs.source), variables)

    def base(self) -> Tensor:
        """Return the logits of the base run: (N, V) at the evaluated tokens, or (B, C) in sequence classification."""
        return self._logits(self._base, "")

    def states(self) -> Tensor:
        """Return what the answers of the base run are read from: (N, D) at the evaluated tokens, or (B, D)."""
        return self._states(self._base)

    def widths(self) -> dict[str, int]:
        """Return how many neurons every place has that the variables read."""
        return {place: activation.shape[-1] for place, activation in self._base.activations.items()}

    def counterfactual(self, variable: str, swap: Swap | None = None) -> Tensor:
        """Return the logits, as `base`, with the sources' activations at the sites of one variable.

        Args:
            variable: The variable that is swapped.
            swap: Which activations go where, if not as the pairs say.
        """
        return self._logits(self._swapped(variable, swap), f" with {variable} swapped")

    def counterfactual_states(self, variable: str) -> Tensor:
        """Return what these answers are read from, as `states`."""
        return self._states(self._swapped(variable, None))

    def unread(self, variable: str | None = None, swap: Swap | None = None) -> Callable[[slice], Tensor]:
        """Run the base, or one variable's swap, and return what computes its logits for some of the cases.

        So the answers of many variables can be held side by side, a few cases at a time.

        Args:
            variable: The variable that is swapped; the base run if absent.
            swap: Which activations go where, if not as the pairs say.
        """
        run, how = self._base, ""
        if variable is not None:
            run = self._swapped(variable, swap)
            how = f" with {variable} swapped"
        features, logits = run.features, run.logits  # nothing else is kept: there is one for every layer

        def read(cases: slice) -> Tensor:
            some = (None if one is None else one[cases] for one in (features, logits))
            return self._logits(Run({}, *some, hidden=torch.empty(0)), how, cases)

        return read

    def affects_unswapped_positions(self, variable: str) -> bool:
        """Return whether the swap of one variable changes hidden states outside the swapped positions."""
        swapped = self._swapped(variable, None)
        real = self._base.inputs["attention_mask"].bool()
        change, largest = (
            one.abs().amax(-1).masked_fill(~real, 0) for one in (swapped.hidden - self._base.hidden, self._base.hidden)
        )
        changed = change > _NOTICEABLE * largest.amax(1, keepdim=True)
        return bool((changed & ~self.swap.mask).any())

    def self_swapped(self, variable: str) -> Tensor:
        """Return the logits, as `base`, with every example's own activations put in their own places."""
        run = self.side.counterfactual_run(self._base, variable, self._own(), tokens=self._tokens)
        return self._logits(run, f" with {variable} swapped with itself")

    def first_order(self, variable: str, quantity: Callable[[Tensor], Tensor]) -> Tensor:
        """Estimate what the swap of each single neuron does to a quantity of the answers: gradient times change.

        One run forward and backward of what is above the swap gives the estimates of all neurons. So does attribution
        patching: Nanda 2023, "Attribution patching: activation patching at industrial scale"
        (neelnanda.io/mechanistic-interpretability/attribution-patching); Syed, Rager and Conmy 2023, "Attribution
        patching outperforms automated circuit discovery", arXiv 2310.10348.

        Args:
            variable: A variable at one place.
            quantity: Of the logits as `base` returns them, a sum over cases.

        Returns:
            (B, S, D) at every position that is swapped, and 0 at others.
        """
        [place] = self.side.places(variable)
        activation = self._base.activations[place].detach()
        change = self.swap.take((self._source or self._base).activations[place]) - activation
        with torch.enable_grad():
            leaf = activation.clone().requires_grad_()
            own = replace(self._base, activations={place: leaf})
            run = self.side.counterfactual_run(self._base, variable, self._own(), source=own, tokens=self._tokens)
            [slope] = torch.autograd.grad(quantity(self._logits(run, "")), leaf)
        return (slope * change).masked_fill(~self.swap.mask[:, :, None], 0)

    def _own(self) -> Swap:
        """Return the swap that puts every example's own activations in their own places."""
        rows, length = self.swap.mask.shape
        device = self.swap.mask.device
        places = torch.arange(length, device=device).expand(rows, length)
        return Swap(torch.arange(rows, device=device), self.swap.mask, places)

    def _swapped(self, variable: str, swap: Swap | None) -> Run:
        swap = self.swap if swap is None else swap.to(self.swap.mask.device)
        return self.side.counterfactual_run(self._base, variable, swap, source=self._source, tokens=self._tokens)

    def _states(self, run: Run) -> Tensor:
        if self._tokens is not None:
            return run.hidden[self._tokens]
        hidden = run.hidden[: self._bases]
        if "attention_mask" not in run.inputs:
            return hidden.mean(1)
        real = run.inputs["attention_mask"][: self._bases, :, None]
        return (hidden * real).sum(1) / real.sum(1)

    def _logits(self, run: Run, how: str, cases: slice = slice(None)) -> Tensor:
        """Return the logits of a run where answers are read, which are never NaN: that would count as an answer."""
        logits = self.side.logits(run)
        logits = (
            logits[: self._bases] if self._tokens is None else logits
        )  # in sequence classification, of the base rows
        return refuse_non_finite_answers(logits, self._rows[cases], self._what + how, self.side.module)


def _inputs(side: Side, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to(side.device) for name, value in side.reads(batch).items()}


def groups(variables: Sequence[str], swaps: Sequence[tuple[Side, Mapping[str, Sequence[str]]]]) -> list[list[str]]:
    """Part variables into groups that share base runs, so that what a run holds does not grow with their number.

    A variable joins the first group that has room for its places.

    Args:
        variables: The variables.
        swaps: The models, each with the names of what is swapped in it for a variable.

    Returns:
        Groups of one variable, or of more whose swaps together read at most 8 places of any model.
    """
    found: list[tuple[list[str], list[set[str]]]] = []
    for variable in variables:
        read = [{place for name in names[variable] for place in side.places(name)} for side, names in swaps]
        for group, held in found:
            if all(len(one | two) <= _PLACES for one, two in zip(held, read, strict=True)):
                group.append(variable)
                held[:] = [one | two for one, two in zip(held, read, strict=True)]
                break
        else:
            found.append(([variable], read))
    return [group for group, _ in found]

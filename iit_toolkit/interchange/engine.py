"""The interchange engine: one base run that supplies all sources, counterfactual runs that restart in the middle."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.alignment.resolve import ResolvedSite
from iit_toolkit.data.batch import Batch, model_inputs
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import pyvene_guard
from iit_toolkit.interchange.hooks import (
    block_outputs,
    called_with,
    last_hidden_state,
    restart_after,
    stopped_after,
    stopped_at_vocabulary,
)
from iit_toolkit.interchange.learned import Subspaces
from iit_toolkit.interchange.measured import can_restart, can_stop, head_is_linear
from iit_toolkit.interchange.side import Run
from iit_toolkit.interchange.sited import Sited, swapped_neurons
from iit_toolkit.interchange.swap import Swap
from iit_toolkit.models.loading import plain_outputs


class InterchangeModel(Sited):
    """One side of an alignment on its live model, with the two runs that interchange interventions need.

    The counterfactual run shares the base run's computation, gradients and dropout masks up to the lowest swapped
    block. With `share_prefix=False` it is computed from the input, with dropout masks of its own. The same holds if a
    run on one row shows that the model allows no restart, e.g. because its blocks share keys.

    Args:
        model: The teacher or the student. It is not changed: hooks live only as long as a run.
        sites: The resolved sites of each variable (`iit_toolkit.alignment.resolve`).
        share_prefix: Whether counterfactual runs restart after the last block that no swap reaches.
        subspaces: The learned subspaces of those sites that swap one.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        sites: Mapping[str, Sequence[ResolvedSite]],
        *,
        share_prefix: bool = True,
        subspaces: Subspaces | None = None,
    ) -> None:
        super().__init__(sites, subspaces)
        self.model = model
        self._share_prefix = share_prefix
        self.restart_blocks = {name: _cut(variable) if share_prefix else None for name, variable in self.sites.items()}
        self.last_read_blocks = {name: _end(variable) for name, variable in self.sites.items()}
        self._collecting: dict[tuple[str, ...], pyvene_guard.SafeIntervenableModel] = {}
        self._swapping: dict[str, pyvene_guard.SafeIntervenableModel] = {}
        self._head_is_linear: bool | None = None
        self._restarts: dict[int, bool] = {}
        self._stops: dict[int, bool] = {}

    def measure(self, inputs: Mapping[str, Tensor]) -> None:
        """Find out where counterfactual runs can restart, and set `restart_blocks`; base runs do it by themselves."""
        with pyvene_guard.lock(self.model):
            self._settle_cuts(self.sites, called_with(self.model, inputs))

    @property
    def module(self) -> nn.Module:
        """The model."""
        return self.model

    @property
    def device(self) -> torch.device:
        """The model's."""
        return self.model.device

    def eval(self) -> None:
        """Set the model to eval mode."""
        if any(module.training for module in self.model.modules()):  # setting the mode takes longer than looking
            self.model.eval()

    def with_sites(self, sites: Mapping[str, Sequence[ResolvedSite]]) -> InterchangeModel:
        """Return the same model with other variables."""
        return InterchangeModel(self.model, sites, share_prefix=self._share_prefix, subspaces=self.subspaces)

    def reads(self, batch: Batch) -> dict[str, Tensor]:
        """Return the model's inputs.

        Raises:
            UserError: If the batch is of `TensorRows`, which a network reads.
        """
        read = model_inputs(batch)
        if "inputs" in batch and self.model.main_input_name not in read:
            raise UserError(
                f"{type(self.model).__name__} reads {self.model.main_input_name}, but the rows hold `inputs`; give a "
                "torch.nn.Module that holds the model, reads `inputs` and gives the logits of classes"
            )
        return read

    @property
    def head(self) -> nn.Module | None:
        """The output embedding (vocabulary projection), if the model has one."""
        return self.model.get_output_embeddings()

    def base_run(
        self, inputs: Mapping[str, Tensor], variables: Iterable[str] = (), tokens: Tensor | None = None
    ) -> Run:
        """Run the model and keep what counterfactual runs of these variables need.

        Args:
            inputs: The model's inputs; (B, S) `input_ids`, or (B, C, H, W) `pixel_values`, first.
            variables: Variables that will be swapped from or into this run.
            tokens: (B, S) boolean, where logits are evaluated; everywhere if absent. Ignored in classification.

        Raises:
            UserError: If a site never runs, holds no sequence, or lies inside a block that gradient checkpointing would
                run twice.
        """
        names = tuple(variables)
        self._refuse_checkpointed_sites(names)
        with self._alone():
            self._settle_cuts(names, called_with(self.model, inputs))
            wanted = {cut for name in names if (cut := self.restart_blocks[name]) is not None}
            recording = block_outputs(blocks(self.model), wanted) if wanted else contextlib.nullcontext({})
            with recording as outputs:
                run = self._collected(inputs, names, tokens)
                run.block_outputs = outputs
        return run

    def source_run(self, inputs: Mapping[str, Tensor], variables: Iterable[str]) -> Run:
        """Run the model only as far as counterfactual runs take activations from it; its answers mean nothing.

        For sources that are not rows of the base's own batch.

        Args:
            inputs: The model's inputs, as for `base_run`.
            variables: Variables that will be swapped from this run.

        Raises:
            UserError: As for `base_run`.
        """
        names = tuple(variables)
        self._refuse_checkpointed_sites(names)
        ends = [self.last_read_blocks[name] for name in names]
        last = None if None in ends else max((end for end in ends if end is not None), default=None)
        ids = inputs.get("input_ids")
        nowhere = None if ids is None else torch.zeros_like(ids, dtype=torch.bool)
        with self._alone():
            if last is not None and last not in self._stops:
                self._stops[last] = can_stop(self.model, last, called_with(self.model, inputs))
            stop = last if last is not None and self._stops[last] else None
            with contextlib.nullcontext() if stop is None else stopped_after(blocks(self.model), stop):
                return self._collected(inputs, names, nowhere)

    def counterfactual_run(
        self, base: Run, variable: str, swap: Swap, *, source: Run | None = None, tokens: Tensor | None = None
    ) -> Run:
        """Run the base again with the source's activations at the sites of one variable.

        Args:
            base: The base run, made with this variable.
            variable: The variable that is swapped.
            swap: The rows and positions that activations move between.
            source: The source run, made with this variable; the base run itself if absent (in-batch sources).
            tokens: As for `base_run`.

        Raises:
            UserError: If a site never runs, has fewer neurons than its range names, is a subspace that was not given,
                or lies inside a block that gradient checkpointing would run twice.
        """
        self._refuse_checkpointed_sites((variable,))
        sites = self.sites[variable]
        activations = (source or base).activations
        sources = [swap.take(activations[site.read]) for site in sites]
        masks = [swapped_neurons(swap, site, moved.shape[-1]) for site, moved in zip(sites, sources, strict=True)]
        cut = self.restart_blocks[variable]
        restart = (
            contextlib.nullcontext() if cut is None else restart_after(blocks(self.model), cut, base.block_outputs[cut])
        )
        with self._alone(), restart:
            view = self._swapping.get(variable)
            if view is None:
                view = self._swapping[variable] = self._swapping_view(variable)
            run, _ = self._evaluate(
                lambda: (pyvene_guard.swap(view, base.inputs, sources, masks), None), base.inputs, tokens
            )
        return run

    @contextlib.contextmanager
    def _alone(self) -> Generator[None, None, None]:
        """Keep other threads from the model, whose outputs are plain meanwhile."""
        with pyvene_guard.lock(self.model), plain_outputs(self.model):
            yield

    def _swapping_view(self, variable: str) -> pyvene_guard.SafeIntervenableModel:
        sites = self.sites[variable]
        components, subspaces = [site.write for site in sites], [self.directions(site) for site in sites]
        return pyvene_guard.swapping_view(self.model, components, subspaces)

    def logits(self, run: Run) -> Tensor:
        """Return a run's logits at its evaluated tokens (N, V), or per example (B, C) in classification."""
        if run.logits is not None:
            return run.logits
        assert run.features is not None and self.head is not None
        with pyvene_guard.lock(self.model):
            return self.head(run.features)

    def _collected(self, inputs: Mapping[str, Tensor], variables: tuple[str, ...], tokens: Tensor | None) -> Run:
        """Run the model, and collect every activation that the variables read."""
        kept = called_with(self.model, inputs)
        components = tuple(dict.fromkeys(site.read for name in variables for site in self.sites[name]))
        if not components:
            return self._evaluate(lambda: (self.model(**kept), None), kept, tokens)[0]
        view = self._collecting.get(components)
        if view is None:
            view = self._collecting[components] = pyvene_guard.collecting_view(self.model, components)
        run, activations = self._evaluate(lambda: pyvene_guard.collect(view, kept), kept, tokens)
        for component, activation in zip(components, activations, strict=True):
            refuse_other_shape(component, activation.shape, kept)
        run.activations = dict(zip(components, activations, strict=True))
        return run

    def _evaluate(self, forward: Any, inputs: dict[str, Any], tokens: Tensor | None) -> tuple[Run, Any]:
        """Run `forward`, which returns (the model's outputs, anything), stopping at the vocabulary if possible."""
        rows = None if tokens is None else tokens.flatten().nonzero().squeeze(1)
        if self._head_is_linear is None:
            self._head_is_linear = head_is_linear(self.model, inputs)
        if self._head_is_linear:
            with last_hidden_state(self.model) as hidden, stopped_at_vocabulary(self.model, rows) as features:
                _, rest = forward()
            return Run(inputs, features[-1], None, hidden[-1]), rest
        with last_hidden_state(self.model) as hidden:
            outputs, rest = forward()
        logits: Tensor = outputs.logits
        if logits.dim() == 3:
            logits = logits.flatten(0, 1)
            logits = logits if rows is None else logits.index_select(0, rows)
        return Run(inputs, None, logits, hidden[-1]), rest

    def _settle_cuts(self, variables: Iterable[str], inputs: Mapping[str, Any]) -> None:
        """Let the counterfactual runs of variables start at the input, if the model allows no restart."""
        for name in variables:
            cut = self.restart_blocks[name]
            if cut is None:
                continue
            if cut not in self._restarts:
                self._restarts[cut] = can_restart(self.model, cut, inputs)
            if not self._restarts[cut]:
                self.restart_blocks[name] = None

    def _refuse_checkpointed_sites(self, variables: Iterable[str]) -> None:
        inside = [(name, site) for name in variables for site in self.sites[name] if site.inside_block]
        if inside and self.model.training and torch.is_grad_enabled() and self.model.is_activation_checkpointing:
            name, site = inside[0]
            raise UserError(
                f"variable {name!r}: {site.write} is in a block, which gradient checkpointing runs twice; "
                "use block_input or block_output sites, or turn gradient_checkpointing off"
            )


def _cut(sites: Sequence[ResolvedSite]) -> int | None:
    cuts = [site.restart_block for site in sites]
    return None if None in cuts else min(cut for cut in cuts if cut is not None)


def _end(sites: Sequence[ResolvedSite]) -> int | None:
    ends = [site.last_read_block for site in sites]
    return None if None in ends else max(end for end in ends if end is not None)


def refuse_other_shape(component: str, shape: Sequence[int], inputs: Mapping[str, Any]) -> None:
    """Raise a `UserError` if a site's tensor is not (batch, positions, neurons) of the inputs."""
    ids = inputs.get("input_ids")
    if len(shape) != 3 or (ids is not None and tuple(shape[:2]) != tuple(ids.shape)):
        if not shape:
            raise UserError(f"site {component} holds no tensor; declare a module that takes or gives one")
        of = "" if ids is None else f" for inputs of {len(ids)} rows and {ids.shape[1]} tokens"
        raise UserError(
            f"site {component} holds a tensor of shape {list(shape)}{of}; sites need (batch, positions, neurons)"
        )

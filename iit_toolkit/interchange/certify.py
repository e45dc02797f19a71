"""Certification: what must hold on the live models before anything is spent on them, checked by running them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from iit_toolkit.alignment import Alignment, ResolvedSite, resolve
from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.alignment.resolve import SideName, get_module, split_component
from iit_toolkit.config.task import Task
from iit_toolkit.data.batch import Batch, model_inputs, paired_sources
from iit_toolkit.errors import UserError
from iit_toolkit.interchange.answers import same_tokens
from iit_toolkit.interchange.checks import Check, attempt
from iit_toolkit.interchange.engine import InterchangeModel, refuse_other_shape
from iit_toolkit.interchange.learned import subspaces_at
from iit_toolkit.interchange.measured import evaluating
from iit_toolkit.interchange.reading import require_order, require_padding
from iit_toolkit.interchange.sampling import Sampler
from iit_toolkit.interchange.sound import refuse_unfit, refuse_unsound
from iit_toolkit.interchange.swap import Swap, refuse_empty

_TOLERANCE = 1e-4
_FROZEN = "teacher is frozen"
_Inputs = Mapping[str, Tensor]


def certify(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    alignment: Alignment | None,
    batch: Batch,
    *,
    task: Task = "masked_lm",
    pad: int = 0,
    padded: bool = True,
    trains: bool = True,
) -> list[Check]:
    """Check an alignment on its live models, by running them on a small batch.

    Args:
        teacher: The teacher.
        student: The student.
        alignment: The alignment; without one, only what plain distillation needs is checked.
        batch: At least two rows: model inputs, and `labels` and `special_tokens_mask` if there is an alignment.
        task: What the models are for; those of `causal_lm` must read no later tokens.
        pad: The id that short rows are filled with.
        padded: Whether any row of the data is ever shorter than the others of its batch.
        trains: Whether the student is to be trained, so that gradient must reach it.

    Returns:
        All checks made, in order. A check that others rest on ends the list if it fails: sites are tried only if both
        models read rows as they must, gradients only if both sides can be swapped.

    Raises:
        torch.OutOfMemoryError: As the models do.
    """
    checks = certify_models(teacher, student, batch, task=task, pad=pad, padded=padded)
    if alignment is not None and sites_can_be_tried(checks):
        checks += certify_alignment(teacher, student, alignment, batch, task=task, trains=trains)
    return checks


def sites_can_be_tried(checks: Sequence[Check]) -> bool:
    """Say whether sites can be tried on models with these checks; a teacher that is not frozen can be tried."""
    return all(check.passed or check.name == _FROZEN for check in checks)


def certify_models(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    batch: Batch,
    *,
    task: Task = "masked_lm",
    pad: int = 0,
    padded: bool = True,
) -> list[Check]:
    """Check what must hold of both models under any alignment; see `certify`.

    It also reads the sources of pairs.
    """
    inputs = model_inputs(batch)
    if "source_input_ids" in batch:
        sources = paired_sources(batch)
        inputs = {name: torch.cat([value, sources[name]]) for name, value in inputs.items()}
    sides = {"teacher": teacher, "student": student}
    checks = [attempt(f"{side}: model", one, lambda one=one: refuse_unfit(one, task)) for side, one in sides.items()]
    if not all(check.passed for check in checks):  # what they compute means nothing
        return checks
    same = same_tokens(teacher, student)
    checks += [same, _teacher_is_frozen(teacher)]
    if not same.passed:  # the batch may hold tokens that the student does not know
        return checks
    with evaluating(teacher, student):
        for side, model in sides.items():
            checks.append(attempt(f"{side}: answers", model, lambda model=model: refuse_unsound(model, inputs)))
            if not checks[-1].passed:
                return checks
        for side, model in sides.items():
            checks.append(
                attempt(f"{side}: padding", model, lambda model=model: require_padding(model, inputs, pad, padded))
            )
            if task == "causal_lm" and checks[-1].passed:
                checks.append(attempt(f"{side}: order", model, lambda model=model: require_order(model, inputs)))
    return checks


def _teacher_is_frozen(teacher: PreTrainedModel) -> Check:
    """Check that the teacher is a fixed target: it neither drops out nor learns."""
    if any(module.training for module in teacher.modules()) or any(
        parameter.requires_grad for parameter in teacher.parameters()
    ):
        return Check(_FROZEN, False, "it trains; call teacher.requires_grad_(False).eval()")
    return Check(_FROZEN, True, "in eval mode and without gradients")


def certify_alignment(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    alignment: Alignment,
    batch: Batch,
    *,
    task: Task = "masked_lm",
    trains: bool = True,
) -> list[Check]:
    """Check the sites of an alignment on models that passed `certify_models`; see `certify`."""
    try:
        sampler = Sampler(alignment.positions, alignment.sources, task)
        batch, swap = sampler.within(batch, torch.Generator().manual_seed(0))
        refuse_empty(swap, alignment.positions)
    except UserError as error:
        return [Check("positions", False, str(error))]
    checks = [
        Check(
            "positions", True, f"{int(swap.mask.sum())} positions of {int(swap.mask.any(1).sum())} rows can be swapped"
        )
    ]
    inputs = model_inputs(batch)
    with evaluating(teacher, student):
        checks += _certify_side("teacher", teacher, alignment, inputs, swap)
        checks += _certify_side("student", student, alignment, inputs, swap)
        if trains and all(check.passed for check in checks):
            checks += _gradients(student, alignment, inputs, swap)
    return checks


def _certify_side(
    side: SideName,
    model: PreTrainedModel,
    alignment: Alignment,
    inputs: _Inputs,
    swap: Swap,
) -> list[Check]:
    try:
        sites = resolve(alignment, model, side)
    except UserError as error:
        return [Check(f"{side}: sites exist", False, str(error))]
    checks = [Check(f"{side}: sites exist", True, f"sites found: {sum(map(len, sites.values()))}")]
    checks.append(attempt(f"{side}: sites fire once", model, lambda: _sites_fire(model, sites, inputs)))
    if checks[-1].passed:
        for name in sites:
            checks.append(
                attempt(
                    f"{side}: self-swap of {name}",
                    model,
                    lambda name=name: _self_swap(model, sites[name], inputs, swap),
                )
            )
    return checks


@torch.no_grad()
def _sites_fire(model: PreTrainedModel, sites: Mapping[str, tuple[ResolvedSite, ...]], inputs: _Inputs) -> str:
    """Check that every place runs exactly once, gives (B, S, D), and is as wide as its declared ranges need."""
    components = {component for found in sites.values() for site in found for component in (site.read, site.write)}
    if "input_ids" in inputs and len(inputs["input_ids"]) == inputs["input_ids"].shape[1]:
        inputs = {name: value[:-1] for name, value in inputs.items()}  # so that rows are not taken for positions
    engine = InterchangeModel(model, {})
    engine.base_run(inputs)  # measures the model's head, by further runs
    shapes: dict[str, list[tuple[int, ...]]] = {component: [] for component in components}
    handles: list[Any] = []
    for component in components:
        module, kind = get_module(model, component), split_component(component)[1]

        def keep(_module: nn.Module, args: Any, named: Any, output: Any = None, component: str = component) -> None:
            value = output if output is not None else (args or tuple(named.values()))
            first = value[0] if isinstance(value, tuple) and value else value
            shapes[component].append(tuple(first.shape) if isinstance(first, Tensor) else ())

        register = module.register_forward_hook if kind == "output" else module.register_forward_pre_hook
        handles.append(register(keep, with_kwargs=True))
    try:
        engine.base_run(inputs)
    finally:
        for handle in handles:
            handle.remove()
    for component, seen in shapes.items():
        if len(seen) != 1:
            raise UserError(
                f"{component} ran {len(seen)} times in a forward pass; choose a module that runs exactly once"
            )
        refuse_other_shape(component, seen[0], inputs)
    for found in sites.values():
        for site in found:
            _require_ranges(site, shapes[site.read][0][-1], shapes[site.write][0][-1])
    widths = ", ".join(f"{component} {seen[0][-1]} wide" for component, seen in sorted(shapes.items()))
    return f"measured {widths}"


def _require_ranges(site: ResolvedSite, read_width: int, write_width: int) -> None:
    if read_width != write_width:
        raise UserError(f"{site.write} is {write_width} wide but reads {site.read}, {read_width} wide")
    for low, high in site.ranges or ():
        if high > write_width:
            raise UserError(f"{site.write}: neurons [{low}, {high}) go beyond its width of {write_width}")


@torch.no_grad()
def _self_swap(model: PreTrainedModel, sites: tuple[ResolvedSite, ...], inputs: _Inputs, swap: Swap) -> str:
    """Check that swapping an example with itself leaves the logits bit for bit as they are.

    However runs are made, a swap must give the same: restarted or from the input, with sources of the base run or of a
    run of their own.
    """
    rows, length = swap.mask.shape
    own = Swap(torch.arange(rows), swap.mask, torch.arange(length).expand(rows, length))
    reads_elsewhere = any(site.read != site.write for site in sites)
    changed: list[Tensor] = []
    for share_prefix in (True, False):
        engine = InterchangeModel(model, {"": sites}, share_prefix=share_prefix)
        base = engine.base_run(inputs, ("",))
        engine.subspaces = subspaces_at((engine.sites, base.activations))
        counterfactual = engine.counterfactual_run(base, "", own.to(model.device))
        if not reads_elsewhere and not torch.equal(engine.logits(base), engine.logits(counterfactual)):
            raise UserError(
                "an example swapped with itself changes the logits; the site's module is not deterministic, or "
                "shares its output with others"
            )
        source = None if share_prefix else engine.source_run(inputs, ("",))
        changed.append(engine.logits(engine.counterfactual_run(base, "", swap.to(model.device), source=source)))
    difference = float((changed[0] - changed[1]).abs().max() / changed[1].abs().max())
    if not difference <= _TOLERANCE:
        raise UserError(
            "a swap gives other logits if the run restarts from the base run (relative difference "
            f"{difference:.1e}); use other sites, or another model"
        )
    if reads_elsewhere:
        return "reads elsewhere than it writes, so a self-swap is no identity"
    return "logits stay bit for bit the same"


def _gradients(student: PreTrainedModel, alignment: Alignment, inputs: _Inputs, swap: Swap) -> list[Check]:
    """Check that gradient reaches the student through its base run and its source run, in training mode."""
    sites = resolve(alignment, student, "student")
    checks: list[Check] = []
    student.train()
    with torch.random.fork_rng():  # dropout must not move the generators of the training
        for name in sites:
            norms: dict[str, float] = {}
            run = attempt(
                f"student: gradient of {name}",
                student,
                lambda name=name, norms=norms: _measure_gradients(student, sites[name], inputs, swap, norms),
            )
            if not run.passed:
                checks.append(run)
            for where, norm in norms.items():
                detail = (
                    "arrives below the site"
                    if norm > 0
                    else "none arrives; unfreeze the student below the site, and let none of its dropouts be 1"
                )
                checks.append(Check(f"student: gradient through the {where} run of {name}", norm > 0, detail))
    return checks


def _measure_gradients(
    student: PreTrainedModel, sites: tuple[ResolvedSite, ...], inputs: _Inputs, swap: Swap, norms: dict[str, float]
) -> str:
    """Put the norm of the gradient that arrives below the sites through either run into `norms`."""
    engine = InterchangeModel(student, {"": sites})
    row = int(swap.mask.any(1).nonzero()[0])
    source_row = int(swap.source[row])
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _args: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        if isinstance(first, Tensor) and first.requires_grad and len(first) == len(swap.mask):
            kept.append(first)

    handles = [module.register_forward_hook(keep) for module in _below(student, sites)]
    try:
        base = engine.base_run(inputs, ("",))
        engine.subspaces = subspaces_at((engine.sites, base.activations))
        counterfactual = engine.counterfactual_run(base, "", swap.to(student.device))
    finally:
        for handle in handles:
            handle.remove()
    for where, hidden, reached in (("base", base.hidden, row), ("source", counterfactual.hidden, source_row)):
        found = ()
        if kept and hidden.requires_grad:
            loss = hidden[row].square().sum()
            found = torch.autograd.grad(loss, kept, retain_graph=True, allow_unused=True)
        gradients = cast(tuple[Tensor | None, ...], found)
        norms[where] = sum(float(gradient[reached].norm()) for gradient in gradients if gradient is not None)
    return "gradient arrives"


def _below(student: PreTrainedModel, sites: tuple[ResolvedSite, ...]) -> list[nn.Module]:
    """Return modules through which gradient goes on from the sites: embeddings, and blocks up to the highest site.

    Not every model calls its input embeddings: encoder and decoder of T5 have their own modules for the same weights.
    """
    found = [module for module in student.modules() if isinstance(module, nn.Embedding)]
    embeddings: Any = student.get_input_embeddings()
    last = max((site.last_read_block for site in sites if site.last_read_block is not None), default=None)
    return list(dict.fromkeys([*found, embeddings, *(blocks(student)[: last + 1] if last is not None else [])]))

"""Certification: what must hold on the live models before anything is spent on them, checked by running them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from iit_toolkit.alignment import Alignment, ResolvedSite, resolve
from iit_toolkit.alignment.resolve import Side, get_module, split_component
from iit_toolkit.errors import UserError, one_line
from iit_toolkit.interchange.engine import InterchangeModel, refuse_other_shape
from iit_toolkit.interchange.sound import refuse_unfit, refuse_unsound
from iit_toolkit.interchange.swap import Swap, draw_swap, other_rows, refuse_empty
from iit_toolkit.pretrained import plain_outputs
from iit_toolkit.tasks import Task, readable_tokens

_TOLERANCE = 1e-3
_PADDING = 3
_Inputs = Mapping[str, Tensor]


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    Attributes:
        name: What was checked.
        passed: Whether it holds.
        detail: What was seen; where it failed, what is wrong and the remedy, in one line.
    """

    name: str
    passed: bool
    detail: str


def certify(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    alignment: Alignment | None,
    inputs: _Inputs,
    eligible: Tensor,
    predicted: Tensor | None = None,
    swap: Swap | None = None,
    *,
    task: Task = "masked_lm",
    pad: int = 0,
) -> list[Check]:
    """Check an alignment on its live models, by running them on a small batch.

    Args:
        teacher: The teacher.
        student: The student.
        alignment: The alignment; without one, only what plain distillation needs is checked.
        inputs: Model inputs of at least two rows; `input_ids` (B, S) with `attention_mask`, or `pixel_values`.
        eligible: (B, S) boolean; positions that are neither padding nor special.
        predicted: (B, S) boolean; positions whose token is predicted, for `masked` positions.
        swap: The swap to try, between rows of the inputs; drawn by the alignment when absent.
        task: What the models are for; of `causal_lm`, that they read no later tokens is checked.
        pad: The id that short rows are filled with.

    Returns:
        All checks made, in order. A check that others rest on ends the list when it fails.
    """
    modes = [(module, module.training) for model in (teacher, student) for module in model.modules()]
    sides = {"teacher": teacher, "student": student}
    checks = [_attempt(f"{side}: model", lambda one=one: refuse_unfit(one, task)) for side, one in sides.items()]
    if not all(check.passed for check in checks):  # what they compute means nothing
        return checks
    checks += [_same_answers(teacher, student), _teacher_is_frozen(teacher)]
    if not checks[-2].passed:  # the batch may hold tokens that the student does not know
        return checks
    teacher.eval()
    student.eval()
    try:
        for side, model in sides.items():
            checks.append(_attempt(f"{side}: answers", lambda model=model: refuse_unsound(model, inputs)))
            if not checks[-1].passed:
                return checks
        for side, model in sides.items():
            checks.append(_attempt(f"{side}: padding", lambda model=model: _padding(model, inputs, pad)))
            if task == "causal_lm":
                checks.append(_attempt(f"{side}: order", lambda model=model: _order(model, inputs)))
        if alignment is not None:
            checks += _certify_alignment(teacher, student, alignment, inputs, eligible, predicted, swap)
    finally:
        for module, mode in modes:
            module.training = mode
    return checks


def refuse_failed(checks: Sequence[Check]) -> None:
    """Raise for the first failed check.

    Raises:
        UserError: Naming the check and the remedy.
    """
    for check in checks:
        if not check.passed:
            raise UserError(f"{check.name}: {check.detail}")


def same_tokenizer(teacher: PreTrainedTokenizerBase, student: PreTrainedTokenizerBase) -> Check:
    """Check that both sides have the same vocabulary and special tokens."""
    name = "same tokenizer"
    ours, theirs = teacher.get_vocab(), student.get_vocab()
    if ours != theirs:
        differing = next((token for token in ours | theirs if ours.get(token) != theirs.get(token)), "")
        return Check(name, False, f"token {differing!r} differs; teacher and student must share one tokenizer")
    if teacher.special_tokens_map != student.special_tokens_map:
        return Check(name, False, "special tokens differ; teacher and student must share one tokenizer")
    return Check(name, True, f"{len(ours)} tokens and the special tokens agree")


def class_names(config: PreTrainedConfig) -> dict[int, str]:
    """Return what a model's classes are called, by number."""
    return {int(number): str(name) for number, name in (config.id2label or {}).items()}


def class_elsewhere(ours: Mapping[int, str], theirs: Mapping[int, str]) -> tuple[str, int, int] | None:
    """Return a class that both sides name and number otherwise, in lower case, with our number and theirs.

    Names that only one side has, and those that say no more than a number (`LABEL_0`), cannot be compared.
    """
    numbers = {name.casefold(): number for number, name in ours.items()}
    for number, name in theirs.items():
        known = numbers.get(name.casefold(), number)
        if known != number and not re.fullmatch(r"(label[ _]?)?\d+", name.casefold()):
            return name.casefold(), known, number
    return None


def _same_answers(teacher: PreTrainedModel, student: PreTrainedModel) -> Check:
    """Vocabularies (or label sets) must agree for answers to be compared."""
    for key, noun in (("vocab_size", "tokens"), ("num_labels", "labels")):
        if teacher.get_output_embeddings() is None and key == "vocab_size":
            continue
        ours, theirs = getattr(teacher.config, key, None), getattr(student.config, key, None)
        if ours != theirs:
            return Check(
                "same answers",
                False,
                f"teacher has {ours} {noun}, student {theirs}; make the student from the teacher's config",
            )
    read = [model.get_input_embeddings() for model in (teacher, student)]
    theirs, ours = (one.num_embeddings if isinstance(one, nn.Embedding) else 0 for one in read)
    if 0 < ours < theirs:
        return Check(
            "same answers",
            False,
            f"teacher reads {theirs} tokens, student {ours}; make the student from the teacher's config",
        )
    other = class_elsewhere(class_names(teacher.config), class_names(student.config))
    if type(teacher).__name__.endswith("Classification") and other is not None:
        name, ours, theirs = other
        return Check(
            "same answers",
            False,
            f"class {name} is number {ours} of the teacher, {theirs} of the student; give both the same id2label, as "
            "their heads have them",
        )
    return Check("same answers", True, "teacher and student choose among the same answers")


def _teacher_is_frozen(teacher: PreTrainedModel) -> Check:
    """A teacher that drops out or learns is no fixed target."""
    name = "teacher is frozen"
    if any(module.training for module in teacher.modules()) or any(
        parameter.requires_grad for parameter in teacher.parameters()
    ):
        return Check(name, False, "it trains; call teacher.requires_grad_(False).eval()")
    return Check(name, True, "in eval mode and without gradients")


@torch.no_grad()
def _padding(model: PreTrainedModel, inputs: _Inputs, pad: int) -> str:
    """A row must give the same hidden states, and in classification the same answer, alone as padded in a batch."""
    if "attention_mask" not in inputs or "input_ids" not in inputs:
        return "inputs have no padding"
    length = inputs["attention_mask"].shape[1]
    limit = readable_tokens(model) or math.inf
    cut = min(_PADDING, length - 1) if length + _PADDING > limit else 0  # where there is no room, less is read
    row = {name: value[:1, : length - cut] for name, value in inputs.items()}
    padded = {
        name: nn.functional.pad(value, (0, cut or _PADDING), value=pad if name == "input_ids" else 0).expand(2, -1)
        for name, value in row.items()
    }
    engine = InterchangeModel(model, {})
    real = row["attention_mask"][0].bool()
    try:
        together = engine.base_run(padded)
    except UserError:
        raise
    except ValueError as error:  # such as that of a classifier of the last token that knows no padding token
        remedy = _pad_remedy(pad) if model.config.pad_token_id is None else "give a model that reads padded rows"
        raise UserError(f"a padded batch cannot be run ({one_line(error)}); {remedy}") from None
    alone = engine.base_run({name: value[:, real] for name, value in row.items()})
    difference = _difference(together.hidden[0][: len(real)][real], alone.hidden[0])
    if difference > _TOLERANCE:
        raise UserError(
            f"padding changes the hidden states by {difference:.1e} of their size; the model must use attention_mask"
        )
    if together.logits is not None and together.logits.shape[0] == 2:
        assert alone.logits is not None
        changed = _difference(together.logits[0], alone.logits[0])
        if changed > _TOLERANCE:
            raise UserError(
                f"padding changes the answer by {changed:.1e} of its size: rows are filled with token {pad}, the "
                f"model takes {model.config.pad_token_id} for padding; {_pad_remedy(pad)}"
            )
    return f"padding changes hidden states by {difference:.0e} of their size"


def _pad_remedy(pad: int) -> str:
    return f"set pad_token_id in the model's config to the tokenizer's, {pad}"


@torch.no_grad()
def _order(model: PreTrainedModel, inputs: _Inputs) -> str:
    """A causal language model must not read the tokens that it is to predict."""
    longest = int(inputs["attention_mask"].sum(1).argmax())
    real = inputs["attention_mask"][longest].bool()
    if int(real.sum()) < 2:
        return "rows of one token have no order"
    row = {name: value[longest : longest + 1, real] for name, value in inputs.items()}
    other = {**row, "input_ids": row["input_ids"].clone()}
    other["input_ids"][0, -1] = (other["input_ids"][0, -1] + 1) % model.config.vocab_size
    engine = InterchangeModel(model, {})
    before, after = (engine.base_run(one).hidden[0, :-1] for one in (row, other))
    difference = _difference(after, before)
    if difference > _TOLERANCE:
        raise UserError(
            f"{type(model).__name__} reads ahead: another last token changes the hidden states before it by "
            f"{difference:.1e} of their size; use task masked_lm, or a model that reads from left to right"
        )
    return "tokens are read from left to right"


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


def _certify_alignment(
    teacher: PreTrainedModel,
    student: PreTrainedModel,
    alignment: Alignment,
    inputs: _Inputs,
    eligible: Tensor,
    predicted: Tensor | None,
    swap: Swap | None,
) -> list[Check]:
    try:
        swap = swap or _draw(alignment, eligible, predicted)
        refuse_empty(swap, alignment.positions)
    except UserError as error:
        return [Check("positions", False, str(error))]
    checks = [
        Check(
            "positions", True, f"{int(swap.mask.sum())} positions of {int(swap.mask.any(1).sum())} rows can be swapped"
        )
    ]
    checks += _certify_side("teacher", teacher, alignment, inputs, swap)
    checks += _certify_side("student", student, alignment, inputs, swap)
    if all(check.passed for check in checks):
        checks += _gradients(student, alignment, inputs, swap)
    return checks


def _certify_side(
    side: Side,
    model: PreTrainedModel,
    alignment: Alignment,
    inputs: _Inputs,
    swap: Swap,
) -> list[Check]:
    try:
        sites = resolve(alignment, model, side)
    except UserError as error:
        return [Check(f"{side}: sites exist", False, str(error))]
    checks = [Check(f"{side}: sites exist", True, f"{sum(map(len, sites.values()))} sites found")]
    checks.append(_attempt(f"{side}: sites fire once", lambda: _sites_fire(model, sites, inputs)))
    if checks[-1].passed:
        for name in sites:
            checks.append(
                _attempt(
                    f"{side}: self-swap of {name}",
                    lambda name=name: _self_swap(model, sites, name, inputs, swap),
                )
            )
    return checks


def _attempt(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except UserError as error:
        return Check(name, False, str(error))


@torch.no_grad()
def _sites_fire(model: PreTrainedModel, sites: Mapping[str, tuple[ResolvedSite, ...]], inputs: _Inputs) -> str:
    """Every place must run exactly once, give (B, S, D), and be as wide as the ranges declared on it need."""
    components = {component for found in sites.values() for site in found for component in (site.read, site.write)}
    if "input_ids" in inputs and len(inputs["input_ids"]) == inputs["input_ids"].shape[1]:
        inputs = {name: value[:-1] for name, value in inputs.items()}  # so that rows are not taken for positions
    shapes: dict[str, list[tuple[int, ...]]] = {component: [] for component in components}
    handles: list[Any] = []
    for component in components:
        module, kind = get_module(model, component), split_component(component)[1]

        def keep(_module: nn.Module, args: Any, named: Any, output: Any = None, component: str = component) -> None:
            value = output if output is not None else (args or tuple(named.values()))
            first = value[0] if isinstance(value, tuple) else value
            shapes[component].append(tuple(first.shape) if isinstance(first, Tensor) else ())

        register = module.register_forward_hook if kind == "output" else module.register_forward_pre_hook
        handles.append(register(keep, with_kwargs=True))
    try:
        with plain_outputs(model):
            model(**inputs)
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
            _check_ranges(site, shapes[site.read][0][-1], shapes[site.write][0][-1])
    widths = ", ".join(f"{component} {seen[0][-1]} wide" for component, seen in sorted(shapes.items()))
    return f"measured {widths}"


def _check_ranges(site: ResolvedSite, read_width: int, write_width: int) -> None:
    if read_width != write_width:
        raise UserError(f"{site.write} is {write_width} wide but reads {site.read}, {read_width} wide")
    for low, high in site.ranges or ():
        if high > write_width:
            raise UserError(f"{site.write}: neurons [{low}, {high}) go beyond its width of {write_width}")


def _draw(alignment: Alignment, eligible: Tensor, predicted: Tensor | None) -> Swap:
    generator = torch.Generator().manual_seed(0)
    source = other_rows(len(eligible), generator)
    return draw_swap(alignment.positions, source, eligible, eligible, generator, predicted)


@torch.no_grad()
def _self_swap(
    model: PreTrainedModel,
    sites: Mapping[str, tuple[ResolvedSite, ...]],
    name: str,
    inputs: _Inputs,
    swap: Swap,
) -> str:
    """Swapping an example with itself must leave the logits bit for bit as they are."""
    if any(site.read != site.write for site in sites[name]):
        return "reads elsewhere than it writes, so a self-swap is no identity"
    rows, length = swap.mask.shape
    own = Swap(torch.arange(rows), swap.mask, torch.arange(length).expand(rows, length))
    for share_prefix in (True, False):
        engine = InterchangeModel(model, sites, share_prefix=share_prefix)
        base = engine.base_run(inputs, (name,))
        counterfactual = engine.counterfactual_run(base, name, own.to(model.device))
        if not torch.equal(engine.logits(base), engine.logits(counterfactual)):
            raise UserError(
                "an example swapped with itself changes the logits; the site's module is not deterministic, or "
                "shares its output with others"
            )
    return "logits stay bit for bit the same"


def _gradients(
    student: PreTrainedModel,
    alignment: Alignment,
    inputs: _Inputs,
    swap: Swap,
) -> list[Check]:
    """The student must receive gradient through its base run and through its source run."""
    sites = resolve(alignment, student, "student")
    engine = InterchangeModel(student, sites)
    row = int(swap.mask.any(1).nonzero()[0])
    source_row = int(swap.source[row])
    checks: list[Check] = []
    for name in sites:
        embedded: list[Tensor] = []
        handle = student.get_input_embeddings().register_forward_hook(
            lambda _module, _args, output, kept=embedded: kept.append(output)
        )
        try:
            base = engine.base_run(inputs, (name,))
            counterfactual = engine.counterfactual_run(base, name, swap.to(student.device))
        finally:
            handle.remove()
        embedded = [output for output in embedded if output.requires_grad]
        for run, hidden, reached in (
            ("base", base.hidden, row),
            ("source", counterfactual.hidden, source_row),
        ):
            loss = hidden[row].square().sum()
            found = torch.autograd.grad(loss, embedded, retain_graph=True, allow_unused=True) if embedded else ()
            gradients = cast(tuple[Tensor | None, ...], found)
            norm = sum(float(gradient[reached].norm()) for gradient in gradients if gradient is not None)
            detail = "reaches the embeddings" if norm > 0 else "none arrives; unfreeze the student below the site"
            checks.append(Check(f"student: gradient through the {run} run of {name}", norm > 0, detail))
    return checks

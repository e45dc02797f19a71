"""The steps that ours is compared with: naive, stock pyvene, textbook, and hand-written hooks with our savings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.data.batch import gold_answers, model_inputs
from iit_toolkit.distillation.losses import cosine_loss, cross_entropy_to_labels, distillation_loss
from iit_toolkit.distillation.objective import Objective
from iit_toolkit.interchange import InterchangeModel, Run, Swap
from iit_toolkit.interchange.hooks import (
    block_outputs,
    last_hidden_state,
    replaced_forward,
    restart_after,
    stopped_at_vocabulary,
)

TEMPERATURE = 2.0


class PlainLosses(Objective):
    """Our objective with all logits held at once."""

    def _add_vocabulary_terms(
        self, sum_: Any, student: Run, teacher: Run | None, labels: Any, weights: Mapping[str, float], prefix: str
    ) -> None:
        task, ce = weights.get("task", 0.0), weights.get("ce", 0.0)
        if not (ce or task):
            return
        logits = self.student.logits(student)
        if task:
            sum_.add(f"{prefix}task", task, cross_entropy_to_labels(logits, labels))
        if ce:
            assert teacher is not None
            sum_.add(f"{prefix}ce", ce, distillation_loss(logits, self.teacher.logits(teacher), self.temperature))


class HandHooks(InterchangeModel):
    """The engine's runs at one block output, with two plain hooks in the place of pyvene."""

    def base_run(
        self, inputs: Mapping[str, Tensor], variables: Iterable[str] = (), tokens: Tensor | None = None
    ) -> Run:
        """Run, and keep the block's output."""
        index = self._block(variables)
        if index is None:
            return super().base_run(inputs, variables, tokens)
        with block_outputs(blocks(self.model), {index}) as outputs:
            run = self._to_vocabulary({**inputs, "use_cache": False}, tokens)
        run.block_outputs = outputs
        return run

    def counterfactual_run(
        self, base: Run, variable: str, swap: Swap, *, source: Run | None = None, tokens: Tensor | None = None
    ) -> Run:
        """Run again from the block's output, overwritten by a hook."""
        del source
        index = self._block((variable,))
        assert index is not None
        output = base.block_outputs[index]
        moved, mask = swap.take(output), swap.mask[:, :, None]
        hook = blocks(self.model)[index].register_forward_hook(lambda _m, _a, kept: torch.where(mask, moved, kept))
        try:
            with restart_after(blocks(self.model), index, output):
                return self._to_vocabulary(base.inputs, tokens)
        finally:
            hook.remove()

    def _block(self, variables: Iterable[str]) -> int | None:
        return next((self.sites[name][0].restart_block for name in variables), None)

    def _to_vocabulary(self, inputs: dict[str, Any], tokens: Tensor | None) -> Run:
        rows = None if tokens is None else tokens.flatten().nonzero().squeeze(1)
        with last_hidden_state(self.model) as hidden, stopped_at_vocabulary(self.model, rows) as features:
            self.model(**inputs)
        return Run(inputs, features[-1], None, hidden[-1])


Select = Callable[[Any, Tensor], Tensor]


def by_expanded_mask(setting: Any, values: Tensor) -> Tensor:
    """Select (B, S, D) at the real tokens as the paper's code and Hugging Face's distiller do."""
    mask = setting.batch["attention_mask"].bool()[:, :, None].expand_as(values)
    return values.masked_select(mask).view(-1, values.shape[-1])


def by_index(setting: Any, values: Tensor) -> Tensor:
    """Select (B, S, D) at the real tokens row by row: the same result, cheaper."""
    return values[setting.batch["attention_mask"].bool()]


def textbook_plain_step(setting: Any, sites: Objective, select: Select = by_expanded_mask) -> Tensor:
    """Plain distillation as Hugging Face's distiller has it: whole logits of both models."""
    inputs = model_inputs(setting.batch)
    with torch.no_grad():
        teacher = _answers(sites.teacher.model, inputs)
    return 0.33 * sum(_plain_terms(setting, _answers(sites.student.model, inputs), teacher, select))


def naive_step(setting: Any, sites: Objective, select: Select = by_expanded_mask) -> Tensor:
    """Causal distillation in three whole passes of each model, swapped by a hook, as in the paper's code."""
    [variable] = sites.teacher.sites
    swap = setting.interchanged(variable).swap
    with torch.no_grad():
        teacher = _three_passes(sites.teacher, variable, setting.batch, swap)
    return _causal_loss(setting, _three_passes(sites.student, variable, setting.batch, swap), teacher, select)


def stock_pyvene_step(setting: Any, sites: Objective) -> Tensor:
    """Causal distillation by stock pyvene: base, source and counterfactual run, and whole logits."""
    import pyvene as pv

    [variable] = sites.teacher.sites
    swap = setting.interchanged(variable).swap
    answers: list[tuple[Any, Any]] = []
    for side in (sites.teacher, sites.student):
        trainable = [parameter.requires_grad for parameter in side.model.parameters()]
        mode = side.model.training
        component = side.sites[variable][0].write
        config = pv.IntervenableConfig([{"component": component, "intervention": pv.VanillaIntervention()}])
        view = pv.IntervenableModel(config, side.model)
        for parameter, flag in zip(side.model.parameters(), trainable, strict=True):
            parameter.requires_grad_(flag)
        side.model.train(mode)
        base_positions = [row.nonzero().flatten().tolist() for row in swap.mask]
        positions = [swap.source_position[row][swap.mask[row]].tolist() for row in range(len(swap.source))]
        inputs = {**model_inputs(setting.batch), "use_cache": False}
        source = {name: value[swap.source] if isinstance(value, Tensor) else value for name, value in inputs.items()}
        hidden: list[Tensor] = []  # not by a hook: stock pyvene would remove it

        def recorded(*args: Any, base_model: Any = side.model.base_model, kept: Any = hidden, **named: Any) -> Any:
            output = type(base_model).forward(base_model, *args, **named)
            kept.append(output[0])
            return output

        with torch.set_grad_enabled(side is sites.student), replaced_forward(side.model.base_model, recorded):
            places = {"sources->base": ([positions], [base_positions])}
            base, counterfactual = view(inputs, [source], places, output_original_output=True)
        answers.append(((base.logits, hidden[0]), (counterfactual.logits, hidden[-1])))
    return _causal_loss(setting, answers[1], answers[0], by_expanded_mask)


def _causal_loss(setting: Any, student: tuple[Any, Any], teacher: tuple[Any, Any], select: Select) -> Tensor:
    counterfactual = _divergence(*(select(setting, side[1][0]) for side in (student, teacher)))
    return 0.25 * (sum(_plain_terms(setting, student[0], teacher[0], select)) + counterfactual)


def _plain_terms(
    setting: Any, student: tuple[Tensor, Tensor], teacher: tuple[Tensor, Tensor], select: Select
) -> list[Tensor]:
    labels = gold_answers(setting.batch, setting.shape.task)
    logits, hidden = ([select(setting, side[part]) for side in (student, teacher)] for part in (0, 1))
    return [
        F.cross_entropy(student[0].flatten(0, 1), labels.flatten(), ignore_index=-100),
        _divergence(*logits),
        cosine_loss(*hidden),
    ]


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    log_student = F.log_softmax(student / TEMPERATURE, -1)
    return F.kl_div(log_student, F.softmax(teacher / TEMPERATURE, -1), reduction="batchmean") * TEMPERATURE**2


def _answers(model: Any, inputs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    with last_hidden_state(model) as hidden:
        logits = model(**inputs, use_cache=False).logits
    return logits, hidden[-1]


def _three_passes(side: InterchangeModel, variable: str, batch: Mapping[str, Tensor], swap: Swap) -> tuple[Any, Any]:
    inputs = model_inputs(batch)
    index = side.sites[variable][0].restart_block
    assert index is not None
    block = blocks(side.model)[index]
    base = _answers(side.model, inputs)
    with block_outputs(blocks(side.model), {index}) as kept:
        _answers(side.model, {name: value[swap.source] for name, value in inputs.items()})
    own = Swap(torch.arange(len(swap.source)), swap.mask, swap.source_position)  # the source pass is in this order
    moved, mask = own.take(kept[index]), swap.mask[:, :, None]
    hook = block.register_forward_hook(lambda _m, _a, output: torch.where(mask, moved, output))
    try:
        return base, _answers(side.model, inputs)
    finally:
        hook.remove()

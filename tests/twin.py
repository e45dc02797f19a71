"""The plain twin of the engine: all recomputed from the input, with hand-written hooks that loop over positions.

The twin shares no code with the package except the data class `Swap`. pyvene is not used.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from iit_toolkit.interchange import InterchangeModel, Swap
from tests.families import Family

Inputs = dict[str, Tensor]
SiteDict = dict[str, Any]


@dataclass
class Answers:
    """Logits and last hidden states of a base and a counterfactual run."""

    base: Tensor
    counterfactual: Tensor
    base_hidden: Tensor
    counterfactual_hidden: Tensor

    def loss(self) -> Tensor:
        """A scalar on which all four have a say, each entry with a weight of its own."""
        generator = torch.Generator().manual_seed(7)
        total = torch.zeros((), dtype=self.base.dtype)
        for tensor in (self.base, self.counterfactual, self.base_hidden, self.counterfactual_hidden):
            values = tensor.log_softmax(-1) if tensor.dim() == 2 else tensor
            weights = torch.randn(values.shape, generator=generator, dtype=torch.float64)
            total = total + (values * weights.to(values.dtype)).sum()
        return total


def twin(
    model: Any,
    family: Family,
    sites: list[SiteDict],
    inputs: Inputs,
    swap: Swap,
    source_inputs: Inputs | None = None,
) -> Answers:
    """Source run, base run and counterfactual run of one variable, each a full forward pass."""
    reads = [family.module(site.get("read", site)) for site in sites]
    with capturing(model, reads) as captured:
        model(**(source_inputs or inputs))
    sources = list(captured)
    base, base_hidden = run(model, inputs)
    with contextlib.ExitStack() as stack:
        for site, source in zip(sites, sources, strict=True):
            stack.enter_context(swapping(model, family.module(site), source, swap, ranges_of(site, model)))
        counterfactual, counterfactual_hidden = run(model, inputs)
    return Answers(base, counterfactual, base_hidden, counterfactual_hidden)


def engine(
    interchange: InterchangeModel,
    variable: str,
    inputs: Inputs,
    swap: Swap,
    source_inputs: Inputs | None = None,
    tokens: Tensor | None = None,
) -> Answers:
    """The same through the engine."""
    source = None if source_inputs is None else interchange.source_run(source_inputs, [variable])
    base = interchange.base_run(inputs, [variable], tokens)
    base_logits = interchange.logits(base)
    changed = interchange.counterfactual_run(base, variable, swap, source=source, tokens=tokens)
    return Answers(base_logits, interchange.logits(changed), base.hidden, changed.hidden)


def gradients(model: nn.Module, answers: Answers) -> dict[str, Tensor]:
    """Gradient of the loss by parameter name; of every parameter, zero where none flows."""
    model.zero_grad()
    answers.loss().backward()
    return {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }


def difference(ours: Answers, plain: Answers) -> float:
    """Largest absolute difference over logits and hidden states, divided by the largest logit."""
    scale = plain.counterfactual.abs().max()
    return max(
        float((a - b).abs().max().detach() / scale.detach())
        for a, b in zip(vars(ours).values(), vars(plain).values(), strict=True)
    )


def gradient_difference(ours: dict[str, Tensor], plain: dict[str, Tensor]) -> float:
    """Largest difference of any parameter's gradient relative to that parameter's largest.

    A parameter whose gradient is zero but for rounding (the bias of attention keys: softmax does not see it)
    is measured against the largest gradient of all.
    """
    overall = max(float(gradient.abs().max()) for gradient in plain.values())

    def scale(gradient: Tensor) -> float:
        own = float(gradient.abs().max())
        return own if own > 1e-6 * overall else overall

    return max(float((ours[name] - plain[name]).abs().max()) / scale(plain[name]) for name in plain)


def run(model: Any, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """One full forward pass: logits as (B * S, V) or (B, C), and the base model's last hidden state."""
    hidden: list[Tensor] = []
    handle = model.base_model.register_forward_hook(lambda _m, _a, output: hidden.append(output[0]))
    logits = model(**inputs).logits
    handle.remove()
    return logits.reshape(-1, logits.shape[-1]), hidden[0]


@contextlib.contextmanager
def capturing(model: nn.Module, places: list[tuple[str, str]]) -> Iterator[list[Any]]:
    """Capture what passes through places (module path, `input` or `output`), in their order."""
    captured: list[Any] = [None] * len(places)
    handles = []
    for index, (path, kind) in enumerate(places):

        def keep(value: Tensor, index: int = index) -> Tensor:
            captured[index] = value.clone()
            return value

        handles.append(hook(model.get_submodule(path), kind, keep))
    yield captured
    for handle in handles:
        handle.remove()


@contextlib.contextmanager
def swapping(
    model: nn.Module, place: tuple[str, str], source: Tensor, swap: Swap, ranges: list[tuple[int, int]]
) -> Iterator[None]:
    """Overwrite a place, one neuron range of one position of one row after another."""

    def overwrite(base: Tensor) -> Tensor:
        edited = base.clone()
        for row in range(base.shape[0]):
            for position in range(base.shape[1]):
                if swap.mask[row, position]:
                    other, taken = int(swap.source[row]), int(swap.source_position[row, position])
                    for low, high in ranges:
                        edited[row, position, low:high] = source[other, taken, low:high]
        return edited

    handle = hook(model.get_submodule(place[0]), place[1], overwrite)
    yield
    handle.remove()


def hook(module: nn.Module, kind: str, edit: Any) -> Any:
    """Register a hook that passes a module's input or output through a function."""

    def on_output(_module: nn.Module, _args: Any, output: Any) -> Any:
        return (edit(output[0]), *output[1:]) if isinstance(output, tuple) else edit(output)

    def on_input(_module: nn.Module, args: Any, named: Any) -> Any:
        if args:
            return (edit(args[0]), *args[1:]), named
        return args, {**named, "hidden_states": edit(named["hidden_states"])}

    if kind == "output":
        return module.register_forward_hook(on_output)
    return module.register_forward_pre_hook(on_input, with_kwargs=True)


def ranges_of(site: SiteDict, model: Any) -> list[tuple[int, int]]:
    """The neuron ranges that a site of an alignment file swaps."""
    if "neurons" in site:
        return [tuple(site["neurons"])]
    if "heads" in site:
        heads = model.config.num_attention_heads
        width = getattr(model.config, "head_dim", None) or model.config.hidden_size // heads
        return [(head * width, head * width + width) for head in site["heads"]]
    return [(0, 10**6)]

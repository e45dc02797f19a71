"""Runs leave the model as they found it: hooks, forward functions, flags, modes and memory."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel
from tests.cases import ragged_swap, resolved, sites_of
from tests.families import FAMILIES, make_batch, make_model
from tests.twin import difference, engine, gradient_difference, gradients, twin

KINDS = ("several layers", "heads", "inner module input", "read elsewhere")


def state(model: nn.Module) -> list[Any]:
    """Everything about a model that a run could leave changed."""
    modules = [
        (
            name,
            module.training,
            list(module._forward_hooks.items()),
            list(module._forward_pre_hooks.items()),
            list(module._forward_hooks_with_kwargs),
            list(module._forward_pre_hooks_with_kwargs),
            module.__dict__.get("forward"),
        )
        for name, module in model.named_modules()
    ]
    return [modules, [(name, p.requires_grad) for name, p in model.named_parameters()]]


def half_frozen(family: str) -> Any:
    """A model with a frozen first block and one module in eval mode, as users have them."""
    model = make_model(family)
    blocks = model.get_submodule(FAMILIES[family].blocks)
    blocks[0].requires_grad_(False)
    blocks[1].eval()
    return model


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_runs_leave_no_trace(family: str, kind: str) -> None:
    model = half_frozen(family)
    inputs, eligible = make_batch(family)
    before = state(model)
    interchange = InterchangeModel(model, resolved(model, sites_of(kind, family)))
    assert state(model) == before
    engine(interchange, "variable", inputs, ragged_swap(eligible))
    assert state(model) == before


class _OwnError(Exception):
    pass


@pytest.mark.parametrize("share_prefix", [True, False])
@pytest.mark.parametrize("run", ["base", "counterfactual"])
def test_an_exception_in_the_forward_pass_leaves_no_trace(run: str, share_prefix: bool) -> None:
    model = half_frozen("bert")
    inputs, eligible = make_batch("bert")
    sites = resolved(model, sites_of("several layers", "bert"))
    interchange = InterchangeModel(model, sites, share_prefix=share_prefix)
    base = interchange.base_run(inputs, ["variable"])
    expected = engine(interchange, "variable", inputs, ragged_swap(eligible))
    before = state(model)
    transform = model.cls.predictions.transform

    def fail(*_: Any) -> None:
        raise _OwnError

    handle = transform.register_forward_hook(fail)
    with pytest.raises(_OwnError):
        if run == "base":
            interchange.base_run(inputs, ["variable"])
        else:
            interchange.counterfactual_run(base, "variable", ragged_swap(eligible))
    handle.remove()
    assert state(model) == before
    assert difference(engine(interchange, "variable", inputs, ragged_swap(eligible)), expected) == 0


@pytest.mark.parametrize("write_only", [False, True])
def test_a_site_that_never_runs_is_an_error_and_leaves_no_trace(write_only: bool) -> None:
    model = make_model("bert")
    inputs, eligible = make_batch("bert")
    dead = "bert.encoder.layer[1].attention.self.never"
    model.bert.encoder.layer[1].attention.self.never = nn.Linear(32, 32)
    site: dict[str, Any] = {"component": f"{dead}.output"}
    if write_only:
        site["read"] = {"layer": 1, "component": "block_output"}
    before = state(model)
    interchange = InterchangeModel(model, resolved(model, [site]))
    with pytest.raises(UserError, match=r"layer\[1\].attention.self.never.output ran 0 times"):
        base = interchange.base_run(inputs, ["variable"])
        interchange.counterfactual_run(base, "variable", ragged_swap(eligible))
    assert state(model) == before


def test_a_site_that_runs_twice_is_an_error() -> None:
    model = make_model("bert")
    layers = model.bert.encoder.layer
    layers[2].attention.self.query = layers[1].attention.self.query
    inputs, _ = make_batch("bert")
    site = {"component": "bert.encoder.layer[1].attention.self.query.output"}
    interchange = InterchangeModel(model, resolved(model, [site]))
    with pytest.raises(UserError, match="ran 2 times"):
        interchange.base_run(inputs, ["variable"])


@pytest.mark.parametrize("kind", ["block output", "several layers", "two ranges", "heads", "block input"])
@pytest.mark.parametrize("family", FAMILIES)
def test_users_hooks_work_in_every_run(family: str, kind: str) -> None:
    """A user's hook that changes the first block's output, and one that changes the second's input."""
    model = make_model(family, torch.float64)
    blocks = model.get_submodule(FAMILIES[family].blocks)

    def louder(_module: nn.Module, _args: Any, output: Any) -> Any:
        return (output[0] * 1.5, *output[1:]) if isinstance(output, tuple) else output * 1.5

    def shifted(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0] + 0.25, *args[1:])

    for block in blocks:
        block.register_forward_hook(louder)
        block.register_forward_pre_hook(shifted)
    inputs, eligible = make_batch(family, torch.float64)
    sites, swap = sites_of(kind, family), ragged_swap(eligible)
    interchange = InterchangeModel(model, resolved(model, sites))
    for _ in range(2):
        ours = engine(interchange, "variable", inputs, swap)
        plain = twin(model, FAMILIES[family], sites, inputs, swap)
        assert difference(ours, plain) == 0
        assert gradient_difference(gradients(model, ours), gradients(model, plain)) < 2e-6
    assert all(len(block._forward_hooks) == len(block._forward_pre_hooks) == 1 for block in blocks)


@pytest.mark.parametrize("family", FAMILIES)
def test_captured_outputs_stay_whole(family: str) -> None:
    """transformers captures hidden states and attentions by hooks of its own, which must outlive ours."""
    model = make_model(family).eval()
    model.set_attn_implementation("eager")
    inputs, eligible = make_batch(family)
    wanted = {"output_hidden_states": True, "output_attentions": True}
    before = model(**inputs, **wanted)
    interchange = InterchangeModel(model, resolved(model, sites_of("several layers", family)))
    engine(interchange, "variable", inputs, ragged_swap(eligible))
    after = model(**inputs, **wanted)
    assert len(before.hidden_states) == len(after.hidden_states) == 4
    assert len(before.attentions) == len(after.attentions) == 3
    for one, two in zip(before.hidden_states + before.attentions, after.hidden_states + after.attentions, strict=True):
        assert torch.equal(one, two)


def test_two_threads_on_one_model() -> None:
    model = make_model("bert").eval()
    kinds = ("block output", "heads")
    sites = {kind: resolved(model, sites_of(kind, "bert"), kind)[kind] for kind in kinds}
    inputs, eligible = make_batch("bert")
    swap = ragged_swap(eligible)
    engines = {kind: InterchangeModel(model, sites) for kind in kinds}
    expected = {kind: engine(engines[kind], kind, inputs, swap).counterfactual for kind in kinds}
    wrong: list[str] = []

    def work(kind: str) -> None:
        with torch.no_grad():
            for _ in range(40):
                if not torch.equal(engine(engines[kind], kind, inputs, swap).counterfactual, expected[kind]):
                    wrong.append(kind)

    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work, kind) for kind in kinds]:
            done.result()
    assert wrong == []


def test_runs_keep_no_tensors() -> None:
    model = make_model("bert")
    inputs, eligible = make_batch("bert")
    interchange = InterchangeModel(model, resolved(model, sites_of("several layers", "bert")))

    def tensors_after(runs: int) -> int:
        for _ in range(runs):
            gradients(model, engine(interchange, "variable", inputs, ragged_swap(eligible)))
        gc.collect()
        return sum(issubclass(type(thing), Tensor) for thing in gc.get_objects())

    assert tensors_after(2) == tensors_after(48)

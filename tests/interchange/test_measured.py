"""What a run may leave out is found by running the model, and is left out only there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from iit_toolkit.alignment.architectures import blocks
from iit_toolkit.interchange import InterchangeModel
from iit_toolkit.interchange.measured import can_restart, can_stop, head_is_linear
from tests.cases import ragged_swap, resolved
from tests.families import make_batch, make_model
from tests.model_classes import make_tiny
from tests.twin import engine

SITE = [{"layer": 1, "component": "block_output"}]


def test_blocks_that_share_keys_are_run_from_the_input() -> None:
    """The upper two blocks of four take keys from the lower two."""
    model = make_tiny("Gemma4ForCausalLM")
    inputs, eligible = make_batch("bert")
    interchange = InterchangeModel(model, resolved(model, SITE))
    assert interchange.restart_blocks == {"variable": 1}
    interchange.measure(inputs)
    assert interchange.restart_blocks == {"variable": None}
    plain = InterchangeModel(model, resolved(model, SITE), share_prefix=False)
    ours, theirs = (engine(one, "variable", inputs, ragged_swap(eligible)) for one in (interchange, plain))
    assert torch.equal(ours.counterfactual, theirs.counterfactual)


@pytest.mark.parametrize("family", ["bert", "llama", "vit"])
def test_other_models_restart_after_every_block(family: str) -> None:
    model, (inputs, _) = make_model(family), make_batch(family)
    for cut in range(len(blocks(model))):
        assert can_restart(model, cut, inputs) and can_stop(model, cut, inputs)
    assert model.training


class Remembering(nn.Module):
    """Adds what it was given in the last run in which the block below ran; a shared cache, in small."""

    def __init__(self, below: nn.Module) -> None:
        super().__init__()
        below.register_forward_hook(lambda _module, args, _output: setattr(self, "kept", args[0]))
        self.kept: Any = None

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden + self.kept


def test_what_a_model_keeps_of_its_last_run_is_not_mistaken_for_a_part_of_this_one() -> None:
    model, (inputs, _) = make_model("bert"), make_batch("bert")
    layers = model.bert.encoder.layer
    layers[2].output.dropout = Remembering(layers[0].intermediate)
    assert can_restart(model, 2, inputs) and not can_restart(model, 0, inputs) and not can_restart(model, 1, inputs)


def test_a_source_run_goes_to_its_end_if_a_model_cannot_stop() -> None:
    model, (inputs, eligible) = make_model("bert"), make_batch("bert")
    last = blocks(model)[2]
    last.register_forward_hook(lambda _module, args, output: output + 0 if output is not args[0] else 1 / 0)
    assert not can_stop(model, 1, inputs)
    interchange = InterchangeModel(model, resolved(model, SITE))
    ours = engine(interchange, "variable", inputs, ragged_swap(eligible), source_inputs=inputs)
    assert torch.isfinite(ours.counterfactual).all()


class Adapted(nn.Linear):
    """Adds what is learned, which begins at zero."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__(head.in_features, head.out_features, bias=False)
        self.weight, self.added = head.weight, nn.Parameter(torch.zeros(head.in_features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features) + (features * self.added).sum(-1, keepdim=True)


def test_a_head_is_linear_only_if_its_weight_and_bias_are_all_of_it() -> None:
    """The losses of large vocabularies are computed from weight and bias, and would leave the rest out."""
    model, (inputs, _) = make_model("llama"), make_batch("llama")
    head = model.get_output_embeddings()
    assert head_is_linear(model, inputs)
    handle = head.register_forward_hook(lambda _module, _args, output: output / 10)
    assert not head_is_linear(model, inputs)
    handle.remove()
    model.set_output_embeddings(Adapted(head))
    assert not head_is_linear(model, inputs)

"""Sites on live models: module paths of every architecture, and what does not exist."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as tf

from iit_toolkit.alignment.architectures import blocks, blocks_path
from iit_toolkit.alignment.resolve import block_of, get_module, moved, resolve_site, split_component
from iit_toolkit.alignment.sites import Place, Site
from iit_toolkit.errors import UserError
from tests.cases import resolved
from tests.families import BERT_LIKE, FAMILIES, HEADS, HIDDEN, make_batch, make_model, with_large_weights
from tests.model_classes import make_tiny

WIDTHS = {
    "block_input": HIDDEN,
    "block_output": HIDDEN,
    "attention_output": HIDDEN,
    "mlp_output": HIDDEN,
    "mlp_activation": 48,
}


def measured_width(model: Any, component: str, family: str) -> int:
    """The last dimension of what passes through a place."""
    seen: list[torch.Tensor] = []
    module, kind = get_module(model, component), split_component(component)[1]
    if kind == "output":
        module.register_forward_hook(
            lambda _m, _a, output: seen.append(output[0] if isinstance(output, tuple) else output)
        )
    else:
        module.register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    model(**make_batch(family)[0])
    assert seen[0].dim() == 3
    return seen[0].shape[-1]


@pytest.mark.parametrize("component", WIDTHS)
@pytest.mark.parametrize("family", FAMILIES)
def test_components_have_the_width_they_should(family: str, component: str) -> None:
    model = make_model(family)
    (site,) = resolved(model, [{"layer": 1, "component": component}])["variable"]
    assert site.read == site.write and site.ranges is None
    assert measured_width(model, site.write, family) == WIDTHS[component]


@pytest.mark.parametrize("family", FAMILIES)
def test_heads_are_equal_slices_of_what_ends_attention(family: str) -> None:
    model = make_model(family)
    (site,) = resolved(model, [{"layer": 1, "component": "attention_value_output", "heads": [0, 3]}])["variable"]
    width = 16 if family == "qwen3" else HIDDEN // HEADS
    assert site.ranges == ((0, width), (3 * width, 4 * width))
    assert measured_width(model, site.write, family) == HEADS * width


VALUES = {
    "bert": "attention.self.value",
    "distilbert": "attention.v_lin",
    "roberta": "attention.self.value",
    "electra": "attention.self.value",
    "llama": "self_attn.v_proj",
    "qwen3": "self_attn.v_proj",
    "vit": "attention.v_proj",
}
"""The value projection below a block, where it is a module of its own."""


@pytest.mark.parametrize("family", VALUES)
def test_a_head_carries_what_its_own_attention_reads(family: str) -> None:
    """Head 2's slice depends on head 2's rows of the value projection (in its group), and not on head 0's."""
    model = make_model(family).eval()
    block = model.get_submodule(FAMILIES[family].blocks)[1]
    value = block.get_submodule(VALUES[family])
    (site,) = resolved(model, [{"layer": 1, "component": "attention_value_output", "heads": [2]}])["variable"]
    seen: list[torch.Tensor] = []
    get_module(model, site.write).register_forward_pre_hook(lambda _m, args: seen.append(args[0].detach()))
    inputs, _ = make_batch(family)
    model(**inputs)
    (low, high) = site.ranges[0]
    heads = value.out_features // (high - low)
    own = 2 if heads == HEADS else 1
    for head, moves in ((0, False), (own, True)):
        with torch.no_grad():
            value.weight[head * (high - low) : (head + 1) * (high - low)] += 1
        model(**inputs)
        assert (not torch.equal(seen[-1][..., low:high], seen[-2][..., low:high])) is moves


@pytest.mark.parametrize(
    ("site", "cut", "inside"),
    [
        ({"layer": 1, "component": "block_output"}, 1, False),
        ({"layer": 1, "component": "block_input"}, 0, False),
        ({"layer": 0, "component": "block_input"}, None, False),
        ({"layer": 2, "component": "mlp_output"}, 1, True),
        ({"layer": 0, "component": "attention_output"}, None, True),
        ({"component": "bert.embeddings.output"}, None, False),
        ({"component": "bert.encoder.layer[2].attention.output.output"}, 1, True),
        ({"component": "bert.encoder.layer.2.output"}, 2, False),
        ({"layer": 2, "component": "block_output", "read": {"layer": 1, "component": "mlp_output"}}, 2, True),
    ],
)
def test_where_runs_restart(site: dict[str, Any], cut: int | None, inside: bool) -> None:
    (found,) = resolved(make_model("bert"), [site])["variable"]
    assert (found.restart_block, found.inside_block) == (cut, inside)


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        ([{"layer": 3, "component": "block_output"}], "has layers 0 to 2"),
        ([{"layer": -1, "component": "block_output"}], "has layers 0 to 2"),
        ([{"layer": 1, "component": "attention_value_output", "heads": [4]}], "has heads 0 to 3"),
        ([{"component": "bert.encoder.layers[1].output"}], "bert.encoder has no 'layers'; it has layer"),
        ([{"component": "bert.encoder.layer[7].output"}], "it has 0, 1, 2"),
        ([{"component": "encoder.output"}], "BertForMaskedLM has no 'encoder'; it has bert, cls"),
        ([{"component": "bert.encoder.layer[1].attention.self.query.weight.output"}], "no submodules"),
        ([{"layer": 1, "component": "block_output"}] * 2, "the same neurons"),
        (
            [{"layer": 1, "component": "block_output", "neurons": part} for part in ([0, 9], [8, 12])],
            "the same neurons",
        ),
        (
            [{"layer": 1, "component": "block_output"}, {"component": "bert.encoder.layer[1].output"}],
            "the same neurons",
        ),
    ],
)
def test_what_does_not_exist_is_named(sites: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(UserError) as raised:
        resolved(make_model("bert"), sites)
    assert message in str(raised.value)
    assert "variable 'variable', student" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_neighbouring_ranges_do_not_overlap() -> None:
    parts = ([8, 16], [0, 8])
    sites = [{"layer": 1, "component": "block_output", "neurons": part} for part in parts]
    assert [site.ranges for site in resolved(make_model("bert"), sites)["variable"]] == [
        ((8, 16),),
        ((0, 8),),
    ]


def test_lists_that_are_not_blocks_are_not_taken_for_blocks() -> None:
    """XLM keeps its layers' attention and MLP in separate lists, so no run can restart between members."""
    config = tf.XLMConfig(vocab_size=50, emb_dim=32, n_layers=3, n_heads=4, n_langs=1)
    model = with_large_weights(tf.XLMWithLMHeadModel(config))
    with pytest.raises(UserError, match="by module path"):
        blocks(model)
    (site,) = resolved(model, [{"component": "transformer.ffns[1].output"}])["variable"]
    assert site.restart_block is None


@pytest.mark.parametrize(
    ("name", "path"),
    [("MPNetForMaskedLM", "mpnet.encoder.layer"), ("IBertForMaskedLM", "ibert.encoder.layer"),
     ("CTRLLMHeadModel", "transformer.h"), ("XLNetLMHeadModel", "transformer.layer")],
)  # fmt: skip
def test_blocks_that_gradient_checkpointing_does_not_know(name: str, path: str) -> None:
    assert blocks_path(make_tiny(name)) == path


def test_unlisted_architectures_are_searched() -> None:
    config = {key: value for key, value in BERT_LIKE.items() if not key.endswith("dropout_prob")}
    model = tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**config))
    assert blocks(model) is model.gpt_neox.layers
    with pytest.raises(UserError, match=r"gpt_neox.layers\[1\].path.to.module.output"):
        resolved(model, [{"layer": 1, "component": "mlp_output"}])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("component", ["block_input", "block_output", "attention_value_output", "mlp_output"])
def test_a_moved_site_is_the_one_declared_there(family: str, component: str) -> None:
    model = make_model(family)
    sites = [resolve_site(Site(component=component, layer=layer), model) for layer in range(len(blocks(model)))]
    for layer, site in enumerate(sites):
        assert block_of(site.write, model) is not None and block_of(site.write, model)[0] == layer
        for other, expected in enumerate(sites):
            assert moved(site, model, other - layer) == expected
        assert moved(site, model, len(sites) - layer) is None and moved(site, model, -layer - 1) is None


def test_a_site_that_reads_elsewhere_is_moved_as_a_whole() -> None:
    model = make_model("bert")
    made = [
        resolve_site(
            Site(component="block_output", layer=layer, read=Place(component="block_input", layer=layer - 1)), model
        )
        for layer in (1, 2)
    ]
    assert moved(made[0], model, 1) == made[1]
    assert moved(made[0], model, -1) is None, "there is no block below the lowest to read from"


def test_what_other_blocks_lack_is_not_moved_nor_what_is_in_no_block() -> None:
    model = make_model("modernbert")
    assert block_of("model.embeddings.output", model) is None
    assert moved(resolve_site(Site(component="model.embeddings.norm.output"), model), model, 1) is None
    blocks(model)[1].add_module("own", torch.nn.Identity())
    assert moved(resolve_site(Site(component="model.layers[1].own.output"), model), model, 1) is None
    unknown = make_model("bert")
    site = resolve_site(Site(component="block_output", layer=1), unknown)
    unknown.config.model_type, unknown.config.num_hidden_layers = "unheard of", 77
    assert block_of(site.write, unknown) is None and moved(site, unknown, 1) is None

"""Each silent (or costly) trap of bare pyvene 0.1.8, shown on bare pyvene, and shown closed in our engine.

Where a test fails in its bare half, upstream has changed: the matching guard in `interchange/pyvene_guard.py`
may go.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import pyvene as pv
import torch
from torch import Tensor

from iit_toolkit.alignment import resolve
from iit_toolkit.alignment.presets import preset
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel, Swap
from iit_toolkit.interchange.pyvene_guard import SafeIntervenableModel, SwapIntervention, collecting_view
from tests.cases import resolved
from tests.families import FAMILIES, HIDDEN, make_batch, make_model
from tests.twin import Answers, engine, gradient_difference, gradients, twin

BLOCK = "bert.encoder.layer[1].output"
SOURCE = torch.tensor([1, 2, 3, 0])
BASE_POSITIONS = torch.tensor([[1, 2], [3, 2], [5, 1], [2, 3]])
SOURCE_POSITIONS = torch.tensor([[3, 1], [1, 4], [2, 3], [6, 4]])


def view(model: Any, component: str, kind: type = pv.IntervenableModel, intervention: Any = None) -> Any:
    """A pyvene view on one component; the model keeps its gradients, which bare pyvene switches off."""
    intervention = intervention or pv.VanillaIntervention()
    made = kind(pv.IntervenableConfig([{"component": component, "intervention": intervention}]), model)
    model.requires_grad_(True).train()
    return made


def as_swap(length: int) -> Swap:
    """The swap that the lists of positions above mean."""
    mask = torch.zeros(4, length, dtype=torch.bool).scatter(1, BASE_POSITIONS, True)
    return Swap(SOURCE, mask, torch.zeros(4, length, dtype=torch.long).scatter(1, BASE_POSITIONS, SOURCE_POSITIONS))


def lists(base: Tensor = BASE_POSITIONS, source: Tensor = SOURCE_POSITIONS) -> dict[str, Any]:
    return {"sources->base": ([source.tolist()], [base.tolist()])}


def setting(family: str = "bert") -> tuple[Any, dict[str, Tensor], dict[str, Tensor]]:
    """A model, base inputs, and the source inputs in the order of the base rows."""
    model = make_model(family)
    inputs, _ = make_batch(family)
    return model, inputs, {name: value[SOURCE] for name, value in inputs.items()}


def by_hand(model: Any, component: str, family: str = "bert") -> Answers:
    inputs, _ = make_batch(family)
    return twin(model, FAMILIES[family], [{"component": component}], inputs, as_swap(inputs["input_ids"].shape[1]))


def by_engine(model: Any, component: str, family: str = "bert") -> Answers:
    inputs, _ = make_batch(family)
    interchange = InterchangeModel(model, resolved(model, [{"component": component}]))
    return engine(interchange, "variable", inputs, as_swap(inputs["input_ids"].shape[1]))


def flat(outputs: Any) -> Tensor:
    return outputs.logits.flatten(0, 1)


@pytest.mark.parametrize(("kind", "right"), [(pv.IntervenableModel, False), (SafeIntervenableModel, True)])
def test_1_an_integer_position_changes_all_later_calls(kind: type, right: bool) -> None:
    model, inputs, source = setting()
    expected = by_hand(model, BLOCK).counterfactual
    interventions = view(model, BLOCK, kind)
    assert torch.equal(flat(interventions(inputs, [source], lists())[1]), expected)
    interventions(inputs, [source], {"sources->base": 3})
    assert torch.equal(flat(interventions(inputs, [source], lists())[1]), expected) is right


@pytest.mark.parametrize(("kind", "right"), [(pv.IntervenableModel, False), (SafeIntervenableModel, True)])
def test_2_every_hook_on_the_model_is_deleted(kind: type, right: bool) -> None:
    model, inputs, source = setting()
    calls: list[int] = []
    model.bert.encoder.layer[0].register_forward_hook(lambda *_: calls.append(1))
    assert len(model(**inputs, output_hidden_states=True).hidden_states) == 4
    view(model, BLOCK, kind)(inputs, [source], lists())
    calls.clear()
    after = model(**inputs, output_hidden_states=True).hidden_states
    assert (len(calls), len(after)) == ((1, 4) if right else (0, 0))


@pytest.mark.parametrize(
    ("family", "component"),
    [
        ("bert", "bert.encoder.layer[1].intermediate.input"),
        ("bert", "bert.encoder.layer[1].attention.self.input"),
        ("distilbert", "distilbert.transformer.layer[1].ffn.input"),
        ("llama", "model.layers[1].self_attn.q_proj.input"),
        ("llama", "model.layers[1].input_layernorm.input"),
        ("gpt2", "transformer.h[1].ln_1.input"),
    ],
)
def test_3_writing_in_place_changes_what_siblings_read(family: str, component: str) -> None:
    model, inputs, source = setting(family)
    expected = by_hand(model, component, family).counterfactual
    assert torch.equal(by_engine(model, component, family).counterfactual, expected)
    with torch.no_grad():
        bare = flat(view(model, component)(inputs, [source], lists())[1])
        safe = flat(view(model, component, SafeIntervenableModel)(inputs, [source], lists())[1])
    assert (bare - expected).abs().max() > 0.1
    assert torch.equal(safe, expected)


@pytest.mark.parametrize(
    ("family", "component"),
    [
        ("bert", "bert.encoder.layer[1].attention.output.dense.input"),
        ("llama", "model.layers[1].self_attn.o_proj.input"),
    ],
)
def test_4_writing_in_place_breaks_the_gradient_of_heads(family: str, component: str) -> None:
    model, inputs, source = setting(family)
    plain = by_hand(model, component, family)
    ours = by_engine(model, component, family)
    assert gradient_difference(gradients(model, ours), gradients(model, plain)) < 1e-5
    outputs = view(model, component)(inputs, [source], lists())[1]
    with pytest.raises(RuntimeError, match="inplace operation"):
        outputs.logits.sum().backward()


def test_5_repeated_positions_give_wrong_gradients() -> None:
    """Rows with fewer positions must repeat one in pyvene's lists; our mask has none to repeat."""
    model, inputs, source = setting()
    once = torch.tensor([[1], [3], [5], [2]]), torch.tensor([[3], [1], [2], [6]])
    twice = tuple(positions.expand(4, 2) for positions in once)
    results: list[tuple[Tensor, dict[str, Tensor]]] = []
    for base_positions, source_positions in (once, twice):
        outputs = view(model, BLOCK)(inputs, [source], lists(base_positions, source_positions))[1]
        model.zero_grad()
        outputs.logits.log_softmax(-1).square().sum().backward()
        results.append(
            (
                outputs.logits,
                {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None},
            )
        )
    assert torch.equal(results[0][0], results[1][0])
    assert gradient_difference(results[1][1], results[0][1]) > 0.1
    ragged = as_swap(11)
    ragged.mask[0, 1] = ragged.mask[3] = False
    plain = twin(model, FAMILIES["bert"], [{"component": BLOCK}], inputs, ragged)
    ours = engine(InterchangeModel(model, resolved(model, [{"component": BLOCK}])), "variable", inputs, ragged)
    assert torch.equal(ours.counterfactual, plain.counterfactual)
    assert gradient_difference(gradients(model, ours), gradients(model, plain)) < 1e-5


def test_6_subspaces_of_one_example_are_swapped_in_all() -> None:
    base, source = torch.zeros(2, 1, 4), torch.ones(2, 1, 4)
    vanilla = pv.VanillaIntervention(subspace_partition=[[0, 2], [2, 4]])
    swapped = vanilla(base.clone(), source, [[0], [1]])
    assert swapped[:, 0].tolist() == [[1, 1, 1, 1], [1, 1, 1, 1]], "meant: [1, 1, 0, 0] and [0, 0, 1, 1]"
    mask = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 1, 1]]], dtype=torch.bool)
    assert SwapIntervention()(base, source, mask)[:, 0].tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]


def test_6_without_positions_components_are_not_split() -> None:
    """GPT-2's native `key_output` then swaps the query. We name modules by path, never a split component."""
    model, inputs, source = setting("gpt2")
    everywhere = Swap(SOURCE, torch.ones(4, 11, dtype=torch.bool), torch.arange(11).expand(4, 11))

    def by_hand_part(part: int) -> Tensor:
        neurons = [part * HIDDEN, (part + 1) * HIDDEN]
        site = {"component": "transformer.h[1].attn.c_attn.output", "neurons": neurons}
        return twin(model, FAMILIES["gpt2"], [site], inputs, everywhere).counterfactual

    query, key = by_hand_part(0), by_hand_part(1)
    config = pv.IntervenableConfig([{"layer": 1, "component": "key_output"}], pv.VanillaIntervention)
    bare = flat(pv.IntervenableModel(config, model)(inputs, [source])[1])
    assert torch.allclose(bare, query) and not torch.allclose(bare, key)
    for family in FAMILIES:
        for sites in resolve(preset("diito/full", 3, 3), make_model(family), "student").values():
            assert all("." in site.write and "." in site.read for site in sites)


def test_7_a_module_that_never_runs_is_ignored() -> None:
    model, inputs, source = setting("gpt2")
    component = "transformer.h[1].attn.attn_dropout.output"
    bare = view(model, component)(inputs, [source], lists())[1].logits
    assert torch.equal(bare, model(**inputs).logits), "no intervention, no error"
    with pytest.raises(UserError, match="never|0 times"):
        by_engine(model, component, "gpt2")
    with pytest.raises(UserError, match="no source activation"):
        view(model, component, SafeIntervenableModel)(inputs, [source], lists())


def test_8_building_a_view_freezes_the_model() -> None:
    model = make_model("bert")
    config = pv.IntervenableConfig([{"component": BLOCK, "intervention": pv.VanillaIntervention()}])
    SafeIntervenableModel(config, model)
    collecting_view(model, [BLOCK])
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())
    pv.IntervenableModel(config, model)
    assert not model.training and not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize(("kind", "left"), [(pv.IntervenableModel, (0, 2)), (SafeIntervenableModel, (2, 1))])
def test_9_the_containers_of_the_caller_are_changed(kind: type, left: tuple[int, int]) -> None:
    model, inputs, source = setting()
    places = [BLOCK, "bert.encoder.layer[2].output"]
    made = kind(
        pv.IntervenableConfig([{"component": place, "intervention": pv.VanillaIntervention()} for place in places]),
        model,
    )
    representations = {key: torch.zeros(4, 11, HIDDEN) for key in made.sorted_keys}
    made(inputs, None, None, source_representations=representations)
    sources = [source]
    made(inputs, sources, {"sources->base": ([SOURCE_POSITIONS.tolist()] * 2, [BASE_POSITIONS.tolist()] * 2)})
    assert (len(representations), len(sources)) == left


def test_10_two_numbers_are_a_pair_but_three_are_positions() -> None:
    """We never pass short forms: a `Swap` names base and source position of every example."""
    model, inputs, source = setting()

    def bare(locations: Any) -> Tensor:
        return view(model, BLOCK)(inputs, [source], {"sources->base": locations})[1].logits

    def full(source_positions: list[int], base_positions: list[int]) -> Tensor:
        return bare(([[source_positions] * 4], [[base_positions] * 4]))

    assert torch.equal(bare([3, 5]), full([3], [5]))
    assert torch.equal(bare([2, 3, 5]), full([2, 3, 5], [2, 3, 5]))
    assert not torch.equal(bare([3, 5]), full([3, 5], [3, 5]))


def test_11_collecting_several_positions_gives_the_wrong_shape() -> None:
    model, inputs, _ = setting()
    whole = pv.CollectIntervention(embed_dim=HIDDEN)
    (_, bare), _ = view(model, BLOCK, intervention=whole)(inputs, unit_locations={"base": [[[1, 2]] * 4]})
    assert bare[0].shape != (4, 2, HIDDEN)
    (_, ours), _ = collecting_view(model, [BLOCK])(inputs)
    expected: list[Tensor] = []
    handle = model.bert.encoder.layer[1].register_forward_hook(lambda _m, _a, output: expected.append(output))
    model.train()(**inputs)
    handle.remove()
    assert torch.equal(ours[0], expected[0])


def test_12_the_number_of_positions_multiplies_the_width() -> None:
    """A rotation then mixes neurons of several positions. Our views never state a number of positions."""
    model = make_model("bert")
    pv.type_to_dimension_mapping.setdefault(type(model), {})[BLOCK] = (str(HIDDEN),)
    try:
        config = pv.IntervenableConfig([{"component": BLOCK, "max_number_of_units": 3}], pv.RotatedSpaceIntervention)
        rotation = next(iter(pv.IntervenableModel(config, model).interventions.values()))
    finally:
        del pv.type_to_dimension_mapping[type(model)][BLOCK]
    assert int(rotation.embed_dim) == 3 * HIDDEN
    ours = collecting_view(model, [BLOCK]).config.representations
    assert [entry.max_number_of_units for entry in ours] == [1]


def test_13_importing_pyvene_prints_a_notice() -> None:
    """It would spoil `--json` output; and `str` of a view fails, which we never ask for."""
    code = "import iit_toolkit.interchange"
    ours = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ours.stdout == ""
    with pytest.raises(AttributeError):
        str(view(make_model("bert"), BLOCK))


def test_14_captured_hidden_states_of_the_intervened_layer_are_from_before_it() -> None:
    """The price of editing a copy, so the engine takes the last hidden state from the base model's output."""
    model, inputs, source = setting()
    captured = {**inputs, "output_hidden_states": True}
    before = model(**captured).hidden_states[2]
    safe = view(model, BLOCK, SafeIntervenableModel)(captured, [source], lists())[1].hidden_states[2]
    assert torch.equal(safe, before)
    for block in (1, 2):
        component = f"bert.encoder.layer[{block}].output"
        assert torch.equal(
            by_engine(model, component).counterfactual_hidden, by_hand(model, component).counterfactual_hidden
        )

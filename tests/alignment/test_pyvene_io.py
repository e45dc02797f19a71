"""Alignments as pyvene configs: back and forth, and run by stock pyvene with the engine's result."""

from __future__ import annotations

import json
from typing import Any

import pytest
import pyvene as pv
import torch

from iit_toolkit.alignment import Alignment, from_pyvene, resolve, to_pyvene
from iit_toolkit.alignment.pyvene_io import stock_arguments, to_json
from iit_toolkit.errors import UserError
from iit_toolkit.interchange import InterchangeModel, Swap
from tests.families import make_batch, make_model

SOURCE = torch.tensor([2, 0, 3, 1])
BASE_POSITIONS = torch.tensor([[4, 1, 2], [3, 2, 5], [1, 6, 3], [2, 3, 1]])
SOURCE_POSITIONS = torch.tensor([[3, 1, 5], [7, 4, 1], [2, 3, 1], [4, 5, 2]])

VARIABLES: dict[str, list[list[dict[str, Any]]]] = {
    "block output": [[{"layer": 1, "component": "block_output"}]],
    "neuron range": [[{"layer": 1, "component": "block_output", "neurons": [3, 20]}]],
    "one neuron": [[{"layer": 1, "component": "block_output", "neurons": [3, 4]}]],
    "two ranges": [[{"layer": 1, "component": "block_output", "neurons": part} for part in ([20, 30], [0, 5])]],
    "heads": [[{"layer": 1, "component": "attention_value_output", "heads": [3, 1]}]],
    "several layers": [[{"layer": layer, "component": "block_output"} for layer in (2, 0)]],
    "mixed": [[{"layer": 0, "component": "mlp_output", "neurons": [0, 8]}, {"layer": 2, "component": "block_input"}]],
    "two variables": [
        [{"layer": 1, "component": "block_output", "neurons": [0, 16]}],
        [
            {"layer": 1, "component": "block_output", "neurons": [16, 32]},
            {"layer": 2, "component": "block_output"},
        ],
    ],
}


def alignment_of(kind: str) -> Alignment:
    variables = [
        {"name": f"variable-{index}", "teacher": sites, "student": sites} for index, sites in enumerate(VARIABLES[kind])
    ]
    return Alignment.from_dict({"name": "test", "variables": variables})


def written(alignment: Alignment, model: Any) -> list[list[tuple[str, tuple[int, int] | None]]]:
    """Per variable, every (component, range) that is swapped, one by one."""
    return [
        [(site.write, part) for site in sites for part in (site.ranges or (None,))]
        for sites in resolve(alignment, model, "student").values()
    ]


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize("kind", VARIABLES)
def test_round_trip(family: str, kind: str) -> None:
    model, alignment = make_model(family), alignment_of(kind)
    config = to_pyvene(alignment, model, "student")
    back = from_pyvene(config, to_pyvene(alignment, model, "teacher"), positions=alignment.positions)
    assert written(back, model) == written(alignment, model)
    assert back.positions == alignment.positions


@pytest.mark.parametrize("family", ["bert", "distilbert", "modernbert", "gpt2", "llama"])
@pytest.mark.parametrize(("kind", "which"), [*((kind, 0) for kind in VARIABLES), ("two variables", 1)])
def test_stock_pyvene_gives_the_engines_counterfactual(
    kind: str, which: int, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, alignment = make_model(family).eval(), alignment_of(kind)
    inputs, _ = make_batch(family)
    mask = torch.zeros(4, 11, dtype=torch.bool).scatter(1, BASE_POSITIONS, True)
    taken = torch.zeros(4, 11, dtype=torch.long).scatter(1, BASE_POSITIONS, SOURCE_POSITIONS)
    interchange = InterchangeModel(model, resolve(alignment, model, "student"))
    name = f"variable-{which}"
    with torch.no_grad():
        base = interchange.base_run(inputs, [name])
        ours = interchange.logits(interchange.counterfactual_run(base, name, Swap(SOURCE, mask, taken)))

        monkeypatch.delitem(pv.type_to_dimension_mapping, type(model))  # as in a process that never saw our engine
        config = to_pyvene(alignment, model, "student")
        stock = pv.IntervenableModel(config, model)
        sources: list[Any] = [None] * len(VARIABLES[kind])
        sources[which] = {key: value[SOURCE] for key, value in inputs.items()}
        arguments = stock_arguments(config, which, (SOURCE_POSITIONS, BASE_POSITIONS))
        theirs = stock(inputs, sources, **arguments)[1].logits.flatten(0, 1)
    assert not torch.allclose(ours, interchange.logits(base), atol=1e-2)
    assert torch.equal(theirs, ours)


def from_json(text: str) -> Any:
    """What a person does who has the JSON and stock pyvene only."""
    entries = json.loads(text)["representations"]
    return pv.IntervenableConfig(
        [
            pv.RepresentationConfig(
                **entry, intervention=pv.VanillaIntervention(subspace_partition=entry["subspace_partition"])
            )
            for entry in entries
        ]
    )


@pytest.mark.parametrize("family", ["bert", "gpt2", "llama"])
@pytest.mark.parametrize(("kind", "which"), [*((kind, 0) for kind in VARIABLES), ("two variables", 1)])
def test_the_json_alone_makes_the_same_counterfactual(
    kind: str, which: int, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, alignment = make_model(family).eval(), alignment_of(kind)
    text = to_json(alignment, model, "student")
    document = json.loads(text)
    assert document["variables"][which] == f"variable-{which}"
    assert (document["side"], document["model"], document["intervention"]) == (
        "student", type(model).__name__, "VanillaIntervention",
    )  # fmt: skip
    inputs, _ = make_batch(family)
    sources: list[Any] = [None] * len(VARIABLES[kind])
    sources[which] = {key: value[SOURCE] for key, value in inputs.items()}
    monkeypatch.delitem(pv.type_to_dimension_mapping, type(model), raising=False)
    with torch.no_grad():
        logits = []
        for config in (from_json(text), to_pyvene(alignment, model, "student")):
            arguments = stock_arguments(config, which, (SOURCE_POSITIONS, BASE_POSITIONS))
            logits.append(pv.IntervenableModel(config, model)(inputs, sources, **arguments)[1].logits)
        assert torch.equal(*logits)
        assert not torch.allclose(logits[0], model(**inputs).logits, atol=1e-2)


def test_native_components_and_index_lists_are_read() -> None:
    config = pv.IntervenableConfig(
        [
            pv.RepresentationConfig(layer=2, component="block_output", subspace_partition=[[0, 4], [7, 8, 9]]),
            pv.RepresentationConfig(component="transformer.h[1].mlp.output"),
        ]
    )
    first, second = from_pyvene(config, config, name="n").variables
    assert [(site.layer, site.component, site.neuron_range) for site in first.teacher] == [
        (2, "block_output", (0, 4)),
        (2, "block_output", (7, 10)),
    ]
    assert [(site.layer, site.component) for site in second.student] == [(None, "transformer.h[1].mlp.output")]


def representation(**changed: Any) -> Any:
    return pv.IntervenableConfig([pv.RepresentationConfig(**{"layer": 1, "component": "block_output", **changed})])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (representation(unit="h"), "token positions"),
        (representation(low_rank_dimension=4), "rotations"),
        (representation(subspace_partition=[[1, 3, 5]]), "not one range"),
        (representation(intervention_type=pv.RotatedSpaceIntervention), "intervention RotatedSpaceIntervention; only"),
        (representation(intervention=pv.ZeroIntervention(embed_dim=4)), "intervention ZeroIntervention; only"),
        (pv.IntervenableConfig([pv.RepresentationConfig()], pv.AdditionIntervention), "AdditionIntervention; only"),
        (representation(component="query_output"), "component 'query_output' is neither"),
        (
            representation(component="mlp_activation"),
            "component 'mlp_activation' of a gated MLP is before the gate in pyvene",
        ),
        (representation(group_key=3), "same group_keys"),
    ],
)
def test_configs_that_say_something_else_are_refused(config: Any, message: str) -> None:
    with pytest.raises(UserError) as raised:
        from_pyvene(config, representation())
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_a_side_that_is_none_is_refused() -> None:
    site = {"layer": 1, "component": "block_output"}
    alignment = Alignment.from_dict({"name": "n", "variables": [{"name": "v", "teacher": [site], "student": [site]}]})
    with pytest.raises(UserError, match="side 'techer': did you mean \"teacher\"?"):
        to_pyvene(alignment, make_model("bert"), "techer")  # pyright: ignore[reportArgumentType]


def test_reading_elsewhere_cannot_be_said_in_pyvene() -> None:
    site = {"layer": 1, "component": "block_output", "read": {"layer": 1, "component": "block_input"}}
    variable = {"name": "v", "teacher": [site], "student": [site]}
    alignment = Alignment.from_dict({"name": "n", "variables": [variable]})
    with pytest.raises(UserError, match="pyvene reads and writes the same place"):
        to_pyvene(alignment, make_model("bert"), "student")
    with pytest.raises(UserError, match="pyvene reads and writes the same place"):
        to_json(alignment, make_model("bert"), "student")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"representations": []}, "give a pyvene.IntervenableConfig"),
        (None, "give a pyvene.IntervenableConfig"),
        ("config.json", "give a pyvene.IntervenableConfig"),
        (representation(component=5), "component 5; give a text"),
        (representation(component=None), "component None; give a text"),
        (representation(layer="1"), "valid integer"),
        (representation(group_key=[1]), "group_key [1]; give a number or a text"),
        (representation(subspace_partition=5), "subspace_partition 5; give a list"),
        (representation(subspace_partition=[5]), "subspace 5 is not one range"),
        (representation(subspace_partition=[[]]), "subspace [] is not one range"),
        (representation(subspace_partition=[["a", "b"]]), "is not one range"),
        (representation(subspace_partition=[[0.5, 2]]), "is not one range"),
        (representation(subspace_partition=[[0, 1, 10**9]]), "is not one range"),
        (representation(subspace_partition=[[4, 2]]), "is empty"),
        (
            pv.IntervenableConfig([pv.RepresentationConfig()] * 3, [pv.VanillaIntervention]),
            "as many intervention_types as representations",
        ),
    ],
)
def test_configs_of_other_types_are_named(config: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        from_pyvene(config, config)
    assert message in str(caught.value)

"""Alignment files: round trips, and errors that say where and what would be right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from iit_toolkit.alignment import Alignment
from iit_toolkit.errors import UserError


def content(**changed: Any) -> dict[str, Any]:
    """An alignment file's content that uses everything."""
    variables = [
        {
            "name": "middle",
            "teacher": [{"layer": 6, "component": "block_output", "neurons": [0, 16]}],
            "student": [
                {"layer": 3, "component": "attention_value_output", "heads": [0, 2]},
                {"component": "bert.encoder.layer[1].output"},
            ],
        },
        {
            "name": "late",
            "teacher": [{"layer": 9, "component": "block_output", "read": {"layer": 9, "component": "block_input"}}],
            "student": [{"layer": 4, "component": "block_output"}],
        },
    ]
    return {
        "name": "example",
        "variables": variables,
        "positions": {"kind": "fixed", "base": [1, 2], "source": [3, 4]},
        "sources": {"kind": "dataset"},
        "draw": {"middle": 3, "late": 1},
        **changed,
    }


OF_PROGRAM = {
    "name": "left",
    "teacher": [{"variable": "left_equal"}, {"variable": "carry"}],
    "student": [{"component": "layers[1].output", "neurons": [0, 4]}],
}


def with_site(**site: Any) -> dict[str, Any]:
    variable = {"name": "v", "teacher": [site], "student": [{"layer": 0, "component": "block_output"}]}
    return {"name": "example", "variables": [variable]}


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"positions": {"kind": "span", "fraction": 0.25}, "draw": "uniform"},
        {"positions": {"kind": "random"}},
        {"positions": {"kind": "masked"}},
        {"positions": {"kind": "all"}, "sources": {"kind": "in_batch"}},
        {"positions": {"kind": "fixed", "base": [5]}},
        {"positions": {"kind": "differing"}, "sources": {"kind": "paired"}},
        {"positions": {"kind": "span"}, "sources": {"kind": "paired"}},
        {"variables": [OF_PROGRAM], "draw": "uniform"},
    ],
)
def test_yaml_round_trip(tmp_path: Path, changed: dict[str, Any]) -> None:
    alignment = Alignment.from_dict(content(**changed))
    path = tmp_path / "alignment.yaml"
    path.write_text(alignment.to_yaml(), encoding="utf-8")
    assert Alignment.from_yaml(path) == alignment
    assert Alignment.from_dict(alignment.to_dict()) == alignment


def test_what_is_left_out_has_the_papers_values() -> None:
    alignment = Alignment.from_dict({"name": "n", "variables": content()["variables"]})
    assert alignment.positions.kind == "span" and alignment.positions.fraction == 0.3
    assert alignment.sources.kind == "in_batch"
    assert alignment.probabilities == (0.5, 0.5)


def test_probabilities_sum_to_one() -> None:
    assert Alignment.from_dict(content()).probabilities == (0.75, 0.25)
    assert Alignment.from_dict(content(draw={"late": 2})).probabilities == (0, 1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (content(positoins={"kind": "all"}), 'unknown key `positoins`; did you mean "positions"?'),
        (with_site(layer=1, component="block_output", neuron=[0, 4]), 'did you mean "neurons"?'),
        (content(positions={"kind": "span", "fracton": 0.3}), 'did you mean "fraction"?'),
        (with_site(layer=1, component="block_outptu"), 'did you mean "block_output"?'),
        (with_site(component="block_output"), "needs a `layer`"),
        (with_site(layer=1, component="bert.encoder.layer[1].output"), "`layer` must be left out"),
        (with_site(component="bert.encoder.layer[1]"), "ending in .input or .output"),
        (with_site(layer=1, component="block_output", neurons=[4, 4]), "is empty"),
        (with_site(layer=1, component="block_output", neurons=[-1, 4]), "0 <= low < high"),
        (with_site(layer=1, component="block_output", heads=[1]), "attention_value_output"),
        (with_site(layer=1, component="attention_value_output", heads=[1, 1]), "each once"),
        (with_site(layer=1, component="attention_value_output", heads=[1], neurons=[0, 1]), "not both"),
        (content(draw={"midle": 1}), 'did you mean "middle"?'),
        (content(draw={"x": 1}), "draw names no variable 'x'; valid: late, middle"),
        (content(draw={"middle": 0}), "at least one above 0"),
        (content(draw={"middle": float("nan")}), "draw needs probabilities"),
        (content(draw={"middle": float("inf")}), "draw needs probabilities"),
        (content(draw={}), "at least one above 0"),
        (content(positions={"kind": "span", "fraction": 1.5}), "less than or equal to 1"),
        (content(positions={"kind": "fixed", "base": [1, 1]}), "may appear once"),
        (content(positions={"kind": "fixed", "base": [1], "source": [1, 2]}), "equally long"),
        (content(positions={"kind": "differing"}, sources={"kind": "in_batch"}), "needs `sources: {kind: paired}`"),
        (content(positions={"kind": "spam"}), "span"),
        (content(variables=[]), "variables"),
        (content(variables=[{**OF_PROGRAM, "teacher": []}]), "`variables.0.teacher`: "),
        (content(variables=[{**OF_PROGRAM, "teacher": [{"variable": ""}]}]), "`variables.0.teacher.0.variable`: "),
        (content(variables=[{**OF_PROGRAM, "teacher": [{"variabel": "x"}]}]), "this key is missing"),
        (content(variables=[{**OF_PROGRAM, "teacher": [{"variable": "x", "layer": 1}]}]), "unknown key `variables.0"),
        (
            content(
                variables=[{**OF_PROGRAM, "teacher": [{"variable": "x"}, {"layer": 0, "component": "block_output"}]}]
            ),
            "sites of a model or variables of a program, not both",
        ),
        (content(variables=content()["variables"] * 2), "must differ"),
        (content(sources="dataset"), "`sources`: needs keys, such as {kind: ...}"),
        (content(draw={"middle": "often"}), "`draw`: give `uniform`, or a weight per variable"),
        ("nothing", "must hold keys, such as name and variables"),
    ],
)
def test_mistakes_are_told_in_one_line(wrong: Any, message: str) -> None:
    with pytest.raises(UserError) as raised:
        Alignment.from_dict(wrong)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be read .No such file"):
        Alignment.from_yaml(tmp_path / "absent.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: [", encoding="utf-8")
    with pytest.raises(UserError, match="no valid YAML"):
        Alignment.from_yaml(broken)
    broken.write_text("name: a\nname: b\n", encoding="utf-8")
    with pytest.raises(UserError, match='key "name" occurs twice'):
        Alignment.from_yaml(broken)
    broken.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not text in UTF-8"):
        Alignment.from_yaml(broken)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (with_site(layer=True, component="block_output"), "valid integer"),
        (with_site(layer="6", component="block_output"), "valid integer"),
        (with_site(layer=6.0, component="block_output"), "valid integer"),
        (with_site(layer=2**31, component="block_output"), "less than 2147483648"),
        (with_site(layer=1, component=5), "valid string"),
        (with_site(layer=1, component="x" * 100_000), "is neither one of"),
        (with_site(layer=1, component="block_output", neurons=[0.5, 4]), "valid integer"),
        (with_site(layer=1, component="block_output", neurons=[0, 10**12]), "less than 2147483648"),
        (with_site(layer=1, component="block_output", neurons=[0, 1, 2]), "neurons"),
        (content(positions={"kind": "fixed", "base": [10**19]}), "less than 2147483648"),
        (content(positions={"kind": "span", "fraction": "0.3"}), "valid number"),
        (content(positions={"kind": "span", "fraction": float("nan")}), "less than or equal to 1"),
        (content(draw={"middle": 1e308, "late": 1e308}), "draw needs probabilities"),
        (content(draw={"middle": True}), "`draw`"),
        (content(draw={"x" * 10_000: 1}), "draw names no variable"),
        (content(name="a\nb"), "is no name: give at most 100 printable characters on one line"),
        (content(name="a\x1b[2J"), "is no name"),
        (content(name=5), "valid string"),
        (content(name=""), "at least 1 character"),
        (content(name="x" * 101), "is no name"),
        (content(variables=[content()["variables"][0]] * 1500), "given more than once: middle"),
        (content(variables=[{**content()["variables"][0], "name": "\u202e"}]), "is no name"),
        (content(variables=None), "variables"),
        (content(variables=[None]), "needs keys"),
        (content(variables={"a": 1}), "variables"),
        (content(positions=None), "positions"),
        (None, "must hold keys"),
        ([], "must hold keys"),
        (float("nan"), "must hold keys"),
    ],
    ids=str,
)
def test_values_of_another_kind_are_not_taken_for_right_ones(wrong: Any, message: str) -> None:
    with pytest.raises(UserError) as raised:
        Alignment.from_dict(wrong)
    told = str(raised.value)
    assert message in told and told.isprintable() and len(told) <= 400


def test_many_variables_are_an_alignment() -> None:
    first = content()["variables"][0]
    many = Alignment.from_dict(
        content(variables=[{**first, "name": f"v{index}"} for index in range(10_000)], draw="uniform")
    )
    assert len(many.probabilities) == 10_000

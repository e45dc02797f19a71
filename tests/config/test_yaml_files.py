"""The one reader of YAML: plain data within bounds, or a line with place and remedy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from iit_toolkit.config.yaml_files import dump_yaml, parse_yaml, read_yaml
from iit_toolkit.errors import UserError
from iit_toolkit.files.text_files import MAX_DEPTH, MAX_NODES


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, text) for text in ("no", "Yes", "on", "OFF", "y", "1:30", "010", "0x1F", "0o7", "1_000", "-0x1")),
        *(
            (text, text)
            for text in ("2020-13-45", "2020-01-01", "12e", "e5", ".", "+", "=", "1.2.3", "0123.e", "²", "१")
        ),
        *(("true", True), ("FALSE", False), ("True", True), ("null", None), ("~", None), ("", None), ("NULL", None)),
        *(("0", 0), ("-0", 0), ("+5", 5), ("-17", -17), ("18446744073709551615", 2**64 - 1)),
        *(("1.", 1.0), (".5", 0.5), ("-.5e1", -5.0), ("3e-4", 3e-4), ("1E5", 1e5), ("1e-999", 0.0), ("00.5", 0.5)),
        *((".inf", math.inf), ("-.INF", -math.inf)),
        *(("'no'", "no"), ('"3"', "3"), ("|\n  a\n  b\n", "a\nb\n"), ("[1, [a], {b: c}]", [1, ["a"], {"b": "c"}])),
        *(("{1: a, true: b, ~: c, 1.5: d}", {"1": "a", "true": "b", "~": "c", "1.5": "d"}), ("\ufeffa: 1", {"a": 1})),
        *(
            ("a: 1\r\nb: 2\r\n", {"a": 1, "b": 2}),
            ("# nothing", None),
            ("---\na\n...\n", "a"),
            ("%YAML 1.2\n---\na", "a"),
        ),
        ("a: &x {b: [1]}\nc: *x\nd: {<<: *x, e: 2}", {"a": {"b": [1]}, "c": {"b": [1]}, "d": {"b": [1], "e": 2}}),
        ("{<<: [{a: 1}, {a: 2, b: 3}], b: 4}", {"a": 1, "b": 4}),
        ("&a b: *a", {"b": "b"}),
    ],
    ids=ascii,
)
def test_plain_data_is_read(text: str, value: object) -> None:
    found = parse_yaml(text, "here")
    assert found == value and type(found) is type(value)


def test_nan_is_a_number() -> None:
    found = parse_yaml(".nan", "here")
    assert isinstance(found, float) and math.isnan(found)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "seed: !!bool maybe",
            "here, line 1, column 7: no valid YAML here: the tag '!!bool' is not read; leave it out",
        ),
        ("a: 1\nseed: !!int x", "here, line 2, column 7: no valid YAML here: the tag '!!int'"),
        *(
            (f"a: {tag}", "the tag")
            for tag in ("!!python/object:os.system x", "!!set {a}", "!!omap []", "!!binary aGk=")
        ),
        *((text, "the tag") for text in ("! x", "a: !mine [1]", "!!map {a: 1}", "!!null ''", "{!!str a: 1}")),
        ("a: &t {b: *t}", "*t stands inside of what it names"),
        ("&t [*t]", "*t stands inside of what it names"),
        ("a: *nobody", "no anchor &nobody comes before"),
        (BOMB, f"more than {MAX_NODES:,} values, aliases written out"),
        ("- &m {" + ", ".join(f"k{index}: 1" for index in range(900)) + "}\n" + "- {<<: *m}\n" * 99, "more than"),
        ("a: " + "[" * 900, f"nested more than {MAX_DEPTH} levels"),
        ("{a: " * 2000 + "1" + "}" * 2000, f"nested more than {MAX_DEPTH} levels"),
        ("- " * 2000 + "a", f"nested more than {MAX_DEPTH} levels"),
        (
            "- &a [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\n- [[[[[[[[[[[[[[[[[[[[*a]]]]]]]]]]]]]]]]]]]]",
            "nested more than",
        ),
        ("seed: " + "9" * 5000, "an integer of more than 20 digits; quote it"),
        ("seed: -" + "1" * 21, "an integer of more than 20 digits"),
        ("a: 1e999", "the number '1e999' is too large"),
        ("a: -1e999", "is too large"),
        ("a: 1\nb: 2\na: 3", 'here, line 3, column 1: no valid YAML: key "a" occurs twice'),
        ("{1: a, '1': b}", 'key "1" occurs twice'),
        ("{<<: {a: 1}, <<: {b: 1}}", 'key "<<" occurs twice'),
        ("? [a]\n: b", "a key must be a text"),
        ("? {a: b}\n: c", "a key must be a text"),
        ("&a b: 1\n*a : 2", "a key must be a text"),
        ("'': 1", "a key is empty"),
        ("{<<: 3}", "<< merges keys and values only"),
        ("{<<: [{a: 1}, 2]}", "<< merges keys and values only"),
        ("a: 1\n---\nb: 2", "here, line 2, column 1: a second document begins"),
        ("--- a\n--- b", "a second document begins"),
        ('a: "x\\0y"', "here, line 1, column 4: a text holds the control character '\\x00'"),
        ('"\\e[2J": 1', "control character '\\x1b'"),
        ('a: "\\ud800"', "no valid YAML"),
        ('a: "\\U00110000"', "no valid YAML"),
        ("a: \x07", "no valid YAML"),
        ("a: \ud800", "no valid YAML"),
        ("\ta: 1", "here, line 1, column 1: no valid YAML"),
        ("a: [1, 2", "no valid YAML"),
        ("a: 'x", "no valid YAML"),
        ("%YAML 9.0\n---\na", "no valid YAML"),
        ("x" * (2**20 + 1), "larger than 1 MiB"),
    ],
    ids=lambda one: ascii(one)[:40],
)
def test_anything_else_is_one_line_with_its_place(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "here")
    told = str(caught.value)
    assert told.startswith("here") and said in told and told.isprintable() and len(told) < 250


def test_aliases_share_nothing() -> None:
    found: Any = parse_yaml("a: &x {b: [1]}\nc: *x\nd: {<<: *x}", "here")
    found["c"]["b"].append(2)
    assert found["a"] == {"b": [1]}


def test_the_largest_files_that_are_allowed_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    variable = (
        "- {name: v%d, teacher: [{layer: 1, component: block_output}], student: [{layer: 0, component: block_output}]}"
    )
    path.write_text("variables:\n" + "\n".join(variable % index for index in range(5000)))
    found: Any = read_yaml(path)
    assert len(found["variables"]) == 5000
    deep = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse_yaml(deep, "here") is not None


def test_what_holds_itself_or_is_no_data_is_not_written() -> None:
    endless: dict[str, Any] = {}
    endless["a"] = endless
    for content in (endless, {"a": object()}, {"a": b"x", "b": object}):
        with pytest.raises(UserError, match="can't be written as YAML"):
            dump_yaml(content)

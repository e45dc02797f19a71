"""Import of the official code's .nm files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from iit_toolkit.alignment import alignment_from_nm, preset
from iit_toolkit.errors import UserError


def write(path: Path, pairs: list[tuple[str, str]]) -> Path:
    mappings = [
        {"teacher_variable_names": [teacher], "student_variable_names": [student]} for teacher, student in pairs
    ]
    path.write_text(json.dumps({"interchange_variable_mappings": mappings}), encoding="utf-8")
    return path


def places(sites: Any) -> list[tuple[int, tuple[int, int] | None]]:
    for site in sites:
        assert site.component == "block_output"
        assert (site.read.component, site.read.layer) == ("block_input", site.layer)
    return [(site.layer, site.neuron_range) for site in sites]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("$L:[0:2]$H:[0:12]$[0:64]", [(0, None), (1, None)]),
        ("$L:6$H:[0:12]$[0:64]", [(6, None)]),
        ("$L:6$H:[0:4]$[0:64]", [(6, (0, 256))]),
        ("$L:6$H:[4:12]$[0:64]", [(6, (256, 768))]),
        ("$L:6$H:3$[0:64]", [(6, (192, 256))]),
        ("$L:6$H:[0:2]$[8:16]", [(6, (8, 16)), (6, (72, 80))]),
        ("$L:[3:5]$H:11$[0:32]", [(3, (704, 736)), (4, (704, 736))]),
    ],
)
def test_names(tmp_path: Path, name: str, expected: list[tuple[int, tuple[int, int] | None]]) -> None:
    alignment = alignment_from_nm(write(tmp_path / "a.nm", [(name, "$L:3$H:[0:12]$[0:64]")]))
    (variable,) = alignment.variables
    assert places(variable.teacher) == expected
    assert places(variable.student) == [(3, None)]
    assert alignment.name == "a"


def test_the_official_full_mapping_is_the_preset(tmp_path: Path) -> None:
    pairs = [(f"$L:[{2 * i}:{2 * i + 2}]$H:[0:12]$[0:64]", f"$L:{i}$H:[0:12]$[0:64]") for i in range(6)]
    imported = alignment_from_nm(write(tmp_path / "multiple_single_multilayer.nm", pairs))
    ready = preset("naacl2022/full", 12, 6)
    assert [(v.teacher, v.student) for v in imported.variables] == [(v.teacher, v.student) for v in ready.variables]


@pytest.mark.parametrize("name", ["L:6", "$L:6$H:[0:12]", "$L:6$H:[0:12]$[0:64] ", "$L:x$H:[0:12]$[0:64]"])
def test_names_of_another_form(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="expected the form"):
        alignment_from_nm(write(tmp_path / "a.nm", [(name, "$L:3$H:[0:12]$[0:64]")]))


@pytest.mark.parametrize("name", ["$L:[6:6]$H:[0:12]$[0:64]", "$L:6$H:[0:2]$[8:8]", "$L:6$H:[4:4]$[0:64]"])
def test_empty_ranges(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="a.nm: `variables.0.teacher"):
        alignment_from_nm(write(tmp_path / "a.nm", [(name, "$L:3$H:[0:12]$[0:64]")]))


def test_files_of_another_kind(tmp_path: Path) -> None:
    for text in ("not json", "[]", "{}", '{"interchange_variable_mappings": [{}]}'):
        path = tmp_path / "a.nm"
        path.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match="not a .nm file"):
            alignment_from_nm(path)
    with pytest.raises(UserError, match="can't be read"):
        alignment_from_nm(tmp_path / "absent.nm")


@pytest.mark.parametrize(
    ("teacher", "said"),
    [
        ("$L:[0:99999999]$H:[0:12]$[0:64]", "expected the form"),
        (f"$L:[0:{'9' * 5000}]$H:[0:12]$[0:64]", "expected the form"),
        ("$L:[0:999999]$H:[0:12]$[0:64]", "no model has 999,999 of these; give at most 10,000"),
        ("$L:0$H:[0:12]$[0:999999]", "no model has 999,999 of these"),
        ("$L:[0:200]$H:[0:200]$[0:9]", "more than 10,000 sites in one file"),
        ("$L:١$H:[0:12]$[0:64]", "expected the form"),
        ("x" * 100_000, "expected the form"),
    ],
    ids=lambda one: ascii(one)[:30],
)
def test_a_name_of_more_than_a_model_has(tmp_path: Path, teacher: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        alignment_from_nm(write(tmp_path / "a.nm", [(teacher, "$L:3$H:[0:12]$[0:64]")]))
    assert "a.nm, mapping 0, teacher" in str(caught.value) and len(str(caught.value)) < 300


def test_sites_are_counted_over_the_file(tmp_path: Path) -> None:
    pair = ("$L:[0:30]$H:[0:30]$[0:9]", "$L:3$H:[0:12]$[0:64]")
    assert len(alignment_from_nm(write(tmp_path / "a.nm", [pair] * 11)).variables) == 11
    with pytest.raises(UserError, match="mapping 11, teacher: .* more than 10,000 sites in one file"):
        alignment_from_nm(write(tmp_path / "a.nm", [pair] * 100))


@pytest.mark.parametrize("name", [5, None, ["$L:6$H:[0:12]$[0:64]"], {}, True, 10**19])
def test_names_that_are_no_text(tmp_path: Path, name: Any) -> None:
    with pytest.raises(UserError, match="a.nm, mapping 0, student: .*expected the form"):
        alignment_from_nm(write(tmp_path / "a.nm", [("$L:6$H:[0:12]$[0:64]", name)]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 3000, "nested more than 40 levels"),
        ("9" * 5000, "more than 20 digits"),
        ('{"interchange_variable_mappings": {"a": 1}}', "it needs `interchange_variable_mappings`"),
        ('{"interchange_variable_mappings": [1]}', "it needs `interchange_variable_mappings`"),
        ('{"interchange_variable_mappings": [{"teacher_variable_names": "$L"}]}', "it needs"),
        ('{"interchange_variable_mappings": NaN}', "no valid JSON"),
        ('{"interchange_variable_mappings": []}', "variables"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "a.nm").write_text(text)
    with pytest.raises(UserError, match=said):
        alignment_from_nm(tmp_path / "a.nm")

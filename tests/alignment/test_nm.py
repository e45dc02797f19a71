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
    return [(site.layer, site.neurons) for site in sites]


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

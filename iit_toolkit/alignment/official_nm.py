"""Import of the alignment files (`.nm`) of the official code of arXiv 2112.02505.

There, `$L:[4:8]$H:[0:12]$[0:64]` means: blocks 4 to 7, slices 0 to 11 of the block's output vector, neurons 0 to 63 of
each slice. A slice is 64 neurons wide. The code calls slices heads, but they cut the residual vector. The official code
reads the input of the named block and writes its output; so does the imported alignment.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from iit_toolkit.alignment.spec import Alignment
from iit_toolkit.errors import UserError, shown
from iit_toolkit.files.text_files import parse_json, read_text

_SLICE = 64
_SLICES = 12
MAX_INDEX = 10_000
"""End of a range. Models have at most a few hundred blocks, and a few hundred slices of 64 neurons."""
MAX_SITES = 10_000
"""Sites of a file. One name can stand for a site per block and slice, and a file can hold many names."""
_SPAN = r"(?:\[([0-9]{1,6}):([0-9]{1,6})\]|([0-9]{1,6}))"
_NAME = re.compile(rf"\$L:{_SPAN}\$H:{_SPAN}\$\[([0-9]{{1,6}}):([0-9]{{1,6}})\]")


def alignment_from_nm(path: str | Path) -> Alignment:
    """Read an official `.nm` file, with the places the official code reads and writes.

    Raises:
        UserError: If the file cannot be read, holds a name of another form, or names more than a model can have.
    """
    content: Any = parse_json(read_text(Path(path)), f"{path}: not a .nm file")
    variables: list[dict[str, Any]] = []
    left = MAX_SITES
    for index, mapping in enumerate(_listed(content, "interchange_variable_mappings", path)):
        variable: dict[str, Any] = {"name": f"mapping-{index}"}
        for side in ("teacher", "student"):
            sites: list[dict[str, Any]] = []
            for name in _listed(mapping, f"{side}_variable_names", path):
                sites += _sites(name, left - len(sites), f"{path}, mapping {index}, {side}")
            variable[side] = sites
            left -= len(sites)
        variables.append(variable)
    return Alignment.from_dict({"name": Path(path).stem, "variables": variables}, str(path))


def _listed(holder: Any, key: str, path: str | Path) -> list[Any]:
    found = holder.get(key) if isinstance(holder, dict) else None  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(found, list):
        raise UserError(
            f"{path}: not a .nm file; it needs `interchange_variable_mappings` with teacher_variable_names and "
            "student_variable_names"
        )
    return found  # pyright: ignore[reportUnknownVariableType]


def _sites(name: Any, left: int, where: str) -> list[dict[str, Any]]:
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise UserError(f"{where}: {shown(name)}: expected the form $L:[4:8]$H:[0:12]$[0:64]")
    ends = [int(match[group]) for group in (2, 3, 5, 6, 8) if match[group] is not None]
    if max(ends) > MAX_INDEX:
        raise UserError(f"{where}: {shown(name)}: no model has {max(ends):,} of these; give at most {MAX_INDEX:,}")
    layers = _range(match[1], match[2], match[3])
    slices = _range(match[4], match[5], match[6])
    low, high = int(match[7]), int(match[8])
    whole = (low, high) == (0, _SLICE)  # of each slice, so that slices are one range
    if len(layers) * (1 if whole else len(slices)) > left:
        raise UserError(f"{where}: {shown(name)}: more than {MAX_SITES:,} sites in one file; give fewer")
    if whole:
        every = (slices.start, slices.stop) == (0, _SLICES)
        parts = [None] if every else [(slices.start * _SLICE, slices.stop * _SLICE)]
    else:
        parts = [(index * _SLICE + low, index * _SLICE + high) for index in slices]
    return [
        {
            "component": "block_output",
            "layer": layer,
            "neurons": part,
            "read": {"component": "block_input", "layer": layer},
        }
        for layer in layers
        for part in parts
    ]


def _range(low: str | None, high: str | None, single: str | None) -> range:
    return range(int(single), int(single) + 1) if single is not None else range(int(low or 0), int(high or 0))

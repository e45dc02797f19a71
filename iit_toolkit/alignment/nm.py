"""Import of the alignment files (`.nm`) of the official code of arXiv 2112.02505.

There, `$L:[4:8]$H:[0:12]$[0:64]` means: blocks 4 to 7, slices 0 to 11 of the block's output vector, each slice being
64 neurons wide (the code calls slices heads, but they cut the residual vector), neurons 0 to 63 of each slice. The
official code reads the input of the named block and writes its output; so does the imported alignment.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from iit_toolkit.alignment.spec import Alignment
from iit_toolkit.errors import UserError
from iit_toolkit.text_files import parse_json, read_text

_SLICE = 64
_SLICES = 12
_NAME = re.compile(r"\$L:(?:\[(\d+):(\d+)\]|(\d+))\$H:(?:\[(\d+):(\d+)\]|(\d+))\$\[(\d+):(\d+)\]")


def alignment_from_nm(path: str | Path) -> Alignment:
    """Read an official `.nm` file, with the places the official code reads and writes.

    Raises:
        UserError: If the file cannot be read or holds a name of another form.
    """
    try:
        content: Any = json.loads(read_text(Path(path)))
        mappings = content["interchange_variable_mappings"]
        variables = [
            {
                "name": f"mapping-{index}",
                "teacher": [site for name in mapping["teacher_variable_names"] for site in _sites(name)],
                "student": [site for name in mapping["student_variable_names"] for site in _sites(name)],
            }
            for index, mapping in enumerate(mappings)
        ]
    except (json.JSONDecodeError, KeyError, TypeError):
        raise UserError(
            f"{path}: not a .nm file; it needs `interchange_variable_mappings` with teacher_variable_names and "
            "student_variable_names"
        ) from None
    return Alignment.from_dict({"name": Path(path).stem, "variables": variables}, str(path))


def _sites(name: str) -> list[dict[str, Any]]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(f"{name!r}: expected the form $L:[4:8]$H:[0:12]$[0:64]")
    layers = _range(match[1], match[2], match[3])
    slices = _range(match[4], match[5], match[6])
    low, high = int(match[7]), int(match[8])
    if (low, high) == (0, _SLICE):
        whole = (slices.start, slices.stop) == (0, _SLICES)
        parts = [None] if whole else [(slices.start * _SLICE, slices.stop * _SLICE)]
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

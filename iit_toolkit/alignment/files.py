"""Alignments as files: the toolkit's own YAML, and the `.nm` files of the paper's code."""

from __future__ import annotations

from pathlib import Path

from iit_toolkit.alignment.official_nm import alignment_from_nm
from iit_toolkit.alignment.presets import PRESETS
from iit_toolkit.alignment.spec import Alignment
from iit_toolkit.errors import UserError
from iit_toolkit.files.paths import require_path


def alignment_from_file(given: str) -> Alignment | None:
    """Read an alignment file.

    Args:
        given: A path, or possibly the name of a preset.

    Returns:
        The alignment; None if `given` is not the path of a file.

    Raises:
        UserError: If the file holds no alignment. If `given` can only be a path, and there is no such file or it is not
            a valid one.
    """
    if Path(require_path(given, "alignment")).is_file():
        return alignment_from_nm(given) if given.endswith(".nm") else Alignment.from_yaml(given)
    if given not in PRESETS and given.endswith((".yaml", ".yml", ".nm")):
        raise UserError(f"alignment {given}: no such file; give a file that exists, or one of {', '.join(PRESETS)}")
    return None

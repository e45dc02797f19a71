"""The figure of a search that was written into a run folder, as `search/`."""

from __future__ import annotations

import io
import json
from typing import Any

import pandas as pd

from iit_toolkit.analysis.plots import Plot, inline
from iit_toolkit.errors import UserError
from iit_toolkit.runs.folder import RunFolder, write_atomically

FOLDER = "search"
_NAME = "layers"


def read_searched(run: RunFolder) -> list[Plot]:
    """Copies the figure of the search into the figures of the run, and returns it; nothing where there was no search.

    Raises:
        UserError: If the search is not whole.
    """
    folder = RunFolder(run.path / FOLDER)
    document = folder.path / "search.json"
    if not document.is_file():
        return []
    try:
        found: dict[str, Any] = json.loads(document.read_text(encoding="utf-8"))
        files = {kind: (folder.figures / f"{_NAME}.{kind}").read_bytes() for kind in ("svg", "png", "csv")}
        layers = ", ".join(f"student {one['student_layer']} to teacher {one['teacher_layer']}" for one in found["map"])
        student, teacher, note = found["student"], found["teacher"], found["note"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise UserError(f"{folder.path}: not a whole search ({type(error).__name__}: {error}); search again") from None
    for kind, content in files.items():
        write_atomically(run.figures / f"{_NAME}.{kind}", content)
    caption = (
        f"Search of student {student} against teacher {teacher}: effective IIA with a teacher layer and a student "
        f"layer swapped. Colour: less its no-intervention floor, which is white. Framed: the chosen map. {note}"
    )
    alt = f"Teacher layers against student layers. Chosen: {layers}."
    svg = inline(files["svg"].decode(), _NAME, alt)
    return [Plot(_NAME, caption, alt, svg, pd.read_csv(io.BytesIO(files["csv"])))]

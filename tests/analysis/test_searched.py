"""A search that was written into a run folder stands in the run's report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from iit_toolkit.analysis.heatmap import write_heatmap
from iit_toolkit.analysis.report import write_report
from iit_toolkit.analysis.search import Cell, Matrix, Region
from iit_toolkit.errors import UserError
from tests.analysis.synthetic import make_outcomes, make_run


@pytest.fixture
def searched(tmp_path: Path) -> Path:
    make_run(tmp_path, make_outcomes(bases=30))
    region = Region(100, 40, 30, 0.5, 0.1, 0.4)
    cells = tuple(Cell(teacher, student, 30, region, region) for teacher in range(2) for student in range(2))
    write_heatmap(Matrix(2, 2, 20, cells), {0: 0, 1: 1}, tmp_path / "search" / "figures")
    layers = [{"student_layer": layer, "teacher_layer": layer} for layer in (0, 1)]
    found = {"map": layers, "student": "mine", "teacher": "theirs", "note": "Exploratory."}
    (tmp_path / "search" / "search.json").write_text(json.dumps(found))
    return tmp_path


def test_its_figure_is_shown(searched: Path) -> None:
    html = write_report(searched).read_text()
    assert 'id="figure-layers"' in html and "Search of student mine against teacher theirs" in html
    assert "Chosen: student 0 to teacher 0, student 1 to teacher 1." in html
    assert "(figures/layers.svg)" in (searched / "report.md").read_text()
    for kind in ("svg", "png", "csv"):
        name = f"figures/layers.{kind}"
        assert (searched / name).read_bytes() == (searched / "search" / name).read_bytes()


def test_half_a_search_is_refused(searched: Path) -> None:
    (searched / "search" / "figures" / "layers.svg").unlink()
    with pytest.raises(UserError, match="not a whole search"):
        write_report(searched)

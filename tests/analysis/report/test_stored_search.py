"""A search that was written into a run folder stands in the run's report."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from iit_toolkit.analysis.report.figures.layers import write_heatmap
from iit_toolkit.analysis.report.report import write_report
from iit_toolkit.analysis.report.stored_search import read_stored_search
from iit_toolkit.analysis.statistics.layer_matrix import SEARCH_SCHEMA, Cell, Matrix, Region
from iit_toolkit.errors import UserError
from iit_toolkit.runs.folder import RunFolder
from tests.analysis.synthetic import make_outcomes, make_run


@pytest.fixture
def searched(tmp_path: Path) -> Path:
    make_run(tmp_path, make_outcomes(bases=30))
    region = Region(100, 40, 30, 0.5, 0.1, 0.4)
    cells = tuple(Cell(teacher, student, 30, region, region) for teacher in range(2) for student in range(2))
    matrix = Matrix("effective_iia", 2, 2, 20, cells)
    (tmp_path / "search").mkdir()
    layers = [{"student_layer": layer, "teacher_layer": layer} for layer in (0, 1)]
    found = {"map": layers, "matrix": asdict(matrix), "student": "mine", "teacher": "theirs", "note": "Exploratory."}
    found["schema"] = SEARCH_SCHEMA
    (tmp_path / "search" / "search.json").write_text(json.dumps(found))
    return tmp_path


@pytest.fixture
def drawn(searched: Path) -> Path:
    """With the figure that the search drew."""
    matrix = TypeAdapter(Matrix).validate_python(
        json.loads((searched / "search" / "search.json").read_text())["matrix"]
    )
    write_heatmap(matrix, {0: 0, 1: 1}, searched / "search" / "figures")
    return searched


@pytest.mark.usefixtures("drawn")
def test_its_figure_is_shown(searched: Path) -> None:
    html = write_report(searched).read_text()
    assert 'id="figure-layers"' in html and "Search of student mine against teacher theirs" in html
    assert "Chosen: student 0 to teacher 0, student 1 to teacher 1." in html
    assert "(figures/layers.svg)" in (searched / "report.md").read_text()
    for kind in ("svg", "png", "csv"):
        name = f"figures/layers.{kind}"
        assert (searched / name).read_bytes() == (searched / "search" / name).read_bytes()


@pytest.mark.usefixtures("drawn")
def test_the_figure_of_the_search_is_drawn_anew_and_no_other_is_trusted(searched: Path) -> None:
    figure = searched / "search" / "figures" / "layers.svg"
    drawn = figure.read_bytes()
    figure.write_text('<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(2)</script></svg>')
    html = write_report(searched).read_text()
    assert "alert(" not in html and 'id="figure-layers"' in html
    assert (searched / "figures" / "layers.svg").read_bytes() == drawn


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda found: found.pop("matrix"), "matrix: field required"),
        (lambda found: found["matrix"]["cells"].pop(), "one for each two layers"),
        (lambda found: found["matrix"].update(teacher_layers=201), "1 to 200 layers"),
        (lambda found: found["matrix"].update(teacher_layers=100, student_layers=51), "at most 5,000 cells"),
        (lambda found: found["matrix"]["cells"][0]["outside"].update(above_floor=1e308), "outside.above_floor: input"),
        (lambda found: found["matrix"]["cells"][0]["inside"].update(counted=-1), "inside.counted: input should be"),
        (lambda found: found.update(schema="iit_toolkit/search/1"), 'reads "iit_toolkit/search/2"; search again'),
        (lambda found: found["matrix"].update(measure="effect_r"), 'did you mean "effect_r2"?'),
        (lambda found: found["map"][0].update(teacher_layer=2), "it names a layer that there is not"),
        (lambda found: found["matrix"]["cells"][0]["outside"].update(floor="0"), "matrix.cells.0.outside.floor: input"),
    ],
)
def test_half_a_search_is_refused(searched: Path, change: Callable[[dict[str, Any]], Any], said: str) -> None:
    file = searched / "search" / "search.json"
    found = json.loads(file.read_text())
    change(found)
    file.write_text(json.dumps(found))
    with pytest.raises(UserError) as caught:
        read_stored_search(RunFolder(searched))
    assert said in str(caught.value) and "search.json" in str(caught.value) and "\n" not in str(caught.value)

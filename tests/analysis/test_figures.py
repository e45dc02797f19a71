"""Figures: what they show is what was measured, and a pointer can read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

from iit_toolkit.analysis import case_figures
from iit_toolkit.analysis.examples import Answers
from iit_toolkit.analysis.figures import write_figures
from iit_toolkit.analysis.metrics import Summary, summarise
from iit_toolkit.analysis.plots import STYLE, Drawing, Plot, hover, save
from iit_toolkit.analysis.subsets import Settings
from iit_toolkit.analysis.verdict import judge
from tests.analysis.synthetic import make_outcomes, make_results

SETTINGS = Settings(resamples=100, seed=0, level=0.95)


@pytest.fixture(scope="module")
def outcomes() -> pd.DataFrame:
    return make_outcomes(bases=60)


@pytest.fixture(scope="module")
def summary(outcomes: pd.DataFrame) -> Summary:
    return summarise(outcomes, **SETTINGS)


@pytest.fixture(scope="module")
def written(
    outcomes: pd.DataFrame, summary: Summary, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Plot]]:
    folder = tmp_path_factory.mktemp("figures")
    histories = {arm: one["history"] for arm, one in make_results(outcomes)["arms"].items()}
    answers = Answers({}, dict.fromkeys(range(200), 50.0), "train")
    return folder, write_figures(outcomes, answers, summary, judge(outcomes, "causal", **SETTINGS), histories, folder)


def titles(svg: str) -> Iterator[str]:
    for one in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}title"):
        yield one.text or ""


def test_every_figure_is_written_three_times(written: tuple[Path, list[Plot]]) -> None:
    folder, plots = written
    for plot in plots:
        ElementTree.parse(folder / f"{plot.name}.svg")
        assert (folder / f"{plot.name}.png").read_bytes().startswith(b"\x89PNG")
        assert len(pd.read_csv(folder / f"{plot.name}.csv")) == len(plot.data) > 0
        assert plot.caption and plot.alt
        assert "n = " in (folder / f"{plot.name}.svg").read_text()  # matplotlib keeps texts as comments


def test_the_data_of_a_figure_are_the_summary(written: tuple[Path, list[Plot]], summary: Summary) -> None:
    folder, _ = written
    table = pd.read_csv(folder / "accuracy.csv").set_index(["variable", "student", "measure"])
    for student, found in summary.students.items():
        expected = found.variables["middle"].effective_iia.outside
        row = table.loc[("middle", student, "effective IIA outside")]
        assert (row["value"], row["low"], row["high"]) == pytest.approx((expected.value, expected.low, expected.high))
        assert (row["cases"], row["bases"]) == (expected.cases, expected.clusters)
    assert set(pd.read_csv(folder / "training.csv").columns) >= {"arm", "step", "loss", "loss/kl"}


def test_a_pointer_reads_the_values(written: tuple[Path, list[Plot]], summary: Summary) -> None:
    plots = {plot.name: plot for plot in written[1]}
    found = summary.students["causal"].variables["middle"].effective_iia.outside
    value, low, high = (f"{one:.3f}" for one in (found.value, found.low, found.high))
    expected = f"causal, effective IIA outside: {value} [{low}, {high}], n = {found.cases:,}"
    assert expected in set(titles((written[0] / "accuracy.svg").read_text()))
    assert f"<title>{expected}</title>" in plots["accuracy"].svg
    assert any(one.startswith("60 texts: ") for one in titles((written[0] / "reliability.svg").read_text()))


def test_what_is_shown_to_a_pointer_is_escaped(tmp_path: Path) -> None:
    figure = Figure()
    figure.add_subplot().plot([0], [0], "o", **hover('a <b> & "c"'))
    plot = save(tmp_path, Drawing("one", figure, "", 'with "quotes" <i>', pd.DataFrame({"a": [1]})))
    assert list(titles((tmp_path / "one.svg").read_text())) == ['a <b> & "c"']
    assert '<title>a &lt;b&gt; &amp; "c"</title>' in plot.svg
    assert plot.svg.startswith('<svg role="img" aria-label="with &quot;quotes&quot; &lt;i&gt;"')


def test_students_that_move_as_the_teacher_does_lie_on_the_diagonal(outcomes: pd.DataFrame) -> None:
    same = outcomes.assign(effect_y=outcomes["effect_x"])
    still = outcomes.assign(effect_y=0.0)
    with rc_context(STYLE):
        moving, lying = case_figures.scatter(same).data, case_figures.scatter(still).data
    assert np.allclose(moving["teacher_change"], moving["student_change"])
    assert lying["student_change"].abs().max() < lying["teacher_change"].abs().max() / 20
    outside = (outcomes["student"] == "causal") & ~outcomes["inside"]
    for table in (moving, lying):
        assert table[table["student"] == "causal"]["cases"].sum() == outside.sum()


def test_the_scatter_of_no_effects_is_drawn(outcomes: pd.DataFrame) -> None:
    nothing = outcomes.assign(**{name: 0.0 for name in outcomes.columns if name.startswith("effect_")})
    with rc_context(STYLE):
        assert case_figures.scatter(nothing).data.empty

"""Figures: what they show is what was measured, and a pointer can read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text

from iit_toolkit.analysis.report.examples import Answers
from iit_toolkit.analysis.report.figures import cases as case_figures
from iit_toolkit.analysis.report.figures.controls import controls
from iit_toolkit.analysis.report.figures.of_run import write_figures
from iit_toolkit.analysis.report.figures.style import STYLE, Drawing, Plot, hover, legend, picture_dpi, save
from iit_toolkit.analysis.report.figures.training import training
from iit_toolkit.analysis.statistics.input_words import TOKENS
from iit_toolkit.analysis.statistics.subsets import Settings
from iit_toolkit.analysis.statistics.summary import Summary, summarise
from iit_toolkit.analysis.statistics.verdict import judge
from tests.analysis.synthetic import SHUFFLED, make_outcomes, make_results

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


def test_every_lead_over_a_control_is_a_bar_with_its_interval_grouped_by_variable(tmp_path: Path) -> None:
    outcomes = make_outcomes({"causal": 0.5, "untrained": 0.0}, variables=("early", "late"), bases=60)
    shuffled = make_outcomes(SHUFFLED, variables=("early", "late"), bases=60)
    verdict = judge(outcomes, "causal", controls=shuffled, **SETTINGS)
    [drawing] = controls(verdict, ["early", "late"], TOKENS)
    leads = [one for name in ("early", "late") for one in verdict.variables[name].controls]
    known = [one for one in leads if one.difference.value is not None]
    assert len(known) > 4
    assert list(drawing.data["lead"]) == [one.difference.value for one in known]
    assert [axes.get_title(loc="left") or axes.get_title() for axes in drawing.figure.axes] == [
        f"{name}: {one.label}, n = {one.score.cases}" for name, one in verdict.variables.items()
    ]
    bars = [bar for axes in drawing.figure.axes for bar in axes.patches]
    assert [bar.get_width() for bar in bars] == [one.difference.value for one in known]
    margins = [line for axes in drawing.figure.axes for line in axes.lines if list(line.get_xdata()) == [0.05, 0.05]]
    assert len(margins) == 2
    lines = [list(line.get_xdata()) for axes in drawing.figure.axes for line in axes.lines]
    assert all([one.difference.low, one.difference.high] in lines for one in known)
    assert controls(verdict, [], TOKENS) == []
    plot = save(tmp_path, drawing)
    shown = [title for title in titles(plot.svg) if "shuffled sources" in title]
    assert len(shown) == 2 and all(title.endswith(("PASS", "FAIL", "UNDECIDED")) for title in shown)


def test_captions_name_the_figures_that_there_are_and_older_ones_are_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def drawn(outcomes: pd.DataFrame, *_: Any) -> Iterator[Drawing]:
        for name in ("accuracy", "by_position") if "v2" in set(outcomes["variable"]) else ("accuracy",):
            yield Drawing(name, Figure((1, 1)), "Caption.", "", pd.DataFrame({"a": [1]}))

    monkeypatch.setattr("iit_toolkit.analysis.report.figures.of_run._drawn", drawn)
    monkeypatch.setattr("iit_toolkit.analysis.report.figures.of_run.most_shown", lambda _: 2)
    (tmp_path / "notes-2.svg").write_text("")
    for count, others in ((6, ["accuracy-2", "accuracy-3"]), (3, ["accuracy-2"]), (1, [])):
        outcomes = make_outcomes({"causal": 0.5}, variables=tuple(f"v{number}" for number in range(count)), bases=24)
        summary, verdict = summarise(outcomes, **SETTINGS), judge(outcomes, "causal", **SETTINGS)
        first = write_figures(outcomes, None, summary, verdict, {}, tmp_path)[0]
        assert others[-1:] == [name for name in others[-1:] if f"{name}.svg." in first.caption]
        found = {path.stem for path in tmp_path.glob("*.svg") if path.stem.startswith("accuracy")}
        assert found == {"accuracy", *others}
    assert (tmp_path / "notes-2.svg").is_file()


def test_the_first_of_many_logged_terms_are_drawn() -> None:
    line = {f"loss/{number}": 1.0 for number in range(40)}
    [drawing] = training({"causal": [{"step": 1, **line}]})
    assert len(drawing.figure.axes) == 12 and drawing.caption.endswith("Shown: the first 12 of 40 terms.")


def test_files_are_what_savefig_writes(tmp_path: Path) -> None:
    def figure() -> Figure:
        made = Figure(layout="constrained", figsize=(3, 2))
        made.subplots().plot([1, 2, 4], label="a $1 line")
        made.supxlabel("$x$ is no formula here")
        return made

    with rc_context(STYLE):
        save(tmp_path, Drawing("one", figure(), "", "", pd.DataFrame()))
        twin = figure()
        FigureCanvasAgg(twin)
        for text in twin.findobj(Text):
            text.set_parse_math(False)  # pyright: ignore[reportAttributeAccessIssue]
        twin.draw_without_rendering()
        twin.set_layout_engine("none")
        twin.savefig(tmp_path / "twin.svg", metadata={"Date": None})
        twin.savefig(tmp_path / "twin.png", dpi=picture_dpi(twin))
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "twin.png").read_bytes()
    assert (tmp_path / "one.svg").read_text() == (tmp_path / "twin.svg").read_text()


def test_pictures_of_large_figures_are_bounded() -> None:
    for width, height in ((10, 4), (100, 300), (1000, 1)):
        dpi = picture_dpi(Figure((width, height)))
        assert dpi <= 160 and dpi**2 * width * height <= 2**24 + 1 and dpi * width <= 2**15 + 1
    assert picture_dpi(Figure((10, 4))) == 160


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


@pytest.mark.parametrize(
    "names", [["plain", "longer", "causal", "untrained"], ["floor", "floor and margin (0.05)"], ["a"]]
)
def test_a_legend_is_not_wider_than_its_figure(names: list[str]) -> None:
    with rc_context(STYLE):
        figure = Figure(figsize=(3.6, 2.0), layout="constrained")
        figure.subplots()
        legend(figure, [Line2D([], [], marker="o", label=name) for name in names])
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        box = figure.legends[0].get_window_extent(canvas.get_renderer())
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1

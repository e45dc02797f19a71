"""The figures of a suite: their files, and that their data are what was planted."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import re
import shutil
import statistics
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from iit_toolkit.analysis.studies.comparison import compare_study
from iit_toolkit.analysis.studies.figures import add_legend, arm_look, training_curves, write_figures
from iit_toolkit.analysis.studies.paired import EQUAL_STEPS
from iit_toolkit.analysis.studies.read_suite import read_suite
from tests.analysis.studies.suite_tree import change, write_tree

NAMES = ("iia-perplexity", "task-gains", "training-perplexity")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("suite"))


@pytest.fixture(scope="module")
def figures(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("figures")
    compared = compare_study(
        read_suite(root), ["plain", "plain-compute"], variables=["early", "middle"], measure="effective_iia"
    )
    write_figures(compared, folder)
    return folder


def data(figures: Path, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader((figures / f"{name}.csv").read_text().splitlines()))


def test_every_figure_is_written_as_svg_png_and_csv(figures: Path) -> None:
    assert sorted(p.name for p in figures.iterdir()) == [f"{n}.{kind}" for n in NAMES for kind in ("csv", "png", "svg")]
    for name in NAMES:
        ElementTree.fromstring((figures / f"{name}.svg").read_text())
        assert (figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert "<!-- plain-compute (n = 3) -->" in (figures / "iia-perplexity.svg").read_text()


def test_curves_are_means_over_seeds(figures: Path) -> None:
    rows = {(row["arm"], row["step"]): row for row in data(figures, "training-perplexity")}
    full = rows["full", "60"]
    assert float(full["perplexity"]) == pytest.approx(math.exp(7.0 - 0.6 + 0.1))  # seeds are 0, 0.1 and 0.2 above
    assert float(full["pflop"]) == pytest.approx(60 * 3.5e12 / 1e15) and full["seeds"] == "3"
    assert float(rows["middle", "60"]["perplexity"]) == pytest.approx(math.exp(7.0 - 0.6 + 0.05))
    assert rows["middle", "60"]["seeds"] == "2"
    assert float(rows["plain-compute", "160"]["epoch"]) == pytest.approx(160 / 120)
    text = (figures / "training-perplexity.svg").read_text()
    assert "<!-- full (n = 3) -->" in text and "<!-- middle (n = 2) -->" in text
    assert "pale: seen before; with dropout" in text


def test_losses_and_epochs_that_cannot_be_drawn_are_left_out(root: Path, tmp_path: Path) -> None:
    for arm in ("plain", "full"):
        shutil.copytree(root / arm, tmp_path / arm)
    for path in tmp_path.glob("full/*/results.json"):
        history = [{"step": 20, "epoch": None, "loss/task": 1.0}, {"step": 40, "epoch": 0.5, "loss/task": 1e4}]
        change(path, arms__full__history=history)
    curves = training_curves(compare_study(read_suite(tmp_path), ["plain"]))
    assert curves[curves["arm"] == "full"]["perplexity"].tolist() == [pytest.approx(math.e)]


def test_points_have_the_intervals_of_their_runs(figures: Path) -> None:
    rows = data(figures, "iia-perplexity")
    assert len(rows) == 17 * 2
    [row] = [one for one in rows if (one["arm"], one["seed"], one["variable"]) == ("full", "66", "middle")]
    assert [float(row[f"perplexity{end}"]) for end in ("", "_low", "_high")] == [96.0, 94.0, 99.0]
    found = [float(row[f"effective_iia{end}"]) for end in ("", "_low", "_high")]
    assert found == pytest.approx([0.61, 0.56, 0.63])
    assert "<!-- middle, n = 17 runs -->" in (figures / "iia-perplexity.svg").read_text()


def test_gains_are_the_paired_differences(figures: Path) -> None:
    rows = {(row["arm"], row["measure"]): row for row in data(figures, "task-gains")}
    full = rows["full", "score, cola"]
    assert (full["seeds"], float(full["gain"]), full["low"]) == ("2", 2.0, "")  # both seeds differ by the same
    assert {arm for arm, _ in rows} == {"full", "middle"}  # late was not fine-tuned, plain-compute made more steps
    assert rows["middle", "score, mean of 4 tasks"]["gain"] == "2.5"


def test_gains_have_intervals_where_seeds_differ(root: Path, tmp_path: Path) -> None:
    for arm in ("plain", "full"):
        shutil.copytree(root / arm, tmp_path / "suite" / arm)
    shutil.copytree(root / "plain" / "seed-88" / "finetune", tmp_path / "suite" / "full" / "seed-88" / "finetune")
    write_figures(compare_study(read_suite(tmp_path / "suite"), ["plain"]), tmp_path)
    rows = {row["measure"]: row for row in data(tmp_path, "task-gains")}
    gains = [2.0, 2.0, 0.0]
    half = 4.302653 * statistics.stdev(gains) / math.sqrt(3)
    cola = rows["score, cola"]
    assert [float(cola[name]) for name in ("gain", "low", "high")] == pytest.approx([4 / 3, 4 / 3 - half, 4 / 3 + half])


def test_twenty_arms_have_twenty_looks(root: Path) -> None:
    comparison = compare_study(read_suite(root), ["plain"])
    arms = tuple(f"arm-{number}" for number in range(20))
    many = dataclasses.replace(comparison, arms=arms)
    looks = {tuple((key, value) for key, value in arm_look(many, arm).items() if key != "ls") for arm in arms}
    assert len(looks) == 20  # points have no lines


def test_the_legend_of_many_arms_with_long_names_is_not_cut(root: Path) -> None:
    compared = compare_study(read_suite(root), ["plain", "plain-compute"], variables=["early", "middle"])
    arms = {f"an-arm-of-some-name-{number}": compared.study.records["full"] for number in range(17)}
    many = dataclasses.replace(compared, arms=tuple(arms), study=dataclasses.replace(compared.study, records=arms))
    figure = Figure(figsize=(7.2, 4.1), layout="constrained")
    figure.add_subplot()
    add_legend(figure, many, many.arms)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0


def test_an_interval_that_ends_at_the_value_up_to_rounding_is_drawn(root: Path, tmp_path: Path) -> None:
    for arm in ("plain", "full"):
        shutil.copytree(root / arm, tmp_path / "suite" / arm)
    for path in tmp_path.glob("suite/full/*/results.json"):
        document = json.loads(path.read_text())
        variables = document["summary"]["students"]["full"]["variables"]
        for variable in variables.values():
            variable["effective_iia"]["outside"] |= {"value": 1.0, "low": 0.9, "high": 1 - 2**-53}
        path.write_text(json.dumps(document))
    compared = compare_study(read_suite(tmp_path / "suite"), ["plain"], measure="effective_iia")
    write_figures(compared, tmp_path / "figures")
    assert (tmp_path / "figures" / "iia-perplexity.svg").is_file()


def test_every_panel_of_gains_has_its_scale_where_the_last_line_is_not_full(root: Path, tmp_path: Path) -> None:
    comparison = compare_study(read_suite(root), ["plain", "plain-compute"])
    full = comparison.find("full", EQUAL_STEPS)
    assert full is not None
    five = tuple(dataclasses.replace(full, arm=f"arm-{number}") for number in range(5))
    write_figures(dataclasses.replace(comparison, comparisons=five), tmp_path)
    scales = Counter(re.findall(r"<!-- (−?[\d.]+) -->", (tmp_path / "task-gains.svg").read_text()))
    assert scales and set(scales.values()) == {5}


def test_without_fine_tuning_there_are_no_gains(root: Path, tmp_path: Path) -> None:
    for arm in ("plain", "full"):
        shutil.copytree(root / arm, tmp_path / "suite" / arm, ignore=shutil.ignore_patterns("finetune"))
    compared = compare_study(read_suite(tmp_path / "suite"), ["plain"], measure="effective_iia")
    write_figures(compared, tmp_path / "figures")
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"iia-perplexity", "training-perplexity"}

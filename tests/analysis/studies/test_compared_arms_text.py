"""What is written of a comparison of two arms: Markdown, LaTeX, figure, CSV."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from iit_toolkit.analysis.statistics.outcomes import write_outcomes
from iit_toolkit.analysis.studies.comparison import StudyComparison, compare_arms
from iit_toolkit.analysis.studies.paired import Row, StudyMeasure
from iit_toolkit.analysis.studies.read_runs import read_runs
from iit_toolkit.analysis.studies.seeds_figure import write_figure
from iit_toolkit.analysis.studies.text import spread, to_latex, to_markdown
from tests.analysis.synthetic import make_outcomes, make_results

SHARE, PERPLEXITY = StudyMeasure("share", True, 3), StudyMeasure("perplexity", False, 2)


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> StudyComparison:
    """Three seeds, the second without changed cases outside, of variables whose name every format must escape."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2, 3):
        outcomes = make_outcomes({"causal": 0.6 + 0.02 * seed, "plain": 0.2}, bases=40, seed=seed)
        outcomes["variable"] = "a_b|c<d>&~"
        if seed == 2:
            outcomes["teacher_cf"] = outcomes["teacher_base"]
        home = folder / str(seed)
        home.mkdir()
        write_outcomes(outcomes, home / "outcomes.parquet")
        (home / "results.json").write_text(json.dumps(make_results(outcomes) | {"seed": seed}))
    return compare_arms(read_runs([folder / str(seed) for seed in (1, 2, 3)]), "causal", "plain")


def test_markdown_holds_values_differences_and_outcomes(compared: StudyComparison) -> None:
    text = to_markdown(compared)
    assert "## Differences at equal steps" in text and "causal and plain each made 130 steps" in text
    assert "a_b\\|c&lt;d>&\\~" in text and "BEATS" in text and compared.scope in text
    assert re.search(r"\| causal \| 0\.\d{3} ± 0\.\d{3} \(2\) \|", text)  # of seeds 1 and 3
    assert "n/a: no arm had the same compute; plain had 0.67 times the training FLOPs of causal" in text
    assert not re.search(r"\bnan\b|None", text)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1


def test_spread() -> None:
    row = Row(PERPLEXITY, {"causal": (10.0, None, 12.0), "plain": (None, None, None)})
    assert spread(row, "causal") == "11.00 ± 1.41"
    assert spread(row, "plain") == "n/a"
    assert spread(Row(SHARE, {"causal": (0.5,)}), "causal") == "0.500"


def test_the_latex_tables_are_escaped_and_even(compared: StudyComparison) -> None:
    text = to_latex(compared)
    assert r"a\_b\textbar{}c\textless{}d\textgreater{}\&\textasciitilde{}" in text
    assert "causal against plain, at equal steps" in text
    for table in text.split("\\begin{tabular}")[1:]:
        width = len(table[: table.index("\n")].strip("{}"))
        for line in (line for line in table.splitlines() if line.endswith(r"\\")):
            assert len(re.split(r"(?<!\\)&", line)) == (1 if "multicolumn{5}" in line else width)
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert not any("±" in line for line in text.splitlines() if not line.startswith("%"))


def test_the_figure_joins_the_arms_of_a_seed(compared: StudyComparison, tmp_path: Path) -> None:
    write_figure(compared, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compare.csv", "compare.png", "compare.svg"]
    first = (tmp_path / "compare.svg").read_text()
    ElementTree.fromstring(first)
    for label in ("seed 1", "seed 3", "plain", "top-1 agreement: n = 3 seeds"):
        assert f"<!-- {label} -->" in first
    assert "training PFLOP" not in first
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
    write_figure(compared, tmp_path)
    assert (tmp_path / "compare.svg").read_text() == first


def test_the_csv_holds_every_value(compared: StudyComparison, tmp_path: Path) -> None:
    write_figure(compared, tmp_path)
    lines = list(csv.DictReader((tmp_path / "compare.csv").read_text().splitlines()))
    assert len(lines) == len(compared.rows) * 2 * 3
    effective = [one for one in lines if one["measure"].startswith("effective IIA outside, a_b|c<d>&~")]
    values = compared.rows["effective IIA outside, a_b|c<d>&~"].values
    assert [one["value"] for one in effective] == ["" if v is None else repr(v) for a in values for v in values[a]]

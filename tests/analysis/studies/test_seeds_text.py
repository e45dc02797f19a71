"""What is written of a comparison over seeds: Markdown, LaTeX, figure, CSV."""

from __future__ import annotations

import csv
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from iit_toolkit.analysis.studies.paired import Basis, Measure, Row, pair
from iit_toolkit.analysis.studies.seeds import SeedComparison
from iit_toolkit.analysis.studies.seeds_figure import to_csv, write_figure
from iit_toolkit.analysis.studies.seeds_text import spread, to_latex, to_markdown

ROWS = (
    Row(Measure("IIA, a_b|c<d>&~", True, 3), {"causal": (0.5, 0.6, 0.75), "plain_1": (0.25, 0.375, 0.5)}),
    Row(Measure("perplexity", False, 2), {"causal": (10.0, None, 12.0), "plain_1": (11.0, 12.0, 13.0)}),
    Row(Measure("effective IIA outside", True, 3), {"causal": (None,) * 3, "plain_1": (0.1, 0.2, 0.3)}),
)


@pytest.fixture
def compared() -> SeedComparison:
    steps = Basis("equal steps", "plain_1", "both 5 steps.", tuple(pair(row, "causal", "plain_1") for row in ROWS))
    compute = Basis("equal compute", None, "n/a: 100 % of nothing.", ())
    return SeedComparison(("r_1", "r_2", "r_3"), (1, 2, 3), "causal", ROWS, (steps, compute), 0.95, "A scope.")


def test_markdown_holds_values_differences_and_outcomes(compared: SeedComparison) -> None:
    text = to_markdown(compared)
    assert "| IIA, a_b\\|c&lt;d>&\\~ | 0.617 ± 0.126 | 0.375 ± 0.125 |" in text
    assert "| perplexity | lower | -1.00 [no interval] | 2 | INCONCLUSIVE |" in text
    assert "| IIA, a_b\\|c&lt;d>&\\~ | higher | +0.242 [+0.206, +0.278] | 3 | BEATS |" in text
    assert "## Causal against plain_1, at equal steps" in text
    assert "## Causal against its baseline, at equal compute\n\nn/a: 100 % of nothing." in text
    assert "| 2 | n/a | 12 |" in text and "A scope." in text and "r_1 (1), r_2 (2)" in text
    assert not re.search(r"\bnan\b|None", text)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1


def test_spread() -> None:
    assert spread(ROWS[1], "causal") == "11.00 ± 1.41"
    assert spread(ROWS[2], "causal") == "n/a"
    assert spread(Row(ROWS[0].measure, {"causal": (0.5,)}), "causal") == "0.500"


def test_the_latex_table_is_escaped_and_even(compared: SeedComparison) -> None:
    text = to_latex(compared)
    assert (
        r"IIA, a\_b\textbar{}c\textless{}d\textgreater{}\&\textasciitilde{} & 0.617 $\pm$ 0.126 & 0.375 $\pm$ 0.125"
        in text
    )
    assert r"causal against plain\_1, at equal steps" in text and r"n/a: 100 \% of nothing." in text
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    for line in rows:
        cells = len(re.split(r"(?<!\\)&", line))
        assert cells == (1 if "multicolumn{5}" in line else 5)
    assert text.count(r"\begin{tabular}{lllll}") == text.count(r"\end{tabular}") == 1
    assert "±" not in text


def test_the_figure_joins_the_arms_of_a_seed(compared: SeedComparison, tmp_path: Path) -> None:
    write_figure(compared, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["compare.csv", "compare.png", "compare.svg"]
    first = (tmp_path / "compare.svg").read_text()
    ElementTree.fromstring(first)
    for label in ("seed 1", "seed 3", "plain_1", "perplexity: n = 2 seeds", "effective IIA outside: n = 0 seeds"):
        assert f"<!-- {label} -->" in first
    assert (tmp_path / "compare.png").read_bytes().startswith(b"\x89PNG")
    write_figure(compared, tmp_path)
    assert (tmp_path / "compare.svg").read_text() == first


def test_the_csv_holds_every_value(compared: SeedComparison) -> None:
    lines = list(csv.DictReader(to_csv(compared).splitlines()))
    assert len(lines) == 3 * 2 * 3
    assert lines[0] == {"measure": "IIA, a_b|c<d>&~", "arm": "causal", "seed": "1", "value": "0.5"}
    assert [line["value"] for line in lines if line["measure"] == "perplexity"][:3] == ["10.0", "", "12.0"]

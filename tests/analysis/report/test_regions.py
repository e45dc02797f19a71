"""The map of regions in a report: in every form, with the texts of the user escaped, and with little or no data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import rc_context

from iit_toolkit.analysis.report.examples import Answers, write_answers
from iit_toolkit.analysis.report.figures.regions import where_it_holds
from iit_toolkit.analysis.report.figures.style import STYLE, save
from iit_toolkit.analysis.report.region_words import map_title, map_words
from iit_toolkit.analysis.report.report import write_report
from iit_toolkit.analysis.statistics.candidates import Inputs
from iit_toolkit.analysis.statistics.input_words import TOKENS
from iit_toolkit.analysis.statistics.regions import map_regions
from tests.analysis.synthetic import graded, make_outcomes, make_run

HEADING = '<h2 id="where">Where it holds</h2>'


def planted(**changes: Any) -> pd.DataFrame:
    """Half of the answers are kept, the others are ignored up to some noise."""
    outcomes = make_outcomes({"causal": 0.0, "untrained": 0.0}, **({"bases": 160} | changes))
    changed = outcomes["teacher_cf"] != outcomes["teacher_base"]
    outcomes["teacher_cf"] = np.where(changed, 100 + outcomes["teacher_base"] % 2, outcomes["teacher_base"])
    kept = (outcomes["teacher_cf"] % 2 == 0) & (outcomes["student"] == "causal")
    outcomes = graded(outcomes.assign(student_cf=np.where(kept, outcomes["teacher_cf"], outcomes["teacher_base"])))
    noise = np.abs(np.random.default_rng(0).normal(scale=0.02, size=len(outcomes)))
    return outcomes.assign(effect_error=outcomes["effect_error"] + noise * (outcomes["teacher_effect"] > 0))


@pytest.fixture
def only_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draws no other figure."""

    def drawn(*given: Any) -> list[Any]:
        variables = list(dict.fromkeys(given[0]["variable"]))
        with rc_context(STYLE):
            return [save(given[5], one) for one in where_it_holds(given[6], variables, TOKENS)]

    monkeypatch.setattr("iit_toolkit.analysis.report.report.write_figures", drawn)


def section(folder: Path) -> tuple[str, str]:
    html, markdown = ((folder / name).read_text() for name in ("report.html", "report.md"))
    assert html.count(HEADING) == markdown.count("## Where it holds") == 1
    found = html[html.index(HEADING) : html.index(">Figures</h2>")]
    return found, markdown[markdown.index("## Where it holds") : markdown.index("## Figures")]


@pytest.mark.usefixtures("only_the_map")
def test_what_was_planted_stands_in_every_form_and_is_escaped(tmp_path: Path) -> None:
    make_run(tmp_path, planted())
    texts = {number: f" <b>|{number}" for number in range(200)}
    write_answers(Answers(texts, {}, "train"), tmp_path / "answers.parquet")
    write_report(tmp_path)
    html, markdown = section(tmp_path)
    row = re.search(r"<tr>(?:(?!</tr>).)*&lt;b&gt;\|101(?:(?!</tr>).)*</tr>", html, re.S)
    assert row and '<span class="mark bad">FAILS</span>' in row[0]
    row = re.search(r"<tr>(?:(?!</tr>).)*&lt;b&gt;\|100(?:(?!</tr>).)*</tr>", html, re.S)
    assert row and '<span class="mark good">HOLDS</span>' in row[0] and "[" in row[0]
    assert "<b>|" not in html + markdown and html.count("<svg") == html.count("<figure") == 1
    assert re.search(r'\| "&lt;b>\\\|101" \|.*\| FAILS \|', markdown)
    assert "(figures/where_it_holds.svg)" in markdown
    assert "regions with enough texts" in html and "regions with enough texts" in markdown

    write_report(tmp_path, "json")
    found = json.loads((tmp_path / "report.json").read_text())["regions"]
    assert {one["label"] for one in found["regions"]} >= {"HOLDS", "FAILS"}
    assert found["measure"] == "effect_r2" and found["margin"] == 0.05
    table = pd.read_csv(tmp_path / "figures" / "where_it_holds.csv")
    assert list(table["label"]) == [one["label"] for one in found["regions"]]
    svg = (tmp_path / "figures" / "where_it_holds.svg").read_text()
    assert svg.count("<title>") >= 2 * len(table) and "confirming half: 0." in svg


@pytest.mark.usefixtures("only_the_map")
def test_classification_and_several_variables(tmp_path: Path) -> None:
    write_report(make_run(tmp_path, planted(classification=True, bases=700, variables=("early", "late"))))
    html, markdown = section(tmp_path)
    assert "swapped position<" not in html
    assert html.count('<td class="text">early</td>') == html.count('<td class="text">late</td>') > 0
    assert "| late | teacher's answer |" in markdown


@pytest.mark.usefixtures("only_the_map")
@pytest.mark.parametrize("bases", [4, 30])
def test_few_texts_say_so(tmp_path: Path, bases: int) -> None:
    write_report(make_run(tmp_path, planted(bases=bases)))
    html, markdown = section(tmp_path)
    assert "<table" not in html and "<figure" not in html
    for text in (html, markdown):
        assert "No region has enough texts in both halves." in text and "not listed" in text
    assert not re.search(r"\b(nan|None)\b", html + markdown)


@pytest.mark.usefixtures("only_the_map")
def test_without_texts_there_are_fewer_regions(tmp_path: Path) -> None:
    make_run(tmp_path, planted())
    for name in ("examples", "answers"):
        (tmp_path / f"{name}.parquet").unlink()
    write_report(tmp_path)
    html, _ = section(tmp_path)
    assert "number 100" in html and "before the swapped" not in html and "length of the base" not in html


def test_of_many_variables_the_others_are_named() -> None:
    outcomes = planted(variables=("a", "b", "c"), bases=90)
    found = map_regions(outcomes, "causal", resamples=100)
    assert map_words(found, ["a"], TOKENS)[-1].startswith("The regions of 2 other variables are in figures/")
    assert len(where_it_holds(found, ["a"], TOKENS)[0].figure.axes) == 1
    assert len(where_it_holds(found, ["a", "b", "c"], TOKENS)[0].figure.axes) == 3
    assert where_it_holds(found, ["d"], TOKENS) == []


def test_a_measure_with_a_floor_is_shown_above_it() -> None:
    found = map_regions(planted(), "causal", Inputs(None, {}, {}), measure="effective_iia", resamples=100)
    assert map_title(found) == "Effective IIA above its floor"
    [drawing] = where_it_holds(found, ["middle"], TOKENS)
    assert drawing.caption.startswith("Effective IIA above its floor of causal") and "number 100" in drawing.alt
